// SPDX-License-Identifier: Apache-2.0
#include "agent/health/trigger_times.h"

#include <google/protobuf/util/time_util.h>

namespace maglane {
namespace {

constexpr char kTriggerTime[] = "endpoints.kubernetes.io/last-change-trigger-time";
constexpr char kHeadless[] = "service.kubernetes.io/headless";

}  // namespace

std::optional<TriggerTimes::Wall> trigger_time(const v1::EndpointSlice& slice) {
  using google::protobuf::util::TimeUtil;
  const auto annotation = slice.metadata().annotations().find(kTriggerTime);
  google::protobuf::Timestamp time;
  if (annotation == slice.metadata().annotations().end() || !TimeUtil::FromString(annotation->second, &time))
    return std::nullopt;
  return TriggerTimes::Wall(std::chrono::duration_cast<TriggerTimes::Wall::duration>(
      std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos())));
}

// The annotation of a slice that is gone tells of an earlier change, and what was seen of its
// service before no longer matters.
void TriggerTimes::see(const ResolveChanges::Slice& change) {
  if (!change.slice) {
    seen_.erase(change.service);
    return;
  }
  const auto time = trigger_time(*change.slice);
  if (!time || *time <= start_ || change.slice->metadata().labels().contains(kHeadless)) return;
  seen_[change.service].push_back(*time);
}

std::vector<double> TriggerTimes::take(Wall now) {
  std::vector<double> seconds;
  for (const auto& [service, times] : seen_)
    for (const Wall time : times) seconds.push_back(std::chrono::duration<double>(now - time).count());
  seen_.clear();
  return seconds;
}

}  // namespace maglane
