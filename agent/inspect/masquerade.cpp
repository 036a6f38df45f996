// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/masquerade.h"

#include <algorithm>
#include <utility>

#include "agent/inspect/names.h"

namespace maglane::inspect {
namespace {

const char* model_name(uint32_t model) {
  switch (model) {
    case abi::NETWORK_KUBENET:
      return "kubenet";
    case abi::NETWORK_AZURE_CNI:
      return "azure-cni";
    case abi::NETWORK_CUSTOM:
      return "custom";
    default:
      return "none";
  }
}

// Of what a pod opened.
template <typename Flow>
bool is_masqueraded(const Flow& flow) {
  return (flow.flow.body.flags & (abi::FLOW_MASQUERADE | abi::FLOW_REPLY)) == abi::FLOW_MASQUERADE;
}

}  // namespace

bool MasqueradeView::in_range(uint16_t port) const {
  for (size_t i = 0; i < std::size(node_.snat_port_min); ++i)
    if (port >= node_.snat_port_min[i] && port - node_.snat_port_min[i] < node_.snat_port_count[i]) return true;
  return false;
}

uint32_t MasqueradeView::range_ports() const {
  return uint32_t{node_.snat_port_count[0]} + node_.snat_port_count[1];
}

void MasqueradeView::count(const Remote& remote, uint16_t source_port) {
  Use& use = remotes_[remote];
  ++use.connections;
  if (in_range(source_port)) ++use.range_ports;
}

void MasqueradeView::add(const FlowEntry4& flow) {
  if (!is_masqueraded(flow)) return;
  count({flow.key.protocol, IpAddress::from_be(Family::ipv4, &flow.flow.dst_be), host_port(flow.flow.dst_port_be),
         IpAddress::from_be(Family::ipv4, &flow.flow.src_be)},
        host_port(flow.flow.src_port_be));
}

void MasqueradeView::add(const FlowEntry6& flow) {
  if (!is_masqueraded(flow)) return;
  count({flow.key.protocol, IpAddress::from_be(Family::ipv6, flow.flow.dst_be), host_port(flow.flow.dst_port_be),
         IpAddress::from_be(Family::ipv6, flow.flow.src_be)},
        host_port(flow.flow.src_port_be));
}

v1::MasqueradeInfo MasqueradeView::finish(const std::set<Cidr>& ranges, const std::vector<EgressAddress>& addresses,
                                          const std::vector<PortShortage>& shortages,
                                          const std::vector<abi::counter>& counters,
                                          const std::function<std::string(uint32_t)>& device_name,
                                          size_t most) const {
  v1::MasqueradeInfo info;
  info.set_model(model_name(node_.network_model));
  for (const Cidr& range : ranges) info.add_not_masqueraded(range.to_string());
  for (size_t i = 0; i < std::size(node_.snat_port_min); ++i) {
    if (node_.snat_port_count[i] == 0) continue;
    v1::PortRange& ports = *info.add_ports();
    ports.set_first(node_.snat_port_min[i]);
    ports.set_last(uint32_t{node_.snat_port_min[i]} + node_.snat_port_count[i] - 1);
  }
  info.set_range_ports(range_ports());
  for (const EgressAddress& egress : addresses) {
    v1::EgressAddress& address = *info.add_addresses();
    address.set_device(device_name(egress.ifindex));
    if (egress.ipv4) address.set_ipv4(egress.ipv4->to_string());
    if (egress.ipv6) address.set_ipv6(egress.ipv6->to_string());
  }
  std::map<Remote, Use> remotes = remotes_;
  info.set_remotes_in_use(static_cast<uint32_t>(remotes.size()));
  for (const PortShortage& one : shortages) remotes[{one.protocol, one.remote, one.port, one.source}].dropped = one.packets;
  std::vector<std::pair<Remote, Use>> sorted(remotes.begin(), remotes.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.second.range_ports, a.second.dropped, a.second.connections) >
           std::tuple(b.second.range_ports, b.second.dropped, b.second.connections);
  });
  uint32_t connections = 0;
  for (const auto& [remote, use] : sorted) {
    connections += use.connections;
    if (static_cast<size_t>(info.remotes_size()) >= most) continue;
    v1::MasqueradeRemote& shown = *info.add_remotes();
    const auto& [protocol, address, port, source] = remote;
    shown.set_protocol(protocol_name(protocol));
    shown.set_address(address.to_string());
    shown.set_port(port);
    shown.set_source(source.to_string());
    shown.set_connections(use.connections);
    shown.set_range_ports_used(use.range_ports);
    shown.set_range_used(range_ports() ? double(use.range_ports) / range_ports() : 0);
    shown.set_dropped(static_cast<double>(use.dropped));
  }
  info.set_connections(connections);
  double dropped = 0;
  for (size_t i = abi::REASON_NO_SOURCE_PORT; i < counters.size(); i += abi::REASON_COUNT)
    dropped += static_cast<double>(counters[i].packets);
  info.set_dropped(dropped);
  return info;
}

}  // namespace maglane::inspect
