// SPDX-License-Identifier: Apache-2.0
//
// Random clusters, changed at random: after every single operation the maps are consistent,
// and in the end they are what the cluster asks for, worked out from scratch.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <memory>

#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "tests/support/conformance.h"
#include "tests/unit/plan/cluster.h"
#include "tests/unit/plan/model.h"

namespace maglane {
namespace {

using namespace test;

// From small pools, so that sets are shared and addresses claimed twice.
EndpointSetPtr any_set(Family family) {
  std::vector<ResolvedEndpoint> list;
  const uint32_t mask = *rc::gen::inRange(0U, 64U);
  const bool weighted = *rc::gen::inRange(0, 4) == 0;
  for (uint32_t i = 0; i < 6; ++i) {
    if (!(mask >> i & 1)) continue;
    ResolvedEndpoint one =
        endpoint(i, weighted ? *rc::gen::inRange(0U, 4U) : 1, *rc::gen::inRange(0, 3) == 0);
    if (family == Family::ipv6) one.address = ip(fmt::format("fd00:1::{}", i + 1));
    list.push_back(one);
  }
  return endpoints(std::move(list), *rc::gen::arbitrary<bool>() ? EmptyVerdict::drop : EmptyVerdict::reject);
}

ResolvedServicePort any_port(const ServiceKey& service, const std::string& port_name) {
  ResolvedServicePort port;
  const Family family = *rc::gen::inRange(0, 4) == 0 ? Family::ipv6 : Family::ipv4;
  port.key = {service, port_name, *rc::gen::element(Protocol::tcp, Protocol::udp), family};
  port.port = *rc::gen::element<uint16_t>(80, 443);
  const int count = *rc::gen::inRange(0, 4);
  for (int i = 0; i < count; ++i) {
    const auto type = *rc::gen::element(FrontendType::cluster_ip, FrontendType::node_port,
                                        FrontendType::external_ip, FrontendType::load_balancer);
    const auto text =
        (family == Family::ipv6 ? "fd00:96::" : "10.96.0.") + std::to_string(*rc::gen::inRange(1, 6));
    const EndpointSetPtr set = any_set(family);
    const EndpointSetPtr pods = *rc::gen::inRange(0, 3) == 0 ? any_set(family) : set;
    const ResolvedFrontend one = frontend(type, text, *rc::gen::element<uint16_t>(80, 443), set, pods);
    const auto same = [&](const auto& other) {
      return other.address == one.address && other.port == one.port;
    };
    if (std::none_of(port.frontends.begin(), port.frontends.end(), same)) port.frontends.push_back(one);
  }
  return port;
}

void change(ResolvedCluster& cluster) {
  const ServiceKey key{"default", fmt::format("s{}", *rc::gen::inRange(0, 5))};
  if (*rc::gen::inRange(0, 4) == 0) {
    cluster.erase(key);
    return;
  }
  ResolvedService service{key, *rc::gen::element<std::string>("", "2024-01-01", "2025-01-01"), {}};
  service.ports.push_back(any_port(key, "a"));
  if (*rc::gen::arbitrary<bool>()) service.ports.push_back(any_port(key, "b"));
  cluster[key] = std::make_shared<const ResolvedService>(std::move(service));
}

// Two frontends of one service may claim the same, and a service may not fit: such clusters
// are compared by what the planner says it serves, so limits here are generous.
struct World {
  MapLimits limits;
  ResolvedCluster cluster;
  MapContents contents;
  Plan applied;
  std::unique_ptr<Planner> planner = std::make_unique<Planner>(limits);

  void step() {
    const int changes = *rc::gen::inRange(0, 4);
    for (int i = 0; i < changes; ++i) change(cluster);
    if (*rc::gen::inRange(0, 5) == 0) (void)planner->update(cluster);  // overtaken before it was applied
    std::vector<Operation> operations;
    if (*rc::gen::inRange(0, 6) == 0) {  // the agent starts anew
      planner = std::make_unique<Planner>(limits, contents);
      applied = planner->update(cluster).plan;
      operations = diff(contents, applied);
    } else {
      const Plan before = applied;
      applied = planner->update(cluster).plan;
      operations = diff(before, applied);
    }
    const std::string problem = check_prefixes(operations, contents);
    if (!problem.empty()) RC_FAIL(problem);
    if (*rc::gen::arbitrary<bool>()) planner->release_retired(applied.generation);
  }
};

RC_GTEST_PROP(Consistency, EveryPrefixAndTheEnd, ()) {
  test::proves({25, 30});
  World world;
  const int steps = *rc::gen::inRange(1, 8);
  for (int i = 0; i < steps; ++i) {
    world.step();
    const std::string problem = check_against_cluster(world.contents, world.cluster);
    if (!problem.empty()) RC_FAIL(problem);
  }
  RC_ASSERT(diff(world.contents, world.applied).empty());
}

// With hardly any room services fail and recover; what is served is consistent all the same.
RC_GTEST_PROP(Consistency, EveryPrefixWithHardlyAnyRoom, ()) {
  test::proves({25, 30});
  World world;
  world.limits = {.services = 6, .backends = 10, .frontends = 12, .maglev_entries = 4 * 1616};
  world.planner = std::make_unique<Planner>(world.limits);
  const int steps = *rc::gen::inRange(1, 12);
  for (int i = 0; i < steps; ++i) {
    world.step();
    RC_ASSERT(world.contents.services.size() <= world.limits.services);
    RC_ASSERT(world.contents.frontends.size() <= world.limits.frontends);
    const uint32_t highest = world.contents.backends.empty() ? 0 : world.contents.backends.rbegin()->first;
    RC_ASSERT(highest < world.limits.backends);
    RC_ASSERT(world.contents.maglev.size() <= world.limits.maglev_entries);
    RC_ASSERT(diff(world.contents, world.applied).empty());
  }
}

TEST(Consistency, TheCheckerSeesAWrongOrder) {
  Planner planner({});
  const Plan plan = planner.update(many_services(1, 3)).plan;
  auto operations = diff(Plan{}, plan);
  MapContents contents;
  ASSERT_EQ(check_prefixes(operations, contents), "");
  for (size_t i = 0; i + 1 < operations.size(); ++i) {
    if (operations[i].index() == operations[i + 1].index()) continue;
    auto swapped = operations;
    std::rotate(swapped.begin() + static_cast<long>(i), swapped.begin() + static_cast<long>(i) + 1,
                swapped.end());
    contents = {};
    EXPECT_NE(check_prefixes(swapped, contents), "") << to_string(operations[i]) << " came last";
  }
}

}  // namespace
}  // namespace maglane
