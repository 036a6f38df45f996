// SPDX-License-Identifier: Apache-2.0
#include "agent/health/metrics.h"

#include <gmock/gmock.h>

#include "agent/health/exposition.h"
#include "agent/health/trigger_times.h"
#include "tests/unit/health/model.h"

namespace maglane {
namespace {

using namespace std::chrono_literals;
using test::moment;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class MetricsTest : public testing::Test {
 protected:
  std::string text() { return to_text(metrics_.collect()); }
  // The line of one time series.
  std::string value(const std::string& series) {
    const std::string all = "\n" + text();
    const size_t at = all.find("\n" + series + " ");
    if (at == std::string::npos) return "none";
    const size_t begin = at + series.size() + 2;
    return all.substr(begin, all.find('\n', begin) - begin);
  }
  Metrics metrics_{"1.2.3"};
};

TEST_F(MetricsTest, Point29_UpdatesOfTheDataPlane) {
  metrics_.queued(moment(1s));
  metrics_.applied(3ms, moment(2s), {2, 5});
  metrics_.failed(20ms);
  EXPECT_EQ(value("maglane_sync_proxy_rules_duration_seconds_count"), "2");
  EXPECT_EQ(value("maglane_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\"}"), "0");
  EXPECT_EQ(value("maglane_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\"}"), "1");
  EXPECT_EQ(value("maglane_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\"}"), "2");
  EXPECT_EQ(value("maglane_sync_proxy_rules_last_queued_timestamp_seconds"), "1767323046");
  EXPECT_EQ(value("maglane_sync_proxy_rules_last_timestamp_seconds"), "1767323047");
  EXPECT_EQ(value("maglane_sync_proxy_rules_failures_total"), "1");
  EXPECT_EQ(value("maglane_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"}"), "2");
  EXPECT_EQ(value("maglane_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}"), "5");
  EXPECT_EQ(value("maglane_build_info{version=\"1.2.3\"}"), "1");
}

TEST_F(MetricsTest, Point29_ChangesArePendingUntilApplied) {
  metrics_.changed(2, 3);
  metrics_.failed(1ms);
  metrics_.changed(1, 0);
  EXPECT_EQ(value("maglane_sync_proxy_rules_service_changes_total"), "3");
  EXPECT_EQ(value("maglane_sync_proxy_rules_service_changes_pending"), "3");
  EXPECT_EQ(value("maglane_sync_proxy_rules_endpoint_changes_total"), "3");
  EXPECT_EQ(value("maglane_sync_proxy_rules_endpoint_changes_pending"), "3");
  metrics_.applied(1ms, moment(), {});
  EXPECT_EQ(value("maglane_sync_proxy_rules_service_changes_total"), "3");
  EXPECT_EQ(value("maglane_sync_proxy_rules_service_changes_pending"), "0");
  EXPECT_EQ(value("maglane_sync_proxy_rules_endpoint_changes_pending"), "0");
}

TEST_F(MetricsTest, Point29_NetworkProgrammingHasKubeProxysBuckets) {
  metrics_.programmed(0.3);
  metrics_.programmed(58.5);
  EXPECT_EQ(value("maglane_network_programming_duration_seconds_bucket{le=\"0.25\"}"), "0");
  EXPECT_EQ(value("maglane_network_programming_duration_seconds_bucket{le=\"0.5\"}"), "1");
  EXPECT_EQ(value("maglane_network_programming_duration_seconds_bucket{le=\"58\"}"), "1");
  EXPECT_EQ(value("maglane_network_programming_duration_seconds_bucket{le=\"59\"}"), "2");
  for (const char* bound : {"60", "115", "120", "150", "300", "+Inf"}) {
    EXPECT_EQ(value("maglane_network_programming_duration_seconds_bucket{le=\"" + std::string(bound) + "\"}"), "2");
  }
  EXPECT_EQ(value("maglane_network_programming_duration_seconds_sum"), "58.8");
}

TEST_F(MetricsTest, Point29_Probes) {
  EXPECT_EQ(value("maglane_proxy_healthz_total{code=\"503\"}"), "0") << "there before the first";
  metrics_.probed(Probe::healthz, 200);
  metrics_.probed(Probe::healthz, 503);
  metrics_.probed(Probe::healthz, 503);
  metrics_.probed(Probe::livez, 200);
  metrics_.probed(Probe::none, 404);
  EXPECT_EQ(value("maglane_proxy_healthz_total{code=\"200\"}"), "1");
  EXPECT_EQ(value("maglane_proxy_healthz_total{code=\"503\"}"), "2");
  EXPECT_EQ(value("maglane_proxy_livez_total{code=\"200\"}"), "1");
  EXPECT_EQ(value("maglane_proxy_livez_total{code=\"503\"}"), "0");
}

TEST_F(MetricsTest, Point29_NoLocalEndpointsOfEachPolicy) {
  const auto dropping = std::make_shared<const EndpointSet>(EndpointSet{{}, EmptyVerdict::drop});
  const auto rejecting = std::make_shared<const EndpointSet>();
  const auto some = std::make_shared<const EndpointSet>(EndpointSet{{{IpAddress(), 80}}, EmptyVerdict::drop});
  const auto frontend = [](FrontendType type, EndpointSetPtr set) {
    return ResolvedFrontend{type, IpAddress(), 80, set, set};
  };
  auto service = test::service("web");
  service->ports.resize(3);
  service->ports[0].frontends = {frontend(FrontendType::cluster_ip, dropping),
                                 frontend(FrontendType::node_port, dropping),
                                 frontend(FrontendType::load_balancer, dropping)};
  service->ports[1].frontends = {frontend(FrontendType::cluster_ip, some),
                                 frontend(FrontendType::external_ip, dropping)};
  service->ports[2].frontends = {frontend(FrontendType::cluster_ip, rejecting),
                                 frontend(FrontendType::node_port, rejecting)};
  NoLocalEndpoints none;
  none.add(*service, 1);
  EXPECT_EQ(none.internal, 1U);
  EXPECT_EQ(none.external, 2U);
  none.add(*service, -1);
  EXPECT_EQ(none.internal + none.external, 0U);
}

// ---- when changes happened -------------------------------------------------------

ResolveChanges::Slice change(const std::string& service, const std::string& time) {
  auto slice = std::make_shared<v1::EndpointSlice>();
  if (!time.empty())
    (*slice->mutable_metadata()->mutable_annotations())["endpoints.kubernetes.io/last-change-trigger-time"] = time;
  return {{"default", service}, slice};
}

TEST(TriggerTimesTest, Point29_FromTheAnnotation) {
  TriggerTimes times(moment().wall);
  times.see(change("a", "2026-01-02T03:04:06Z"));
  times.see(change("a", "2026-01-02T03:04:06.5Z"));
  times.see(change("b", "2026-01-02T05:04:07+02:00"));
  EXPECT_THAT(times.take(moment(10s).wall), UnorderedElementsAre(9, 8.5, 8));
  EXPECT_THAT(times.take(moment(10s).wall), IsEmpty()) << "each change once";
}

TEST(TriggerTimesTest, Point29_NotWhatHappenedBeforeTheAgentStarted) {
  TriggerTimes times(moment().wall);
  times.see(change("a", "2026-01-02T03:04:05Z"));
  times.see(change("a", "2026-01-02T03:00:00Z"));
  EXPECT_THAT(times.take(moment(10s).wall), IsEmpty());
}

TEST(TriggerTimesTest, Point29_NotOfSlicesThatAreGone) {
  TriggerTimes times(moment().wall);
  times.see(change("a", "2026-01-02T03:04:06Z"));
  times.see(change("b", "2026-01-02T03:04:06Z"));
  times.see({{"default", "a"}, nullptr});
  EXPECT_THAT(times.take(moment(2s).wall), ElementsAre(1));
}

TEST(TriggerTimesTest, Point29_WithoutATimeThereIsNone) {
  TriggerTimes times(moment().wall);
  for (const char* time : {"", "yesterday", "2026-13-02T03:04:06Z", "2026-01-02 03:04:06", "1767323045"}) {
    times.see(change("a", time));
  }
  auto headless = change("a", "2026-01-02T03:04:06Z");
  auto slice = std::make_shared<v1::EndpointSlice>(*headless.slice);
  (*slice->mutable_metadata()->mutable_labels())["service.kubernetes.io/headless"] = "";
  times.see({headless.service, slice});
  EXPECT_THAT(times.take(moment(10s).wall), IsEmpty());
}

// ---- what is read when somebody asks -----------------------------------------------

TEST(Exposition, Point29_PacketsByReason) {
  v1::Stats stats;
  v1::Counter& counter = *stats.add_counters();
  counter.set_hook("xdp");
  counter.set_reason("no_endpoint");
  counter.set_verdict("reject");
  counter.set_packets(7);
  counter.set_bytes(4294967297.0);
  const std::string text = to_text(packet_families(stats));
  EXPECT_THAT(text, HasSubstr("# TYPE maglane_packets_total counter\n"));
  EXPECT_THAT(text, HasSubstr("maglane_packets_total{hook=\"xdp\",reason=\"no_endpoint\",verdict=\"reject\"} 7\n"));
  EXPECT_THAT(text,
              HasSubstr("maglane_bytes_total{hook=\"xdp\",reason=\"no_endpoint\",verdict=\"reject\"} 4294967297\n"));
}

TEST(Exposition, Point29_ConnectionsByService) {
  v1::ServiceList list;
  v1::ServiceInfo& info = *list.add_services();
  info.set_namespace_("default");
  info.set_name("web");
  info.set_port_name("http");
  info.set_protocol("TCP");
  info.set_family("IPv6");
  info.set_connections(12);
  EXPECT_THAT(to_text({connection_family(list)}),
              HasSubstr("maglane_service_connections_total{namespace=\"default\",service=\"web\",port=\"http\","
                        "protocol=\"TCP\",family=\"IPv6\"} 12\n"));
}

TEST(Exposition, Point29_EndpointsByCondition) {
  auto service = test::service("web");
  ResolvedServicePort port;
  port.key = {service->key, "http", Protocol::udp, Family::ipv4};
  port.port = 80;
  port.endpoints = {4, 2, 1, 3};
  service->ports.push_back(port);
  const std::string text = to_text(endpoint_families({{service->key, service}}));
  const std::string labels = "namespace=\"default\",service=\"web\",port=\"http\",protocol=\"UDP\",family=\"IPv4\"";
  EXPECT_THAT(text, HasSubstr("maglane_service_endpoints{" + labels + ",condition=\"ready\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("maglane_service_endpoints{" + labels + ",condition=\"serving_terminating\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("maglane_service_endpoints{" + labels + ",condition=\"not_ready\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("maglane_service_local_endpoints{" + labels + "} 3\n"));
}

TEST(Exposition, Maps) {
  v1::Status maps;
  maps.add_maps()->set_name("flows4");
  maps.mutable_maps(0)->set_used(3);
  maps.mutable_maps(0)->set_capacity(10);
  const std::string text = to_text(map_families(maps));
  EXPECT_THAT(text, HasSubstr("maglane_map_entries{map=\"flows4\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("maglane_map_capacity{map=\"flows4\"} 10\n"));
}

}  // namespace
}  // namespace maglane
