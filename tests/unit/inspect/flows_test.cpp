// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/flows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/inspect/contents.h"

namespace maglane::inspect {
namespace {

using test::End;
using testing::ElementsAre;
using testing::Pair;
using testing::UnorderedElementsAre;

constexpr PinnedMaps::Clock kClock{110, 1.024};
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

const End kClient{"10.244.0.5", 40000};
const End kService{"10.96.0.1", 80};
const End kNode{"192.168.1.1", 61000};
const End kEndpoint{"10.244.1.2", 8080};

struct Set {
  std::vector<FlowRecord> records;

  void add(const test::Pair& pair) {
    records.push_back(record_of(pair.reply));
    records.push_back(record_of(pair.forward));
  }
  std::vector<FlowRecord> sorted() const {
    auto copy = records;
    sort_flows(copy);
    return copy;
  }
};

std::vector<v1::Flow> messages(const Set& set, const FlowFilter& filter = {},
                               PinnedMaps::Clock clock = kClock) {
  const FlowNames names{{{7, "default/web:http"}},
                        [](uint32_t index) { return "if" + std::to_string(index); }};
  std::vector<v1::Flow> result;
  each_selected(set.sorted(), filter, clock, [&](const FlowRecord& record, const Connection& connection) {
    result.push_back(to_message(record, connection, names));
    return true;
  });
  return result;
}

std::string state_of(uint8_t protocol, uint8_t forward_seen, uint8_t reply_seen) {
  Set set;
  set.add(test::connection(kClient, kService, kClient, kEndpoint, protocol, forward_seen, reply_seen));
  const auto flows = messages(set);
  EXPECT_EQ(flows.size(), 2U);
  EXPECT_EQ(flows[0].state(), flows[1].state());
  return flows[0].state();
}

TEST(FlowState, FollowsWhatBothDirectionsSaw) {
  using namespace abi;
  EXPECT_EQ(state_of(kTcp, SEEN_SYN, 0), "opening");
  EXPECT_EQ(state_of(kTcp, SEEN_SYN, SEEN_SYN), "opening");
  EXPECT_EQ(state_of(kTcp, SEEN_SYN | SEEN_ACK, 0), "opening");
  EXPECT_EQ(state_of(kTcp, SEEN_SYN | SEEN_ACK, SEEN_SYN), "established");
  EXPECT_EQ(state_of(kTcp, SEEN_ACK, SEEN_ACK), "established");
  EXPECT_EQ(state_of(kTcp, SEEN_ACK | SEEN_FIN, SEEN_ACK), "closing");
  EXPECT_EQ(state_of(kTcp, SEEN_ACK, SEEN_ACK | SEEN_FIN), "closing");
  EXPECT_EQ(state_of(kTcp, SEEN_ACK | SEEN_FIN, SEEN_ACK | SEEN_FIN), "closed");
  EXPECT_EQ(state_of(kTcp, SEEN_SYN | SEEN_FIN, SEEN_RST | SEEN_FIN), "closed");
  EXPECT_EQ(state_of(kTcp, SEEN_ACK | SEEN_RST, SEEN_ACK), "reset");
  EXPECT_EQ(state_of(kUdp, SEEN_ACK, 0), "new");
  EXPECT_EQ(state_of(kUdp, SEEN_ACK, SEEN_ACK), "replied");
}

TEST(FlowState, OfOneDirectionAloneIsJudgedByThat) {
  Set set;
  set.records.push_back(record_of(
      test::connection(kClient, kService, kClient, kEndpoint, kTcp, abi::SEEN_SYN | abi::SEEN_ACK, 0)
          .forward));
  EXPECT_EQ(messages(set)[0].state(), "opening");
}

TEST(FlowMessage, ShowsBothDirectionsAsTheyAre) {
  Set set;
  auto pair = test::connection(kClient, kService, kNode, kEndpoint, kTcp, abi::SEEN_ACK, abi::SEEN_ACK);
  pair.forward.flow.body.flags |= abi::FLOW_SNAT;
  pair.forward.flow.body.next_hop = {5 | abi::NEXT_HOP_XDP, {2, 0, 0, 0, 0, 0xa}, {}};
  set.add(pair);
  const auto flows = messages(set);
  ASSERT_EQ(flows.size(), 2U);
  const v1::Flow& forward = flows[0];
  const v1::Flow& reply = flows[1];
  EXPECT_EQ(forward.direction(), "forward");
  EXPECT_EQ(forward.protocol(), "TCP");
  EXPECT_EQ(forward.family(), "IPv4");
  EXPECT_EQ(forward.original().source(), kClient.address);
  EXPECT_EQ(forward.original().source_port(), kClient.port);
  EXPECT_EQ(forward.original().destination(), kService.address);
  EXPECT_EQ(forward.original().destination_port(), kService.port);
  EXPECT_EQ(forward.translated().source(), kNode.address);
  EXPECT_EQ(forward.translated().source_port(), kNode.port);
  EXPECT_EQ(forward.translated().destination(), kEndpoint.address);
  EXPECT_EQ(forward.translated().destination_port(), kEndpoint.port);
  EXPECT_TRUE(forward.source_translated());
  EXPECT_EQ(forward.service(), "default/web:http");
  EXPECT_EQ(forward.backend_id(), 4U);
  EXPECT_EQ(forward.device(), "if5");
  EXPECT_EQ(forward.next_hop_mac(), "02:00:00:00:00:0a");
  EXPECT_EQ(reply.direction(), "reply");
  EXPECT_EQ(reply.original().source(), kEndpoint.address);
  EXPECT_EQ(reply.original().destination(), kNode.address);
  EXPECT_EQ(reply.original().destination_port(), kNode.port);
  EXPECT_EQ(reply.translated().source(), kService.address);
  EXPECT_EQ(reply.translated().destination(), kClient.address);
  EXPECT_EQ(reply.device(), "");
  EXPECT_EQ(reply.next_hop_mac(), "");
}

TEST(FlowMessage, ServiceThatIsGoneHasNoName) {
  Set set;
  auto pair = test::connection(kClient, kService, kNode, kEndpoint, kTcp, 0, 0);
  pair.forward.flow.body.service_id = 99;
  set.records.push_back(record_of(pair.forward));
  EXPECT_EQ(messages(set)[0].service(), "");
  EXPECT_EQ(messages(set)[0].service_id(), 99U);
}

double idle(uint32_t forward_slot, uint32_t reply_slot, uint32_t now) {
  Set set;
  auto pair = test::connection(kClient, kService, kClient, kEndpoint, kTcp, 0, 0, forward_slot);
  pair.reply.flow.body.stamp = reply_slot;
  set.add(pair);
  return messages(set, {}, {now, 1.024})[0].idle_seconds();
}

TEST(FlowIdle, CountsFromTheLaterPacketAcrossTheWrapAround) {
  EXPECT_DOUBLE_EQ(idle(100, 90, 110), 10 * 1.024);
  EXPECT_DOUBLE_EQ(idle(90, 100, 110), 10 * 1.024);
  EXPECT_DOUBLE_EQ(idle(0xfffffe, 0xfffff0, 3), 5 * 1.024);
  EXPECT_DOUBLE_EQ(idle(111, 90, 110), 0);  // came after the clock was read
}

Set mixed() {
  using namespace abi;
  Set set;
  set.add(test::connection(kClient, kService, kNode, kEndpoint, kTcp, SEEN_ACK, SEEN_ACK));
  set.add(
      test::connection({"10.244.0.6", 40000}, kService, {"10.244.0.6", 40000}, kEndpoint, kUdp, SEEN_ACK, 0));
  return set;
}

size_t selected(const FlowFilter& filter) {
  return messages(mixed(), filter).size();
}

TEST(FlowFilter, SelectsWholeConnectionsAsTheClientSeesThem) {
  const auto cidr = [](const char* text) { return *Cidr::parse(text); };
  EXPECT_EQ(selected({}), 4U);
  EXPECT_EQ(selected({.protocol = Protocol::tcp}), 2U);
  EXPECT_EQ(selected({.family = Family::ipv4}), 4U);
  EXPECT_EQ(selected({.family = Family::ipv6}), 0U);
  EXPECT_EQ(selected({.reply = false}) + selected({.reply = true}), 4U);
  EXPECT_GT(selected({.reply = true}), 0U);
  EXPECT_FALSE(FlowFilter{.reply = true}.selects_all());
  EXPECT_EQ(selected({.source = cidr("10.244.0.5")}), 2U);
  EXPECT_EQ(selected({.source = cidr("192.168.1.1")}), 2U) << "translated source";
  EXPECT_EQ(selected({.source = cidr("10.244.0.0/24")}), 4U);
  EXPECT_EQ(selected({.source = cidr("10.96.0.1")}), 0U) << "a service is no source, in the reply either";
  EXPECT_EQ(selected({.destination = cidr("10.96.0.0/16")}), 4U);
  EXPECT_EQ(selected({.destination = cidr("10.244.1.2")}), 4U) << "translated destination";
  EXPECT_EQ(selected({.destination = cidr("10.244.0.5")}), 0U);
  for (const uint16_t port : {61000}) EXPECT_EQ(selected({.port = port}), 2U);
  for (const uint16_t port : {40000, 80, 8080}) EXPECT_EQ(selected({.port = port}), 4U);
  EXPECT_EQ(selected({.port = 81}), 0U);
  EXPECT_EQ(selected({.state = "replied"}), 0U);
  EXPECT_EQ(selected({.state = "new"}), 2U);
  EXPECT_EQ(selected({.service_ids = std::set<uint32_t>{7}}), 4U);
  EXPECT_EQ(selected({.service_ids = std::set<uint32_t>{8}}), 0U);
  EXPECT_EQ(selected({.protocol = Protocol::tcp, .state = "new"}), 0U);
}

TEST(FlowCount, CountsConnectionsOnceAndEntriesEach) {
  Set set = mixed();
  set.records.push_back(
      record_of(test::connection(kClient, kService, kClient, kEndpoint, kTcp, 0, 0).forward));
  const auto count = count_flows(set.sorted(), {}, kClock);
  EXPECT_EQ(count.flows(), 5U);
  EXPECT_EQ(count.connections(), 3U);
  EXPECT_THAT(count.by_protocol(), UnorderedElementsAre(Pair("TCP", 2), Pair("UDP", 1)));
  EXPECT_THAT(count.by_state(),
              UnorderedElementsAre(Pair("established", 1), Pair("opening", 1), Pair("new", 1)));
}

TEST(FlowKey, IsTheKeyThatWasRead) {
  const auto pair = test::connection(kClient, kService, kNode, kEndpoint, kTcp, 0, 0);
  for (const FlowEntry4& entry : {pair.forward, pair.reply}) {
    const abi::tuple4 key = key4_of(record_of(entry));
    EXPECT_EQ(std::memcmp(&key, &entry.key, sizeof key), 0);
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    FlowEntry6 entry{};
    for (size_t n = 0; n < sizeof entry; ++n)
      reinterpret_cast<uint8_t*>(&entry)[n] = static_cast<uint8_t>(random());
    const abi::tuple6 key = key6_of(record_of(entry));
    EXPECT_EQ(std::memcmp(&key, &entry.key, sizeof key), 0);
  }
}

TEST(FlowGarbage, IsShownWithoutHarm) {
  std::mt19937 random(2);
  Set set;
  for (int i = 0; i < 1000; ++i) {
    FlowEntry6 entry6{};
    FlowEntry4 entry4{};
    for (size_t n = 0; n < sizeof entry6; ++n)
      reinterpret_cast<uint8_t*>(&entry6)[n] = static_cast<uint8_t>(random());
    for (size_t n = 0; n < sizeof entry4; ++n)
      reinterpret_cast<uint8_t*>(&entry4)[n] = static_cast<uint8_t>(random());
    set.records.push_back(record_of(entry6));
    set.records.push_back(record_of(entry4));
  }
  EXPECT_EQ(messages(set).size(), 2000U);
  EXPECT_EQ(count_flows(set.sorted(), {}, kClock).flows(), 2000U);
}

TEST(FlowWalk, StopsWhenToldTo) {
  int visits = 0;
  each_selected(mixed().sorted(), {}, kClock,
                [&](const FlowRecord&, const Connection&) { return ++visits < 2; });
  EXPECT_EQ(visits, 2);
  each_selected({}, {}, kClock, [&](const FlowRecord&, const Connection&) { return ++visits < 2; });
  EXPECT_EQ(visits, 2);
}

}  // namespace
}  // namespace maglane::inspect
