// SPDX-License-Identifier: Apache-2.0
//
// The agent's side of map "flow_bits" (bpf/filter.h): forgets the bits of flows that are gone.
//
// Programs note each flow in the current generation before they make it, and take a packet for
// a stranger's only if neither generation knows its addresses. So at any instant
//
//     the bits of every flow are set in the current generation or in the other.
//
// A rotation keeps that so, in this order:
//   1. the other generation, which is clear, is made the current one
//   2. after a grace period no program is at work that saw the old one
//   3. the bits of all flows in the tables are set in the current one
//   4. after a grace period no program is at work that looked before that
//   5. the other is cleared
//
// An agent that dies leaves whatever it had reached. The next one does not ask what that was:
// it begins at 2, which is right after any step. Other programs than those of this agent may
// be attached until then, which note elsewhere or nowhere: see admit_all.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "bpf/abi.h"

namespace maglane {

class FlowBits {
 public:
  using Clock = std::chrono::steady_clock;

  // Memory of the pinned maps, which packets use; not owned.
  struct Memory {
    abi::flow_bits* bits = nullptr;
    abi::node_state* state = nullptr;
    std::span<abi::flow_bucket4> flows4;
    std::span<abi::flow_bucket6> flows6;
  };

  // interval: from rotation to rotation; 0: when there seem to be enough bits to forget.
  FlowBits(const Memory& memory, std::chrono::seconds interval);

  // Sets all bits of the generation that is not current, so that no packet is a stranger's
  // until the first rotation has ended. To be called before this agent's programs meet packets,
  // as nobody knows where the programs before them noted their flows.
  void admit_all();

  // Does a piece of what is due, a few milliseconds' work or a wait for a grace period. Returns
  // when to call again. REQUIRES: all programs that packets meet are this agent's.
  Clock::time_point run(Clock::time_point now);

  // All flows are in the current generation, and the other is clear.
  bool settled() const { return step_ == Step::settled; }

 private:
  enum class Step { grace, scan, clear, settled };

  uint32_t current() const;
  bool worth_it(Clock::time_point now) const;
  void switch_generation();
  bool scan_slice();
  template <typename Flow, typename Bucket>
  bool scan_bucket(Bucket& bucket);
  void fill_other(uint64_t value);
  // How many bits the current generation has; of the one direction that has more.
  uint32_t population() const;

  Memory memory_;
  std::chrono::seconds interval_;
  Step step_ = Step::grace;
  uint64_t next_bucket_ = 0;  // of those of both families
  Clock::time_point settled_at_{};
  uint32_t settled_population_ = 0;
};

}  // namespace maglane
