// SPDX-License-Identifier: Apache-2.0
//
// ICMP and ICMPv6 echo of pods to the outside: an identifier is what others have a port for.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

constexpr uint16_t kId = 4711;

// From the pod that has its address, or from the node; `id` in the upper half of the rest.
Packet echo(const Scenario& s, const HostPort& from, const HostPort& to, uint16_t id, bool reply = false) {
  const uint8_t type = s.v4() ? (reply ? 0 : 8) : (reply ? 129 : 128);
  return Packet::icmp(from.address, to.address, type, 0).icmp_rest(uint32_t{id} << 16 | 7).payload("0123456789abcdef");
}

Packet echo_reply(const Scenario& s, const HostPort& from, const HostPort& to, uint16_t id) {
  return echo(s, from, to, id, true);
}

void kubenet(Scenario& s) {
  s.proves({19});
  s.cluster.config.network_model = NETWORK_KUBENET;
  s.cluster.not_masqueraded = {"10.0.0.0/8", "fd00::/12"};
}

// The identifier of an echo that was sent.
uint16_t id_of(const Outcome& outcome) {
  const Bytes& frame = outcome.last().frame;
  const size_t at = parse(frame).l4_offset + 4;
  return at + 1 < frame.size() ? static_cast<uint16_t>(frame[at] << 8 | frame[at + 1]) : uint16_t{0};
}

void to_the_outside_and_back(Scenario& s) {
  kubenet(s);
  for (int i = 0; i < 2; ++i) {
    s.pod(echo(s, s.local(), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
    s.uplink(echo_reply(s, s.outside(), s.node(), kId)).sent(echo_reply(s, s.outside(), s.local(), kId).hop());
  }
  EXPECT_EQ(s.flow_count(), 2U);
}

void two_pods_of_one_identifier(Scenario& s) {
  kubenet(s);
  s.pod(echo(s, s.local(0), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
  const Outcome second = s.pod(echo(s, s.local(1), s.outside(), kId));
  const uint16_t id = id_of(second);
  EXPECT_NE(id, kId);
  second.sent(echo(s, s.node(), s.outside(), id).hop());
  s.uplink(echo_reply(s, s.outside(), s.node(), id)).sent(echo_reply(s, s.outside(), s.local(1), kId).hop());
  s.uplink(echo_reply(s, s.outside(), s.node(), kId)).sent(echo_reply(s, s.outside(), s.local(0), kId).hop());
}

void the_node_asks_by_the_identifier_of_a_pod(Scenario& s) {
  kubenet(s);
  s.pod(echo(s, s.local(), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
  const Outcome out = s.leave(echo(s, s.node(), s.outside(), kId), kUp0);
  const uint16_t id = id_of(out);
  EXPECT_NE(id, kId);
  out.let_out(REASON_NODE_PORT_CHANGED, echo(s, s.node(), s.outside(), id));
  s.uplink(echo_reply(s, s.outside(), s.node(), id)).delivered(echo_reply(s, s.outside(), s.node(), kId));
  s.leave(echo_reply(s, s.node(), s.outside(), kId), kUp0).let_out(REASON_NOT_OURS, echo_reply(s, s.node(), s.outside(), kId));
}

// 0 stands for nothing: a reply that has it is nobody's.
void identifier_0(Scenario& s) {
  kubenet(s);
  const Outcome out = s.pod(echo(s, s.local(), s.outside(), 0));
  const uint16_t id = id_of(out);
  EXPECT_NE(id, 0);
  out.sent(echo(s, s.node(), s.outside(), id).hop());
  s.uplink(echo_reply(s, s.outside(), s.node(), id)).sent(echo_reply(s, s.outside(), s.local(), 0).hop());
  s.uplink(echo_reply(s, s.outside(), s.node(), 0)).passed(REASON_NOT_OURS);
  s.pod(echo_reply(s, s.local(), s.outside(), 0)).passed(REASON_NOT_OURS);
}

void others_are_left_alone(Scenario& s) {
  kubenet(s);
  s.cluster.cluster_ip(s.vip(), kProtoTcp, {s.local()});
  s.pod(echo(s, s.local(), s.remote(), kId)).passed(REASON_NOT_OURS);
  s.pod(echo(s, s.local(), s.node(), kId)).passed(REASON_NOT_OURS);
  s.pod(echo_reply(s, s.local(), s.outside(), kId)).passed(REASON_NOT_OURS);
  s.pod(echo(s, s.local(), s.outside(), kId).ttl(1)).passed(REASON_NOT_OURS);
  s.uplink(echo(s, s.outside(), s.node(), kId)).passed(REASON_NOT_OURS);
  s.uplink(echo_reply(s, s.outside(), s.node(), kId)).passed(REASON_NOT_OURS);
  s.pod(echo(s, s.local(), s.vip(), kId)).dropped(REASON_UNSUPPORTED_PROTOCOL);
  s.pod(echo(s, s.local(), s.pick("172.20.9.9:0", "[fc00::99]:0"), kId)).dropped(REASON_UNUSED_ADDRESS);
  EXPECT_EQ(s.flow_count(), 0U);
  // Whoever asks the node by a pod's identifier is answered by the node.
  s.pod(echo(s, s.local(), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
  s.uplink(echo(s, s.outside(), s.node(), kId)).passed(REASON_NOT_OURS);
}

void none_is_followed_without_masquerade(Scenario& s) {
  s.proves({19});
  s.pod(echo(s, s.local(), s.outside(), kId)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

void in_pieces(Scenario& s) {
  kubenet(s);
  const Packet sent = echo(s, s.local(), s.outside(), kId).dont_fragment(false).payload_size(200);
  const Packet came = echo_reply(s, s.outside(), s.node(), kId).dont_fragment(false).payload_size(200).id(9);
  for (uint16_t at = 0; at < 208; at += 64) {
    SCOPED_TRACE(at);
    s.pod(sent.part(at, 64)).sent(sent.from_address(s.node().address).part(at, 64).hop());
  }
  for (uint16_t at = 0; at < 208; at += 64) {
    SCOPED_TRACE(at);
    s.uplink(came.part(at, 64)).sent(came.to_address(s.local().address).part(at, 64).hop());
  }
}

// One time for all of them, answered or not.
void expires(Scenario& s) {
  kubenet(s);
  const uint32_t limit = s.cluster.config.timeouts.icmp;
  for (const bool answered : {false, true}) {
    s.pod(echo(s, s.local(), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
    if (answered)
      s.uplink(echo_reply(s, s.outside(), s.node(), kId)).sent(echo_reply(s, s.outside(), s.local(), kId).hop());
    s.age_flows(limit - 1);
    EXPECT_EQ(s.expire().removed, 0U);
    s.age_flows(limit);
    EXPECT_EQ(s.expire().removed, 2U);
  }
}

Packet error_about(const Scenario& s, const HostPort& from, const Packet& about, size_t bytes) {
  return Packet::icmp(from.address, about.source().address, s.v4() ? 11 : 3, 0).about(about, bytes);
}

void errors_about_it(Scenario& s) {
  kubenet(s);
  const HostPort router = s.pick("192.168.50.254:0", "[fd50::254]:0");
  s.pod(echo(s, s.local(0), s.outside(), kId)).sent(echo(s, s.node(), s.outside(), kId).hop());
  const uint16_t id = id_of(s.pod(echo(s, s.local(1), s.outside(), kId)));
  for (const size_t bytes : {size_t{9999}, s.v4() ? size_t{28} : size_t{48}}) {
    const Packet out = echo(s, s.node(), s.outside(), id).hop(), sent = echo(s, s.local(1), s.outside(), kId).hop();
    s.uplink(error_about(s, router, out, bytes)).sent(error_about(s, router, sent, bytes).hop());
    const Packet in = echo_reply(s, s.outside(), s.local(1), kId).hop(), came = echo_reply(s, s.outside(), s.node(), id).hop();
    s.pod(error_about(s, s.local(1), in, bytes)).sent(error_about(s, s.node(), came, bytes).hop());
  }
}

}  // namespace

std::vector<Case> masquerade_echo_cases() {
  // Once a family and mode: the protocol is always the same.
  return {
      {"point19_echo_to_the_outside_and_back", to_the_outside_and_back, Case::udp_only},
      {"point19_echo_two_pods_of_one_identifier", two_pods_of_one_identifier, Case::udp_only},
      {"point19_echo_the_node_asks_by_the_identifier_of_a_pod", the_node_asks_by_the_identifier_of_a_pod,
       Case::udp_only},
      {"point19_echo_identifier_0", identifier_0, Case::udp_only},
      {"point19_echo_others_are_left_alone", others_are_left_alone, Case::udp_only},
      {"point19_echo_none_is_followed_without_masquerade", none_is_followed_without_masquerade, Case::udp_only},
      {"point19_echo_in_pieces", in_pieces, Case::udp_only},
      {"point19_echo_expires", expires, Case::udp_only},
      {"point19_echo_errors_about_it", errors_about_it, Case::udp_only},
  };
}

}  // namespace maglane::test
