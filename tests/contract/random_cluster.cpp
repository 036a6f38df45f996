// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/random_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <tuple>

namespace maglane::test {
namespace {

struct Pair {
  const char* ipv4;
  const char* ipv6;
};

// As random_world.cpp sends to them.
constexpr Pair kClusterIps[] = {{"172.20.0.10", "fc00::10"}, {"172.20.0.11", "fc00::11"}, {"172.20.0.12", "fc00::12"}};
constexpr Pair kExternalIps[] = {{"203.0.113.10", "2001:db8:1b::10"}, {"203.0.113.11", "2001:db8:1b::11"}};
constexpr Pair kRanges[] = {{"198.51.100.0/29", "2001:db8:c::/125"}, {"10.1.0.0/16", "fd01::/48"}, {"192.168.0.0/16", "fd50::/64"}};
struct Pod {
  Pair address;
  const char* node;
};
constexpr Pod kPods[] = {{{"10.1.0.10", "fd01::10"}, "node-a"},
                         {{"10.1.0.11", "fd01::11"}, "node-a"},
                         {{"10.1.1.10", "fd01:0:0:1::10"}, "node-a"},
                         {{"10.2.0.10", "fd02::10"}, "node-b"},
                         {{"10.3.0.10", "fd03::10"}, "node-b"}};
constexpr const char* kTypes[] = {"ClusterIP", "NodePort", "LoadBalancer", "NodePort", "LoadBalancer", "ExternalName"};

std::string text(const World& world, const Pair& pair) {
  return world.family() == Family::ipv4 ? pair.ipv4 : pair.ipv6;
}

void add_ports(v1::ServiceSpec& spec, const World& world, uint32_t choice) {
  const bool tcp = world.protocol() == kProtoTcp;
  const auto add = [&](const char* name, int port, int node_port, bool same_protocol) {
    v1::ServicePort& one = *spec.add_ports();
    one.set_name(name);
    one.set_port(port);
    one.set_node_port(node_port);
    one.set_protocol(tcp == same_protocol ? "TCP" : "UDP");
  };
  add("a", choice & 1 ? 443 : 80, choice & 2 ? 30081 : 30080, true);
  if (choice & 4) add("b", 81, 30081, true);
  if (choice & 8) add("c", 80, 30080, false);
}

std::shared_ptr<const v1::Service> service_of(const World& world, const std::string& name, const RandomService& choice) {
  auto service = std::make_shared<v1::Service>();
  v1::ServiceSpec& spec = *service->mutable_spec();
  service->mutable_metadata()->set_namespace_("default");
  service->mutable_metadata()->set_name(name);
  if (choice.policies & 4)
    service->mutable_metadata()->set_creation_timestamp(fmt::format("2025-01-0{}T00:00:00Z", 1 + (choice.policies >> 3 & 3)));
  spec.set_type(kTypes[choice.type % std::size(kTypes)]);
  const bool headless = choice.addresses % 16 == 15;
  const std::string cluster_ip = headless ? "None" : text(world, kClusterIps[choice.addresses % std::size(kClusterIps)]);
  spec.set_cluster_ip(cluster_ip);
  spec.add_cluster_ips(cluster_ip);
  if (choice.addresses & 0x10) spec.add_external_ips(text(world, kExternalIps[choice.addresses >> 5 & 1]));
  v1::LoadBalancerIngress& ingress = *service->mutable_status()->mutable_load_balancer()->add_ingress();
  ingress.set_ip(text(world, kExternalIps[choice.addresses >> 6 & 1]));
  if (choice.addresses & 0x80) ingress.set_ip_mode("Proxy");
  if (choice.policies & 32)
    for (const Pair& range : kRanges)
      if (choice.policies >> (6 + (&range - kRanges)) & 1) spec.add_load_balancer_source_ranges(text(world, range));
  if (choice.policies & 1) spec.set_internal_traffic_policy("Local");
  if (choice.policies & 2) spec.set_external_traffic_policy("Local");
  add_ports(spec, world, choice.addresses >> 8);
  return service;
}

// 0 to 2: not there; 3: not ready; 4: serving and terminating; 5: gone; else ready.
void add_endpoint(v1::EndpointSlice& slice, const World& world, const Pod& pod, uint32_t condition, uint32_t hints) {
  if (condition < 3) return;
  v1::Endpoint& endpoint = *slice.add_endpoints();
  endpoint.add_addresses(text(world, pod.address));
  endpoint.set_node_name(pod.node);
  v1::EndpointConditions& conditions = *endpoint.mutable_conditions();
  if (condition < 6) conditions.set_ready(false);
  if (condition == 4 || condition == 5) conditions.set_terminating(true);
  if (condition == 4) conditions.set_serving(true);
  if (hints & 1) endpoint.mutable_hints()->add_for_zones()->set_name(hints & 2 ? "z1" : "z2");
  if (hints == 2) endpoint.mutable_hints()->add_for_nodes()->set_name(pod.node);
}

std::shared_ptr<const v1::EndpointSlice> slice_of(const World& world, const std::string& name, const RandomService& choice) {
  auto slice = std::make_shared<v1::EndpointSlice>();
  slice->mutable_metadata()->set_namespace_("default");
  slice->mutable_metadata()->set_name(name + "-1");
  (*slice->mutable_metadata()->mutable_labels())["kubernetes.io/service-name"] = name;
  slice->set_address_type(std::string(to_string(world.family())));
  for (size_t i = 0; i < std::size(kPods); ++i)
    add_endpoint(*slice, world, kPods[i], choice.endpoints >> (3 * i) & 7, choice.hints >> (2 * i) & 3);
  for (const char* port : {"a", "b", "c"}) {
    v1::EndpointPort& one = *slice->add_ports();
    one.set_name(port);
    one.set_port(8080);
    one.set_protocol((world.protocol() == kProtoTcp) == (port[0] != 'c') ? "TCP" : "UDP");
  }
  return slice;
}

std::vector<HostPort> endpoints_of(const EndpointSet& set) {
  std::vector<HostPort> endpoints;
  for (const ResolvedEndpoint& endpoint : set.endpoints) endpoints.emplace_back(endpoint.address, endpoint.port);
  return endpoints;
}

abi::empty_verdict verdict_of(const EndpointSet& set) {
  return set.when_empty == EmptyVerdict::drop ? abi::EMPTY_DROP : abi::EMPTY_REJECT;
}

FrontendFixture meaning_of(const ResolvedServicePort& port, const ResolvedFrontend& frontend) {
  FrontendFixture fixture{static_cast<abi::frontend_type>(frontend.type),
                          HostPort(frontend.address, frontend.port),
                          static_cast<uint8_t>(port.key.protocol),
                          endpoints_of(*frontend.for_outside),
                          endpoints_of(*frontend.for_pods),
                          verdict_of(*frontend.for_outside),
                          verdict_of(*frontend.for_pods)};
  fixture.external_local = frontend.external_local;
  fixture.service = port.key.to_string();
  if (frontend.limited) {
    fixture.source_ranges.emplace();
    for (const Cidr& range : port.source_ranges) fixture.source_ranges->push_back(range.to_string());
  }
  return fixture;
}

}  // namespace

void put_service(ClusterModel& model, const World& world, size_t n, const RandomService& choice) {
  const std::string name = fmt::format("s{}", n);
  model.services[{"default", name}] = service_of(world, name, choice);
  model.slices[{"default", name + "-1"}] = slice_of(world, name, choice);
}

NodeContext random_node() {
  NodeContext node;
  node.node_name = "node-a";
  node.zone = "z1";
  node.node_addresses = node.local_addresses = {ip(Network::kNodeAddress4), ip(Network::kNodeAddress6)};
  return node;
}

Cluster meaning_of(const ResolvedCluster& resolved, const World& world) {
  Cluster cluster;
  cluster.config.masquerade_all = world.masquerade_all();
  cluster.config.snat_port_count[0] = 2;
  cluster.config.snat_port_count[1] = 1;
  cluster.flow_capacity = world.small_table() ? 7 : 310;
  // Who is older keeps an address; what is put last wins, so the youngest go first.
  std::vector<std::pair<const ResolvedService*, const ResolvedServicePort*>> ports;
  for (const auto& [key, service] : resolved)
    for (const ResolvedServicePort& port : service->ports) ports.emplace_back(service.get(), &port);
  const auto age = [](const auto& one) {
    return std::tuple(one.first->created.empty(), one.first->created, one.second->key);
  };
  std::ranges::sort(ports, [&](const auto& a, const auto& b) { return age(b) < age(a); });
  for (const auto& [service, port] : ports)
    for (const ResolvedFrontend& frontend : port->frontends)
      cluster.frontend(meaning_of(*port, frontend));
  return cluster;
}

std::ostream& operator<<(std::ostream& out, const RandomService& service) {
  return out << fmt::format("{{{}, {:#x}, {:#x}, {:#o}, {:#x}}}", service.type, service.addresses, service.policies,
                            service.endpoints, service.hints);
}

}  // namespace maglane::test
