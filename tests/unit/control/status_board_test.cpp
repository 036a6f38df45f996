// SPDX-License-Identifier: Apache-2.0
#include "agent/control/status_board.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "agent/control/resync_queue.h"

namespace maglane {
namespace {

using namespace std::chrono_literals;
const auto kNever = [] { return false; };

TEST(StatusBoard, TellsWhatDependsOnTheTime) {
  StatusBoard board;
  EXPECT_FALSE(board.read().synced());
  EXPECT_EQ(board.read().last_update_seconds_ago(), 0);
  board.note_update(5ms);
  std::this_thread::sleep_for(20ms);
  v1::Status status = board.read();
  EXPECT_TRUE(status.agent_running());
  EXPECT_EQ(status.updates(), 1U);
  EXPECT_DOUBLE_EQ(status.last_update_milliseconds(), 5);
  EXPECT_GE(status.last_update_seconds_ago(), 0.02);
  EXPECT_GE(status.uptime_seconds(), 0.02);
}

TEST(StatusBoard, WaitingEndsAtSync) {
  StatusBoard board;
  std::thread later([&] {
    std::this_thread::sleep_for(30ms);
    board.set_synced();
  });
  auto begin = StatusBoard::Clock::now();
  board.wait_synced(1h, kNever);
  EXPECT_LT(StatusBoard::Clock::now() - begin, 10s);
  EXPECT_TRUE(board.read().synced());
  later.join();
  board.wait_synced(1h, kNever);  // at once
}

TEST(StatusBoard, WaitingEndsInTime) {
  StatusBoard board;
  auto begin = StatusBoard::Clock::now();
  board.wait_synced(30ms, kNever);
  EXPECT_GE(StatusBoard::Clock::now() - begin, 30ms);
  EXPECT_FALSE(board.read().synced());
}

TEST(StatusBoard, WaitingEndsWhenShutDownOrCancelled) {
  StatusBoard board;
  std::atomic<bool> gone = false;
  std::thread later([&] {
    std::this_thread::sleep_for(30ms);
    gone = true;
  });
  board.wait_synced(1h, [&] { return gone.load(); });
  later.join();
  std::thread end([&] {
    std::this_thread::sleep_for(30ms);
    board.shut_down();
  });
  board.wait_synced(1h, kNever);
  end.join();
}

TEST(ResyncQueue, RequestsThatWaitTogetherShareOneResync) {
  ResyncQueue queue;
  std::atomic<int> answered = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      auto result = queue.request(10s, kNever);
      EXPECT_TRUE(result.ok() && *result == 7U);
      ++answered;
    });
  }
  int resyncs = 0;
  while (answered < 4) {
    if (queue.take()) {
      ++resyncs;
      queue.finish(7U);
    }
    std::this_thread::sleep_for(5ms);
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_GE(resyncs, 1);
  EXPECT_LE(resyncs, 4);
  EXPECT_FALSE(queue.take()) << "nobody waits";
}

TEST(ResyncQueue, ARequestIsNotAnsweredByAResyncThatBeganBefore) {
  ResyncQueue queue;
  std::thread first([&] { EXPECT_EQ(queue.request(10s, kNever).value(), 1U); });
  while (!queue.take()) std::this_thread::sleep_for(1ms);
  std::atomic<bool> done = false;
  std::thread second([&] {
    EXPECT_EQ(queue.request(10s, kNever).value(), 2U);
    done = true;
  });
  std::this_thread::sleep_for(30ms);
  queue.finish(1U);
  first.join();
  std::this_thread::sleep_for(30ms);
  EXPECT_FALSE(done);
  ASSERT_TRUE(queue.take());
  queue.finish(2U);
  second.join();
}

TEST(ResyncQueue, Ends) {
  ResyncQueue queue;
  EXPECT_EQ(queue.request(20ms, kNever).error().message,
            "the agent is busy: the resync has not ended in time");
  EXPECT_EQ(queue.request(1h, [] { return true; }).error().message, "cancelled");
  queue.shut_down();
  EXPECT_EQ(queue.request(1h, kNever).error().message, "the agent is ending");
}

}  // namespace
}  // namespace maglane
