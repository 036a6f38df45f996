// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/flow_bits.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "agent/kernel/connection_bits.h"
#include "agent/kernel/flow_table.h"
#include "agent/kernel/grace.h"

namespace maglane {
namespace {

// Up to 4 MB of memory and 32,000 flows: about a millisecond.
constexpr uint64_t kSlice = 1024;
// Soon enough for what writes to an entry to have ended.
constexpr std::chrono::milliseconds kRetry{10};
constexpr std::chrono::minutes kLook{1};
// A quiet node's old bits go in the end, too.
constexpr std::chrono::minutes kLongest{30};
// Of all strangers' packets one in eight is looked up where each direction has this share.
constexpr uint32_t kManyBits = (1U << abi::VIP_BITS_ORDER) / 16;

void set_bit(__u64& word, uint32_t bit) {
  const std::atomic_ref<__u64> shared(word);
  const __u64 mask = __u64{1} << (bit % 64);
  // As programs do it: a line that they share is written only where there is something to say.
  if ((shared.load(std::memory_order_relaxed) & mask) == 0) shared.fetch_or(mask);
}

}  // namespace

FlowBits::FlowBits(const Memory& memory, std::chrono::seconds interval) : memory_(memory), interval_(interval) {}

uint32_t FlowBits::current() const {
  return std::atomic_ref(memory_.state->flow_bits_generation).load() % abi::FLOW_BITS_GENERATIONS;
}

void FlowBits::fill_other(uint64_t value) {
  const uint32_t other = 1 - current();
  for (abi::flow_bits_word& word : memory_.bits->word) {
    std::atomic_ref<__u64>(word.to[other]).store(value);
    std::atomic_ref<__u64>(word.from[other]).store(value);
  }
}

void FlowBits::admit_all() {
  fill_other(~uint64_t{0});
  step_ = Step::grace;
}

FlowBits::Clock::time_point FlowBits::run(Clock::time_point now) {
  switch (step_) {
    case Step::settled:
      if (!worth_it(now)) return interval_.count() != 0 ? settled_at_ + interval_ : now + kLook;
      switch_generation();
      step_ = Step::grace;
      return now;
    case Step::grace:
      wait_grace_period();
      next_bucket_ = 0;
      step_ = Step::scan;
      return now;
    case Step::scan:
      if (!scan_slice()) return now + kRetry;
      if (next_bucket_ == memory_.flows4.size() + memory_.flows6.size()) step_ = Step::clear;
      return now;
    case Step::clear:
      wait_grace_period();
      fill_other(0);
      settled_at_ = now;
      settled_population_ = population();
      step_ = Step::settled;
      return now;
  }
  return now;
}

// Where flows themselves need many bits, there may be nothing to forget: not before there are
// twice as many as the last time.
bool FlowBits::worth_it(Clock::time_point now) const {
  if (interval_.count() != 0) return now - settled_at_ >= interval_;
  const uint32_t bits = population();
  if (now - settled_at_ >= kLongest) return bits > 0;
  return bits > std::max(kManyBits, 2 * settled_population_);
}

void FlowBits::switch_generation() {
  std::atomic_ref(memory_.state->flow_bits_generation).store(1 - current());
}

template <typename Flow, typename Bucket>
bool FlowBits::scan_bucket(Bucket& bucket) {
  const uint32_t generation = current();
  FlowsOfBucket<Flow> flows;
  if (!read_flows(bucket, flows)) return false;
  for (uint32_t i = 0; i < flows.count; ++i) {
    const ConnectionBits bits = bits_of(flows.flows[i]);
    set_bit(memory_.bits->word[bits.to / 64].to[generation], bits.to);
    set_bit(memory_.bits->word[bits.from / 64].from[generation], bits.from);
  }
  return true;
}

// False: a bucket could not be read whole, and is the next one still. An entry that is made
// meanwhile may be missed: its program saw the current generation and has noted it there.
bool FlowBits::scan_slice() {
  const uint64_t of_ipv4 = memory_.flows4.size();
  const uint64_t end = std::min(next_bucket_ + kSlice, of_ipv4 + memory_.flows6.size());
  for (; next_bucket_ < end; ++next_bucket_) {
    const bool read = next_bucket_ < of_ipv4
                          ? scan_bucket<FlowEntry4>(memory_.flows4[next_bucket_])
                          : scan_bucket<FlowEntry6>(memory_.flows6[next_bucket_ - of_ipv4]);
    if (!read) return false;
  }
  return true;
}

uint32_t FlowBits::population() const {
  const uint32_t generation = current();
  uint32_t to = 0, from = 0;
  for (const abi::flow_bits_word& word : memory_.bits->word) {
    to += static_cast<uint32_t>(std::popcount(word.to[generation]));
    from += static_cast<uint32_t>(std::popcount(word.from[generation]));
  }
  return std::max(to, from);
}

}  // namespace maglane
