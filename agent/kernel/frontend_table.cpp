// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/frontend_table.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "agent/kernel/table_place.h"

namespace maglane {
namespace {

constexpr int kReadTries = 100;
constexpr size_t kKeyWords = (sizeof(abi::frontend_key) + sizeof(abi::frontend_entry::meta)) / sizeof(uint64_t);
constexpr size_t kTailWord = kKeyWords - 1;  // port, protocol, family and meta
static_assert(offsetof(abi::frontend_entry, value) == kKeyWords * sizeof(uint64_t));

uint8_t* tags(abi::table_header& header) { return reinterpret_cast<uint8_t*>(header.tags); }

uint8_t tag_of(abi::table_header& header, uint32_t slot) {
  return std::atomic_ref(tags(header)[slot]).load(std::memory_order_acquire);
}

void set_tag(abi::table_header& header, uint32_t slot, uint8_t tag) {
  std::atomic_ref(tags(header)[slot]).store(tag, std::memory_order_release);
}

template <typename T>
uint64_t* words_of(T& live) {
  static_assert(sizeof(T) % sizeof(uint64_t) == 0);
  return reinterpret_cast<uint64_t*>(&live);
}

template <typename T>
T copy_of(T& live) {
  std::array<uint64_t, sizeof(T) / sizeof(uint64_t)> words;
  for (size_t i = 0; i < words.size(); ++i)
    words[i] = std::atomic_ref(words_of(live)[i]).load(std::memory_order_acquire);
  T copy;
  std::memcpy(&copy, words.data(), sizeof copy);
  return copy;
}

void store(abi::frontend& live, const abi::frontend& frontend) {
  std::array<uint64_t, sizeof frontend / sizeof(uint64_t)> words;
  std::memcpy(words.data(), &frontend, sizeof frontend);
  for (size_t i = 0; i < words.size(); ++i)
    std::atomic_ref(words_of(live)[i]).store(words[i], std::memory_order_relaxed);
}

// The tail last: with it the entry matches a key.
void fill(abi::frontend_entry& live, const abi::frontend_key& key, uint32_t value) {
  std::array<uint64_t, kKeyWords> words{};
  std::memcpy(words.data(), &key, sizeof key);
  std::atomic_ref(live.value).store(value, std::memory_order_relaxed);
  for (size_t i = 0; i < kTailWord; ++i)
    std::atomic_ref(words_of(live)[i]).store(words[i], std::memory_order_relaxed);
  std::atomic_ref(words_of(live)[kTailWord]).store(words[kTailWord], std::memory_order_release);
}

// A packet's search may come upon a slot whose tag says that it is free (zero_bytes of
// bpf/table.h): family 0 matches no key.
void clear(abi::frontend_entry& live) {
  std::atomic_ref(words_of(live)[kTailWord]).store(0, std::memory_order_release);
}

maglane_table_place place_of(const abi::table_seed* seed, const abi::frontend_key& key, size_t buckets) {
  return maglane_table_place_of(MAGLANE_TABLE_FRONTENDS, seed, &key, static_cast<uint32_t>(buckets));
}

bool same_key(const abi::frontend_key& a, const abi::frontend_key& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

}  // namespace

FrontendTable::FrontendTable(std::span<abi::frontend_bucket> buckets, std::span<abi::frontend> values,
                             const abi::table_seed* seed)
    : buckets_(buckets), values_(values), seed_(seed), retired_bits_(buckets.size()) {}

// ---- after another writer --------------------------------------------------------------

void FrontendTable::take_over() {
  if (taken_over_) return;
  taken_over_ = true;
  drop_unreachable();
  count_foreign();
  std::vector<bool> used(values_.size());
  for (auto& bucket : buckets_)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
      if (tag_of(bucket.header, slot) != 0 && bucket.entries[slot].value < used.size())
        used[bucket.entries[slot].value] = true;
  // Value 0 is never used: an entry that was never written leads there.
  for (auto value = static_cast<uint32_t>(values_.size()); value-- > 1;)
    if (!used[value]) free_values_.push_back(value);
}

// What packets do not find: removals that were cut short, and entries where they do not belong.
void FrontendTable::drop_unreachable() {
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      if (is_reachable({bucket, slot}, entry({bucket, slot}).key)) continue;
      if (tag_of(buckets_[bucket].header, slot) != 0) set_tag(buckets_[bucket].header, slot, 0);
      if (words_of(entry({bucket, slot}))[kTailWord] != 0) clear(entry({bucket, slot}));
    }
  }
}

void FrontendTable::count_foreign() {
  std::vector<uint32_t> overflow(buckets_.size());
  std::vector<uint32_t> foreign(buckets_.size());
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      if (tag_of(buckets_[bucket].header, slot) == 0) continue;
      const uint32_t first = place_of(seed_, buckets_[bucket].entries[slot].key, buckets_.size()).first;
      if (first == bucket) continue;
      ++overflow[first];
      foreign[bucket] |= 1U << slot;
    }
  }
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    std::atomic_ref(buckets_[bucket].header.overflow).store(overflow[bucket]);
    buckets_[bucket].header.foreign = foreign[bucket];
  }
}

// ---- room ----------------------------------------------------------------------------------

std::optional<uint32_t> FrontendTable::take_value() {
  if (free_values_.empty()) return std::nullopt;
  const uint32_t value = free_values_.back();
  free_values_.pop_back();
  return value;
}

// What was written by others may lead anywhere.
void FrontendTable::retire_value(uint32_t value) {
  if (value != 0 && value < values_.size()) retired_values_.push_back(value);
}

std::optional<FrontendTable::Slot> FrontendTable::slot_of(const abi::frontend_key& key) const {
  const auto place = place_of(seed_, key, buckets_.size());
  for (const uint32_t bucket : {place.first, place.second})
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
      if (tag_of(buckets_[bucket].header, slot) == place.tag &&
          same_key(buckets_[bucket].entries[slot].key, key))
        return Slot{bucket, slot};
  return std::nullopt;
}

bool FrontendTable::is_reachable(Slot slot, const abi::frontend_key& key) const {
  const uint8_t tag = tag_of(buckets_[slot.bucket].header, slot.slot);
  if (tag == 0 || key.family == 0) return false;
  const auto place = place_of(seed_, key, buckets_.size());
  return place.tag == tag && (place.first == slot.bucket || place.second == slot.bucket);
}

bool FrontendTable::is_free(Slot slot) const {
  return tag_of(buckets_[slot.bucket].header, slot.slot) == 0 &&
         (retired_bits_[slot.bucket] >> slot.slot & 1) == 0;
}

uint32_t FrontendTable::slots_used(uint32_t bucket) const {
  uint32_t used = 0;
  for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) used += !is_free({bucket, slot});
  return used;
}

// As in bpf/table.h: a crowded first bucket shares with the second. Filled to the brim, the
// first buckets would leave pairs of full ones long before the table is.
std::optional<FrontendTable::Slot> FrontendTable::free_slot(const maglane_table_place& place) const {
  const uint32_t used = slots_used(place.first);
  const bool share = used >= MAGLANE_TABLE_CROWDED && slots_used(place.second) < used;
  const uint32_t bucket = share ? place.second : place.first;
  if (!share && is_free({bucket, place.home})) return Slot{bucket, place.home};
  for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
    if (is_free({bucket, slot})) return Slot{bucket, slot};
  return std::nullopt;
}

// Before the entry can be found: who misses it in its first bucket must know to go on.
void FrontendTable::set_foreign(Slot slot, uint32_t first) {
  if (slot.bucket == first) return;
  std::atomic_ref(buckets_[first].header.overflow).fetch_add(1);
  buckets_[slot.bucket].header.foreign |= 1U << slot.slot;
}

// ---- changes ---------------------------------------------------------------------------------

FrontendTable::Outcome FrontendTable::put(const abi::frontend_key& key, const abi::frontend& frontend) {
  take_over();
  const auto existing = slot_of(key);
  const auto place = place_of(seed_, key, buckets_.size());
  const auto slot = existing ? existing : free_slot(place);
  const auto value = slot ? take_value() : std::nullopt;
  if (!value) return Outcome::full;

  store(values_[*value], frontend);
  abi::frontend_entry& live = entry(*slot);
  if (existing) {
    retire_value(live.value);
    std::atomic_ref(live.value).store(*value, std::memory_order_release);
    return Outcome::done;
  }
  set_foreign(*slot, place.first);
  fill(live, key, *value);
  set_tag(buckets_[slot->bucket].header, slot->slot, place.tag);
  return Outcome::done;
}

void FrontendTable::remove(const abi::frontend_key& key) {
  take_over();
  const auto slot = slot_of(key);
  if (!slot) return;
  const uint32_t first = place_of(seed_, key, buckets_.size()).first;
  abi::table_header& header = buckets_[slot->bucket].header;
  set_tag(header, slot->slot, 0);
  clear(entry(*slot));
  if (slot->bucket != first) {
    header.foreign &= ~(1U << slot->slot);
    std::atomic_ref(buckets_[first].header.overflow).fetch_sub(1);
  }
  retire_value(entry(*slot).value);
  retired_slots_.push_back(*slot);
  retired_bits_[slot->bucket] |= 1U << slot->slot;
}

// ---- reading -----------------------------------------------------------------------------------

// Readers are not packets: no grace period waits for them. What an entry leads to is taken
// for its value only if it still leads there afterwards.
std::optional<std::pair<abi::frontend_key, abi::frontend>> FrontendTable::read(Slot slot) const {
  for (int tries = 0; tries < kReadTries; ++tries) {
    if (tag_of(buckets_[slot.bucket].header, slot.slot) == 0) return std::nullopt;
    const abi::frontend_entry before = copy_of(entry(slot));
    if (before.value >= values_.size()) return std::nullopt;
    const abi::frontend frontend = copy_of(values_[before.value]);
    const abi::frontend_entry after = copy_of(entry(slot));
    if (std::memcmp(&before, &after, sizeof before) != 0) continue;
    if (!is_reachable(slot, before.key)) return std::nullopt;
    return std::pair{before.key, frontend};
  }
  return std::nullopt;
}

std::optional<abi::frontend> FrontendTable::find(const abi::frontend_key& key) const {
  const auto slot = slot_of(key);
  const auto found = slot ? read(*slot) : std::nullopt;
  if (!found || !same_key(found->first, key)) return std::nullopt;
  return found->second;
}

void FrontendTable::each(
    const std::function<void(const abi::frontend_key&, const abi::frontend&)>& visit) const {
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot)
      if (const auto found = read({bucket, slot})) visit(found->first, found->second);
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
