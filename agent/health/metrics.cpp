// SPDX-License-Identifier: Apache-2.0
#include "agent/health/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>

#include <algorithm>

namespace maglane {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using Buckets = prometheus::Histogram::BucketBoundaries;

void add_linear(Buckets& buckets, double first, double step, int count) {
  for (int i = 0; i < count; ++i) buckets.push_back(first + step * i);
}

// 1 ms to 16 s, as kube-proxy's.
Buckets duration_buckets() {
  Buckets buckets;
  double bound = 0.001;
  for (int i = 0; i < 15; ++i, bound *= 2) buckets.push_back(bound);
  return buckets;
}

// A quarter of a second to five minutes, as kube-proxy's, so that the two can be compared.
Buckets programming_buckets() {
  Buckets buckets;
  add_linear(buckets, 0.25, 0.25, 2);
  add_linear(buckets, 1, 1, 59);
  add_linear(buckets, 60, 5, 12);
  add_linear(buckets, 120, 30, 7);
  return buckets;
}

double seconds_of(Instant now) {
  return std::chrono::duration<double>(now.wall.time_since_epoch()).count();
}

bool drops(const EndpointSetPtr& set) {
  return set && set->endpoints.empty() && set->when_empty == EmptyVerdict::drop;
}

}  // namespace

void NoLocalEndpoints::add(const ResolvedService& service, int times) {
  for (const ResolvedServicePort& port : service.ports) {
    const auto any = [&](bool cluster_ip) {
      return std::any_of(port.frontends.begin(), port.frontends.end(), [&](const ResolvedFrontend& frontend) {
        return (frontend.type == FrontendType::cluster_ip) == cluster_ip && drops(frontend.for_outside);
      });
    };
    internal += static_cast<uint32_t>(any(true) * times);
    external += static_cast<uint32_t>(any(false) * times);
  }
}

prometheus::Gauge& Metrics::gauge(const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(registry_).Add({});
}

prometheus::Counter& Metrics::counter(const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry_).Add({});
}

Metrics::Metrics(const std::string& version)
    : duration_(BuildHistogram()
                    .Name("maglane_sync_proxy_rules_duration_seconds")
                    .Help("How long updates of the data plane took")
                    .Register(registry_)
                    .Add({}, duration_buckets())),
      programming_(BuildHistogram()
                       .Name("maglane_network_programming_duration_seconds")
                       .Help("From the change of a pod or service, as the annotation "
                             "endpoints.kubernetes.io/last-change-trigger-time has it, until it was in force "
                             "on this node")
                       .Register(registry_)
                       .Add({}, programming_buckets())),
      last_(gauge("maglane_sync_proxy_rules_last_timestamp_seconds",
                  "When the data plane was last brought up to date")),
      last_queued_(gauge("maglane_sync_proxy_rules_last_queued_timestamp_seconds",
                         "When an update of the data plane was last asked for")),
      service_changes_(counter("maglane_sync_proxy_rules_service_changes_total",
                               "Services that came, changed or went")),
      service_changes_pending_(gauge("maglane_sync_proxy_rules_service_changes_pending",
                                     "Of these, how many are not in force yet")),
      endpoint_changes_(counter("maglane_sync_proxy_rules_endpoint_changes_total",
                                "EndpointSlices that came, changed or went")),
      endpoint_changes_pending_(gauge("maglane_sync_proxy_rules_endpoint_changes_pending",
                                      "Of these, how many are not in force yet")),
      failures_(counter("maglane_sync_proxy_rules_failures_total", "Updates of the data plane that failed")),
      no_local_(BuildGauge()
                    .Name("maglane_sync_proxy_rules_no_local_endpoints_total")
                    .Help("Service ports with a Local traffic policy that have endpoints, but none on this node")
                    .Register(registry_)),
      healthz_(BuildCounter()
                   .Name("maglane_proxy_healthz_total")
                   .Help("Answers of /healthz by status code")
                   .Register(registry_)),
      livez_(BuildCounter()
                 .Name("maglane_proxy_livez_total")
                 .Help("Answers of /livez by status code")
                 .Register(registry_)) {
  BuildGauge()
      .Name("maglane_build_info")
      .Help("1; the agent's version is the label")
      .Register(registry_)
      .Add({{"version", version}})
      .Set(1);
  for (const char* code : {"200", "503"}) {
    healthz_.Add({{"code", code}});
    livez_.Add({{"code", code}});
  }
}

void Metrics::queued(Instant now) {
  last_queued_.Set(seconds_of(now));
}

void Metrics::changed(size_t services, size_t endpoint_slices) {
  service_changes_.Increment(static_cast<double>(services));
  service_changes_pending_.Increment(static_cast<double>(services));
  endpoint_changes_.Increment(static_cast<double>(endpoint_slices));
  endpoint_changes_pending_.Increment(static_cast<double>(endpoint_slices));
}

void Metrics::programmed(double seconds) {
  programming_.Observe(seconds);
}

void Metrics::applied(std::chrono::duration<double> took, Instant now, const NoLocalEndpoints& none) {
  duration_.Observe(took.count());
  last_.Set(seconds_of(now));
  service_changes_pending_.Set(0);
  endpoint_changes_pending_.Set(0);
  no_local_.Add({{"traffic_policy", "internal"}}).Set(none.internal);
  no_local_.Add({{"traffic_policy", "external"}}).Set(none.external);
}

void Metrics::failed(std::chrono::duration<double> took) {
  duration_.Observe(took.count());
  failures_.Increment();
}

void Metrics::probed(Probe probe, int status) {
  if (probe == Probe::none) return;
  (probe == Probe::healthz ? healthz_ : livez_).Add({{"code", std::to_string(status)}}).Increment();
}

}  // namespace maglane
