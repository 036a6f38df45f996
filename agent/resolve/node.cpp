// SPDX-License-Identifier: Apache-2.0
#include "agent/resolve/node.h"

#include <algorithm>

namespace maglane {
namespace {

constexpr char kZoneLabel[] = "topology.kubernetes.io/zone";

void add_internal_addresses(const v1::Node& node, std::vector<IpAddress>& addresses) {
  for (const auto& address : node.status().addresses()) {
    if (address.type() != "InternalIP") continue;
    if (const auto parsed = IpAddress::parse(address.address())) addresses.push_back(*parsed);
  }
}

}  // namespace

NodeView node_view(const ClusterModel& cluster, const NodeContext& context) {
  NodeView view{context.node_name, context.zone, context.node_addresses};
  auto& addresses = view.node_port_addresses;
  if (const auto found = cluster.nodes.find(context.node_name); found != cluster.nodes.end()) {
    const v1::Node& node = *found->second;
    add_internal_addresses(node, addresses);
    const auto label = node.metadata().labels().find(kZoneLabel);
    if (view.zone.empty() && label != node.metadata().labels().end()) view.zone = label->second;
  }
  view.own_addresses = addresses;
  view.primary_addresses = addresses;
  view.own_addresses.insert(view.own_addresses.end(), context.local_addresses.begin(), context.local_addresses.end());
  std::sort(view.own_addresses.begin(), view.own_addresses.end());
  view.stack_addresses = context.node_addresses;
  view.stack_addresses.insert(view.stack_addresses.end(), context.local_addresses.begin(),
                              context.local_addresses.end());
  std::sort(view.stack_addresses.begin(), view.stack_addresses.end());
  if (!context.node_port_addresses.empty()) {
    addresses.insert(addresses.end(), context.local_addresses.begin(), context.local_addresses.end());
    std::erase_if(addresses, [&](const IpAddress& address) {
      return std::none_of(context.node_port_addresses.begin(), context.node_port_addresses.end(),
                          [&](const Cidr& cidr) { return cidr.contains(address); });
    });
  }
  std::erase_if(addresses, [](const IpAddress& address) {
    return address.is_loopback() || address.is_unspecified() || address.is_multicast();
  });
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return view;
}

}  // namespace maglane
