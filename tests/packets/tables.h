// SPDX-License-Identifier: Apache-2.0
//
// The data plane's tables in the memory of its maps: frontends as the agent writes them, flows
// as packets leave them. Tests change flows here as no user space may: no packet is under way.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>

#include "agent/kernel/frontend_table.h"
#include "bpf/abi.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

template <typename T>
std::span<T> memory_of(Maps& maps, const std::string& map) {
  const auto bytes = maps.memory(map);
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

FrontendTable frontend_table(Maps& maps, const abi::table_seed& seed);

// One used slot of a table of flows, of either family.
struct FlowSlot {
  abi::family family;
  uint32_t bucket;
  uint32_t slot;
  abi::table_header* header;
  uint32_t* meta;
  abi::flow_body* body;
  Bytes key;  // a tuple4 or tuple6
  HostPort source, destination;

  uint8_t seen() const { return static_cast<uint8_t>(*meta >> abi::FLOW_META_SEEN_SHIFT); }
};
void each_slot(Maps& maps, const std::function<void(const FlowSlot&)>& visit);

// By tuple: the flow, with what was seen after its last byte. Read as the inspector does.
std::map<Bytes, Bytes> flows_of(Maps& maps);

// The ends of a flow's packets: source and destination.
using Ends = std::pair<HostPort, HostPort>;
// As they arrive, and what they become.
std::map<Ends, Ends> ends_of_flows(Maps& maps);

// Runs expiry over both tables; examined and removed are sums.
abi::expire_call expire_all(DataPlane& plane);
// Runs program "forget" over both tables. Returns how many flows it removed.
uint32_t forget_all(DataPlane& plane);

// Sets the time of every flow's last packet.
void set_slot_of_flows(Maps& maps, uint32_t slot);

// What a table of 2 buckets has no room left for because of flows that are nobody's: they are
// established, of no service, and never looked at.
void fill_up(Maps& maps, const abi::node_config& config, uint32_t free_slots);
constexpr uint32_t kBallastService = 0xffffffff;

// The lock of each bucket of both families' flows.
void lock_flows(Maps& maps, bool locked);

}  // namespace maglane::test
