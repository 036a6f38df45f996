// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/tables.h"

#include <arpa/inet.h>

#include "agent/kernel/flow_table.h"
#include "agent/kernel/table_place.h"

namespace maglane::test {
namespace {

template <typename Key>
Bytes bytes_of(const Key& value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  return {bytes, bytes + sizeof value};
}

// The last word of a tuple: protocol and, in its padding, the rest of meta.
template <typename Tuple>
uint32_t* meta_of(Tuple& tuple) {
  return reinterpret_cast<uint32_t*>(&tuple) + sizeof tuple / sizeof(uint32_t) - 1;
}

uint8_t& tag_of(abi::table_header& header, uint32_t slot) {
  return reinterpret_cast<uint8_t*>(header.tags)[slot];
}

// Of a tuple or of what it is translated to.
template <typename T>
Ends ends_of(const T& tuple) {
  IpAddress source, destination;
  if constexpr (std::is_array_v<decltype(tuple.src_be)>) {
    source = IpAddress::from_be(Family::ipv6, tuple.src_be);
    destination = IpAddress::from_be(Family::ipv6, tuple.dst_be);
  } else {
    source = IpAddress::from_be(Family::ipv4, &tuple.src_be);
    destination = IpAddress::from_be(Family::ipv4, &tuple.dst_be);
  }
  return {{source, ntohs(tuple.src_port_be)}, {destination, ntohs(tuple.dst_port_be)}};
}

template <typename Bucket>
void each_slot_of(std::span<Bucket> buckets, abi::family family, const std::function<void(const FlowSlot&)>& visit) {
  for (uint32_t bucket = 0; bucket < buckets.size(); ++bucket) {
    abi::table_header& header = buckets[bucket].header;
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      auto& entry = buckets[bucket].entries[slot];
      if (!tag_of(header, slot) || entry.flow.body.service_id == kBallastService) continue;
      auto key = entry.tuple;
      std::memset(key.pad, 0, sizeof key.pad);
      const auto [source, destination] = ends_of(key);
      visit({family, bucket, slot, &header, meta_of(entry.tuple), &entry.flow.body, bytes_of(key), source,
             destination});
    }
  }
}

template <typename Flow>
void add_flow(std::map<Bytes, Bytes>& flows, const Flow& flow) {
  if (flow.flow.body.service_id == kBallastService) return;
  Bytes value = bytes_of(flow.flow);
  value.push_back(flow.seen);
  flows[bytes_of(flow.key)] = value;
}

constexpr uint8_t kEstablished = abi::SEEN_SYN | abi::SEEN_ACK;

// From the last slot down: the free ones are those that new flows take first.
template <typename Bucket>
void fill_up_of(std::span<Bucket> buckets, maglane_table table, const abi::table_seed& seed, uint32_t free_slots) {
  uint32_t number = 0;
  uint32_t left = 0;
  for (Bucket& bucket : buckets)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) left += !tag_of(bucket.header, slot);
  for (uint32_t slot = abi::TABLE_SLOTS; slot-- > 0;) {
    for (uint32_t bucket = 0; bucket < buckets.size(); ++bucket) {
      if (tag_of(buckets[bucket].header, slot)) continue;
      if (left-- <= free_slots) return;
      auto& entry = buckets[bucket].entries[slot];
      maglane_table_place place;
      do {
        entry.tuple.src_port_be = static_cast<uint16_t>(number);
        entry.tuple.dst_port_be = static_cast<uint16_t>(number++ >> 16);
        entry.tuple.protocol = kProtoTcp;
        place = maglane_table_place_of(table, &seed, &entry.tuple, static_cast<uint32_t>(buckets.size()));
      } while (place.first != bucket);
      *meta_of(entry.tuple) |= (kEstablished | kEstablished << abi::SEEN_TWIN_SHIFT) << abi::FLOW_META_SEEN_SHIFT;
      entry.flow.body.service_id = kBallastService;
      tag_of(buckets[bucket].header, slot) = place.tag;
    }
  }
}

// Has `program` called until it has walked both tables; `add` gets what each call answers.
template <typename Call>
void walk_all(DataPlane& plane, void (DataPlane::*program)(Call&),
              const std::function<void(const Call&)>& add) {
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    const auto buckets = static_cast<uint32_t>(memory_of<abi::flow_bucket4>(plane, "flows4").size());
    for (uint32_t first = 0; first < buckets;) {
      Call call{};
      call.family = family;
      call.first_bucket = first;
      call.buckets = buckets - first;
      (plane.*program)(call);
      if (call.walked == 0) break;
      first += call.walked;
      add(call);
    }
  }
}

template <typename Bucket>
void lock_all(std::span<Bucket> buckets, bool locked) {
  for (Bucket& bucket : buckets) bucket.header.lock = locked;
}

}  // namespace

FrontendTable frontend_table(Maps& maps, const abi::table_seed& seed) {
  return {memory_of<abi::frontend_bucket>(maps, "frontends"), memory_of<abi::frontend>(maps, "frontend_values"),
          &seed};
}

void each_slot(Maps& maps, const std::function<void(const FlowSlot&)>& visit) {
  each_slot_of(memory_of<abi::flow_bucket4>(maps, "flows4"), abi::FAMILY_IPV4, visit);
  each_slot_of(memory_of<abi::flow_bucket6>(maps, "flows6"), abi::FAMILY_IPV6, visit);
}

std::map<Bytes, Bytes> flows_of(Maps& maps) {
  std::map<Bytes, Bytes> flows;
  each_flow4(memory_of<abi::flow_bucket4>(maps, "flows4"), [&](const FlowEntry4& flow) {
    add_flow(flows, flow);
    return true;
  });
  each_flow6(memory_of<abi::flow_bucket6>(maps, "flows6"), [&](const FlowEntry6& flow) {
    add_flow(flows, flow);
    return true;
  });
  return flows;
}

std::map<Ends, Ends> ends_of_flows(Maps& maps) {
  std::map<Ends, Ends> ends;
  each_flow4(memory_of<abi::flow_bucket4>(maps, "flows4"), [&](const FlowEntry4& flow) {
    if (flow.flow.body.service_id != kBallastService) ends[ends_of(flow.key)] = ends_of(flow.flow);
    return true;
  });
  each_flow6(memory_of<abi::flow_bucket6>(maps, "flows6"), [&](const FlowEntry6& flow) {
    if (flow.flow.body.service_id != kBallastService) ends[ends_of(flow.key)] = ends_of(flow.flow);
    return true;
  });
  return ends;
}

abi::expire_call expire_all(DataPlane& plane) {
  abi::expire_call sum{};
  walk_all<abi::expire_call>(plane, &DataPlane::expire, [&](const abi::expire_call& call) {
    sum.examined += call.examined;
    sum.removed += call.removed;
  });
  return sum;
}

uint32_t forget_all(DataPlane& plane) {
  uint32_t removed = 0;
  walk_all<abi::forget_call>(plane, &DataPlane::forget,
                             [&](const abi::forget_call& call) { removed += call.removed; });
  return removed;
}

void set_slot_of_flows(Maps& maps, uint32_t slot) {
  each_slot(maps, [&](const FlowSlot& flow) {
    flow.body->stamp = (flow.body->stamp & ~uint32_t{abi::STAMP_SLOT_MASK}) | (slot & abi::STAMP_SLOT_MASK);
  });
}

void fill_up(Maps& maps, const abi::node_config& config, uint32_t free_slots) {
  fill_up_of(memory_of<abi::flow_bucket4>(maps, "flows4"), MAGLANE_TABLE_FLOWS4, config.seed, free_slots);
  fill_up_of(memory_of<abi::flow_bucket6>(maps, "flows6"), MAGLANE_TABLE_FLOWS6, config.seed, free_slots);
}

void lock_flows(Maps& maps, bool locked) {
  lock_all(memory_of<abi::flow_bucket4>(maps, "flows4"), locked);
  lock_all(memory_of<abi::flow_bucket6>(maps, "flows6"), locked);
}

}  // namespace maglane::test
