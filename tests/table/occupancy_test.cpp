// SPDX-License-Identifier: Apache-2.0
//
// How full a table may be: filled and then churned, in which no entry is ever given up.
#include <gtest/gtest.h>

#include <random>

#include "tests/table/walk.h"

namespace maglane::test {
namespace {

constexpr uint32_t kProtocol = 6;

Words random_key(std::mt19937_64& random, native_shape shape) {
  const native_layout layout = native_layout_of(shape);
  Words key(layout.key_words);
  for (auto& word : key) word = random();
  key.back() &= 0x00000000ffffffffULL;
  key.back() |= shape == SHAPE_FRONTEND ? 1 : __u64{kProtocol} << 32;
  return key;
}

struct Churn {
  uint64_t inserts = 0;
  uint64_t refused = 0;
  uint64_t away = 0;  // of the entries at the end: in their second bucket
  uint64_t at_home = 0;
};

// Fills a table to its share of slots and then removes and inserts one at a time, as long as
// connections of all ages end.
Churn churn(native_shape shape, uint32_t buckets, double share, uint64_t operations, uint64_t seed) {
  Table table(shape, buckets, seed);
  std::mt19937_64 random(seed);
  const auto target = static_cast<size_t>(buckets * uint32_t{abi::TABLE_SLOTS} * share);
  const Words answer(native_layout_of(shape).answer_words);
  std::vector<Words> live;
  Churn result;
  auto insert = [&] {
    Words key = random_key(random, shape);
    ++result.inserts;
    if (native_insert(table.get(), key.data(), answer.data(), kProtocol, 0) == NATIVE_DONE)
      live.push_back(std::move(key));
    else
      ++result.refused;
  };
  while (live.size() < target && result.refused < target) insert();
  for (uint64_t n = 0; n < operations; ++n) {
    std::swap(live[random() % live.size()], live.back());
    EXPECT_EQ(native_remove(table.get(), live.back().data()), NATIVE_DONE);
    live.pop_back();
    insert();
  }
  EXPECT_EQ(faults_of(table.get()), "");
  for (const Entry& entry : entries_of(*table)) {
    const native_place place = native_place_of(&*table, entry.key.data());
    result.away += entry.foreign;
    result.at_home += entry.bucket == place.first && entry.slot == place.home;
  }
  testing::Test::RecordProperty("away_percent", static_cast<int>(100 * result.away / live.size()));
  testing::Test::RecordProperty("at_home_percent", static_cast<int>(100 * result.at_home / live.size()));
  return result;
}

TEST(Occupancy, flows_of_ipv4_at_85_percent) { EXPECT_EQ(churn(SHAPE_FLOW4, 4096, 0.85, 2'000'000, 1).refused, 0u); }
TEST(Occupancy, flows_of_ipv6_at_85_percent) { EXPECT_EQ(churn(SHAPE_FLOW6, 2048, 0.85, 1'000'000, 2).refused, 0u); }
TEST(Occupancy, frontends_at_85_percent) { EXPECT_EQ(churn(SHAPE_FRONTEND, 2048, 0.85, 1'000'000, 3).refused, 0u); }

// The test above must be able to fail.
TEST(Occupancy, a_table_refuses_when_it_is_nearly_full) {
  EXPECT_GT(churn(SHAPE_FLOW4, 512, 0.97, 200'000, 4).refused, 0u);
}

}  // namespace
}  // namespace maglane::test
