// SPDX-License-Identifier: Apache-2.0
//
// BPF filters of a clsact queueing discipline, for kernels without tcx. Ours are known by a
// fixed priority and handle, and by the names of their programs.
#pragma once

#include <cstdint>

#include "agent/base/result.h"
#include "agent/kernel/attach_plan.h"

namespace maglane {

enum : uint32_t { TC_FILTER_PRIORITY = 50, TC_FILTER_HANDLE = 0x6d61676c /* "magl" */ };

// The id of the program of our filter there, 0 if there is none (or no such device).
Result<uint32_t> query_filter(uint32_t ifindex, Hook hook);
// True if the queueing discipline had to be made.
Result<bool> ensure_clsact(uint32_t ifindex);
// Attaches, or swaps the program of the filter that is there. REQUIRES: ensure_clsact(ifindex)
Status attach_filter(uint32_t ifindex, Hook hook, int program_fd);
// Nothing where there is none.
Status detach_filter(uint32_t ifindex, Hook hook);
// Removes the queueing discipline unless it still has filters of others.
Status remove_clsact_if_empty(uint32_t ifindex);

// Whether program `id` is one of ours, by its name.
bool is_our_program(uint32_t id);

}  // namespace maglane
