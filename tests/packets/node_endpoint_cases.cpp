// SPDX-License-Identifier: Apache-2.0
//
// Endpoints in the network of the node itself: what is theirs goes to the node's own stack,
// what they answer is met where it leaves a device.
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

using namespace abi;

HostPort endpoint(const Scenario& s) { return s.node(8080); }

void node_endpoint_from_outside(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint(s)});
  s.uplink(s.first(s.client(), s.node())).delivered(s.first(s.client(), endpoint(s)));
  s.leave(s.answer(endpoint(s), s.client()), kUp0)
      .let_out(REASON_NODE_REPLY, s.answer(s.node(), s.client()));
  s.uplink(s.later(s.client(), s.node())).delivered(s.later(s.client(), endpoint(s)));
  // Whichever device it leaves by.
  s.leave(s.later(endpoint(s), s.client()), kUp1).let_out(REASON_NODE_REPLY, s.later(s.node(), s.client()));
  EXPECT_EQ(s.flow_count(), 2U);
}

void node_endpoint_from_a_pod(Scenario& s) {
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {endpoint(s)});
  const HostPort pod = s.local(0, 40000);
  s.pod(s.first(pod, s.vip())).delivered(s.first(pod, endpoint(s)));
  s.leave(s.answer(endpoint(s), pod), kPod0).let_out(REASON_NODE_REPLY, s.answer(s.vip(), pod));
}

// The node's stack takes nothing that comes from its own address: no masquerade.
void point15_node_endpoint_is_never_masqueraded(Scenario& s) {
  s.cluster.config.masquerade_all = 1;
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {endpoint(s)});
  s.uplink(s.first(s.client(), s.vip())).delivered(s.first(s.client(), endpoint(s)));
  s.pod(s.first(s.local(0, 40000), s.vip())).delivered(s.first(s.local(0, 40000), endpoint(s)));
}

void node_endpoint_is_the_last_hop(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint(s)});
  s.uplink(s.first(s.client(), s.node()).ttl(1)).delivered(s.first(s.client(), endpoint(s)).ttl(1));
  s.leave(s.answer(endpoint(s), s.client()).ttl(1), kUp0)
      .let_out(REASON_NODE_REPLY, s.answer(s.node(), s.client()).ttl(1));
}

void node_endpoint_shared_by_two_frontends(Scenario& s) {
  s.cluster.node_port(s.node(30080), s.variant.protocol, {endpoint(s)})
      .node_port(s.node(30081), s.variant.protocol, {endpoint(s)});
  s.uplink(s.first(s.client(), s.node(30080))).delivered(s.first(s.client(), endpoint(s)));
  const Outcome second = s.uplink(s.first(s.client(), s.node(30081)));
  const Parsed out = parse(second.last().frame);
  EXPECT_NE(out.source_port, s.client().port) << "two connections look alike to the endpoint";
  EXPECT_EQ(out.source, s.client().address);
  s.leave(s.answer(endpoint(s), s.client()), kUp0)
      .let_out(REASON_NODE_REPLY, s.answer(s.node(30080), s.client()));
  s.leave(s.answer(endpoint(s), s.client(out.source_port)), kUp0)
      .let_out(REASON_NODE_REPLY, s.answer(s.node(30081), s.client()));
}

void node_endpoint_lost_directions_come_back(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint(s)});
  for (const bool reply : {false, true}) {
    s.uplink(s.first(s.client(), s.node())).delivered(s.first(s.client(), endpoint(s)));
    s.leave(s.answer(endpoint(s), s.client()), kUp0)
        .let_out(REASON_NODE_REPLY, s.answer(s.node(), s.client()));
    s.lose_direction(reply);
    s.age_flows(1);
    if (reply)
      s.uplink(s.later(s.client(), s.node())).delivered(s.later(s.client(), endpoint(s)));
    else
      s.leave(s.later(endpoint(s), s.client()), kUp0)
          .let_out(REASON_NODE_REPLY, s.later(s.node(), s.client()));
    EXPECT_EQ(s.flow_count(), 2U);
  }
}

void what_else_leaves_is_left_alone(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {s.remote()}).cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  const auto as_it_is = [&](const Packet& packet, uint32_t device) {
    s.leave(packet, device).let_out(REASON_NOT_OURS, packet);
  };
  as_it_is(s.first(s.node(45000), s.client(80)), kUp0);
  // What was translated where it came in passes the egress hook of the device it is sent to.
  const uint16_t port =
      s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  as_it_is(s.first(s.node(port), s.remote()).hop(), kUp0);
  s.uplink(s.answer(s.remote(), s.node(port))).sent(s.answer(s.node(), s.client()).hop());
  as_it_is(s.answer(s.node(), s.client()).hop(), kUp0);
  s.pod(s.first(s.local(1, 40000), s.vip())).sent(s.first(s.local(1, 40000), s.local()).hop());
  as_it_is(s.answer(s.local(), s.local(1, 40000)), kPod0);
  as_it_is(Packet::icmp(s.node().address, s.client().address, s.v4() ? 8 : 128, 0), kUp0);
  s.leave(Packet::ethernet(0x0806), kUp0).let_out(REASON_NOT_IP, Packet::ethernet(0x0806));
}

// A frame that pretends to be an answer of the node's own.
void node_replies_do_not_come_in(Scenario& s) {
  s.cluster.node_port(s.node(), s.variant.protocol, {endpoint(s)});
  s.uplink(s.first(s.client(), s.node())).delivered(s.first(s.client(), endpoint(s)));
  s.uplink(s.answer(endpoint(s), s.client())).passed(REASON_NOT_OURS);
}

}  // namespace

std::vector<Case> node_endpoint_cases() {
  return {
      {"node_endpoint_from_outside", node_endpoint_from_outside},
      {"node_endpoint_from_a_pod", node_endpoint_from_a_pod},
      {"point15_node_endpoint_is_never_masqueraded", point15_node_endpoint_is_never_masqueraded},
      {"node_endpoint_is_the_last_hop", node_endpoint_is_the_last_hop},
      {"node_endpoint_shared_by_two_frontends", node_endpoint_shared_by_two_frontends},
      {"node_endpoint_lost_directions_come_back", node_endpoint_lost_directions_come_back},
      {"what_else_leaves_is_left_alone", what_else_leaves_is_left_alone},
      {"node_replies_do_not_come_in", node_replies_do_not_come_in},
  };
}

}  // namespace maglane::test
