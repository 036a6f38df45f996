// SPDX-License-Identifier: Apache-2.0
//
// What a service asks of its clients: traffic policies, source ranges, session affinity. And
// datagrams to endpoints that are gone. The numbers are those of the service contract's points.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "tests/packets/scenario.h"
#include "tests/packets/tables.h"

namespace maglane::test {
namespace {

using namespace abi;

HostPort balancer(const Scenario& s, uint16_t port = 443) {
  return {s.pick("203.0.113.10:0", "[2001:db8:1b::10]:0").address, port};
}

std::string whole(const HostPort& host) { return host.address.to_string(); }

FrontendFixture limited(const Scenario& s, const HostPort& address, std::vector<std::string> ranges) {
  FrontendFixture frontend{FRONTEND_LOAD_BALANCER, address, s.variant.protocol, {s.local()}, {s.local()}};
  frontend.source_ranges = std::move(ranges);
  return frontend;
}

FrontendFixture affine(const Scenario& s, const HostPort& address, const std::vector<HostPort>& endpoints,
                       uint32_t seconds = 10800) {
  FrontendFixture frontend{FRONTEND_NODE_PORT, address, s.variant.protocol, endpoints, endpoints};
  frontend.affinity_seconds = seconds;
  frontend.service = "affine";
  return frontend;
}

HostPort destination_of(const Outcome& outcome) {
  const Parsed out = parse(outcome.last().frame);
  return {out.destination, out.destination_port};
}

// ---- who comes under which address (15, 16, 18) --------------------------------------------

void point16_local_policy_and_a_pod_of_this_node(Scenario& s) {
  FrontendFixture frontend{FRONTEND_LOAD_BALANCER, balancer(s), s.variant.protocol, {s.local()}, {s.remote()}};
  frontend.external_local = true;
  s.cluster.frontend(frontend);
  const HostPort pod = s.local(1, 40000);
  s.pod(s.first(pod, balancer(s))).sent(s.first(pod, s.remote()).hop());
  s.uplink(s.answer(s.remote(), pod)).sent(s.answer(balancer(s), pod).hop());
}

// Its own node knows nothing of the connection: the reply must come by here.
void point16_local_policy_and_a_pod_of_another_node(Scenario& s) {
  FrontendFixture frontend{FRONTEND_NODE_PORT, s.node(), s.variant.protocol, {s.local()}, {s.remote_c()}};
  frontend.external_local = true;
  s.cluster.frontend(frontend);
  const HostPort pod = s.remote(40000);
  const uint16_t port =
      s.uplink(s.first(pod, s.node())).sent_from_new_port(s.first(s.node(0), s.remote_c()).hop());
  s.uplink(s.answer(s.remote_c(), s.node(port)), kUp1).sent(s.answer(s.node(), pod).hop());
}

void point16_local_policy_and_a_client_outside(Scenario& s) {
  FrontendFixture frontend{FRONTEND_NODE_PORT, s.node(), s.variant.protocol, {s.local()}, {s.remote()}};
  frontend.external_local = true;
  s.cluster.frontend(frontend);
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local()).hop());
}

void point16_local_policy_and_a_pod_that_reaches_itself(Scenario& s) {
  FrontendFixture frontend{FRONTEND_LOAD_BALANCER, balancer(s), s.variant.protocol, {}, {s.local()}};
  frontend.external_local = true;
  s.cluster.frontend(frontend);
  s.pod(s.first(s.local(0, 40000), balancer(s))).sent_from_new_port(s.first(s.node(0), s.local()).hop());
}

void point18_pods_by_interface_alone(Scenario& s) {
  s.cluster.config.pods_by = PODS_BY_DEVICE;
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.other_pod()).hop());
  s.uplink(s.first(s.remote(40000), s.vip())).sent_from_new_port(s.first(s.node(0), s.other_pod()).hop());
}

void point18_pods_by_cluster_cidr_alone(Scenario& s) {
  s.cluster.config.pods_by = PODS_BY_CLUSTER_CIDR;
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.other_pod()).hop());
  s.uplink(s.first(s.remote(40000), s.vip())).sent(s.first(s.remote(40000), s.other_pod()).hop());
  // Whatever comes from a pod device with another address is not a pod's.
  s.pod(s.first(s.client(40000), s.vip())).sent_from_new_port(s.first(s.node(0), s.other_pod()).hop());
}

void point18_pods_by_the_nodes_cidr_alone(Scenario& s) {
  s.cluster.config.pods_by = PODS_BY_NODE_CIDR;
  s.cluster.node_pod_cidrs = {"10.1.0.0/16", "fd01::/48"};
  s.cluster.cluster_ip(s.vip(), s.variant.protocol, {s.other_pod()});
  s.pod(s.first(s.local(0, 40000), s.vip())).sent(s.first(s.local(0, 40000), s.other_pod()).hop());
  s.uplink(s.first(s.remote(40000), s.vip())).sent_from_new_port(s.first(s.node(0), s.other_pod()).hop());
}

// ---- source ranges (22) -----------------------------------------------------------------------

void point22_only_sources_in_a_range(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s), {s.v4() ? "198.51.100.0/29" : "2001:db8:c::/125"}));
  const HostPort outside(ip(s.v4() ? "198.51.100.9" : "2001:db8:c::9"), 40000);
  s.uplink(s.first(s.client(), balancer(s))).sent(s.first(s.client(), s.local()).hop());
  s.uplink(s.first(outside, balancer(s))).dropped(REASON_SOURCE_RANGE);
  EXPECT_EQ(s.flow_count(), 2U);
}

void point22_pods_are_not_exempt(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s), {whole(s.client()), whole(s.local(1))}));
  s.pod(s.first(s.local(2, 40000), balancer(s))).dropped(REASON_SOURCE_RANGE);
  s.pod(s.first(s.local(1, 40000), balancer(s))).sent(s.first(s.local(1, 40000), s.local()).hop());
}

// Denied before it is told that there is no endpoint: silently.
void point22_denied_also_without_endpoints(Scenario& s) {
  FrontendFixture frontend = limited(s, balancer(s), {whole(s.local(1))});
  frontend.endpoints = frontend.pod_endpoints = {};
  s.cluster.frontend(frontend);
  s.uplink(s.first(s.client(), balancer(s))).dropped(REASON_SOURCE_RANGE);
  const Packet allowed = s.first(s.local(1, 40000), balancer(s));
  s.pod(allowed).rejected(REASON_NO_ENDPOINT, port_unreachable(allowed));
}

void point22_no_range_of_the_family_denies_all(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s), {s.v4() ? "::/0" : "0.0.0.0/0"}));
  s.uplink(s.first(s.client(), balancer(s))).dropped(REASON_SOURCE_RANGE);
}

void point22_the_whole_family(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s), {s.v4() ? "0.0.0.0/0" : "::/0"}));
  s.uplink(s.first(s.client(), balancer(s))).sent(s.first(s.client(), s.local()).hop());
}

void point22_ranges_are_the_services_own(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s, 443), {whole(s.client())}))
      .frontend(limited(s, balancer(s, 444), {whole(s.local(1))}))
      .cluster_ip(s.vip(), s.variant.protocol, {s.local()});
  s.uplink(s.first(s.client(), balancer(s, 443))).sent(s.first(s.client(), s.local()).hop());
  s.uplink(s.first(s.client(), balancer(s, 444))).dropped(REASON_SOURCE_RANGE);
  s.uplink(s.first(s.client(), s.vip())).sent_from_new_port(s.first(s.node(0), s.local()).hop());
}

// What was let in goes on when the ranges change.
void point22_established_connections_go_on(Scenario& s) {
  s.cluster.frontend(limited(s, balancer(s), {whole(s.client())}));
  s.uplink(s.first(s.client(), balancer(s))).sent(s.first(s.client(), s.local()).hop());
  s.pod(s.answer(s.local(), s.client())).sent(s.answer(balancer(s), s.client()).hop());
  s.cluster.frontend(limited(s, balancer(s), {whole(s.local(1))}));
  s.plane.erase_key("source_ranges", source_range_key(1, whole(s.client())));
  s.program();
  s.uplink(s.later(s.client(), balancer(s))).sent(s.later(s.client(), s.local()).hop());
  s.uplink(s.first(s.client(40001), balancer(s))).dropped(REASON_SOURCE_RANGE);
}

// ---- affinity (23) ----------------------------------------------------------------------------

void point23_a_client_stays_with_its_endpoint(Scenario& s) {
  const std::vector<HostPort> all = {s.local(0), s.local(1), s.local(2), s.other_pod()};
  s.cluster.frontend(affine(s, s.node(), all)).frontend(affine(s, s.node(30081), all));
  const HostPort chosen = destination_of(s.uplink(s.first(s.client(40000), s.node())));
  for (uint16_t port = 40001; port < 40040; ++port)
    s.uplink(s.first(s.client(port), s.node())).sent(s.first(s.client(port), chosen).hop());
  // Whatever the frontend.
  s.uplink(s.first(s.client(41000), s.node(30081))).sent(s.first(s.client(41000), chosen).hop());
  // Others are spread.
  std::set<HostPort> seen;
  for (int i = 1; i <= 40; ++i) {
    const HostPort other(ip((s.v4() ? "198.51.100." : "2001:db8:c::") + std::to_string(i + 20)), 40000);
    seen.insert(destination_of(s.uplink(s.first(other, s.node()))));
  }
  EXPECT_EQ(seen.size(), all.size());
}

void point23_services_are_told_apart(Scenario& s) {
  const std::vector<HostPort> all = {s.local(0), s.local(1), s.local(2), s.other_pod()};
  FrontendFixture second = affine(s, s.node(30081), all);
  second.service = "other";
  s.cluster.frontend(affine(s, s.node(), all)).frontend(second);
  int differs = 0;
  for (int i = 1; i <= 20; ++i) {
    const HostPort client(ip((s.v4() ? "198.51.100." : "2001:db8:c::") + std::to_string(i)), 40000);
    const HostPort one = destination_of(s.uplink(s.first(client, s.node())));
    differs += one != destination_of(s.uplink(s.first(client, s.node(30081))));
  }
  EXPECT_GT(differs, 5);
}

void point23_more_endpoints_change_nothing(Scenario& s) {
  s.cluster.frontend(affine(s, s.node(), {s.local(0)}));
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  s.cluster.frontend(affine(s, s.node(), {s.other_pod(), s.local(1), s.local(2), s.local(0)}));
  s.program();
  for (uint16_t port = 40001; port < 40020; ++port)
    s.uplink(s.first(s.client(port), s.node())).sent(s.first(s.client(port), s.local(0)).hop());
}

void point23_an_endpoint_that_left_is_picked_anew(Scenario& s) {
  s.cluster.frontend(affine(s, s.node(), {s.local(0)}));
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  s.cluster.frontend(affine(s, s.node(), {s.local(1), s.local(2)}));
  s.program();
  const HostPort chosen = destination_of(s.uplink(s.first(s.client(40001), s.node())));
  EXPECT_NE(chosen, s.local(0));
  // And held to, also when the first one is back.
  s.cluster.frontend(affine(s, s.node(), {s.local(0), s.local(1), s.local(2)}));
  s.program();
  for (uint16_t port = 40002; port < 40020; ++port)
    s.uplink(s.first(s.client(port), s.node())).sent(s.first(s.client(port), chosen).hop());
  // The connection that is open stays where it is.
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local(0)).hop());
}

affinity entry_of(Scenario& s, const HostPort& client) {
  affinity_key key{};
  key.service_id = 1;
  client.address.to_be(key.addr_be);
  const auto entry = s.plane.get_value<affinity>("affinity", key);
  EXPECT_TRUE(entry) << "no affinity of " << client.to_string();
  return entry.value_or(affinity{});
}

void put_entry(Scenario& s, const HostPort& client, const affinity& entry) {
  affinity_key key{};
  key.service_id = 1;
  client.address.to_be(key.addr_be);
  s.plane.put_value("affinity", key, entry);
}

void point23_refreshed_by_each_connection_and_over_in_the_end(Scenario& s) {
  const std::vector<HostPort> all = {s.local(0), s.local(1), s.local(2), s.other_pod()};
  // A slot of these constants is long: 2^30 ticks of which 1000 make a second.
  const uint32_t slot_seconds = (1U << 30) / 1000;
  s.cluster.frontend(affine(s, s.node(), all, 3 * slot_seconds));
  const HostPort chosen = destination_of(s.uplink(s.first(s.client(), s.node())));
  const affinity made = entry_of(s, s.client());
  EXPECT_EQ(made.backend_id, s.cluster.backend_id(chosen, s.variant.protocol));
  EXPECT_EQ(made.slot, s.plane.slot());

  affinity old = made;
  old.slot = (made.slot - 2) & STAMP_SLOT_MASK;
  put_entry(s, s.client(), old);
  s.uplink(s.first(s.client(40001), s.node())).sent(s.first(s.client(40001), chosen).hop());
  EXPECT_EQ(entry_of(s, s.client()).slot, s.plane.slot()) << "not refreshed";

  int moved = 0;
  for (uint16_t port = 40002; port < 40022; ++port) {
    old.slot = (made.slot - 4) & STAMP_SLOT_MASK;
    put_entry(s, s.client(), old);
    moved += destination_of(s.uplink(s.first(s.client(port), s.node()))) != chosen;
  }
  EXPECT_GT(moved, 5) << "an affinity that is over still holds";
}

// ---- datagrams (26) --------------------------------------------------------------------------------

service_endpoint gone(const Scenario& s, uint32_t service_id, const HostPort& address) {
  service_endpoint endpoint{};
  address.address.to_be(endpoint.addr_be);
  endpoint.service_id = service_id;
  endpoint.port_be = htons(address.port);
  endpoint.protocol = s.variant.protocol;
  endpoint.family = static_cast<uint8_t>(address.address.family());
  return endpoint;
}

void point26_datagrams_leave_an_endpoint_that_is_gone(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {s.local(0)}).node_port(s.node(30081), kProtoUdp, {s.local(0)});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  s.pod(s.answer(s.local(0), s.client())).sent(s.answer(s.node(), s.client()).hop());
  const uint16_t port = 40777;
  s.uplink(s.first(s.client(port), s.node(30081))).sent(s.first(s.client(port), s.local(0)).hop());
  s.cluster.node_port(s.node(), kProtoUdp, {s.local(1)});
  s.cluster.node_port(s.node(30081), kProtoUdp, {s.local(0)});
  s.program();
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local(0)).hop());
  EXPECT_EQ(s.forget({gone(s, 1, s.local(0))}), 1U);  // with its other direction
  s.uplink(s.later(s.client(), s.node())).sent(s.later(s.client(), s.local(1)).hop());
  s.pod(s.answer(s.local(1), s.client())).sent(s.answer(s.node(), s.client()).hop());
  // The other service still has it.
  s.uplink(s.later(s.client(port), s.node(30081))).sent(s.later(s.client(port), s.local(0)).hop());
  EXPECT_EQ(s.flow_count(), 4U);
}

void point26_translated_sources_too(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {s.remote()});
  s.uplink(s.first(s.client(), s.node())).sent_from_new_port(s.first(s.node(0), s.remote()).hop());
  s.lose_direction(false);
  EXPECT_EQ(s.forget({gone(s, 1, s.remote())}), 1U);
  EXPECT_EQ(s.flow_count(), 0U);
}

void point26_other_endpoints_and_ports_are_left_alone(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {s.local(0)});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  EXPECT_EQ(s.forget({gone(s, 1, s.local(1)), gone(s, 2, s.local(0)), gone(s, 1, s.local(0, 8081))}), 0U);
  EXPECT_EQ(s.flow_count(), 2U);
}

void point26_connections_are_never_cut(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoTcp, {s.local(0)});
  s.uplink(s.first(s.client(), s.node())).sent(s.first(s.client(), s.local(0)).hop());
  EXPECT_EQ(s.forget({gone(s, 1, s.local(0))}), 0U);
  EXPECT_EQ(s.flow_count(), 2U);
}

void point26_a_datagram_before_there_was_an_endpoint(Scenario& s) {
  s.cluster.node_port(s.node(), kProtoUdp, {});
  const Packet packet = s.first(s.client(), s.node());
  s.uplink(packet).rejected(REASON_NO_ENDPOINT, port_unreachable(packet));
  s.cluster.node_port(s.node(), kProtoUdp, {s.local()});
  s.program();
  s.uplink(packet).sent(s.first(s.client(), s.local()).hop());
}

}  // namespace

std::vector<Case> policy_cases() {
  return {
      {"point16_local_policy_and_a_pod_of_this_node", point16_local_policy_and_a_pod_of_this_node},
      {"point16_local_policy_and_a_pod_of_another_node", point16_local_policy_and_a_pod_of_another_node},
      {"point16_local_policy_and_a_client_outside", point16_local_policy_and_a_client_outside},
      {"point16_local_policy_and_a_pod_that_reaches_itself", point16_local_policy_and_a_pod_that_reaches_itself},
      {"point18_pods_by_interface_alone", point18_pods_by_interface_alone},
      {"point18_pods_by_cluster_cidr_alone", point18_pods_by_cluster_cidr_alone},
      {"point18_pods_by_the_nodes_cidr_alone", point18_pods_by_the_nodes_cidr_alone},
      {"point22_only_sources_in_a_range", point22_only_sources_in_a_range},
      {"point22_pods_are_not_exempt", point22_pods_are_not_exempt},
      {"point22_denied_also_without_endpoints", point22_denied_also_without_endpoints},
      {"point22_no_range_of_the_family_denies_all", point22_no_range_of_the_family_denies_all},
      {"point22_the_whole_family", point22_the_whole_family},
      {"point22_ranges_are_the_services_own", point22_ranges_are_the_services_own},
      {"point22_established_connections_go_on", point22_established_connections_go_on},
      {"point23_a_client_stays_with_its_endpoint", point23_a_client_stays_with_its_endpoint},
      {"point23_services_are_told_apart", point23_services_are_told_apart},
      {"point23_more_endpoints_change_nothing", point23_more_endpoints_change_nothing},
      {"point23_an_endpoint_that_left_is_picked_anew", point23_an_endpoint_that_left_is_picked_anew},
      {"point23_refreshed_by_each_connection_and_over_in_the_end",
       point23_refreshed_by_each_connection_and_over_in_the_end},
      {"point26_datagrams_leave_an_endpoint_that_is_gone", point26_datagrams_leave_an_endpoint_that_is_gone,
       Case::udp_only},
      {"point26_translated_sources_too", point26_translated_sources_too, Case::udp_only},
      {"point26_other_endpoints_and_ports_are_left_alone", point26_other_endpoints_and_ports_are_left_alone,
       Case::udp_only},
      {"point26_connections_are_never_cut", point26_connections_are_never_cut, Case::tcp_only},
      {"point26_a_datagram_before_there_was_an_endpoint", point26_a_datagram_before_there_was_an_endpoint,
       Case::udp_only},
  };
}

}  // namespace maglane::test
