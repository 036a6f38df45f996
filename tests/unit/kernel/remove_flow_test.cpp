// SPDX-License-Identifier: Apache-2.0
// Removing flows: the real program on the real maps, flows written where packets look for them.
#include <bpf/bpf.h>
#include <endian.h>

#include <set>

#include "agent/kernel/carry_over.h"
#include "agent/kernel/expiry.h"
#include "agent/kernel/maps.h"
#include "agent/kernel/table_place.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

class RemoveFlow : public Sandbox {
 protected:
  void start_data_plane() {
    start();
    auto opened = PinnedMaps::open(root_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    maps_ = std::make_unique<PinnedMaps>(std::move(*opened));
    seed_ = maps_->read_node_state()->seed;
  }
  void TearDown() override {
    maps_.reset();
    Sandbox::TearDown();
  }

  template <typename Bucket, typename Tuple>
  void put(const char* map, maglane_table table, const Tuple& key, bool second = false) {
    const uint32_t buckets = small_options().flow_buckets();
    const auto place = maglane_table_place_of(table, &seed_, &key, buckets);
    const uint32_t index = second ? place.second : place.first;
    const int fd = data_plane_->map(map);
    Bucket bucket;
    ASSERT_EQ(bpf_map_lookup_elem(fd, &index, &bucket), 0);
    auto* tags = reinterpret_cast<uint8_t*>(bucket.header.tags);
    uint32_t slot = place.home;
    while (tags[slot] != 0) slot = (slot + 1) % abi::TABLE_SLOTS;
    bucket.entries[slot].tuple = key;
    tags[slot] = place.tag;
    if (second) bucket.header.foreign |= 1U << slot;
    ASSERT_EQ(bpf_map_update_elem(fd, &index, &bucket, BPF_ANY), 0);
    if (!second) return;
    Bucket first;
    ASSERT_EQ(bpf_map_lookup_elem(fd, &place.first, &first), 0);
    ++first.header.overflow;
    ASSERT_EQ(bpf_map_update_elem(fd, &place.first, &first, BPF_ANY), 0);
  }
  static abi::tuple4 key4(uint32_t n) {
    return {htobe32(n), htobe32(0x0a600001), htobe16(1024), htobe16(80), 6, {}};
  }
  static abi::tuple6 key6(uint32_t n) {
    abi::tuple6 key{};
    key.src_be[3] = htobe32(n);
    key.dst_port_be = htobe16(53);
    key.protocol = 17;
    return key;
  }
  void put4(uint32_t n, bool second = false) {
    put<abi::flow_bucket4>("flows4", MAGLANE_TABLE_FLOWS4, key4(n), second);
  }
  void put6(uint32_t n) { put<abi::flow_bucket6>("flows6", MAGLANE_TABLE_FLOWS6, key6(n)); }

  std::set<uint32_t> flows4() {
    std::set<uint32_t> found;
    EXPECT_TRUE(maps_->each_flow(
        [&](const FlowEntry4& flow) { return found.insert(be32toh(flow.key.src_be)).second; },
        [](const FlowEntry6&) { return true; }));
    return found;
  }
  std::set<uint32_t> flows6() {
    std::set<uint32_t> found;
    EXPECT_TRUE(maps_->each_flow(
        [](const FlowEntry4&) { return true; },
        [&](const FlowEntry6& flow) { return found.insert(be32toh(flow.key.src_be[3])).second; }));
    return found;
  }
  void remove(const Result<bool>& removed, bool expected = true) {
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_EQ(*removed, expected);
  }
  // Of the bucket that the flow is in.
  void set_lock4(uint32_t n, uint32_t locked) {
    const auto key = key4(n);
    const auto place =
        maglane_table_place_of(MAGLANE_TABLE_FLOWS4, &seed_, &key, small_options().flow_buckets());
    abi::flow_bucket4 bucket;
    ASSERT_EQ(bpf_map_lookup_elem(data_plane_->map("flows4"), &place.first, &bucket), 0);
    bucket.header.lock = locked;
    ASSERT_EQ(bpf_map_update_elem(data_plane_->map("flows4"), &place.first, &bucket, BPF_ANY), 0);
  }
  // Of every flow of the table, and that its last packet was so many slots of the clock ago.
  template <typename Bucket>
  void set_seen(const char* table, uint8_t seen, uint32_t idle_slots) {
    const uint32_t slot = (maps_->read_clock()->slot - idle_slots) & abi::STAMP_SLOT_MASK;
    const int fd = data_plane_->map(table);
    Bucket bucket;
    for (uint32_t index = 0; index < small_options().flow_buckets(); ++index) {
      ASSERT_EQ(bpf_map_lookup_elem(fd, &index, &bucket), 0);
      for (auto& entry : bucket.entries) {
        if (entry.tuple.protocol == 0) continue;
        entry.tuple.pad[0] = seen;
        entry.flow.body.stamp = slot;
      }
      ASSERT_EQ(bpf_map_update_elem(fd, &index, &bucket, BPF_ANY), 0);
    }
  }
  void set_seen4(uint8_t seen, uint32_t idle_slots = 0) {
    set_seen<abi::flow_bucket4>("flows4", seen, idle_slots);
  }
  void set_seen6(uint8_t seen, uint32_t idle_slots = 0) {
    set_seen<abi::flow_bucket6>("flows6", seen, idle_slots);
  }

  // An agent with an option for so many flows starts; the table before is beside its own.
  void start_with(uint32_t flows) {
    DataPlaneOptions options = idle_options();
    options.flow_entries = flows;
    maps_.reset();
    auto loaded = DataPlane::load(*bpffs_, options);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    before_ = std::exchange(data_plane_, std::make_shared<DataPlane>(std::move(*loaded)));
    maps_ = std::make_unique<PinnedMaps>(std::move(*PinnedMaps::open(root_)));
  }
  CarryOver::Carried carry_over() {
    auto carry = CarryOver::open(*bpffs_);
    EXPECT_TRUE(carry.ok());
    auto carried = carry->run(data_plane_->program("adopt"));
    EXPECT_TRUE(carried.ok()) << carried.error().message;
    return *carried;
  }

  std::shared_ptr<const DataPlane> before_;
  std::unique_ptr<PinnedMaps> maps_;
  abi::table_seed seed_{};
};

constexpr uint8_t kEstablished = abi::SEEN_ACK | abi::SEEN_ACK << abi::SEEN_TWIN_SHIFT;

TEST_F(RemoveFlow, RemovesTheOneThatIsNamed) {
  start_data_plane();
  for (uint32_t n = 1; n <= 200; ++n) put4(n);
  put6(1);
  put6(2);
  ASSERT_EQ(flows4().size(), 200U);
  remove(maps_->remove_flow(key4(5)));
  EXPECT_EQ(flows4().size(), 199U);
  EXPECT_FALSE(flows4().contains(5));
  remove(maps_->remove_flow(key4(5)), false);    // gone already: nothing to do
  remove(maps_->remove_flow(key4(500)), false);  // never there
  EXPECT_EQ(flows4().size(), 199U);
  remove(maps_->remove_flow(key6(1)));
  EXPECT_EQ(flows6(), std::set<uint32_t>{2});
  for (uint32_t n = 1; n <= 200; ++n) remove(maps_->remove_flow(key4(n)), n != 5);
  EXPECT_TRUE(flows4().empty());
}

TEST_F(RemoveFlow, FindsItInTheSecondBucket) {
  start_data_plane();
  put4(1, true);
  put4(2);
  remove(maps_->remove_flow(key4(1)));
  EXPECT_EQ(flows4(), std::set<uint32_t>{2});
}

TEST_F(RemoveFlow, ABucketThatIsInUseIsNoAbsentFlow) {
  start_data_plane();
  put4(1);
  set_lock4(1, 1);
  EXPECT_FALSE(maps_->remove_flow(key4(1)).ok());
  set_lock4(1, 0);
  remove(maps_->remove_flow(key4(1)));
  EXPECT_TRUE(flows4().empty());
}

TEST_F(RemoveFlow, NotWhenOpenedForReading) {
  start_data_plane();
  put4(1);
  auto reader = PinnedMaps::open(root_, true);
  ASSERT_TRUE(reader.ok());
  EXPECT_FALSE(reader->remove_flow(key4(1)).ok());
  EXPECT_EQ(flows4(), std::set<uint32_t>{1});
}

// ---- tables of another size --------------------------------------------------------------

TEST_F(RemoveFlow, FlowsGoOverIntoATableOfAnotherSize) {
  start_data_plane();
  for (uint32_t n = 1; n <= 300; ++n) put4(n, n % 16 == 0);
  for (uint32_t n = 1; n <= 100; ++n) put6(n);
  set_seen4(abi::SEEN_ACK);
  set_seen6(0);
  const auto before4 = flows4(), before6 = flows6();
  for (const uint32_t size : {4096U, 1024U}) {
    start_with(size);
    EXPECT_TRUE(flows4().empty());
    auto carry = CarryOver::open(*bpffs_);
    ASSERT_TRUE(carry.ok()) << carry.error().message;
    auto carried = carry->run(data_plane_->program("adopt"));
    ASSERT_TRUE(carried.ok()) << carried.error().message;
    EXPECT_EQ(carried->flows, before4.size() + before6.size());
    EXPECT_EQ(carried->refused, 0U);
    EXPECT_EQ(flows4(), before4);
    EXPECT_EQ(flows6(), before6);
    carried = carry->run(data_plane_->program("adopt"));  // they are there
    EXPECT_EQ(carried->flows + carried->refused, 0U);
    carry->finish();
  }
  for (const uint32_t n : before4) remove(maps_->remove_flow(key4(n)));  // found where packets look for them
  EXPECT_TRUE(flows4().empty());
}

TEST_F(RemoveFlow, WhatDoesNotFitIsCounted) {
  start_data_plane();
  for (uint32_t n = 1; n <= 200; ++n) put4(n);
  set_seen4(kEstablished);  // no other gives way
  start_with(62);
  const auto carried = carry_over();
  EXPECT_EQ(carried.flows, 62U);
  EXPECT_EQ(carried.refused, 138U);
  EXPECT_EQ(flows4().size(), 62U);
}

TEST_F(RemoveFlow, ExpiredFlowsStayBehind) {
  start_data_plane();
  for (uint32_t n = 1; n <= 20; ++n) put4(n);
  put6(1);
  const uint32_t long_ago = abi::STAMP_SLOT_MASK / 4;  // the clock comes around: from half of it on it is the future
  set_seen4(abi::SEEN_ACK, long_ago);
  set_seen6(0, long_ago);
  start_with(2048);
  const auto carried = carry_over();
  EXPECT_EQ(carried.flows + carried.refused, 0U);
  EXPECT_TRUE(flows4().empty());
  EXPECT_TRUE(flows6().empty());
}

// Those that are being opened would have to go.
TEST_F(RemoveFlow, ClosedFlowsTakeNobodysPlace) {
  start_data_plane();
  for (uint32_t n = 1; n <= 200; ++n) put4(n);
  set_seen4(abi::SEEN_SYN);
  start_with(62);
  EXPECT_EQ(carry_over().refused, 0U);
  const auto opening = flows4();
  EXPECT_EQ(opening.size(), 62U);
  std::swap(data_plane_, before_);
  set_seen4(kEstablished | abi::SEEN_FIN | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT);
  std::swap(data_plane_, before_);
  EXPECT_EQ(carry_over().refused, 138U);
  EXPECT_EQ(flows4(), opening);
}

TEST_F(RemoveFlow, ExpiryLooksAtEveryBucketOfTheFamily) {
  start_data_plane();
  for (uint32_t n = 1; n <= 300; ++n) put4(n);
  put6(1);
  const uint32_t buckets = small_options().flow_buckets();
  auto result = run_expiry(data_plane_->program("expire"), abi::FAMILY_IPV4, buckets);
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->examined, 300U);
  result = run_expiry(data_plane_->program("expire"), abi::FAMILY_IPV6, buckets);
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->examined, 1U);
}

}  // namespace
}  // namespace maglane
