// SPDX-License-Identifier: Apache-2.0
//
// Random clusters for random play: services of every type and policy, endpoints in every
// condition, on the network of tests/packets. As numbers that shrink well.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "agent/resolve/resolve.h"
#include "tests/packets/cluster.h"
#include "tests/packets/random_world.h"

namespace maglane::test {

// One service and its endpoints; each number is taken modulo the number of choices.
struct RandomService {
  uint32_t type = 0;
  uint32_t addresses = 0;  // which cluster, external, load-balancer addresses and ports, of a few
  uint32_t policies = 0;   // internal, external; age; source ranges
  uint32_t endpoints = 0;  // three bits a pod: condition, or not there
  uint32_t hints = 0;      // two bits a pod: zones and nodes
};
std::ostream& operator<<(std::ostream& out, const RandomService& service);

constexpr size_t kRandomServices = 4;

// The objects of service number `n` (its name) in the world's family.
void put_service(ClusterModel& model, const World& world, size_t n, const RandomService& choice);
// The node on which the play takes place.
NodeContext random_node();
// What the cluster means for packets, for the model: from what was resolved, not from the maps.
Cluster meaning_of(const ResolvedCluster& resolved, const World& world);

}  // namespace maglane::test
