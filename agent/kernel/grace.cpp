// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/grace.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace maglane {

void wait_grace_period() {
  // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() in the kernel (kernel/sched/membarrier.c): on a
  // machine of one CPU it returns at once, where user space running proves that no program,
  // which cannot be preempted by us, is. Programs run inside an RCU read-side section.
  if (::syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  // Missing with nohz_full, or behind a seccomp filter. A packet's run of a program is
  // microseconds, within a softirq: a second outlasts any, and retired ranges can wait.
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

}  // namespace maglane
