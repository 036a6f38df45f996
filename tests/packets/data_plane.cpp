// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/data_plane.h"

namespace maglane::test {

const char* to_string(Program program) {
  switch (program) {
    case Program::xdp_uplink:
      return "xdp_uplink";
    case Program::tc_uplink:
      return "tc_uplink";
    case Program::tc_pod:
      return "tc_pod";
    case Program::tc_egress:
      return "tc_egress";
  }
  return "?";
}

abi::hook hook_of(Program program) {
  if (program == Program::xdp_uplink) return abi::HOOK_XDP;
  return program == Program::tc_egress ? abi::HOOK_TC_EGRESS : abi::HOOK_TC;
}

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::pass:
      return "pass";
    case Verdict::drop:
      return "drop";
    case Verdict::transmit:
      return "transmit";
    case Verdict::redirect:
      return "redirect";
    case Verdict::aborted:
      return "aborted";
  }
  return "?";
}

Verdict verdict_of(Program program, int result) {
  if (program == Program::xdp_uplink) {
    // enum xdp_action
    static constexpr Verdict kActions[] = {Verdict::aborted, Verdict::drop, Verdict::pass, Verdict::transmit,
                                           Verdict::redirect};
    return result >= 0 && result < 5 ? kActions[result] : Verdict::aborted;
  }
  switch (result) {  // linux/pkt_cls.h
    case -1:
      return Verdict::pass;  // TC_ACT_UNSPEC
    case 2:
      return Verdict::drop;  // TC_ACT_SHOT
    case 7:
      return Verdict::redirect;  // TC_ACT_REDIRECT
    default:
      return Verdict::aborted;
  }
}

}  // namespace maglane::test
