// SPDX-License-Identifier: Apache-2.0
#include "agent/health/monitor.h"

#include <gmock/gmock.h>

#include "tests/unit/health/model.h"

namespace maglane {
namespace {

using namespace std::chrono_literals;
using test::checked;
using test::moment;
using test::Update;
using testing::HasSubstr;
using testing::Not;

class Monitor : public testing::Test {
 protected:
  void apply(const Update& update, Instant now = moment()) {
    monitor_.resolved(update.changes);
    monitor_.applied(update.cluster, 1ms, now);
  }
  HttpAnswer at(uint16_t port, const std::string& path = "/", Instant now = moment()) {
    return monitor_.answer_service({"GET", path, {port, Family::ipv4}}, now);
  }
  HttpAnswer probe(const std::string& path, Instant now) { return monitor_.answer_probe({"GET", path, {}}, now); }
  std::string metrics() { return monitor_.answer_metrics({"GET", "/metrics", {}}).body; }

  Result<std::vector<prometheus::MetricFamily>> data_plane_ = std::vector<prometheus::MetricFamily>();
  HealthMonitor monitor_{{Family::ipv4}, 60s, "1", [this] { return data_plane_; }, moment()};
};

TEST_F(Monitor, Point28_AnswersForTheServiceOfThePort) {
  apply(Update({checked("a", 30001, 1), checked("b", 30002, 0)}));
  EXPECT_EQ(at(30001).status, 200);
  EXPECT_THAT(at(30001).body, HasSubstr("\"name\":\"a\""));
  EXPECT_EQ(at(30002).status, 503);
  EXPECT_EQ(at(30001, "/any/path/at/all").status, 200);
  EXPECT_EQ(at(30003).status, 404);
}

TEST_F(Monitor, Point28_ServicesAreUnhealthyWithTheProxy) {
  apply(Update({checked("a", 30001, 1)}));
  monitor_.queued(moment(1s));
  EXPECT_EQ(at(30001, "/", moment(60s)).status, 503) << "silent for a minute";
  monitor_.alive(moment(60s));
  EXPECT_EQ(at(30001, "/", moment(60s)).status, 200);
  const HttpAnswer late = at(30001, "/", moment(61s));
  EXPECT_EQ(late.status, 503);
  EXPECT_THAT(late.body, HasSubstr("\"localEndpoints\":1,\"serviceProxyHealthy\":false"));
}

// An ineligible node still serves: the service's own load balancer is not turned away.
TEST_F(Monitor, Point28_NotWithTheNodesEligibility) {
  apply(Update({checked("a", 30001, 1)}));
  v1::Node leaving;
  leaving.mutable_spec()->add_taints()->set_key("ToBeDeletedByClusterAutoscaler");
  monitor_.set_node(&leaving);
  EXPECT_EQ(at(30001).status, 200);
  EXPECT_EQ(probe("/healthz", moment()).status, 503);
}

TEST_F(Monitor, Point28_OnlyWhatIsInForceIsTold) {
  apply(Update({checked("a", 30001, 1)}));
  Update next({checked("a", 30001, 0)});
  monitor_.resolved(next.changes);
  monitor_.failed(1ms);
  EXPECT_EQ(at(30001).status, 200);
  // The next try finds nothing new to resolve, and succeeds.
  monitor_.resolved({});
  monitor_.applied(next.cluster, 1ms, moment());
  EXPECT_EQ(at(30001).status, 503);
}

TEST_F(Monitor, Point29_ProbesAreCounted) {
  monitor_.queued(moment());
  monitor_.alive(moment(60s));
  EXPECT_EQ(probe("/healthz", moment(1s)).status, 200);
  EXPECT_EQ(probe("/healthz", moment(60s)).status, 503);
  EXPECT_EQ(probe("/livez", moment(60s)).status, 503);
  EXPECT_EQ(probe("/", moment()).status, 404);
  EXPECT_THAT(metrics(), HasSubstr("maglane_proxy_healthz_total{code=\"503\"} 1\n"));
  EXPECT_THAT(metrics(), HasSubstr("maglane_proxy_livez_total{code=\"503\"} 1\n"));
}

TEST_F(Monitor, Point29_ProgrammingIsCountedWhenItIsDone) {
  Update update({checked("a", 30001, 1)});
  auto slice = std::make_shared<v1::EndpointSlice>();
  (*slice->mutable_metadata()->mutable_annotations())["endpoints.kubernetes.io/last-change-trigger-time"] =
      "2026-01-02T03:04:06Z";
  update.changes.slices = {{{"default", "a"}, slice}};
  monitor_.resolved(update.changes);
  monitor_.failed(1ms);
  EXPECT_THAT(metrics(), HasSubstr("maglane_network_programming_duration_seconds_count 0\n"));
  monitor_.applied(update.cluster, 1ms, moment(3s));
  EXPECT_THAT(metrics(), HasSubstr("maglane_network_programming_duration_seconds_count 1\n"));
  EXPECT_THAT(metrics(), HasSubstr("maglane_network_programming_duration_seconds_sum 2\n"));
}

TEST_F(Monitor, Point29_MetricsWithoutADataPlane) {
  data_plane_->push_back({"maglane_packets_total", "", prometheus::MetricType::Counter, {}});
  EXPECT_THAT(metrics(), HasSubstr("# TYPE maglane_packets_total counter"));
  data_plane_ = Error{"gone"};
  EXPECT_THAT(metrics(), Not(HasSubstr("maglane_packets_total")));
  EXPECT_THAT(metrics(), HasSubstr("maglane_build_info"));
  EXPECT_EQ(monitor_.answer_metrics({"GET", "/", {}}).status, 404);
  EXPECT_EQ(monitor_.answer_metrics({"GET", "/metrics", {}}).content_type,
            "text/plain; version=0.0.4; charset=utf-8");
}

TEST_F(Monitor, TheStatusShowsIt) {
  apply(Update({checked("a", 30001, 1), checked("b", 30002, 0)}));
  monitor_.set_deaf_ports({30002});
  monitor_.queued(moment(1s));
  v1::Health health;
  monitor_.describe(moment(3s), &health);
  EXPECT_TRUE(health.proxy().healthy());
  EXPECT_DOUBLE_EQ(health.waiting_seconds(), 2);
  ASSERT_EQ(health.ports_size(), 2);
  EXPECT_EQ(health.ports(0).service(), "default/a");
  EXPECT_EQ(health.ports(0).port(), 30001U);
  EXPECT_TRUE(health.ports(0).listening());
  EXPECT_EQ(health.ports(0).answers(0).local_endpoints(), 1U);
  EXPECT_EQ(health.ports(0).families(0), "IPv4");
  EXPECT_FALSE(health.ports(1).listening());
}

}  // namespace
}  // namespace maglane
