// SPDX-License-Identifier: Apache-2.0
#include "agent/node_network.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/base/quote.h"

namespace maglane {
namespace {

// The devices of the default routes, or those of `before` while there are none.
std::vector<Link> default_uplinks(const NetworkModel& network, const NodeNetwork& before,
                                  std::vector<Complaint>& complaints) {
  std::vector<Link> uplinks = network.default_route_devices();
  if (!uplinks.empty()) return uplinks;
  for (const WantedDevice& device : before.devices) {
    const Link* link = device.role == Role::uplink ? network.find(device.ifindex) : nullptr;
    if (link) uplinks.push_back(*link);
  }
  complaints.push_back({"uplinks", "there is no default route: name the devices with --uplink"});
  return uplinks;
}

std::vector<Link> named_uplinks(const NetworkModel& network, const std::vector<std::string>& names,
                                std::vector<Complaint>& complaints) {
  std::vector<Link> uplinks;
  std::vector<Link> links = network.links();
  for (const std::string& name : names) {
    auto link = std::find_if(links.begin(), links.end(), [&](const Link& l) { return l.name == name; });
    if (link == links.end()) {
      complaints.push_back(
          {fmt::format("uplink {}", name), "there is no such device; it is taken when it appears"});
    } else {
      uplinks.push_back(*link);
    }
  }
  return uplinks;
}

bool contains(const std::vector<Link>& links, const Link& link) {
  return std::any_of(links.begin(), links.end(), [&](const Link& l) { return l.ifindex == link.ifindex; });
}

std::optional<IpAddress> primary_address(const NetworkModel& network, const std::vector<Link>& uplinks,
                                         const v1::Node* node, Family family) {
  std::set<IpAddress> local = network.local_addresses();
  if (node) {
    for (const auto& address : node->status().addresses()) {
      if (address.type() != "InternalIP") continue;
      auto parsed = IpAddress::parse(address.address());
      if (parsed && parsed->family() == family && local.contains(*parsed)) return *parsed;
    }
  }
  for (const Link& uplink : uplinks) {
    if (auto address = network.global_address(uplink.ifindex, family)) return address;
  }
  return std::nullopt;
}

std::optional<IpAddress> egress_address(const NetworkModel& network, const Link& uplink,
                                        const std::optional<IpAddress>& primary, Family family) {
  if (primary && network.has_address(uplink.ifindex, *primary)) return primary;
  const auto own = network.global_address(uplink.ifindex, family);
  return own ? own : primary;
}

// spec.podCIDRs, or spec.podCIDR where that is all there is; the first of each family.
std::vector<Cidr> pod_cidrs_of(const v1::Node& node) {
  std::vector<std::string> texts(node.spec().pod_cidrs().begin(), node.spec().pod_cidrs().end());
  if (texts.empty()) texts.push_back(node.spec().pod_cidr());
  std::vector<Cidr> cidrs;
  for (const std::string& text : texts) {
    const auto cidr = Cidr::parse(text);
    const bool first = cidr && std::none_of(cidrs.begin(), cidrs.end(), [&](const Cidr& other) {
      return other.family() == cidr->family();
    });
    if (first) cidrs.push_back(*cidr);
  }
  return cidrs;
}

}  // namespace

std::vector<IpAddress> NodeNetwork::primary_addresses() const {
  std::vector<IpAddress> addresses;
  if (primary_ipv4) addresses.push_back(*primary_ipv4);
  if (primary_ipv6) addresses.push_back(*primary_ipv6);
  return addresses;
}

NodeNetwork view_network(const NetworkModel& network, const Config& config, const v1::Node* node,
                         const NodeNetwork& before) {
  NodeNetwork view;
  std::vector<Link> uplinks = config.uplinks.empty()
                                  ? default_uplinks(network, before, view.complaints)
                                  : named_uplinks(network, config.uplinks, view.complaints);
  for (const Link& link : uplinks) view.devices.push_back({link.ifindex, link.name, Role::uplink});
  for (const Link& link : network.matching(config.pod_devices)) {
    if (link.loopback) continue;
    if (!contains(uplinks, link)) {
      view.devices.push_back({link.ifindex, link.name, Role::pod});
    } else if (!config.uplinks.empty()) {
      view.complaints.push_back(
          {fmt::format("device {}", link.name),
           "is an --uplink and matches a --pod-device pattern: it is taken as an uplink"});
    }
  }
  std::sort(view.devices.begin(), view.devices.end());
  view.primary_ipv4 = primary_address(network, uplinks, node, Family::ipv4);
  view.primary_ipv6 = primary_address(network, uplinks, node, Family::ipv6);
  for (const Link& link : uplinks)
    view.egress_addresses.push_back({link.ifindex,
                                     egress_address(network, link, view.primary_ipv4, Family::ipv4),
                                     egress_address(network, link, view.primary_ipv6, Family::ipv6)});
  std::sort(view.egress_addresses.begin(), view.egress_addresses.end());
  std::set<IpAddress> local = network.local_addresses();
  view.local_addresses.assign(local.begin(), local.end());
  if (node) view.pod_cidrs = pod_cidrs_of(*node);
  if (config.pods_by & abi::PODS_BY_NODE_CIDR && view.pod_cidrs.empty())
    view.complaints.push_back({"--pod-detection", "node-cidr, but the Node object has no podCIDRs: nobody "
                                                  "counts as a pod of the cluster"});
  if (!view.primary_ipv4 && !view.primary_ipv6) {
    view.complaints.push_back({"node address", "no uplink has a global address: node ports are not served"});
  }
  return view;
}

}  // namespace maglane
