// SPDX-License-Identifier: Apache-2.0
//
// Random play against the plain model of model.h.
#include <gtest/gtest.h>

#include "tests/packets/model.h"
#include "tests/packets/random_steps.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

std::vector<RunResult> run_all(DataPlane& plane, const Arrival& arrival, bool tc_only) {
  std::vector<RunResult> runs;
  for (const Program program : programs_for(arrival, tc_only)) {
    runs.push_back(plane.run(program, arrival));
    if (runs.back().verdict != Verdict::pass) break;
  }
  return runs;
}

// Long after: every flow has been idle for longer than any limit.
void expire_everything(DataPlane& plane) {
  set_slot_of_flows(plane, plane.slot() - 1000);
  expire_all(plane);
}

RC_GTEST_PROP(Random, KeepsWhatIsPromised, (const World& world, bool tc_only)) {
  DataPlane& plane = data_plane();
  Cluster cluster = random_cluster(world, 0);
  cluster.load(plane);
  Model model(cluster, plane.network());
  History history;
  for (const Step& step : any_steps()) {
    switch (kind_of(step)) {
      case StepKind::packet: {
        const Packet packet = packet_of(world, step, history).ttl(64);
        const Arrival arrival{packet.bytes(), arrival_of(plane.network(), step, packet).device};
        const auto runs = run_all(plane, arrival, tc_only);
        std::string wrong = model.check(packet, arrival, runs);
        if (wrong.empty()) wrong = model.check_flows(ends_of_flows(plane));
        RC_LOG() << describe(arrival.frame) << "\n  " << to_string(runs.back().verdict) << " "
                 << (runs.back().reason ? int{*runs.back().reason} : -1) << ": "
                 << describe(runs.back().frame) << "\n";
        if (!wrong.empty()) RC_FAIL(wrong);
        history.add(packet, runs.back().frame);
        break;
      }
      case StepKind::change_endpoints:
        cluster = random_cluster(world, step.damage | 1U << 27);
        break;
      case StepKind::change_epoch:
        cluster.epoch = 1 + step.damage % abi::EPOCH_MAX;
        break;
      case StepKind::expire_all:
        expire_everything(plane);
        model.forget_connections();
        RC_ASSERT(flows_of(plane).empty());
        break;
    }
    model.change(cluster);
    cluster.program(plane);
  }
}

}  // namespace
}  // namespace maglane::test
