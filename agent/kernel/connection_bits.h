// SPDX-License-Identifier: Apache-2.0
//
// Which bits of map "flow_bits" a flow needs. Pure.
#pragma once

#include <cstdint>

#include "agent/kernel/flow_table.h"
#include "bpf/abi.h"

namespace maglane {

// Numbers of bits (abi::vip_hash) of a connection: of the address that its packets come to on
// their way to the endpoint, and of the endpoint's, which they come from on their way back.
struct ConnectionBits {
  uint32_t to = 0;
  uint32_t from = 0;
  bool operator==(const ConnectionBits&) const = default;
};

// Both directions of a connection have the same, as either may be the one that is left. They
// are those that filter_note_flow of bpf/filter.h set when the connection was made.
ConnectionBits bits_of(const FlowEntry4& flow);
ConnectionBits bits_of(const FlowEntry6& flow);

}  // namespace maglane
