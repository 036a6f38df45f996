// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/masquerade.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tools/maglane/text.h"

namespace maglane::inspect {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

// A pod's connection to 203.0.113.N:443 that the other end sees with this port.
FlowEntry4 flow(uint8_t n, uint16_t port, uint8_t flags = abi::FLOW_MASQUERADE) {
  FlowEntry4 entry{};
  entry.key.protocol = IPPROTO_TCP;
  entry.flow.src_be = inet_addr("192.0.2.1");
  entry.flow.dst_be = htonl(0xcb007100U + n);
  entry.flow.src_port_be = htons(port);
  entry.flow.dst_port_be = htons(443);
  entry.flow.body.flags = flags;
  return entry;
}

v1::MasqueradeInfo info(size_t most) {
  abi::node_state node{};
  node.network_model = abi::NETWORK_AZURE_CNI;
  node.snat_port_min[0] = 1000;
  node.snat_port_count[0] = 4;
  MasqueradeView view(node);
  view.add(flow(1, 40000));
  for (const uint16_t port : {40000, 1000, 1003, 1004}) view.add(flow(2, port));
  view.add(flow(2, 1001, abi::FLOW_MASQUERADE | abi::FLOW_REPLY));  // the other direction
  view.add(flow(3, 1001, abi::FLOW_SNAT));                         // a service's
  const PortShortage shortage{*IpAddress::parse("203.0.113.9"), *IpAddress::parse("192.0.2.1"), 53, IPPROTO_UDP, 12};
  std::vector<abi::counter> counters(size_t{abi::REASON_COUNT} * abi::HOOKS);
  counters[abi::REASON_NO_SOURCE_PORT + size_t{abi::HOOK_TC} * abi::REASON_COUNT].packets = 15;
  return view.finish({*Cidr::parse("10.0.0.0/8")}, {{7, *IpAddress::parse("192.0.2.1"), std::nullopt}}, {shortage},
                     counters, [](uint32_t index) { return "if" + std::to_string(index); }, most);
}

TEST(Masquerade, TheFullestRemoteEndsFirst) {
  const v1::MasqueradeInfo all = info(20);
  EXPECT_EQ(all.model(), "azure-cni");
  EXPECT_EQ(all.range_ports(), 4U);
  EXPECT_EQ(all.connections(), 5U);
  EXPECT_EQ(all.remotes_in_use(), 2U);
  EXPECT_EQ(all.dropped(), 15);
  ASSERT_EQ(all.remotes_size(), 3);
  EXPECT_EQ(all.remotes(0).address(), "203.0.113.2");
  EXPECT_EQ(all.remotes(0).connections(), 4U);
  EXPECT_EQ(all.remotes(0).range_ports_used(), 2U);
  EXPECT_EQ(all.remotes(0).range_used(), 0.5);
  EXPECT_EQ(all.remotes(1).address(), "203.0.113.9") << "drops count more than connections";
  EXPECT_EQ(all.remotes(1).dropped(), 12);
  EXPECT_EQ(info(1).remotes_size(), 1);
  EXPECT_EQ(info(1).connections(), 5U);
}

TEST(Masquerade, AsText) {
  const std::string text = cli::to_text(info(20));
  EXPECT_THAT(text, HasSubstr("ports   1000-1003 (4 towards each"));
  EXPECT_THAT(text, HasSubstr("leaves  if7 as 192.0.2.1\n"));
  EXPECT_THAT(text, HasSubstr("not to  10.0.0.0/8"));
  EXPECT_THAT(text, HasSubstr("15 packets found no free port"));
  EXPECT_THAT(text, ContainsRegex("TCP +203.0.113.2:443 +192.0.2.1 +4 +2 +50.0%"));
}

}  // namespace
}  // namespace maglane::inspect
