// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/allocator.h"

#include <fmt/format.h>

#include <cassert>
#include <utility>

#include "bpf/abi.h"

namespace maglane {

RangeAllocator::RangeAllocator(uint32_t capacity_entries) : capacity_lines_(capacity_entries / line) {
  static_assert(line == abi::MAGLEV_LINE_ENTRIES);
  if (capacity_lines_ > 0) add_free({0, capacity_lines_});
}

RangeAllocator::Lines RangeAllocator::lines_of(EntryRange range) {
  const uint32_t first = range.offset / line;
  const uint64_t end = (static_cast<uint64_t>(range.offset) + range.entries + line - 1) / line;
  return {first, static_cast<uint32_t>(end - first)};
}

void RangeAllocator::remove_free(std::map<uint32_t, uint32_t>::iterator it) {
  free_by_size_.erase({it->second, it->first});
  free_.erase(it);
}

void RangeAllocator::add_free(Lines lines) {
  auto after = free_.lower_bound(lines.first);
  if (after != free_.end() && after->first == lines.first + lines.count) {
    lines.count += after->second;
    remove_free(std::exchange(after, std::next(after)));
  }
  if (after != free_.begin()) {
    const auto before = std::prev(after);
    assert(before->first + before->second <= lines.first);
    if (before->first + before->second == lines.first) {
      lines = {before->first, before->second + lines.count};
      remove_free(before);
    }
  }
  free_.emplace(lines.first, lines.count);
  free_by_size_.emplace(lines.count, lines.first);
}

Result<uint32_t> RangeAllocator::allocate(uint32_t entries) {
  assert(entries > 0);
  const uint32_t count = lines_of({0, entries}).count;
  const auto fit = free_by_size_.lower_bound({count, 0});
  if (fit == free_by_size_.end()) {
    const uint32_t largest = free_by_size_.empty() ? 0 : free_by_size_.rbegin()->first * line;
    return Error{
        fmt::format("no room for a Maglev table of {} entries: {} of {} are used, {} wait for release, the "
                    "largest free run "
                    "has {}; raise --maglev-entries",
                    entries, used(), capacity(), retired(), largest)};
  }
  const auto [found, first] = *fit;
  remove_free(free_.find(first));
  if (found > count) add_free({first + count, found - count});
  used_lines_ += count;
  return first * line;
}

Status RangeAllocator::reserve(EntryRange range) {
  const Lines lines = lines_of(range);
  auto it = free_.upper_bound(lines.first);
  const bool found =
      range.entries > 0 && it != free_.begin() &&
      (--it)->first + static_cast<uint64_t>(it->second) >= static_cast<uint64_t>(lines.first) + lines.count;
  if (!found)
    return Error{fmt::format("entries {}+{} of the Maglev array are out of bounds or in use", range.offset,
                             range.entries)};
  const auto [first, count] = *it;
  remove_free(it);
  if (lines.first > first) add_free({first, lines.first - first});
  const uint32_t end = lines.first + lines.count;
  if (first + count > end) add_free({end, first + count - end});
  used_lines_ += lines.count;
  return ok_status();
}

void RangeAllocator::retire(EntryRange range, uint64_t generation) {
  const Lines lines = lines_of(range);
  used_lines_ -= lines.count;
  retired_lines_ += lines.count;
  retired_.push_back({generation, lines});
}

void RangeAllocator::cancel(EntryRange range) {
  const Lines lines = lines_of(range);
  used_lines_ -= lines.count;
  add_free(lines);
}

void RangeAllocator::release_retired(uint64_t generation) {
  for (; !retired_.empty() && retired_.front().generation <= generation; retired_.pop_front()) {
    retired_lines_ -= retired_.front().lines.count;
    add_free(retired_.front().lines);
  }
}

IdAllocator::IdAllocator(uint32_t last, std::string what) : last_(last), what_(std::move(what)) {}

Result<uint32_t> IdAllocator::allocate() {
  if (next_ <= last_) {
    ++used_;
    return next_++;
  }
  auto it = free_.lower_bound(cursor_);
  if (it == free_.end()) it = free_.begin();
  if (it == free_.end())
    return Error{
        fmt::format("no room for one more {}: {} of {} that are possible are there, {} wait for release",
                    what_, used_, last_, retired_.size())};
  const uint32_t id = *it;
  free_.erase(it);
  cursor_ = id + 1;
  ++used_;
  return id;
}

bool IdAllocator::reserve(uint32_t id) {
  if (id == 0 || id > last_) return false;
  if (id < next_) {
    if (free_.erase(id) == 0) return false;
  } else {
    for (; next_ < id; ++next_) free_.insert(free_.end(), next_);
    ++next_;
  }
  ++used_;
  return true;
}

void IdAllocator::retire(uint32_t id, uint64_t generation) {
  --used_;
  retired_.push_back({generation, id});
}

void IdAllocator::cancel(uint32_t id) {
  --used_;
  free_.insert(id);
}

void IdAllocator::release_retired(uint64_t generation) {
  for (; !retired_.empty() && retired_.front().generation <= generation; retired_.pop_front())
    free_.insert(retired_.front().id);
}

EntryBudget::EntryBudget(uint32_t limit, std::string what) : limit_(limit), what_(std::move(what)) {}

Status EntryBudget::add(uint32_t entries) {
  if (static_cast<uint64_t>(used_) + retired_total_ + entries > limit_)
    return Error{
        fmt::format("no room for {} more {}: {} of {} that are possible are there, {} wait for release",
                    entries, what_, used_, limit_, retired_total_)};
  used_ += entries;
  return ok_status();
}

void EntryBudget::retire(uint32_t entries, uint64_t generation) {
  if (entries == 0) return;
  used_ -= entries;
  retired_total_ += entries;
  retired_.push_back({generation, entries});
}

void EntryBudget::release_retired(uint64_t generation) {
  for (; !retired_.empty() && retired_.front().generation <= generation; retired_.pop_front())
    retired_total_ -= retired_.front().entries;
}

}  // namespace maglane
