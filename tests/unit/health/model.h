// SPDX-License-Identifier: Apache-2.0
//
// Services as resolved, made by hand.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/health/proxy_state.h"
#include "agent/resolve/resolve.h"

namespace maglane::test {

// 2026-01-02T03:04:05Z, on both clocks.
inline Instant moment(std::chrono::milliseconds after = {}) {
  return Instant{std::chrono::system_clock::time_point(std::chrono::seconds(1767323045)),
                 std::chrono::steady_clock::time_point(std::chrono::hours(1))} +
         after;
}

inline std::shared_ptr<ResolvedService> service(const std::string& name, const std::string& created = "") {
  auto made = std::make_shared<ResolvedService>();
  made->key = {"default", name};
  made->created = created;
  return made;
}

// With a health check port, and so many endpoints on this node.
inline std::shared_ptr<const ResolvedService> checked(const std::string& name, uint16_t port, uint32_t local,
                                                      const std::string& created = "") {
  auto made = service(name, created);
  made->health_check = HealthCheck{port, {{Family::ipv4, local}}};
  return made;
}

// A cluster of these, and that they are all new.
struct Update {
  ResolvedCluster cluster;
  ResolveChanges changes;

  explicit Update(const std::vector<std::shared_ptr<const ResolvedService>>& services) {
    for (const auto& one : services) {
      cluster[one->key] = one;
      changes.resolved.insert(one->key);
    }
    changes.services = services.size();
  }
};

}  // namespace maglane::test
