// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/expiry.h"

#include <bpf/bpf.h>
#include <fmt/format.h>

#include <array>
#include <cstring>

namespace maglane {

Result<abi::expiry_result> run_expiry(int program_fd, int result_map_fd) {
  std::array<uint8_t, 64> packet{};  // the kernel wants a frame, the program does not read it
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_size_in = packet.size(),
              .repeat = 1);
  if (int error = bpf_prog_test_run_opts(program_fd, &options); error != 0) {
    return Error{fmt::format("cannot run the expiry of flows: {}", std::strerror(-error))};
  }
  abi::expiry_result result{};
  uint32_t zero = 0;
  if (int error = bpf_map_lookup_elem(result_map_fd, &zero, &result); error != 0) {
    return Error{fmt::format("cannot read the result of expiry: {}", std::strerror(-error))};
  }
  return result;
}

}  // namespace maglane
