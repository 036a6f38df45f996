// SPDX-License-Identifier: Apache-2.0
#include "agent/health/proxy_state.h"

#include <google/protobuf/util/time_util.h>
#include <gtest/gtest.h>

#include "tests/unit/health/model.h"

namespace maglane {
namespace {

using namespace std::chrono_literals;
using google::protobuf::util::TimeUtil;
using test::moment;

class State : public testing::Test {
 protected:
  v1::Node node(const std::string& deleted, const std::string& taint) {
    v1::Node made;
    made.mutable_metadata()->set_deletion_timestamp(deleted);
    if (!taint.empty()) made.mutable_spec()->add_taints()->set_key(taint);
    return made;
  }
  ProxyState state_{{Family::ipv4, Family::ipv6}, 60s, moment()};
};

TEST_F(State, Point29_HealthyWhileStarting) {
  EXPECT_TRUE(state_.healthy(moment(59s)));
  EXPECT_EQ(state_.waiting(moment(59s)), 0s);
  EXPECT_TRUE(state_.healthz(moment()).healthy());
}

TEST_F(State, Point29_UnhealthyFromTheLimitOn) {
  state_.queued(moment(1s));
  state_.alive(moment(70s));
  EXPECT_TRUE(state_.healthy(moment(61s - 1ms)));
  EXPECT_FALSE(state_.healthy(moment(61s)));
  EXPECT_EQ(state_.waiting(moment(61s)), 60s);
}

TEST_F(State, Point29_TheOldestChangeCountsUntilAllIsApplied) {
  state_.queued(moment(1s));
  state_.queued(moment(50s));
  state_.alive(moment(100s));
  EXPECT_FALSE(state_.healthy(moment(61s)));
  state_.applied(moment(62s));
  EXPECT_TRUE(state_.healthy(moment(62s)));
  state_.queued(moment(63s));
  EXPECT_TRUE(state_.healthy(moment(122s)));
  EXPECT_FALSE(state_.healthy(moment(123s)));
}

TEST_F(State, Point29_WhoeverTakesChangesMustBeAlive) {
  state_.applied(moment());
  state_.alive(moment(10s));
  EXPECT_TRUE(state_.healthy(moment(69s)));
  EXPECT_FALSE(state_.healthy(moment(70s)));
  state_.alive(moment(70s));
  EXPECT_TRUE(state_.healthy(moment(70s)));
}

TEST_F(State, Point29_AClockThatIsSetMakesNobodySick) {
  state_.queued(moment());
  Instant later = moment(1s);
  later.wall += 24h;
  EXPECT_TRUE(state_.healthy(later));
}

TEST_F(State, Point29_NodeEligibility) {
  EXPECT_TRUE(state_.node_eligible());
  for (const auto& [deleted, taint, eligible] :
       {std::tuple("", "", true), {"", "node.kubernetes.io/unreachable", true},
        {"", "ToBeDeletedByClusterAutoscaler", false}, {"2026-01-01T00:00:00Z", "", false}}) {
    const v1::Node shown = node(deleted, taint);
    state_.set_node(&shown);
    EXPECT_EQ(state_.node_eligible(), eligible) << deleted << taint;
    EXPECT_EQ(state_.healthz(moment()).node_eligible(), eligible);
    EXPECT_TRUE(state_.healthz(moment()).healthy()) << "the proxy itself is well";
  }
  state_.set_node(nullptr);
  EXPECT_TRUE(state_.node_eligible());
}

TEST_F(State, Point29_TimesOfAHealthyProxy) {
  state_.applied(moment(1s));
  const v1::ProxyHealth health = state_.healthz(moment(30s));
  EXPECT_EQ(TimeUtil::ToString(health.current_time()), "2026-01-02T03:04:35Z");
  EXPECT_EQ(TimeUtil::ToString(health.last_updated()), "2026-01-02T03:04:35Z") << "recent, as with kube-proxy";
  ASSERT_EQ(health.status().size(), 2U);
  for (const char* family : {"IPv4", "IPv6"}) {
    EXPECT_EQ(TimeUtil::ToString(health.status().at(family).last_updated()), "2026-01-02T03:04:06Z");
    EXPECT_TRUE(health.status().at(family).healthy());
  }
}

TEST_F(State, Point29_TimesOfAnUnhealthyProxy) {
  state_.applied(moment(1s));
  state_.queued(moment(2s));
  const v1::ProxyHealth health = state_.livez(moment(62s));
  EXPECT_FALSE(health.healthy());
  EXPECT_EQ(TimeUtil::ToString(health.last_updated()), "2026-01-02T03:04:06Z");
  EXPECT_FALSE(health.status().at("IPv6").healthy());
}

TEST_F(State, Point29_AnIneligibleNodesTimeIsThatOfItsUpdate) {
  state_.applied(moment(1s));
  const v1::Node leaving = node("", "ToBeDeletedByClusterAutoscaler");
  state_.set_node(&leaving);
  EXPECT_EQ(TimeUtil::ToString(state_.healthz(moment(30s)).last_updated()), "2026-01-02T03:04:06Z");
  EXPECT_EQ(TimeUtil::ToString(state_.livez(moment(30s)).last_updated()), "2026-01-02T03:04:35Z");
}

TEST_F(State, Point29_LivezKnowsNothingOfTheNode) {
  EXPECT_FALSE(state_.livez(moment()).has_node_eligible());
  EXPECT_TRUE(state_.healthz(moment()).has_node_eligible());
}

TEST_F(State, Point29_NeverUpdatedIsTheYearOne) {
  state_.queued(moment());
  EXPECT_EQ(TimeUtil::ToString(state_.livez(moment(60s)).last_updated()), "0001-01-01T00:00:00Z");
}

TEST(StateOfOneFamily, Point29_OnlyFamiliesThatAreServed) {
  const ProxyState state({Family::ipv6}, 60s, moment());
  const v1::ProxyHealth health = state.healthz(moment());
  ASSERT_EQ(health.status().size(), 1U);
  EXPECT_TRUE(health.status().contains("IPv6"));
}

}  // namespace
}  // namespace maglane
