// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/call.h"

#include <bpf/bpf.h>
#include <fmt/format.h>

#include <cstring>

namespace maglane {

Status call_program(int program_fd, void* call, size_t size) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = call, .data_out = call,
              .data_size_in = static_cast<uint32_t>(size), .data_size_out = static_cast<uint32_t>(size),
              .repeat = 1);
  if (const int error = bpf_prog_test_run_opts(program_fd, &options); error != 0)
    return Error{fmt::format("cannot run the program: {}", std::strerror(-error))};
  if (options.retval != 0) return Error{fmt::format("the program refused the call ({})", options.retval)};
  return ok_status();
}

}  // namespace maglane
