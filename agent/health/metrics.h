// SPDX-License-Identifier: Apache-2.0
//
// What the agent counts of its own work, under kube-proxy's names and with its meaning where
// it has one, with the prefix maglane_ for kubeproxy_. Thread-safe.
#pragma once

#include <prometheus/registry.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/health/answers.h"
#include "agent/health/proxy_state.h"
#include "agent/resolve/resolve.h"

namespace maglane {

// Services (as service ports of a family) with a Local traffic policy that have endpoints, but
// none on this node: what they drop here.
struct NoLocalEndpoints {
  uint32_t internal = 0;
  uint32_t external = 0;
  void add(const ResolvedService& service, int times);  // times: 1 or -1
};

class Metrics {
 public:
  explicit Metrics(const std::string& version);

  void queued(Instant now);
  // Changes of objects that were seen; they are pending until an update succeeds.
  void changed(size_t services, size_t endpoint_slices);
  // A change of endpoints that happened so many seconds ago has just reached the kernel.
  void programmed(double seconds);
  void applied(std::chrono::duration<double> took, Instant now, const NoLocalEndpoints& none);
  void failed(std::chrono::duration<double> took);
  void probed(Probe probe, int status);

  std::vector<prometheus::MetricFamily> collect() const { return registry_.Collect(); }

 private:
  prometheus::Gauge& gauge(const char* name, const char* help);
  prometheus::Counter& counter(const char* name, const char* help);

  prometheus::Registry registry_;
  prometheus::Histogram& duration_;
  prometheus::Histogram& programming_;
  prometheus::Gauge& last_;
  prometheus::Gauge& last_queued_;
  prometheus::Counter& service_changes_;
  prometheus::Gauge& service_changes_pending_;
  prometheus::Counter& endpoint_changes_;
  prometheus::Gauge& endpoint_changes_pending_;
  prometheus::Counter& failures_;
  prometheus::Family<prometheus::Gauge>& no_local_;
  prometheus::Family<prometheus::Counter>& healthz_;
  prometheus::Family<prometheus::Counter>& livez_;
};

}  // namespace maglane
