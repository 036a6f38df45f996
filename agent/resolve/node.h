// SPDX-License-Identifier: Apache-2.0
//
// What resolving depends on besides the services themselves: the node it is done for.
#pragma once

#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/source/model.h"

namespace maglane {

// What the agent knows of its node, from its flags and from the kernel.
struct NodeContext {
  std::string node_name;
  std::string zone;                       // empty: from the Node object's label topology.kubernetes.io/zone
  std::vector<IpAddress> node_addresses;  // the node's primary addresses
  std::vector<IpAddress>
      local_addresses;  // all addresses of its devices; only node_port_addresses selects from them
  std::vector<Cidr> node_port_addresses;  // empty: node ports listen on the primary addresses
};

// The same with the Node object's part filled in: all that resolve_service reads, so a
// service need not be resolved again while this is equal.
struct NodeView {
  std::string name;
  std::string zone;
  std::vector<IpAddress> node_port_addresses;  // where node ports listen: sorted, each once, never loopback
  std::vector<IpAddress> own_addresses;        // all that are this node's: sorted
  std::vector<IpAddress> primary_addresses;    // by which others know it
  std::vector<IpAddress> stack_addresses;      // that its network stack has for its own: sorted
  bool operator==(const NodeView&) const = default;
};

NodeView node_view(const ClusterModel& cluster, const NodeContext& context);

}  // namespace maglane
