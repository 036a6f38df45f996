// SPDX-License-Identifier: Apache-2.0
//
// The health check ports of all services: who is asked at which. Pure; costs what changed, and
// a walk over the services that have such a port.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/resolve/resolved.h"

namespace maglane {

struct HealthPort {
  ServiceKey service;
  HealthCheck check;
  bool operator==(const HealthPort&) const = default;
};

class HealthPorts {
 public:
  // changed: the services whose place in the cluster came, went or differs since the last call.
  void update(const ResolvedCluster& cluster, const std::set<ServiceKey>& changed);

  const std::map<uint16_t, HealthPort>& by_port() const { return by_port_; }
  // Of services that share a port: the older has it.
  const std::vector<Complaint>& complaints() const { return complaints_; }

 private:
  std::map<ServiceKey, std::shared_ptr<const ResolvedService>> checked_;  // services with a port
  std::map<uint16_t, HealthPort> by_port_;
  std::vector<Complaint> complaints_;
};

}  // namespace maglane
