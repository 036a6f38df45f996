// SPDX-License-Identifier: Apache-2.0
//
// The exact contents of the maps that the agent owns: what is read back from the kernel at
// start-up, and what a model in a test accumulates by applying operations.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "bpf/abi.h"

namespace maglane {

struct FrontendKeyLess {
  bool operator()(const abi::frontend_key& a, const abi::frontend_key& b) const {
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

struct BytesLess {
  template <typename T>
  bool operator()(const T& a, const T& b) const {
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

struct MapContents {
  std::map<uint32_t, abi::service_info> services;
  std::map<uint32_t, abi::backend> backends;  // slots in use
  std::map<abi::frontend_key, abi::frontend, FrontendKeyLess> frontends;
  std::vector<uint32_t> maglev;     // all entries up to the last that a frontend refers to
  std::vector<uint64_t> vip_words;  // VIP_WORDS of them, or empty: all zero
  std::set<abi::source_range_key, BytesLess> source_ranges;
  std::set<abi::service_endpoint, BytesLess> udp_endpoints;  // that flows of UDP lead to
};

// How many entries the maps hold; known to plan, so that it refuses what would not fit.
struct MapLimits {
  uint32_t services = 131072;
  uint32_t backends = 262144;
  uint32_t frontends = 524288;
  uint32_t maglev_entries = 16U << 20;
  uint32_t source_ranges = 32768;  // half of the map: a change puts new ones before it deletes old ones
};

}  // namespace maglane
