// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/maglev.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "agent/plan/siphash.h"
#include "tests/unit/plan/cluster.h"

namespace maglane {
namespace {

// Endpoint `number` of set `set`; its value is number + 1.
MaglevEndpoint one(uint32_t set, uint32_t number, uint32_t weight = 1) {
  const ResolvedEndpoint endpoint = test::endpoint(set * 20000 + number);
  return maglev_endpoint(endpoint.address, endpoint.port, Protocol::tcp, weight, number + 1);
}

std::vector<MaglevEndpoint> some(uint32_t set, uint32_t count) {
  std::vector<MaglevEndpoint> endpoints;
  for (uint32_t i = 0; i < count; ++i) endpoints.push_back(one(set, i));
  return endpoints;
}

uint32_t size_for(const std::vector<MaglevEndpoint>& endpoints) {
  std::vector<uint32_t> weights;
  for (const auto& endpoint : endpoints) weights.push_back(endpoint.weight);
  return maglev_size(weights);
}

std::vector<uint32_t> table_of(const std::vector<MaglevEndpoint>& endpoints, uint32_t size) {
  std::vector<uint32_t> table(size);
  MaglevBuilder().build(endpoints, table);
  return table;
}

std::map<uint32_t, uint32_t> counts_of(const std::vector<uint32_t>& table) {
  std::map<uint32_t, uint32_t> counts;
  for (const uint32_t value : table) ++counts[value];
  return counts;
}

// The share of entries of endpoints other than `gone` that differ.
double moved(const std::vector<uint32_t>& before, const std::vector<uint32_t>& after, uint32_t gone) {
  size_t others = 0, differ = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] == gone) continue;
    ++others;
    differ += before[i] != after[i];
  }
  return static_cast<double>(differ) / static_cast<double>(others);
}

TEST(SipHash, VectorsOfItsAuthors) {
  const SipKey key{0x0706050403020100, 0x0f0e0d0c0b0a0908};
  uint8_t input[64];
  for (uint8_t i = 0; i < 64; ++i) input[i] = i;
  EXPECT_EQ(siphash(key, input, 0), 0x726fdb47dd0e0e31U);
  EXPECT_EQ(siphash(key, input, 1), 0x74f839c593dc67fdU);
  EXPECT_EQ(siphash(key, input, 7), 0xab0200f58b01d137U);
  EXPECT_EQ(siphash(key, input, 8), 0x93f5f5799a932462U);
  EXPECT_EQ(siphash(key, input, 15), 0xa129ca6149be45e5U);
}

// Nodes of different versions must choose the same endpoint: a change of seed, hash, size or
// fill is a break of compatibility.
TEST(Maglev, TableIsTheSameForEver) {
  const auto address = [](const char* text) { return test::ip(text); };
  std::vector<MaglevEndpoint> endpoints{
      maglev_endpoint(address("10.1.0.1"), 8080, Protocol::tcp, 1, 1),
      maglev_endpoint(address("10.1.0.2"), 8080, Protocol::tcp, 2, 2),
      maglev_endpoint(address("fd00::1"), 53, Protocol::udp, 1, 3),
  };
  EXPECT_EQ(size_for(endpoints), 1601U);
  const auto table = table_of(endpoints, 1601);
  EXPECT_EQ(siphash({0, 0}, table.data(), table.size() * sizeof table[0]), 1981657512164457869U);
  const std::vector<uint32_t> first(table.begin(), table.begin() + 16);
  EXPECT_EQ(first, (std::vector<uint32_t>{2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 3, 2, 2, 2, 2, 3}));
  EXPECT_EQ(endpoints[0].offset_hash, 7394100935393813341U);
}

TEST(Maglev, SizesLeaveRoomForBalance) {
  for (uint32_t count :
       {2U, 3U, 5U, 12U, 13U, 48U, 49U, 192U, 193U, 768U, 769U, 1000U, 3073U, 10000U, 49152U}) {
    const std::vector<uint32_t> weights(count, 7);
    EXPECT_GE(maglev_size(weights), 130 * count) << count;
  }
  EXPECT_EQ(maglev_size({}), 0U);
  const uint32_t zero[] = {0, 0};
  EXPECT_EQ(maglev_size(zero), 0U);
  const uint32_t alone[] = {0, 5};
  EXPECT_EQ(maglev_size(alone), 1U);
}

TEST(Maglev, LightEndpointsGetTheirEntriesToo) {
  const uint32_t weights[] = {1, 9, 10};
  EXPECT_GE(maglev_size(weights), 100 * 20U);
  const uint32_t extreme[] = {1, UINT32_MAX};
  EXPECT_LE(maglev_size(extreme), 25601U);
}

TEST(Maglev, BalanceWithinOnePercent) {
  for (uint32_t count : {2U, 3U, 7U, 10U, 12U, 13U, 48U, 100U, 192U, 1000U}) {
    const auto endpoints = some(1, count);
    const uint32_t size = size_for(endpoints);
    const auto counts = counts_of(table_of(endpoints, size));
    ASSERT_EQ(counts.size(), count);
    const double ideal = static_cast<double>(size) / count;
    for (const auto& [value, entries] : counts) EXPECT_LE(std::abs(entries / ideal - 1), 0.01) << count;
  }
}

TEST(Maglev, BalanceWithinOnePercentAtHundredTimes) {
  const auto endpoints = some(2, 100);
  const auto counts = counts_of(table_of(endpoints, 10007));
  for (const auto& [value, entries] : counts) EXPECT_LE(std::abs(entries / 100.07 - 1), 0.01);
}

// Mean over sets and endpoints that go; few endpoints scatter more, so their means are of
// more sets. Bounds are a tenth above what was measured, so that a worse fill goes red.
TEST(Maglev, FewOtherEntriesMoveWhenOneEndpointGoes) {
  struct Case {
    uint32_t count, sets;
    double bound;
  };
  for (const auto& [count, sets, bound] :
       {Case{2, 4, 0.0}, Case{3, 60, 0.01}, Case{5, 60, 0.01}, Case{10, 40, 0.0135}, Case{12, 40, 0.0145},
        Case{20, 20, 0.009}, Case{48, 10, 0.011}, Case{100, 4, 0.006}, Case{192, 3, 0.007},
        Case{1000, 1, 0.004}}) {
    double sum = 0;
    for (uint32_t set = 0; set < sets; ++set) {
      auto endpoints = some(set, count);
      const uint32_t size = size_for(endpoints);
      const auto before = table_of(endpoints, size);
      const uint32_t gone = endpoints[set * 7 % count].value;
      std::erase_if(endpoints, [&](const auto& endpoint) { return endpoint.value == gone; });
      sum += moved(before, table_of(endpoints, size), gone);
    }
    EXPECT_LE(sum / sets, bound) << count << " endpoints";
    RecordProperty(fmt::format("moved_percent_{}", count), fmt::format("{:.2f}", 100 * sum / sets));
  }
}

TEST(Maglev, OrderDoesNotMatter) {
  std::mt19937 random(1);
  auto endpoints = some(3, 30);
  endpoints[4].weight = 3;
  const uint32_t size = size_for(endpoints);
  const auto table = table_of(endpoints, size);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(endpoints.begin(), endpoints.end(), random);
    ASSERT_EQ(table_of(endpoints, size), table);
  }
}

TEST(Maglev, BuilderCarriesNothingOver) {
  MaglevBuilder builder;
  std::vector<uint32_t> big(6421), small(1601);
  builder.build(some(1, 40), big);
  builder.build(some(2, 5), small);
  EXPECT_EQ(small, table_of(some(2, 5), 1601));
}

TEST(Maglev, EntriesBelongToTheEndpointNotToItsPosition) {
  const IpAddress address = test::ip("10.1.0.1");
  const auto base = maglev_endpoint(address, 80, Protocol::tcp, 1, 1);
  EXPECT_EQ(maglev_endpoint(address, 80, Protocol::tcp, 5, 9).offset_hash, base.offset_hash);
  EXPECT_EQ(maglev_endpoint(address, 80, Protocol::tcp, 5, 9).skip_hash, base.skip_hash);
  EXPECT_NE(maglev_endpoint(address, 81, Protocol::tcp, 1, 1).offset_hash, base.offset_hash);
  EXPECT_NE(maglev_endpoint(address, 80, Protocol::udp, 1, 1).skip_hash, base.skip_hash);
  EXPECT_NE(maglev_endpoint(test::ip("a01:1::"), 80, Protocol::tcp, 1, 1).offset_hash, base.offset_hash);
}

TEST(Maglev, WeightsAreShares) {
  const uint32_t weights[] = {1, 2, 3, 10, 0};
  std::vector<MaglevEndpoint> endpoints;
  for (uint32_t i = 0; i < 5; ++i) endpoints.push_back(one(5, i, weights[i]));
  const uint32_t size = size_for(endpoints);
  auto counts = counts_of(table_of(endpoints, size));
  EXPECT_EQ(counts.size(), 4U);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_NEAR(counts[i + 1], size * weights[i] / 16.0, 1) << i;
}

TEST(Maglev, EqualWeightsAreLikeNone) {
  auto endpoints = some(6, 9);
  const auto table = table_of(endpoints, 1601);
  for (auto& endpoint : endpoints) endpoint.weight = 50;
  EXPECT_EQ(table_of(endpoints, 1601), table);
}

TEST(Maglev, AWeightThatChangesMovesLittleElse) {
  auto endpoints = some(7, 20);
  for (auto& endpoint : endpoints) endpoint.weight = 10;
  const auto before = table_of(endpoints, 6421);
  endpoints[3].weight = 8;
  const auto after = table_of(endpoints, 6421);
  size_t differ = 0;
  for (size_t i = 0; i < before.size(); ++i)
    differ += before[i] != after[i] && before[i] != endpoints[3].value;
  EXPECT_LE(differ, 6421 * 0.012);
}

TEST(Maglev, NoEndpointsAndOne) {
  EXPECT_EQ(table_of({}, 5), std::vector<uint32_t>(5, 0));
  EXPECT_EQ(table_of({one(1, 0)}, 1), std::vector<uint32_t>{1});
  EXPECT_TRUE(table_of({}, 0).empty());
}

}  // namespace
}  // namespace maglane
