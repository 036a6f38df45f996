// SPDX-License-Identifier: Apache-2.0
//
// One node's agent without its kernel: cluster objects in, the operations on the maps out, by
// the product's own source, resolve, plan and diff; and those operations on the maps of a test.
#pragma once

#include <string>
#include <vector>

#include "agent/kernel/data_plane_config.h"
#include "agent/plan/contents.h"
#include "agent/plan/operation.h"
#include "agent/plan/planner.h"
#include "agent/resolve/resolve.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

// What the agents of the lab are started with.
struct AgentOptions {
  bool masquerade_all = false;
  std::vector<Cidr> node_port_addresses;
  MasqueradeModel network_model = MasqueradeModel::none;
  std::vector<Cidr> vnet_cidrs;
  // From an agent's flags, without dashes: "masquerade-all", "node-port-addresses CIDR", "network-model
  // MODEL", "vnet-cidr CIDR".
  static Result<AgentOptions> parse(const std::vector<std::string>& flags);

  // The constants, with tables for a test; time stands still (default_config()).
  abi::node_config config() const;
};

class TestAgent {
 public:
  explicit TestAgent(const NodeContext& node);
  // Of a node of the lab.
  TestAgent(const std::string& node, const AgentOptions& options);

  // Resolves and plans: what must change in the maps.
  std::vector<Operation> update(const ClusterModel& model);
  // To nothing, as for maps that were just made.
  std::vector<Operation> from_scratch() const;

  const ResolvedCluster& cluster() const { return *cluster_; }
  MapContents contents() const { return to_contents(plan_); }
  const std::vector<Complaint>& complaints() const { return complaints_; }

 private:
  NodeContext context_;
  Resolver resolver_;
  const ResolvedCluster* cluster_ = nullptr;
  Planner planner_;
  Plan plan_;
  std::vector<Complaint> complaints_;
};

// REQUIRES: no packet is under way.
void apply(const std::vector<Operation>& operations, DataPlane& plane, const abi::node_config& config);
// Who sees pods' own addresses, as the product has it.
void put_masquerade(Maps& maps, const AgentOptions& options, const ClusterModel& model);
// The node's own state and its devices.
void put_node(Maps& maps, const abi::node_config& config, const IpAddress& ipv4, const IpAddress& ipv6, uint32_t epoch);
void empty_flow_tables(Maps& maps);

}  // namespace maglane::test
