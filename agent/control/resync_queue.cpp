// SPDX-License-Identifier: Apache-2.0
#include "agent/control/resync_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

namespace maglane {

ResyncQueue::ResyncQueue() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

ResyncQueue::~ResyncQueue() {
  if (fd_ >= 0) ::close(fd_);
}

Result<uint32_t> ResyncQueue::request(std::chrono::milliseconds longest,
                                      const std::function<bool()>& cancelled) {
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::now() + longest;
  std::unique_lock lock(mutex_);
  uint64_t ticket = ++asked_;
  ::eventfd_write(fd_, 1);
  while (answered_ < ticket) {
    if (shut_down_) return Error{"the agent is ending"};
    if (cancelled()) return Error{"cancelled"};
    auto now = Clock::now();
    if (now >= deadline) return Error{"the agent is busy: the resync has not ended in time"};
    changed_.wait_until(lock, std::min<Clock::time_point>(deadline, now + std::chrono::milliseconds(250)));
  }
  return *last_;
}

bool ResyncQueue::take() {
  eventfd_t ignored;
  ::eventfd_read(fd_, &ignored);
  std::lock_guard lock(mutex_);
  taken_ = asked_;
  return taken_ > answered_;
}

void ResyncQueue::finish(const Result<uint32_t>& result) {
  std::lock_guard lock(mutex_);
  answered_ = taken_;
  last_ = result;
  changed_.notify_all();
}

void ResyncQueue::shut_down() {
  std::lock_guard lock(mutex_);
  shut_down_ = true;
  changed_.notify_all();
}

}  // namespace maglane
