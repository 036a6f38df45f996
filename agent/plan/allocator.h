// SPDX-License-Identifier: Apache-2.0
//
// Who has which part of the map "maglev", and which backend and service ids are in use.
//
// What is given back may still be read by a running program, or be in the kernel because the
// operations that remove it were not applied yet. So it is *retired*, under the generation of
// the plan that no longer has it, and handed out again only after release_retired() for that
// generation or a later one: the caller has then applied that plan and waited for a grace
// period.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "agent/base/result.h"

namespace maglane {

// A run of entries of the map "maglev".
struct EntryRange {
  uint32_t offset = 0;
  uint32_t entries = 0;
  auto operator<=>(const EntryRange&) const = default;
};

// Best fit over whole lines of MAGLEV_LINE_ENTRIES, neighbours merged; O(log n).
class RangeAllocator {
 public:
  explicit RangeAllocator(uint32_t capacity_entries);

  // REQUIRES: entries > 0. The offset is on a line. Fails with a line that says what is
  // asked, what is used, what waits for release, and the option to raise.
  Result<uint32_t> allocate(uint32_t entries);
  // Takes this very range (recovery). Fails if it is out of bounds or not wholly free.
  Status reserve(EntryRange range);
  // REQUIRES: the range is allocated or reserved.
  void retire(EntryRange range, uint64_t generation);
  // Gives back at once what no plan ever had.
  void cancel(EntryRange range);
  void release_retired(uint64_t generation);

  uint32_t capacity() const { return capacity_lines_ * line; }
  uint32_t used() const { return used_lines_ * line; }  // without what is retired
  uint32_t retired() const { return retired_lines_ * line; }

 private:
  static constexpr uint32_t line = 16;  // MAGLEV_LINE_ENTRIES
  struct Lines {
    uint32_t first;
    uint32_t count;
  };
  struct Retired {
    uint64_t generation;
    Lines lines;
  };
  static Lines lines_of(EntryRange range);
  void add_free(Lines lines);
  void remove_free(std::map<uint32_t, uint32_t>::iterator it);

  uint32_t capacity_lines_;
  uint32_t used_lines_ = 0;
  uint32_t retired_lines_ = 0;
  std::map<uint32_t, uint32_t> free_;                     // first line -> count
  std::set<std::pair<uint32_t, uint32_t>> free_by_size_;  // (count, first line)
  std::deque<Retired> retired_;                           // generations ascending
};

// Ids from 1 to `last`. Never used ones first, so that an id in a log or in an old flow
// names the same thing for as long as possible.
class IdAllocator {
 public:
  IdAllocator(uint32_t last, std::string what);  // "service", for the error text

  Result<uint32_t> allocate();
  bool reserve(uint32_t id);  // false: out of bounds or in use
  void retire(uint32_t id, uint64_t generation);
  void cancel(uint32_t id);
  void release_retired(uint64_t generation);
  uint32_t used() const { return used_; }  // without what is retired
  uint32_t retired() const { return static_cast<uint32_t>(retired_.size()); }

 private:
  struct Retired {
    uint64_t generation;
    uint32_t id;
  };
  uint32_t last_;
  std::string what_;
  uint32_t next_ = 1;    // no id from here on was ever used
  uint32_t cursor_ = 1;  // where the search among free ids goes on
  uint32_t used_ = 0;
  std::set<uint32_t> free_;  // below next_
  std::deque<Retired> retired_;
};

// Counts entries of a map of limited size that has no ids: what is removed counts until
// the kernel has seen the removal.
class EntryBudget {
 public:
  EntryBudget(uint32_t limit, std::string what);  // "frontends", for the error text

  Status add(uint32_t entries);
  void add_existing(uint32_t entries) { used_ += entries; }  // found in the map: no question of room
  void retire(uint32_t entries, uint64_t generation);
  void cancel(uint32_t entries) { used_ -= entries; }
  void release_retired(uint64_t generation);
  uint32_t used() const { return used_; }
  uint32_t retired() const { return retired_total_; }

 private:
  struct Retired {
    uint64_t generation;
    uint32_t entries;
  };
  uint32_t limit_;
  std::string what_;
  uint32_t used_ = 0;
  uint32_t retired_total_ = 0;
  std::deque<Retired> retired_;
};

}  // namespace maglane
