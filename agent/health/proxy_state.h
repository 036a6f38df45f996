// SPDX-License-Identifier: Apache-2.0
//
// Whether the data plane keeps up with the cluster, and whether load balancers should use this
// node at all: the state behind /healthz and /livez. With kube-proxy's meaning: healthy is
// whoever has no change that waits for too long, so an agent that is starting is. A value;
// knows no clock.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include "agent/base/ip.h"
#include "agent/source/model.h"
#include "proto/health.pb.h"

namespace maglane {

// A moment on two clocks: the one that people read, and the one that is never set.
struct Instant {
  std::chrono::system_clock::time_point wall{};
  std::chrono::steady_clock::time_point steady{};

  static Instant now();
  Instant operator+(std::chrono::milliseconds d) const { return {wall + d, steady + d}; }
};

class ProxyState {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // families: those that are served. limit: how long a change may wait.
  ProxyState(std::vector<Family> families, Duration limit, Instant start);

  // A change of the cluster, or of what it means for this node, waits to be applied.
  void queued(Instant now);
  // All that waited has reached the kernel.
  void applied(Instant now);
  // Whoever takes changes is at work. If it is heard of no more, changes wait unseen.
  void alive(Instant now) { alive_ = now; }
  // Null: the node is not known (yet), which speaks against nothing.
  void set_node(const v1::Node* node);

  bool healthy(Instant now) const;
  bool node_eligible() const { return node_eligible_; }
  // Of the oldest change; 0: none waits.
  Duration waiting(Instant now) const;

  v1::ProxyHealth healthz(Instant now) const;
  v1::ProxyHealth livez(Instant now) const;

 private:
  v1::ProxyHealth describe(Instant now, bool fine) const;

  std::vector<Family> families_;
  Duration limit_;
  Instant alive_;
  bool node_eligible_ = true;
  std::optional<Instant> oldest_queued_;
  std::optional<Instant> applied_;
};

}  // namespace maglane
