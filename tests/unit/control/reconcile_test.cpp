// SPDX-License-Identifier: Apache-2.0
//
// The reconciler against the kernel, in a network namespace of its own.
#include "agent/reconcile.h"

#include <arpa/inet.h>
#include <endian.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/support/conformance.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

constexpr const char* kWeb = R"(
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{{port: 80, nodePort: 30080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [{}]}}]
)";

class Reconcile : public Sandbox {
 protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped()) return;
    char pattern[] = "/tmp/maglane-reconcile-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    add_veth("eth0");
    run("ip addr add 10.9.0.1/24 dev eth0 && ip route add default via 10.9.0.254");
    config_.node_name = "node-a";
    config_.manifests = directory_;
    config_.bpffs = root_;
    config_.flow_table_size = 1024;
    config_.maglev_entries = 65536;
    config_.snat_ports = {{2000, 2999}};
    config_.pod_devices = {"pod*"};
    config_.service_cidrs = {*Cidr::parse("10.96.0.0/16")};  // of one family: the verifier is sooner through
    write("web.yaml", fmt::format(kWeb, "10.244.0.5"));
  }
  void TearDown() override {
    reconciler_.reset();
    std::filesystem::remove_all(directory_);
    Sandbox::TearDown();
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name + "~") << text;
    std::filesystem::rename(directory_ + "/" + name + "~", directory_ + "/" + name);
  }
  void start_agent() {
    reconciler_.reset();
    board_ = std::make_unique<StatusBoard>();
    auto started = Reconciler::start(config_, *board_);
    ASSERT_TRUE(started.ok()) << started.error().message;
    reconciler_ = std::move(*started);
    run_until([&] { return reconciler_->synced(); });
  }
  // Runs the event loop until `done`, 10 s at most.
  void run_until(const std::function<bool()>& done) {
    auto deadline = Reconciler::Clock::now() + 10s;
    while (!done() && Reconciler::Clock::now() < deadline) {
      pollfd fds[] = {{reconciler_->source_fd(), POLLIN, 0}, {reconciler_->network_fd(), POLLIN, 0}};
      ::poll(fds, 2, 10);
      if (fds[0].revents) reconciler_->on_source();
      if (fds[1].revents) reconciler_->on_network();
      reconciler_->run_due();
    }
    EXPECT_TRUE(done());
  }
  PinnedMaps maps() {
    auto maps = PinnedMaps::open(root_);
    EXPECT_TRUE(maps.ok()) << maps.error().message;
    return std::move(*maps);
  }
  bool has_backend(const char* address) {
    uint32_t be[4] = {};
    IpAddress::parse(address)->to_be(be);
    auto contents = maps().read_contents();
    for (const auto& [id, backend] : contents->backends) {
      if (backend.addr_be[0] == be[0]) return true;
    }
    return false;
  }
  uint32_t epoch() { return maps().read_node_state()->epoch; }
  std::string problems() {
    std::string text;
    const v1::Status status = board_->read();
    for (const auto& p : status.problems()) text += p.where() + ": " + p.message() + "\n";
    return text;
  }

  std::string directory_;
  Config config_;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<Reconciler> reconciler_;
};

TEST_F(Reconcile, NothingIsAttachedBeforeTheFirstUpdate) {
  test::proves({30});
  board_ = std::make_unique<StatusBoard>();
  auto started = Reconciler::start(config_, *board_);
  ASSERT_TRUE(started.ok()) << started.error().message;
  reconciler_ = std::move(*started);
  const uint32_t eth0 = ::if_nametoindex("eth0");
  EXPECT_TRUE(tc_is_empty(eth0));
  EXPECT_TRUE(maps().read_contents()->frontends.empty());
  EXPECT_FALSE(board_->read().synced());
  run_until([&] { return reconciler_->synced(); });
  EXPECT_FALSE(tc_is_empty(eth0));
  EXPECT_TRUE(board_->read().synced());
  EXPECT_EQ(board_->read().node_address_ipv4(), "10.9.0.1");
  EXPECT_TRUE(has_backend("10.244.0.5"));
}

TEST_F(Reconcile, ARestartChangesNothing) {
  test::proves({30, 31});
  start_agent();
  auto before = maps().read_contents();
  uint32_t link = link_id("eth0:xdp"), epoch_before = epoch();
  start_agent();
  auto after = maps().read_contents();
  EXPECT_EQ(before->frontends.size(), after->frontends.size());
  EXPECT_EQ(before->maglev, after->maglev);
  EXPECT_EQ(link_id("eth0:xdp"), link);
  EXPECT_NE(epoch(), epoch_before) << "routes may have changed meanwhile";
}

TEST_F(Reconcile, FollowsTheManifests) {
  start_agent();
  write("web.yaml", fmt::format(kWeb, "10.244.0.6"));
  run_until([&] { return has_backend("10.244.0.6"); });
  EXPECT_FALSE(has_backend("10.244.0.5"));
}

TEST_F(Reconcile, ABadManifestIsAProblemAndItsLastGoodStateStays) {
  start_agent();
  write("web.yaml", "a: [");
  run_until([&] { return problems().find("web.yaml") != std::string::npos; });
  EXPECT_TRUE(has_backend("10.244.0.5"));
  write("web.yaml", fmt::format(kWeb, "10.244.0.7"));
  run_until([&] { return has_backend("10.244.0.7"); });
  EXPECT_EQ(problems().find("web.yaml"), std::string::npos);
}

TEST_F(Reconcile, ResyncRepairsTheMaps) {
  start_agent();
  auto nothing = reconciler_->resync();
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(*nothing, 0U);
  auto contents = maps().read_contents();
  std::vector<Operation> damage = {DeleteFrontend{contents->frontends.begin()->first}};
  ASSERT_TRUE(maps().apply(damage).ok());
  auto repaired = reconciler_->resync();
  ASSERT_TRUE(repaired.ok());
  EXPECT_EQ(*repaired, 1U);
  EXPECT_EQ(maps().read_contents()->frontends.size(), contents->frontends.size());
}

TEST_F(Reconcile, PodDevicesComeAndGo) {
  start_agent();
  const auto attached = [&] {
    const v1::Status status = board_->read();
    return std::any_of(status.attachments().begin(), status.attachments().end(),
                       [](const v1::Attachment& a) { return a.device() == "pod1"; });
  };
  run("ip link add pod1 type veth peer name peer1");
  run_until(attached);
  EXPECT_FALSE(tc_is_empty(::if_nametoindex("pod1")));
  run("ip link del pod1");
  run_until(std::not_fn(attached));
  EXPECT_EQ(problems().find("attaching"), std::string::npos);
}

TEST_F(Reconcile, TheEpochRisesWithWhatNextHopsDependOn) {
  // An address whose duplicate detection ends meanwhile is a change as well.
  run("while ip -6 addr show tentative | grep -q inet6; do sleep 0.05; done");
  run("ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable");
  start_agent();
  // Duplicate address detection raises it too, a second or two after the devices were made.
  uint32_t before = 0;
  auto settled = Reconciler::Clock::now();
  run_until([&] {
    if (epoch() != before) settled = Reconciler::Clock::now() + 2500ms;
    before = epoch();
    return Reconciler::Clock::now() > settled;
  });
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud stale");
  run_until([settled = Reconciler::Clock::now() + 300ms] { return Reconciler::Clock::now() > settled; });
  EXPECT_EQ(epoch(), before);
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:08 dev eth0 nud reachable");
  run_until([&] { return epoch() != before; });
  before = epoch();
  run("ip route add 10.77.0.0/16 via 10.9.0.7");
  run_until([&] { return epoch() != before; });
}

// The programs are told as long as it is so, again and again.
TEST_F(Reconcile, NextHopsAreSharedUnlessTheSourceDecides) {
  config_.service_cidrs.clear();  // both families
  start_agent();
  const auto shared = [&] { return maps().read_node_state()->shared_hops & ~abi::STAMP_SLOT_MASK; };
  run_until([&] { return shared() == (abi::SHARED_HOPS_IPV4 | abi::SHARED_HOPS_IPV6); });
  const uint32_t first = maps().read_node_state()->shared_hops;
  run_until([&] { return maps().read_node_state()->shared_hops != first; });
  const uint32_t before = epoch();
  run("ip rule add from 10.9.0.0/24 table 77");
  run_until([&] { return shared() == abi::SHARED_HOPS_IPV6; });
  EXPECT_NE(epoch(), before);
  run("ip rule del from 10.9.0.0/24 table 77");
  run_until([&] { return shared() == (abi::SHARED_HOPS_IPV4 | abi::SHARED_HOPS_IPV6); });
}

TEST_F(Reconcile, TheEpochWraps) {
  start_agent();
  abi::node_state state = *maps().read_node_state();
  state.epoch = abi::EPOCH_MAX;
  ASSERT_TRUE(maps().write_node_state(state).ok());
  run("ip route add 10.77.0.0/16 via 10.9.0.7");
  run_until([&] { return epoch() == 1; });
}

TEST_F(Reconcile, NodePortsFollowTheNodesAddress) {
  test::proves({20});
  start_agent();
  size_t before = maps().read_contents()->frontends.size();
  run("ip addr del 10.9.0.1/24 dev eth0");
  run_until([&] { return maps().read_contents()->frontends.size() < before; });
  EXPECT_THAT(problems(), HasSubstr("node ports are not served"));
  run("ip addr add 10.9.0.2/24 dev eth0 && ip route add default via 10.9.0.254");
  run_until([&] { return maps().read_contents()->frontends.size() == before; });
  EXPECT_EQ(board_->read().node_address_ipv4(), "10.9.0.2");
  uint32_t be[4] = {};
  IpAddress::parse("10.9.0.2")->to_be(be);
  EXPECT_EQ(maps().read_node_state()->addr4_be, be[0]);
}

// Whoever removes a pin, or is killed while pinning: the next start makes whole what is left.
TEST_F(Reconcile, MapsOfWhichAPartIsGone) {
  start_agent();
  for (const char* name : {"frontend_values", "backends", "frontends", "maglev", "vip_bits", "services",
                           "service_counters", "flows4", "counters", "node_state"}) {
    reconciler_.reset();
    ASSERT_EQ(::unlink((root_ + "/maps/" + name).c_str()), 0);
    start_agent();
    const auto contents = maps().read_contents();
    ASSERT_TRUE(contents.ok()) << name;
    int cluster_ips = 0;
    for (const auto& [key, frontend] : contents->frontends) {
      if (frontend.type != abi::FRONTEND_CLUSTER_IP) continue;
      ++cluster_ips;
      EXPECT_TRUE(contents->services.contains(frontend.service_id)) << name;
      for (const auto& table : frontend.tables) {
        ASSERT_GT(table.size, 0U) << name;
        for (uint32_t i = 0; i < table.size; ++i) {
          const auto backend = contents->backends.find(contents->maglev.at(table.offset + i));
          ASSERT_NE(backend, contents->backends.end()) << name;
          EXPECT_EQ(be32toh(backend->second.addr_be[0]), 0x0af40005U) << name;
        }
      }
      const uint32_t bit = abi::vip_hash(key.addr_be);
      EXPECT_TRUE(contents->vip_words.at(bit / 64) >> bit % 64 & 1) << name;
    }
    EXPECT_EQ(cluster_ips, 1) << name;
    const auto nothing = reconciler_->resync();
    ASSERT_TRUE(nothing.ok());
    EXPECT_EQ(*nothing, 0U) << name;
  }
}

// ---- what is programmed before all is listed ------------------------------------------

TEST_F(Reconcile, Point30_NothingIsProgrammedBeforeAllWasListedOnce) {
  start_agent();
  const auto before = maps().read_contents();
  const abi::node_state state = *maps().read_node_state();
  ASSERT_FALSE(before->frontends.empty());
  reconciler_.reset();
  board_ = std::make_unique<StatusBoard>();
  auto started = Reconciler::start(config_, *board_);
  ASSERT_TRUE(started.ok()) << started.error().message;
  reconciler_ = std::move(*started);
  // The directory goes before it was read; addresses and routes change meanwhile.
  std::filesystem::rename(directory_, directory_ + ".gone");
  run("ip addr add 10.9.0.9/24 dev eth0 && ip route add 10.78.0.0/16 via 10.9.0.254 && ip addr del 10.9.0.1/24 dev eth0");
  run_until([settled = Reconciler::Clock::now() + 1500ms] { return Reconciler::Clock::now() > settled; });
  EXPECT_FALSE(reconciler_->synced());
  EXPECT_FALSE(reconciler_->resync().ok());
  EXPECT_THAT(problems(), HasSubstr("cannot read directory"));
  const auto during = maps().read_contents();
  EXPECT_EQ(during->frontends.size(), before->frontends.size());
  EXPECT_EQ(during->services.size(), before->services.size());
  EXPECT_EQ(maps().read_node_state()->addr4_be, state.addr4_be);
  std::filesystem::rename(directory_ + ".gone", directory_);
  run_until([&] { return reconciler_->synced(); });
  EXPECT_TRUE(has_backend("10.244.0.5"));
  EXPECT_NE(maps().read_node_state()->addr4_be, state.addr4_be);
}

// A restart with another cluster: what is wanted before and after is there all the time.
TEST_F(Reconcile, Point30_NoFrontendThatIsStillWantedIsEverAbsent) {
  for (int i = 0; i < 40; ++i) {
    write(fmt::format("s{}.yaml", i),
          fmt::format("apiVersion: v1\nkind: Service\nmetadata: {{name: s{0}, namespace: default}}\n"
                      "spec: {{clusterIP: 10.96.1.{0}, ports: [{{port: 80}}]}}\n",
                      i));
  }
  start_agent();
  reconciler_.reset();
  for (int i = 0; i < 20; ++i) std::filesystem::remove(directory_ + fmt::format("/s{}.yaml", i));
  write("web.yaml", fmt::format(kWeb, "10.244.0.6"));
  const auto reader = maps();
  std::atomic<bool> end = false;
  std::atomic<int> looks = 0, absent = 0;
  std::thread watcher([&] {
    while (!end) {
      const auto contents = reader.read_contents();
      size_t kept = 0;
      for (const auto& [key, frontend] : contents->frontends) {
        const auto address = be32toh(key.addr_be[0]);
        if (frontend.type == abi::FRONTEND_CLUSTER_IP && (address & 0xff) >= 20 && address >> 8 == 0x0a6001) ++kept;
        if (frontend.type == abi::FRONTEND_CLUSTER_IP && address == 0x0a60000a) ++kept;
      }
      absent += kept != 21;
      ++looks;
    }
  });
  start_agent();
  run_until([&] { return has_backend("10.244.0.6") && !has_backend("10.244.0.5"); });
  end = true;
  watcher.join();
  EXPECT_GT(looks, 10);
  EXPECT_EQ(absent, 0);
  size_t cluster_ips = 0;
  const auto after = maps().read_contents();
  for (const auto& [key, frontend] : after->frontends)
    cluster_ips += frontend.type == abi::FRONTEND_CLUSTER_IP;
  EXPECT_EQ(cluster_ips, 21U);
}

// ---- health --------------------------------------------------------------------------

constexpr const char* kBalancer = R"(
apiVersion: v1
kind: Service
metadata: {{name: {0}, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: {1}
  externalTrafficPolicy: Local
  healthCheckNodePort: {2}
  ports: [{{port: 80, nodePort: {3}}}]
)";

class Health : public Reconcile {
 protected:
  void SetUp() override {
    Reconcile::SetUp();
    config_.healthz_address = SocketAddress{IpAddress(), 10256};
    config_.metrics_address = *SocketAddress::parse("127.0.0.1:10249");
  }
  std::string get(const std::string& url) {
    return output("curl -s -m 5 -w '\\n%{http_code}' http://127.0.0.1:" + url + " || true");
  }
  bool listens(uint16_t port) {
    return !output(fmt::format("ss -Hltn 'sport = :{}'", port)).empty();
  }
  v1::Health shown() {
    v1::Status status;
    reconciler_->describe_health(status);
    return status.health();
  }
};

TEST_F(Health, Point29_ServersAnswerFromTheStart) {
  start_agent();
  EXPECT_THAT(get("10256/healthz"), HasSubstr("\n200"));
  EXPECT_THAT(get("10256/livez"), HasSubstr("\n200"));
  EXPECT_THAT(get("10256/"), HasSubstr("\n404"));
  const std::string metrics = get("10249/metrics");
  EXPECT_THAT(metrics, HasSubstr("maglane_sync_proxy_rules_duration_seconds_count 1\n"));
  EXPECT_THAT(metrics, HasSubstr("maglane_sync_proxy_rules_service_changes_total 1\n"));
  EXPECT_THAT(metrics, HasSubstr("maglane_packets_total{hook=\"tc\",reason=\"no_endpoint\",verdict=\"reject\"} "));
  EXPECT_THAT(metrics, HasSubstr("maglane_service_connections_total{namespace=\"default\",service=\"web\",port=\"\","
                                 "protocol=\"TCP\",family=\"IPv4\"} 0\n"));
  EXPECT_THAT(metrics, HasSubstr("maglane_map_entries{map=\"services\"} 1\n"));
}

TEST_F(Health, Point28_PortsFollowTheServices) {
  write("a.yaml", fmt::format(kBalancer, "a", "10.96.0.21", 30501, 30081));
  start_agent();
  EXPECT_THAT(get("30501/"), HasSubstr("\"name\":\"a\""));
  EXPECT_THAT(get("30501/"), HasSubstr("\n503"));
  // Two services exchange their ports in one update, which is all that it takes.
  write("b.yaml", fmt::format(kBalancer, "b", "10.96.0.22", 30502, 30082));
  run_until([&] { return listens(30502); });
  write("ab.yaml", fmt::format(kBalancer, "a", "10.96.0.21", 30502, 30081) + "---\n" +
                       fmt::format(kBalancer, "b", "10.96.0.22", 30501, 30082));
  std::filesystem::remove(directory_ + "/a.yaml");
  std::filesystem::remove(directory_ + "/b.yaml");
  const uint32_t updates = board_->read().updates();
  run_until([&] { return board_->read().updates() > updates; });
  EXPECT_THAT(get("30501/"), HasSubstr("\"name\":\"b\""));
  EXPECT_THAT(get("30502/"), HasSubstr("\"name\":\"a\""));
  std::filesystem::remove(directory_ + "/ab.yaml");
  run_until([&] { return board_->read().updates() > updates + 1; });
  EXPECT_FALSE(listens(30501));
  EXPECT_FALSE(listens(30502));
}

TEST_F(Health, Point28_APortThatIsTakenIsAProblemUntilItIsFree) {
  const int taken = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{.sin_family = AF_INET, .sin_port = htons(30501)};
  ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(::listen(taken, 1), 0);
  write("a.yaml", fmt::format(kBalancer, "a", "10.96.0.21", 30501, 30081));
  start_agent();
  EXPECT_THAT(problems(), HasSubstr("Service default/a: spec.healthCheckNodePort: cannot listen on 0.0.0.0:30501: "
                                    "Address already in use; it is tried again"));
  EXPECT_FALSE(shown().ports(0).listening());
  EXPECT_THAT(get("10256/healthz"), HasSubstr("\n200")) << "it is nothing that stands in the way of the others";
  ::close(taken);
  run_until([&] { return problems().find("30501") == std::string::npos; });
  EXPECT_THAT(get("30501/"), HasSubstr("\"name\":\"a\""));
  EXPECT_TRUE(shown().ports(0).listening());
}

TEST_F(Health, Point29_AnAddressThatIsTakenIsAProblemUntilItIsFree) {
  const int taken = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{.sin_family = AF_INET, .sin_port = htons(10256)};
  ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(::listen(taken, 1), 0);
  start_agent();
  EXPECT_THAT(problems(), HasSubstr("--healthz-address: cannot listen on 0.0.0.0:10256: Address already in use"));
  ::close(taken);
  run_until([&] { return problems().find("10256") == std::string::npos; });
  EXPECT_THAT(get("10256/livez"), HasSubstr("\n200"));
}

TEST_F(Health, Point29_UnhealthyWhileTheAgentIsStuckAndWellAgain) {
  config_.healthz_timeout = 1;
  start_agent();
  // Until it was seen well: on a busy machine a question itself may take longer than the time-out.
  const auto see_it_well = [&] {
    bool well = false;
    run_until([&] { return well = well || get("10256/healthz").find("\n200") != std::string::npos; });
  };
  see_it_well();
  // The main loop does not come round.
  std::this_thread::sleep_for(1200ms);
  EXPECT_THAT(get("10256/healthz"), HasSubstr("\n503"));
  EXPECT_THAT(get("10256/livez"), HasSubstr("\n503"));
  see_it_well();
}

TEST_F(Health, Point29_CountersThatCannotBeReadAreLeftOut) {
  start_agent();
  std::filesystem::rename(root_ + "/maps/services", root_ + "/maps/elsewhere");
  EXPECT_THAT(get("10249/metrics"), Not(HasSubstr("maglane_packets_total")));
  std::filesystem::rename(root_ + "/maps/elsewhere", root_ + "/maps/services");
  EXPECT_THAT(get("10249/metrics"), HasSubstr("maglane_packets_total"));
}

TEST_F(Health, Point29_TheNodeIsToBeDeleted) {
  start_agent();
  write("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: node-a}, spec: {taints: [{key: "
                     "ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}}\n");
  run_until([&] { return !shown().proxy().node_eligible(); });
  EXPECT_THAT(get("10256/healthz"), HasSubstr("\n503"));
  EXPECT_THAT(get("10256/livez"), HasSubstr("\n200"));
  write("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: node-a}}\n");
  run_until([&] { return shown().proxy().node_eligible(); });
  EXPECT_THAT(get("10256/healthz"), HasSubstr("\n200"));
}

TEST_F(Health, Point29_OnTheAddressesOfNodePorts) {
  config_.node_port_addresses = {Cidr::parse("10.9.0.0/24").value()};
  write("a.yaml", fmt::format(kBalancer, "a", "10.96.0.21", 30501, 30081));
  start_agent();
  EXPECT_THAT(output("ss -Hltn 'sport = :30501'"), HasSubstr("10.9.0.1:30501"));
  run("ip addr add 10.9.0.2/24 dev eth0");
  run_until([&] { return output("ss -Hltn 'sport = :30501'").find("10.9.0.2:30501") != std::string::npos; });
}

}  // namespace
}  // namespace maglane
