// SPDX-License-Identifier: Apache-2.0
//
// The table of frontends, written in place in the memory that packets read: no system call,
// no lock. bpf/abi.h says how it is laid out. One writer at a time (the agent).
//
// A packet sees each frontend's old value or its new one, whole: a new value is written
// beside the old one and one store leads to it. What a packet may still be reading, a slot
// or a value that is no longer wanted, is retired, and given out again only after a grace
// period (release_retired). A writer may die at any instruction: what it left half done, the
// next one finishes before its first change.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "agent/kernel/table_place.h"
#include "bpf/abi.h"

namespace maglane {

class FrontendTable {
 public:
  FrontendTable() = default;
  // The memory and the seed must outlive the object.
  FrontendTable(std::span<abi::frontend_bucket> buckets, std::span<abi::frontend> values,
                const abi::table_seed* seed);

  enum class Outcome {
    done,
    full,  // nothing changed: no slot in the key's two buckets, or no value, is free
  };
  Outcome put(const abi::frontend_key& key, const abi::frontend& frontend);
  // A key that is not there counts as removed.
  void remove(const abi::frontend_key& key);

  std::optional<abi::frontend> find(const abi::frontend_key& key) const;
  void each(const std::function<void(const abi::frontend_key&, const abi::frontend&)>& visit) const;
  uint32_t size() const;
  uint32_t capacity() const { return static_cast<uint32_t>(buckets_.size()) * abi::TABLE_SLOTS; }

  bool has_retired() const { return !retired_slots_.empty() || !retired_values_.empty(); }
  // REQUIRES: an RCU grace period since the last put or remove.
  void release_retired();

 private:
  struct Slot {
    uint32_t bucket;
    uint32_t slot;
    auto operator<=>(const Slot&) const = default;
  };

  void take_over();
  void drop_unreachable();
  void count_foreign();
  std::optional<Slot> slot_of(const abi::frontend_key& key) const;
  bool is_reachable(Slot slot, const abi::frontend_key& key) const;
  bool is_free(Slot slot) const;
  uint32_t slots_used(uint32_t bucket) const;
  std::optional<Slot> free_slot(const maglane_table_place& place) const;
  std::optional<uint32_t> take_value();
  void retire_value(uint32_t value);
  void set_foreign(Slot slot, uint32_t first);
  std::optional<std::pair<abi::frontend_key, abi::frontend>> read(Slot slot) const;
  abi::frontend_entry& entry(Slot slot) const { return buckets_[slot.bucket].entries[slot.slot]; }

  std::span<abi::frontend_bucket> buckets_;
  std::span<abi::frontend> values_;
  const abi::table_seed* seed_ = nullptr;
  std::vector<uint32_t> free_values_;
  bool taken_over_ = false;  // on the first change: readers never do it
  std::vector<uint32_t> retired_values_;
  std::vector<Slot> retired_slots_;
  std::vector<uint32_t> retired_bits_;  // by bucket, a bit a slot
};

}  // namespace maglane
