// SPDX-License-Identifier: Apache-2.0
#include "agent/health/answers.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>

#include "agent/health/proxy_state.h"
#include "tests/unit/health/model.h"

namespace maglane {
namespace {

using namespace std::chrono_literals;
using test::moment;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

const auto kNoSniff = Pair("X-Content-Type-Options", "nosniff");

v1::ServiceHealth service(uint32_t endpoints, bool healthy) {
  return service_health({"default", "web"}, {30500, {{Family::ipv4, endpoints}}}, Family::ipv4, healthy);
}

TEST(Answers, Point28_AServiceWithEndpointsHere) {
  const HttpAnswer answer = answer_of(service(2, true));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.content_type, "application/json");
  EXPECT_THAT(answer.headers, ElementsAre(kNoSniff, Pair("X-Load-Balancing-Endpoint-Weight", "2")));
  EXPECT_EQ(answer.body,
            R"({"service":{"namespace":"default","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true})");
}

TEST(Answers, Point28_AServiceWithNoneHere) {
  const HttpAnswer answer = answer_of(service(0, true));
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.headers, ElementsAre(kNoSniff, Pair("X-Load-Balancing-Endpoint-Weight", "0")));
  EXPECT_EQ(answer.body,
            R"({"service":{"namespace":"default","name":"web"},"localEndpoints":0,"serviceProxyHealthy":true})");
}

TEST(Answers, Point28_AnUnhealthyProxy) {
  const HttpAnswer answer = answer_of(service(3, false));
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.headers, ElementsAre(kNoSniff, Pair("X-Load-Balancing-Endpoint-Weight", "3")));
  EXPECT_THAT(answer.body, HasSubstr(R"("localEndpoints":3,"serviceProxyHealthy":false})"));
}

TEST(Answers, Point28_EachFamilyIsAnsweredForItself) {
  const HealthCheck both{30500, {{Family::ipv4, 2}, {Family::ipv6, 0}}}, only{30500, {{Family::ipv6, 1}}};
  EXPECT_EQ(service_health({"a", "b"}, both, Family::ipv4, true).local_endpoints(), 2U);
  EXPECT_EQ(service_health({"a", "b"}, both, Family::ipv6, true).local_endpoints(), 0U);
  EXPECT_EQ(service_health({"a", "b"}, only, Family::ipv4, true).local_endpoints(), 1U)
      << "a service of one family may be asked about in the other";
  EXPECT_EQ(service_health({"a", "b"}, {30500, {}}, Family::ipv4, true).local_endpoints(), 0U);
}

TEST(Answers, Point29_Healthz) {
  ProxyState state({Family::ipv4}, 60s, moment());
  state.applied(moment());
  const HttpAnswer fine = answer_of(state.healthz(moment(1s)));
  EXPECT_EQ(fine.status, 200);
  EXPECT_EQ(fine.content_type, "application/json");
  EXPECT_THAT(fine.headers, ElementsAre(kNoSniff));
  EXPECT_EQ(fine.body,
            R"({"healthy":true,"status":{"IPv4":{"healthy":true,"lastUpdated":"2026-01-02T03:04:05Z"}},)"
            R"("lastUpdated":"2026-01-02T03:04:06Z","currentTime":"2026-01-02T03:04:06Z","nodeEligible":true})");
  v1::Node leaving;
  leaving.mutable_metadata()->set_deletion_timestamp("2026-01-01T00:00:00Z");
  state.set_node(&leaving);
  const HttpAnswer ineligible = answer_of(state.healthz(moment(1s)));
  EXPECT_EQ(ineligible.status, 503);
  EXPECT_THAT(ineligible.body, AllOf(HasSubstr(R"("nodeEligible":false)"), StartsWith(R"({"healthy":true,)")));
  EXPECT_EQ(answer_of(state.livez(moment(1s))).status, 200);
}

TEST(Answers, Point29_Livez) {
  ProxyState state({Family::ipv4}, 60s, moment());
  EXPECT_THAT(answer_of(state.livez(moment())).body, Not(HasSubstr("nodeEligible")));
  state.queued(moment());
  const HttpAnswer late = answer_of(state.livez(moment(60s)));
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.body,
            R"({"healthy":false,"status":{"IPv4":{"healthy":false,"lastUpdated":"0001-01-01T00:00:00Z"}},)"
            R"("lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-01-02T03:05:05Z"})");
  EXPECT_EQ(answer_of(state.healthz(moment(60s))).status, 503);
}

TEST(Answers, Probes) {
  EXPECT_EQ(probe_of({"GET", "/healthz", {}}), Probe::healthz);
  EXPECT_EQ(probe_of({"GET", "/livez", {}}), Probe::livez);
  for (const char* path : {"/", "", "/healthz/", "/livezz", "/metrics"}) {
    EXPECT_EQ(probe_of({"GET", path, {}}), Probe::none) << path;
  }
  EXPECT_EQ(not_found("x").status, 404);
}

}  // namespace
}  // namespace maglane
