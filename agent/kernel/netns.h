// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces by the number that the kernel gives them (SO_NETNS_COOKIE, Linux 5.14):
// never used again, and what BPF programs see.
#pragma once

#include <cstdint>

#include "agent/base/result.h"

namespace maglane {

// Of the calling thread's network namespace.
Result<uint64_t> netns_cookie();

}  // namespace maglane
