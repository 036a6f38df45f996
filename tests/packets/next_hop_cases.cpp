// SPDX-License-Identifier: Apache-2.0
//
// Where translated packets go: routes that lead nowhere, neighbours that are not known, what
// is too long, and how long a next hop is kept.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

void unknown_neighbour_is_resolved(Scenario& s) {
  const HostPort endpoint = s.pick("10.1.0.99:8080", "[fd01::99]:8080");
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), endpoint).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), endpoint).hop());
}

void unknown_neighbour_of_an_uplink(Scenario& s) {
  const HostPort endpoint = s.pick("192.168.51.99:8080", "[fd51::99]:8080");
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint});
  s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), endpoint).hop());
}

void no_way_to_the_endpoint(Scenario& s) {
  const std::vector<HostPort> endpoints = {
      s.pick("10.9.1.1:8080", "[fd09:0:0:1::1]:8080"),  // blackhole
      s.pick("10.9.2.1:8080", "[fd09:0:0:2::1]:8080"),  // unreachable
      s.pick("10.9.3.1:8080", "[fd09:0:0:3::1]:8080"),  // prohibit
      s.pick("10.9.9.1:8080", "[fd09:0:0:9::1]:8080"),  // no route
  };
  uint16_t port = 30000;
  for (const HostPort& endpoint : endpoints)
    s.cluster.node_port(s.node(port++), s.variant.protocol, {endpoint});
  for (const auto& frontend : s.cluster.frontends())
    s.uplink(s.first(s.client(), frontend.address)).dropped(REASON_NO_ROUTE);
}

// What the kernel does not forward for: an IPv6 source that nobody behind a router could answer.
void source_of_the_link_alone(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  for (const char* source : {"[fe80::10]:40000", "[ff01::10]:40000", "[::1]:40000"}) {
    const HostPort client = s.pick("169.254.0.10:40000", source);
    if (s.v4())
      s.uplink(s.first(client, s.node())).sent(s.first(client, s.local()).hop());
    else
      s.uplink(s.first(client, s.node())).dropped(REASON_NO_ROUTE);
  }
}

void forwarding_switched_off(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()), kOff0).dropped(REASON_FORWARDING_DISABLED);
}

void too_long_for_the_next_hop(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.low_mtu_pod()});
  const size_t most = 1300 - (s.v4() ? 20 : 40) - s.l4_header();
  const auto data = [&](const HostPort& from, const HostPort& to, size_t size) {
    return s.later(from, to).payload_size(size);
  };
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.low_mtu_pod()).hop());
  s.uplink(data(s.client(), s.node(), most)).sent(data(s.client(), s.low_mtu_pod(), most).hop());
  const Packet long_one = data(s.client(), s.node(), most + 1);
  s.uplink(long_one).rejected(REASON_TOO_BIG, too_big(long_one, 1300));
  // Also where the next hop is not cached yet, and whatever the sender wants of fragments.
  for (const uint16_t port : {uint16_t{1}, uint16_t{10}, uint16_t{500}}) {
    const Packet packet = s.first(s.client(port), s.node()).tcp_options({}).payload_size(most + port);
    s.uplink(packet).rejected(REASON_TOO_BIG, too_big(packet, 1300));
    s.uplink(packet.dont_fragment(false))
        .rejected(REASON_TOO_BIG, too_big(packet.dont_fragment(false), 1300));
  }
}

void too_long_for_an_uplink(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  for (const Packet& packet : {s.first(s.client(), s.node()).payload_size(1600),
                               s.first(s.client(40001), s.node()).payload_size(1482)})
    s.uplink(packet).rejected(REASON_TOO_BIG, too_big(packet, 1500));
}

void too_long_for_a_route(Scenario& s) {
  const HostPort endpoint = s.pick("10.4.0.10:8080", "[fd04::10]:8080");
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint});
  const size_t most = 1400 - (s.v4() ? 20 : 40) - s.l4_header();
  const Packet fits = s.first(s.client(), s.node()).tcp_options({}).payload_size(most);
  s.uplink(fits).sent_from_new_port(fits.from(s.node(0)).to(endpoint).hop());
  const Packet packet = fits.payload_size(most + 1);
  s.uplink(packet).rejected(REASON_TOO_BIG, too_big(packet, 1400));
}

// Replies: a pod is told what fits on the way to its client.
void reply_that_is_too_long(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  const HostPort client = s.low_mtu_pod(40000);
  s.pod(s.first(client, s.vip()), kLow0).sent(s.first(client, s.local()).hop());
  s.pod(s.answer(s.local(), client)).sent(s.answer(s.vip(), client).hop());
  const Packet packet = s.later(s.local(), client).payload_size(1400);
  s.pod(packet).rejected(REASON_TOO_BIG, too_big(packet, 1300));
}

// What a device will cut counts by its segments.
void segments_that_are_too_long(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.low_mtu_pod()});
  const auto most = static_cast<uint16_t>(1300 - (s.v4() ? 20 : 40) - s.l4_header());
  const Packet packet = s.later(s.client(), s.node()).payload_size(2600);
  const auto arrive = [&](uint16_t gso_size) {
    return s.arrive({packet.bytes(), kUp0, 2, 0, false, gso_size}, false);
  };
  arrive(most).sent(packet.to(s.low_mtu_pod()).hop());
  arrive(most + 1).rejected(REASON_TOO_BIG, too_big(packet, 1300));
}

// Two packets of one connection: the second finds the next hop cached.
void open_connection(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
}

Mac elsewhere() {
  return mac("02:66:66:66:66:66");
}

// The destination MAC of what the client's next packet becomes.
Mac next_destination(Scenario& s) {
  const Bytes frame = s.uplink(s.later(s.client(), s.node())).last().frame;
  Mac result{};
  std::copy_n(frame.begin(), 6, result.begin());
  return result;
}

void next_hop_is_cached_until_the_epoch_changes(Scenario& s) {
  open_connection(s);
  const Mac before = next_destination(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  EXPECT_EQ(next_destination(s), before) << "the next hop was looked up for every packet";
  ++s.cluster.epoch;
  s.program();
  EXPECT_EQ(next_destination(s), elsewhere());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local()).hop());
}

void next_hop_is_renewed_in_the_next_slot(Scenario& s) {
  open_connection(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  s.age_flows(1);
  EXPECT_EQ(next_destination(s), elsewhere());
}

void last_epoch_is_an_epoch(Scenario& s) {
  s.cluster.epoch = EPOCH_MAX;
  open_connection(s);
  const Mac before = next_destination(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  EXPECT_EQ(next_destination(s), before);
  s.cluster.epoch = 1;
  s.program();
  EXPECT_EQ(next_destination(s), elsewhere());
}

// ---- next hops that connections to one endpoint share --------------------------------------

uint32_t both_families() { return SHARED_HOPS_IPV4 | SHARED_HOPS_IPV6; }

// The destination MAC of a new connection.
Mac way_of_new(Scenario& s, uint16_t client_port, uint8_t tos = 0) {
  const Packet packet = s.first(s.client(client_port), s.node()).tos(tos);
  const Bytes frame = s.uplink(packet).last().frame;
  Mac result{};
  std::copy_n(frame.begin(), 6, result.begin());
  return result;
}

void connections_to_one_endpoint_share_the_next_hop(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.cluster.shared_hops = both_families() | s.plane.slot();
  s.program();
  const Mac before = way_of_new(s, 40001);
  s.plane.move_neighbour(s.local().address, elsewhere());
  EXPECT_EQ(way_of_new(s, 40002), before) << "asked for again";
  EXPECT_EQ(way_of_new(s, 40003, 0x20), elsewhere()) << "routes may depend on the type of service";
  EXPECT_EQ(way_of_new(s, 40004), elsewhere());
  s.plane.move_neighbour(s.local().address, before);
  EXPECT_EQ(way_of_new(s, 40005), elsewhere()) << "asked for again";
  ++s.cluster.epoch;
  s.program();
  EXPECT_EQ(way_of_new(s, 40006), before);
}

// Nobody has said that they do; not of this family; not for so long.
void next_hops_are_not_shared_unasked(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  const uint32_t now = s.plane.slot();
  Mac to = mac("02:66:66:66:66:60");
  uint16_t port = 40000;
  for (const uint32_t said : {uint32_t{0}, now, (s.v4() ? SHARED_HOPS_IPV6 : SHARED_HOPS_IPV4) | now,
                              both_families() | ((now - SHARED_HOPS_SLOTS) & STAMP_SLOT_MASK)}) {
    s.cluster.shared_hops = said;
    s.program();
    way_of_new(s, ++port);
    ++to[5];
    s.plane.move_neighbour(s.local().address, to);
    EXPECT_EQ(way_of_new(s, ++port), to) << std::hex << said;
  }
}

// XDP off while a flow lives, or the other way round: the flow's entry serves both hooks.
void hooks_share_flows(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  const Arrival arrival{s.later(s.client(), s.node()).bytes(), kUp0};
  const Bytes expected = s.uplink(s.later(s.client(), s.node())).last().frame;
  EXPECT_EQ(parse(expected).source_port, port);
  for (const Program program : {Program::xdp_uplink, Program::tc_uplink})
    EXPECT_EQ(hex(s.plane.run(program, arrival).frame), hex(expected)) << to_string(program);
}

}  // namespace

std::vector<Case> next_hop_cases() {
  return {
      {"unknown_neighbour_is_resolved", unknown_neighbour_is_resolved},
      {"unknown_neighbour_of_an_uplink", unknown_neighbour_of_an_uplink},
      {"no_way_to_the_endpoint", no_way_to_the_endpoint},
      {"source_of_the_link_alone", source_of_the_link_alone},
      {"forwarding_switched_off", forwarding_switched_off},
      {"too_long_for_the_next_hop", too_long_for_the_next_hop},
      {"too_long_for_an_uplink", too_long_for_an_uplink},
      {"too_long_for_a_route", too_long_for_a_route},
      {"reply_that_is_too_long", reply_that_is_too_long},
      {"segments_that_are_too_long", segments_that_are_too_long, Case::no_sctp},
      {"next_hop_is_cached_until_the_epoch_changes", next_hop_is_cached_until_the_epoch_changes},
      {"next_hop_is_renewed_in_the_next_slot", next_hop_is_renewed_in_the_next_slot},
      {"last_epoch_is_an_epoch", last_epoch_is_an_epoch},
      {"connections_to_one_endpoint_share_the_next_hop", connections_to_one_endpoint_share_the_next_hop},
      {"next_hops_are_not_shared_unasked", next_hops_are_not_shared_unasked},
      {"hooks_share_flows", hooks_share_flows},
  };
}

}  // namespace maglane::test
