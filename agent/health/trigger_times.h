// SPDX-License-Identifier: Apache-2.0
//
// When the changes happened that an update is to put in force: for kube-proxy's
// network_programming_duration_seconds, with its meaning (SIG Scalability's SLI "Network
// programming latency"). A value; knows no clock.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/resolve/resolve.h"

namespace maglane {

class TriggerTimes {
 public:
  using Wall = std::chrono::system_clock::time_point;

  // What happened before `start` was not this agent's to be quick with.
  explicit TriggerTimes(Wall start) : start_(start) {}

  void see(const ResolveChanges::Slice& change);
  // All that was seen is in force: for each change how many seconds it took.
  std::vector<double> take(Wall now);

 private:
  Wall start_;
  std::map<ServiceKey, std::vector<Wall>> seen_;
};

// The annotation endpoints.kubernetes.io/last-change-trigger-time (RFC 3339), if there is one.
std::optional<TriggerTimes::Wall> trigger_time(const v1::EndpointSlice& slice);

}  // namespace maglane
