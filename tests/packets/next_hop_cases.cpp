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

void forwarding_switched_off(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node()), kOff0).dropped(REASON_FORWARDING_DISABLED);
}

void too_long_for_the_next_hop(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.low_mtu_pod()});
  const size_t most = 1300 - (s.v4() ? 20 : 40) - (s.tcp() ? 20 : 8);
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.low_mtu_pod()).hop());
  const auto data = [&](const HostPort& from, const HostPort& to, size_t size) {
    return s.later(from, to).payload_size(size);
  };
  s.uplink(data(s.client(), s.node(), most)).sent(data(s.client(), s.low_mtu_pod(), most).hop());
  s.uplink(data(s.client(), s.node(), most + 1)).dropped(REASON_TOO_BIG);
  // Also where the next hop is not cached yet, with or without room for a VLAN tag.
  for (const uint16_t port : {uint16_t{1}, uint16_t{10}, uint16_t{500}})
    s.uplink(s.first(s.client(port), s.node()).tcp_options({}).payload_size(most + port))
        .dropped(REASON_TOO_BIG);
}

void too_long_for_an_uplink(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  s.uplink(s.first(s.client(), s.node()).payload_size(1600)).dropped(REASON_TOO_BIG);
  s.uplink(s.first(s.client(40001), s.node()).payload_size(1482)).dropped(REASON_TOO_BIG);
}

// Two packets of one connection: the second finds the next hop cached.
void establish(Scenario& s) {
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
  establish(s);
  const Mac before = next_destination(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  EXPECT_EQ(next_destination(s), before) << "the next hop was looked up for every packet";
  ++s.cluster.epoch;
  s.program();
  EXPECT_EQ(next_destination(s), elsewhere());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local()).hop());
}

void next_hop_is_renewed_in_the_next_slot(Scenario& s) {
  establish(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  s.age_flows(1);
  EXPECT_EQ(next_destination(s), elsewhere());
}

void last_epoch_is_an_epoch(Scenario& s) {
  s.cluster.epoch = EPOCH_MAX;
  establish(s);
  const Mac before = next_destination(s);
  s.plane.move_neighbour(s.local().address, elsewhere());
  EXPECT_EQ(next_destination(s), before);
  s.cluster.epoch = 1;
  s.program();
  EXPECT_EQ(next_destination(s), elsewhere());
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
      {"forwarding_switched_off", forwarding_switched_off},
      {"too_long_for_the_next_hop", too_long_for_the_next_hop},
      {"too_long_for_an_uplink", too_long_for_an_uplink},
      {"next_hop_is_cached_until_the_epoch_changes", next_hop_is_cached_until_the_epoch_changes},
      {"next_hop_is_renewed_in_the_next_slot", next_hop_is_renewed_in_the_next_slot},
      {"last_epoch_is_an_epoch", last_epoch_is_an_epoch},
      {"hooks_share_flows", hooks_share_flows},
  };
}

}  // namespace maglane::test
