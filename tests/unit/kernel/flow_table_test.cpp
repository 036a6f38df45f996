// SPDX-License-Identifier: Apache-2.0
// Reading flows in plain memory, while others write and when it holds garbage.
#include "agent/kernel/flow_table.h"

#include <endian.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace maglane {
namespace {

constexpr size_t kTail4 = sizeof(abi::tuple4) / 8 - 1;
constexpr size_t kTail6 = sizeof(abi::tuple6) / 8 - 1;

template <typename Entry>
uint64_t* words_of(Entry& entry) {
  return reinterpret_cast<uint64_t*>(&entry);
}

template <typename Bucket>
void set_tag(Bucket& bucket, uint32_t slot, uint8_t tag) {
  reinterpret_cast<uint8_t*>(bucket.header.tags)[slot] = tag;
}

void put4(abi::flow_bucket4& bucket, uint32_t slot, uint32_t n, uint8_t seen = 0) {
  auto& entry = bucket.entries[slot];
  entry.tuple = {n, n, htobe16(1024), htobe16(80), 6, {seen, 2, 0}};
  entry.flow.body.service_id = n;
  set_tag(bucket, slot, 1 + n % 255);
}

std::vector<FlowEntry4> read4(std::span<abi::flow_bucket4> buckets) {
  std::vector<FlowEntry4> flows;
  EXPECT_TRUE(each_flow4(buckets, [&](const FlowEntry4& flow) {
    flows.push_back(flow);
    return true;
  }));
  return flows;
}

TEST(FlowTable, ReadsWhatIsThere) {
  std::vector<abi::flow_bucket4> buckets(3);
  EXPECT_TRUE(read4(buckets).empty());
  put4(buckets[0], 0, 1, abi::SEEN_SYN);
  put4(buckets[1], 30, 2);
  put4(buckets[2], 17, 3, 0xff);
  const auto flows = read4(buckets);
  ASSERT_EQ(flows.size(), 3U);
  EXPECT_EQ(count_flows4(buckets), 3U);
  EXPECT_EQ(flows[0].key.src_be, 1U);
  EXPECT_EQ(flows[0].key.protocol, 6);
  EXPECT_EQ(flows[0].seen, unsigned{abi::SEEN_SYN});
  EXPECT_EQ(flows[2].seen, 0xff);
  EXPECT_EQ(flows[2].flow.body.service_id, 3U);
  for (const auto& flow : flows)
    for (const uint8_t pad : flow.key.pad) EXPECT_EQ(pad, 0) << "state is no part of the key";
}

TEST(FlowTable, BothFamilies) {
  std::vector<abi::flow_bucket6> buckets(2);
  auto& entry = buckets[1].entries[5];
  entry.tuple.src_be[3] = 7;
  entry.tuple.protocol = 17;
  entry.tuple.pad[0] = abi::SEEN_ACK;
  entry.flow.body.backend_id = 9;
  set_tag(buckets[1], 5, 3);
  int visits = 0;
  EXPECT_TRUE(each_flow6(buckets, [&](const FlowEntry6& flow) {
    EXPECT_EQ(flow.key.src_be[3], 7U);
    EXPECT_EQ(flow.flow.body.backend_id, 9U);
    EXPECT_EQ(flow.seen, unsigned{abi::SEEN_ACK});
    ++visits;
    return true;
  }));
  EXPECT_EQ(visits, 1);
  EXPECT_EQ(count_flows6(buckets), 1U);
}

TEST(FlowTable, StopsWhenToldTo) {
  std::vector<abi::flow_bucket4> buckets(2);
  for (uint32_t slot = 0; slot < 10; ++slot) put4(buckets[0], slot, slot + 1);
  int visits = 0;
  EXPECT_FALSE(each_flow4(buckets, [&](const FlowEntry4&) { return ++visits < 4; }));
  EXPECT_EQ(visits, 4);
}

TEST(FlowTable, FreeAndHalfMadeEntriesAreNoFlows) {
  std::vector<abi::flow_bucket4> buckets(1);
  put4(buckets[0], 0, 1);
  set_tag(buckets[0], 0, 0);  // removed: tag first
  put4(buckets[0], 1, 2);
  buckets[0].entries[1].tuple.protocol = 0;  // being filled
  EXPECT_TRUE(read4(buckets).empty());
}

// Whoever changed it is gone for good: it is left out, not waited for.
TEST(FlowTable, EntryThatStaysOddIsLeftOut) {
  std::vector<abi::flow_bucket4> buckets(1);
  put4(buckets[0], 0, 1);
  put4(buckets[0], 1, 2);
  words_of(buckets[0].entries[0])[kTail4] |= uint64_t{TABLE_VERSION_ODD} << 32;
  const auto flows = read4(buckets);
  ASSERT_EQ(flows.size(), 1U);
  EXPECT_EQ(flows[0].key.src_be, 2U);
}

TEST(FlowTable, GarbageDoesNoHarm) {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    std::vector<abi::flow_bucket4> buckets4(3);
    std::vector<abi::flow_bucket6> buckets6(3);
    for (auto& bucket : buckets4)
      for (size_t i = 0; i < sizeof bucket / 4; ++i) reinterpret_cast<uint32_t*>(&bucket)[i] = random();
    for (auto& bucket : buckets6)
      for (size_t i = 0; i < sizeof bucket / 4; ++i) reinterpret_cast<uint32_t*>(&bucket)[i] = random();
    uint32_t flows = 0;
    EXPECT_TRUE(each_flow4(buckets4, [&](const FlowEntry4&) { return ++flows != 0; }));
    EXPECT_TRUE(each_flow6(buckets6, [&](const FlowEntry6&) { return ++flows != 0; }));
    EXPECT_LE(flows, 6U * abi::TABLE_SLOTS);
    EXPECT_LE(count_flows4(buckets4), 3U * abi::TABLE_SLOTS);
  }
}

// Writes one entry as the programs do: in place between two steps of the version, and now and
// then a removal and another flow in the slot.
template <typename Entry, size_t kTail>
void write_until(Entry& entry, std::atomic<bool>& stop) {
  uint64_t* words = words_of(entry);
  const auto meta_add = [&](uint64_t add) { std::atomic_ref(words[kTail]).fetch_add(add << 32); };
  const uint64_t tail = words[kTail];
  uint64_t version = 0;
  for (uint64_t n = 1; !stop; ++n) {
    if (n % 8 != 0) {
      meta_add(TABLE_VERSION_ODD);
      for (size_t i = kTail + 1; i < sizeof(Entry) / 8; ++i) std::atomic_ref(words[i]).store(n);
      meta_add(TABLE_VERSION_ODD);
      version += TABLE_VERSION_STEP;
      continue;
    }
    version = (version + TABLE_VERSION_STEP) & TABLE_VERSION_MASK;
    std::atomic_ref(words[kTail]).store(version << 32);
    for (size_t i = 0; i < sizeof(Entry) / 8; ++i)
      if (i != kTail) std::atomic_ref(words[i]).store(n);
    std::atomic_ref(words[kTail]).store(tail | version << 32);
  }
}

template <typename Bucket, size_t kTail, typename Each>
void expect_whole(Each each) {
  std::vector<Bucket> buckets(1);
  auto& entry = buckets[0].entries[4];
  entry.tuple.protocol = 6;
  set_tag(buckets[0], 4, 1);
  std::atomic<bool> stop{false};
  std::thread writer(
      [&] { write_until<std::remove_reference_t<decltype(entry)>, kTail>(entry, stop); });
  uint64_t flows = 0;
  uint64_t torn = 0;
  const auto begin = std::chrono::steady_clock::now();
  const auto lasted = [&](std::chrono::milliseconds span) { return std::chrono::steady_clock::now() - begin > span; };
  // Longer on a busy machine, where the writer may have the CPU that a reader needs.
  while (!lasted(std::chrono::milliseconds(300)) || (flows <= 100 && !lasted(std::chrono::minutes(1)))) {
    each(buckets, [&](const auto& flow) {
      uint64_t answer[sizeof flow.flow / 8];
      std::memcpy(answer, &flow.flow, sizeof answer);
      for (const uint64_t word : answer) torn += word != answer[0];
      ++flows;
      return true;
    });
  }
  stop = true;
  writer.join();
  EXPECT_GT(flows, 100U);
  EXPECT_EQ(torn, 0U);
}

TEST(FlowTable, CopiesAreWholeWhileTheEntryChanges) {
  expect_whole<abi::flow_bucket4, kTail4>(
      [](auto& buckets, auto visit) { each_flow4(buckets, visit); });
  expect_whole<abi::flow_bucket6, kTail6>(
      [](auto& buckets, auto visit) { each_flow6(buckets, visit); });
}

}  // namespace
}  // namespace maglane
