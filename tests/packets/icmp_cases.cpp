// SPDX-License-Identifier: Apache-2.0
//
// ICMP errors about translated packets: to whoever sent the packet, about the packet as it was
// sent, from the address that it was sent to.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

struct Error {
  uint8_t type, code;
  uint32_t rest;
};

// Of each type that is about one packet.
std::vector<Error> errors(const Scenario& s) {
  if (s.v4()) return {{3, 1, 0}, {3, 3, 0}, {3, 4, 1280}, {3, 13, 0}, {11, 0, 0}, {12, 0, 9U << 24}};
  return {{1, 0, 0}, {1, 4, 0}, {2, 0, 1280}, {3, 0, 0}, {4, 1, 40}};
}

constexpr size_t kWhole = 9999;

Packet error_about(const Error& error, const HostPort& from, const Packet& about, size_t bytes = kWhole) {
  return Packet::icmp(from.address, about.source().address, error.type, error.code)
      .icmp_rest(error.rest)
      .about(about, bytes);
}

HostPort router(const Scenario& s) {
  return s.pick("192.168.50.254:0", "[fd50::254]:0");
}

// A packet at its receiver, and the same packet as its sender made it.
struct Translated {
  Packet out;
  Packet sent;
};

// Client to a pod of this node and back, both as seen beyond this node.
Translated to_local(Scenario& s) {
  return {s.later(s.client(), s.local()).hop(), s.later(s.client(), s.node()).hop()};
}
Translated from_local(Scenario& s) {
  return {s.later(s.node(), s.client()).hop(), s.later(s.local(), s.client()).hop()};
}

void open_local(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
}

uint16_t open_remote(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  return s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
}

void from_the_endpoint_to_the_client(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  for (const Error& error : errors(s))
    s.pod(error_about(error, s.local(), out)).sent(error_about(error, s.node(), sent).hop());
}

// A router that the endpoint may hear of by its own name: the endpoint sees the client's too.
void from_a_router_to_the_endpoint(Scenario& s) {
  open_local(s);
  const auto [out, sent] = from_local(s);
  for (const Error& error : errors(s))
    s.uplink(error_about(error, router(s), out)).sent(error_about(error, router(s), sent).hop());
}

void from_the_client_to_the_endpoint(Scenario& s) {
  open_local(s);
  const auto [out, sent] = from_local(s);
  for (const Error& error : errors(s))
    s.uplink(error_about(error, s.client(), out)).sent(error_about(error, s.client(), sent).hop());
}

// The client knows nobody beyond the node: also what a router says comes from there.
void both_ways_with_a_translated_source(Scenario& s) {
  const uint16_t port = open_remote(s);
  const Translated request{s.later(s.node(port), s.remote()).hop(), s.later(s.client(), s.node()).hop()};
  const Translated reply{s.later(s.node(), s.client()).hop(), s.later(s.remote(), s.node(port)).hop()};
  for (const Error& error : errors(s)) {
    for (const HostPort& from : {s.remote(), router(s)})
      s.uplink(error_about(error, from, request.out)).sent(error_about(error, s.node(), request.sent).hop());
    for (const HostPort& from : {s.client(), router(s)})
      s.uplink(error_about(error, from, reply.out)).sent(error_about(error, s.node(), reply.sent).hop());
  }
}

void between_pods(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  const HostPort pod = s.local(0, 40000);
  s.pod(s.first(pod, s.vip())).sent(s.first(pod, s.other_pod()).hop());
  for (const Error& error : errors(s)) {
    s.pod(error_about(error, s.other_pod(), s.first(pod, s.other_pod()).hop()), kPod1)
        .sent(error_about(error, s.vip(), s.first(pod, s.vip()).hop()).hop());
    s.pod(error_about(error, pod, s.answer(s.vip(), pod).hop()))
        .sent(error_about(error, pod, s.answer(s.other_pod(), pod).hop()).hop());
  }
}

void endpoint_that_reaches_itself(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  const HostPort self = s.local(0, 40000);
  const uint16_t port = s.pod(s.first(self, s.vip())).sent_from_new_port(s.first(s.node(0), s.local()).hop());
  const Error error = errors(s)[0];
  s.pod(error_about(error, s.local(), s.first(s.node(port), s.local()).hop()))
      .sent(error_about(error, s.vip(), s.first(self, s.vip()).hop()).hop());
}

// The node's own stack hears of what its endpoint sent, and is heard about what it was sent.
void to_and_from_an_endpoint_of_the_node(Scenario& s) {
  const HostPort endpoint = s.node(8080), pod = s.local(0, 40000);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {endpoint});
  s.pod(s.first(pod, s.vip())).delivered(s.first(pod, endpoint));
  const Packet answer = s.later(s.vip(), pod), answer_made = s.later(endpoint, pod);
  const Packet request = s.later(pod, endpoint), request_made = s.later(pod, s.vip());
  for (const Error& error : errors(s)) {
    s.pod(error_about(error, pod, answer)).delivered(error_about(error, pod, answer_made));
    s.uplink(error_about(error, router(s), answer)).delivered(error_about(error, router(s), answer_made));
    s.leave(error_about(error, endpoint, request), kPod0)
        .let_out(REASON_NODE_REPLY, error_about(error, s.vip(), request_made));
    // Nobody else can say anything about what never leaves the node.
    s.uplink(error_about(error, endpoint, request)).passed(REASON_NOT_OURS);
  }
  const Packet unknown = error_about(errors(s)[0], endpoint, s.later(s.client(), s.node(8081)));
  s.leave(unknown, kUp0).let_out(REASON_NOT_OURS, unknown);
}

// From the 64 bits of layer 4 that RFC 792 asks for up to everything.
void quotes_of_every_length(Scenario& s) {
  const uint16_t port = open_remote(s);
  const Translated request{s.later(s.node(port), s.remote()).hop(), s.later(s.client(), s.node()).hop()};
  const Error error = errors(s)[1];
  const size_t enough = (s.v4() ? 20U : 40U) + 8;
  for (size_t bytes = 0; bytes <= request.out.ip_bytes().size(); ++bytes) {
    SCOPED_TRACE(bytes);
    // A part of a checksum alone can not be restored, and tells nobody anything.
    if (s.tcp() && bytes == enough + 9) continue;
    if (s.sctp() && bytes > enough && bytes < enough + 4) continue;
    const auto outcome = s.uplink(error_about(error, s.remote(), request.out, bytes));
    if (bytes < enough)
      outcome.passed(REASON_NOT_OURS);
    else
      outcome.sent(error_about(error, s.node(), request.sent, bytes).hop());
  }
}

void quote_of_a_packet_with_options(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  const auto extend = [&](const Packet& packet) {
    if (s.v4()) return packet.options(Bytes(40, 1));
    return packet.extension(kExtHopByHop).extension(kExtRouting).extension(kExtDestination, Bytes(22, 0));
  };
  for (const Error& error : errors(s))
    s.pod(error_about(error, s.local(), extend(out))).sent(error_about(error, s.node(), extend(sent)).hop());
}

void error_with_options_itself(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  const auto extend = [&](const Packet& packet) {
    return s.v4() ? packet.options(Bytes(12, 1)) : packet.extension(kExtDestination);
  };
  const Error error = errors(s)[0];
  s.pod(extend(error_about(error, s.local(), out))).sent(extend(error_about(error, s.node(), sent)).hop());
}

void quote_without_udp_checksum(Scenario& s) {
  if (!s.v4()) return;  // IPv6 has none without
  open_local(s);
  const auto [out, sent] = to_local(s);
  const Error error = errors(s)[0];
  s.pod(error_about(error, s.local(), out.no_l4_checksum()))
      .sent(error_about(error, s.node(), sent.no_l4_checksum()).hop());
}

void wrong_checksums_stay_wrong(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  const auto spoil = [](const Packet& packet) {
    return packet.l4_checksum_error(0x1234).ip_checksum_error(0x0102);
  };
  const Error error = errors(s)[0];
  s.pod(error_about(error, s.local(), spoil(out))).sent(error_about(error, s.node(), spoil(sent)).hop());
  s.pod(error_about(error, s.local(), out).l4_checksum_error(0x4321))
      .sent(error_about(error, s.node(), sent).l4_checksum_error(0x4321).hop());
}

void says_nothing_of_the_connection(Scenario& s) {
  open_local(s);
  const auto before = s.what_was_seen();
  s.age_flows(5);
  const auto [out, sent] = to_local(s);
  s.pod(error_about(errors(s)[0], s.local(), out)).sent(error_about(errors(s)[0], s.node(), sent).hop());
  EXPECT_EQ(s.what_was_seen(), before);
  s.age_flows(200);
  s.pod(error_about(errors(s)[0], s.local(), out)).sent(error_about(errors(s)[0], s.node(), sent).hop());
  EXPECT_EQ(s.expire().removed, 2U) << "an error kept the flows alive";
}

// No flow would answer the packet that it is about.
void about_nothing_known(Scenario& s) {
  open_local(s);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  s.program();
  for (const Error& error : errors(s)) {
    s.pod(error_about(error, s.local(), s.later(s.client(50000), s.local()))).passed(REASON_NOT_OURS);
    // Not as the receiver saw it.
    s.pod(error_about(error, s.local(), s.later(s.client(), s.node()))).passed(REASON_NOT_OURS);
    s.uplink(error_about(error, router(s), s.later(s.vip(), s.client())))
        .dropped(REASON_UNSUPPORTED_PROTOCOL);
    // About an ICMP message, and about a fragment that has no ports.
    s.pod(error_about(error, s.local(), Packet::icmp(s.client().address, s.local().address, 8, 0)))
        .passed(REASON_NOT_OURS);
    s.pod(error_about(error, s.local(), to_local(s).out.fragment(1480, false))).passed(REASON_NOT_OURS);
  }
}

void messages_that_are_no_errors(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  for (const uint8_t type : {0, 5, 8, 9, 10, 13, 100, 128, 129, 133, 135})
    s.pod(error_about({type, 0, 0}, s.local(), out)).passed(REASON_NOT_OURS);
}

void error_that_has_gone_too_far(Scenario& s) {
  open_local(s);
  const auto [out, sent] = to_local(s);
  const Error error = errors(s)[0];
  s.pod(error_about(error, s.local(), out).ttl(1)).dropped(REASON_TTL_EXCEEDED);
  s.pod(error_about(error, s.local(), out).ttl(2)).sent(error_about(error, s.node(), sent).ttl(1));
}

void cut_short(Scenario& s) {
  open_local(s);
  const Packet error = error_about(errors(s)[0], s.local(), to_local(s).out);
  for (size_t size = 15; size < error.bytes().size(); ++size) {
    SCOPED_TRACE(size);
    s.arrive({error.truncated(size), kPod0}, true).passed(REASON_NOT_OURS);
  }
}

void neighbour_that_is_not_known(Scenario& s) {
  const HostPort endpoint = s.pick("10.1.0.99:8080", "[fd01::99]:8080");
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), endpoint).hop());
  const Error error = errors(s)[0];
  s.uplink(error_about(error, s.client(), s.later(s.node(), s.client()).hop()))
      .sent(error_about(error, s.client(), s.later(endpoint, s.client()).hop()).hop());
}

void refusals_are_limited(Scenario& s) {
  const size_t rate = 10;
  s.cluster.config.refusals_per_second = static_cast<uint32_t>(rate);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {});
  const Packet packet = s.first(s.client(), s.vip());
  size_t sent = 0;
  const size_t packets = 200;
  for (size_t i = 0; i < packets; ++i) {
    const auto outcome = s.uplink(packet);
    if (outcome.last().verdict == Verdict::drop)
      outcome.dropped(REASON_REFUSAL_RATE_LIMITED);
    else
      outcome.rejected(REASON_NO_ENDPOINT, port_unreachable(packet)), ++sent;
  }
  EXPECT_GE(sent, rate);
  EXPECT_LT(sent, packets);
}

}  // namespace

std::vector<Case> icmp_cases() {
  return {
      {"icmp_from_the_endpoint_to_the_client", from_the_endpoint_to_the_client},
      {"icmp_from_a_router_to_the_endpoint", from_a_router_to_the_endpoint},
      {"icmp_from_the_client_to_the_endpoint", from_the_client_to_the_endpoint},
      {"icmp_both_ways_with_a_translated_source", both_ways_with_a_translated_source},
      {"icmp_between_pods", between_pods},
      {"icmp_endpoint_that_reaches_itself", endpoint_that_reaches_itself},
      {"icmp_to_and_from_an_endpoint_of_the_node", to_and_from_an_endpoint_of_the_node},
      {"icmp_quotes_of_every_length", quotes_of_every_length},
      {"icmp_quote_of_a_packet_with_options", quote_of_a_packet_with_options},
      {"icmp_error_with_options_itself", error_with_options_itself},
      {"icmp_quote_without_udp_checksum", quote_without_udp_checksum, Case::udp_only},
      {"icmp_wrong_checksums_stay_wrong", wrong_checksums_stay_wrong},
      {"icmp_says_nothing_of_the_connection", says_nothing_of_the_connection},
      {"icmp_about_nothing_known", about_nothing_known},
      {"icmp_messages_that_are_no_errors", messages_that_are_no_errors},
      {"icmp_error_that_has_gone_too_far", error_that_has_gone_too_far},
      {"icmp_cut_short", cut_short},
      {"icmp_neighbour_that_is_not_known", neighbour_that_is_not_known},
      {"refusals_are_limited", refusals_are_limited},
  };
}

}  // namespace maglane::test
