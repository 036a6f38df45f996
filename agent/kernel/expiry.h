// SPDX-License-Identifier: Apache-2.0
//
// Removing idle flows. The walk is a BPF program; the agent only sets it going, a run of
// buckets at a time, so that none holds its CPU for long.
#pragma once

#include <cstdint>

#include "agent/base/result.h"
#include "bpf/abi.h"

namespace maglane {

struct ExpiryResult {
  uint64_t examined = 0;  // flows
  uint64_t removed = 0;
};

// Walks all buckets of a family's table. program_fd: of program "expire"; not taken over.
// shared_hops (enum shared_hops): what the programs are to believe for a while of the ways of
// packets, see abi::node_state.
Result<ExpiryResult> run_expiry(int program_fd, abi::family family, uint32_t buckets, uint32_t shared_hops = 0);

}  // namespace maglane
