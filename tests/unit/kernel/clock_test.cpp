// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "agent/kernel/call.h"
#include "agent/kernel/expiry.h"
#include "agent/kernel/grace.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

class Clock : public Sandbox {
 protected:
  uint64_t jiffies() {
    abi::clock_call call{};
    Status called = call_program(data_plane_->program("clock"), call);
    EXPECT_TRUE(called.ok()) << called.error().message;
    return call.jiffies;
  }
};

TEST_F(Clock, TheTickIsWhatWasTaken) {
  start();
  auto begin = std::chrono::steady_clock::now();
  uint64_t first = jiffies();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  uint64_t last = jiffies();
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  double measured = static_cast<double>(last - first) / seconds.count();
  EXPECT_NEAR(measured / kernel_hz(), 1.0, 0.05) << measured << " ticks a second";
}

TEST_F(Clock, ExpiryRuns) {
  start();
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    auto result = run_expiry(data_plane_->program("expire"), family, small_options().flow_buckets());
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->examined, 0U);
    EXPECT_EQ(result->removed, 0U);
  }
}

TEST_F(Clock, GracePeriodEnds) {
  auto begin = std::chrono::steady_clock::now();
  wait_grace_period();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

}  // namespace
}  // namespace maglane
