// SPDX-License-Identifier: Apache-2.0
//
// What services ask of their clients, as map contents and in the order in which it changes:
// flags of frontends, source ranges, endpoints whose flows of UDP are forgotten, endpoints in
// the node's own network. Numbers are points of the service contract.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "tests/unit/plan/cluster.h"
#include "tests/unit/plan/model.h"

namespace maglane {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Policy : public ::testing::Test {
 protected:
  // The operations to what `port` asks for; each prefix is checked.
  std::vector<std::string> set(ResolvedServicePort port) {
    ResolvedCluster cluster;
    ResolvedService service{{"default", "web"}, "", {}};
    port.key = {service.key, "", Protocol::udp, Family::ipv4};
    port.port = 53;
    service.ports.push_back(std::move(port));
    put(cluster, std::make_shared<const ResolvedService>(std::move(service)));
    return set(cluster);
  }
  std::vector<std::string> set(const ResolvedCluster& cluster) {
    const Plan next = planner_.update(cluster).plan;
    const auto operations = diff(plan_, next);
    EXPECT_EQ(check_prefixes(operations, contents_), "");
    planner_.release_retired(next.generation);
    plan_ = next;
    cleanup_ = cleanup_begin(operations);
    std::vector<std::string> texts;
    for (const auto& operation : operations) texts.push_back(to_string(operation));
    return texts;
  }
  static std::vector<std::string> about(const std::vector<std::string>& texts, const std::string& word) {
    std::vector<std::string> some;
    for (const auto& text : texts)
      if (text.find(word) != std::string::npos) some.push_back(text);
    return some;
  }
  static ResolvedServicePort port_with(EndpointSetPtr set) {
    ResolvedServicePort port;
    port.frontends = {frontend(FrontendType::load_balancer, "203.0.113.1", 53, std::move(set))};
    return port;
  }

  Planner planner_{MapLimits{}};
  Plan plan_;
  MapContents contents_;
  size_t cleanup_ = 0;
};

TEST_F(Policy, Point16_Point22_Point23_FlagsOfFrontends) {
  ResolvedServicePort port = port_with(numbered_endpoints(1, 2));
  port.affinity_seconds = 60;
  port.frontends[0].external_local = port.frontends[0].limited = true;
  const auto made = about(set(port), "put frontend 203.0.113.1:53");
  ASSERT_EQ(made.size(), 1U);
  EXPECT_NE(made[0].find(", policy local, source ranges, affinity 60 s"), std::string::npos) << made[0];
  port.affinity_seconds = 0;
  EXPECT_EQ(set(port).size(), 1U);
}

TEST_F(Policy, Point22_RangesComeBeforeTheFrontendAndGoAfterIt) {
  ResolvedServicePort port = port_with(numbered_endpoints(1, 1));
  set(port);
  port.frontends[0].limited = true;
  port.source_ranges = {*Cidr::parse("10.0.0.0/8"), *Cidr::parse("192.0.2.0/24")};
  EXPECT_THAT(set(port), ElementsAre("put source range 10.0.0.0/8 of service 1",
                                     "put source range 192.0.2.0/24 of service 1",
                                     ::testing::HasSubstr("put frontend 203.0.113.1:53")));
  port.source_ranges = {*Cidr::parse("192.0.2.0/24"), *Cidr::parse("198.51.100.0/24")};
  EXPECT_THAT(set(port), ElementsAre("put source range 198.51.100.0/24 of service 1",
                                     "delete source range 10.0.0.0/8 of service 1"));
  EXPECT_EQ(contents_.source_ranges.size(), 2U);
  port.source_ranges.clear();
  port.frontends[0].limited = false;
  EXPECT_THAT(set(port), ElementsAre(::testing::HasSubstr("put frontend"), ::testing::HasSubstr("delete source"),
                                     ::testing::HasSubstr("delete source")));
  EXPECT_THAT(contents_.source_ranges, IsEmpty());
}

TEST_F(Policy, Point22_RangesThatDoNotFitAreRefusedAndTheOldOnesStay) {
  MapLimits limits;
  limits.source_ranges = 2;
  Planner planner(limits);
  ResolvedServicePort port = port_with(numbered_endpoints(1, 1));
  const auto update = [&](std::vector<const char*> ranges) {
    port.source_ranges.clear();
    for (const char* range : ranges) port.source_ranges.push_back(*Cidr::parse(range));
    ResolvedService service{{"default", "web"}, "", {}};
    port.key = {service.key, "", Protocol::udp, Family::ipv4};
    service.ports.push_back(port);
    ResolvedCluster cluster;
    put(cluster, std::make_shared<const ResolvedService>(std::move(service)));
    return planner.update(cluster);
  };
  EXPECT_THAT(update({"10.0.0.0/8", "11.0.0.0/8"}).complaints, IsEmpty());
  const PlanUpdate refused = update({"10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"});
  ASSERT_EQ(refused.complaints.size(), 1U);
  EXPECT_EQ(refused.complaints[0].message,
            "no room for its 3 source ranges, all others have 0 of 2; its last good state stays in force");
  EXPECT_EQ(to_contents(refused.plan).source_ranges.size(), 2U);
  EXPECT_THAT(update({"12.0.0.0/8", "13.0.0.0/8"}).complaints, IsEmpty());
}

TEST_F(Policy, Point26_EndpointsThatServeNoMoreAreForgottenLast) {
  ResolvedServicePort port = port_with(numbered_endpoints(1, 2));
  port.serving = {{ip("10.1.0.1"), 8080}, {ip("10.1.0.2"), 8080}};
  set(port);
  // It still serves: nothing is forgotten, though new datagrams go elsewhere.
  port.frontends = port_with(numbered_endpoints(2, 1)).frontends;
  EXPECT_THAT(about(set(port), "forget"), IsEmpty());
  port.serving = {{ip("10.1.0.2"), 8080}};
  EXPECT_THAT(set(port), ElementsAre("forget 10.1.0.1:8080 UDP of service 1"));
  EXPECT_EQ(cleanup_, 0U) << "a packet under way may still make such a flow";
  // The service goes, and all of its flows.
  const auto gone = set(ResolvedCluster{});
  EXPECT_EQ(gone.back(), "forget 10.1.0.2:8080 UDP of service 1");
}

TEST_F(Policy, Point26_FlowsThatAPreviousAgentLeft) {
  ResolvedServicePort port = port_with(numbered_endpoints(1, 1));
  port.serving = {{ip("10.1.0.1"), 8080}};
  set(port);
  MapContents found = to_contents(plan_);
  for (const char* address : {"10.1.0.1", "10.1.0.9"})
    found.udp_endpoints.insert(make_service_endpoint(1, ip(address), 8080, Protocol::udp));
  const auto operations = diff(found, plan_);
  ASSERT_EQ(operations.size(), 1U);
  EXPECT_EQ(to_string(operations[0]), "forget 10.1.0.9:8080 UDP of service 1");
}

TEST_F(Policy, RangesThatNobodyWantsAnyMoreAreRemovedAtTheStart) {
  ResolvedServicePort port = port_with(numbered_endpoints(1, 1));
  port.source_ranges = {*Cidr::parse("10.0.0.0/8")};
  set(port);
  MapContents found = to_contents(plan_);
  EXPECT_EQ(found.source_ranges.size(), 1U);
  found.source_ranges.insert(make_source_range(7, *Cidr::parse("0.0.0.0/0")));
  const auto operations = diff(found, plan_);
  ASSERT_EQ(operations.size(), 1U);
  EXPECT_EQ(to_string(operations[0]), "delete source range 0.0.0.0/0 of service 7");
}

TEST_F(Policy, EndpointsInTheNodesOwnNetwork) {
  ResolvedEndpoint here = endpoint(1);
  here.node = here.local = true;
  EXPECT_EQ(planner_.node_backends(), 0U);
  const auto made = about(set(port_with(endpoints({here, endpoint(2)}))), "put backend");
  EXPECT_THAT(made, ElementsAre("put backend 1: 10.1.0.1:8080 UDP node", "put backend 2: 10.1.0.2:8080 UDP"));
  EXPECT_EQ(planner_.node_backends(), 1U);
  // The address is the node's no more.
  EXPECT_THAT(about(set(port_with(numbered_endpoints(1, 2))), "put backend"),
              ElementsAre("put backend 1: 10.1.0.1:8080 UDP"));
  EXPECT_EQ(planner_.node_backends(), 0U);
}

TEST_F(Policy, AnAddressClaimedTwiceIsAnEvent) {
  ResolvedCluster cluster;
  const auto claim = [&](const char* name, const char* created) {
    put(cluster, service(name, {frontend(FrontendType::external_ip, "203.0.113.1", 80, numbered_endpoints(1, 1))},
                         created));
  };
  claim("younger", "2026-02-01T00:00:00Z");
  EXPECT_THAT(planner_.update(cluster).events, IsEmpty());
  claim("elder", "2026-01-01T00:00:00Z");
  const PlanUpdate update = planner_.update(cluster);
  ASSERT_EQ(update.events.size(), 1U);
  EXPECT_EQ(update.events[0].kind() + " " + update.events[0].namespace_() + "/" + update.events[0].name() + " " +
                update.events[0].type() + " " + update.events[0].reason(),
            "Service default/younger Warning AddressConflict");
  ASSERT_EQ(update.complaints.size(), 1U);
  EXPECT_EQ(update.events[0].message(), update.complaints[0].message);
  cluster.erase({"default", "elder"});
  EXPECT_THAT(planner_.update(cluster).events, IsEmpty());
}

}  // namespace
}  // namespace maglane
