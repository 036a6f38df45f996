// SPDX-License-Identifier: Apache-2.0
//
// Masquerade as the inspector shows it: the model, the addresses, and how full each remote end is.
// Pure.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "agent/kernel/maps.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

// Flows are added one at a time, since there may be a million.
class MasqueradeView {
 public:
  explicit MasqueradeView(const abi::node_state& node) : node_(node) {}

  void add(const FlowEntry4& flow);
  void add(const FlowEntry6& flow);

  // `most`: remote ends to list. `counters`: as list_counters has them.
  v1::MasqueradeInfo finish(const std::set<Cidr>& ranges, const std::vector<EgressAddress>& addresses,
                            const std::vector<PortShortage>& shortages, const std::vector<abi::counter>& counters,
                            const std::function<std::string(uint32_t)>& device_name, size_t most) const;

 private:
  struct Use {
    uint32_t connections = 0, range_ports = 0;
    uint64_t dropped = 0;
  };
  // Protocol, the remote end, the node's address.
  using Remote = std::tuple<uint8_t, IpAddress, uint16_t, IpAddress>;

  bool in_range(uint16_t port) const;
  uint32_t range_ports() const;
  void count(const Remote& remote, uint16_t source_port);

  abi::node_state node_;
  std::map<Remote, Use> remotes_;
};

}  // namespace maglane::inspect
