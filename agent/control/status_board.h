// SPDX-License-Identifier: Apache-2.0
//
// Where the agent's main thread writes what it knows of itself, and the control API's
// threads read it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "proto/inspect.pb.h"

namespace maglane {

class StatusBoard {
 public:
  using Clock = std::chrono::steady_clock;

  // `change` edits the status in place, under the lock: it must be quick.
  void update(const std::function<void(v1::Status&)>& change);
  // As update(), for a full update that has reached the kernel.
  void note_update(Clock::duration took);
  // The first full update is in the kernel: whoever waits goes on.
  void set_synced();
  // Whoever waits goes on, now and later.
  void shut_down();

  // With all that depends on the time of asking filled in.
  v1::Status read() const;
  // Returns when synced, when shut down, after `longest`, or within a quarter of a second of
  // `cancelled` becoming true.
  void wait_synced(Clock::duration longest, const std::function<bool()>& cancelled) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  v1::Status status_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point last_update_{};
  bool shut_down_ = false;
};

}  // namespace maglane
