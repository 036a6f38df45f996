// SPDX-License-Identifier: Apache-2.0
#include "agent/health/monitor.h"

#include <spdlog/spdlog.h>

#include "agent/health/exposition.h"

namespace maglane {

HealthMonitor::HealthMonitor(std::vector<Family> families, ProxyState::Duration limit,
                             const std::string& version, ReadDataPlane read_data_plane, Instant start)
    : state_(std::move(families), limit, start),
      trigger_times_(start.wall),
      metrics_(version),
      read_data_plane_(std::move(read_data_plane)) {}

void HealthMonitor::alive(Instant now) {
  std::lock_guard lock(mutex_);
  state_.alive(now);
}

void HealthMonitor::queued(Instant now) {
  std::lock_guard lock(mutex_);
  state_.queued(now);
  metrics_.queued(now);
}

void HealthMonitor::set_node(const v1::Node* node) {
  std::lock_guard lock(mutex_);
  state_.set_node(node);
}

void HealthMonitor::resolved(const ResolveChanges& changes) {
  std::lock_guard lock(mutex_);
  metrics_.changed(changes.services, changes.slices.size());
  for (const auto& slice : changes.slices) trigger_times_.see(slice);
  resolved_.insert(changes.resolved.begin(), changes.resolved.end());
}

void HealthMonitor::applied(const ResolvedCluster& cluster, std::chrono::duration<double> took, Instant now) {
  std::lock_guard lock(mutex_);
  ports_.update(cluster, resolved_);
  for (const ServiceKey& key : resolved_) {
    const auto before = in_force_.find(key);
    if (before != in_force_.end()) {
      no_local_.add(*before->second, -1);
      in_force_.erase(before);
    }
    const auto service = cluster.find(key);
    if (service == cluster.end()) continue;
    no_local_.add(*service->second, 1);
    in_force_.insert(*service);
  }
  resolved_.clear();
  state_.applied(now);
  metrics_.applied(took, now, no_local_);
  for (const double seconds : trigger_times_.take(now.wall)) metrics_.programmed(seconds);
}

void HealthMonitor::failed(std::chrono::duration<double> took) {
  metrics_.failed(took);
}

std::map<uint16_t, HealthPort> HealthMonitor::ports() const {
  std::lock_guard lock(mutex_);
  return ports_.by_port();
}

std::vector<Complaint> HealthMonitor::complaints() const {
  std::lock_guard lock(mutex_);
  return ports_.complaints();
}

void HealthMonitor::set_deaf_ports(std::set<uint16_t> ports) {
  std::lock_guard lock(mutex_);
  deaf_ports_ = std::move(ports);
}

HttpAnswer HealthMonitor::answer_probe(const HttpRequest& request, Instant now) {
  const Probe probe = probe_of(request);
  if (probe == Probe::none) return not_found("/healthz and /livez");
  v1::ProxyHealth health;
  {
    std::lock_guard lock(mutex_);
    health = probe == Probe::healthz ? state_.healthz(now) : state_.livez(now);
  }
  HttpAnswer answer = answer_of(health);
  metrics_.probed(probe, answer.status);
  return answer;
}

HttpAnswer HealthMonitor::answer_service(const HttpRequest& request, Instant now) const {
  std::lock_guard lock(mutex_);
  const auto port = ports_.by_port().find(request.place.port);
  if (port == ports_.by_port().end()) return not_found("no service with this health check port any more");
  return answer_of(service_health(port->second.service, port->second.check, request.place.family,
                                  state_.healthy(now)));
}

HttpAnswer HealthMonitor::answer_metrics(const HttpRequest& request) const {
  if (request.path != "/metrics") return not_found("/metrics");
  std::vector<prometheus::MetricFamily> families = metrics_.collect();
  ResolvedCluster services;
  {
    std::lock_guard lock(mutex_);
    services = in_force_;
  }
  for (auto& family : endpoint_families(services)) families.push_back(std::move(family));
  auto read = read_data_plane_();
  if (read) {
    for (auto& family : *read) families.push_back(std::move(family));
  } else {
    // The rest is worth having, and what is missing is seen to be missing.
    spdlog::warn("metrics: the data plane's counters cannot be read: {}", read.error().message);
  }
  return {200, kTextFormat, {}, to_text(families)};
}

void HealthMonitor::describe(Instant now, v1::Health* health) const {
  std::lock_guard lock(mutex_);
  *health->mutable_proxy() = state_.healthz(now);
  health->set_waiting_seconds(std::chrono::duration<double>(state_.waiting(now)).count());
  for (const auto& [number, port] : ports_.by_port()) {
    v1::HealthPort* shown = health->add_ports();
    shown->set_port(number);
    shown->set_service(port.service.to_string());
    shown->set_listening(!deaf_ports_.contains(number));
    for (const auto& [family, count] : port.check.local_endpoints) {
      *shown->add_answers() = service_health(port.service, port.check, family, state_.healthy(now));
      shown->add_families(std::string(to_string(family)));
    }
  }
}

}  // namespace maglane
