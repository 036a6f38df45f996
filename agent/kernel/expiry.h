// SPDX-License-Identifier: Apache-2.0
//
// Removing idle flows. The walk is a BPF program; the agent only sets it going.
#pragma once

#include <cstdint>

#include "agent/base/result.h"
#include "bpf/abi.h"

namespace maglane {

// Runs program `expire` once and returns what it did.
// program_fd, result_map_fd: of program "expire" and map "expiry_result"; not taken over.
Result<abi::expiry_result> run_expiry(int program_fd, int result_map_fd);

}  // namespace maglane
