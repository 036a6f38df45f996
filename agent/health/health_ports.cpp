// SPDX-License-Identifier: Apache-2.0
#include "agent/health/health_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace maglane {
namespace {

// As the planner settles who keeps an address: by age, unknown ages last, then by name.
bool older(const ResolvedService& a, const ResolvedService& b) {
  return std::forward_as_tuple(a.created.empty(), a.created, a.key) <
         std::forward_as_tuple(b.created.empty(), b.created, b.key);
}

}  // namespace

void HealthPorts::update(const ResolvedCluster& cluster, const std::set<ServiceKey>& changed) {
  for (const ServiceKey& key : changed) {
    const auto service = cluster.find(key);
    if (service == cluster.end() || !service->second->health_check)
      checked_.erase(key);
    else
      checked_[key] = service->second;
  }
  std::vector<const ResolvedService*> by_age;
  for (const auto& [key, service] : checked_) by_age.push_back(service.get());
  std::sort(by_age.begin(), by_age.end(),
            [](const ResolvedService* a, const ResolvedService* b) { return older(*a, *b); });
  by_port_.clear();
  complaints_.clear();
  for (const ResolvedService* service : by_age) {
    const HealthCheck& check = *service->health_check;
    const auto [holder, free] = by_port_.try_emplace(check.port, HealthPort{service->key, check});
    if (free) continue;
    complaints_.push_back({"Service " + service->key.to_string(),
                           fmt::format("spec.healthCheckNodePort: {} is that of Service {}, which is older "
                                       "and keeps it (expected a port of its own)",
                                       check.port, holder->second.service.to_string())});
  }
}

}  // namespace maglane
