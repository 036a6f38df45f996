// SPDX-License-Identifier: Apache-2.0
#include "agent/masquerade.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>

namespace maglane {
namespace {

void add(std::set<Cidr>& ranges, const std::string& text) {
  if (const auto cidr = Cidr::parse(text, true)) ranges.insert(*cidr);
}

void add_node(std::set<Cidr>& ranges, const v1::Node& node) {
  for (const auto& address : node.status().addresses())
    if (address.type() == "InternalIP" || address.type() == "ExternalIP") add(ranges, address.address());
  for (const std::string& cidr : node.spec().pod_cidrs()) add(ranges, cidr);
  if (!node.spec().pod_cidr().empty()) add(ranges, node.spec().pod_cidr());
}

// "TCP 203.0.113.10:443 from 192.168.100.1"; an echo has no port there.
std::string describe(const PortShortage& shortage) {
  const std::string source = shortage.source.to_string();
  if (shortage.protocol == IPPROTO_ICMP || shortage.protocol == IPPROTO_ICMPV6)
    return fmt::format("ICMP {} from {}", shortage.remote.to_string(), source);
  return fmt::format("{} {} from {}", to_string(static_cast<Protocol>(shortage.protocol)),
                     shortage.remote.with_port(shortage.port), source);
}

}  // namespace

std::set<Cidr> masquerade_ranges(const Config& config, const ClusterModel* model, const MasqConfig* custom) {
  std::set<Cidr> ranges;
  if (config.network_model == MasqueradeModel::none) return ranges;
  if (config.network_model == MasqueradeModel::custom) {
    if (!custom) return ranges;
    ranges.insert(custom->not_masqueraded.begin(), custom->not_masqueraded.end());
    if (!custom->link_local) add(ranges, "169.254.0.0/16");
    if (!custom->link_local_ipv6) add(ranges, "fe80::/10");
    return ranges;
  }
  ranges.insert(config.pod_cidrs.begin(), config.pod_cidrs.end());
  ranges.insert(config.service_cidrs.begin(), config.service_cidrs.end());
  ranges.insert(config.vnet_cidrs.begin(), config.vnet_cidrs.end());
  add(ranges, "fe80::/10");
  if (model)
    for (const auto& [name, node] : model->nodes) add_node(ranges, *node);
  return ranges;
}

std::optional<std::string> PortShortageLog::look(const std::vector<PortShortage>& shortages, Clock::time_point now) {
  if (!looked_) {
    looked_ = true;
    for (const PortShortage& one : shortages) told_[describe(one)] = one.packets;
  }
  if (last_line_ && now - *last_line_ < kInterval) return std::nullopt;
  const PortShortage* most = nullptr;
  uint64_t most_packets = 0, packets = 0;
  size_t remotes = 0;
  std::map<std::string, uint64_t> present;
  for (const PortShortage& one : shortages) {
    const std::string name = describe(one);
    const auto before = told_.find(name);
    present[name] = one.packets;
    // An entry that was evicted since counts from 0 again.
    const uint64_t known = before == told_.end() || before->second > one.packets ? 0 : before->second;
    if (one.packets == known) continue;
    ++remotes;
    packets += one.packets - known;
    if (one.packets - known <= most_packets) continue;
    most = &one;
    most_packets = one.packets - known;
  }
  told_ = std::move(present);
  if (!most) return std::nullopt;
  last_line_ = now;
  std::string line = fmt::format("no free source port towards {}: {} packets dropped", describe(*most), most_packets);
  if (remotes > 1) line += fmt::format(", and {} towards {} others", packets - most_packets, remotes - 1);
  return line + "; --snat-ports says which ports there are";
}

}  // namespace maglane
