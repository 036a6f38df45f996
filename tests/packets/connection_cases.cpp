// SPDX-License-Identifier: Apache-2.0
//
// What happens over a connection's life: opening, changes of the endpoints meanwhile, closing,
// expiry, and the reuse of its ports.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

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
  establish(s);
  exchange_endpoint(s);
  client_sends(s, kAck);
  server_sends(s, kAck);
  // New connections do follow.
  s.uplink(s.first(s.client(40001), s.node())).sent(s.first(s.client(40001), s.local(1)).hop());
}

void established_outlives_its_frontend(Scenario& s) {
  establish(s);
  s.cluster = Cluster();
  s.program();
  client_sends(s, kAck);
  server_sends(s, kAck);
}

void retransmitted_syn_keeps_its_endpoint(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  exchange_endpoint(s);
  expect_endpoint(s, s.local(0));
  EXPECT_EQ(s.flow_count(), 2U);
}

void half_closed_stays(Scenario& s) {
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

void refused_by_the_server_is_reopened(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  server_sends(s, kRst | kAck);
  exchange_endpoint(s);
  expect_endpoint(s, s.local(1));
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

// Takes the flow of the client's direction out of the table.
void lose_forward_flow(Scenario& s) {
  const char* map = s.v4() ? "flows4" : "flows6";
  const size_t size = s.v4() ? offsetof(abi::flow4, body) : offsetof(abi::flow6, body);
  for (const Bytes& key : s.plane.keys(map)) {
    const Bytes flow = *s.plane.get(map, key.data());
    if (!(flow[size + offsetof(abi::flow_body, flags)] & abi::FLOW_REPLY)) s.plane.erase(map, key.data());
  }
}

void lost_flow_finds_its_port_again(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()});
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client()).hop());
  lose_forward_flow(s);
  EXPECT_EQ(s.flow_count(), 1U);
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.node(port), s.remote()).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

// Expiry after `slots` idle slots leaves so many flows.
void expect_after_idle(Scenario& s, uint32_t slots, size_t flows, int line = __builtin_LINE()) {
  s.age_flows(slots);
  const size_t before = s.flow_count();
  const abi::expiry_result result = s.plane.expire();
  EXPECT_EQ(s.flow_count(), flows) << "line " << line << " after " << slots << " slots";
  EXPECT_EQ(result.removed, before - flows) << "line " << line;
}

void opening_expires_early(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  const uint32_t slots = s.tcp() ? limit.tcp_syn : limit.udp;
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local(0)});
  expect_endpoint(s, s.local(0));
  expect_after_idle(s, 0, 2);
  expect_after_idle(s, slots - 1, 2);
  expect_after_idle(s, slots, 0);
}

void established_expires_late(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  const uint32_t slots = s.tcp() ? limit.tcp_established : limit.udp_replied;
  establish(s);
  expect_after_idle(s, slots - 1, 2);
  expect_after_idle(s, slots, 0);
}

void busy_in_one_direction_keeps_both(Scenario& s) {
  establish(s);
  s.age_flows(1000);
  client_sends(s, kAck);
  EXPECT_EQ(s.plane.expire().removed, 0U);
  EXPECT_EQ(s.flow_count(), 2U);
}

void closing_and_closed_expire(Scenario& s) {
  const abi::timeouts& limit = s.cluster.config.timeouts;
  establish(s);
  client_sends(s, kFin | kAck);
  expect_after_idle(s, limit.tcp_fin - 1, 2);
  server_sends(s, kFin | kAck);
  expect_after_idle(s, limit.tcp_closed - 1, 2);
  expect_after_idle(s, limit.tcp_closed, 0);
}

}  // namespace

std::vector<Case> connection_cases() {
  return {
      {"established_keeps_its_endpoint", established_keeps_its_endpoint},
      {"established_outlives_its_frontend", established_outlives_its_frontend},
      {"retransmitted_syn_keeps_its_endpoint", retransmitted_syn_keeps_its_endpoint},
      {"half_closed_stays", half_closed_stays, Case::tcp_only},
      {"closed_by_fin_is_reopened", closed_by_fin_is_reopened, Case::tcp_only},
      {"closed_by_the_clients_reset_is_reopened", closed_by_the_clients_reset_is_reopened, Case::tcp_only},
      {"closed_by_the_servers_reset_is_reopened", closed_by_the_servers_reset_is_reopened, Case::tcp_only},
      {"refused_by_the_server_is_reopened", refused_by_the_server_is_reopened, Case::tcp_only},
      {"translated_port_is_free_once_closed", translated_port_is_free_once_closed, Case::tcp_only},
      {"second_run_of_ports_is_used", second_run_of_ports_is_used},
      {"same_port_towards_different_endpoints", same_port_towards_different_endpoints},
      {"lost_flow_finds_its_port_again", lost_flow_finds_its_port_again},
      {"opening_expires_early", opening_expires_early},
      {"established_expires_late", established_expires_late},
      {"busy_in_one_direction_keeps_both", busy_in_one_direction_keeps_both},
      {"closing_and_closed_expire", closing_and_closed_expire, Case::tcp_only},
  };
}

}  // namespace maglane::test
