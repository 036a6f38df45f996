// SPDX-License-Identifier: Apache-2.0
//
// What the agent knows of its own health, between the reconciler, which tells it, and the
// servers' threads, which answer from it. Thread-safe.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/health/health_ports.h"
#include "agent/health/http.h"
#include "agent/health/metrics.h"
#include "agent/health/proxy_state.h"
#include "agent/health/trigger_times.h"
#include "agent/resolve/resolve.h"
#include "proto/inspect.pb.h"

namespace maglane {

class HealthMonitor {
 public:
  // What is read from the data plane when somebody asks for metrics, in their text form.
  using ReadDataPlane = std::function<Result<std::vector<prometheus::MetricFamily>>()>;

  HealthMonitor(std::vector<Family> families, ProxyState::Duration limit, const std::string& version,
                ReadDataPlane read_data_plane, Instant start);

  // ---- for the reconciler ----

  void alive(Instant now);
  void queued(Instant now);
  void set_node(const v1::Node* node);
  // What an update is about to put in force.
  void resolved(const ResolveChanges& changes);
  // All that was resolved is in force; `cluster` is what it resolved to.
  void applied(const ResolvedCluster& cluster, std::chrono::duration<double> took, Instant now);
  void failed(std::chrono::duration<double> took);

  std::map<uint16_t, HealthPort> ports() const;
  std::vector<Complaint> complaints() const;
  // At which ports nobody can be answered at present.
  void set_deaf_ports(std::set<uint16_t> ports);

  // ---- for the servers ----

  HttpAnswer answer_probe(const HttpRequest& request, Instant now);
  HttpAnswer answer_service(const HttpRequest& request, Instant now) const;
  HttpAnswer answer_metrics(const HttpRequest& request) const;

  // All of it but the addresses, for people.
  void describe(Instant now, v1::Health* health) const;

 private:
  mutable std::mutex mutex_;
  ProxyState state_;
  HealthPorts ports_;
  TriggerTimes trigger_times_;
  std::set<ServiceKey> resolved_;  // since the last update that succeeded
  ResolvedCluster in_force_;       // shares its services with the reconciler's
  NoLocalEndpoints no_local_;
  std::set<uint16_t> deaf_ports_;

  Metrics metrics_;
  ReadDataPlane read_data_plane_;
};

}  // namespace maglane
