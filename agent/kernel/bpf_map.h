// SPDX-License-Identifier: Apache-2.0
//
// One BPF map by its file descriptor: batched access where the kernel offers it, single
// system calls where not, and mapped memory. Knows nothing of what the bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "agent/base/result.h"

namespace maglane {

// What a map must look like for this program to read it.
struct MapShape {
  const char* name;
  uint32_t key_size;    // bytes
  uint32_t value_size;  // bytes; of one CPU for per-CPU maps
};

class BpfMap {
 public:
  // Opens the pin `path`. Fails where its key or value has another size than `shape` says.
  static Result<BpfMap> open(const std::string& path, const MapShape& shape, bool read_only);

  BpfMap() = default;
  BpfMap(BpfMap&& other) noexcept;
  BpfMap& operator=(BpfMap&& other) noexcept;
  ~BpfMap();

  int fd() const { return fd_; }
  const char* name() const { return shape_.name; }
  uint32_t capacity() const { return capacity_; }  // entries
  // That the kernel allocated for the map as it says in fdinfo; 0 where it says nothing.
  uint64_t kernel_bytes() const;

  // Every entry of a hash map, in the kernel's order; an entry that is added or removed
  // meanwhile may be missed or seen twice. Stops early when `visit` returns false. The
  // pointers are valid, and aligned to 8 bytes, during the call only.
  Status each(const std::function<bool(const std::byte* key, const std::byte* value)>& visit) const;

  // The value of one key into `value`.
  Status look_up(const void* key, void* value) const;

  // `count` keys, one after the other, and their values. On failure `done` tells how many,
  // from the first on, took effect.
  Status update(const void* keys, const void* values, uint32_t count, uint32_t& done);
  // A key that is not there counts as deleted.
  Status remove(const void* keys, uint32_t count, uint32_t& done);

  // The memory of an array map made with BPF_F_MMAPABLE, `capacity * value_size` bytes;
  // stays valid as long as this object, whichever it is moved to.
  Result<std::byte*> map_memory(bool writable);

 private:
  size_t memory_size() const;

  int fd_ = -1;
  MapShape shape_{"", 0, 0};
  uint32_t capacity_ = 0;
  std::byte* memory_ = nullptr;
};

}  // namespace maglane
