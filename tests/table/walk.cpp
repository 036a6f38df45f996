// SPDX-License-Identifier: Apache-2.0
#include "tests/table/walk.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <set>

namespace maglane::test {
namespace {

const abi::table_header& header_of(const native_table& table, uint32_t bucket) {
  auto* buckets = static_cast<const char*>(table.buckets);
  return *reinterpret_cast<const abi::table_header*>(buckets +
                                                     size_t{bucket} * native_layout_of(table.shape).bucket_size);
}

uint8_t tag_of(const abi::table_header& header, uint32_t slot) {
  return static_cast<uint8_t>(header.tags[slot / 8] >> (slot % 8 * 8));
}

std::string fault_of(native_table* table, const Entry& entry) {
  const native_place place = native_place_of(table, entry.key.data());
  const bool is_first = entry.bucket == place.first;
  const uint8_t tag = tag_of(header_of(*table, entry.bucket), entry.slot);
  if (!is_first && entry.bucket != place.second) return "in neither of its buckets";
  if (tag != place.tag) return fmt::format("tag {}, should be {}", tag, place.tag);
  if (entry.foreign == is_first) return fmt::format("foreign bit {}", entry.foreign);
  if (entry.meta & TABLE_VERSION_ODD) return "half changed";
  Words answer(entry.answer.size());
  uint32_t meta = 0;
  const int found = native_find(table, entry.key.data(), &meta, answer.data());
  if (found != NATIVE_DONE) return fmt::format("not found: {}", found);
  if (meta != entry.meta || answer != entry.answer) return "found, but another";
  return "";
}

}  // namespace

abi::table_seed make_seed(uint64_t number) {
  std::mt19937_64 random(number);
  abi::table_seed seed;
  seed.multiplier = random() | 1;
  for (auto& word : seed.nh) word = static_cast<uint32_t>(random());
  return seed;
}

Table::Table(native_shape shape, uint32_t buckets, uint64_t seed)
    : table_{shape, nullptr, buckets, make_seed(seed)} {
  const size_t size = size_t{buckets} * native_layout_of(shape).bucket_size;
  memory_.reset(std::aligned_alloc(64, size));
  std::memset(memory_.get(), 0, size);
  table_.buckets = memory_.get();
}

std::vector<Entry> entries_of(const native_table& table) {
  const native_layout layout = native_layout_of(table.shape);
  std::vector<Entry> entries;
  for (uint32_t bucket = 0; bucket < table.count; ++bucket) {
    const abi::table_header& header = header_of(table, bucket);
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      auto* words = reinterpret_cast<const __u64*>(reinterpret_cast<const char*>(&header) + layout.first +
                                                      slot * layout.entry_size);
      Entry entry{bucket, slot, static_cast<uint32_t>(words[layout.key_words - 1] >> 32),
                  {words, words + layout.key_words},
                  {words + layout.key_words, words + layout.entry_size / 8},
                  (header.foreign >> slot & 1) != 0};
      entry.key.back() &= layout.tail_mask;
      if (tag_of(header, slot) != 0) entries.push_back(std::move(entry));
    }
  }
  return entries;
}

std::string faults_of(native_table* table) {
  const native_layout layout = native_layout_of(table->shape);
  std::vector<uint32_t> overflow(table->count), used(table->count);
  std::set<Words> keys;
  std::string faults;
  for (const Entry& entry : entries_of(*table)) {
    used[entry.bucket] |= 1U << entry.slot;
    const native_place place = native_place_of(table, entry.key.data());
    if (entry.bucket != place.first) ++overflow[place.first];
    std::string fault = fault_of(table, entry);
    if (!keys.insert(entry.key).second) fault += " doubled";
    if (!fault.empty()) faults += fmt::format("bucket {} slot {}: {}\n", entry.bucket, entry.slot, fault);
  }
  for (uint32_t bucket = 0; bucket < table->count; ++bucket) {
    const abi::table_header& header = header_of(*table, bucket);
    if (header.lock != 0) faults += fmt::format("bucket {}: locked\n", bucket);
    if (header.overflow != overflow[bucket])
      faults += fmt::format("bucket {}: overflow {}, should be {}\n", bucket, header.overflow, overflow[bucket]);
    if (header.foreign & ~used[bucket]) faults += fmt::format("bucket {}: foreign bit of a free slot\n", bucket);
    if (tag_of(header, abi::TABLE_SLOTS) != 0) faults += fmt::format("bucket {}: a tag past the end\n", bucket);
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      auto* words = reinterpret_cast<const __u64*>(reinterpret_cast<const char*>(&header) + layout.first +
                                                      slot * layout.entry_size);
      if ((used[bucket] >> slot & 1) == 0 && (words[layout.key_words - 1] & layout.tail_mask) != 0)
        faults += fmt::format("bucket {} slot {}: a free slot has a key\n", bucket, slot);
    }
  }
  return faults;
}

}  // namespace maglane::test
