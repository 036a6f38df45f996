// SPDX-License-Identifier: Apache-2.0
// The agent's side of the table of frontends, in plain memory, against the packets' side.
#include "agent/kernel/frontend_table.h"

#include <endian.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "agent/kernel/table_place.h"
#include "agent/plan/contents.h"
#include "tests/unit/kernel/packet_reader.h"

namespace maglane {
namespace {

using Outcome = FrontendTable::Outcome;

abi::frontend_key key_of(uint32_t n) {
  abi::frontend_key key{};
  key.addr_be[0] = htobe32(0x0a600000 + n / 8);
  key.port_be = htobe16(static_cast<uint16_t>(80 + n % 8));
  key.protocol = 6;
  key.family = abi::FAMILY_IPV4;
  return key;
}

// Every word tells the number.
abi::frontend value_of(uint32_t n) {
  return {n, abi::FRONTEND_CLUSTER_IP, 0, {}, {{n * 16, n % 1000}, {n * 16, n % 1000}}, n, n};
}

bool same(const abi::frontend& a, const abi::frontend& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The memory of the maps, which outlives writers.
struct Memory {
  std::vector<abi::frontend_bucket> buckets;
  std::vector<abi::frontend> values;
  abi::table_seed seed;

  Memory(uint32_t bucket_count, uint32_t value_count, uint32_t seed_number = 1)
      : buckets(bucket_count), values(value_count) {
    std::mt19937 random(seed_number);
    for (auto& word : seed.nh) word = random();
    seed.multiplier = (uint64_t{random()} << 32 | random()) | 1;
  }
  FrontendTable open() { return FrontendTable(buckets, values, &seed); }
  abi::packet_reader reader() { return {buckets.data(), static_cast<uint32_t>(buckets.size()), &seed}; }
  // What a packet to the key finds; 0: no such frontend.
  uint32_t packet_finds(const abi::frontend_key& key, bool from_home = false) {
    const auto as_packets = reader();
    return abi::packet_reader_find(&as_packets, &key, from_home);
  }
  maglane_table_place place(const abi::frontend_key& key) const {
    return maglane_table_place_of(MAGLANE_TABLE_FRONTENDS, &seed, &key,
                                  static_cast<uint32_t>(buckets.size()));
  }
  uint8_t* tags(uint32_t bucket) { return reinterpret_cast<uint8_t*>(buckets[bucket].header.tags); }
};

std::string key_text(const abi::frontend_key& key) {
  return {reinterpret_cast<const char*>(&key), sizeof key};
}

// What agent and packets find is `model`, and nothing else is there.
::testing::AssertionResult holds(Memory& memory, const FrontendTable& table,
                                 const std::map<uint32_t, uint32_t>& model, uint32_t keys) {
  std::set<uint32_t> values;
  for (uint32_t n = 0; n < keys; ++n) {
    const auto key = key_of(n);
    const auto expected = model.find(n);
    const auto found = table.find(key);
    const uint32_t value = memory.packet_finds(key);
    if (memory.packet_finds(key, true) != value)
      return ::testing::AssertionFailure() << "key " << n << ": found from its home, but not by its tag, or the reverse";
    if (expected == model.end()) {
      if (found || value != 0) return ::testing::AssertionFailure() << "key " << n << " is found";
      continue;
    }
    if (!found || !same(*found, value_of(expected->second)))
      return ::testing::AssertionFailure() << "key " << n << ": not what was put";
    if (value == 0 || !same(memory.values[value], value_of(expected->second)))
      return ::testing::AssertionFailure() << "key " << n << ": a packet finds value " << value;
    if (!values.insert(value).second) return ::testing::AssertionFailure() << "two keys share " << value;
  }
  std::set<std::string> visited;
  table.each([&](const abi::frontend_key& key, const abi::frontend&) { visited.insert(key_text(key)); });
  if (visited.size() != model.size() || table.size() != model.size())
    return ::testing::AssertionFailure() << visited.size() << " visited, size " << table.size() << ", not "
                                         << model.size();
  return ::testing::AssertionSuccess();
}

TEST(FrontendTable, PutFindChangeRemove) {
  Memory memory(4, 64);
  FrontendTable table = memory.open();
  EXPECT_FALSE(table.find(key_of(1)));
  EXPECT_EQ(table.put(key_of(1), value_of(1)), Outcome::done);
  EXPECT_EQ(table.put(key_of(2), value_of(2)), Outcome::done);
  EXPECT_TRUE(holds(memory, table, {{1, 1}, {2, 2}}, 10));
  EXPECT_EQ(table.put(key_of(1), value_of(7)), Outcome::done);
  EXPECT_TRUE(holds(memory, table, {{1, 7}, {2, 2}}, 10));
  table.remove(key_of(1));
  table.remove(key_of(1));
  table.remove(key_of(9));
  EXPECT_TRUE(holds(memory, table, {{2, 2}}, 10));
  EXPECT_EQ(table.capacity(), 4U * abi::TABLE_SLOTS);
}

TEST(FrontendTable, FullBucketsRefuseAndChangeNothing) {
  Memory memory(2, 200);
  FrontendTable table = memory.open();
  std::map<uint32_t, uint32_t> model;
  uint32_t n = 0;
  for (; table.put(key_of(n), value_of(n)) == Outcome::done; ++n) model[n] = n;
  EXPECT_EQ(n, table.capacity()) << "either bucket takes what the other cannot";
  EXPECT_TRUE(holds(memory, table, model, n + 1));
  EXPECT_EQ(table.put(key_of(3), value_of(500)), Outcome::done) << "a change needs no slot";
  model[3] = 500;
  EXPECT_TRUE(holds(memory, table, model, n + 1));
}

TEST(FrontendTable, WithoutAFreeValueNothingChanges) {
  Memory memory(4, 3);
  FrontendTable table = memory.open();
  EXPECT_EQ(table.put(key_of(1), value_of(1)), Outcome::done);
  EXPECT_EQ(table.put(key_of(2), value_of(2)), Outcome::done);
  EXPECT_EQ(table.put(key_of(1), value_of(3)), Outcome::full);
  EXPECT_EQ(table.put(key_of(3), value_of(3)), Outcome::full);
  EXPECT_TRUE(holds(memory, table, {{1, 1}, {2, 2}}, 10));
  table.remove(key_of(2));
  EXPECT_EQ(table.put(key_of(1), value_of(3)), Outcome::full) << "a packet may still read what was removed";
  table.release_retired();
  EXPECT_EQ(table.put(key_of(1), value_of(3)), Outcome::done);
  EXPECT_TRUE(holds(memory, table, {{1, 3}}, 10));
}

// The share that data_plane_config counts on.
TEST(FrontendTable, TakesFivePartsInSixWhateverTheSeed) {
  constexpr uint32_t kBuckets = 1000;
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    Memory memory(kBuckets, kBuckets * abi::TABLE_SLOTS, seed);
    FrontendTable table = memory.open();
    for (uint32_t n = 0; n < kBuckets * abi::TABLE_SLOTS * 85 / 100; ++n)
      ASSERT_EQ(table.put(key_of(n), value_of(n)), Outcome::done) << n << ", seed " << seed;
  }
}

TEST(FrontendTable, WhatIsRetiredIsNotGivenOutBeforeItsRelease) {
  Memory memory(2, 40);
  FrontendTable table = memory.open();
  for (uint32_t n = 0; n < 10; ++n) ASSERT_EQ(table.put(key_of(n), value_of(n)), Outcome::done);
  std::map<uint32_t, abi::frontend> old_values;
  for (uint32_t n = 0; n < 10; ++n) {
    const uint32_t value = memory.packet_finds(key_of(n));
    old_values[value] = memory.values[value];
  }
  const auto old_buckets = memory.buckets;
  const abi::frontend_key first_key = key_of(0);
  for (uint32_t n = 0; n < 5; ++n) table.remove(key_of(n));
  for (uint32_t n = 5; n < 10; ++n) ASSERT_EQ(table.put(key_of(n), value_of(n + 100)), Outcome::done);
  EXPECT_TRUE(table.has_retired());
  for (uint32_t n = 20; table.put(key_of(n), value_of(n)) == Outcome::done; ++n) {
  }
  for (const auto& [value, frontend] : old_values)
    EXPECT_TRUE(same(memory.values[value], frontend)) << "value " << value;
  for (uint32_t bucket = 0; bucket < 2; ++bucket)
    for (uint32_t slot = 0; slot < abi::TABLE_SLOTS; ++slot) {
      const auto& old = old_buckets[bucket].entries[slot];
      if (reinterpret_cast<const uint8_t*>(old_buckets[bucket].header.tags)[slot] == 0) continue;
      const bool removed = std::memcmp(old.key.addr_be, first_key.addr_be, sizeof first_key.addr_be) == 0 &&
                           be16toh(old.key.port_be) < 85;
      if (removed) {
        EXPECT_EQ(memory.tags(bucket)[slot], 0) << "slot " << slot;
        EXPECT_EQ(memory.buckets[bucket].entries[slot].value, old.value);
      }
    }
  table.release_retired();
  EXPECT_FALSE(table.has_retired());
  EXPECT_EQ(table.put(key_of(1000), value_of(1000)), Outcome::done);
}

// ---- after a writer that died ----------------------------------------------------------

TEST(FrontendTable, TheNextWriterFindsWhatThisOneWrote) {
  Memory memory(8, 400);
  std::map<uint32_t, uint32_t> model;
  {
    FrontendTable table = memory.open();
    for (uint32_t n = 0; n < 150; ++n) {
      ASSERT_EQ(table.put(key_of(n), value_of(n)), Outcome::done);
      model[n] = n;
    }
    table.remove(key_of(5));
    model.erase(5);
  }
  FrontendTable table = memory.open();
  EXPECT_TRUE(holds(memory, table, model, 200));
  for (uint32_t n = 0; n < 150; n += 3) {
    ASSERT_EQ(table.put(key_of(n), value_of(n + 1000)), Outcome::done);
    model[n] = n + 1000;
  }
  EXPECT_TRUE(holds(memory, table, model, 200));
}

TEST(FrontendTable, AValueThatNothingLeadsToIsFreeAgain) {
  Memory memory(4, 3);
  memory.values[1] = value_of(77);  // written, and then the writer died
  memory.values[2] = value_of(78);
  FrontendTable table = memory.open();
  EXPECT_EQ(table.put(key_of(1), value_of(1)), Outcome::done);
  EXPECT_EQ(table.put(key_of(2), value_of(2)), Outcome::done);
  EXPECT_TRUE(holds(memory, table, {{1, 1}, {2, 2}}, 10));
}

// What a dead writer may have left: the tags of `from` with, or without, the accounts and the
// entries of `to`. A put stores its tag last, a removal first.
Memory torn(const Memory& from, const Memory& to, bool accounts, bool entries) {
  Memory result = from;
  result.values = to.values;
  for (uint32_t bucket = 0; bucket < from.buckets.size(); ++bucket) {
    if (accounts) {
      result.buckets[bucket].header.overflow = to.buckets[bucket].header.overflow;
      result.buckets[bucket].header.foreign = to.buckets[bucket].header.foreign;
    }
    if (entries)
      std::memcpy(result.buckets[bucket].entries, to.buckets[bucket].entries,
                  sizeof result.buckets[bucket].entries);
  }
  return result;
}

// From what there is to full and back to nothing: the accounts must come out even.
void expect_usable(Memory& memory, std::map<uint32_t, uint32_t> model) {
  FrontendTable table = memory.open();
  EXPECT_TRUE(holds(memory, table, model, 100));
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t n = 0; n < 62; ++n)
      if (table.put(key_of(n), value_of(n)) == Outcome::done) model[n] = n;
    EXPECT_TRUE(holds(memory, table, model, 100));
    for (uint32_t n = 0; n < 62; ++n) table.remove(key_of(n));
    table.release_retired();
    model.clear();
    EXPECT_TRUE(holds(memory, table, model, 100));
  }
  for (const auto& bucket : memory.buckets) {
    EXPECT_EQ(bucket.header.overflow, 0U);
    EXPECT_EQ(bucket.header.foreign, 0U);
  }
}

TEST(FrontendTable, WriterMayDieInAPutAndInARemoval) {
  for (uint32_t filled = 0; filled < 62; ++filled) {
    Memory without(2, 200);
    std::map<uint32_t, uint32_t> model;
    FrontendTable writer = without.open();
    for (uint32_t n = 0; n < filled; ++n) {
      ASSERT_EQ(writer.put(key_of(n), value_of(n)), Outcome::done);
      model[n] = n;
    }
    Memory with = without;
    FrontendTable finished = with.open();
    ASSERT_EQ(finished.put(key_of(filled), value_of(filled)), Outcome::done);
    // In both cases the key is not there: its tag is not.
    for (const bool accounts : {false, true}) {
      for (const bool entries : {false, true}) {
        SCOPED_TRACE(std::to_string(filled) + (accounts ? " accounts" : "") + (entries ? " entries" : ""));
        Memory left = torn(without, with, accounts, entries);
        expect_usable(left, model);
      }
    }
  }
}

// Three keys of tag 1 in slots side by side. The test for a zero byte marks the slot after a
// hit too if its tag differs in the lowest bit alone: a free slot is looked at.
TEST(FrontendTable, WhatWasRemovedIsNotFoundInItsFreeSlot) {
  Memory memory(4, 64);
  std::vector<abi::frontend_key> keys;
  for (uint32_t n = 0; keys.size() < 2; ++n) {
    const auto place = memory.place(key_of(n));
    if (place.tag == 1 && place.first == 0 && place.home == keys.size()) keys.push_back(key_of(n));
  }
  for (const bool dies : {false, true}) {
    FrontendTable table = memory.open();
    for (const auto& key : keys) ASSERT_EQ(table.put(key, value_of(1)), Outcome::done);
    ASSERT_EQ(memory.tags(0)[0], 1);
    ASSERT_EQ(memory.tags(0)[1], 1);
    if (dies) {
      memory.tags(0)[1] = 0;  // the first store of a removal
      table = memory.open();
      ASSERT_EQ(table.put(key_of(0), value_of(1)), Outcome::done);
    } else {
      table.remove(keys[1]);
    }
    EXPECT_NE(memory.packet_finds(keys[0]), 0U);
    EXPECT_EQ(memory.packet_finds(keys[1]), 0U);
    table.remove(keys[0]);
    table.remove(key_of(0));
    table.release_retired();
  }
}

TEST(FrontendTable, EntriesOfAnotherSeedAreNotTakenForFrontends) {
  Memory memory(64, 400);
  FrontendTable table = memory.open();
  for (uint32_t n = 0; n < 200; ++n) ASSERT_EQ(table.put(key_of(n), value_of(n)), Outcome::done);
  memory.seed = Memory(1, 1, 2).seed;
  FrontendTable next = memory.open();
  std::map<uint32_t, uint32_t> model;
  for (uint32_t n = 0; n < 200; ++n) {
    ASSERT_EQ(next.put(key_of(n), value_of(n + 1)), Outcome::done);
    model[n] = n + 1;
  }
  EXPECT_TRUE(holds(memory, next, model, 300));
}

TEST(FrontendTable, GarbageDoesNoHarm) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    Memory memory(4, 50);
    for (auto& bucket : memory.buckets)
      for (size_t i = 0; i < sizeof bucket; ++i)
        reinterpret_cast<uint8_t*>(&bucket)[i] = static_cast<uint8_t>(random());
    FrontendTable table = memory.open();
    table.each([](const abi::frontend_key&, const abi::frontend&) {});
    (void)table.find(key_of(1));
    for (uint32_t n = 0; n < 100; ++n) {
      (void)table.put(key_of(n), value_of(n));
      if (n % 3 == 0) table.remove(key_of(n / 2));
      if (n % 7 == 0) table.release_retired();
    }
  }
}

// ---- against a model ---------------------------------------------------------------------

RC_GTEST_PROP(FrontendTable, IsAMap, ()) {
  constexpr uint32_t kKeys = 80;
  Memory memory(*rc::gen::inRange<uint32_t>(2, 6), *rc::gen::inRange<uint32_t>(2, 120),
                *rc::gen::inRange<uint32_t>(0, 1000));
  FrontendTable table = memory.open();
  std::map<uint32_t, uint32_t> model;
  const auto steps = *rc::gen::container<std::vector<std::pair<uint8_t, uint32_t>>>(
      rc::gen::pair(rc::gen::inRange<uint8_t>(0, 20), rc::gen::inRange<uint32_t>(0, kKeys)));
  uint32_t number = 0;
  for (const auto& [what, n] : steps) {
    if (what < 10) {
      if (table.put(key_of(n), value_of(++number)) == Outcome::done) model[n] = number;
    } else if (what < 17) {
      table.remove(key_of(n));
      model.erase(n);
    } else if (what < 19) {
      table.release_retired();
    } else {
      table = memory.open();  // the agent was replaced
    }
    const auto good = holds(memory, table, model, kKeys);
    RC_ASSERT(static_cast<bool>(good));
  }
}

// ---- beside packets -----------------------------------------------------------------------

// A packet at work: odd while it may hold on to what it found.
class Packets {
 public:
  explicit Packets(Memory& memory, uint32_t keys) : memory_(memory), keys_(keys), thread_([this] { run(); }) {}
  ~Packets() { stop(); }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void wait_grace_period() const {
    const uint64_t at = section_.load();
    while (at % 2 != 0 && section_.load() == at) std::this_thread::yield();
  }
  uint64_t mixed() const { return mixed_; }
  uint64_t found() const { return found_; }
  uint64_t strays() const { return strays_; }

 private:
  void run() {
    std::mt19937 random(9);
    while (!stop_) {
      const uint32_t n = random() % keys_;
      ++section_;
      const uint32_t value = memory_.packet_finds(key_of(n), random() % 2 != 0);
      if (value != 0) {
        const abi::frontend copy = memory_.values[value];
        const uint32_t number = copy.service_id;
        ++found_;
        if (!same(copy, value_of(number))) ++mixed_;
        if (number % keys_ != n) ++strays_;
      }
      ++section_;
    }
  }

  Memory& memory_;
  const uint32_t keys_;
  std::atomic<uint64_t> section_{0};
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> found_{0};
  std::atomic<uint64_t> mixed_{0};
  std::atomic<uint64_t> strays_{0};
  std::thread thread_;
};

TEST(FrontendTable, PacketsSeeTheOldValueOrTheNewOneWhole) {
  constexpr uint32_t kKeys = 90;
  Memory memory(4, 140);
  FrontendTable table = memory.open();
  Packets packets(memory, kKeys);
  std::mt19937 random(4);
  const auto begin = std::chrono::steady_clock::now();
  const auto lasted = [&](std::chrono::milliseconds span) { return std::chrono::steady_clock::now() - begin > span; };
  // Longer on a busy machine, where this thread may have the CPU that the packets need.
  const auto go_on = [&] {
    return !lasted(std::chrono::milliseconds(700)) || (packets.found() <= 1000 && !lasted(std::chrono::minutes(1)));
  };
  for (uint32_t number = 0; go_on(); ++number) {
    const uint32_t n = random() % kKeys;
    if (random() % 4 == 0) {
      table.remove(key_of(n));
      continue;
    }
    // Each value's number tells whose it is.
    if (table.put(key_of(n), value_of(number % 40000 * kKeys + n)) == Outcome::done) continue;
    packets.wait_grace_period();
    table.release_retired();
  }
  packets.stop();
  EXPECT_GT(packets.found(), 1000U);
  EXPECT_EQ(packets.mixed(), 0U);
  EXPECT_EQ(packets.strays(), 0U);
}

}  // namespace
}  // namespace maglane
