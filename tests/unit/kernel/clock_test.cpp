// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "agent/kernel/expiry.h"
#include "agent/kernel/grace.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

class Clock : public Sandbox {
 protected:
  uint64_t jiffies() {
    char packet[64] = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet, .repeat = 1);
    EXPECT_EQ(bpf_prog_test_run_opts(data_plane_->program("clock"), &options), 0);
    abi::expiry_result result{};
    uint32_t zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(data_plane_->map("expiry_result"), &zero, &result), 0);
    return result.jiffies;
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
  auto result = run_expiry(data_plane_->program("expire"), data_plane_->map("expiry_result"));
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->removed, 0U);
}

TEST_F(Clock, GracePeriodEnds) {
  auto begin = std::chrono::steady_clock::now();
  wait_grace_period();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

}  // namespace
}  // namespace maglane
