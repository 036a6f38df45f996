// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/stats.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "agent/base/ip.h"

namespace maglane::inspect {
namespace {

struct Reason {
  const char* name;
  const char* verdict;
  const char* meaning;
};

namespace verdict {
constexpr const char* PASS = "pass";
constexpr const char* SEND = "send";
constexpr const char* REJECT = "reject";
constexpr const char* DROP = "drop";
}  // namespace verdict

constexpr std::array<Reason, abi::REASON_COUNT> kReasons = {{
#define X(constant, name, result, meaning) {name, verdict::result, meaning},
    MAGLANE_REASONS(X)
#undef X
}};

constexpr std::array<const char*, abi::HOOKS> kHooks = {"xdp", "tc", "tc-egress", "socket"};

uint32_t live_frontends(const MapContents& contents) {
  return static_cast<uint32_t>(
      std::count_if(contents.frontends.begin(), contents.frontends.end(),
                    [](const auto& f) { return f.second.type != abi::FRONTEND_ADDRESS; }));
}

}  // namespace

v1::Stats list_counters(const std::vector<abi::counter>& counters, bool all) {
  v1::Stats stats;
  for (size_t hook = 0; hook < kHooks.size(); ++hook) {
    for (size_t reason = 0; reason < kReasons.size(); ++reason) {
      const size_t index = reason + hook * kReasons.size();
      const abi::counter value = index < counters.size() ? counters[index] : abi::counter{};
      if (!all && value.packets == 0) continue;
      v1::Counter& counter = *stats.add_counters();
      counter.set_hook(kHooks[hook]);
      counter.set_reason(kReasons[reason].name);
      counter.set_verdict(kReasons[reason].verdict);
      counter.set_meaning(kReasons[reason].meaning);
      counter.set_packets(static_cast<double>(value.packets));
      counter.set_bytes(static_cast<double>(value.bytes));
    }
  }
  std::stable_sort(stats.mutable_counters()->begin(), stats.mutable_counters()->end(),
                   [](const v1::Counter& a, const v1::Counter& b) { return a.packets() > b.packets(); });
  return stats;
}

v1::MapUsage to_message(const MapInfo& info) {
  v1::MapUsage usage;
  usage.set_name(info.name);
  usage.set_used(info.used);
  usage.set_capacity(info.capacity);
  usage.set_bytes(static_cast<double>(info.bytes));
  return usage;
}

v1::Status status_of_maps(const MapContents& contents, const std::vector<MapInfo>& usage,
                          const abi::node_state& node) {
  v1::Status status;
  status.set_services(static_cast<uint32_t>(contents.services.size()));
  status.set_frontends(live_frontends(contents));
  status.set_backends(static_cast<uint32_t>(contents.backends.size()));
  const __be32 address4[4] = {node.addr4_be};
  const IpAddress ipv4 = IpAddress::from_be(Family::ipv4, address4);
  const IpAddress ipv6 = IpAddress::from_be(Family::ipv6, node.addr6_be);
  if (!ipv4.is_unspecified()) status.set_node_address_ipv4(ipv4.to_string());
  if (!ipv6.is_unspecified()) status.set_node_address_ipv6(ipv6.to_string());
  for (const MapInfo& info : usage) *status.add_maps() = to_message(info);
  return status;
}

void add_flow_tables(const std::array<FlowTableUse, 2>& tables, const std::vector<MapInfo>& usage,
                     const std::vector<abi::counter>& counters, v1::Status& status) {
  for (size_t i = 0; i < tables.size(); ++i) {
    const FlowTableUse& use = tables[i];
    if (use.buckets == 0) continue;
    v1::FlowTable& table = *status.add_flow_tables();
    table.set_family(std::string(to_string(i == 0 ? Family::ipv4 : Family::ipv6)));
    table.set_flows(use.flows);
    table.set_capacity(use.buckets * abi::TABLE_SLOTS);
    table.set_buckets(use.buckets);
    table.set_full_buckets(use.full);
    const double full = static_cast<double>(use.full) / use.buckets;
    table.set_pressure(full * full);  // the two of a key are independent of each other
    const auto info = std::find_if(usage.begin(), usage.end(), [&](const MapInfo& map) {
      return map.name == (i == 0 ? "flows4" : "flows6");
    });
    if (info != usage.end()) table.set_bytes(static_cast<double>(info->bytes));
  }
  double refused = 0;
  for (size_t hook = 0; hook < kHooks.size(); ++hook) {
    const size_t index = size_t{abi::REASON_FLOW_TABLE_FULL} + hook * kReasons.size();
    if (index < counters.size()) refused += static_cast<double>(counters[index].packets);
  }
  status.set_flows_refused(refused);
}

}  // namespace maglane::inspect
