// SPDX-License-Identifier: Apache-2.0
//
// Fragments: the later ones follow the first one of their datagram, and no others.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

constexpr size_t kPiece = 64;  // bytes of each piece but the last

// A datagram of three pieces and a bit, which may be cut.
Packet datagram(const Scenario& s, const HostPort& from, const HostPort& to) {
  return s.first(from, to).dont_fragment(false).payload_size(3 * kPiece + 7);
}

std::vector<Packet> pieces(const Packet& whole) {
  std::vector<Packet> result;
  for (size_t at = 0; at < whole.size_to_part(); at += kPiece)
    result.push_back(whole.part(static_cast<uint16_t>(at), kPiece));
  return result;
}

void each_sent(Scenario& s, const Packet& in, const Packet& out, uint32_t pod_device = 0) {
  const auto before = pieces(in), after = pieces(out);
  for (size_t i = 0; i < before.size(); ++i) {
    SCOPED_TRACE(i);
    (pod_device ? s.pod(before[i], pod_device) : s.uplink(before[i])).sent(after[i].hop());
  }
}

void to_a_pod_and_back(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  each_sent(s, datagram(s, s.client(), s.node()), datagram(s, s.client(), s.local()));
  each_sent(s, datagram(s, s.local(), s.client()).flags(kSyn | kAck),
            datagram(s, s.node(), s.client()).flags(kSyn | kAck), kPod0);
  EXPECT_EQ(s.flow_count(), 2U);
  // A connection that is known already.
  each_sent(s, datagram(s, s.client(), s.node()).id(7), datagram(s, s.client(), s.local()).id(7));
}

void to_another_node_and_back(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  each_sent(s, datagram(s, s.client(), s.node()), datagram(s, s.node(port), s.remote()));
  each_sent(s, datagram(s, s.remote(), s.node(port)), datagram(s, s.node(), s.client()));
}

void fragments_between_pods(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  each_sent(s, datagram(s, pod, s.vip()), datagram(s, pod, s.other_pod()), kPod0);
  each_sent(s, datagram(s, s.other_pod(), pod), datagram(s, s.vip(), pod), kPod1);
}

void to_an_endpoint_of_the_node_and_back(Scenario& s) {
  const HostPort endpoint = s.node(8080), pod = s.local(0, 40000);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {endpoint});
  const auto in = pieces(datagram(s, pod, s.vip())), delivered = pieces(datagram(s, pod, endpoint));
  const auto answer = pieces(datagram(s, endpoint, pod).flags(kSyn | kAck));
  const auto out = pieces(datagram(s, s.vip(), pod).flags(kSyn | kAck));
  for (size_t i = 0; i < in.size(); ++i) s.pod(in[i]).delivered(delivered[i]);
  for (const size_t i : {0, 2, 1, 3}) s.leave(answer[i], kPod0).let_out(REASON_NODE_REPLY, out[i]);
  EXPECT_EQ(s.flow_count(), 2U);
  const auto other = pieces(datagram(s, endpoint, s.client()).flags(kSyn | kAck));
  for (const Packet& piece : other) s.leave(piece, kUp0).let_out(REASON_NOT_OURS, piece);
}

// Once the first one has passed, in whatever order, and again.
void later_ones_in_any_order(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  const auto before = pieces(datagram(s, pod, s.vip())), after = pieces(datagram(s, pod, s.other_pod()));
  for (const size_t i : {0, 3, 1, 1, 2, 0, 3}) s.pod(before[i]).sent(after[i].hop());
}

void before_the_first_one(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()})
      .node_port(s.node(), s.variant.protocol, {s.local()});
  const auto service = pieces(datagram(s, s.local(0, 40000), s.vip()));
  s.pod(service[1]).dropped(REASON_FRAGMENT);
  s.pod(service[3]).dropped(REASON_FRAGMENT);
  const HostPort unused = s.pick("172.20.0.99:80", "[fc00::99]:80");
  s.pod(pieces(datagram(s, s.local(0, 40000), unused))[1]).dropped(REASON_UNUSED_ADDRESS);
  // May be for any socket of the node: its stack puts the fragments together.
  s.uplink(pieces(datagram(s, s.client(), s.node()))[1]).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

void of_no_service(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  for (const Packet& piece : pieces(datagram(s, s.local(0, 40000), s.other_pod())))
    s.pod(piece).passed(REASON_NOT_OURS);
  for (const Packet& piece : pieces(datagram(s, s.client(), s.node(22))))
    s.uplink(piece).passed(REASON_NOT_OURS);
}

void of_a_refused_datagram(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {}).node_port(s.node(), s.variant.protocol, {});
  const auto service = pieces(datagram(s, s.client(), s.vip())),
             node = pieces(datagram(s, s.client(), s.node()));
  s.uplink(service[0]).rejected(REASON_NO_ENDPOINT, port_unreachable(service[0]));
  s.uplink(service[1]).dropped(REASON_FRAGMENT);
  s.uplink(node[0]).rejected(REASON_NO_ENDPOINT, port_unreachable(node[0]));
  s.uplink(node[1]).passed(REASON_NOT_OURS);
}

void another_datagram_is_another(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  const Packet whole = datagram(s, pod, s.vip());
  s.pod(pieces(whole)[0]).sent(pieces(datagram(s, pod, s.other_pod()))[0].hop());
  s.pod(pieces(whole.id(0x1235))[1]).dropped(REASON_FRAGMENT);
  s.pod(pieces(whole.from(s.local(1, 40000)))[1]).dropped(REASON_FRAGMENT);
  s.pod(pieces(whole)[1]).sent(pieces(datagram(s, pod, s.other_pod()))[1].hop());
}

// The identification comes again with other ports: the later ones are of the new datagram.
void identification_that_comes_again(Scenario& s) {
  s.cluster.cluster_ip(s.vip(80), s.variant.protocol, {s.other_pod()});
  s.cluster.cluster_ip(s.vip(81), s.variant.protocol, {s.local(1)});
  const HostPort pod = s.local(0, 40000);
  each_sent(s, datagram(s, pod, s.vip(80)), datagram(s, pod, s.other_pod()), kPod0);
  each_sent(s, datagram(s, pod, s.vip(81)), datagram(s, pod, s.local(1)), kPod0);
}

void set_age(Scenario& s, const Packet& whole, uint32_t slots) {
  fragment_key key{};
  whole.source().address.to_be(key.src_be);
  whole.destination().address.to_be(key.dst_be);
  key.id_be = s.v4() ? htons(whole.id_value()) : htonl(whole.id_value());
  key.protocol = s.v4() ? whole.protocol() : 0;
  key.family = static_cast<uint8_t>(whole.family());
  auto first = s.plane.get_value<fragment>("fragments", key);
  ASSERT_TRUE(first);
  first->slot = (s.plane.slot() - slots) & STAMP_SLOT_MASK;
  s.plane.put_value("fragments", key, *first);
}

void remembered_for_a_while(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  const Packet whole = datagram(s, pod, s.vip());
  const auto out = pieces(datagram(s, pod, s.other_pod()));
  s.pod(pieces(whole)[0]).sent(out[0].hop());
  set_age(s, whole, FRAGMENT_SLOTS);
  s.pod(pieces(whole)[1]).sent(out[1].hop());
  set_age(s, whole, FRAGMENT_SLOTS + 1);
  s.pod(pieces(whole)[2]).dropped(REASON_FRAGMENT);
}

// Where the flow is gone in the middle, nothing is made from what has no ports.
void flow_that_is_gone(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  const auto before = pieces(datagram(s, pod, s.vip()));
  s.pod(before[0]).sent(pieces(datagram(s, pod, s.other_pod()))[0].hop());
  s.lose_direction(false);
  s.lose_direction(true);
  s.pod(before[1]).dropped(REASON_FRAGMENT);
  EXPECT_EQ(s.flow_count(), 0U);
}

void first_one_without_whole_header(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const Packet whole = datagram(s, s.local(0, 40000), s.vip());
  for (const size_t size : {8, 16})
    if (size < s.l4_header()) s.pod(whole.part(0, size)).dropped(REASON_MALFORMED);
}

void fragments_too_long_for_the_next_hop(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.low_mtu_pod()});
  const Packet whole = datagram(s, s.client(), s.node()).payload_size(3000);
  const Packet out = whole.to(s.low_mtu_pod());
  s.uplink(whole.part(0, 800)).sent(out.part(0, 800).hop());
  s.uplink(whole.part(800, 1400)).dropped(REASON_FRAGMENT);
  s.uplink(whole.part(800, 800)).sent(out.part(800, 800).hop());
  s.uplink(whole.part(0, 1400)).rejected(REASON_TOO_BIG, too_big(whole.part(0, 1400), 1300));
}

void that_have_gone_too_far(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  const Packet whole = datagram(s, pod, s.vip());
  s.pod(pieces(whole.ttl(1))[0]).dropped(REASON_TTL_EXCEEDED);
  s.pod(pieces(whole.ttl(2))[0]).sent(pieces(datagram(s, pod, s.other_pod()).ttl(1))[0]);
  s.pod(pieces(whole.ttl(1))[1]).dropped(REASON_TTL_EXCEEDED);
  s.pod(pieces(whole.ttl(2))[1]).sent(pieces(datagram(s, pod, s.other_pod()).ttl(1))[1]);
}

void with_options(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const auto extend = [&](const Packet& packet) {
    if (s.v4()) return packet.options(Bytes(8, 1));
    return packet.extension(kExtHopByHop).extension(kExtRouting);
  };
  each_sent(s, extend(datagram(s, s.client(), s.node())), extend(datagram(s, s.client(), s.local())));
}

// Offset 0 and nothing to follow: a whole packet (RFC 6946).
void atomic_fragment(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  s.pod(s.first(pod, s.vip()).fragment(0, false)).sent(s.first(pod, s.other_pod()).fragment(0, false).hop());
  s.pod(s.answer(s.other_pod(), pod).fragment(0, false), kPod1)
      .sent(s.answer(s.vip(), pod).fragment(0, false).hop());
}

void fragments_to_an_unknown_neighbour(Scenario& s) {
  const HostPort endpoint = s.pick("10.1.0.99:8080", "[fd01::99]:8080");
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint});
  each_sent(s, datagram(s, s.client(), s.node()), datagram(s, s.client(), endpoint));
}

void of_an_icmp_message(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const Packet echo = Packet::icmp(s.local().address, s.vip().address, s.v4() ? 8 : 128, 0).payload_size(200);
  s.pod(echo.part(0, 64)).dropped(REASON_UNSUPPORTED_PROTOCOL);
  s.pod(echo.part(64, 64)).dropped(REASON_FRAGMENT);
}

// Its checksum is over all pieces: the first one alone does not tell how it changes.
void of_sctp(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.cluster.node_port(s.node(8080), s.variant.protocol, {s.local()});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.node(8080)});
  s.uplink(pieces(datagram(s, s.client(), s.node()))[0]).dropped(REASON_SCTP_FRAGMENT);
  s.uplink(pieces(datagram(s, s.client(), s.node()))[1]).passed(REASON_NOT_OURS);
  s.pod(pieces(datagram(s, s.local(1, 40000), s.vip()))[0]).dropped(REASON_SCTP_FRAGMENT);
  // Where no port changes, nor does the checksum: there are no addresses in it.
  each_sent(s, datagram(s, s.client(40001), s.node(8080)), datagram(s, s.client(40001), s.local()));
  each_sent(s, datagram(s, s.local(), s.client(40001)), datagram(s, s.node(8080), s.client(40001)), kPod0);
}

}  // namespace

std::vector<Case> fragment_cases() {
  return {
      {"fragments_to_a_pod_and_back", to_a_pod_and_back, Case::no_sctp},
      {"fragments_to_another_node_and_back", to_another_node_and_back, Case::no_sctp},
      {"fragments_between_pods", fragments_between_pods, Case::no_sctp},
      {"fragments_to_an_endpoint_of_the_node_and_back", to_an_endpoint_of_the_node_and_back, Case::no_sctp},
      {"fragments_later_ones_in_any_order", later_ones_in_any_order, Case::no_sctp},
      {"fragments_before_the_first_one", before_the_first_one},
      {"fragments_of_no_service", of_no_service},
      {"fragments_of_a_refused_datagram", of_a_refused_datagram},
      {"fragments_of_another_datagram", another_datagram_is_another, Case::no_sctp},
      {"fragments_whose_identification_comes_again", identification_that_comes_again, Case::no_sctp},
      {"fragments_are_remembered_for_a_while", remembered_for_a_while, Case::no_sctp},
      {"fragments_whose_flow_is_gone", flow_that_is_gone, Case::no_sctp},
      {"fragments_first_one_without_whole_header", first_one_without_whole_header},
      {"fragments_too_long_for_the_next_hop", fragments_too_long_for_the_next_hop, Case::no_sctp},
      {"fragments_that_have_gone_too_far", that_have_gone_too_far, Case::no_sctp},
      {"fragments_with_options", with_options, Case::no_sctp},
      {"fragments_atomic", atomic_fragment, Case::ipv6_only},
      {"fragments_neighbour_that_is_not_known", fragments_to_an_unknown_neighbour, Case::no_sctp},
      {"fragments_of_sctp", of_sctp, Case::sctp_only},
      {"fragments_of_an_icmp_message", of_an_icmp_message},
  };
}

}  // namespace maglane::test
