// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/recovery.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "tests/support/conformance.h"
#include "tests/unit/plan/cluster.h"
#include "tests/unit/plan/model.h"

namespace maglane {
namespace {

using namespace test;

MapContents written(const ResolvedCluster& cluster) {
  Planner planner({});
  return to_contents(planner.update(cluster).plan);
}

ResolvedCluster dual_use() {
  ResolvedCluster cluster = many_services(6, 4);
  put(cluster,
      service("extra", {frontend(FrontendType::cluster_ip, "10.96.9.1", 80, numbered_endpoints(0, 4),
                                 endpoints({endpoint(0, 1, true), endpoint(1, 2)})),
                        frontend(FrontendType::node_port, "192.0.2.1", 30080, numbered_endpoints(2, 7))}));
  return cluster;
}

TEST(Recovery, ARestartWithoutAChangeIsNoOperation) {
  test::proves({30, 31});
  const ResolvedCluster cluster = dual_use();
  const MapContents contents = written(cluster);
  Planner planner({}, contents);
  const Plan plan = planner.update(cluster).plan;
  EXPECT_TRUE(diff(contents, plan).empty());
  EXPECT_EQ(planner.stats().tables_adopted, planner.stats().tables_built);
}

TEST(Recovery, IdsStayWhenTheClusterChangedMeanwhile) {
  test::proves({30, 31});
  ResolvedCluster cluster = dual_use();
  MapContents contents = written(cluster);
  const MapContents before = contents;
  cluster.erase({"default", "s0"});
  put(cluster,
      service("s1", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(5, 4))}));
  put(cluster,
      service("aaa", {frontend(FrontendType::cluster_ip, "10.96.9.9", 80, numbered_endpoints(300, 2))}));

  Planner planner({}, contents);
  const Plan plan = planner.update(cluster).plan;
  const auto operations = diff(contents, plan);
  EXPECT_EQ(check_prefixes(operations, contents), "");
  EXPECT_EQ(check_against_cluster(contents, cluster), "");
  for (const auto& [id, info] : contents.services) {
    const auto old = before.services.find(id);
    EXPECT_TRUE(old == before.services.end() || std::strcmp(info.name, old->second.name) == 0);
  }
  for (const auto& [id, backend] : contents.backends) {
    const auto old = before.backends.find(id);
    EXPECT_TRUE(old == before.backends.end() || KeyEqual{}(backend_key(backend), backend_key(old->second)));
  }

  // What was given up is free after the release, and not before.
  const uint32_t used = planner.maglev_entries_used();
  planner.release_retired(plan.generation);
  EXPECT_EQ(planner.maglev_entries_used(), used);
}

TEST(Recovery, OldPlacesAreNotWrittenOverBeforeTheRelease) {
  test::proves({31});
  MapContents contents = written(many_services(2, 3));
  const ResolvedCluster other = [] {
    ResolvedCluster cluster;
    put(cluster,
        service("new", {frontend(FrontendType::cluster_ip, "10.97.0.1", 80, numbered_endpoints(900, 3))}));
    return cluster;
  }();
  Planner planner(MapLimits{.maglev_entries = 3 * 1616}, contents);
  const PlanUpdate update = planner.update(other);
  EXPECT_TRUE(update.complaints.empty());
  EXPECT_EQ(check_prefixes(diff(contents, update.plan), contents), "");
  EXPECT_EQ(check_against_cluster(contents, other), "");
}

TEST(Recovery, AFullArrayIsUsableAfterTheRelease) {
  MapContents contents = written(many_services(2, 3));
  ResolvedCluster cluster;
  put(cluster,
      service("new", {frontend(FrontendType::cluster_ip, "10.97.0.1", 80, numbered_endpoints(900, 3))}));
  Planner planner(MapLimits{.maglev_entries = 2 * 1616}, contents);
  PlanUpdate first = planner.update(cluster);
  EXPECT_EQ(first.complaints.size(), 1U);
  EXPECT_TRUE(first.retry_after_release);
  apply_all(diff(contents, first.plan), contents);
  planner.release_retired(first.plan.generation);
  const PlanUpdate second = planner.update(cluster);
  EXPECT_TRUE(second.complaints.empty());
  apply_all(diff(first.plan, second.plan), contents);
  EXPECT_EQ(check_against_cluster(contents, cluster), "");
}

TEST(Recovery, ADamagedTableIsWrittenAgain) {
  const ResolvedCluster cluster = many_services(3, 4);
  MapContents contents = written(cluster);
  contents.maglev[5] ^= 3;
  Planner planner({}, contents);
  const auto operations = diff(contents, planner.update(cluster).plan);
  ASSERT_FALSE(operations.empty());
  apply_all(operations, contents);
  EXPECT_EQ(check_against_cluster(contents, cluster), "");
}

TEST(Recovery, NamesWithoutAnEndAreIgnored) {
  const ResolvedCluster cluster = many_services(2, 2);
  MapContents contents = written(cluster);
  std::memset(contents.services.begin()->second.name, 'x', 64);
  EXPECT_FALSE(parse_service_info(contents.services.begin()->second).ok());
  Planner planner({}, contents);
  apply_all(diff(contents, planner.update(cluster).plan), contents);
  EXPECT_EQ(check_against_cluster(contents, cluster), "");
}

TEST(Recovery, OverlappingAndOutlyingTablesAreIgnored) {
  const ResolvedCluster cluster = many_services(4, 3);
  MapContents contents = written(cluster);
  auto it = contents.frontends.begin();
  (it++)->second.tables[0] = {0xfffffff0, 0xffffffff};
  (it++)->second.tables[0] = {1, 1601};
  (it++)->second.tables[1] = {0, static_cast<uint32_t>(contents.maglev.size())};
  (it++)->second.service_id = 4711;
  Planner planner({}, contents);
  apply_all(diff(contents, planner.update(cluster).plan), contents);
  EXPECT_EQ(check_against_cluster(contents, cluster), "");
}

// Anything may be in the maps: at worst it is all written anew.
RC_GTEST_PROP(Recovery, SurvivesAnyContents, ()) {
  const ResolvedCluster cluster = dual_use();
  static const MapContents intact = written(cluster);
  MapContents contents = intact;
  const auto scribble = [](auto& value) {
    auto* bytes = reinterpret_cast<uint8_t*>(&value);
    bytes[*rc::gen::inRange<size_t>(0, sizeof value)] = *rc::gen::arbitrary<uint8_t>();
  };
  const auto pick = [](auto& map) {
    return std::next(map.begin(), *rc::gen::inRange<long>(0, static_cast<long>(map.size())));
  };
  const int damages = *rc::gen::inRange(1, 12);
  for (int i = 0; i < damages; ++i) {
    switch (*rc::gen::inRange(0, 7)) {
      case 0:
        scribble(pick(contents.services)->second);
        break;
      case 1:
        scribble(pick(contents.backends)->second);
        break;
      case 2:
        scribble(pick(contents.frontends)->second);
        break;
      case 3: {
        auto node = contents.frontends.extract(pick(contents.frontends));
        scribble(node.key());
        contents.frontends.insert(std::move(node));
        break;
      }
      case 4: {
        auto node = contents.backends.extract(pick(contents.backends));
        node.key() = *rc::gen::element(0U, 1U, 77U, 262143U, 262144U, UINT32_MAX);
        contents.backends.insert(std::move(node));
        break;
      }
      case 5: {
        auto node = contents.services.extract(pick(contents.services));
        node.key() = *rc::gen::element(0U, 1U, 77U, 131072U, 131073U, UINT32_MAX);
        contents.services.insert(std::move(node));
        break;
      }
      default:
        if (*rc::gen::arbitrary<bool>() && !contents.maglev.empty())
          scribble(contents.maglev[*rc::gen::inRange<size_t>(0, contents.maglev.size())]);
        else
          contents.maglev.resize(*rc::gen::inRange<size_t>(0, intact.maglev.size()));
    }
  }
  Planner planner({}, contents);
  const PlanUpdate update = planner.update(cluster);
  RC_ASSERT(update.complaints.empty());
  apply_all(diff(contents, update.plan), contents);
  RC_ASSERT(check_against_cluster(contents, cluster) == "");
}

}  // namespace
}  // namespace maglane
