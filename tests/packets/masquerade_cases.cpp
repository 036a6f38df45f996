// SPDX-License-Identifier: Apache-2.0
//
// What pods open to the outside: whom it comes from there, by which port, and how the answers
// find back. Point 19 of the service contract.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

using namespace abi;

constexpr const char* kNodes[] = {"192.168.50.2/32", "192.168.51.3/32", "fd50::2/128", "fd51::3/128"};

void model(Scenario& s, network_model model) {
  s.proves({19});
  s.cluster.config.network_model = static_cast<uint8_t>(model);
  s.cluster.not_masqueraded = {"10.0.0.0/8", "fd00::/12"};
  s.cluster.not_masqueraded.insert(s.cluster.not_masqueraded.end(), std::begin(kNodes), std::end(kNodes));
}

HostPort pod(const Scenario& s, int n = 0, uint16_t port = 40000) { return s.local(n, port); }

void opens_as(Scenario& s, const HostPort& from, const HostPort& as, const HostPort& to) {
  s.pod(s.first(from, to)).sent(s.first(as, to).hop());
}

// ---- the models ------------------------------------------------------------------------------

void kubenet_to_the_outside_and_back(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s)).hop());
  s.pod(s.later(pod(s), s.outside())).sent(s.later(s.node(40000), s.outside()).hop());
  s.uplink(s.later(s.outside(), s.node(40000))).sent(s.later(s.outside(), pod(s)).hop());
  EXPECT_EQ(s.flow_count(), 2U);
  each_slot(s.plane, [](const FlowSlot& flow) { EXPECT_TRUE(flow.body->flags & FLOW_SNAT); });  // people are told
}

void kubenet_not_inside_the_cluster(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.pod(s.first(pod(s), s.remote())).passed(REASON_NOT_OURS);
  s.pod(s.first(pod(s), s.other_pod())).passed(REASON_NOT_OURS);
  s.pod(s.first(pod(s), s.pick("192.168.50.2:22", "[fd50::2]:22"))).passed(REASON_NOT_OURS);
  s.pod(s.first(pod(s), s.node(22))).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
  // Nobody's but a node's neighbour.
  const HostPort neighbour = s.pick("192.168.50.7:22", "[fd50::7]:22");
  opens_as(s, pod(s), s.node(40000), neighbour);
}

void azure_cni_leaves_the_virtual_network(Scenario& s) {
  model(s, NETWORK_AZURE_CNI);
  s.cluster.not_masqueraded.insert(s.cluster.not_masqueraded.end(), {"192.168.0.0/16", "198.51.100.0/26", "fd50::/16", "2001:db8:c::/121"});
  s.pod(s.first(pod(s), s.pick("192.168.50.7:22", "[fd50::7]:22"))).passed(REASON_NOT_OURS);
  s.pod(s.first(pod(s), s.client(80))).passed(REASON_NOT_OURS);
  const HostPort beyond = s.pick("198.51.100.77:80", "[2001:db8:c::177]:80");
  opens_as(s, pod(s), s.node(40000), beyond);
}

// Those of the list and no others: not even pods.
void custom_ranges(Scenario& s) {
  model(s, NETWORK_CUSTOM);
  s.cluster.not_masqueraded = {"198.51.100.0/26", "2001:db8:c::/122"};
  s.pod(s.first(pod(s), s.client(80))).passed(REASON_NOT_OURS);
  opens_as(s, pod(s), s.node(40000), s.outside());
  opens_as(s, pod(s), s.node(40000), s.remote());
  s.pod(s.first(pod(s), s.other_pod())).passed(REASON_NOT_OURS);  // it does not leave the node
}

void none_never(Scenario& s) {
  model(s, NETWORK_NONE);
  s.pod(s.first(pod(s), s.outside())).passed(REASON_NOT_OURS);
  const Packet whole = s.first(pod(s), s.outside()).dont_fragment(false).payload_size(200);
  s.pod(whole.part(64, 64)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

void only_what_pods_send(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.uplink(s.first(s.remote(40000), s.outside())).passed(REASON_NOT_OURS);
  s.uplink(s.first(pod(s), s.outside())).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
  // Nor where a pod's connection makes such packets worth a look.
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.uplink(s.first(s.remote(40001), s.outside())).passed(REASON_NOT_OURS);
  const Packet whole = s.first(s.remote(40001), s.outside()).dont_fragment(false).payload_size(200);
  s.uplink(whole.part(64, 64)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 2U);
}

// ---- services ----------------------------------------------------------------------------------

void services_come_first(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.remote()});
  s.pod(s.first(pod(s), s.vip())).sent(s.first(pod(s), s.remote()).hop());
  const Packet unused = s.first(pod(s), s.vip(81));
  s.pod(unused).rejected(REASON_UNUSED_PORT, port_unreachable(unused));
  s.pod(s.first(pod(s), s.pick("172.20.9.9:80", "[fc00::99]:80"))).dropped(REASON_UNUSED_ADDRESS);
}

// Its endpoint would not know where to answer.
void an_endpoint_outside(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.outside()});
  s.pod(s.first(pod(s), s.vip())).sent(s.first(s.node(40000), s.outside()).hop());
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.vip(), pod(s)).hop());
  // Also one that is met in the middle: a service's are followed from there.
  s.pod(s.later(pod(s, 0, 40001), s.vip())).sent(s.later(s.node(40001), s.outside()).hop());
  // Past the service, from the same port.
  const uint16_t port = s.pod(s.first(pod(s), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
  s.uplink(s.answer(s.outside(), s.node(port))).sent(s.answer(s.outside(), pod(s)).hop());
}

// It is the service's packet all the same, and not the stack's.
void an_endpoint_without_a_route(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.pick("203.0.113.1:80", "[2001:db8:ffff::1]:80")});
  s.pod(s.first(pod(s), s.vip())).dropped(REASON_NO_ROUTE);
}

// ---- addresses ---------------------------------------------------------------------------------

void the_address_of_the_device_that_the_route_chose(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node_c(40000), s.outside_c());
  s.uplink(s.answer(s.outside_c(), s.node_c(40000)), kUp1).sent(s.answer(s.outside_c(), pod(s)).hop());
  opens_as(s, pod(s), s.node(40000), s.outside());
}

// The route alone tells the device then.
void towards_a_neighbour_that_is_not_known(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node_c(40000), s.pick("192.168.51.77:80", "[fd51::77]:80"));
}

// As the kernel routes before it masquerades: rules and routes may depend on who sends.
void routed_by_the_pods_own_address(Scenario& s) {
  if (!s.plane.native()) return;  // the kernel does not tell what it was asked
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  EXPECT_EQ(s.plane.network().last_source(), pod(s).address);
  s.age_flows(1);
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s)).hop());
  EXPECT_EQ(s.plane.network().last_source(), s.outside().address);
  s.pod(s.later(pod(s), s.outside())).sent(s.later(s.node(40000), s.outside()).hop());
  EXPECT_EQ(s.plane.network().last_source(), pod(s).address);
}

void no_address_on_the_device(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.load();
  s.plane.put_value("egress_addresses", uint32_t{kUp0}, egress_address{});
  s.pod(s.first(pod(s), s.outside())).dropped(REASON_NO_SOURCE_ADDRESS);
}

void what_leaves_by_no_uplink(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.load();
  s.plane.erase_key("egress_addresses", uint32_t{kUp0});
  s.pod(s.first(pod(s), s.outside())).passed(REASON_NOT_OURS);
  s.pod(s.first(pod(s), s.pick("203.0.113.1:80", "[2001:db8:ffff::1]:80"))).passed(REASON_NOT_OURS);  // no route
  const Packet whole = s.first(pod(s), s.outside()).dont_fragment(false).payload_size(200);
  s.pod(whole.part(0, 64)).passed(REASON_NOT_OURS);
  s.pod(whole.part(64, 64)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

void not_to_many(Scenario& s) {
  model(s, NETWORK_CUSTOM);
  s.cluster.not_masqueraded.clear();
  s.pod(s.first(pod(s), s.pick("224.0.0.251:5353", "[ff02::fb]:5353"))).passed(REASON_NOT_OURS);
}

// ---- ports -------------------------------------------------------------------------------------

void the_own_port_unless_another_has_it(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s, 0), s.node(40000), s.outside());
  const uint16_t port =
      s.pod(s.first(pod(s, 1), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s, 0)).hop());
  s.uplink(s.answer(s.outside(), s.node(port))).sent(s.answer(s.outside(), pod(s, 1)).hop());
  // Another port there, or another host: another tuple.
  opens_as(s, pod(s, 1), s.node(40000), s.outside(80));
  opens_as(s, pod(s, 1), s.node(40000), s.client(443));
}

void a_port_that_a_socket_of_the_node_has(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.load();
  s.plane.bind_socket(s.node(40000), s.variant.protocol);
  s.pod(s.first(pod(s), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
}

// What the node opens from a port that a pod has towards there: each gets its own answers.
void a_port_that_the_node_wants_later(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  // What it has open already is not the pod's.
  const Packet older = s.later(s.node(40000), s.outside());
  if (s.tcp()) s.leave(older, kUp0).let_out(REASON_NOT_OURS, older);
  const Outcome out = s.leave(s.first(s.node(40000), s.outside()), kUp0);
  const HostPort changed = s.node(parse(out.last().frame).source_port);
  EXPECT_NE(changed.port, 40000);
  out.let_out(REASON_NODE_PORT_CHANGED, s.first(changed, s.outside()));
  s.uplink(s.answer(s.outside(), changed)).delivered(s.answer(s.outside(), s.node(40000)));
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s)).hop());
  s.leave(s.later(s.node(40000), s.outside()), kUp0)
      .let_out(REASON_NODE_PORT_CHANGED, s.later(changed, s.outside()));
  s.leave(s.first(s.node(40001), s.outside()), kUp0).let_out(REASON_NOT_OURS, s.first(s.node(40001), s.outside()));
  s.leave(s.first(s.node(40000), s.outside(80)), kUp0).let_out(REASON_NOT_OURS, s.first(s.node(40000), s.outside(80)));
}

// Closed and opened again it is a new connection, which does not expire with the old one.
void a_port_that_the_node_uses_again(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s)).hop());
  s.pod(s.later(pod(s), s.outside())).sent(s.later(s.node(40000), s.outside()).hop());
  const auto ended = [&] {
    int ends = 0;
    each_slot(s.plane, [&](const FlowSlot& flow) { ends += (flow.seen() & SEEN_FIN) != 0; });
    return ends;
  };
  s.leave(s.first(s.node(40000), s.outside()), kUp0);
  EXPECT_EQ(ended(), 0);
  s.leave(s.later(s.node(40000), s.outside(), kRst), kUp0);
  EXPECT_EQ(ended(), 2);
  s.leave(s.first(s.node(40000), s.outside()), kUp0);
  EXPECT_EQ(ended(), 0);
  EXPECT_EQ(s.flow_count(), 4U);
}

// One connection for each port, and then none; all of it through ports that do not lie together.
void every_port_of_the_range(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.flow_capacity = 4096;
  // 2 * 3 * 5 * 7: a step that has a factor of them would miss some.
  s.cluster.config.snat_port_count[0] = 113;
  s.cluster.config.snat_port_count[1] = 97;
  opens_as(s, pod(s, 0), s.node(40000), s.outside());
  // The same own port, by as many addresses as are wanted.
  const auto another = [&](uint16_t n) {
    return HostPort(ip(s.v4() ? fmt::format("10.1.{}.{}", 10 + n / 200, n % 200 + 1) : fmt::format("fd01::a:{:x}", n)), 40000);
  };
  const auto open = [&](uint16_t n) {
    return s.pod(s.first(another(n), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
  };
  std::vector<uint16_t> ports;
  for (uint16_t n = 0; n < 210; ++n) ports.push_back(open(n));
  EXPECT_EQ(std::set(ports.begin(), ports.end()).size(), 210U);
  s.pod(s.first(another(300), s.outside())).dropped(REASON_NO_SOURCE_PORT);
  s.pod(s.first(another(301), s.outside())).dropped(REASON_NO_SOURCE_PORT);
  opens_as(s, another(300), s.node(40000), s.outside(80));  // of this remote alone
  port_shortage_key key{};
  s.outside().address.to_be(key.addr_be);
  s.node().address.to_be(key.source_be);
  key.port_be = htons(443);
  key.protocol = s.variant.protocol;
  key.family = static_cast<uint8_t>(s.variant.family);
  auto shortage = s.plane.get_value<port_shortage>("port_shortages", key);
  ASSERT_TRUE(shortage);
  EXPECT_EQ(shortage->packets, 2U);
  if (!s.tcp()) return;
  // A slot later those that have been closed are found, wherever they are in the order.
  shortage->slot = (s.plane.slot() - 1) & STAMP_SLOT_MASK;
  for (uint16_t n = 0; n < 8; ++n) {
    s.pod(s.later(another(n), s.outside(), kRst)).sent(s.later(s.node(ports[n]), s.outside(), kRst).hop());
    s.plane.put_value("port_shortages", key, *shortage);
    EXPECT_EQ(open(static_cast<uint16_t>(300 + n)), ports[n]);
  }
}

// ---- what is followed ------------------------------------------------------------------------

// A connection that came to the pod's own address is answered from there, and goes on so.
void an_answer_to_the_outside(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.pod(s.answer(s.local(), s.client())).sent(s.answer(s.local(), s.client()).hop());
  s.uplink(s.later(s.client(), s.local())).sent(s.later(s.client(), s.local()).hop());
  s.pod(s.later(s.local(), s.client())).sent(s.later(s.local(), s.client()).hop());
}

void a_reset_of_nobody(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.pod(s.later(s.local(), s.client(), kRst | kAck)).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
}

// It is none that began here: the answer to one from outside, or somebody else translates it.
void in_the_middle_of_a_connection(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.pod(s.later(pod(s), s.outside())).passed(REASON_NOT_OURS);
  EXPECT_EQ(s.flow_count(), 0U);
  // Least of all another pod's that has the same port.
  opens_as(s, pod(s, 1), s.node(40000), s.outside());
  s.pod(s.later(pod(s), s.outside())).passed(REASON_NOT_OURS);
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s, 1)).hop());
  EXPECT_EQ(s.flow_count(), 2U);
}

// By a port that is not its own, too: it is looked for where it was found.
void a_lost_direction_finds_its_port(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s, 0), s.node(40000), s.outside());
  const uint16_t port =
      s.pod(s.first(pod(s, 1), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
  s.lose_direction(false);
  s.pod(s.later(pod(s, 1), s.outside())).sent(s.later(s.node(port), s.outside()).hop());
  s.pod(s.later(pod(s, 0), s.outside())).sent(s.later(s.node(40000), s.outside()).hop());
}

// An endpoint's answer whose flow was lost is no connection of its own.
void a_lost_reply_of_a_service(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
  s.pod(s.answer(s.local(), s.client())).sent(s.answer(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local()).hop());
  s.lose_direction(true);
  s.pod(s.later(s.local(), s.client()));
  s.age_flows(1);
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local()).hop());
  s.pod(s.later(s.local(), s.client())).sent(s.later(s.node(), s.client()).hop());
}

// A pod's answers are never another pod's, even before there was any.
void a_lost_reply_that_another_pod_has(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s, 0), s.node(40000), s.outside());
  s.lose_direction(true);
  opens_as(s, pod(s, 1), s.node(40000), s.outside());
  s.age_flows(1);
  s.pod(s.later(pod(s, 0), s.outside()));  // notices it
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s, 1)).hop());
}

// One that was answered is, and is not given up for the connection whose reply it took: that moves.
void an_established_one_keeps_a_lost_reply(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.cluster.node_port(s.node(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
  s.lose_direction(true);
  opens_as(s, s.local(), s.node(8080), s.client());
  s.uplink(s.answer(s.client(), s.node(8080))).sent(s.answer(s.client(), s.local()).hop());
  s.pod(s.later(s.local(), s.client())).sent(s.later(s.node(8080), s.client()).hop());
  s.age_flows(1);
  s.uplink(s.later(s.client(), s.node()));  // notices it
  s.pod(s.later(s.local(), s.client())).sent(s.later(s.node(8080), s.client()).hop());
  const uint16_t moved =
      s.uplink(s.later(s.client(), s.node())).sent_from_new_port(s.later(s.client(), s.local()).hop());
  s.pod(s.later(s.local(), s.client(moved))).sent(s.later(s.node(), s.client()).hop());
  s.uplink(s.later(s.client(), s.node(8080))).sent(s.later(s.client(), s.local()).hop());
}

void a_lost_direction_comes_back(Scenario& s) {
  model(s, NETWORK_KUBENET);
  for (const bool reply : {false, true}) {
    opens_as(s, pod(s, 0), s.node(40000), s.outside());
    s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s, 0)).hop());
    s.lose_direction(reply);
    s.age_flows(1);
    s.pod(s.later(pod(s, 0), s.outside())).sent(s.later(s.node(40000), s.outside()).hop());
    s.uplink(s.later(s.outside(), s.node(40000))).sent(s.later(s.outside(), pod(s, 0)).hop());
    EXPECT_EQ(s.flow_count(), 2U);
  }
}

void the_stack_tells_who_was_too_far(Scenario& s) {
  model(s, NETWORK_KUBENET);
  s.pod(s.first(pod(s), s.outside()).ttl(1)).passed(REASON_NOT_OURS);
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.pod(s.later(pod(s), s.outside()).ttl(1)).passed(REASON_NOT_OURS);
  // Who is outside is told nothing, and the pod nothing of its services.
  s.uplink(s.answer(s.outside(), s.node(40000)).ttl(1)).dropped(REASON_TTL_EXCEEDED);
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  s.program();
  s.pod(s.first(pod(s), s.vip())).sent(s.first(pod(s), s.other_pod()).hop());
  s.pod(s.later(pod(s), s.vip()).ttl(1)).dropped(REASON_TTL_EXCEEDED);
}

void strangers_to_the_node_stay_the_nodes(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.uplink(s.answer(s.client(443), s.node(40000))).passed(REASON_NOT_OURS);
  s.uplink(s.answer(s.outside(), s.node(40001))).passed(REASON_NOT_OURS);
}

// Also when the agent has noted anew who has flows.
void replies_are_known_by_their_bits(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  s.rotate_flow_bits();
  s.uplink(s.answer(s.outside(), s.node(40000))).sent(s.answer(s.outside(), pod(s)).hop());
}

// ---- not plain -----------------------------------------------------------------------------------

Packet error_about(const Scenario& s, const HostPort& from, const Packet& about) {
  return Packet::icmp(from.address, about.source().address, s.v4() ? 3 : 1, s.v4() ? 3 : 4).about(about, 9999);
}

void errors_both_ways(Scenario& s) {
  model(s, NETWORK_KUBENET);
  const HostPort router = s.pick("192.168.50.254:0", "[fd50::254]:0");
  opens_as(s, pod(s, 0), s.node(40000), s.outside());
  const uint16_t port =
      s.pod(s.first(pod(s, 1), s.outside())).sent_from_new_port(s.first(s.node(0), s.outside()).hop());
  for (const auto& [n, as] : {std::pair<int, uint16_t>{0, 40000}, {1, port}}) {
    const Packet out = s.later(s.node(as), s.outside()).hop(), sent = s.later(pod(s, n), s.outside()).hop();
    s.uplink(error_about(s, router, out)).sent(error_about(s, router, sent).hop());
    s.uplink(error_about(s, s.outside(), out)).sent(error_about(s, s.outside(), sent).hop());
    const Packet in = s.answer(s.outside(), pod(s, n)).hop(), came = s.answer(s.outside(), s.node(as)).hop();
    s.pod(error_about(s, pod(s, n), in)).sent(error_about(s, s.node(), came).hop());
  }
}

// About what the node opens by another port than it wanted, and about the answers to it.
void errors_about_what_the_node_opens(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  const Packet wanted = s.first(s.node(40000), s.outside());
  const Outcome out = s.leave(wanted, kUp0);
  const HostPort changed = s.node(parse(out.last().frame).source_port);
  const Packet sent = s.first(changed, s.outside());
  out.let_out(REASON_NODE_PORT_CHANGED, sent);
  const HostPort router = s.pick("192.168.50.254:0", "[fd50::254]:0");
  s.uplink(error_about(s, router, sent)).delivered(error_about(s, router, wanted));
  const Packet came = s.answer(s.outside(), changed), seen = s.answer(s.outside(), s.node(40000));
  s.leave(error_about(s, s.node(), seen), kUp0).let_out(REASON_NODE_REPLY, error_about(s, s.node(), came));
}

std::vector<Packet> pieces(const Packet& whole) {
  std::vector<Packet> result;
  for (size_t at = 0; at < whole.size_to_part(); at += 64) result.push_back(whole.part(static_cast<uint16_t>(at), 64));
  return result;
}

void fragments(Scenario& s) {
  model(s, NETWORK_KUBENET);
  const Packet whole = s.first(pod(s), s.outside()).dont_fragment(false).payload_size(200);
  const Packet back = s.answer(s.outside(), s.node(40000)).dont_fragment(false).payload_size(200).id(9);
  const auto in = pieces(whole), out = pieces(whole.from(s.node(40000)));
  const auto came = pieces(back), went = pieces(back.to(pod(s)));
  for (size_t i = 0; i < in.size(); ++i) s.pod(in[i]).sent(out[i].hop());
  for (size_t i = 0; i < came.size(); ++i) s.uplink(came[i]).sent(went[i].hop());
}

// They would show the pod's address to hosts that cannot put them together.
void later_fragments_of_nobody(Scenario& s) {
  model(s, NETWORK_KUBENET);
  const Packet whole = s.first(pod(s), s.outside()).dont_fragment(false).payload_size(200);
  s.pod(whole.part(64, 64)).dropped(REASON_FRAGMENT);
  s.pod(whole.to(s.remote()).part(64, 64)).passed(REASON_NOT_OURS);
}

void large_packets_stay_large(Scenario& s) {
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  const Packet large = s.later(pod(s), s.outside()).payload_size(2800);
  s.arrive({large.bytes(), kPod0, 2}, true).sent(large.from(s.node(40000)).hop());
}

// Its sender has sized every chunk: there is no one size of segments.
void large_packets_of_sctp_stay_large(Scenario& s) {
  if (!s.plane.native()) return;  // its test frames have no list of fragments
  model(s, NETWORK_KUBENET);
  opens_as(s, pod(s), s.node(40000), s.outside());
  const Packet large = s.later(pod(s), s.outside()).payload_size(2800);
  s.arrive({large.bytes(), kPod0, 2, 0, false, 0xffff}, true).sent(large.from(s.node(40000)).hop());
}

void too_long_for_the_way(Scenario& s) {
  model(s, NETWORK_CUSTOM);
  s.cluster.not_masqueraded.clear();
  const HostPort narrow = s.pick("10.4.0.10:80", "[fd04::10]:80");
  opens_as(s, pod(s), s.node(40000), narrow);
  const Packet packet = s.later(pod(s), narrow).payload_size(1430);
  s.pod(packet).rejected(REASON_TOO_BIG, too_big(packet, 1400));
}

}  // namespace

std::vector<Case> masquerade_cases() {
  return {
      {"point19_kubenet_to_the_outside_and_back", kubenet_to_the_outside_and_back},
      {"point19_kubenet_not_inside_the_cluster", kubenet_not_inside_the_cluster},
      {"point19_azure_cni_leaves_the_virtual_network", azure_cni_leaves_the_virtual_network},
      {"point19_custom_ranges", custom_ranges},
      {"point19_none_never", none_never},
      {"point19_only_what_pods_send", only_what_pods_send},
      {"point19_services_come_first", services_come_first},
      {"point19_an_endpoint_outside", an_endpoint_outside},
      {"point19_an_endpoint_without_a_route", an_endpoint_without_a_route},
      {"point19_the_address_of_the_device_that_the_route_chose", the_address_of_the_device_that_the_route_chose},
      {"point19_towards_a_neighbour_that_is_not_known", towards_a_neighbour_that_is_not_known},
      {"point19_routed_by_the_pods_own_address", routed_by_the_pods_own_address},
      {"point19_no_address_on_the_device", no_address_on_the_device},
      {"point19_what_leaves_by_no_uplink", what_leaves_by_no_uplink},
      {"point19_not_to_many", not_to_many},
      {"point19_the_own_port_unless_another_has_it", the_own_port_unless_another_has_it},
      {"point19_a_port_that_a_socket_of_the_node_has", a_port_that_a_socket_of_the_node_has, Case::no_sctp},
      {"point19_a_port_that_the_node_wants_later", a_port_that_the_node_wants_later},
      {"point19_a_port_that_the_node_uses_again", a_port_that_the_node_uses_again, Case::tcp_only},
      {"point19_every_port_of_the_range", every_port_of_the_range},
      {"point19_an_answer_to_the_outside", an_answer_to_the_outside, Case::tcp_only},
      {"point19_a_reset_of_nobody", a_reset_of_nobody, Case::tcp_only},
      {"point19_in_the_middle_of_a_connection", in_the_middle_of_a_connection, Case::tcp_only},
      {"point19_a_lost_reply_of_a_service", a_lost_reply_of_a_service},
      {"point19_a_lost_reply_that_another_pod_has", a_lost_reply_that_another_pod_has},
      {"point19_an_established_one_keeps_a_lost_reply", an_established_one_keeps_a_lost_reply},
      {"point19_a_lost_direction_comes_back", a_lost_direction_comes_back},
      {"point19_a_lost_direction_finds_its_port", a_lost_direction_finds_its_port},
      {"point19_the_stack_tells_who_was_too_far", the_stack_tells_who_was_too_far},
      {"point19_strangers_to_the_node_stay_the_nodes", strangers_to_the_node_stay_the_nodes},
      {"point19_replies_are_known_by_their_bits", replies_are_known_by_their_bits},
      {"point19_errors_both_ways", errors_both_ways},
      {"point19_errors_about_what_the_node_opens", errors_about_what_the_node_opens},
      {"point19_fragments", fragments},
      {"point19_later_fragments_of_nobody", later_fragments_of_nobody},
      {"point19_large_packets_stay_large", large_packets_stay_large, Case::no_sctp},
      {"point19_large_packets_of_sctp_stay_large", large_packets_of_sctp_stay_large, Case::sctp_only},
      {"point19_too_long_for_the_way", too_long_for_the_way},
  };
}

}  // namespace maglane::test
