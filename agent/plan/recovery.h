// SPDX-License-Identifier: Apache-2.0
//
// What a new planner can take over from the contents of the maps: who had which id, and
// which tables lie where. Contents may be corrupt in any way; what contradicts itself is
// left out here, and diff(contents, plan) then removes or rewrites it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/plan/allocator.h"
#include "agent/plan/contents.h"
#include "agent/resolve/resolved.h"
#include "bpf/abi.h"

namespace maglane {

// For keys without padding.
struct KeyHash {
  size_t operator()(const abi::frontend_key& key) const {
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof key});
  }
};
struct KeyEqual {
  bool operator()(const abi::frontend_key& a, const abi::frontend_key& b) const {
    return std::memcmp(&a, &b, sizeof a) == 0;
  }
};

// An address, port and protocol as the maps spell it: a frontend's key, or a backend's identity.
abi::frontend_key make_key(const IpAddress& address, uint16_t port, uint8_t protocol);
abi::frontend_key backend_key(const abi::backend& backend);

abi::source_range_key make_source_range(uint32_t service_id, const Cidr& range);
abi::service_endpoint make_service_endpoint(uint32_t service_id, const IpAddress& address, uint16_t port,
                                            Protocol protocol);

struct Recovered {
  std::map<ServicePortKey, uint32_t> service_ids;
  std::unordered_map<abi::frontend_key, uint32_t, KeyHash, KeyEqual> backend_ids;
  std::unordered_set<abi::frontend_key, KeyHash, KeyEqual> frontends;
  std::vector<uint32_t> other_service_ids;  // in use, but for nobody that can be named
  std::vector<uint32_t> other_backend_ids;
  std::unordered_multimap<uint64_t, EntryRange> tables;  // by hash of their entries
  std::vector<EntryRange> other_ranges;                  // that some frontend refers to; disjoint
};

uint64_t hash_entries(std::span<const uint32_t> entries);

// The key that a service's entry names; nothing if a string does not end, the protocol or
// the family is unknown, or there is no name.
Result<ServicePortKey> parse_service_info(const abi::service_info& info);

Recovered recover(const MapContents& contents, const MapLimits& limits);

}  // namespace maglane
