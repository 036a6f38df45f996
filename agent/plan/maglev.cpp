// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/maglev.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include "agent/plan/siphash.h"

namespace maglane {

namespace {

// Part of the agreement between all nodes of a cluster, as are the sizes below.
constexpr SipKey kSeed{0x6d61676c616e6521, 0x4d61676c65763136};

struct SizeClass {
  uint64_t endpoints;  // up to this many
  uint32_t size;
};
constexpr std::array kSizes{
    SizeClass{1, 1},        SizeClass{12, 1601},     SizeClass{48, 6421},       SizeClass{192, 25601},
    SizeClass{768, 102407}, SizeClass{3072, 409609}, SizeClass{12288, 1638431}, SizeClass{49152, 6553621},
};

// How many times more than its number of endpoints a service may count for light ones.
constexpr uint64_t kMaxWeightFactor = 64;

}  // namespace

MaglevEndpoint maglev_endpoint(const IpAddress& address, uint16_t port, Protocol protocol, uint32_t weight,
                               uint32_t value) {
  std::array<uint8_t, 21> bytes{};
  std::memcpy(bytes.data(), address.bytes().data(), 16);
  bytes[16] = static_cast<uint8_t>(port >> 8);
  bytes[17] = static_cast<uint8_t>(port);
  bytes[18] = static_cast<uint8_t>(protocol);
  bytes[19] = static_cast<uint8_t>(address.family());
  MaglevEndpoint endpoint{.weight = weight, .value = value};
  endpoint.offset_hash = siphash(kSeed, bytes.data(), bytes.size());
  bytes[20] = 1;
  endpoint.skip_hash = siphash(kSeed, bytes.data(), bytes.size());
  return endpoint;
}

uint32_t maglev_size(std::span<const uint32_t> weights) {
  uint64_t count = 0, sum = 0, lightest = UINT32_MAX;
  for (const uint32_t weight : weights) {
    if (weight == 0) continue;
    ++count;
    sum += weight;
    lightest = std::min<uint64_t>(lightest, weight);
  }
  if (count == 0) return 0;
  const uint64_t shares = std::min((sum + lightest - 1) / lightest, count * kMaxWeightFactor);
  for (const SizeClass& one : kSizes)
    if (shares <= one.endpoints) return one.size;
  return kSizes.back().size;
}

void MaglevBuilder::prepare(std::span<const MaglevEndpoint> endpoints, uint32_t size) {
  sorted_.clear();
  for (const MaglevEndpoint& endpoint : endpoints)
    if (endpoint.weight > 0) sorted_.push_back(endpoint);
  std::sort(sorted_.begin(), sorted_.end(), [](const MaglevEndpoint& a, const MaglevEndpoint& b) {
    return std::tie(a.offset_hash, a.skip_hash) < std::tie(b.offset_hash, b.skip_hash);
  });
  turns_.clear();
  for (const MaglevEndpoint& endpoint : sorted_) {
    const auto position = static_cast<uint32_t>(endpoint.offset_hash % size);
    const auto skip = size > 1 ? static_cast<uint32_t>(endpoint.skip_hash % (size - 1) + 1) : 0;
    turns_.push_back({position, skip, 0, endpoint.weight, 0, endpoint.value});
  }
  assign_quotas(size);
  taken_.assign((size + 63) / 64, 0);
}

// Largest remainders first (Hamilton's method); equal ones in the order of the hashes.
void MaglevBuilder::assign_quotas(uint32_t size) {
  uint64_t sum = 0;
  for (const Turn& turn : turns_) sum += turn.weight;
  if (sum == 0) return;
  remainders_.clear();
  uint32_t left = size;
  for (uint32_t i = 0; i < turns_.size(); ++i) {
    const uint64_t product = static_cast<uint64_t>(size) * turns_[i].weight;
    turns_[i].quota = static_cast<uint32_t>(product / sum);
    left -= turns_[i].quota;
    remainders_.emplace_back(sum - product % sum, i);
  }
  std::sort(remainders_.begin(), remainders_.end());
  for (uint32_t i = 0; i < left; ++i) ++turns_[remainders_[i].second].quota;
}

void MaglevBuilder::build(std::span<const MaglevEndpoint> endpoints, std::span<uint32_t> table) {
  const auto size = static_cast<uint32_t>(table.size());
  if (size == 0) return;
  std::fill(table.begin(), table.end(), 0);
  prepare(endpoints, size);
  std::erase_if(turns_, [](const Turn& turn) { return turn.quota == 0; });
  uint64_t heaviest = 0;
  for (const Turn& turn : turns_) heaviest = std::max<uint64_t>(heaviest, turn.weight);

  // A round gives each endpoint at most one turn, and weight / heaviest of them on average.
  // Quotas add up to the size, so a round without any endpoint left means a full table.
  while (!turns_.empty()) {
    bool finished = false;
    for (Turn& turn : turns_) {
      turn.credit += turn.weight;
      if (turn.credit < heaviest) continue;
      turn.credit -= heaviest;
      const uint32_t entry = turn.position;
      turn.position = entry >= size - turn.skip ? entry - (size - turn.skip) : entry + turn.skip;
      uint64_t& word = taken_[entry / 64];
      const uint64_t bit = 1ULL << (entry % 64);
      if (word & bit) continue;
      word |= bit;
      table[entry] = turn.value;
      finished |= --turn.quota == 0;
    }
    if (finished) std::erase_if(turns_, [](const Turn& turn) { return turn.quota == 0; });
  }
}

}  // namespace maglane
