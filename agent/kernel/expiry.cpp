// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/expiry.h"

#include "agent/kernel/call.h"

namespace maglane {
Result<ExpiryResult> run_expiry(int program_fd, abi::family family, uint32_t buckets) {
  ExpiryResult result;
  for (uint32_t first = 0; first < buckets;) {
    abi::expire_call call{};
    call.family = family;
    call.first_bucket = first;
    call.buckets = buckets - first;
    if (auto status = call_program(program_fd, call); !status) return status.error().in("the expiry of flows");
    if (call.walked == 0) break;  // past the end
    first += call.walked;
    result.examined += call.examined;
    result.removed += call.removed;
  }
  return result;
}

}  // namespace maglane
