// SPDX-License-Identifier: Apache-2.0
#include "agent/control/status_board.h"

#include <algorithm>

namespace maglane {
namespace {

double in_seconds(StatusBoard::Clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace

void StatusBoard::update(const std::function<void(v1::Status&)>& change) {
  std::lock_guard lock(mutex_);
  change(status_);
}

void StatusBoard::note_update(Clock::duration took) {
  std::lock_guard lock(mutex_);
  status_.set_updates(status_.updates() + 1);
  status_.set_last_update_milliseconds(in_seconds(took) * 1000);
  last_update_ = Clock::now();
}

void StatusBoard::set_synced() {
  std::lock_guard lock(mutex_);
  status_.set_synced(true);
  changed_.notify_all();
}

void StatusBoard::shut_down() {
  std::lock_guard lock(mutex_);
  shut_down_ = true;
  changed_.notify_all();
}

v1::Status StatusBoard::read() const {
  std::lock_guard lock(mutex_);
  v1::Status status = status_;
  status.set_agent_running(true);
  status.set_uptime_seconds(in_seconds(Clock::now() - started_));
  if (status.updates() > 0) status.set_last_update_seconds_ago(in_seconds(Clock::now() - last_update_));
  return status;
}

void StatusBoard::wait_synced(Clock::duration longest, const std::function<bool()>& cancelled) const {
  constexpr auto look = std::chrono::milliseconds(250);
  auto deadline = Clock::now() + longest;
  std::unique_lock lock(mutex_);
  while (!status_.synced() && !shut_down_ && !cancelled()) {
    auto now = Clock::now();
    if (now >= deadline) return;
    changed_.wait_until(lock, std::min<Clock::time_point>(deadline, now + look));
  }
}

}  // namespace maglane
