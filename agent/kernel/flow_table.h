// SPDX-License-Identifier: Apache-2.0
//
// Reading the tables of flows in the memory that packets use, while they use it. Each flow
// is copied whole, by the readers' protocol of bpf/table.h; user space never writes here
// (program "remove_flow" does).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "bpf/abi.h"

namespace maglane {

// `seen`: enum flow_seen of this direction, and above SEEN_TWIN_SHIFT of the other.
struct FlowEntry4 {
  abi::tuple4 key;
  abi::flow4 flow;
  uint8_t seen = 0;
};
struct FlowEntry6 {
  abi::tuple6 key;
  abi::flow6 flow;
  uint8_t seen = 0;
};

template <typename Flow>
struct FlowsOfBucket {
  std::array<Flow, abi::TABLE_SLOTS> flows;
  uint32_t count = 0;
};

// All that are in one bucket. False: one of them was written to at each of many tries, and is
// not among them; ask again. For who must not miss any; the others need not care:
bool read_flows(abi::flow_bucket4& bucket, FlowsOfBucket<FlowEntry4>& flows);
bool read_flows(abi::flow_bucket6& bucket, FlowsOfBucket<FlowEntry6>& flows);

// Stops early, and returns false, when `visit` does. A flow that is made or removed
// meanwhile may be missed.
bool each_flow4(std::span<abi::flow_bucket4> buckets, const std::function<bool(const FlowEntry4&)>& visit);
bool each_flow6(std::span<abi::flow_bucket6> buckets, const std::function<bool(const FlowEntry6&)>& visit);

// How a table is filled.
struct FlowTableUse {
  uint32_t flows = 0;
  uint32_t buckets = 0;
  uint32_t full = 0;  // buckets
};
FlowTableUse use_of_flows4(std::span<abi::flow_bucket4> buckets);
FlowTableUse use_of_flows6(std::span<abi::flow_bucket6> buckets);

uint32_t count_flows4(std::span<abi::flow_bucket4> buckets);
uint32_t count_flows6(std::span<abi::flow_bucket6> buckets);

}  // namespace maglane
