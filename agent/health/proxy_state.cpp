// SPDX-License-Identifier: Apache-2.0
#include "agent/health/proxy_state.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>

namespace maglane {
namespace {

// What the cluster autoscaler marks a node with that it is about to remove.
constexpr char kToBeDeleted[] = "ToBeDeletedByClusterAutoscaler";

using google::protobuf::util::TimeUtil;

google::protobuf::Timestamp timestamp(const std::optional<Instant>& instant) {
  google::protobuf::Timestamp never;
  never.set_seconds(TimeUtil::kTimestampMinSeconds);
  if (!instant) return never;
  const auto since = instant->wall.time_since_epoch();
  return TimeUtil::MillisecondsToTimestamp(
      std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
}

}  // namespace

Instant Instant::now() {
  return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
}

ProxyState::ProxyState(std::vector<Family> families, Duration limit, Instant start)
    : families_(std::move(families)), limit_(limit), alive_(start) {}

void ProxyState::queued(Instant now) {
  if (!oldest_queued_) oldest_queued_ = now;
}

void ProxyState::applied(Instant now) {
  oldest_queued_.reset();
  applied_ = now;
}

void ProxyState::set_node(const v1::Node* node) {
  node_eligible_ =
      !node || (node->metadata().deletion_timestamp().empty() &&
                std::none_of(node->spec().taints().begin(), node->spec().taints().end(),
                             [](const v1::Taint& taint) { return taint.key() == kToBeDeleted; }));
}

ProxyState::Duration ProxyState::waiting(Instant now) const {
  return oldest_queued_ ? std::max(Duration(0), now.steady - oldest_queued_->steady) : Duration(0);
}

bool ProxyState::healthy(Instant now) const {
  return waiting(now) < limit_ && now.steady - alive_.steady < limit_;
}

// The last update is long ago where nothing has changed for long. Whoever looks at its age alone
// is not to take that for a failure, so it is said to be now while all is well.
v1::ProxyHealth ProxyState::describe(Instant now, bool fine) const {
  v1::ProxyHealth health;
  *health.mutable_last_updated() = timestamp(fine ? now : applied_);
  *health.mutable_current_time() = timestamp(now);
  health.set_healthy(healthy(now));
  // One update brings all families up to date.
  for (const Family family : families_) {
    v1::FamilyHealth& status = (*health.mutable_status())[std::string(to_string(family))];
    *status.mutable_last_updated() = timestamp(applied_);
    status.set_healthy(health.healthy());
  }
  return health;
}

v1::ProxyHealth ProxyState::healthz(Instant now) const {
  v1::ProxyHealth health = describe(now, healthy(now) && node_eligible_);
  health.set_node_eligible(node_eligible_);
  return health;
}

v1::ProxyHealth ProxyState::livez(Instant now) const {
  return describe(now, healthy(now));
}

}  // namespace maglane
