// SPDX-License-Identifier: Apache-2.0
//
// Random operations on small tables, so that buckets overflow and fill up, beside a
// std::unordered_map; after each operation a full walk.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <unordered_map>

#include "tests/table/walk.h"

namespace maglane::test {
namespace {

enum class Verb { insert, find, remove, remove_found, change, add_state, expire };
constexpr uint32_t kProtocol = 6;

struct Operation {
  Verb verb;
  uint32_t key;
  uint32_t value;
  uint8_t rank;  // of an inserted entry: 0 is never given up
};

std::ostream& operator<<(std::ostream& out, const Operation& o) {
  static const char* names[] = {"insert", "find", "remove", "remove_found", "change", "add_state", "expire"};
  return out << names[static_cast<int>(o.verb)] << " key " << o.key << " value " << o.value << " rank " << +o.rank;
}

// Keys that differ in one word only, half of them in the last.
Words key_words(native_shape shape, uint32_t number) {
  const native_layout layout = native_layout_of(shape);
  Words key(layout.key_words, 0x0100007f0100007fULL);
  key.back() &= 0x00000000ffffffffULL;
  if (number % 2 == 0)
    key.back() ^= number;
  else
    key[number / 2 % (layout.key_words - 1)] ^= __u64{number} << (number / 2 % 3 * 16);
  if (shape != SHAPE_FRONTEND) key.back() |= __u64{kProtocol} << 32;
  return key;
}

Words answer_words(native_shape shape, uint32_t key, uint32_t value) {
  const native_layout layout = native_layout_of(shape);
  Words answer(layout.answer_words);
  for (uint32_t i = 0; i < layout.answer_words; ++i)
    answer[i] = uint64_t{value} * 0x9e3779b97f4a7c15ULL + (uint64_t{key} << 40) + i;
  return answer;
}

struct Model {
  Model(native_shape of, uint32_t buckets, uint64_t seed) : shape(of), table(of, buckets, seed) {}

  struct Value {
    uint32_t value;
    uint32_t state;
  };
  native_shape shape;
  Table table;
  std::unordered_map<uint32_t, Value> expected;

  Words words(uint32_t key) const { return key_words(shape, key); }
  uint32_t state(uint8_t rank) const { return shape == SHAPE_FRONTEND ? rank << 8 : rank << 8 | kProtocol; }

  void run(const Operation& o);
  void insert(const Operation& o);
  void insert_into_full(const Operation& o, const std::vector<Entry>& rivals);
  void remove_found(const Operation& o);
  void find(uint32_t key);
  void expire(uint32_t number);
  uint32_t key_of(const Entry& entry) const;
  std::vector<Entry> rivals_of(uint32_t key) const;
  void check();
};

uint32_t Model::key_of(const Entry& entry) const {
  for (const auto& [key, value] : expected)
    if (words(key) == entry.key) return key;
  RC_FAIL("the table holds a key that was never put in");
}

// What is in the two buckets of a key.
std::vector<Entry> Model::rivals_of(uint32_t key) const {
  const native_place place = native_place_of(&*table, words(key).data());
  std::vector<Entry> all = entries_of(*table), rivals;
  std::copy_if(all.begin(), all.end(), std::back_inserter(rivals),
               [&](const Entry& e) { return e.bucket == place.first || e.bucket == place.second; });
  return rivals;
}

void Model::insert_into_full(const Operation& o, const std::vector<Entry>& rivals) {
  auto rank = [](const Entry& e) { return e.meta >> 8 & 0xff; };
  uint32_t worst = 0;
  for (const Entry& e : rivals) worst = std::max(worst, rank(e));
  const int result =
      native_insert(table.get(), words(o.key).data(), answer_words(shape, o.key, o.value).data(), state(o.rank), 0);
  RC_ASSERT(result == (worst == 0 ? NATIVE_FULL : NATIVE_DONE));
  if (worst == 0) return;
  const std::vector<Entry> now = entries_of(*table);
  uint32_t gone = 0;
  for (const Entry& e : rivals) {
    if (std::any_of(now.begin(), now.end(), [&](const Entry& n) { return n.key == e.key; })) continue;
    RC_ASSERT(rank(e) == worst);
    expected.erase(key_of(e));
    ++gone;
  }
  RC_ASSERT(gone == 1u);
  expected[o.key] = {o.value, state(o.rank)};
}

void Model::insert(const Operation& o) {
  const std::vector<Entry> rivals = rivals_of(o.key);
  const native_place place = native_place_of(&*table, words(o.key).data());
  const size_t room = (place.first == place.second ? 1 : 2) * abi::TABLE_SLOTS;
  if (!expected.count(o.key) && rivals.size() == room) return insert_into_full(o, rivals);
  const int result =
      native_insert(table.get(), words(o.key).data(), answer_words(shape, o.key, o.value).data(), state(o.rank), 0);
  RC_ASSERT(result == (expected.count(o.key) ? NATIVE_PRESENT : NATIVE_DONE));
  expected.try_emplace(o.key, Value{o.value, state(o.rank)});
}

void Model::find(uint32_t key) {
  Words answer(native_layout_of(shape).answer_words);
  uint32_t meta = 0;
  const int result = native_find(table.get(), words(key).data(), &meta, answer.data());
  const auto wanted = expected.find(key);
  RC_ASSERT(result == (wanted == expected.end() ? NATIVE_ABSENT : NATIVE_DONE));
  if (wanted == expected.end()) return;
  RC_ASSERT(answer == answer_words(shape, key, wanted->second.value));
  RC_ASSERT((meta & ~TABLE_VERSION_MASK) == wanted->second.state);
}

// What was found goes; what has been changed or replaced since stays.
void Model::remove_found(const Operation& o) {
  const Words key = words(o.key);
  Words answer(native_layout_of(shape).answer_words);
  uint32_t meta = 0;
  if (native_find(table.get(), key.data(), &meta, answer.data()) != NATIVE_DONE) return;
  const int location = native_locate(table.get(), key.data());
  auto& now = expected[o.key];
  if (o.value % 3 == 1) {
    now.value = o.value;
    RC_ASSERT(native_change(table.get(), key.data(), answer_words(shape, o.key, o.value).data()) == NATIVE_DONE);
  } else if (o.value % 3 == 2) {
    RC_ASSERT(native_remove(table.get(), key.data()) == NATIVE_DONE);
    now = {o.value, state(o.rank)};
    RC_ASSERT(native_insert(table.get(), key.data(), answer_words(shape, o.key, o.value).data(), state(o.rank), 0) ==
              NATIVE_DONE);
  }
  const int result = native_remove_found(table.get(), key.data(), location, meta);
  RC_ASSERT(result == (o.value % 3 ? NATIVE_ABSENT : NATIVE_DONE));
  if (o.value % 3 == 0) expected.erase(o.key);
}

// As expiry does it: whatever is in some slot.
void Model::expire(uint32_t number) {
  const std::vector<Entry> entries = entries_of(*table);
  if (entries.empty()) return;
  const Entry& entry = entries[number % entries.size()];
  RC_ASSERT(native_expire(table.get(), entry.bucket, entry.slot, 0) == 1);
  expected.erase(key_of(entry));
}

void Model::run(const Operation& o) {
  const Words key = words(o.key);
  const auto known = expected.find(o.key);
  const int wanted = known == expected.end() ? NATIVE_ABSENT : NATIVE_DONE;
  switch (o.verb) {
    case Verb::insert:
      return insert(o);
    case Verb::find:
      return find(o.key);
    case Verb::remove:
      RC_ASSERT(native_remove(table.get(), key.data()) == wanted);
      if (known != expected.end()) expected.erase(known);
      return;
    case Verb::remove_found:
      return remove_found(o);
    case Verb::change:
      RC_ASSERT(native_change(table.get(), key.data(), answer_words(shape, o.key, o.value).data()) == wanted);
      if (known != expected.end()) known->second.value = o.value;
      return;
    case Verb::add_state:
      RC_ASSERT(native_add_state(table.get(), key.data(), o.rank << 8) == wanted);
      if (known != expected.end()) known->second.state |= o.rank << 8;
      return;
    case Verb::expire:
      return expire(o.value);
  }
}

void Model::check() {
  RC_ASSERT(faults_of(table.get()) == "");
  RC_ASSERT(entries_of(*table).size() == expected.size());
  for (const auto& [key, value] : expected) find(key);
}

rc::Gen<Operation> operation(uint32_t keys) {
  // Inserts outnumber what removes, so that the table fills.
  const auto verb = rc::gen::weightedElement<Verb>({{12, Verb::insert},
                                                    {2, Verb::find},
                                                    {2, Verb::remove},
                                                    {1, Verb::remove_found},
                                                    {2, Verb::change},
                                                    {1, Verb::add_state},
                                                    {1, Verb::expire}});
  const auto rank = rc::gen::weightedOneOf<uint8_t>(
      {{1, rc::gen::just<uint8_t>(0)}, {1, rc::gen::inRange<uint8_t>(1, 4)}});
  return rc::gen::construct<Operation>(verb, rc::gen::inRange<uint32_t>(0, keys),
                                       rc::gen::inRange<uint32_t>(0, 1u << 30), rank);
}

void random_operations(native_shape shape) {
  const auto buckets = *rc::gen::element<uint32_t>(1, 2, 3, 7);
  const uint32_t keys = buckets * abi::TABLE_SLOTS * 5 / 4 + 4;
  Model model(shape, buckets, *rc::gen::arbitrary<uint64_t>());
  const auto operations = *rc::gen::container<std::vector<Operation>>(
      *rc::gen::inRange<size_t>(0, 600), operation(keys));
  for (const Operation& o : operations) {
    model.run(o);
    model.check();
  }
}

RC_GTEST_PROP(TableModel, flow4, ()) { random_operations(SHAPE_FLOW4); }
RC_GTEST_PROP(TableModel, flow6, ()) { random_operations(SHAPE_FLOW6); }
RC_GTEST_PROP(TableModel, frontend, ()) { random_operations(SHAPE_FRONTEND); }

// No random walk hits this often: the key's entry goes and comes again in another slot, whose
// version happens to be the same.
TEST(Table, what_was_found_is_known_by_its_place_too) {
  Table table(SHAPE_FLOW4, 1, 1);
  const auto key = key_words(SHAPE_FLOW4, 1);
  Words answer = answer_words(SHAPE_FLOW4, 1, 1);
  ASSERT_EQ(native_insert(table.get(), key.data(), answer.data(), kProtocol, 0), NATIVE_DONE);
  uint32_t meta = 0;
  ASSERT_EQ(native_find(table.get(), key.data(), &meta, answer.data()), NATIVE_DONE);
  const int location = native_locate(table.get(), key.data());
  ASSERT_EQ(native_remove(table.get(), key.data()), NATIVE_DONE);
  // Somebody else takes the slot.
  for (uint32_t other = 2; native_locate(table.get(), key_words(SHAPE_FLOW4, other - 1).data()) != location; ++other)
    ASSERT_EQ(native_insert(table.get(), key_words(SHAPE_FLOW4, other).data(), answer.data(), kProtocol, 0), NATIVE_DONE);
  ASSERT_EQ(native_insert(table.get(), key.data(), answer.data(), kProtocol, 0), NATIVE_DONE);
  EXPECT_EQ(native_remove_found(table.get(), key.data(), location, meta), NATIVE_ABSENT);
  EXPECT_EQ(native_remove_found(table.get(), key.data(), native_locate(table.get(), key.data()), meta), NATIVE_DONE)
      << "the slot's version is as it was in the first one, or the test tests nothing";
}

TEST(Table, a_lock_that_is_held_is_told) {
  for (const uint32_t held : {0u, 1u}) {
    Table table(SHAPE_FLOW4, 2, 1);
    uint32_t full = 0;  // so many that a bucket is crowded and inserts want both locks
    for (uint32_t key = 0; key < 50; ++key) {
      const auto answer = answer_words(SHAPE_FLOW4, key, 1);
      full += native_insert(table.get(), key_words(SHAPE_FLOW4, key).data(), answer.data(), kProtocol, 0) == NATIVE_DONE;
    }
    ASSERT_EQ(full, 50u);
    native_hold(table.get(), held);
    for (uint32_t key = 50; key < 60; ++key) {
      const auto answer = answer_words(SHAPE_FLOW4, key, 1);
      EXPECT_EQ(native_insert(table.get(), key_words(SHAPE_FLOW4, key).data(), answer.data(), kProtocol, 0), NATIVE_BUSY);
    }
    uint32_t busy = 0;
    for (uint32_t key = 0; key < 50; ++key) {
      const auto words = key_words(SHAPE_FLOW4, key);
      const bool in_held = native_locate(table.get(), words.data()) >> 5 == static_cast<int>(held);
      const int result = native_remove(table.get(), words.data());
      EXPECT_EQ(result, in_held ? NATIVE_BUSY : NATIVE_DONE);
      busy += result == NATIVE_BUSY;
    }
    EXPECT_GT(busy, 0u);
    native_release(table.get(), held);
    EXPECT_EQ(faults_of(table.get()), "") << "no lock is left, whichever was refused";
    EXPECT_EQ(entries_of(*table).size(), busy);
  }
}

}  // namespace
}  // namespace maglane::test
