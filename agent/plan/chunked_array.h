// SPDX-License-Identifier: Apache-2.0
//
// An array as a value that is cheap to copy and to compare: chunks are shared between copies
// until one of them writes. This is what lets a plan of ten thousand services be kept, and
// be compared with its successor, at the cost of what changed.
//
// Elements never set read as T{}. For use by one thread at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace maglane {

template <typename T>
class ChunkedArray {
 public:
  const T& at(uint32_t index) const {
    const size_t chunk = index / kChunk;
    return chunk < chunks_.size() && chunks_[chunk] ? (*chunks_[chunk])[index % kChunk] : empty();
  }

  void set(uint32_t index, T value) {
    const size_t chunk = index / kChunk;
    if (chunk >= chunks_.size()) chunks_.resize(chunk + 1);
    auto& target = chunks_[chunk];
    if (!target)
      target = std::make_shared<Chunk>();
    else if (target.use_count() > 1)
      target = std::make_shared<Chunk>(*target);
    (*target)[index % kChunk] = std::move(value);
  }

  // visit(index, before, after) for each index of a chunk that the two do not share;
  // before and after may still be equal. Indices ascend.
  template <typename Visit>
  static void each_unshared(const ChunkedArray& before, const ChunkedArray& after, const Visit& visit) {
    const size_t count = std::max(before.chunks_.size(), after.chunks_.size());
    for (size_t chunk = 0; chunk < count; ++chunk) {
      const Chunk* from = chunk < before.chunks_.size() ? before.chunks_[chunk].get() : nullptr;
      const Chunk* to = chunk < after.chunks_.size() ? after.chunks_[chunk].get() : nullptr;
      if (from == to) continue;
      for (size_t i = 0; i < kChunk; ++i)
        visit(static_cast<uint32_t>(chunk * kChunk + i), from ? (*from)[i] : empty(),
              to ? (*to)[i] : empty());
    }
  }

 private:
  static constexpr size_t kChunk = 64;
  using Chunk = std::array<T, kChunk>;
  static const T& empty() {
    static const T value{};
    return value;
  }
  std::vector<std::shared_ptr<Chunk>> chunks_;
};

}  // namespace maglane
