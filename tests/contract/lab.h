// SPDX-License-Identifier: Apache-2.0
//
// The hosts of tools/lab (docs/lab.md), for tests that run without it: who has which address,
// and what a node's network looks like.
#pragma once

#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "tests/packets/network.h"

namespace maglane::test {

struct LabHost {
  std::string name;
  std::string node;  // of a pod: its node; of a node: itself; of the client: empty
  IpAddress ipv4, ipv6;
  const IpAddress& of(Family family) const { return family == Family::ipv4 ? ipv4 : ipv6; }
  bool is_pod() const { return name.starts_with("pod-"); }
};

const std::vector<LabHost>& lab_hosts();
const LabHost* lab_host(const std::string& name);
const LabHost* lab_host(const IpAddress& address);  // nullptr: nobody has it

inline constexpr const char* kLabNodes[] = {"node-a", "node-b"};
inline constexpr const char* kLabPodCidrs[] = {"10.244.0.0/16", "fd00:10:244::/48"};
inline constexpr const char* kLabServiceCidrs[] = {"10.96.0.0/16", "fd00:10:96::/112"};

// One node's devices, routes and neighbours.
Network lab_network(const std::string& node);
// On a node's network: the device that frames of this host arrive at.
uint32_t lab_device(const std::string& node, const LabHost& from);

}  // namespace maglane::test
