// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/pod_namespaces.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

#include "agent/kernel/fd.h"
#include "agent/kernel/netns.h"
#include "agent/kernel/sock_diag.h"

namespace maglane {
namespace {

struct CloseSocket {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Netlink = std::unique_ptr<mnl_socket, CloseSocket>;

Netlink open_netlink() {
  Netlink socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (socket && mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) socket.reset();
  return socket;
}

// An attribute of 32 bits in the answer to a request.
struct Wanted {
  uint16_t message;
  size_t header;
  uint16_t attribute;
  int32_t value = -1;
};

int pick(const nlattr* attribute, void* data) {
  auto* wanted = static_cast<Wanted*>(data);
  if (mnl_attr_get_type(attribute) == wanted->attribute && mnl_attr_get_payload_len(attribute) >= 4)
    wanted->value = static_cast<int32_t>(mnl_attr_get_u32(attribute));
  return MNL_CB_OK;
}

int take(const nlmsghdr* message, void* data) {
  const auto* wanted = static_cast<const Wanted*>(data);
  if (message->nlmsg_type == wanted->message) mnl_attr_parse(message, static_cast<unsigned>(wanted->header), pick, data);
  return MNL_CB_OK;
}

// Returns 0 or an errno.
int ask(mnl_socket* netlink, const nlmsghdr* request, Wanted& wanted) {
  if (mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0) return errno;
  std::vector<char> buffer(65536);
  const ssize_t size = mnl_socket_recvfrom(netlink, buffer.data(), buffer.size());
  if (size < 0) return errno;
  const int done = mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, mnl_socket_get_portid(netlink), take, &wanted);
  return done < 0 ? errno : 0;
}

// Our number of a network namespace; -1: it has none.
int32_t number_of(mnl_socket* netlink, int namespace_fd) {
  alignas(nlmsghdr) char buffer[256];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETNSID;
  request->nlmsg_flags = NLM_F_REQUEST;
  mnl_nlmsg_put_extra_header(request, sizeof(rtgenmsg));
  mnl_attr_put_u32(request, NETNSA_FD, static_cast<uint32_t>(namespace_fd));
  Wanted wanted{RTM_NEWNSID, sizeof(rtgenmsg), NETNSA_NSID};
  return ask(netlink, request, wanted) == 0 ? wanted.value : -1;
}

bool is_number(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

// Paths that may stand for network namespaces, those of runtimes first.
std::vector<std::string> candidates(const NamespacePlaces& places) {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const std::string& directory : places.directories)
    for (std::filesystem::directory_iterator i(directory, ignored), end; i != end; i.increment(ignored))
      paths.push_back(i->path());
  for (std::filesystem::directory_iterator i(places.proc, ignored), end; i != end; i.increment(ignored))
    if (is_number(i->path().filename())) paths.push_back(i->path() / "ns/net");
  return paths;
}

// Nothing of this process but the thread goes there.
void inside(int namespace_fd, const std::function<void()>& act) {
  std::thread([&] {
    if (::setns(namespace_fd, CLONE_NEWNET) == 0) act();
  }).join();
}

}  // namespace

Result<int32_t> peer_namespace(uint32_t ifindex) {
  Netlink netlink = open_netlink();
  if (!netlink) return Error{fmt::format("rtnetlink: {}", std::strerror(errno))};
  alignas(nlmsghdr) char buffer[256];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETLINK;
  request->nlmsg_flags = NLM_F_REQUEST;
  auto* link = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg)));
  link->ifi_index = static_cast<int>(ifindex);
  Wanted wanted{RTM_NEWLINK, sizeof(ifinfomsg), IFLA_LINK_NETNSID};
  if (int error = ask(netlink.get(), request, wanted); error != 0)
    return Error{fmt::format("cannot look at device {}: {}", ifindex, std::strerror(error))};
  return wanted.value;
}

void visit_namespaces(std::set<int32_t> numbers, const std::function<void(int32_t)>& visit,
                      const NamespacePlaces& places) {
  Netlink netlink = open_netlink();
  if (!netlink) return;
  std::set<ino_t> seen;
  for (const std::string& path : candidates(places)) {
    if (numbers.empty()) return;
    struct stat info;
    if (::stat(path.c_str(), &info) != 0 || !seen.insert(info.st_ino).second) continue;
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) {
      seen.erase(info.st_ino);  // another process in it may be less protected
      continue;
    }
    const int32_t number = number_of(netlink.get(), fd.get());
    if (numbers.erase(number) > 0) inside(fd.get(), [&] { visit(number); });
  }
}

PodNamespaces::PodNamespaces(std::shared_ptr<const DataPlane> data_plane) : data_plane_(std::move(data_plane)) {}

std::vector<Complaint> PodNamespaces::update(const std::vector<WantedDevice>& devices) {
  std::vector<Complaint> complaints;
  std::map<uint32_t, Known> before = std::move(known_);
  known_.clear();
  for (const WantedDevice& device : devices) {
    if (device.role != Role::pod) continue;
    auto number = peer_namespace(device.ifindex);
    if (!number) continue;  // gone meanwhile
    auto known = before.find(device.ifindex);
    const bool same = known != before.end() && known->second.nsid == *number;
    known_[device.ifindex] = {*number, same ? known->second.cookie : 0};
  }
  learn();
  for (const WantedDevice& device : devices) {
    auto known = known_.find(device.ifindex);
    if (known == known_.end() || known->second.cookie != 0) continue;
    const char* why = known->second.nsid < 0
                          ? "its other end is in no network namespace of its own"
                          : "the network namespace at its other end cannot be opened: not in /run/netns, not in "
                            "/run/docker/netns, and of no process whose /proc/PID/ns/net the agent may open";
    complaints.push_back({fmt::format("--socket-translation: device {}", device.name),
                          fmt::format("{}; its pod is served per packet", why)});
  }
  for (Complaint& complaint : write_map()) complaints.push_back(std::move(complaint));
  return complaints;
}

void PodNamespaces::learn() {
  std::map<int32_t, uint64_t> cookies;
  std::set<int32_t> numbers;
  for (const auto& [ifindex, known] : known_)
    if (known.cookie == 0 && known.nsid >= 0) numbers.insert(known.nsid);
  if (numbers.empty()) return;
  visit_namespaces(numbers, [&](int32_t number) {
    if (auto cookie = netns_cookie(); cookie) cookies[number] = *cookie;
  });
  for (auto& [ifindex, known] : known_) {
    if (auto found = cookies.find(known.nsid); found != cookies.end() && known.cookie == 0)
      known.cookie = found->second;
  }
}

std::vector<Complaint> PodNamespaces::write_map() {
  const int map = data_plane_->map("pod_namespaces");
  std::set<uint64_t> wanted;
  std::vector<Complaint> complaints;
  for (const auto& [ifindex, known] : known_) {
    if (known.cookie == 0) continue;
    wanted.insert(known.cookie);
    const abi::pod_namespace value{ifindex};
    if (int error = bpf_map_update_elem(map, &known.cookie, &value, BPF_ANY); error != 0)
      complaints.push_back({"--socket-translation", fmt::format("cannot enter a pod in map pod_namespaces: {}",
                                                                std::strerror(-error))});
  }
  std::vector<uint64_t> gone;
  uint64_t key = 0;
  for (int more = bpf_map_get_next_key(map, nullptr, &key); more == 0; more = bpf_map_get_next_key(map, &key, &key))
    if (!wanted.contains(key)) gone.push_back(key);
  for (uint64_t cookie : gone) bpf_map_delete_elem(map, &cookie);
  return complaints;
}

Result<uint32_t> PodNamespaces::end_udp_sockets(const std::map<uint64_t, abi::socket_peer>& sockets) const {
  std::set<int32_t> numbers;
  for (const auto& [ifindex, known] : known_)
    if (known.cookie != 0) numbers.insert(known.nsid);
  Result<uint32_t> ended = 0U;
  visit_namespaces(numbers, [&](int32_t) {
    auto here = maglane::end_udp_sockets(sockets);
    if (!ended) return;
    ended = here ? Result<uint32_t>(*ended + *here) : Result<uint32_t>(here.error());
  });
  return ended;
}

}  // namespace maglane
