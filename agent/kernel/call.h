// SPDX-License-Identifier: Apache-2.0
//
// Calling a BPF program as a function: BPF_PROG_TEST_RUN with a structure of abi.h for the
// packet, which the program reads its arguments from and writes its results to.
#pragma once

#include <cstddef>

#include "agent/base/result.h"

namespace maglane {

// size: of the structure at `call`, at least an Ethernet header.
Status call_program(int program_fd, void* call, size_t size);

template <typename Call>
Status call_program(int program_fd, Call& call) {
  return call_program(program_fd, &call, sizeof call);
}

}  // namespace maglane
