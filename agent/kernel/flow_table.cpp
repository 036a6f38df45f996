// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/flow_table.h"

#include <array>
#include <atomic>
#include <cstring>

namespace maglane {
namespace {

constexpr int kReadTries = 100;

// The word that ends the key of an entry: ports below, meta above.
template <typename Entry>
constexpr size_t kTailWord = sizeof(decltype(Entry::tuple)) / sizeof(uint64_t) - 1;

uint8_t tag_of(abi::table_header& header, uint32_t slot) {
  return std::atomic_ref(reinterpret_cast<uint8_t*>(header.tags)[slot]).load(std::memory_order_acquire);
}

enum class Copy { whole, free, never_at_rest };

// A whole copy of a live entry.
template <typename Entry>
Copy copy(Entry& live, Entry& out) {
  constexpr size_t kWords = sizeof(Entry) / sizeof(uint64_t);
  auto* words = reinterpret_cast<uint64_t*>(&live);
  std::array<uint64_t, kWords> copied;
  for (int tries = 0; tries < kReadTries; ++tries) {
    const uint64_t before = std::atomic_ref(words[kTailWord<Entry>]).load(std::memory_order_acquire);
    const auto meta = static_cast<uint32_t>(before >> 32);
    if ((meta & FLOW_META_PROTOCOL) == 0) return Copy::free;
    for (size_t i = 0; i < kWords; ++i) copied[i] = std::atomic_ref(words[i]).load(std::memory_order_acquire);
    const uint64_t after = std::atomic_ref(words[kTailWord<Entry>]).load(std::memory_order_acquire);
    const auto version = [](uint64_t word) { return static_cast<uint32_t>(word >> 32) & TABLE_VERSION_MASK; };
    if ((meta & TABLE_VERSION_ODD) != 0 || version(before) != version(after)) continue;
    copied[kTailWord<Entry>] = after;
    std::memcpy(&out, copied.data(), sizeof out);
    return Copy::whole;
  }
  return Copy::never_at_rest;
}

template <typename Flow, typename Entry>
Flow flow_in(const Entry& entry) {
  Flow flow{entry.tuple, entry.flow, entry.tuple.pad[0]};
  std::memset(flow.key.pad, 0, sizeof flow.key.pad);
  return flow;
}

template <typename Flow, typename Bucket>
bool each(std::span<Bucket> buckets, const std::function<bool(const Flow&)>& visit) {
  for (auto& bucket : buckets) {
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      std::remove_reference_t<decltype(bucket.entries[0])> entry;
      if (tag_of(bucket.header, slot) == 0 || copy(bucket.entries[slot], entry) != Copy::whole) continue;
      if (!visit(flow_in<Flow>(entry))) return false;
    }
  }
  return true;
}

template <typename Flow, typename Bucket>
bool read(Bucket& bucket, FlowsOfBucket<Flow>& flows) {
  bool all = true;
  flows.count = 0;
  for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
    if (tag_of(bucket.header, slot) == 0) continue;
    std::remove_reference_t<decltype(bucket.entries[0])> entry;
    const Copy copied = copy(bucket.entries[slot], entry);
    all &= copied != Copy::never_at_rest;
    if (copied == Copy::whole) flows.flows[flows.count++] = flow_in<Flow>(entry);
  }
  return all;
}

template <typename Bucket>
FlowTableUse use_of(std::span<Bucket> buckets) {
  FlowTableUse use;
  use.buckets = static_cast<uint32_t>(buckets.size());
  for (auto& bucket : buckets) {
    uint32_t flows = 0;
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) flows += tag_of(bucket.header, slot) != 0;
    use.flows += flows;
    use.full += flows == abi::TABLE_SLOTS;
  }
  return use;
}

}  // namespace

bool each_flow4(std::span<abi::flow_bucket4> buckets, const std::function<bool(const FlowEntry4&)>& visit) {
  return each<FlowEntry4>(buckets, visit);
}

bool each_flow6(std::span<abi::flow_bucket6> buckets, const std::function<bool(const FlowEntry6&)>& visit) {
  return each<FlowEntry6>(buckets, visit);
}

bool read_flows(abi::flow_bucket4& bucket, FlowsOfBucket<FlowEntry4>& flows) { return read(bucket, flows); }
bool read_flows(abi::flow_bucket6& bucket, FlowsOfBucket<FlowEntry6>& flows) { return read(bucket, flows); }

FlowTableUse use_of_flows4(std::span<abi::flow_bucket4> buckets) { return use_of(buckets); }
FlowTableUse use_of_flows6(std::span<abi::flow_bucket6> buckets) { return use_of(buckets); }

uint32_t count_flows4(std::span<abi::flow_bucket4> buckets) { return use_of(buckets).flows; }
uint32_t count_flows6(std::span<abi::flow_bucket6> buckets) { return use_of(buckets).flows; }

}  // namespace maglane
