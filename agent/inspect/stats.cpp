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

}  // namespace maglane::inspect
