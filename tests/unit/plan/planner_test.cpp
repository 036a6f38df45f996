// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/plan/diff.h"
#include "tests/support/conformance.h"
#include "tests/unit/plan/cluster.h"
#include "tests/unit/plan/model.h"

namespace maglane {
namespace {

using namespace test;
using testing::HasSubstr;
using testing::IsEmpty;

// The kernel's maps in small: each update is applied as reconcile applies it.
struct Bench {
  explicit Bench(const MapLimits& limits = {}) : planner(limits) {}

  std::vector<Operation> set(const ResolvedCluster& cluster) {
    PlanUpdate update = planner.update(cluster);
    complaints = update.complaints;
    retry = update.retry_after_release;
    auto operations = diff(plan, update.plan);
    EXPECT_EQ(check_prefixes(operations, contents), "");
    plan = update.plan;
    return operations;
  }
  void release() { planner.release_retired(plan.generation); }

  Planner planner;
  Plan plan;
  MapContents contents;
  std::vector<Complaint> complaints;
  bool retry = false;
};

template <typename T>
size_t count_of(const std::vector<Operation>& operations) {
  size_t count = 0;
  for (const auto& operation : operations) count += std::holds_alternative<T>(operation);
  return count;
}

abi::frontend frontend_at(const MapContents& contents, const char* address, uint16_t port) {
  const auto found = contents.frontends.find(make_key(ip(address), port, 6));
  return found == contents.frontends.end() ? abi::frontend{.type = 255} : found->second;
}

std::string owner_of(const MapContents& contents, const char* address, uint16_t port) {
  const auto found = contents.services.find(frontend_at(contents, address, port).service_id);
  return found == contents.services.end() ? "" : found->second.name;
}

TEST(Planner, OneServiceFromNothingAndBack) {
  Bench bench;
  ResolvedCluster cluster = many_services(1, 3);
  const auto operations = bench.set(cluster);
  EXPECT_EQ(count_of<PutService>(operations), 1U);
  EXPECT_EQ(count_of<PutBackend>(operations), 3U);
  EXPECT_EQ(count_of<WriteTable>(operations), 1U);
  EXPECT_EQ(count_of<SetVipBit>(operations), 1U);
  EXPECT_EQ(count_of<PutFrontend>(operations), 2U);  // the frontend and its address
  EXPECT_EQ(operations.size(), 8U);
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
  EXPECT_THAT(bench.set(cluster), IsEmpty());

  const auto removal = bench.set({});
  EXPECT_EQ(removal.size(), 2 + 1 + 3 + 1U);
  EXPECT_EQ(cleanup_begin(removal), 3U);
  EXPECT_THAT(bench.contents.frontends, IsEmpty());
  EXPECT_THAT(bench.contents.backends, IsEmpty());
  EXPECT_THAT(bench.contents.services, IsEmpty());
}

// The promise of design.md: one change costs what it touches.
TEST(Planner, OneEndpointAmongManyServicesCostsOnlyItself) {
  test::proves({25});
  Bench bench;
  ResolvedCluster cluster = many_services(500, 4);
  Planner planner({});
  Plan before = planner.update(cluster).plan;
  EXPECT_EQ(planner.stats().tables_built, 500U);

  put(cluster,
      service("s123", {frontend(FrontendType::cluster_ip, "10.96.0.123", 80,
                                endpoints({endpoint(492), endpoint(493), endpoint(494), endpoint(9999)}))}));
  const Plan after = planner.update(cluster).plan;
  const auto operations = diff(before, after);
  EXPECT_EQ(planner.stats().tables_built, 501U);
  EXPECT_EQ(planner.stats().services_planned, 501U);
  EXPECT_EQ(count_of<PutBackend>(operations), 1U);
  EXPECT_EQ(count_of<WriteTable>(operations), 1U);
  EXPECT_EQ(count_of<PutFrontend>(operations), 1U);
  EXPECT_EQ(count_of<DeleteBackend>(operations), 1U);
  EXPECT_EQ(operations.size(), 4U);
}

TEST(Planner, AnEqualServiceUnderANewPointerChangesNothing) {
  Bench bench;
  bench.set(many_services(20, 3));
  EXPECT_THAT(bench.set(many_services(20, 3)), IsEmpty());
  EXPECT_EQ(bench.planner.stats().tables_built, 20U);
}

TEST(Planner, EqualEndpointSetsShareATable) {
  Bench bench;
  ResolvedCluster cluster;
  put(cluster,
      service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(0, 5)),
                    frontend(FrontendType::node_port, "192.0.2.1", 30080, numbered_endpoints(0, 5))}));
  put(cluster, service("b", {frontend(FrontendType::cluster_ip, "10.96.0.2", 80, numbered_endpoints(0, 5))}));
  const auto operations = bench.set(cluster);
  EXPECT_EQ(count_of<WriteTable>(operations), 1U);
  EXPECT_EQ(count_of<PutBackend>(operations), 5U);
  EXPECT_EQ(bench.planner.stats().tables_built, 1U);

  cluster.erase({"default", "a"});
  EXPECT_EQ(count_of<DeleteBackend>(bench.set(cluster)), 0U);
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
}

TEST(Planner, OtherWeightsAreAnotherTable) {
  Bench bench;
  ResolvedCluster cluster;
  put(cluster,
      service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, endpoints({endpoint(1), endpoint(2)}),
                             endpoints({endpoint(1), endpoint(2, 3)}))}));
  EXPECT_EQ(count_of<WriteTable>(bench.set(cluster)), 2U);
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
}

TEST(Planner, AnEndpointThatBecomesLocalOrRemoteKeepsItsIdAndTable) {
  Bench bench;
  ResolvedCluster cluster;
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80,
                                      endpoints({endpoint(1), endpoint(2)}))}));
  bench.set(cluster);
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80,
                                      endpoints({endpoint(1), endpoint(2, 1, true)}))}));
  const auto operations = bench.set(cluster);
  ASSERT_EQ(operations.size(), 1U);
  EXPECT_EQ(std::get<PutBackend>(operations[0]).backend.flags, abi::BACKEND_LOCAL);
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80,
                                      endpoints({endpoint(1), endpoint(2)}))}));
  const auto back = bench.set(cluster);
  ASSERT_EQ(back.size(), 1U);
  EXPECT_EQ(std::get<PutBackend>(back[0]).backend.flags, 0U);
}

TEST(Planner, EmptySetsSayWhatHappensInstead) {
  test::proves({11, 12});
  Bench bench;
  ResolvedCluster cluster;
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80,
                                      endpoints({}, EmptyVerdict::drop), endpoints({endpoint(1, 0)}))}));
  bench.set(cluster);
  const abi::frontend entry = frontend_at(bench.contents, "10.96.0.1", 80);
  EXPECT_EQ(entry.tables[abi::SOURCE_OUTSIDE].size, 0U);
  EXPECT_EQ(entry.tables[abi::SOURCE_OUTSIDE].offset, abi::EMPTY_DROP);
  EXPECT_EQ(entry.tables[abi::SOURCE_POD].size, 0U);
  EXPECT_EQ(entry.tables[abi::SOURCE_POD].offset, abi::EMPTY_REJECT);
  EXPECT_THAT(bench.contents.backends, IsEmpty());
}

TEST(Planner, TheOlderServiceKeepsAnAddress) {
  Bench bench;
  ResolvedCluster cluster;
  const auto at = [](uint32_t first) {
    return std::vector{frontend(FrontendType::external_ip, "198.51.100.7", 80, numbered_endpoints(first, 2))};
  };
  put(cluster, service("young", at(0), "2025-06-01T00:00:00Z"));
  bench.set(cluster);
  EXPECT_EQ(owner_of(bench.contents, "198.51.100.7", 80), "young");
  EXPECT_THAT(bench.complaints, IsEmpty());

  put(cluster, service("old", at(10), "2024-06-01T00:00:00Z"));
  bench.set(cluster);
  EXPECT_EQ(owner_of(bench.contents, "198.51.100.7", 80), "old");
  ASSERT_EQ(bench.complaints.size(), 1U);
  EXPECT_EQ(bench.complaints[0].where, "Service default/young");
  EXPECT_THAT(bench.complaints[0].message,
              HasSubstr("198.51.100.7:80 TCP: that is taken by Service default/old, which comes first"));

  bench.set(cluster);
  EXPECT_EQ(bench.complaints.size(), 1U) << "a complaint stays as long as its reason";
  cluster.erase({"default", "old"});
  bench.set(cluster);
  EXPECT_EQ(owner_of(bench.contents, "198.51.100.7", 80), "young");
  EXPECT_THAT(bench.complaints, IsEmpty());
}

TEST(Planner, EqualAgeGoesByNameAndUnknownAgeIsLast) {
  Bench bench;
  ResolvedCluster cluster;
  const auto at = [](const char* address) {
    return std::vector{frontend(FrontendType::external_ip, address, 80, numbered_endpoints(0, 2))};
  };
  put(cluster, service("b", at("198.51.100.1")));
  put(cluster, service("c", at("198.51.100.1")));
  put(cluster, service("a", at("198.51.100.1"), ""));
  bench.set(cluster);
  EXPECT_EQ(owner_of(bench.contents, "198.51.100.1", 80), "b");
  EXPECT_EQ(bench.complaints.size(), 2U);
}

TEST(Planner, NodeAddressesHaveNoAddressEntry) {
  Bench bench;
  ResolvedCluster cluster;
  const auto set = numbered_endpoints(0, 2);
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, set),
                             frontend(FrontendType::node_port, "192.0.2.1", 30080, set)}));
  put(cluster, service("b", {frontend(FrontendType::external_ip, "192.0.2.1", 81, set)}));
  bench.set(cluster);
  EXPECT_TRUE(bench.contents.frontends.contains(make_key(ip("10.96.0.1"), 0, 0)));
  EXPECT_FALSE(bench.contents.frontends.contains(make_key(ip("192.0.2.1"), 0, 0)));
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, set)}));
  bench.set(cluster);
  EXPECT_TRUE(bench.contents.frontends.contains(make_key(ip("192.0.2.1"), 0, 0)));
}

TEST(Planner, ATableThatDoesNotFitLeavesTheLastGoodState) {
  Bench bench(MapLimits{.maglev_entries = 1616 + 1616});
  ResolvedCluster cluster = many_services(2, 3);
  bench.set(cluster);
  EXPECT_THAT(bench.complaints, IsEmpty());
  const MapContents good = bench.contents;
  const auto changed =
      service("s1", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(50, 4)),
                     frontend(FrontendType::external_ip, "198.51.100.1", 80, numbered_endpoints(50, 4))});
  put(cluster, changed);
  EXPECT_THAT(bench.set(cluster), IsEmpty());
  ASSERT_EQ(bench.complaints.size(), 1U);
  EXPECT_EQ(bench.complaints[0].where, "Service default/s1");
  EXPECT_THAT(bench.complaints[0].message,
              HasSubstr("raise --maglev-entries; its last good state stays in force"));

  cluster.erase({"default", "s0"});
  bench.set(cluster);
  EXPECT_FALSE(bench.complaints.empty()) << "a place may be reused only after its release";
  EXPECT_TRUE(bench.retry);
  bench.release();
  bench.set(cluster);
  EXPECT_THAT(bench.complaints, IsEmpty());
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
}

TEST(Planner, EachKindOfCapacityIsRefusedForThatServiceOnly) {
  struct Case {
    MapLimits limits;
    const char* what;
  };
  for (const auto& [limits, what] :
       {Case{{.services = 2}, "no room for one more service"},
        Case{{.backends = 7}, "no room for one more backend"}, Case{{.frontends = 5}, "more frontends"}}) {
    Bench bench(limits);
    ResolvedCluster cluster = many_services(3, 3);
    bench.set(cluster);
    ASSERT_EQ(bench.complaints.size(), 1U) << what;
    EXPECT_THAT(bench.complaints[0].message, HasSubstr(what));
    EXPECT_THAT(bench.complaints[0].message, HasSubstr("it is not served"));
    cluster.erase({"default", "s2"});
    EXPECT_EQ(check_against_cluster(bench.contents, cluster), "") << what;
  }
}

TEST(Planner, AFailedAttemptTakesNothing) {
  Bench bench(MapLimits{.backends = 6});
  ResolvedCluster cluster;
  put(cluster,
      service("big", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(0, 50))}));
  put(cluster,
      service("small", {frontend(FrontendType::cluster_ip, "10.96.0.2", 80, numbered_endpoints(100, 5))}));
  bench.set(cluster);
  EXPECT_EQ(bench.complaints.size(), 1U);
  EXPECT_EQ(bench.contents.backends.size(), 5U);
  EXPECT_EQ(bench.contents.services.size(), 1U);
}

TEST(Planner, AnExternalAddressThatIsTheNodesOwnLeavesItsOtherPortsAlone) {
  Bench bench;
  ResolvedFrontend one = frontend(FrontendType::external_ip, "192.0.2.1", 80, numbered_endpoints(0, 2));
  one.node_address = true;
  ResolvedCluster cluster;
  put(cluster, service("a", {one}));
  bench.set(cluster);
  EXPECT_EQ(frontend_at(bench.contents, "192.0.2.1", 80).type, abi::FRONTEND_EXTERNAL_IP);
  EXPECT_EQ(bench.contents.frontends.size(), 1U);
}

TEST(Planner, AFailingServiceDoesNotHoldAnAddressThatIsAnothersNow) {
  Bench bench(MapLimits{.maglev_entries = 1616});
  ResolvedCluster cluster;
  const auto set = numbered_endpoints(0, 3);
  put(cluster, service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, set),
                             frontend(FrontendType::external_ip, "198.51.100.1", 80, set)}));
  bench.set(cluster);
  // a gives the external address up but cannot be planned; b takes it.
  put(cluster,
      service("a", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(20, 3))}));
  put(cluster, service("b", {frontend(FrontendType::external_ip, "198.51.100.1", 80, set)}));
  bench.set(cluster);
  EXPECT_EQ(bench.complaints.size(), 1U);
  EXPECT_EQ(owner_of(bench.contents, "10.96.0.1", 80), "a");
  EXPECT_EQ(owner_of(bench.contents, "198.51.100.1", 80), "b");
}

TEST(Planner, NamesThatDoNotFitAreRefused) {
  Bench bench;
  ResolvedCluster cluster = many_services(1, 1);
  put(cluster, service(std::string(64, 'x'),
                       {frontend(FrontendType::cluster_ip, "10.96.9.9", 80, numbered_endpoints(0, 1))}));
  bench.set(cluster);
  ASSERT_EQ(bench.complaints.size(), 1U);
  EXPECT_THAT(bench.complaints[0].message, HasSubstr("the name has 64 characters, at most 63 are possible"));
  EXPECT_EQ(bench.contents.services.size(), 1U);
}

TEST(Planner, ARenamedServiceKeepsTableAndBackends) {
  test::proves({25});
  Bench bench;
  ResolvedCluster cluster;
  const std::vector frontends{frontend(FrontendType::cluster_ip, "10.96.0.1", 80, numbered_endpoints(0, 4))};
  put(cluster, service("before", frontends));
  bench.set(cluster);
  cluster.clear();
  put(cluster, service("after", frontends));
  const auto operations = bench.set(cluster);
  EXPECT_EQ(count_of<WriteTable>(operations), 0U);
  EXPECT_EQ(count_of<PutBackend>(operations), 0U);
  EXPECT_EQ(count_of<DeleteFrontend>(operations), 0U);
  EXPECT_EQ(check_against_cluster(bench.contents, cluster), "");
}

// A packet on its way may still hold an old id.
TEST(Planner, IdsWaitForTheReleaseToo) {
  for (const MapLimits& limits :
       {MapLimits{.services = 1}, MapLimits{.backends = 4}, MapLimits{.frontends = 2}}) {
    Bench bench(limits);
    bench.set(many_services(1, 3));
    EXPECT_THAT(bench.complaints, IsEmpty());
    bench.set({});
    ResolvedCluster other;
    put(other,
        service("new", {frontend(FrontendType::cluster_ip, "10.96.7.7", 80, numbered_endpoints(70, 3))}));
    bench.set(other);
    EXPECT_EQ(bench.complaints.size(), 1U);
    EXPECT_TRUE(bench.retry);
    bench.release();
    bench.set(other);
    EXPECT_THAT(bench.complaints, IsEmpty());
    EXPECT_EQ(check_against_cluster(bench.contents, other), "");
  }
}

// A plan that was never applied must not lead to reuse of what the kernel still has.
TEST(Planner, ReleaseOfAnAppliedPlanLeavesLaterRetirementsAlone) {
  Bench bench(MapLimits{.maglev_entries = 1616 * 2});
  bench.set(many_services(2, 3));
  const uint64_t applied = bench.plan.generation;
  bench.planner.update(many_services(1, 3));
  bench.planner.release_retired(applied);
  ResolvedCluster cluster = many_services(1, 3);
  put(cluster,
      service("new", {frontend(FrontendType::cluster_ip, "10.96.7.7", 80, numbered_endpoints(70, 3))}));
  EXPECT_EQ(bench.planner.update(cluster).complaints.size(), 1U);
}

}  // namespace
}  // namespace maglane
