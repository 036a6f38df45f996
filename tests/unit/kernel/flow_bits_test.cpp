// SPDX-License-Identifier: Apache-2.0
// Rotations of the bits of flows in plain memory, with packets between any two steps, and with
// an agent that dies after any of them.
#include "agent/kernel/flow_bits.h"

#include <endian.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "agent/kernel/connection_bits.h"

namespace maglane {
namespace {

using std::chrono::seconds;

abi::flow_entry4 forward4(uint32_t n) {
  abi::flow_entry4 entry{};
  entry.tuple = {htobe32(0xc6336400 + n), htobe32(0x0a600000 + n), htobe16(1024), htobe16(80), 6, {}};
  entry.flow.src_be = entry.tuple.src_be;
  entry.flow.dst_be = htobe32(0x0a010000 + n);
  return entry;
}

abi::flow_entry4 reply4(uint32_t n) {
  const abi::flow_entry4 forward = forward4(n);
  abi::flow_entry4 entry{};
  entry.tuple = {forward.flow.dst_be, forward.flow.src_be, htobe16(8080), htobe16(1024), 6, {}};
  entry.flow.src_be = forward.tuple.dst_be;
  entry.flow.dst_be = forward.tuple.src_be;
  entry.flow.body.flags = abi::FLOW_REPLY;
  return entry;
}

uint32_t bit4(uint32_t address) {
  const uint32_t wide[4] = {htobe32(address), 0, 0, 0};
  return abi::vip_hash(wide);
}

TEST(ConnectionBits, OfEitherDirectionAreThoseOfTheConnection) {
  const ConnectionBits expected{.to = bit4(0x0a600007), .from = bit4(0x0a010007)};
  const auto forward = forward4(7), reply = reply4(7);
  EXPECT_EQ(bits_of(FlowEntry4{forward.tuple, forward.flow}), expected);
  EXPECT_EQ(bits_of(FlowEntry4{reply.tuple, reply.flow}), expected);
}

TEST(ConnectionBits, OfIpv6AreOfTheWholeAddress) {
  FlowEntry6 forward{}, reply{};
  const uint32_t frontend[4] = {1, 2, 3, 4}, endpoint[4] = {5, 6, 7, 8}, client[4] = {9, 10, 11, 12};
  std::memcpy(forward.key.src_be, client, sizeof client);
  std::memcpy(forward.key.dst_be, frontend, sizeof client);
  std::memcpy(forward.flow.src_be, client, sizeof client);
  std::memcpy(forward.flow.dst_be, endpoint, sizeof client);
  std::memcpy(reply.key.src_be, endpoint, sizeof client);
  std::memcpy(reply.key.dst_be, client, sizeof client);
  std::memcpy(reply.flow.src_be, frontend, sizeof client);
  std::memcpy(reply.flow.dst_be, client, sizeof client);
  reply.flow.body.flags = abi::FLOW_REPLY;
  const ConnectionBits expected{.to = abi::vip_hash(frontend), .from = abi::vip_hash(endpoint)};
  EXPECT_EQ(bits_of(forward), expected);
  EXPECT_EQ(bits_of(reply), expected);
}

// The client's address and port are translated as well: they are no part of it.
TEST(ConnectionBits, TranslatedSourcesDoNotMatter) {
  auto forward = forward4(9), reply = reply4(9);
  forward.flow.src_be = reply.tuple.dst_be = htobe32(0xc0a86401);
  forward.flow.body.flags |= abi::FLOW_SNAT;
  reply.flow.body.flags |= abi::FLOW_SNAT;
  const ConnectionBits expected{.to = bit4(0x0a600009), .from = bit4(0x0a010009)};
  EXPECT_EQ(bits_of(FlowEntry4{forward.tuple, forward.flow}), expected);
  EXPECT_EQ(bits_of(FlowEntry4{reply.tuple, reply.flow}), expected);
}

// ---- rotation -----------------------------------------------------------------------

// A node: maps, packets as programs treat them, and an agent that can be replaced.
class Node {
 public:
  explicit Node(seconds interval = seconds(1)) : interval_(interval) {}

  void open(uint32_t n) {
    note(n);
    insert(2 * n, forward4(n));
    insert(2 * n + 1, reply4(n));
  }
  void note(uint32_t n) {
    const uint32_t generation = state->flow_bits_generation, to = bit4(0x0a600000 + n), from = bit4(0x0a010000 + n);
    bits->word[to / 64].to[generation] |= uint64_t{1} << to % 64;
    bits->word[from / 64].from[generation] |= uint64_t{1} << from % 64;
  }
  void insert(uint32_t at, const abi::flow_entry4& entry) {
    slot(at) = entry;
    tag(at) = 1;
  }
  void remove(uint32_t at) {
    tag(at) = 0;
    slot(at) = {};
  }
  // As filter_may_be_ours does it, of a packet of either direction, where the frontend is gone.
  bool knows_forward(uint32_t n) const {
    const uint32_t to = bit4(0x0a600000 + n);
    return (bits->word[to / 64].to[0] | bits->word[to / 64].to[1]) >> to % 64 & 1;
  }
  bool knows_reply(uint32_t n) const {
    const uint32_t from = bit4(0x0a010000 + n);
    return (bits->word[from / 64].from[0] | bits->word[from / 64].from[1]) >> from % 64 & 1;
  }
  bool knows(uint32_t n) const { return knows_forward(n) && knows_reply(n); }

  // A new agent on the same maps.
  void start_agent() {
    agent = std::make_unique<FlowBits>(FlowBits::Memory{bits.get(), state.get(), flows4, flows6}, interval_);
    agent->admit_all();
  }
  // One piece of work, long after the last.
  void step() {
    agent->run(now);
    now += seconds(2);
  }
  void settle() {
    for (int i = 0; !agent->settled(); ++i) {
      ASSERT_LT(i, 1000);
      step();
    }
  }
  void rotate() {
    const uint32_t before = state->flow_bits_generation;
    settle();
    now += std::chrono::hours(1);
    step();
    ASSERT_EQ(state->flow_bits_generation, 1 - before);
    settle();
  }
  uint64_t bits_set() const {
    uint64_t set = 0;
    for (const auto& word : bits->word)
      for (const uint64_t part : {word.to[0], word.to[1], word.from[0], word.from[1]})
        set += static_cast<uint64_t>(__builtin_popcountll(part));
    return set;
  }

  abi::flow_entry4& slot(uint32_t at) {
    return flows4[at % flows4.size()].entries[at / flows4.size()];
  }
  uint8_t& tag(uint32_t at) {
    return reinterpret_cast<uint8_t*>(flows4[at % flows4.size()].header.tags)[at / flows4.size()];
  }

  std::unique_ptr<abi::flow_bits> bits = std::make_unique<abi::flow_bits>();
  std::unique_ptr<abi::node_state> state = std::make_unique<abi::node_state>();
  std::vector<abi::flow_bucket4> flows4{2500};  // several slices
  std::vector<abi::flow_bucket6> flows6{3};
  std::unique_ptr<FlowBits> agent;
  FlowBits::Clock::time_point now{};

 private:
  seconds interval_;
};

TEST(FlowBits, FlowsStayAndWhatIsGoneIsForgotten) {
  Node node;
  node.start_agent();
  for (uint32_t n = 0; n < 1000; ++n) node.open(n);
  node.settle();
  for (uint32_t n = 500; n < 1000; ++n) {
    node.remove(2 * n);
    node.remove(2 * n + 1);
  }
  for (int round = 0; round < 5; ++round) {
    node.rotate();
    for (uint32_t n = 0; n < 500; ++n) ASSERT_TRUE(node.knows(n)) << n;
    EXPECT_LE(node.bits_set(), 1000U);
  }
  uint32_t known = 0;
  for (uint32_t n = 500; n < 1000; ++n) known += node.knows_forward(n) + node.knows_reply(n);
  EXPECT_LE(known, 10U) << "beyond a collision or two";
}

TEST(FlowBits, OneDirectionAloneKeepsBoth) {
  Node node;
  node.start_agent();
  node.open(1);
  node.open(2);
  node.remove(2);  // the forward one of 1
  node.remove(5);  // the reply of 2
  for (int round = 0; round < 3; ++round) node.rotate();
  EXPECT_TRUE(node.knows(1));
  EXPECT_TRUE(node.knows(2));
}

TEST(FlowBits, BothFamilies) {
  Node node;
  node.start_agent();
  auto& entry = node.flows6[2].entries[30];
  entry.tuple.protocol = 17;
  entry.tuple.dst_be[2] = 77;
  entry.flow.dst_be[1] = 88;
  reinterpret_cast<uint8_t*>(node.flows6[2].header.tags)[30] = 9;
  for (int round = 0; round < 3; ++round) node.rotate();
  EXPECT_EQ(node.bits_set(), 2U);
}

TEST(FlowBits, NoPacketIsAStrangersBeforeTheFirstRotationEnded) {
  Node node;
  node.insert(2, forward4(1));  // of programs that noted nothing
  node.start_agent();
  EXPECT_TRUE(node.knows(1) && node.knows(12345));
  node.insert(3, forward4(2));  // before the programs were exchanged
  node.settle();
  EXPECT_TRUE(node.knows(1) && node.knows(2));
  EXPECT_FALSE(node.knows_forward(12345) || node.knows_reply(12345));
  EXPECT_EQ(node.bits_set(), 4U);
}

TEST(FlowBits, PacketsComeBetweenAnyTwoSteps) {
  Node node;
  node.start_agent();
  uint32_t n = 0;
  for (; n < 200; ++n) {
    node.open(n);
    node.step();
    for (uint32_t old = 0; old <= n; ++old) ASSERT_TRUE(node.knows(old)) << old << " after " << n;
  }
}

class Dies : public testing::TestWithParam<int> {};

// After each number of steps; the agent after it dies just as early, and the third one lives.
TEST_P(Dies, FlowsStayWhateverWasUnfinished) {
  Node node;
  node.start_agent();
  for (uint32_t n = 0; n < 100; ++n) node.open(n);
  node.rotate();
  uint32_t made = 100;
  const auto live = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      node.open(made++);
      node.step();
      for (uint32_t n = 0; n < made; ++n) ASSERT_TRUE(node.knows(n)) << n << " after step " << i;
    }
  };
  live(GetParam());
  for (int again = 0; again < 2; ++again) {
    node.start_agent();
    live(GetParam());
  }
  for (uint32_t n = 0; n < 50; ++n) {
    node.remove(2 * n);
    node.remove(2 * n + 1);
  }
  for (int round = 0; round < 2; ++round) {
    node.rotate();
    for (uint32_t n = 50; n < made; ++n) ASSERT_TRUE(node.knows(n)) << n;
  }
  EXPECT_LE(node.bits_set(), 2U * (made - 50));
}

INSTANTIATE_TEST_SUITE_P(FlowBits, Dies, testing::Range(0, 16));

// As if the agent had died in the midst of clearing, or of admit_all.
TEST(FlowBits, HalfClearedIsAsGoodAsNotCleared) {
  Node node;
  node.start_agent();
  node.open(1);
  node.settle();
  for (size_t i = 0; i < abi::VIP_WORDS / 2; ++i) node.bits->word[i].to[1] = ~uint64_t{0};
  node.start_agent();
  node.settle();
  EXPECT_TRUE(node.knows(1));
  EXPECT_EQ(node.bits_set(), 2U);
}

TEST(FlowBits, WhatCannotBeReadHoldsTheRotationUp) {
  Node node;
  node.start_agent();
  node.open(1);
  node.open(2);
  node.settle();
  const uint32_t at = 2 * 1;
  auto* words = reinterpret_cast<uint64_t*>(&node.slot(at));
  words[1] |= uint64_t{TABLE_VERSION_ODD} << 32;
  node.remove(2 * 1 + 1);  // its twin has the same bits
  node.now += std::chrono::hours(1);
  node.step();
  for (int i = 0; i < 100; ++i) {
    node.step();
    ASSERT_FALSE(node.agent->settled());
    ASSERT_TRUE(node.knows(1)) << "by what it had before";
  }
  words[1] &= ~(uint64_t{TABLE_VERSION_ODD} << 32);
  node.settle();
  EXPECT_TRUE(node.knows(1) && node.knows(2));
  EXPECT_EQ(node.bits_set(), 4U);
}

// And no piece of it holds the agent's other work up for long.
TEST(FlowBits, AMillionFlowsTakeWellUnderASecond) {
  constexpr uint32_t kFlows = 1'000'000;
  Node node;
  node.flows4.resize(kFlows / abi::TABLE_SLOTS + 1);
  for (uint32_t n = 0; n < kFlows / 2; ++n) {
    node.insert(2 * n, forward4(n));
    node.insert(2 * n + 1, reply4(n));
  }
  node.start_agent();
  using Milliseconds = std::chrono::duration<double, std::milli>;
  Milliseconds all{0}, longest{0};
  while (!node.agent->settled()) {
    const auto begin = FlowBits::Clock::now();
    node.step();
    const Milliseconds took = FlowBits::Clock::now() - begin;
    all += took;
    longest = std::max(longest, took);
  }
  RecordProperty("milliseconds", std::to_string(all.count()));
  RecordProperty("longest_step", std::to_string(longest.count()));
  EXPECT_TRUE(node.knows(0) && node.knows(kFlows / 2 - 1));
  EXPECT_LT(all.count(), 2000);  // about 60 on a small machine, grace periods included
}

TEST(FlowBits, RotatesWhereItIsWorthIt) {
  Node node(seconds(0));
  node.start_agent();
  node.settle();
  const auto rotations = [&](int minutes) {
    int seen = 0;
    for (int i = 0; i < minutes * 30; ++i) {
      const uint32_t before = node.state->flow_bits_generation;
      node.step();
      seen += node.state->flow_bits_generation != before;
    }
    return seen;
  };
  EXPECT_EQ(rotations(120), 0) << "nothing to forget";
  node.note(1);
  EXPECT_EQ(rotations(2), 1) << "the half hour is over";
  node.note(1);
  EXPECT_EQ(rotations(20), 0);
  EXPECT_EQ(rotations(60), 1);
  EXPECT_FALSE(node.knows_forward(1));
  for (uint32_t n = 0; n < 20000; ++n) node.note(n);
  EXPECT_EQ(rotations(2), 1) << "so many at once are forgotten soon";
  for (uint32_t n = 0; n < 35000; ++n) node.open(n);
  EXPECT_GE(rotations(2), 1);
  EXPECT_EQ(rotations(15), 0) << "not again and again where flows need as many";
}

}  // namespace
}  // namespace maglane
