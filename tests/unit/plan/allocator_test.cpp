// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace maglane {
namespace {

using testing::HasSubstr;

TEST(RangeAllocator, StartsOnLines) {
  RangeAllocator ranges(160);
  EXPECT_EQ(*ranges.allocate(1), 0U);
  EXPECT_EQ(*ranges.allocate(17), 16U);
  EXPECT_EQ(*ranges.allocate(16), 48U);
  EXPECT_EQ(ranges.used(), 64U);
}

TEST(RangeAllocator, TakesTheTightestRun) {
  RangeAllocator ranges(160);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(ranges.allocate(16).ok());
  ranges.cancel({16, 48});
  ranges.cancel({96, 16});
  EXPECT_EQ(*ranges.allocate(16), 96U);
  EXPECT_EQ(*ranges.allocate(48), 16U);
}

TEST(RangeAllocator, RetiredIsNotHandedOutBeforeItsRelease) {
  RangeAllocator ranges(32);
  ASSERT_EQ(*ranges.allocate(16), 0U);
  ASSERT_EQ(*ranges.allocate(16), 16U);
  ranges.retire({0, 16}, 5);
  ranges.retire({16, 16}, 6);
  EXPECT_FALSE(ranges.allocate(16).ok());
  ranges.release_retired(4);
  EXPECT_FALSE(ranges.allocate(16).ok());
  ranges.release_retired(5);
  EXPECT_EQ(*ranges.allocate(16), 0U);
  EXPECT_FALSE(ranges.allocate(16).ok());
}

TEST(RangeAllocator, FullSaysWhatAndHow) {
  RangeAllocator ranges(64);
  ASSERT_TRUE(ranges.allocate(30).ok());
  ranges.retire({0, 30}, 1);
  ASSERT_TRUE(ranges.allocate(16).ok());
  const auto failed = ranges.allocate(1601);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message,
            "no room for a Maglev table of 1601 entries: 16 of 64 are used, 32 wait for release, the largest "
            "free run has 16; raise --maglev-entries");
}

TEST(RangeAllocator, ReservesOnlyWhatIsFree) {
  RangeAllocator ranges(64);
  EXPECT_TRUE(ranges.reserve({16, 20}).ok());
  EXPECT_FALSE(ranges.reserve({32, 16}).ok());
  EXPECT_FALSE(ranges.reserve({0, 32}).ok());
  EXPECT_FALSE(ranges.reserve({48, 17}).ok());
  EXPECT_FALSE(ranges.reserve({0xfffffff0, 0xffffffff}).ok());
  EXPECT_FALSE(ranges.reserve({0, 0}).ok());
  EXPECT_EQ(*ranges.allocate(16), 0U);
  EXPECT_EQ(*ranges.allocate(16), 48U);
}

// One flag a line: what the allocator must agree with.
struct NaiveRanges {
  enum State { free, used, retired };
  std::vector<State> lines = std::vector<State>(64, free);

  bool has_run(uint32_t count) const {
    uint32_t run = 0;
    for (const State state : lines) {
      run = state == free ? run + 1 : 0;
      if (run >= count) return true;
    }
    return false;
  }
  void mark(EntryRange range, State state) {
    for (uint32_t i = range.offset / 16; i < (range.offset + range.entries + 15) / 16; ++i) lines[i] = state;
  }
  bool all(EntryRange range, State state) const {
    for (uint32_t i = range.offset / 16; i < (range.offset + range.entries + 15) / 16; ++i)
      if (i >= lines.size() || lines[i] != state) return false;
    return true;
  }
};

RC_GTEST_PROP(RangeAllocator, AgreesWithANaiveModel, ()) {
  RangeAllocator ranges(64 * 16);
  NaiveRanges naive;
  std::vector<EntryRange> held;
  std::vector<std::pair<uint64_t, EntryRange>> retired;
  uint64_t generation = 1;
  const int steps = *rc::gen::inRange(1, 120);
  for (int step = 0; step < steps; ++step) {
    switch (*rc::gen::inRange(0, 8)) {
      case 0: {
        const EntryRange range{*rc::gen::inRange(0U, 66U) * 16, *rc::gen::inRange(1U, 100U)};
        const bool free = naive.all(range, NaiveRanges::free);
        RC_ASSERT(ranges.reserve(range).ok() == free);
        if (!free) break;
        naive.mark(range, NaiveRanges::used);
        held.push_back(range);
        break;
      }
      case 1:
      case 2: {
        if (held.empty()) break;
        const size_t index = *rc::gen::inRange<size_t>(0, held.size());
        const EntryRange range = held[index];
        held.erase(held.begin() + static_cast<long>(index));
        if (*rc::gen::arbitrary<bool>()) {
          ranges.retire(range, generation);
          naive.mark(range, NaiveRanges::retired);
          retired.emplace_back(generation, range);
        } else {
          ranges.cancel(range);
          naive.mark(range, NaiveRanges::free);
        }
        break;
      }
      case 3: {
        const uint64_t upto = generation - *rc::gen::inRange(0U, 2U);
        ranges.release_retired(upto);
        for (const auto& [at, range] : retired)
          if (at <= upto) naive.mark(range, NaiveRanges::free);
        std::erase_if(retired, [&](const auto& entry) { return entry.first <= upto; });
        ++generation;
        break;
      }
      default: {
        const uint32_t entries = *rc::gen::inRange(1U, 200U);
        const auto offset = ranges.allocate(entries);
        RC_ASSERT(offset.ok() == naive.has_run((entries + 15) / 16));
        if (!offset.ok()) break;
        RC_ASSERT(naive.all({*offset, entries}, NaiveRanges::free));
        naive.mark({*offset, entries}, NaiveRanges::used);
        held.push_back({*offset, entries});
      }
    }
    RC_ASSERT(ranges.used() == 16 * std::count(naive.lines.begin(), naive.lines.end(), NaiveRanges::used));
    RC_ASSERT(ranges.retired() ==
              16 * std::count(naive.lines.begin(), naive.lines.end(), NaiveRanges::retired));
  }
}

TEST(IdAllocator, NeverZeroAndFreshFirst) {
  IdAllocator ids(3, "backend");
  EXPECT_EQ(*ids.allocate(), 1U);
  ids.cancel(1);
  EXPECT_EQ(*ids.allocate(), 2U);
  EXPECT_EQ(*ids.allocate(), 3U);
  EXPECT_EQ(*ids.allocate(), 1U);
  EXPECT_THAT(ids.allocate().error().message,
              HasSubstr("3 of 3 that are possible are there, 0 wait for release"));
}

TEST(IdAllocator, RetiredWaitsForItsGeneration) {
  IdAllocator ids(1, "service");
  ASSERT_TRUE(ids.allocate().ok());
  ids.retire(1, 7);
  EXPECT_FALSE(ids.allocate().ok());
  ids.release_retired(6);
  EXPECT_FALSE(ids.allocate().ok());
  ids.release_retired(7);
  EXPECT_EQ(*ids.allocate(), 1U);
}

TEST(IdAllocator, ReservesOnce) {
  IdAllocator ids(9, "service");
  EXPECT_TRUE(ids.reserve(5));
  EXPECT_TRUE(ids.reserve(2));
  EXPECT_FALSE(ids.reserve(5));
  EXPECT_FALSE(ids.reserve(0));
  EXPECT_FALSE(ids.reserve(10));
  EXPECT_EQ(*ids.allocate(), 6U);
  EXPECT_EQ(ids.used(), 3U);
}

TEST(EntryBudget, CountsWhatIsLeaving) {
  EntryBudget budget(10, "frontends");
  ASSERT_TRUE(budget.add(8).ok());
  budget.retire(5, 1);
  EXPECT_THAT(
      budget.add(3).error().message,
      HasSubstr("no room for 3 more frontends: 3 of 10 that are possible are there, 5 wait for release"));
  budget.release_retired(1);
  EXPECT_TRUE(budget.add(7).ok());
}

}  // namespace
}  // namespace maglane
