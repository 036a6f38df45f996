// SPDX-License-Identifier: Apache-2.0
//
// Hands requests for a resync from the control API's threads to the agent's main thread, and
// the answer back. Requests that wait together share one resync.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "agent/base/result.h"

namespace maglane {

class ResyncQueue {
 public:
  ResyncQueue();
  ~ResyncQueue();
  ResyncQueue(const ResyncQueue&) = delete;
  ResyncQueue& operator=(const ResyncQueue&) = delete;

  // For a thread of the control API: the number of operations that it took, after a resync
  // that began after the call. Fails when shut down, cancelled, or after `longest`.
  Result<uint32_t> request(std::chrono::milliseconds longest, const std::function<bool()>& cancelled);

  // For the main thread. Readable when take() is true.
  int fd() const { return fd_; }
  // Whether someone waits; every request made until now is answered by the next finish().
  bool take();
  void finish(const Result<uint32_t>& result);
  void shut_down();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int fd_;                 // eventfd(2)
  uint64_t asked_ = 0;     // tickets handed out
  uint64_t taken_ = 0;     // tickets that the resync under way answers
  uint64_t answered_ = 0;  // tickets answered
  std::optional<Result<uint32_t>> last_;
  bool shut_down_ = false;
};

}  // namespace maglane
