// SPDX-License-Identifier: Apache-2.0
//
// Packets that contradict themselves. To a service's address they are dropped, since none may
// be routed out of the node; to the node's own or anybody else's they are the stack's business.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

// The shortest frame that the kernel runs a test on is an Ethernet header and one byte.
constexpr size_t kShortest = 15;

void serve(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()})
      .node_port(s.node(), s.variant.protocol, {s.local()});
}

void cut_short_at_every_length(Scenario& s) {
  serve(s);
  const size_t with_addresses = 14 + (s.v4() ? 20U : 40U);
  const Packet service = s.first(s.client(), s.vip()), node = s.first(s.client(), s.node());
  for (size_t size = kShortest; size < service.bytes().size(); ++size) {
    SCOPED_TRACE(size);
    if (size < with_addresses)
      s.uplink(service.truncated(size)).passed(REASON_NOT_OURS);
    else
      s.uplink(service.truncated(size)).dropped(REASON_MALFORMED);
    s.uplink(node.truncated(size)).passed(REASON_NOT_OURS);
  }
  EXPECT_EQ(s.flow_count(), 0U);
}

// Lengths that say less than the headers need, in frames that are long enough.
void total_length_too_small(Scenario& s) {
  serve(s);
  const Packet packet = s.first(s.client(), s.vip()).payload_size(100);
  const auto l4 = static_cast<uint16_t>(s.l4_header());
  for (uint16_t length = 0; length < l4 + (s.v4() ? 20 : 0); ++length) {
    SCOPED_TRACE(length);
    s.uplink(packet.total_length(length)).dropped(REASON_MALFORMED);
  }
}

void total_length_too_large(Scenario& s) {
  serve(s);
  const Packet packet = s.first(s.client(), s.vip());
  const auto right = static_cast<uint16_t>(packet.ip_bytes().size() - (s.v4() ? 0 : 40));
  for (const int more : {1, 2, 100, 20000})
    s.uplink(packet.total_length(static_cast<uint16_t>(right + more))).dropped(REASON_MALFORMED);
  s.uplink(packet.total_length(65535)).dropped(REASON_MALFORMED);
}

void header_length(Scenario& s) {
  serve(s);
  const Packet packet = s.first(s.client(), s.vip());
  for (const uint8_t words : {0, 1, 2, 3, 4, 14, 15}) s.uplink(packet.ihl(words)).dropped(REASON_MALFORMED);
}

void wrong_version(Scenario& s) {
  serve(s);
  for (const int version : {0, 4, 5, 6, 15})
    if (version != (s.v4() ? 4 : 6))
      s.uplink(s.first(s.client(), s.vip()).version(static_cast<uint8_t>(version))).dropped(REASON_MALFORMED);
}

void tcp_data_offset(Scenario& s) {
  serve(s);
  const Packet packet = Packet::tcp(s.client(), s.vip(), kSyn);
  for (const uint8_t words : {0, 1, 4, 6, 15}) {
    SCOPED_TRACE(int{words});
    s.uplink(packet.tcp_data_offset(words)).dropped(REASON_MALFORMED);
  }
}

void udp_length(Scenario& s) {
  serve(s);
  const Packet packet = Packet::udp(s.client(), s.vip()).payload_size(20);
  for (const int length : {0, 1, 7, 29, 1000, 65535}) {
    SCOPED_TRACE(length);
    s.uplink(packet.udp_length(static_cast<uint16_t>(length))).dropped(REASON_MALFORMED);
  }
}

void malformed_never_reaches_a_flow(Scenario& s) {
  serve(s);
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
  const Packet packet = s.later(s.client(), s.node());
  for (size_t size = kShortest; size < packet.bytes().size(); ++size)
    s.uplink(packet.truncated(size)).passed(REASON_NOT_OURS);
}

void extension_headers_without_end(Scenario& s) {
  serve(s);
  Packet packet = s.first(s.client(), s.vip());
  for (int i = 0; i < 6; ++i) packet = packet.extension(kExtDestination);
  s.uplink(packet).sent_from_new_port([&] {
    Packet out = s.first(s.node(0), s.other_pod()).hop();
    for (int i = 0; i < 6; ++i) out = out.extension(kExtDestination);
    return out;
  }());
  for (int i = 0; i < 10; ++i) {
    packet = packet.extension(kExtDestination);
    s.uplink(packet).dropped(REASON_EXTENSION_HEADERS);
  }
}

void long_extension_header(Scenario& s) {
  serve(s);
  s.uplink(s.first(s.client(), s.vip()).extension(kExtDestination, Bytes(8 * 100 - 2, 0)))
      .dropped(REASON_EXTENSION_HEADERS);
}

void extension_headers_cut_short(Scenario& s) {
  serve(s);
  const Packet packet = s.first(s.client(), s.vip())
                            .tcp_options({})
                            .payload("")
                            .extension(kExtHopByHop)
                            .extension(kExtDestination, Bytes(30, 0))
                            .extension(kExtRouting);
  for (size_t size = 14 + 40; size < packet.bytes().size(); ++size) {
    SCOPED_TRACE(size);
    s.uplink(packet.truncated(size)).dropped(REASON_MALFORMED);
    // The same with a length that fits what is left.
    s.uplink(packet.total_length(static_cast<uint16_t>(size - 54)).truncated(size)).dropped(REASON_MALFORMED);
  }
}

void tagged_frames_pass(Scenario& s) {
  serve(s);
  s.uplink(s.first(s.client(), s.vip()).vlan(100)).passed(REASON_NOT_IP);
  s.uplink(s.first(s.client(), s.vip()).vlan(100).vlan(200)).passed(REASON_NOT_IP);
  if (s.plane.native() && s.variant.mode == Mode::tc)
    s.arrive({s.first(s.client(), s.vip()).bytes(), kUp0, 0, 0, true}, false).passed(REASON_NOT_IP);
}

void addresses_of_the_wrong_family(Scenario& s) {
  serve(s);
  Bytes frame = s.first(s.client(), s.vip()).bytes();
  frame[12] = s.v4() ? 0x86 : 0x08;
  frame[13] = s.v4() ? 0xdd : 0x00;
  frame.resize(frame.size() + 40);  // long enough for either header
  const RunResult result = s.uplink(frame).last();
  EXPECT_NE(result.verdict, Verdict::aborted);
  EXPECT_TRUE(result.reason);
}

}  // namespace

std::vector<Case> malformed_cases() {
  return {
      {"cut_short_at_every_length", cut_short_at_every_length},
      {"total_length_too_small", total_length_too_small},
      {"total_length_too_large", total_length_too_large},
      {"header_length", header_length, Case::ipv4_only},
      {"wrong_version", wrong_version},
      {"tcp_data_offset", tcp_data_offset, Case::tcp_only},
      {"udp_length", udp_length, Case::udp_only},
      {"malformed_never_reaches_a_flow", malformed_never_reaches_a_flow},
      {"extension_headers_without_end", extension_headers_without_end, Case::ipv6_only},
      {"long_extension_header", long_extension_header, Case::ipv6_only},
      {"extension_headers_cut_short", extension_headers_cut_short, Case::ipv6_only},
      {"tagged_frames_pass", tagged_frames_pass},
      {"addresses_of_the_wrong_family", addresses_of_the_wrong_family},
  };
}

}  // namespace maglane::test
