// SPDX-License-Identifier: Apache-2.0
//
// Removing idle flows. The walk is a BPF program, which ends when it has held its CPU for long
// enough (bpf/walk.h); the agent only sets it going again where it left off.
#pragma once

#include <chrono>
#include <cstdint>

#include "agent/base/result.h"
#include "bpf/abi.h"

namespace maglane {

struct ExpiryResult {
  uint64_t examined = 0;  // flows
  uint64_t removed = 0;
  std::chrono::nanoseconds cpu{0};            // this thread's
  std::chrono::nanoseconds longest_slice{0};  // of that: for so long no other softirq ran on the CPU
};

// Walks all buckets of a family's table. program_fd: of program "expire"; not taken over.
// shared_hops (enum shared_hops): what the programs are to believe for a while of the ways of
// packets, see abi::node_state.
Result<ExpiryResult> run_expiry(int program_fd, abi::family family, uint32_t buckets, uint32_t shared_hops = 0);

}  // namespace maglane
