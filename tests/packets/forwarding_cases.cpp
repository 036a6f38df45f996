// SPDX-License-Identifier: Apache-2.0
//
// Who reaches which endpoint, under which address, and how the reply comes back.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

void pod_to_cluster_ip_on_this_node(Scenario& s) {
  s.proves({8, 15});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.other_pod()).hop());
  s.pod(s.answer(s.other_pod(), s.local(0, 40000)), kPod1).sent(s.answer(s.vip(), s.local(0, 40000)).hop());
  s.pod(s.later(s.local(0, 40000), s.vip())).sent(s.later(s.local(0, 40000), s.other_pod()).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

void pod_to_cluster_ip_on_the_same_device(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local(1)});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.local(1)).hop());
  s.pod(s.answer(s.local(1), s.local(0, 40000))).sent(s.answer(s.vip(), s.local(0, 40000)).hop());
}

void pod_to_cluster_ip_on_another_node(Scenario& s) {
  s.proves({8, 15});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.remote()});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.local(0, 40000))).sent(s.answer(s.vip(), s.local(0, 40000)).hop());
  s.pod(s.later(s.local(0, 40000), s.vip())).sent(s.later(s.local(0, 40000), s.remote()).hop());
  s.uplink(s.later(s.remote(), s.local(0, 40000))).sent(s.later(s.vip(), s.local(0, 40000)).hop());
}

void node_port_to_this_node_keeps_the_client(Scenario& s) {
  s.proves({8, 15, 20});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
  s.pod(s.answer(s.local(), s.client())).sent(s.answer(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local()).hop());
}

void node_port_to_another_node(Scenario& s) {
  s.proves({8, 15, 20, 27});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  s.uplink(s.later(s.remote(), s.node(port))).sent(s.later(s.node(), s.client()).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

void node_port_to_another_node_through_another_uplink(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote_c()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote_c()).hop());
  s.uplink(s.answer(s.remote_c(), s.node(port)), kUp1).sent(s.answer(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote_c()).hop());
}

void load_balancer_address(Scenario& s) {
  s.proves({21});
  const HostPort address = s.pick("203.0.113.10:443", "[2001:db8:1b::10]:443");
  s.cluster.load_balancer(address, s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), address)).sent(s.first(s.client(), s.local()).hop());
  s.pod(s.answer(s.local(), s.client())).sent(s.answer(address, s.client()).hop());
}

void endpoint_reaches_itself(Scenario& s) {
  s.proves({17});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  const HostPort self = s.local(0, 40000);
  const uint16_t port = s.pod(s.first(self, s.vip())).sent_from_new_port(s.first(s.node(0), s.local()).hop());
  s.pod(s.answer(s.local(), s.node(port))).sent(s.answer(s.vip(), self).hop());
  s.pod(s.later(self, s.vip())).sent(s.later(s.node(port), s.local()).hop());
}

void cluster_ip_from_outside_is_masqueraded(Scenario& s) {
  s.proves({15});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.vip())).sent_from_new_port(s.first(s.node(0), s.local()).hop());
  s.pod(s.answer(s.local(), s.node(port))).sent(s.answer(s.vip(), s.client()).hop());
}

void masquerade_all(Scenario& s) {
  s.proves({15});
  s.cluster.config.masquerade_all = 1;
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const uint16_t port =
      s.pod(s.first(s.local(0, 40000), s.vip())).sent_from_new_port(s.first(s.node(0), s.other_pod()).hop());
  s.pod(s.answer(s.other_pod(), s.node(port)), kPod1).sent(s.answer(s.vip(), s.local(0, 40000)).hop());
}

void pods_and_outside_have_tables_of_their_own(Scenario& s) {
  s.proves({16, 18});
  s.cluster.frontend(
      {abi::FRONTEND_LOAD_BALANCER, s.vip(), s.variant.protocol, {s.local()}, {s.other_pod()}});
  s.uplink(s.first(s.client(), s.vip())).sent(s.first(s.client(), s.local()).hop());
  s.pod(s.first(s.local(1, 40000), s.vip())).sent(s.first(s.local(1, 40000), s.other_pod()).hop());
  // A pod of another node comes in through an uplink: its address tells.
  s.uplink(s.first(s.remote(40000), s.vip())).sent(s.first(s.remote(40000), s.other_pod()).hop());
}

void two_frontends_share_an_endpoint(Scenario& s) {
  s.proves({27});
  s.cluster.cluster_ip(s.vip(80), s.variant.protocol, {s.other_pod()});
  s.cluster.cluster_ip(s.vip(81), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  s.pod(s.first(pod, s.vip(80))).sent(s.first(pod, s.other_pod()).hop());
  const uint16_t port =
      s.pod(s.first(pod, s.vip(81))).sent_from_new_port(s.first(s.local(0, 0), s.other_pod()).hop());
  s.pod(s.answer(s.other_pod(), pod), kPod1).sent(s.answer(s.vip(80), pod).hop());
  s.pod(s.answer(s.other_pod(), s.local(0, port)), kPod1).sent(s.answer(s.vip(81), pod).hop());
  s.pod(s.later(pod, s.vip(81))).sent(s.later(s.local(0, port), s.other_pod()).hop());
  EXPECT_EQ(s.flow_count(), 4U);
}

void service_and_its_endpoint_from_one_port(Scenario& s) {
  s.proves({27});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  // Through the service first; then the same port goes to the endpoint directly. The endpoint
  // must see two connections, and each reply must go back as what its client asked.
  s.pod(s.first(pod, s.vip())).sent(s.first(pod, s.other_pod()).hop());
  const uint16_t port =
      s.pod(s.first(pod, s.other_pod())).sent_from_new_port(s.first(s.local(0, 0), s.other_pod()).hop());
  s.pod(s.answer(s.other_pod(), pod), kPod1).sent(s.answer(s.vip(), pod).hop());
  s.pod(s.answer(s.other_pod(), s.local(0, port)), kPod1).sent(s.answer(s.other_pod(), pod).hop());
}

void clients_behind_one_port_number_stay_apart(Scenario& s) {
  s.proves({27});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  std::set<uint16_t> ports;
  for (int i = 1; i <= 40; ++i) {
    const HostPort client(ip((s.v4() ? "198.51.100." : "2001:db8:c::") + std::to_string(i)), 40000);
    const uint16_t port =
        s.uplink(s.first(client, s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
    EXPECT_TRUE(ports.insert(port).second) << "source port " << port << " given twice";
    s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), client).hop());
  }
}

void every_endpoint_gets_connections(Scenario& s) {
  const std::vector<HostPort> endpoints = {s.local(0), s.local(1), s.local(2), s.other_pod()};
  s.cluster.node_port(s.node(), s.variant.protocol, endpoints);
  std::map<HostPort, int> chosen;
  for (uint16_t port = 40000; port < 40200; ++port) {
    const Parsed out = parse(s.uplink(s.first(s.client(port), s.node())).last().frame);
    ++chosen[HostPort(out.destination, out.destination_port)];
  }
  EXPECT_EQ(chosen.size(), endpoints.size());
  for (const auto& endpoint : endpoints) EXPECT_GE(chosen[endpoint], 20) << endpoint.to_string();
}

void no_udp_checksum_stays_none(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {s.local()});
  s.uplink(s.first(s.client(), s.node()).no_l4_checksum())
      .sent(s.first(s.client(), s.local()).no_l4_checksum().hop());
  s.pod(s.answer(s.local(), s.client()).no_l4_checksum())
      .sent(s.answer(s.node(), s.client()).no_l4_checksum().hop());
}

void udp_checksum_that_comes_out_as_zero(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {s.local()});
  // Of 65,536 values of one payload word, one gives the translated packet the sum 0, which is
  // written as 0xffff (RFC 768); the whole run holds it.
  int found = 0;
  for (uint32_t word = 0; word < 0x10000; ++word) {
    const Bytes payload = {static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
    const Bytes out = Packet::udp(s.client(), s.local()).payload(payload).bytes();
    const size_t field = (s.v4() ? 34U : 54U) + 6;
    if (out[field] != 0xff || out[field + 1] != 0xff) continue;
    ++found;
    s.uplink(Packet::udp(s.client(), s.node()).payload(payload))
        .sent(Packet::udp(s.client(), s.local()).payload(payload).hop());
  }
  EXPECT_GT(found, 0);
}

void no_sctp_checksum_stays_none(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()).no_l4_checksum())
      .sent(s.first(s.client(), s.local()).no_l4_checksum().hop());
}

// Each bit of the length has its part in the checksum.
void sctp_of_every_length(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  for (size_t size = 0; size < 1440; size += 1 + size / 16)
    s.uplink(s.later(s.client(), s.node()).payload_size(size))
        .sent(s.later(s.node(port), s.remote()).payload_size(size).hop());
}

void wrong_checksums_stay_wrong(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()).l4_checksum_error(0x1111))
      .sent(s.first(s.client(), s.local()).l4_checksum_error(0x1111).hop());
  if (s.v4())
    s.uplink(s.first(s.client(), s.node()).ip_checksum_error(0x0203))
        .sent(s.first(s.client(), s.local()).ip_checksum_error(0x0203).hop());
}

void ipv4_options(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  for (size_t words = 1; words <= 10; ++words) {
    const Bytes options(words * 4, 1);  // no-operation
    s.uplink(s.first(s.client(), s.node()).options(options))
        .sent(s.first(s.client(), s.local()).options(options).hop());
  }
}

void ipv6_extension_headers(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const auto extend = [](const Packet& packet) {
    return packet.extension(kExtHopByHop).extension(kExtDestination, Bytes(14, 0)).extension(kExtRouting);
  };
  s.uplink(extend(s.first(s.client(), s.node()))).sent(extend(s.first(s.client(), s.local())).hop());
  s.pod(extend(s.answer(s.local(), s.client()))).sent(extend(s.answer(s.node(), s.client())).hop());
}

void type_of_service_and_ethernet_padding_are_kept(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()).tos(0xb9).id(7).trailer(18))
      .sent(s.first(s.client(), s.local()).tos(0xb9).id(7).trailer(18).hop());
}

void largest_packet(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const size_t size = 1500 - (s.v4() ? 20 : 40) - s.l4_header() - (s.tcp() ? 4 : 0);
  s.uplink(s.first(s.client(), s.node()).payload_size(size))
      .sent_from_new_port(s.first(s.node(0), s.remote()).payload_size(size).hop());
}

void segments_that_a_device_will_cut(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const auto big = [&](const Packet& packet) { return packet.payload_size(2800); };
  s.arrive({big(s.first(s.client(), s.node())).bytes(), kUp0, 2}, false)
      .sent(big(s.first(s.client(), s.local())).hop());
}

void packet_in_several_parts(Scenario& s) {
  if (!s.plane.native()) return;  // the kernel's test frames are in one part
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const Bytes frame = s.first(s.client(), s.node()).payload_size(300).bytes();
  for (uint32_t linear = 1; linear <= frame.size(); ++linear)
    s.arrive({frame, kUp0, 0, linear}, false).sent(s.first(s.client(), s.local()).payload_size(300).hop());
}

}  // namespace

std::vector<Case> forwarding_cases() {
  return {
      {"pod_to_cluster_ip_on_this_node", pod_to_cluster_ip_on_this_node},
      {"pod_to_cluster_ip_on_the_same_device", pod_to_cluster_ip_on_the_same_device},
      {"pod_to_cluster_ip_on_another_node", pod_to_cluster_ip_on_another_node},
      {"node_port_to_this_node_keeps_the_client", node_port_to_this_node_keeps_the_client},
      {"node_port_to_another_node", node_port_to_another_node},
      {"node_port_to_another_node_through_another_uplink", node_port_to_another_node_through_another_uplink},
      {"load_balancer_address", load_balancer_address},
      {"endpoint_reaches_itself", endpoint_reaches_itself},
      {"cluster_ip_from_outside_is_masqueraded", cluster_ip_from_outside_is_masqueraded},
      {"masquerade_all", masquerade_all},
      {"pods_and_outside_have_tables_of_their_own", pods_and_outside_have_tables_of_their_own},
      {"two_frontends_share_an_endpoint", two_frontends_share_an_endpoint},
      {"service_and_its_endpoint_from_one_port", service_and_its_endpoint_from_one_port},
      {"clients_behind_one_port_number_stay_apart", clients_behind_one_port_number_stay_apart},
      {"every_endpoint_gets_connections", every_endpoint_gets_connections},
      {"no_udp_checksum_stays_none", no_udp_checksum_stays_none, Case::udp_only},
      {"udp_checksum_that_comes_out_as_zero", udp_checksum_that_comes_out_as_zero, Case::udp_only},
      {"no_sctp_checksum_stays_none", no_sctp_checksum_stays_none, Case::sctp_only},
      {"sctp_of_every_length", sctp_of_every_length, Case::sctp_only},
      {"wrong_checksums_stay_wrong", wrong_checksums_stay_wrong},
      {"ipv4_options", ipv4_options, Case::ipv4_only},
      {"ipv6_extension_headers", ipv6_extension_headers, Case::ipv6_only},
      {"type_of_service_and_ethernet_padding_are_kept", type_of_service_and_ethernet_padding_are_kept},
      {"largest_packet", largest_packet},
      {"segments_that_a_device_will_cut", segments_that_a_device_will_cut},
      {"packet_in_several_parts", packet_in_several_parts},
  };
}

}  // namespace maglane::test
