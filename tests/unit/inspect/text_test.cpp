// SPDX-License-Identifier: Apache-2.0
// Text and JSON from the same value.
#include "tools/maglane/text.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "agent/inspect/stats.h"
#include "agent/inspect/tables.h"
#include "tests/unit/inspect/contents.h"
#include "tools/maglane/json.h"
#include "tools/maglane/units.h"

namespace maglane::cli {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

template <typename Message>
Message read_back(const Message& message) {
  Message copy;
  const auto json = to_json(message);
  EXPECT_TRUE(json);
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(*json, &copy).ok());
  return copy;
}

TEST(Json, HoldsTheWholeValue) {
  const auto list = inspect::show_services(test::cluster(), {7, 8});
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(list, read_back(list)));
}

TEST(Json, PrintsFieldsThatAreZeroInLowerCamelCase) {
  const auto json = to_json(inspect::list_services(test::cluster()));
  EXPECT_THAT(*json, AllOf(HasSubstr("\"podEndpoints\": 0"), HasSubstr("\"whenEmpty\": \"reject\""),
                           HasSubstr("\"endpoints\": []")));
  EXPECT_THAT(*to_json(v1::Status(), JsonLayout::one_line),
              AllOf(HasSubstr("\"agentRunning\":false"), Not(HasSubstr("\n"))));
}

TEST(Text, ServiceListAligned) {
  EXPECT_EQ(to_text(inspect::list_services(test::cluster())),
            "SERVICE           PROTOCOL  FRONTEND           TYPE        ENDPOINTS\n"
            "default/empty     TCP       10.96.0.2:81       cluster-ip  reject\n"
            "default/web:http  TCP       10.96.0.1:80       cluster-ip  3\n"
            "                            192.168.1.1:30080  node-port   1 outside, 3 pods\n"
            "prod/web          TCP       10.96.0.3:80       cluster-ip  drop outside, 3 pods\n");
  EXPECT_EQ(to_text(v1::ServiceList()), "no services\n");
}

TEST(Text, ServiceShownWithShares) {
  EXPECT_EQ(to_long_text(inspect::show_services(test::cluster(), {7})),
            "default/web:http  TCP IPv4, port 80, id 7, 0 connections\n"
            "  FRONTEND           TYPE        ENDPOINTS          AFFINITY  SOURCES\n"
            "  10.96.0.1:80       cluster-ip  3                         -  any\n"
            "  192.168.1.1:30080  node-port   1 outside, 3 pods         -  any\n"
            "  ENDPOINT          WHERE      BACKEND  ENTRIES  SHARE\n"
            "  10.244.0.10:8080  this node        3        5  45.5%  #########\n"
            "  10.244.1.2:8080   elsewhere        4        3  27.3%  #####\n"
            "  10.244.1.10:8080  elsewhere        5        3  27.3%  #####\n");
  EXPECT_THAT(to_long_text(inspect::show_services(test::cluster(), {8})),
              HasSubstr("no endpoint can be reached"));
}

TEST(Text, ServiceShownWithAffinityAndSourceRanges) {
  MapContents contents = test::cluster();
  test::add_limited(contents, "203.0.113.7", 80, 7);
  for (auto& [key, frontend] : contents.frontends) frontend.affinity_seconds = 10800;
  EXPECT_THAT(to_long_text(inspect::show_services(contents, {7})),
              AllOf(ContainsRegex("10.96.0.1:80 .* 3h00m  any\n"),
                    ContainsRegex("203.0.113.7:80 .* 3h00m  nobody\n")));
  test::add_source_range(contents, 7, "198.51.100.0", 24);
  test::add_source_range(contents, 7, "10.0.0.0", 8);
  const auto list = inspect::show_services(contents, {7});
  EXPECT_THAT(to_long_text(list), HasSubstr("3h00m  10.0.0.0/8, 198.51.100.0/24\n"));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(list, read_back(list)));
  const auto json = to_json(list, JsonLayout::one_line);
  EXPECT_THAT(*json, AllOf(HasSubstr("\"affinitySeconds\":10800"), HasSubstr("\"limited\":true"),
                           HasSubstr("\"sourceRanges\":[\"10.0.0.0/8\",\"198.51.100.0/24\"]"),
                           HasSubstr("\"sourceRanges\":[]")));
}

TEST(Text, MaglevTablesWithBars) {
  EXPECT_THAT(to_text(inspect::show_maglev(test::cluster(), {7}, "default/web")),
              AllOf(HasSubstr("table of 10 entries from 0 on\n  for cluster-ip 10.96.0.1:80 TCP\n"),
                    HasSubstr("40.0%  ########\n"), HasSubstr("100.0%  ####################\n")));
}

TEST(Text, CountersMostFrequentFirst) {
  std::vector<abi::counter> counters(size_t{abi::REASON_COUNT} * abi::HOOKS);
  counters[abi::REASON_NOT_OURS] = {5, 500};
  counters[abi::REASON_TRANSMITTED + uint32_t{abi::HOOK_TC} * abi::REASON_COUNT] = {7, 7000};
  const auto stats = inspect::list_counters(counters, false);
  ASSERT_EQ(stats.counters_size(), 2);
  EXPECT_EQ(stats.counters(0).reason(), "transmitted");
  EXPECT_EQ(stats.counters(0).hook(), "tc");
  EXPECT_EQ(stats.counters(0).verdict(), "send");
  EXPECT_EQ(to_text(stats),
            "PACKETS    BYTES  HOOK  VERDICT  REASON       MEANING\n"
            "      7  6.8 KiB  tc    send     transmitted  sent back out of the device it came from\n"
            "      5    500 B  xdp   pass     not_ours     belongs to no flow and to no frontend\n");
  EXPECT_EQ(inspect::list_counters(counters, true).counters_size(), int{abi::REASON_COUNT} * abi::HOOKS);
  EXPECT_EQ(inspect::list_counters({}, false).counters_size(), 0);
}

TEST(Text, StatusOfALivingAgent) {
  v1::Status status;
  status.set_agent_running(true);
  status.set_version("0.1.0");
  status.set_kernel("6.18.0");
  status.set_node_name("node-a");
  status.set_node_address_ipv4("192.168.1.1");
  status.set_node_address_ipv6("fd00::1");
  status.set_synced(true);
  status.set_updates(3);
  status.set_last_update_seconds_ago(61);
  status.set_last_update_milliseconds(1.25);
  status.set_services(1);
  status.set_frontends(2);
  status.set_source("/etc/maglane/manifests");
  status.set_uptime_seconds(7300);
  status.set_pid(42);
  auto& attachment = *status.add_attachments();
  attachment.set_device("eth0");
  attachment.set_role("uplink");
  attachment.set_hook("xdp");
  attachment.set_mode("native");
  auto& problem = *status.add_problems();
  problem.set_where("web.yaml:3");
  problem.set_message("port 70000 is not a port");
  auto& map = *status.add_maps();
  map.set_name("flows4");
  map.set_used(1024);
  map.set_capacity(4096);
  map.set_bytes(1048576);
  EXPECT_EQ(to_text(status),
            "node     node-a, 192.168.1.1, fd00::1\n"
            "agent    running for 2h01m, pid 42, version 0.1.0, kernel 6.18.0\n"
            "source   /etc/maglane/manifests\n"
            "updates  3 updates, the last 1m01s ago took 1.2 ms\n"
            "serves   1 service port, 2 frontends, 0 backends\n"
            "\n"
            "attached\n"
            "  DEVICE  ROLE    HOOK  MODE    NOTE\n"
            "  eth0    uplink  xdp   native\n"
            "\n"
            "problems\n"
            "  web.yaml:3: port 70000 is not a port\n"
            "\n"
            "maps\n"
            "  MAP     USED  CAPACITY   FULL   MEMORY\n"
            "  flows4  1024      4096  25.0%  1.0 MiB\n");
}

TEST(Text, HealthInTheStatus) {
  v1::Status status;
  status.set_agent_running(true);
  v1::Health& health = *status.mutable_health();
  health.mutable_proxy()->set_healthy(true);
  health.mutable_proxy()->set_node_eligible(true);
  health.set_healthz_address("0.0.0.0:10256");
  v1::HealthPort& port = *health.add_ports();
  port.set_port(30500);
  port.set_service("default/web");
  port.set_listening(true);
  for (const uint32_t endpoints : {2U, 0U}) {
    port.add_families(endpoints ? "IPv4" : "IPv6");
    port.add_answers()->set_local_endpoints(endpoints);
    port.mutable_answers()->rbegin()->set_service_proxy_healthy(true);
  }
  EXPECT_THAT(to_text(status), AllOf(HasSubstr("health   healthy; /healthz on 0.0.0.0:10256\n"),
                                     ContainsRegex("30500 +default/web +IPv4 +2 +200\n"),
                                     ContainsRegex("IPv6 +0 +503\n")));
  port.set_listening(false);
  health.mutable_proxy()->set_healthy(false);
  health.mutable_proxy()->set_node_eligible(false);
  health.set_waiting_seconds(61);
  EXPECT_THAT(to_text(status),
              AllOf(HasSubstr("health   unhealthy, a change has waited for 1m01s, the node is to be deleted;"),
                    HasSubstr("none, see problems")));
}

TEST(Text, StatusTellsHowFullTheFlowTablesAre) {
  v1::Status status;
  std::vector<abi::counter> counters(size_t{abi::REASON_COUNT} * abi::HOOKS);
  counters[uint32_t{abi::REASON_FLOW_TABLE_FULL} + uint32_t{abi::HOOK_TC} * abi::REASON_COUNT].packets = 7;
  inspect::add_flow_tables({{{1550, 100, 30}, {31, 100, 0}}},
                           {{"flows4", 1550, 3100, 204800}, {"flows6", 31, 3100, 409600}}, counters, status);
  EXPECT_DOUBLE_EQ(status.flow_tables(0).pressure(), 0.09);
  EXPECT_THAT(to_text(status), HasSubstr("flow tables\n"
                                         "  FLOWS  USED  SIZE  OCCUPANCY  PRESSURE     MEMORY\n"
                                         "  IPv4   1550  3100      50.0%      9.0%  200.0 KiB\n"
                                         "  IPv6     31  3100       1.0%      0.0%  400.0 KiB\n"
                                         "  7 new connections were refused for want of room\n"));
}

TEST(Text, StatusOfADeadAgentTellsWhatTheMapsHold) {
  abi::node_state node{};
  node.addr4_be = htobe32(0xc0a80101);
  const auto status = inspect::status_of_maps(test::cluster(), {{"services", 3, 100, 4096}}, node);
  EXPECT_FALSE(status.agent_running());
  EXPECT_EQ(status.frontends(), 4U);  // without the one that only stands for an address
  EXPECT_THAT(to_text(status),
              AllOf(HasSubstr("node     192.168.1.1\n"), HasSubstr("agent    not running"),
                    HasSubstr("3 service ports, 4 frontends, 3 backends"), HasSubstr("3.0%")));
}

TEST(Text, FlowRow) {
  v1::Flow flow;
  flow.set_protocol("TCP");
  flow.set_direction("forward");
  flow.mutable_original()->set_source("fd00::5");
  flow.mutable_original()->set_source_port(4000);
  flow.mutable_original()->set_destination("fd00:96::1");
  flow.mutable_original()->set_destination_port(80);
  *flow.mutable_translated() = flow.original();
  flow.set_state("established");
  flow.set_idle_seconds(12.3);
  flow.set_service_id(3);
  std::string text;
  Table table = flow_table([&](const std::string& line) { text += line; });
  table.add(flow_cells(flow));
  table.finish();
  EXPECT_THAT(text, AllOf(HasSubstr("TCP    forward    [fd00::5]:4000 > [fd00:96::1]:80"),
                          HasSubstr("established   12s  (gone: id 3)  -")));
}

TEST(Table, StreamsAfterItsSample) {
  size_t lines = 0;
  Table table({{"A"}}, [&](const std::string&) { ++lines; });
  for (size_t i = 0; i + 1 < Table::kSample; ++i) table.add({"x"});
  EXPECT_EQ(lines, 0U);
  table.add({"x"});
  EXPECT_EQ(lines, Table::kSample + 1);  // with the titles
  table.add({"longer than the column"});
  EXPECT_EQ(lines, Table::kSample + 2);
  table.finish();
  EXPECT_EQ(lines, Table::kSample + 2);
}

TEST(Units, AreShort) {
  EXPECT_EQ(duration(0), "0s");
  EXPECT_EQ(duration(0.25), "250ms");
  EXPECT_EQ(duration(59.9), "59s");
  EXPECT_EQ(duration(3599), "59m59s");
  EXPECT_EQ(duration(86400 * 2 + 7200), "2d02h");
  EXPECT_EQ(bytes(1023), "1023 B");
  EXPECT_EQ(bytes(1536), "1.5 KiB");
  EXPECT_EQ(percent(1, 0), "-");
  EXPECT_EQ(counted(1, "flow"), "1 flow");
  EXPECT_EQ(bar(2), std::string(20, '#'));
  EXPECT_EQ(bar(0), "");
}

}  // namespace
}  // namespace maglane::cli
