// SPDX-License-Identifier: Apache-2.0
//
// What an agent would have programmed, described in addresses: frontends, their endpoints,
// the node's own addresses, devices. Turned into map contents by the ABI's rules, without the
// agent's code.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

struct FrontendFixture {
  abi::frontend_type type = abi::FRONTEND_CLUSTER_IP;
  HostPort address;
  uint8_t protocol = kProtoTcp;
  std::vector<HostPort> endpoints;      // for sources outside the cluster
  std::vector<HostPort> pod_endpoints;  // for its pods
  abi::empty_verdict when_empty = abi::EMPTY_REJECT;
  abi::empty_verdict when_empty_for_pods = abi::EMPTY_REJECT;
  bool external_local = false;
  uint32_t affinity_seconds = 0;
  // Who may open connections; nothing: everyone.
  std::optional<std::vector<std::string>> source_ranges = std::nullopt;
  // Frontends of the same name are of one service; without a name each is one of its own.
  std::string service = "";
};

abi::node_config default_config();

abi::source_range_key source_range_key(uint32_t service_id, const std::string& range);
abi::masquerade_range_key masquerade_range_key(const std::string& range);

class Cluster {
 public:
  abi::node_config config = default_config();
  // How many flows of each family there is room for; at least two buckets are made, and what is
  // more than wanted is filled up.
  uint32_t flow_capacity = 1024;
  uint32_t epoch = 1;
  std::string node_address4 = Network::kNodeAddress4;
  std::string node_address6 = Network::kNodeAddress6;
  std::vector<std::string> node_pod_cidrs;
  // The agent's word that next hops do not depend on the source (abi::node_state::shared_hops).
  uint32_t shared_hops = 0;
  // Destinations that see a pod's own address, where config.network_model says so.
  std::vector<std::string> not_masqueraded;

  // The same endpoints for everyone.
  Cluster& cluster_ip(const HostPort& address, uint8_t protocol, const std::vector<HostPort>& endpoints);
  Cluster& node_port(const HostPort& address, uint8_t protocol, const std::vector<HostPort>& endpoints);
  Cluster& load_balancer(const HostPort& address, uint8_t protocol, const std::vector<HostPort>& endpoints);
  Cluster& frontend(const FrontendFixture& frontend);
  // Gives endpoints their ids, before any frontend does.
  Cluster& number(const std::vector<HostPort>& endpoints, uint8_t protocol);
  // Tables keep naming the endpoint, but its slot is empty.
  Cluster& forget_backend(const HostPort& endpoint, uint8_t protocol);

  const std::vector<FrontendFixture>& frontends() const { return frontends_; }
  uint32_t backend_id(const HostPort& endpoint, uint8_t protocol) const;

  // By the frontend's place among all.
  uint32_t service_id(size_t frontend) const;

  // The constants, with the sizes of the tables.
  abi::node_config constants() const;

  // Empties the data plane and programs it.
  void load(DataPlane& plane) const;
  // Flow tables as they are then.
  void empty_flows(Maps& plane) const;
  // Programs it over what is there; flows stay.
  void program(Maps& plane) const;

 private:
  abi::table_ref write_table(Maps& plane, const FrontendFixture& frontend,
                             const std::vector<HostPort>& endpoints, abi::empty_verdict when_empty,
                             uint32_t& next_line) const;
  void program_backends(Maps& plane) const;
  void program_frontends(Maps& plane) const;
  void program_node(Maps& plane) const;
  void program_masquerade(Maps& plane) const;

  using BackendKey = std::pair<uint8_t, HostPort>;
  std::vector<FrontendFixture> frontends_;
  std::map<BackendKey, uint32_t> backends_;
  std::set<BackendKey> forgotten_;
};

}  // namespace maglane::test
