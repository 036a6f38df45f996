// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/frontend_table.h"

#include <atomic>
#include <cstring>

#include "agent/kernel/table_place.h"

namespace maglane {
namespace {

uint8_t* tags(abi::table_header& header) { return reinterpret_cast<uint8_t*>(header.tags); }

uint8_t tag_of(abi::table_header& header, uint32_t slot) {
  return std::atomic_ref(tags(header)[slot]).load(std::memory_order_acquire);
}

maglane_table_place place_of(const abi::table_seed* seed, const abi::frontend_key& key, size_t buckets) {
  return maglane_table_place_of(MAGLANE_TABLE_FRONTENDS, seed, &key, static_cast<uint32_t>(buckets));
}

bool same_key(const abi::frontend_key& a, const abi::frontend_key& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

FrontendTable::FrontendTable(std::span<abi::frontend_bucket> buckets, std::span<abi::frontend> values,
                             const abi::table_seed* seed)
    : buckets_(buckets), values_(values), seed_(seed), retired_bits_(buckets.size()) {}

// Value 0 is never used: an entry that was never written leads there.
void FrontendTable::learn_values() {
  if (values_known_) return;
  std::vector<bool> used(values_.size());
  for (auto& bucket : buckets_)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
      if (tag_of(bucket.header, slot) != 0 && bucket.entries[slot].value < used.size())
        used[bucket.entries[slot].value] = true;
  for (auto value = static_cast<uint32_t>(values_.size()); value-- > 1;)
    if (!used[value]) free_values_.push_back(value);
  values_known_ = true;
}

std::optional<uint32_t> FrontendTable::take_value() {
  learn_values();
  if (free_values_.empty()) return std::nullopt;
  const uint32_t value = free_values_.back();
  free_values_.pop_back();
  return value;
}

std::optional<FrontendTable::Slot> FrontendTable::slot_of(const abi::frontend_key& key) const {
  const auto place = place_of(seed_, key, buckets_.size());
  for (const uint32_t bucket : {place.first, place.second})
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
      if (tag_of(buckets_[bucket].header, slot) == place.tag && same_key(buckets_[bucket].entries[slot].key, key))
        return Slot{bucket, slot};
  return std::nullopt;
}

std::optional<FrontendTable::Slot> FrontendTable::free_slot(uint32_t bucket) const {
  for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
    if (tag_of(buckets_[bucket].header, slot) == 0 && (retired_bits_[bucket] >> slot & 1) == 0)
      return Slot{bucket, slot};
  return std::nullopt;
}

FrontendTable::Outcome FrontendTable::put(const abi::frontend_key& key, const abi::frontend& frontend) {
  const auto existing = slot_of(key);
  std::optional<Slot> slot = existing;
  const auto place = place_of(seed_, key, buckets_.size());
  if (!slot) slot = free_slot(place.first);
  if (!slot) slot = free_slot(place.second);
  const auto value = slot ? take_value() : std::nullopt;
  if (!value) return Outcome::full;

  values_[*value] = frontend;
  abi::frontend_entry& live = entry(*slot);
  if (existing) {
    retired_values_.push_back(live.value);
    std::atomic_ref(live.value).store(*value, std::memory_order_release);
    return Outcome::done;
  }
  abi::table_header& header = buckets_[slot->bucket].header;
  live = {.key = key, .meta = 0, .value = *value, .pad = 0};
  if (slot->bucket != place.first) {
    std::atomic_ref(buckets_[place.first].header.overflow).fetch_add(1);
    header.foreign |= 1U << slot->slot;
  }
  std::atomic_ref(tags(header)[slot->slot]).store(place.tag, std::memory_order_release);
  return Outcome::done;
}

void FrontendTable::remove(const abi::frontend_key& key) {
  const auto slot = slot_of(key);
  if (!slot) return;
  const auto place = place_of(seed_, key, buckets_.size());
  abi::table_header& header = buckets_[slot->bucket].header;
  learn_values();
  std::atomic_ref(tags(header)[slot->slot]).store(0, std::memory_order_release);
  if (header.foreign >> slot->slot & 1) {
    header.foreign &= ~(1U << slot->slot);
    std::atomic_ref(buckets_[place.first].header.overflow).fetch_sub(1);
  }
  retired_values_.push_back(entry(*slot).value);
  retired_slots_.push_back(*slot);
  retired_bits_[slot->bucket] |= 1U << slot->slot;
}

std::optional<abi::frontend> FrontendTable::find(const abi::frontend_key& key) const {
  const auto slot = slot_of(key);
  if (!slot || entry(*slot).value >= values_.size()) return std::nullopt;
  return values_[entry(*slot).value];
}

void FrontendTable::each(
    const std::function<void(const abi::frontend_key&, const abi::frontend&)>& visit) const {
  for (auto& bucket : buckets_) {
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      if (tag_of(bucket.header, slot) == 0) continue;
      const abi::frontend_entry& found = bucket.entries[slot];
      const uint32_t value = std::atomic_ref(bucket.entries[slot].value).load(std::memory_order_acquire);
      if (value < values_.size()) visit(found.key, values_[value]);
    }
  }
}

uint32_t FrontendTable::size() const {
  uint32_t size = 0;
  for (auto& bucket : buckets_)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) size += tag_of(bucket.header, slot) != 0;
  return size;
}

void FrontendTable::release_retired() {
  for (const Slot& slot : retired_slots_) retired_bits_[slot.bucket] &= ~(1U << slot.slot);
  retired_slots_.clear();
  free_values_.insert(free_values_.end(), retired_values_.begin(), retired_values_.end());
  retired_values_.clear();
}

}  // namespace maglane
