// SPDX-License-Identifier: Apache-2.0
//
// What is refused, and how, and what is none of the data plane's business.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

using namespace abi;

void no_endpoint_is_refused(Scenario& s) {
  s.proves({11});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {}).node_port(s.node(), s.variant.protocol, {});
  const Packet outside = s.first(s.client(), s.node()), inside = s.first(s.local(0, 40000), s.vip());
  s.uplink(outside).rejected(REASON_NO_ENDPOINT, port_unreachable(outside));
  s.pod(inside).rejected(REASON_NO_ENDPOINT, port_unreachable(inside));
  const Packet plain = s.later(s.client(), s.node());
  s.uplink(plain).rejected(REASON_NO_ENDPOINT, port_unreachable(plain));
  EXPECT_EQ(s.flow_count(), 0U);
}

void refusal_quotes_as_much_as_it_may(Scenario& s) {
  s.proves({11});
  s.cluster.node_port(s.node(), s.variant.protocol, {});
  for (const size_t size : {0, 1, 7, 40, 63, 64, 65, 100, 1000, 1400}) {
    const Packet packet = s.first(s.client(), s.node()).payload_size(size).tos(0x10).ttl(1);
    s.uplink(packet).rejected(REASON_NO_ENDPOINT, port_unreachable(packet));
  }
}

void refusal_leaves_out_ethernet_padding(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {});
  const Packet packet = s.first(s.client(), s.node());
  s.uplink(packet.trailer(30)).rejected(REASON_NO_ENDPOINT, port_unreachable(packet));
}

void refused_with_options(Scenario& s) {
  s.proves({11});
  s.cluster.node_port(s.node(), s.variant.protocol, {});
  const Packet packet = s.first(s.client(), s.node()).options(Bytes(40, 1));
  s.uplink(packet).rejected(REASON_NO_ENDPOINT, port_unreachable(packet));
}

void unused_port_is_refused(Scenario& s) {
  s.proves({13});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const Packet packet = s.first(s.local(0, 40000), s.vip(81));
  s.pod(packet).rejected(REASON_UNUSED_PORT, port_unreachable(packet));
  const Packet outside = s.first(s.client(), s.vip(81));
  s.uplink(outside).rejected(REASON_UNUSED_PORT, port_unreachable(outside));
}

void the_same_port_of_another_protocol_is_unused(Scenario& s) {
  s.proves({13, 24});
  s.cluster.cluster_ip(s.vip(), s.tcp() ? kProtoUdp : kProtoTcp, {s.other_pod()});
  const Packet packet = s.first(s.local(0, 40000), s.vip());
  s.pod(packet).rejected(REASON_UNUSED_PORT, port_unreachable(packet));
}

void unused_service_address_goes_nowhere(Scenario& s) {
  s.proves({13});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort unused = s.pick("172.20.0.99:80", "[fc00::99]:80");
  s.pod(s.first(s.local(0, 40000), unused)).dropped(REASON_UNUSED_ADDRESS);
  s.uplink(s.first(s.client(), unused)).dropped(REASON_UNUSED_ADDRESS);
  s.pod(Packet::icmp(s.local().address, unused.address, 8, 0)).dropped(REASON_UNUSED_ADDRESS);
}

void policy_local_without_endpoint_is_silent(Scenario& s) {
  s.proves({12, 16});
  s.cluster.frontend({FRONTEND_NODE_PORT, s.node(), s.variant.protocol, {}, {s.remote()}, EMPTY_DROP});
  s.uplink(s.first(s.client(), s.node())).dropped(REASON_NO_LOCAL_ENDPOINT);
  s.pod(s.first(s.local(0, 40000), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
}

void other_traffic_is_left_alone(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()})
      .node_port(s.node(), s.variant.protocol, {s.local()});
  s.pod(s.first(s.local(0, 40000), s.other_pod())).passed(REASON_NOT_OURS);
  s.pod(s.first(s.local(0, 40000), s.client(443))).passed(REASON_NOT_OURS);
  s.uplink(s.first(s.client(), s.node(22))).passed(REASON_NOT_OURS);
  s.uplink(s.later(s.remote(), s.local(0, 40000))).passed(REASON_NOT_OURS);
  s.uplink(s.first(s.client(), s.node()).to_address(s.other_pod().address).ttl(1)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

void arp_and_other_ethernet_types_pass(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  for (const uint16_t type : {0x0806, 0x88cc, 0x8847, 0x0026})
    s.uplink(Packet::ethernet(type)).passed(REASON_NOT_IP);
  s.pod(Packet::ethernet(0x0806)).passed(REASON_NOT_IP);
}

void icmp_and_multicast_pass(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const IpAddress group = s.pick("224.0.0.251:0", "[ff02::fb]:0").address;
  s.uplink(Packet::udp(s.client(5353), HostPort(group, 5353))).passed(REASON_NOT_OURS);
  s.uplink(Packet::icmp(s.client().address, s.node().address, s.v4() ? 8 : 128, 0)).passed(REASON_NOT_OURS);
  if (s.v4()) return;
  // Neighbour solicitation and advertisement, router advertisement (RFC 4861).
  for (const uint8_t type : {135, 136, 134})
    s.uplink(Packet::icmp(ip("fe80::1"), ip("ff02::1:ff00:1"), type, 0).ttl(255).payload_size(20))
        .passed(REASON_NOT_OURS);
  s.uplink(Packet::icmp(s.client().address, s.node().address, 135, 0).ttl(255).payload_size(20))
      .passed(REASON_NOT_OURS);
}

void other_protocols(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  for (const int protocol : {47, 50, 4, 41, 255})
    s.pod(Packet::other(s.local().address, s.vip().address, static_cast<uint8_t>(protocol)))
        .dropped(REASON_UNSUPPORTED_PROTOCOL);
  s.pod(Packet::icmp(s.local().address, s.vip().address, s.v4() ? 8 : 128, 0))
      .dropped(REASON_UNSUPPORTED_PROTOCOL);
  s.pod(Packet::other(s.local().address, s.other_pod().address, 47)).passed(REASON_NOT_OURS);
}

void hop_limit(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()).ttl(2)).sent(s.first(s.client(), s.local()).ttl(1));
  for (const uint8_t ttl : {0, 1})
    s.uplink(s.first(s.client(), s.node()).ttl(ttl)).dropped(REASON_TTL_EXCEEDED);
  s.uplink(s.first(s.client(), s.node()).ttl(255)).sent(s.first(s.client(), s.local()).ttl(254));
}

void flow_table_full(Scenario& s) {
  s.cluster.flow_capacity = 3;  // one connection and a half
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(40000), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client(40000)).hop());
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  s.uplink(s.first(s.client(40001), s.node())).dropped(REASON_FLOW_TABLE_FULL);
  EXPECT_EQ(s.flow_count(), 2U) << "half a connection was left behind";
}

// Clients 40000 and up, one connection each, to the pod that is there.
void open_connection(Scenario& s, uint16_t client) {
  s.uplink(s.first(s.client(client), s.node())).sent(s.first(s.client(client), s.local()).hop());
}
void from_server(Scenario& s, uint16_t client, uint8_t flags) {
  s.pod(s.later(s.local(), s.client(client), flags)).sent(s.later(s.node(), s.client(client), flags).hop());
}
void from_client(Scenario& s, uint16_t client, uint8_t flags) {
  s.uplink(s.later(s.client(client), s.node(), flags)).sent(s.later(s.client(client), s.local(), flags).hop());
}
void establish(Scenario& s, uint16_t client) {
  open_connection(s, client);
  from_server(s, client, kSyn | kAck);
  from_client(s, client, kAck);
}

void flow_table_exactly_full(Scenario& s) {
  s.cluster.flow_capacity = 2;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  s.uplink(s.first(s.client(40001), s.node())).dropped(REASON_FLOW_TABLE_FULL);
  from_client(s, 40000, kAck);
  from_server(s, 40000, kAck);
}

// Nor what is left of an established one, when there is no room for its lost direction.
void flow_table_full_for_a_lost_direction(Scenario& s) {
  s.cluster.flow_capacity = 4;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  s.lose_direction(false);
  establish(s, 40001);
  fill_up(s.plane, s.cluster.constants(), 0);
  s.uplink(s.later(s.client(40000), s.node())).dropped(REASON_FLOW_TABLE_FULL);
  EXPECT_EQ(s.flow_count(), 3U);
  from_server(s, 40000, kAck);
}

// Whatever was idle longest goes, but never what is established.
void established_is_never_given_up(Scenario& s) {
  s.proves({14});
  s.cluster.flow_capacity = 4;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  s.age_flows(5);
  for (uint16_t client = 40001; client < 40020; ++client) {
    open_connection(s, client);
    EXPECT_EQ(s.clients_with_flows(), (std::multiset<uint16_t>{40000, 40000, client, client}));
    s.age_flows(1);
  }
  from_server(s, 40000, kAck);
  from_client(s, 40000, kAck);
}

// A RST that may be anybody's costs nobody a connection before it has been silent for long.
void doubtful_is_not_given_up(Scenario& s) {
  s.cluster.flow_capacity = 4;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  from_client(s, 40000, kRst);
  s.age_flows(5);
  open_connection(s, 40001);
  open_connection(s, 40002);
  EXPECT_EQ(s.clients_with_flows(), (std::multiset<uint16_t>{40000, 40000, 40002, 40002}));
  establish(s, 40002);
  s.uplink(s.first(s.client(40003), s.node())).dropped(REASON_FLOW_TABLE_FULL);
  EXPECT_EQ(s.clients_with_flows(), (std::multiset<uint16_t>{40000, 40000, 40002, 40002}));
  s.age_flows(50);
  open_connection(s, 40003);
  EXPECT_EQ(s.clients_with_flows(), (std::multiset<uint16_t>{40002, 40002, 40003, 40003}));
}

// A full table gives up what is closed, then what has expired, then what was never answered.
void given_up_in_order(Scenario& s) {
  const uint16_t kept = 40000, closed = 40001, expired = 40002, opening = 40003;
  s.cluster.flow_capacity = 8;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  for (const uint16_t client : {kept, closed, expired}) establish(s, client);
  from_client(s, closed, kFin | kAck);
  from_server(s, closed, kFin | kAck);
  open_connection(s, opening);
  s.age_flows(9);  // below the limit of an opening one
  s.age_flows_of(expired, 200);
  const auto open_one = [&](uint16_t client, std::multiset<uint16_t> left) {
    open_connection(s, client);
    left.insert({client, client});
    EXPECT_EQ(s.clients_with_flows(), left) << client;
    establish(s, client);
  };
  open_one(50000, {kept, kept, expired, expired, opening, opening});
  open_one(50001, {kept, kept, opening, opening, 50000, 50000});
  open_one(50002, {kept, kept, 50000, 50000, 50001, 50001});
  s.uplink(s.first(s.client(50003), s.node())).dropped(REASON_FLOW_TABLE_FULL);
  for (const uint16_t client : {kept, uint16_t{50000}, uint16_t{50001}, uint16_t{50002}}) {
    from_server(s, client, kAck);
    from_client(s, client, kAck);
  }
}

// As long as a bucket is being changed: no new connection; what is known goes on.
void busy_table(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  lock_flows(s.plane, true);
  s.uplink(s.first(s.client(40001), s.node())).dropped(REASON_TABLE_BUSY);
  s.age_flows(1);
  from_client(s, 40000, kAck);
  from_server(s, 40000, kAck);
  from_client(s, 40000, kFin | kAck);
  EXPECT_EQ(s.flow_count(), 2U);
  s.age_flows(1000);
  EXPECT_EQ(s.expire().removed, 0U);
  lock_flows(s.plane, false);
  open_connection(s, 40001);
  EXPECT_EQ(s.flow_count(), 4U);
}

// A copy can not be had of an entry that is never at rest.
void entry_that_is_being_changed(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  establish(s, 40000);
  const auto toggle = [&] {
    each_slot(s.plane, [](const FlowSlot& flow) { *flow.meta ^= TABLE_VERSION_ODD; });
  };
  toggle();
  s.uplink(s.later(s.client(40000), s.node())).dropped(REASON_TABLE_BUSY);
  toggle();
  from_client(s, 40000, kAck);
}

void no_source_ports_configured(Scenario& s) {
  s.cluster.config.snat_port_count[0] = s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  s.uplink(s.first(s.client(), s.node())).dropped(REASON_NO_SOURCE_PORT);
  EXPECT_EQ(s.flow_count(), 0U);
}

void node_without_address(Scenario& s) {
  s.cluster.node_address4 = s.cluster.node_address6 = "";
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  s.uplink(s.first(s.client(), s.node())).dropped(REASON_NO_SOURCE_ADDRESS);
}

void missing_backend(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()})
      .forget_backend(s.local(), s.variant.protocol);
  s.uplink(s.first(s.client(), s.node())).dropped(REASON_NO_BACKEND);
  EXPECT_EQ(s.flow_count(), 0U);
}

void family_that_is_switched_off(Scenario& s) {
  (s.v4() ? s.cluster.config.ipv4 : s.cluster.config.ipv6) = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).passed(REASON_NOT_IP);
}

}  // namespace

std::vector<Case> refusal_cases() {
  return {
      {"no_endpoint_is_refused", no_endpoint_is_refused},
      {"refusal_quotes_as_much_as_it_may", refusal_quotes_as_much_as_it_may},
      {"refusal_leaves_out_ethernet_padding", refusal_leaves_out_ethernet_padding},
      {"refused_with_options", refused_with_options, Case::ipv4_only},
      {"unused_port_is_refused", unused_port_is_refused},
      {"the_same_port_of_another_protocol_is_unused", the_same_port_of_another_protocol_is_unused},
      {"unused_service_address_goes_nowhere", unused_service_address_goes_nowhere},
      {"policy_local_without_endpoint_is_silent", policy_local_without_endpoint_is_silent},
      {"other_traffic_is_left_alone", other_traffic_is_left_alone},
      {"arp_and_other_ethernet_types_pass", arp_and_other_ethernet_types_pass, Case::once},
      {"icmp_and_multicast_pass", icmp_and_multicast_pass},
      {"other_protocols", other_protocols},
      {"hop_limit", hop_limit},
      {"flow_table_full", flow_table_full},
      {"flow_table_exactly_full", flow_table_exactly_full},
      {"flow_table_full_for_a_lost_direction", flow_table_full_for_a_lost_direction},
      {"established_is_never_given_up", established_is_never_given_up},
      {"doubtful_is_not_given_up", doubtful_is_not_given_up, Case::tcp_only},
      {"given_up_in_order", given_up_in_order, Case::tcp_only},
      {"busy_table", busy_table},
      {"entry_that_is_being_changed", entry_that_is_being_changed},
      {"no_source_ports_configured", no_source_ports_configured},
      {"node_without_address", node_without_address},
      {"missing_backend", missing_backend},
      {"family_that_is_switched_off", family_that_is_switched_off},
  };
}

}  // namespace maglane::test
