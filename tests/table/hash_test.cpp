// SPDX-License-Identifier: Apache-2.0
//
// The hash spreads what real traffic and an attacker who knows the code, but not the seed, send.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "tests/table/walk.h"

namespace maglane::test {
namespace {

constexpr uint32_t kBuckets = 1024;
constexpr uint32_t kLoad = 8;  // keys a bucket, on average
constexpr uint32_t kSeeds = 200;

struct Tuple {
  uint32_t src, dst;
  uint16_t src_port, dst_port;
  uint8_t protocol = IPPROTO_TCP;
};

Words words4(const Tuple& t) {
  return {htonl(t.src) | __u64{htonl(t.dst)} << 32,
          htons(t.src_port) | __u64{htons(t.dst_port)} << 16 | __u64{t.protocol} << 32};
}

// The same in IPv6 addresses of one /96 each.
Words words6(const Tuple& t) {
  const __u64 prefix = 0xb80d0120, rest = 0x9bff6400;
  return {prefix, rest | __u64{htonl(t.src)} << 32, prefix, rest | __u64{htonl(t.dst)} << 32, words4(t)[1]};
}

Words words_frontend(const Tuple& t) {
  return {htonl(t.dst), 0, htons(t.dst_port) | __u64{t.protocol} << 16 | __u64{abi::FAMILY_IPV4} << 24};
}

struct Traffic {
  const char* name;
  std::function<Tuple(uint32_t)> tuple;  // the n-th; all different
};

const Traffic kTraffic[] = {
    {"one client, port after port", [](uint32_t n) { return Tuple{0x0a000001, 0xc0a80001, static_cast<uint16_t>(n), 80}; }},
    {"port after port, low byte first",
     [](uint32_t n) { return Tuple{0x0a000001, 0xc0a80001, htons(static_cast<uint16_t>(n)), 80}; }},
    {"client after client", [](uint32_t n) { return Tuple{0x0a000000 + n, 0xc0a80001, 40000, 443}; }},
    {"client after client, first byte first", [](uint32_t n) { return Tuple{ntohl(n), 0xc0a80001, 40000, 443}; }},
    {"a scan of addresses", [](uint32_t n) { return Tuple{0x0a000001, 0x0a600000 + n, 40000, 80}; }},
    {"one address in each /24", [](uint32_t n) { return Tuple{0x0a000001 + (n << 8), 0xc0a80001, 40000, 80}; }},
    {"an arithmetic progression", [](uint32_t n) { return Tuple{0x0a000001 + n * 65793, 0xc0a80001, 40000, 80}; }},
    {"both ports rise", [](uint32_t n) { return Tuple{1, 2, static_cast<uint16_t>(n), static_cast<uint16_t>(n + 7)}; }},
    {"one rises, one falls", [](uint32_t n) { return Tuple{0x0a000000 + n, 0xc0a90000 - n, 40000, 80}; }},
    {"64 clients, many ports", [](uint32_t n) { return Tuple{0x0a000000 + n % 64, 0xc0a80001, static_cast<uint16_t>(1024 + n / 64), 80}; }},
    {"one bit each, then two", [](uint32_t n) { return Tuple{n, ~n, static_cast<uint16_t>(n ^ n >> 7), 80}; }},
};

struct Spread {
  uint32_t most;   // keys of the fullest bucket
  double surplus;  // chi-square less its mean, in standard deviations; below 0: more even than chance
};

Spread spread(const std::vector<uint32_t>& counts) {
  const double keys = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double cells = static_cast<double>(counts.size()), expected = keys / cells;
  double chi = 0;
  for (const uint32_t count : counts) chi += (count - expected) * (count - expected) / expected;
  return {*std::max_element(counts.begin(), counts.end()), (chi - cells) / std::sqrt(2 * cells)};
}

struct Spreads {
  Spread first, second, tag;
};

Spreads spreads_of(native_shape shape, const std::vector<Words>& keys, uint64_t seed) {
  const native_table table{shape, nullptr, kBuckets, make_seed(seed)};
  std::vector<uint32_t> first(kBuckets), second(kBuckets), tag(256);
  for (const Words& key : keys) {
    const native_place place = native_place_of(&table, key.data());
    ++first[place.first];
    ++second[place.second];
    ++tag[place.tag];
  }
  return {spread(first), spread(second), spread(tag)};
}

// Chance puts 26 or so of kLoad * kBuckets keys into the fullest bucket; a full bucket has 31
// and a second one beside it. A few of the seeds may be less even than chance; none may fail.
void expect_spread(native_shape shape, const std::vector<Words>& keys, const std::string& what) {
  uint32_t uneven = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Spreads found = spreads_of(shape, keys, seed * 7919 + 1);
    EXPECT_LE(found.first.most, 31u) << what << ", seed " << seed;
    EXPECT_LE(found.second.most, 31u) << what << ", seed " << seed;
    EXPECT_LE(found.tag.most, 8 * keys.size() / 256) << what << ", seed " << seed;
    uneven += found.first.surplus > 5 || found.second.surplus > 5;
  }
  EXPECT_LE(uneven, kSeeds / 50) << what;
}

std::vector<Words> keys_of(const Traffic& traffic, Words (*words)(const Tuple&)) {
  std::vector<Words> keys;
  for (uint32_t n = 0; n < kLoad * kBuckets; ++n) keys.push_back(words(traffic.tuple(n)));
  return keys;
}

TEST(Hash, spreads_flows_of_ipv4) {
  for (const Traffic& traffic : kTraffic) expect_spread(SHAPE_FLOW4, keys_of(traffic, words4), traffic.name);
}

TEST(Hash, spreads_flows_of_ipv6) {
  for (const Traffic& traffic : kTraffic) expect_spread(SHAPE_FLOW6, keys_of(traffic, words6), traffic.name);
}

TEST(Hash, spreads_frontends) {
  expect_spread(SHAPE_FRONTEND, keys_of({"", [](uint32_t n) { return Tuple{0, 0x0a600000 + n, 0, 80}; }}, words_frontend),
                "a service after the other");
  expect_spread(SHAPE_FRONTEND,
                keys_of({"", [](uint32_t n) { return Tuple{0, 0xc0a80001, 0, static_cast<uint16_t>(30000 + n)}; }}, words_frontend),
                "a node port after the other");
}

// The expectations above must be able to fail: a seed that is known is no secret.
std::vector<Words> aimed_at_one_bucket(uint64_t seed, size_t wanted) {
  const native_table table{SHAPE_FLOW4, nullptr, kBuckets, make_seed(seed)};
  std::mt19937_64 random(seed);
  std::vector<Words> keys;
  while (keys.size() < wanted) {
    const Tuple tuple{static_cast<uint32_t>(random()), 0xc0a80001, static_cast<uint16_t>(random()), 80};
    const Words key = words4(tuple);
    if (native_place_of(&table, key.data()).first == 7) keys.push_back(key);
  }
  return keys;
}

TEST(Hash, what_piles_up_under_one_seed_spreads_under_others) {
  const std::vector<Words> keys = aimed_at_one_bucket(1, 512);
  EXPECT_EQ(spreads_of(SHAPE_FLOW4, keys, 1).first.most, 512u);
  for (uint64_t seed = 2; seed < 2 + kSeeds; ++seed) {
    const Spreads found = spreads_of(SHAPE_FLOW4, keys, seed);
    EXPECT_LE(found.first.most, 10u) << seed;
    EXPECT_LE(found.second.most, 10u) << seed;
  }
}

// Whoever knows the seed can fill both buckets of a key; under another seed all go in.
TEST(Hash, crafted_tuples_are_refused_under_their_own_seed_only) {
  constexpr uint32_t kFew = 128, kKeys = 400;
  const native_table known{SHAPE_FLOW4, nullptr, kFew, make_seed(1)};
  std::mt19937_64 random(1);
  std::vector<Words> keys;
  while (keys.size() < kKeys) {
    const Words key = words4({static_cast<uint32_t>(random()), 0xc0a80001, static_cast<uint16_t>(random()), 80});
    const native_place place = native_place_of(&known, key.data());
    if (place.first == 7 && place.second < 8) keys.push_back(key);
  }
  auto refused = [&](uint64_t seed) {
    Table table(SHAPE_FLOW4, kFew, seed);
    const Words answer(native_layout_of(SHAPE_FLOW4).answer_words);
    return std::count_if(keys.begin(), keys.end(), [&](const Words& key) {
      return native_insert(table.get(), key.data(), answer.data(), IPPROTO_TCP, 0) == NATIVE_FULL;
    });
  };
  EXPECT_GE(refused(1), kKeys - 9 * 31);
  for (uint64_t seed = 2; seed < 2 + kSeeds; ++seed) EXPECT_EQ(refused(seed), 0) << seed;
}

// The sum over the words is where keys could cancel out: sets made so that all sums are equal
// under one seed.
TEST(Hash, equal_sums_under_one_seed_differ_under_others) {
  const abi::table_seed seed = make_seed(1);
  std::vector<Words> keys;
  for (uint32_t n = 1; n <= 4096; ++n) {
    // (src + nh0) * (dst + nh1) with the first factor 0: dst does not matter.
    keys.push_back({-seed.nh[0] | __u64{n * 2654435761U} << 32, words4({0, 0, 1000, 80})[1]});
  }
  EXPECT_EQ(spreads_of(SHAPE_FLOW4, keys, 1).first.most, 4096u);
  for (uint64_t other = 2; other < 2 + kSeeds; ++other)
    EXPECT_LE(spreads_of(SHAPE_FLOW4, keys, other).first.most, 24u) << other;
}

}  // namespace
}  // namespace maglane::test
