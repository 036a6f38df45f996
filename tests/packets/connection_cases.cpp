// SPDX-License-Identifier: Apache-2.0
//
// What happens over a connection's life: opening, changes of the endpoints meanwhile, closing,
// expiry, and the reuse of its ports.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

// A connection through the node port to the pod that is there; leaves the other pod alone.
void establish(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  s.pod(s.answer(s.local(0), s.client())).sent(s.answer(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local(0)).hop());
}

// From here on new connections go to another pod.
void exchange_endpoint(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(1)});
  s.cluster.forget_backend(s.local(0), s.variant.protocol);
  s.program();
}

void expect_endpoint(Scenario& s, const HostPort& endpoint, int line = __builtin_LINE()) {
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), endpoint).hop(), line);
}

void client_sends(Scenario& s, uint8_t flags, int line = __builtin_LINE()) {
  s.uplink(s.later(s.client(), s.node(), flags)).sent(s.later(s.client(), s.local(0), flags).hop(), line);
}

void server_sends(Scenario& s, uint8_t flags, int line = __builtin_LINE()) {
  s.pod(s.later(s.local(0), s.client(), flags)).sent(s.later(s.node(), s.client(), flags).hop(), line);
}

void established_keeps_its_endpoint(Scenario& s) {
  s.proves({14});
  establish(s);
  exchange_endpoint(s);
  client_sends(s, kAck);
  server_sends(s, kAck);
  // New connections do follow.
  s.uplink(s.first(s.client(40001), s.node())).sent(s.first(s.client(40001), s.local(1)).hop());
}

void established_outlives_its_frontend(Scenario& s) {
  s.proves({14});
  establish(s);
  s.cluster = Cluster();
  s.program();
  client_sends(s, kAck);
  server_sends(s, kAck);
}

// Both directions through uplinks, so that nothing but the flows' bits lets them in.
void established_outlives_its_frontend_and_rotations(Scenario& s) {
  s.cluster.load_balancer(s.vip(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.vip())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.vip(), s.client()).hop());
  s.cluster = Cluster();
  s.program();
  const auto both_directions = [&](int line) {
    s.uplink(s.later(s.client(), s.vip())).sent(s.later(s.node(port), s.remote()).hop(), line);
    s.uplink(s.later(s.remote(), s.node(port))).sent(s.later(s.vip(), s.client()).hop(), line);
  };
  both_directions(__LINE__);
  for (int round = 0; round < 3; ++round) {
    s.rotate_flow_bits();
    both_directions(__LINE__);
  }
  s.lose_direction(true);
  s.rotate_flow_bits();
  s.uplink(s.later(s.client(), s.vip())).sent(s.later(s.node(port), s.remote()).hop());
}

// A packet whose addresses have no bits meets no table: even its flow is not found.
void strangers_are_not_looked_up(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.cluster = Cluster();
  s.program();
  s.lose_flow_bits();
  s.uplink(s.later(s.client(), s.node())).passed(abi::REASON_NOT_OURS);
  s.uplink(s.later(s.remote(), s.node(port))).passed(abi::REASON_NOT_OURS);
  s.rotate_flow_bits();
  s.uplink(s.later(s.remote(), s.node(port))).sent(s.later(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote()).hop());
}

void retransmitted_syn_keeps_its_endpoint(Scenario& s) {
  s.proves({14});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  exchange_endpoint(s);
  expect_endpoint(s, s.local(0));
  EXPECT_EQ(s.flow_count(), 2U);
}

void half_closed_stays(Scenario& s) {
  s.proves({14});
  establish(s);
  client_sends(s, kFin | kAck);
  exchange_endpoint(s);
  server_sends(s, kAck);
  expect_endpoint(s, s.local(0));
}

void closed_by_fin_is_reopened(Scenario& s) {
  establish(s);
  client_sends(s, kFin | kAck);
  server_sends(s, kFin | kAck);
  client_sends(s, kAck);
  exchange_endpoint(s);
  client_sends(s, kAck);  // what is still under way goes where it belongs
  expect_endpoint(s, s.local(1));
  EXPECT_EQ(s.flow_count(), 2U);
}

void closed_by_the_clients_reset_is_reopened(Scenario& s) {
  establish(s);
  client_sends(s, kRst);
  exchange_endpoint(s);
  expect_endpoint(s, s.local(1));
}

void closed_by_the_servers_reset_is_reopened(Scenario& s) {
  establish(s);
  server_sends(s, kRst | kAck);
  exchange_endpoint(s);
  expect_endpoint(s, s.local(1));
  EXPECT_EQ(s.flow_count(), 2U);
}

// From outside anybody may send one: the connection stays where it is, and what the client does
// next tells.
void reset_from_outside_is_doubtful(Scenario& s) {
  establish(s);
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(1)});
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.local(0)});  // so that it stays a backend
  s.program();
  client_sends(s, kRst);
  client_sends(s, kAck);
  server_sends(s, kAck);
  // The endpoint takes it for a new connection, or says that it has one.
  expect_endpoint(s, s.local(0));
  server_sends(s, kAck);
  EXPECT_EQ(s.flow_count(), 2U);
}

bool anyone_saw(Scenario& s, uint8_t bits) {
  uint8_t seen = 0;
  for (const auto& [port, one] : s.what_was_seen()) seen |= one;
  return seen & bits;
}

constexpr uint8_t kEitherReset = abi::SEEN_RST | abi::SEEN_RST << abi::SEEN_TWIN_SHIFT;
constexpr uint8_t kBothEnded = abi::SEEN_FIN | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT;

// Whoever speaks, a moment later, shows that it lives.
void goes_on_after_a_reset(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  establish(s);
  server_sends(s, kAck);
  for (const bool client : {true, false}) {
    client_sends(s, kRst);
    EXPECT_TRUE(anyone_saw(s, kEitherReset));
    s.age_flows(1);
    client_sends(s, kRst);
    EXPECT_TRUE(anyone_saw(s, kEitherReset)) << "another RST is no sign of life";
    s.age_flows(1);
    client ? client_sends(s, kAck) : server_sends(s, kAck);
    EXPECT_FALSE(anyone_saw(s, kEitherReset));
  }
  EXPECT_FALSE(anyone_saw(s, kBothEnded));
  s.age_flows(limit.tcp_established - 1);
  EXPECT_EQ(s.expire().removed, 0U);
}

// Its port is another's only when there is no other.
void port_after_a_doubtful_reset(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 2;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const auto open = [&](uint16_t client) {
    return s.uplink(s.first(s.client(client), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  };
  const uint16_t port = open(40000);
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client(40000)).hop());
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  s.uplink(s.later(s.client(40000), s.node(), kRst)).sent(s.later(s.node(port), s.remote(), kRst).hop());
  for (uint16_t client = 40001; s.flow_count() < 4; ++client) EXPECT_NE(open(client), port);
  EXPECT_EQ(open(50000), port);
  s.uplink(s.first(s.client(50001), s.node())).dropped(abi::REASON_NO_SOURCE_PORT);
}

// Who was never answered goes before it.
void port_of_nobody_before_that_of_a_doubtful_reset(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 2;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const auto open = [&](uint16_t client) {
    return s.uplink(s.first(s.client(client), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  };
  const uint16_t reset = open(40000);
  s.uplink(s.answer(s.remote(), s.node(reset))).sent(s.answer(s.node(), s.client(40000)).hop());
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(reset), s.remote()).hop());
  s.uplink(s.later(s.client(40000), s.node(), kRst)).sent(s.later(s.node(reset), s.remote(), kRst).hop());
  for (uint16_t client = 40001; client < 40009; ++client) {
    const uint16_t silent = open(client);
    EXPECT_NE(silent, reset);
    s.age_flows(2);
  }
}

// A pod's own, on the device that leads to it; not one in its name from another device.
void reset_of_a_pod_is_beyond_doubt(Scenario& s) {
  establish(s);
  s.pod(s.later(s.local(0), s.client(), kRst), kPod1).sent(s.later(s.node(), s.client(), kRst).hop());
  EXPECT_FALSE(anyone_saw(s, kBothEnded));
  s.age_flows(1);
  server_sends(s, kAck);
  server_sends(s, kRst);
  EXPECT_TRUE(anyone_saw(s, kBothEnded));
}

void doubtful_expires(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  establish(s);
  client_sends(s, kRst);
  s.age_flows(limit.tcp_unacknowledged - 1);
  EXPECT_EQ(s.expire().removed, 0U);
  s.age_flows(limit.tcp_unacknowledged);
  EXPECT_EQ(s.expire().removed, 2U);
}

void refused_by_the_server_is_reopened(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  server_sends(s, kRst | kAck);
  exchange_endpoint(s);
  expect_endpoint(s, s.local(1));
}

// As a flood leaves them: whoever is answered keeps its port.
void port_of_a_connection_that_nobody_answers(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 2;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const auto open = [&](uint16_t client) {
    return s.uplink(s.first(s.client(client), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  };
  const uint16_t answered = open(40000);
  s.uplink(s.answer(s.remote(), s.node(answered))).sent(s.answer(s.node(), s.client(40000)).hop());
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(answered), s.remote()).hop());
  const uint16_t silent = open(40001);
  s.uplink(s.first(s.client(40002), s.node())).dropped(abi::REASON_NO_SOURCE_PORT);
  s.age_flows(2);
  EXPECT_EQ(open(40003), silent);
  s.uplink(s.first(s.client(40004), s.node())).dropped(abi::REASON_NO_SOURCE_PORT);
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(answered), s.remote()).hop());
}

void translated_port_is_free_once_closed(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 1;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port = s.cluster.config.snat_port_min[0];
  const auto open = [&](uint16_t client_port) { return s.uplink(s.first(s.client(client_port), s.node())); };
  const Packet out = s.first(s.node(port), s.remote()).hop();
  open(40000).sent(out);
  open(40001).dropped(abi::REASON_NO_SOURCE_PORT);
  s.uplink(s.later(s.client(40000), s.node(), kRst)).sent(s.later(s.node(port), s.remote(), kRst).hop());
  open(40001).sent(out);
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client(40001)).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

void second_run_of_ports_is_used(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 1;
  s.cluster.config.snat_port_count[1] = 1;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  std::set<uint16_t> ports;
  for (const uint16_t client_port : {uint16_t{40000}, uint16_t{40001}})
    ports.insert(s.uplink(s.first(s.client(client_port), s.node()))
                     .sent_from_new_port(s.first(s.node(0), s.remote()).hop()));
  EXPECT_EQ(ports,
            (std::set<uint16_t>{s.cluster.config.snat_port_min[0], s.cluster.config.snat_port_min[1]}));
}

// Of the node's own sockets: replies to it must not be taken for the connection's, nor the other
// way round.
void port_that_a_socket_of_the_node_has(Scenario& s) {
  s.cluster.config.snat_port_count[0] = 3;
  s.cluster.config.snat_port_count[1] = 0;
  const uint16_t port = s.cluster.config.snat_port_min[0];
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  s.load();
  s.plane.bind_socket(s.node(port + 1), s.variant.protocol);
  std::set<uint16_t> ports;
  for (const uint16_t client : {uint16_t{40000}, uint16_t{40001}})
    ports.insert(s.uplink(s.first(s.client(client), s.node()))
                     .sent_from_new_port(s.first(s.node(0), s.remote()).hop()));
  EXPECT_EQ(ports, (std::set<uint16_t>{port, static_cast<uint16_t>(port + 2)}));
  s.uplink(s.first(s.client(40002), s.node())).dropped(abi::REASON_NO_SOURCE_PORT);
}

void same_port_towards_different_endpoints(Scenario& s) {
  // Ports are unique per remote address and port, not per node.
  s.cluster.config.snat_port_count[0] = 1;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(30080), s.variant.protocol, {s.remote()});
  s.cluster.node_port(s.node(30081), s.variant.protocol, {s.remote_c()});
  const uint16_t port = s.cluster.config.snat_port_min[0];
  s.uplink(s.first(s.client(), s.node(30080))).sent(s.first(s.node(port), s.remote()).hop());
  s.uplink(s.first(s.client(), s.node(30081))).sent(s.first(s.node(port), s.remote_c()).hop());
}

void lost_flow_finds_its_port_again(Scenario& s) {
  s.proves({14, 27});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client()).hop());
  s.lose_direction(false);
  EXPECT_EQ(s.flow_count(), 1U);
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

// The other direction's next packet makes a lost one again, with all that is known of the
// connection. The frontend is gone: nothing else could make it.
void lost_direction_is_made_again(Scenario& s, bool reply) {
  establish(s);
  server_sends(s, kAck);
  const auto before = s.what_was_seen();
  s.cluster = Cluster();
  s.program();
  s.lose_direction(reply);
  EXPECT_EQ(s.flow_count(), 1U);
  reply ? client_sends(s, kAck) : server_sends(s, kAck);
  EXPECT_EQ(s.flow_count(), 2U);
  EXPECT_EQ(s.what_was_seen(), before);
  client_sends(s, kAck);
  server_sends(s, kAck);
}

void lost_forward_flow_is_made_again(Scenario& s) {
  s.proves({14, 27});
  lost_direction_is_made_again(s, false);
}

void lost_reply_flow_is_made_again(Scenario& s) {
  s.proves({14, 27});
  lost_direction_is_made_again(s, true);
}

// The same where the source port is translated.
void lost_translated_flows_are_made_again(Scenario& s) {
  s.proves({14, 27});
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  const auto both_speak = [&](bool client_first) {
    for (const bool from_client : {client_first, !client_first}) {
      if (from_client)
        s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote()).hop());
      else
        s.uplink(s.later(s.remote(), s.node(port))).sent(s.later(s.node(), s.client()).hop());
    }
  };
  both_speak(false);
  for (const bool reply : {false, true}) {
    s.lose_direction(reply);
    s.age_flows(1);
    both_speak(reply);
    EXPECT_EQ(s.flow_count(), 2U);
  }
}

// Its tuple is another connection's by now: it must not go on with that one's replies.
void lost_tuple_that_was_taken(Scenario& s) {
  s.proves({27});
  s.cluster.config.snat_port_count[0] = 1;
  s.cluster.config.snat_port_count[1] = 0;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port = s.cluster.config.snat_port_min[0];
  const auto open = [&](uint16_t client) { return s.uplink(s.first(s.client(client), s.node())); };
  open(40000).sent(s.first(s.node(port), s.remote()).hop());
  s.lose_direction(true);
  open(40001).sent(s.first(s.node(port), s.remote()).hop());
  EXPECT_EQ(s.flow_count(), 3U);
  s.age_flows(1);
  s.uplink(s.later(s.client(40000), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  EXPECT_EQ(s.flow_count(), 2U);
  EXPECT_EQ(s.clients_with_flows(), (std::multiset<uint16_t>{40001})) << "the first kept its own";
  s.uplink(s.later(s.client(40000), s.node())).dropped(abi::REASON_NO_SOURCE_PORT);
}

// What becomes of a closed connection whose forward flow was lost: its rest is no reason to
// take the next one of the same ends for closed.
void closed_and_half_lost_is_reopened(Scenario& s) {
  establish(s);
  client_sends(s, kFin | kAck);
  server_sends(s, kFin | kAck);
  s.lose_direction(false);
  client_sends(s, kAck);  // the last one of the old connection
  EXPECT_EQ(s.flow_count(), 2U);
  for (const auto& [port, seen] : s.what_was_seen()) EXPECT_EQ(seen & abi::SEEN_FIN, abi::SEEN_FIN) << port;
  s.lose_direction(false);
  expect_endpoint(s, s.local(0));
  for (const auto& [port, seen] : s.what_was_seen()) EXPECT_EQ(seen & 0xcc, 0) << port;
  EXPECT_EQ(s.flow_count(), 2U);
}

// Expiry after `slots` idle slots leaves so many flows.
void expect_after_idle(Scenario& s, uint32_t slots, size_t flows, int line = __builtin_LINE()) {
  s.age_flows(slots);
  const size_t before = s.flow_count();
  const abi::expire_call result = s.expire();
  EXPECT_EQ(s.flow_count(), flows) << "line " << line << " after " << slots << " slots";
  EXPECT_EQ(result.examined, before) << "line " << line;
  EXPECT_EQ(result.removed, before - flows) << "line " << line;
}

void opening_expires_early(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  const uint32_t slots = s.tcp() ? limit.tcp_syn_sent : s.sctp() ? limit.sctp_heartbeat_sent : limit.udp;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  expect_after_idle(s, 0, 2);
  expect_after_idle(s, slots - 1, 2);
  expect_after_idle(s, slots, 0);
}

void established_expires_late(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  const uint32_t slots = s.tcp() ? limit.tcp_established : s.sctp() ? limit.sctp_established : limit.udp_stream;
  establish(s);
  expect_after_idle(s, slots - 1, 2);
  expect_after_idle(s, slots, 0);
}

void busy_in_one_direction_keeps_both(Scenario& s) {
  establish(s);
  s.age_flows(1000);
  client_sends(s, kAck);
  EXPECT_EQ(s.expire().removed, 0U);
  EXPECT_EQ(s.flow_count(), 2U);
}

// Whichever it is: what the other direction has had, its own entry does not tell.
void the_other_direction_is_asked(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  establish(s);
  server_sends(s, kAck);
  for (const bool reply : {false, true}) {
    s.age_flows(0);
    each_slot(s.plane, [&](const FlowSlot& flow) {
      if (static_cast<bool>(flow.body->flags & abi::FLOW_REPLY) == reply)
        flow.body->stamp = (s.plane.slot() - limit.tcp_established) & abi::STAMP_SLOT_MASK;
    });
    EXPECT_EQ(s.expire().removed, 0U);
  }
}

// What a connection in this state may be idle for: less than that keeps it, that does not.
void expect_limit(Scenario& s, uint32_t slots, int line = __builtin_LINE()) {
  expect_after_idle(s, slots - 1, 2, line);
  expect_after_idle(s, slots, 0, line);
}

void answered_but_not_confirmed_expires_early(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  server_sends(s, kSyn | kAck);
  expect_limit(s, s.cluster.config.timeouts.tcp_syn_recv);
}

void met_in_the_middle_expires_early(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  client_sends(s, kAck);
  expect_limit(s, s.cluster.config.timeouts.tcp_unacknowledged);
}

// Whichever end begins, netfilter's FIN WAIT, CLOSE WAIT, LAST ACK and TIME WAIT follow.
enum class Ended { fin, acknowledged, both, all };
void expect_closing(Scenario& s, Ended until, uint32_t slots) {
  for (const bool client : {true, false}) {
    establish(s);
    const auto send = [&](bool own, uint8_t flags) { own == client ? client_sends(s, flags) : server_sends(s, flags); };
    send(true, kFin | kAck);
    send(true, kFin | kAck);  // once more is no answer
    if (until >= Ended::acknowledged) send(false, kAck);
    if (until >= Ended::both) send(false, kFin | kAck);
    if (until >= Ended::all) send(true, kAck);
    expect_limit(s, slots);
  }
}

void fin_wait_expires(Scenario& s) { expect_closing(s, Ended::fin, s.cluster.config.timeouts.tcp_fin_wait); }
void close_wait_expires(Scenario& s) {
  expect_closing(s, Ended::acknowledged, s.cluster.config.timeouts.tcp_close_wait);
}
void last_ack_expires(Scenario& s) { expect_closing(s, Ended::both, s.cluster.config.timeouts.tcp_last_ack); }
void time_wait_expires(Scenario& s) { expect_closing(s, Ended::all, s.cluster.config.timeouts.tcp_time_wait); }

void reset_by_its_pod_expires(Scenario& s) {
  establish(s);
  server_sends(s, kRst);
  expect_limit(s, s.cluster.config.timeouts.tcp_close);
}

// RFC 9260 section 3.2: a chunk is its type, flags, length and value.
Packet chunk(const HostPort& from, const HostPort& to, uint8_t type) {
  return Packet::sctp(from, to).payload(Bytes{type, 0, 0, 4});
}

enum Chunk : uint8_t { kInit = 1, kInitAck = 2, kAbort = 6, kShutdown = 7, kShutdownAck = 8, kCookieEcho = 10, kCookieAck = 11 };

void client_chunk(Scenario& s, uint8_t type) {
  s.uplink(chunk(s.client(), s.node(), type)).sent(chunk(s.client(), s.local(0), type).hop());
}
void server_chunk(Scenario& s, uint8_t type) {
  s.pod(chunk(s.local(0), s.client(), type)).sent(chunk(s.node(), s.client(), type).hop());
}
void associate(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  client_chunk(s, kInit);
  server_chunk(s, kInitAck);
  client_chunk(s, kCookieEcho);
  server_chunk(s, kCookieAck);
}

void association_that_opens_expires(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  client_chunk(s, kInit);
  expect_limit(s, limit.sctp_cookie_wait);
  client_chunk(s, kInit);
  server_chunk(s, kInitAck);
  expect_limit(s, limit.sctp_cookie_wait);
}

void association_expires(Scenario& s) {
  associate(s);
  expect_limit(s, s.cluster.config.timeouts.sctp_established);
}

void association_that_shuts_down_expires(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  associate(s);
  client_chunk(s, kShutdown);
  expect_limit(s, limit.sctp_shutdown);
  associate(s);
  client_chunk(s, kShutdown);
  server_chunk(s, kShutdownAck);
  expect_limit(s, limit.sctp_closed);
}

void aborted_association_is_opened_again(Scenario& s) {
  associate(s);
  server_chunk(s, kAbort);
  exchange_endpoint(s);
  s.uplink(chunk(s.client(), s.node(), kInit)).sent(chunk(s.client(), s.local(1), kInit).hop());
}

// Of all services, over all parts.
uint64_t connections_counted(Scenario& s) {
  uint64_t sum = 0;
  for (uint32_t part = 0; part < abi::SERVICE_COUNTER_PARTS; ++part)
    for (uint32_t id = 0; id < 16; ++id) {
      const uint32_t index = id + part * abi::SERVICE_IDS;
      sum += s.plane.get_value<abi::service_counter>("service_counters", index)->connections;
    }
  return sum;
}

void a_connection_is_counted_once(Scenario& s) {
  establish(s);
  const uint64_t before = connections_counted(s);
  s.uplink(s.first(s.client(40001), s.node())).sent(s.first(s.client(40001), s.local(0)).hop());
  EXPECT_EQ(connections_counted(s), before + 1);
  client_sends(s, kAck);
  server_sends(s, kAck);
  EXPECT_EQ(connections_counted(s), before + 1) << "known already";
  s.cluster.node_port(s.node(), s.variant.protocol, {});
  s.program();
  s.uplink(s.first(s.client(40002), s.node()));
  EXPECT_EQ(connections_counted(s), before + 1) << "nobody serves it";
}

}  // namespace

std::vector<Case> connection_cases() {
  return {
      {"established_keeps_its_endpoint", established_keeps_its_endpoint},
      {"established_outlives_its_frontend", established_outlives_its_frontend},
      {"established_outlives_its_frontend_and_rotations", established_outlives_its_frontend_and_rotations},
      {"strangers_are_not_looked_up", strangers_are_not_looked_up},
      {"retransmitted_syn_keeps_its_endpoint", retransmitted_syn_keeps_its_endpoint},
      {"half_closed_stays", half_closed_stays, Case::tcp_only},
      {"closed_by_fin_is_reopened", closed_by_fin_is_reopened, Case::tcp_only},
      {"closed_by_the_clients_reset_is_reopened", closed_by_the_clients_reset_is_reopened, Case::tcp_only},
      {"closed_by_the_servers_reset_is_reopened", closed_by_the_servers_reset_is_reopened, Case::tcp_only},
      {"reset_from_outside_is_doubtful", reset_from_outside_is_doubtful, Case::tcp_only},
      {"goes_on_after_a_reset", goes_on_after_a_reset, Case::tcp_only},
      {"port_after_a_doubtful_reset", port_after_a_doubtful_reset, Case::tcp_only},
      {"port_of_nobody_before_that_of_a_doubtful_reset", port_of_nobody_before_that_of_a_doubtful_reset, Case::tcp_only},
      {"reset_of_a_pod_is_beyond_doubt", reset_of_a_pod_is_beyond_doubt, Case::tcp_only},
      {"doubtful_expires", doubtful_expires, Case::tcp_only},
      {"refused_by_the_server_is_reopened", refused_by_the_server_is_reopened, Case::tcp_only},
      {"translated_port_is_free_once_closed", translated_port_is_free_once_closed, Case::tcp_only},
      {"port_of_a_connection_that_nobody_answers", port_of_a_connection_that_nobody_answers},
      {"second_run_of_ports_is_used", second_run_of_ports_is_used},
      {"port_that_a_socket_of_the_node_has", port_that_a_socket_of_the_node_has, Case::no_sctp},
      {"same_port_towards_different_endpoints", same_port_towards_different_endpoints},
      {"lost_flow_finds_its_port_again", lost_flow_finds_its_port_again},
      {"lost_forward_flow_is_made_again", lost_forward_flow_is_made_again},
      {"lost_reply_flow_is_made_again", lost_reply_flow_is_made_again},
      {"lost_translated_flows_are_made_again", lost_translated_flows_are_made_again},
      {"lost_tuple_that_was_taken", lost_tuple_that_was_taken},
      {"closed_and_half_lost_is_reopened", closed_and_half_lost_is_reopened, Case::tcp_only},
      {"opening_expires_early", opening_expires_early},
      {"established_expires_late", established_expires_late},
      {"busy_in_one_direction_keeps_both", busy_in_one_direction_keeps_both},
      {"the_other_direction_is_asked", the_other_direction_is_asked},
      {"a_connection_is_counted_once", a_connection_is_counted_once},
      {"answered_but_not_confirmed_expires_early", answered_but_not_confirmed_expires_early, Case::tcp_only},
      {"met_in_the_middle_expires_early", met_in_the_middle_expires_early, Case::tcp_only},
      {"fin_wait_expires", fin_wait_expires, Case::tcp_only},
      {"close_wait_expires", close_wait_expires, Case::tcp_only},
      {"last_ack_expires", last_ack_expires, Case::tcp_only},
      {"time_wait_expires", time_wait_expires, Case::tcp_only},
      {"reset_by_its_pod_expires", reset_by_its_pod_expires, Case::tcp_only},
      {"association_that_opens_expires", association_that_opens_expires, Case::sctp_only},
      {"association_expires", association_expires, Case::sctp_only},
      {"association_that_shuts_down_expires", association_that_shuts_down_expires, Case::sctp_only},
      {"aborted_association_is_opened_again", aborted_association_is_opened_again, Case::sctp_only},
  };
}

}  // namespace maglane::test
