// SPDX-License-Identifier: Apache-2.0
//
// Whatever comes in, sound or spoilt: the programs in the kernel and the same code natively
// do the same, to the byte, the reason and the flow.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/packets/random_steps.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

// Everything but the slot of the stamp, which tells the time.
std::map<Bytes, Bytes> flows(DataPlane& plane) {
  set_slot_of_flows(plane, 0);
  return flows_of(plane);
}

// True if the packet goes on to the next program.
bool compare_run(DataPlane& native, DataPlane& kernel, Program program, const Arrival& arrival, Bytes& sent) {
  if (!kernel.can_run(program, arrival)) return false;
  const RunResult ours = native.run(program, arrival), theirs = kernel.run(program, arrival);
  RC_LOG() << to_string(program) << ": " << describe(arrival.frame) << "\n  native "
           << to_string(ours.verdict) << " " << (ours.reason ? int{*ours.reason} : -1) << ": "
           << describe(ours.frame) << "\n  kernel " << to_string(theirs.verdict) << " "
           << (theirs.reason ? int{*theirs.reason} : -1) << ": " << describe(theirs.frame) << "\n";
  RC_ASSERT(ours.verdict == theirs.verdict);
  RC_ASSERT(ours.reason == theirs.reason);
  RC_ASSERT(ours.reason.has_value());
  if (ours.verdict != Verdict::drop) RC_ASSERT(hex(ours.frame) == hex(theirs.frame));
  sent = ours.frame;
  return ours.verdict == Verdict::pass;
}

RC_GTEST_PROP(Random, KernelAndNativeDoTheSame, (const World& world, bool tc_only)) {
  static const auto native_plane = make_native_data_plane();
  DataPlane &native = *native_plane, &kernel = data_plane();
  Cluster cluster = random_cluster(world, 0);
  cluster.load(native);
  cluster.load(kernel);
  History history;
  for (const Step& step : any_steps()) {
    if (kind_of(step) == StepKind::packet) {
      Bytes sent;
      const Packet packet = packet_of(world, step, history);
      const Arrival arrival = arrival_of(native.network(), step, packet);
      for (const Program program : programs_for(arrival, tc_only))
        if (!compare_run(native, kernel, program, arrival, sent)) break;
      history.add(packet, sent);
      continue;
    }
    // Time differs between the two, so expiry is left to the table's own cases.
    if (kind_of(step) == StepKind::change_endpoints)
      cluster = random_cluster(world, step.damage);
    else if (kind_of(step) == StepKind::change_epoch)
      cluster.epoch = 1 + step.damage % abi::EPOCH_MAX;
    cluster.program(native);
    cluster.program(kernel);
  }
  RC_ASSERT(flows(native) == flows(kernel));
}

}  // namespace
}  // namespace maglane::test
