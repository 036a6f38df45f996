// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/connection_bits.h"

namespace maglane {
namespace {

uint32_t bit_of(uint32_t address_be) {
  const uint32_t wide[4] = {address_be, 0, 0, 0};
  return abi::vip_hash(wide);
}

uint32_t bit_of(const uint32_t (&address_be)[4]) { return abi::vip_hash(address_be); }

template <typename Flow>
ConnectionBits bits(const Flow& entry) {
  if ((entry.flow.body.flags & abi::FLOW_REPLY) != 0)
    return {.to = bit_of(entry.flow.src_be), .from = bit_of(entry.key.src_be)};
  return {.to = bit_of(entry.key.dst_be), .from = bit_of(entry.flow.dst_be)};
}

}  // namespace

ConnectionBits bits_of(const FlowEntry4& flow) { return bits(flow); }
ConnectionBits bits_of(const FlowEntry6& flow) { return bits(flow); }

}  // namespace maglane
