// SPDX-License-Identifier: Apache-2.0
//
// The network namespaces of this node's pods: those at the other ends of its pod devices. A
// namespace is known here by the number that ours has given it (IFLA_LINK_NETNSID); to look into
// it takes a file that stands for it, of a container runtime or of a process in it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/base/result.h"
#include "agent/kernel/attach_plan.h"
#include "agent/kernel/loader.h"
#include "bpf/abi.h"

namespace maglane {

class PodNamespaces {
 public:
  explicit PodNamespaces(std::shared_ptr<const DataPlane> data_plane);

  // Brings map "pod_namespaces" in line with the pod devices among `devices`: sockets of these
  // namespaces alone are taken for pods'. Names each device whose namespace cannot be learnt; its
  // pod is served per packet. What is known of a device is not learnt again.
  std::vector<Complaint> update(const std::vector<WantedDevice>& devices);

  // end_udp_sockets (sock_diag.h) in each of them.
  Result<uint32_t> end_udp_sockets(const std::map<uint64_t, abi::socket_peer>& sockets) const;

 private:
  struct Known {
    int32_t nsid;
    uint64_t cookie;  // 0: not learnt
  };

  void learn();
  std::vector<Complaint> write_map();

  std::shared_ptr<const DataPlane> data_plane_;
  std::map<uint32_t, Known> known_;  // by ifindex
};

// Where files that stand for network namespaces are found.
struct NamespacePlaces {
  std::vector<std::string> directories = {"/run/netns", "/run/docker/netns"};
  std::string proc = "/proc";
};

// The number that our network namespace has given to the one at the other end of a device; -1: it
// is in this one, or the device has no other end.
Result<int32_t> peer_namespace(uint32_t ifindex);

// Calls `visit` once inside each network namespace that has one of these numbers and that can be
// opened, in a thread of its own. Stops when it has been in all of them.
void visit_namespaces(std::set<int32_t> numbers, const std::function<void(int32_t number)>& visit,
                      const NamespacePlaces& places = {});

}  // namespace maglane
