// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/expiry.h"

#include <time.h>

#include <algorithm>

#include "agent/kernel/call.h"

namespace maglane {
namespace {

std::chrono::nanoseconds thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace

Result<ExpiryResult> run_expiry(int program_fd, abi::family family, uint32_t buckets, uint32_t shared_hops) {
  ExpiryResult result;
  for (uint32_t first = 0; first < buckets;) {
    abi::expire_call call{};
    call.family = family;
    call.first_bucket = first;
    call.shared_hops = shared_hops;
    call.buckets = buckets - first;
    const auto before = thread_cpu_time();
    if (auto status = call_program(program_fd, call); !status) return status.error().in("the expiry of flows");
    const auto slice = thread_cpu_time() - before;
    result.cpu += slice;
    result.longest_slice = std::max(result.longest_slice, slice);
    if (call.walked == 0) break;  // past the end
    first += call.walked;
    result.examined += call.examined;
    result.removed += call.removed;
  }
  return result;
}

}  // namespace maglane
