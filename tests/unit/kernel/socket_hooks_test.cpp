// SPDX-License-Identifier: Apache-2.0
//
// The hooks at sockets with real sockets, in a network namespace of the test's own.
#include "agent/kernel/socket_hooks.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>

#include "agent/base/ip.h"
#include "agent/kernel/cgroup.h"
#include "agent/kernel/grace.h"
#include "agent/kernel/maps.h"
#include "agent/kernel/netns.h"
#include "agent/kernel/sock_diag.h"
#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// An address and port as sockets have them; IPv6 sockets are given IPv4 as ::ffff:a.b.c.d.
struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::string text() const {
    char host[INET6_ADDRSTRLEN] = {};
    if (storage.ss_family == AF_INET) {
      const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
      ::inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
      return std::string(host) + " " + std::to_string(ntohs(in.sin_port));
    }
    const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
    return std::string(host) + " " + std::to_string(ntohs(in.sin6_port));
  }
};

Address address(const std::string& host, uint16_t port) {
  Address result;
  if (host.find(':') == std::string::npos) {
    auto& in = reinterpret_cast<sockaddr_in&>(result.storage);
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    EXPECT_EQ(::inet_pton(AF_INET, host.c_str(), &in.sin_addr), 1);
    result.size = sizeof in;
  } else {
    auto& in = reinterpret_cast<sockaddr_in6&>(result.storage);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    EXPECT_EQ(::inet_pton(AF_INET6, host.c_str(), &in.sin6_addr), 1);
    result.size = sizeof in;
  }
  return result;
}

class Socket {
 public:
  Socket(const std::string& host, int kind)
      : fd_(::socket(host.find(':') == std::string::npos ? AF_INET : AF_INET6, kind | SOCK_CLOEXEC, 0)) {
    const timeval wait{2, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    const int on = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  int get() const { return fd_.get(); }
  int bind(const std::string& host, uint16_t port) {
    Address to = address(host, port);
    if (::bind(get(), to.get(), to.size) != 0) return errno;
    ::listen(get(), 8);
    return 0;
  }
  // 0 or an errno.
  int connect(const std::string& host, uint16_t port) {
    Address to = address(host, port);
    return ::connect(get(), to.get(), to.size) == 0 ? 0 : errno;
  }
  int send(const std::string& text) { return ::send(get(), text.data(), text.size(), 0) < 0 ? errno : 0; }
  int send(const std::string& text, const std::string& host, uint16_t port) {
    Address to = address(host, port);
    return ::sendto(get(), text.data(), text.size(), 0, to.get(), to.size) < 0 ? errno : 0;
  }
  // Who sent the next datagram; "" after a while.
  std::string receive() {
    Address from;
    char buffer[100];
    return ::recvfrom(get(), buffer, sizeof buffer, 0, from.get(), &from.size) < 0 ? "" : from.text();
  }
  std::string peer() {
    Address to;
    return ::getpeername(get(), to.get(), &to.size) == 0 ? to.text() : "";
  }

 private:
  Fd fd_;
};

class SocketHooksTest : public Sandbox {
 protected:
  static constexpr const char* kVip4 = "10.196.0.1";
  static constexpr const char* kVip6 = "fd00:196::1";

  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped()) return;
    run("ip addr add 192.0.2.1/24 dev lo && ip addr add 192.0.2.2/24 dev lo && "
        "ip addr add fd00:2::1/64 dev lo nodad && ip addr add fd00:2::2/64 dev lo nodad && "
        "ip route add default dev lo && ip -6 route add default dev lo");
  }

  // A service on TCP and UDP port 80 with these endpoints, of both families.
  static std::shared_ptr<ResolvedService> make(const std::string& name, const std::string& vip4,
                                               const std::string& vip6,
                                               const std::vector<std::string>& endpoints,
                                               const std::vector<std::string>& leaving = {}) {
    auto service = std::make_shared<ResolvedService>();
    service->key = {"default", name};
    for (Family family : {Family::ipv4, Family::ipv6}) {
      EndpointSet set;
      for (const std::string& host : endpoints) {
        auto parsed = *IpAddress::parse(host);
        if (parsed.family() == family) set.endpoints.push_back({parsed, 8080, true, 1});
      }
      std::vector<std::pair<IpAddress, uint16_t>> serving;
      for (const auto* list : {&endpoints, &leaving})
        for (const std::string& host : *list)
          if (IpAddress::parse(host)->family() == family) serving.emplace_back(*IpAddress::parse(host), 8080);
      std::sort(serving.begin(), serving.end());
      auto shared = std::make_shared<const EndpointSet>(set);
      for (Protocol protocol : {Protocol::tcp, Protocol::udp}) {
        ResolvedFrontend frontend;
        frontend.address = *IpAddress::parse(family == Family::ipv4 ? vip4 : vip6);
        frontend.port = 80;
        frontend.for_outside = frontend.for_pods = shared;
        ResolvedServicePort port;
        port.key = {service->key, protocol == Protocol::tcp ? "tcp" : "udp", protocol, family};
        port.port = 80;
        port.frontends = {frontend};
        if (protocol == Protocol::udp) port.serving = serving;
        service->ports.push_back(port);
      }
    }
    std::sort(service->ports.begin(), service->ports.end(),
              [](const auto& a, const auto& b) { return a.key < b.key; });
    return service;
  }

  // What clients are asked of by service "web", from the next serve() on.
  uint32_t affinity_seconds_ = 0;
  std::vector<Cidr> source_ranges_;

  std::set<abi::service_endpoint, BytesLess> gone_;  // with the last serve()

  // The data plane of one such service, and of another one with endpoints of its own. `leaving`:
  // endpoints that get no new connections, but serve those they have.
  void serve(const std::vector<std::string>& endpoints, const std::vector<std::string>& of_another = {},
             const std::vector<std::string>& leaving = {}) {
    ResolvedCluster cluster;
    auto web = make("web", kVip4, kVip6, endpoints, leaving);
    for (ResolvedServicePort& port : web->ports) {
      port.affinity_seconds = affinity_seconds_;
      for (const Cidr& range : source_ranges_)
        if (range.family() == port.key.family) port.source_ranges.push_back(range);
      for (ResolvedFrontend& frontend : port.frontends) frontend.limited = !source_ranges_.empty();
    }
    cluster[{"default", "web"}] = web;
    cluster[{"default", "other"}] = make("other", "10.196.0.2", "fd00:196::2", of_another);
    auto maps = PinnedMaps::open(root_);
    ASSERT_TRUE(maps.ok()) << maps.error().message;
    auto contents = maps->read_contents(true);
    ASSERT_TRUE(contents.ok());
    MapLimits limits;
    limits.maglev_entries = small_options().maglev_entries;
    Planner planner(limits, *contents);
    auto operations = diff(*contents, planner.update(cluster).plan);
    Status applied = maps->apply(operations);
    ASSERT_TRUE(applied.ok()) << applied.error().message;
    wait_grace_period();
    gone_.clear();
    for (const Operation& operation : operations)
      if (const auto* forget = std::get_if<ForgetEndpoint>(&operation)) gone_.insert(forget->endpoint);
  }

  void attach(SocketTranslation wanted = SocketTranslation::host) {
    options_.socket_translation = wanted;
    start_with(options_);
    hooks_ = std::make_unique<SocketHooks>(*bpffs_, data_plane_, wanted);
    Status attached = hooks_->attach();
    ASSERT_TRUE(attached.ok()) << attached.error().message;
  }

  void start_with(const DataPlaneOptions& options) {
    hooks_.reset();
    data_plane_.reset();
    bpffs_.reset();
    bpffs_ = std::make_unique<Bpffs>(root_);
    ASSERT_TRUE(bpffs_->prepare().ok());
    auto loaded = DataPlane::load(*bpffs_, options);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    data_plane_ = std::make_shared<DataPlane>(std::move(*loaded));
  }

  void TearDown() override {
    hooks_.reset();
    Sandbox::TearDown();
  }

  std::vector<std::string> pins() {
    std::vector<std::string> names;
    for (const std::string& name : Bpffs::list(root_ + "/links"))
      if (name.starts_with("sockets:")) names.push_back(name.substr(8));
    return names;
  }

  uint32_t remembered() {
    auto maps = PinnedMaps::open(root_, true);
    auto usage = maps->usage();
    for (const MapInfo& info : *usage)
      if (info.name == "sockets") return info.used;
    return UINT32_MAX;
  }

  std::map<uint64_t, abi::socket_peer> forget_stale() {
    auto maps = PinnedMaps::open(root_);
    auto stale = maps->forget_sockets(gone_);
    EXPECT_TRUE(stale.ok()) << stale.error().message;
    return stale ? *stale : std::map<uint64_t, abi::socket_peer>{};
  }

  // What a test does not need is switched off: the verifier is sooner through with the programs.
  DataPlaneOptions options_ = [] {
    DataPlaneOptions options = small_options();
    options.service_cidrs = {*Cidr::parse("10.196.0.0/16"), *Cidr::parse("fd00:196::/112")};
    return options;
  }();
  std::unique_ptr<SocketHooks> hooks_;
};

TEST_F(SocketHooksTest, AllHooksAreAttachedAndSwappedInPlace) {
  options_.ipv4 = options_.ipv6 = false;
  attach();
  EXPECT_THAT(pins(), ElementsAre("connect4", "connect6", "getpeername4", "getpeername6", "recvmsg4",
                                  "recvmsg6", "release", "sendmsg4", "sendmsg6"));
  EXPECT_NE(hooks_->where(), "");
  std::map<std::string, std::pair<uint32_t, uint32_t>> before;
  for (const std::string& pin : pins())
    before[pin] = {link_id("sockets:" + pin), link_program("sockets:" + pin)};
  attach();
  for (const std::string& pin : pins()) {
    EXPECT_EQ(link_id("sockets:" + pin), before[pin].first) << pin;
    EXPECT_NE(link_program("sockets:" + pin), before[pin].second) << pin;
  }
}

TEST_F(SocketHooksTest, OffTakesThemAway) {
  options_.ipv4 = options_.ipv6 = false;
  attach();
  attach(SocketTranslation::off);
  EXPECT_THAT(pins(), IsEmpty());
  EXPECT_EQ(hooks_->where(), "");
  for (const std::string& name : Bpffs::list(root_ + "/programs")) EXPECT_FALSE(is_socket_program(name)) << name;
}

TEST_F(SocketHooksTest, CleanupDetachesLinksThatAreHeldOpen) {
  options_.ipv4 = options_.ipv6 = false;
  attach();
  Fd held(bpf_obj_get(bpffs_->link("sockets:connect4").c_str()));
  ASSERT_TRUE(held.ok());
  hooks_.reset();
  data_plane_.reset();
  bpffs_.reset();
  ASSERT_TRUE(remove_everything(root_).ok());
  bpf_link_info info{};
  uint32_t size = sizeof info;
  ASSERT_EQ(bpf_obj_get_info_by_fd(held.get(), &info, &size), 0);
  EXPECT_EQ(info.cgroup.cgroup_id, 0U) << "detached";
}

TEST_F(SocketHooksTest, TcpOfBothFamilies) {
  attach();
  serve({"192.0.2.1", "fd00:2::1"});
  for (auto [vip, endpoint] : {std::pair{kVip4, "192.0.2.1"}, {kVip6, "fd00:2::1"}}) {
    Socket server(endpoint, SOCK_STREAM);
    ASSERT_EQ(server.bind(endpoint, 8080), 0);
    Socket client(vip, SOCK_STREAM);
    ASSERT_EQ(client.connect(vip, 80), 0);
    EXPECT_EQ(client.peer(), std::string(vip) + " 80");
    EXPECT_EQ(remembered(), 1U);
    Fd accepted(::accept(server.get(), nullptr, nullptr));
    EXPECT_TRUE(accepted.ok());
  }
  EXPECT_EQ(remembered(), 0U) << "closed sockets are forgotten";
}

TEST_F(SocketHooksTest, DatagramsOfBothFamiliesAndMappedAddresses) {
  attach();
  serve({"192.0.2.1", "fd00:2::1"});
  struct Case {
    std::string vip, endpoint;
  };
  for (const Case& c : {Case{kVip4, "192.0.2.1"}, {kVip6, "fd00:2::1"}, {"::ffff:10.196.0.1", "192.0.2.1"}}) {
    SCOPED_TRACE(c.vip);
    Socket server(c.endpoint, SOCK_DGRAM);
    ASSERT_EQ(server.bind(c.endpoint, 8080), 0);
    for (bool connected : {true, false}) {
      Socket client(c.vip, SOCK_DGRAM);
      if (connected) {
        ASSERT_EQ(client.connect(c.vip, 80), 0);
        EXPECT_EQ(client.peer(), c.vip + " 80");
        ASSERT_EQ(client.send("hello"), 0);
      } else {
        ASSERT_EQ(client.send("hello", c.vip, 80), 0);
      }
      Address from;
      char buffer[100];
      ASSERT_GT(::recvfrom(server.get(), buffer, sizeof buffer, 0, from.get(), &from.size), 0);
      ASSERT_GT(::sendto(server.get(), "yes", 3, 0, from.get(), from.size), 0);
      EXPECT_EQ(client.receive(), c.vip + " 80");
    }
  }
}

TEST_F(SocketHooksTest, Verdicts) {
  attach();
  serve({});
  for (const char* vip : {kVip4, kVip6}) {
    const std::string unused = std::string(vip) + "5";
    for (int kind : {SOCK_STREAM, SOCK_DGRAM}) {
      EXPECT_EQ(Socket(vip, kind).connect(vip, 80), ECONNREFUSED);
      EXPECT_EQ(Socket(vip, kind).connect(vip, 81), ECONNREFUSED);
      EXPECT_EQ(Socket(vip, kind).connect(unused, 80), EHOSTUNREACH);
    }
    EXPECT_EQ(Socket(vip, SOCK_DGRAM).send("x", vip, 80), ECONNREFUSED);
    EXPECT_EQ(Socket(vip, SOCK_DGRAM).send("x", vip, 81), ECONNREFUSED);
    EXPECT_EQ(Socket(vip, SOCK_DGRAM).send("x", unused, 80), EHOSTUNREACH);
  }
}

// The node is one client, by its primary address.
TEST_F(SocketHooksTest, SessionAffinity) {
  options_.ipv6 = false;
  attach();
  affinity_seconds_ = 1000;
  serve({"192.0.2.1", "192.0.2.2"});
  Socket first("192.0.2.1", SOCK_DGRAM), second("192.0.2.2", SOCK_DGRAM);
  ASSERT_EQ(first.bind("192.0.2.1", 8080), 0);
  ASSERT_EQ(second.bind("192.0.2.2", 8080), 0);
  const timeval at_once{0, 1000};
  for (const Socket* server : {&first, &second})
    ::setsockopt(server->get(), SOL_SOCKET, SO_RCVTIMEO, &at_once, sizeof at_once);
  std::array<int, 2> received{};
  for (int i = 0; i < 30; ++i) {
    Socket client(kVip4, SOCK_DGRAM);
    ASSERT_EQ(i % 2 == 0 ? client.connect(kVip4, 80) : 0, 0);
    ASSERT_EQ(i % 2 == 0 ? client.send("hello") : client.send("hello", kVip4, 80), 0);
    received[0] += first.receive() != "";
    received[1] += second.receive() != "";
  }
  EXPECT_THAT(received, testing::UnorderedElementsAre(0, 30));
  // Its endpoint goes: the other one it is, as after any change of the set.
  serve({received[0] != 0 ? "192.0.2.2" : "192.0.2.1"});
  Socket client(kVip4, SOCK_DGRAM);
  ASSERT_EQ(client.send("hello", kVip4, 80), 0);
  EXPECT_NE((received[0] != 0 ? second : first).receive(), "");
}

TEST_F(SocketHooksTest, SourceRangesLookAtTheNodesAddress) {
  attach();
  auto maps = PinnedMaps::open(root_);
  ASSERT_TRUE(maps.ok());
  abi::node_state state = *maps->read_node_state();
  uint32_t ipv4[4];
  IpAddress::parse("192.0.2.1")->to_be(ipv4);
  state.addr4_be = ipv4[0];
  IpAddress::parse("fd00:2::1")->to_be(state.addr6_be);
  ASSERT_TRUE(maps->write_node_state(state).ok());
  source_ranges_ = {*Cidr::parse("192.0.2.0/24"), *Cidr::parse("fd00:9::/64")};
  serve({"192.0.2.1", "fd00:2::1"});
  EXPECT_EQ(Socket(kVip4, SOCK_DGRAM).connect(kVip4, 80), 0);
  EXPECT_EQ(Socket(kVip6, SOCK_DGRAM).connect(kVip6, 80), EHOSTUNREACH);
  source_ranges_ = {*Cidr::parse("192.0.9.0/24"), *Cidr::parse("fd00:2::/64")};
  serve({"192.0.2.1", "fd00:2::1"});
  EXPECT_EQ(Socket(kVip4, SOCK_DGRAM).connect(kVip4, 80), EHOSTUNREACH);
  EXPECT_EQ(Socket(kVip4, SOCK_DGRAM).send("hello", kVip4, 80), EHOSTUNREACH);
  EXPECT_EQ(Socket(kVip6, SOCK_DGRAM).connect(kVip6, 80), 0);
}

TEST_F(SocketHooksTest, SocketsElsewhereAreLeftAlone) {
  attach();
  serve({"192.0.2.1", "fd00:2::1"});
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    run("ip link set lo up && ip addr add 10.196.0.1/32 dev lo && ip addr add fd00:196::1/128 dev lo nodad");
    for (const char* vip : {kVip4, kVip6}) {
      Socket server(vip, SOCK_STREAM);
      ASSERT_EQ(server.bind(vip, 80), 0);
      Socket client(vip, SOCK_STREAM);
      int connected = client.connect(vip, 80);
      // The route of an address that has just been made may be a moment late.
      for (int i = 0; i < 50 && connected == ENETUNREACH; ++i) {
        ::usleep(100'000);
        connected = client.connect(vip, 80);
      }
      EXPECT_EQ(connected, 0);
      EXPECT_TRUE(Fd(::accept(server.get(), nullptr, nullptr)).ok());
      EXPECT_EQ(Socket(vip, SOCK_STREAM).connect(vip, 81), ECONNREFUSED);
      Socket datagrams(vip, SOCK_DGRAM), sender(vip, SOCK_DGRAM);
      ASSERT_EQ(datagrams.bind(vip, 80), 0);
      ASSERT_EQ(sender.send("hello", vip, 80), 0);
      EXPECT_THAT(datagrams.receive(), HasSubstr(vip));
    }
  }).join();
  EXPECT_EQ(remembered(), 0U);
}

// Each node of a lab on one machine has its agent, and its hooks beside those of the others.
TEST_F(SocketHooksTest, NamespacesHaveCookiesOfTheirOwn) {
  const uint64_t mine = *netns_cookie();
  std::thread([&] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    EXPECT_NE(*netns_cookie(), mine);
  }).join();
  EXPECT_EQ(*netns_cookie(), mine);
}

TEST_F(SocketHooksTest, AnUnconnectedSocketMovesOnWhenItsEndpointGoes) {
  options_.ipv6 = false;
  attach();
  serve({"192.0.2.1"});
  Socket first("192.0.2.1", SOCK_DGRAM), second("192.0.2.2", SOCK_DGRAM), client(kVip4, SOCK_DGRAM);
  ASSERT_EQ(first.bind("192.0.2.1", 8080), 0);
  ASSERT_EQ(second.bind("192.0.2.2", 8080), 0);
  ASSERT_EQ(client.send("hello", kVip4, 80), 0);
  EXPECT_NE(first.receive(), "");
  serve({"192.0.2.1", "192.0.2.2"});
  EXPECT_THAT(forget_stale(), IsEmpty());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(client.send("hello", kVip4, 80), 0);
    EXPECT_NE(first.receive(), "") << "stays where it was";
  }
  serve({"192.0.2.2"}, {}, {"192.0.2.1"});
  EXPECT_THAT(forget_stale(), IsEmpty());
  ASSERT_EQ(client.send("hello", kVip4, 80), 0);
  EXPECT_NE(first.receive(), "") << "it still serves";
  serve({"192.0.2.2"});
  EXPECT_THAT(forget_stale(), IsEmpty());
  ASSERT_EQ(client.send("hello", kVip4, 80), 0);
  EXPECT_NE(second.receive(), "");
  // That it is another service's, too, makes no difference.
  serve({"192.0.2.1"}, {"192.0.2.2"});
  EXPECT_THAT(forget_stale(), IsEmpty());
  ASSERT_EQ(client.send("hello", kVip4, 80), 0);
  EXPECT_NE(first.receive(), "");
}

TEST_F(SocketHooksTest, AConnectedSocketIsToldThatItsEndpointIsGone) {
  attach();
  serve({"192.0.2.1", "fd00:2::1"});
  for (const char* text : {kVip4, kVip6, "::ffff:10.196.0.1"}) {
    const std::string vip = text;
    SCOPED_TRACE(vip);
    Socket client(vip, SOCK_DGRAM), direct("192.0.2.1", SOCK_DGRAM);
    ASSERT_EQ(client.connect(vip, 80), 0);
    ASSERT_EQ(direct.connect("192.0.2.1", 8080), 0);
    serve({"192.0.2.2", "fd00:2::2"});
    auto stale = forget_stale();
    EXPECT_EQ(stale.size(), 1U);
    auto ended = end_udp_sockets(stale);
    ASSERT_TRUE(ended.ok()) << ended.error().message;
    EXPECT_EQ(*ended, 1U);
    int told = 0;
    socklen_t size = sizeof told;
    EXPECT_EQ(::getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &told, &size), 0);
    EXPECT_EQ(told, ECONNABORTED);
    EXPECT_EQ(client.send("hello"), EDESTADDRREQ);
    EXPECT_EQ(direct.peer(), "192.0.2.1 8080") << "nothing to do with the service";
    EXPECT_EQ(client.connect(vip, 80), 0);
    EXPECT_EQ(client.peer(), vip + " 80");
    // One that went elsewhere by itself is left alone.
    EXPECT_EQ(*end_udp_sockets(stale), 0U);
    EXPECT_EQ(client.peer(), vip + " 80");
    serve({"192.0.2.1", "fd00:2::1"});
    forget_stale();
  }
}

TEST_F(SocketHooksTest, TcpIsNeverCut) {
  options_.ipv6 = false;
  attach();
  serve({"192.0.2.1"});
  Socket server("192.0.2.1", SOCK_STREAM), client(kVip4, SOCK_STREAM);
  ASSERT_EQ(server.bind("192.0.2.1", 8080), 0);
  ASSERT_EQ(client.connect(kVip4, 80), 0);
  serve({"192.0.2.2"});
  EXPECT_THAT(forget_stale(), IsEmpty());
  EXPECT_EQ(client.send("hello"), 0);
  EXPECT_EQ(client.peer(), "10.196.0.1 80");
}

TEST_F(SocketHooksTest, TheRootOfCgroup2NeedNotBeMounted) {
  const std::string none = "/dev/null";
  auto root = open_cgroup_root(none);
  ASSERT_TRUE(root.ok()) << root.error().message;
  EXPECT_EQ(root->path, "");
  auto mounted = open_cgroup_root();
  ASSERT_TRUE(mounted.ok());
  EXPECT_EQ(root->id, mounted->id);
  struct stat a, b;
  ASSERT_EQ(::fstat(root->fd.get(), &a), 0);
  ASSERT_EQ(::fstat(mounted->fd.get(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
}

}  // namespace
}  // namespace maglane
