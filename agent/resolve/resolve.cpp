// SPDX-License-Identifier: Apache-2.0
#include "agent/resolve/resolve.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace maglane {
namespace {

constexpr char kOtherProxyLabel[] = "service.kubernetes.io/service-proxy-name";

bool is_ours(const v1::Service& service) {
  return service.spec().type() != "ExternalName" && !service.metadata().labels().contains(kOtherProxyLabel);
}

std::optional<Protocol> protocol_of(const v1::ServicePort& port) {
  if (port.protocol().empty() || port.protocol() == "TCP") return Protocol::tcp;
  if (port.protocol() == "UDP") return Protocol::udp;
  if (port.protocol() == "SCTP") return Protocol::sctp;
  return std::nullopt;
}

// The service's addresses of each kind. A source has made sure that they are well-formed;
// the "None" of a headless service is no address.
struct Addresses {
  std::vector<IpAddress> cluster, external, balancer;
};

void add(std::vector<IpAddress>& addresses, const std::string& text) {
  if (const auto address = IpAddress::parse(text)) addresses.push_back(*address);
}

Addresses addresses_of(const v1::Service& service) {
  const auto& spec = service.spec();
  Addresses addresses;
  for (const auto& text : spec.cluster_ips()) add(addresses.cluster, text);
  if (spec.cluster_ips().empty()) add(addresses.cluster, spec.cluster_ip());
  for (const auto& text : spec.external_ips()) add(addresses.external, text);
  if (spec.type() == "LoadBalancer")
    for (const auto& ingress : service.status().load_balancer().ingress())
      if (ingress.ip_mode().empty() || ingress.ip_mode() == "VIP") add(addresses.balancer, ingress.ip());
  return addresses;
}

constexpr uint32_t kAffinitySeconds = 10800;  // of Kubernetes

uint32_t affinity_of(const v1::ServiceSpec& spec) {
  if (spec.session_affinity() != "ClientIP") return 0;
  const auto& config = spec.session_affinity_config().client_ip();
  return config.timeout_seconds() > 0 ? static_cast<uint32_t>(config.timeout_seconds()) : kAffinitySeconds;
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Who may use the load-balancer addresses. A node that has such an address for its own sends
// from it to itself: where the ranges let the node in, they let its packets in by that name too.
std::vector<Cidr> source_ranges_of(const v1::ServiceSpec& spec, const std::vector<IpAddress>& balancer,
                                   const NodeView& node, Family family) {
  std::vector<Cidr> ranges;
  for (const auto& text : spec.load_balancer_source_ranges())
    if (const auto range = Cidr::parse(trimmed(text), true); range && range->family() == family)
      ranges.push_back(*range);
  const bool node_may = std::any_of(ranges.begin(), ranges.end(), [&](const Cidr& range) {
    return std::any_of(node.primary_addresses.begin(), node.primary_addresses.end(),
                       [&](const IpAddress& address) { return range.contains(address); });
  });
  if (node_may)
    for (const IpAddress& address : balancer)
      if (address.family() == family) ranges.push_back(*Cidr::parse(address.to_string()));
  std::sort(ranges.begin(), ranges.end());
  ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
  return ranges;
}

std::vector<std::pair<IpAddress, uint16_t>> serving_of(const std::vector<Candidate>& candidates) {
  std::vector<std::pair<IpAddress, uint16_t>> serving;
  for (const Candidate& candidate : candidates)
    if (candidate.serving) serving.emplace_back(candidate.endpoint.address, candidate.endpoint.port);
  return serving;
}

// Equal sets share one object, so that they share one table.
EndpointSetPtr shared(EndpointSet set, const EndpointSetPtr& other) {
  if (other != nullptr && *other == set) return other;
  return std::make_shared<const EndpointSet>(std::move(set));
}

// What a service port's frontends of each kind reach.
struct Reach {
  EndpointSetPtr internal;
  EndpointSetPtr external_outside, external_pods;
};

Reach reach_of(const v1::ServiceSpec& spec, const std::vector<Candidate>& candidates, const NodeView& node) {
  const EndpointSetPtr cluster = shared(cluster_set(candidates, node), nullptr);
  const EndpointSetPtr local = shared(local_set(candidates), cluster);
  // A pod's packet to an external address is short-cut to the whole cluster: it has not
  // come through a load balancer that knows which nodes have endpoints.
  return {spec.internal_traffic_policy() == "Local" ? local : cluster,
          spec.external_traffic_policy() == "Local" ? local : cluster, cluster};
}

class PortResolver {
 public:
  PortResolver(const v1::Service& service, const Addresses& addresses, const NodeView& node)
      : spec_(service.spec()), addresses_(addresses), node_(node) {}

  ResolvedServicePort run(const ServicePortKey& key, const v1::ServicePort& port, const Reach& reach) {
    ResolvedServicePort resolved{key, static_cast<uint16_t>(port.port()), {}};
    frontends_ = &resolved.frontends;
    family_ = key.family;
    put(FrontendType::cluster_ip, addresses_.cluster, port.port(), reach.internal, reach.internal);
    if (port.node_port() != 0 && (spec_.type() == "NodePort" || spec_.type() == "LoadBalancer"))
      put(FrontendType::node_port, node_.node_port_addresses, port.node_port(), reach.external_outside,
          reach.external_pods);
    // Before external IPs, so that no second mention of an address lifts its limits.
    put(FrontendType::load_balancer, addresses_.balancer, port.port(), reach.external_outside,
        reach.external_pods);
    put(FrontendType::external_ip, addresses_.external, port.port(), reach.external_outside,
        reach.external_pods);
    std::sort(frontends_->begin(), frontends_->end(), [](const auto& a, const auto& b) {
      return std::tie(a.type, a.address, a.port) < std::tie(b.type, b.address, b.port);
    });
    return resolved;
  }

 private:
  // An address that the service has twice is the kind that is put first.
  void put(FrontendType type, const std::vector<IpAddress>& addresses, int32_t port,
           const EndpointSetPtr& outside, const EndpointSetPtr& pods) {
    for (const IpAddress& address : addresses) {
      if (address.family() != family_) continue;
      const auto number = static_cast<uint16_t>(port);
      const bool known = std::any_of(
          frontends_->begin(), frontends_->end(),
          [&](const ResolvedFrontend& other) { return other.address == address && other.port == number; });
      const bool own = std::binary_search(node_.own_addresses.begin(), node_.own_addresses.end(), address);
      if (known) continue;
      ResolvedFrontend frontend{type, address, number, outside, pods, own};
      frontend.external_local =
          type != FrontendType::cluster_ip && spec_.external_traffic_policy() == "Local";
      frontend.limited =
          type == FrontendType::load_balancer && !spec_.load_balancer_source_ranges().empty();
      frontends_->push_back(std::move(frontend));
    }
  }

  const v1::ServiceSpec& spec_;
  const Addresses& addresses_;
  const NodeView& node_;
  Family family_ = Family::ipv4;
  std::vector<ResolvedFrontend>* frontends_ = nullptr;
};

// Load balancers are told of ready endpoints alone: one that terminates still serves, but is
// to get no new connections.
class HealthCheckBuilder {
 public:
  explicit HealthCheckBuilder(const v1::ServiceSpec& spec)
      : port_(spec.type() == "LoadBalancer" && spec.external_traffic_policy() == "Local"
                  ? static_cast<uint16_t>(spec.health_check_node_port())
                  : 0) {}

  void add(Family family, const std::vector<Candidate>& candidates) {
    auto& addresses = local_[family];
    for (const Candidate& candidate : candidates)
      if (candidate.readiness == Readiness::ready && candidate.endpoint.local)
        addresses.insert(candidate.endpoint.address);
  }
  std::optional<HealthCheck> result() const {
    if (port_ == 0) return std::nullopt;
    HealthCheck check{port_, {}};
    for (const auto& [family, addresses] : local_)
      check.local_endpoints[family] = static_cast<uint32_t>(addresses.size());
    return check;
  }

 private:
  uint16_t port_;
  std::map<Family, std::set<IpAddress>> local_;
};

bool equal(const EndpointSetPtr& a, const EndpointSetPtr& b) {
  return a == b || *a == *b;
}

bool equal(const ResolvedFrontend& a, const ResolvedFrontend& b) {
  return a.type == b.type && a.address == b.address && a.port == b.port && a.node_address == b.node_address &&
         a.external_local == b.external_local && a.limited == b.limited &&
         equal(a.for_outside, b.for_outside) && equal(a.for_pods, b.for_pods);
}

bool equal(const ResolvedServicePort& a, const ResolvedServicePort& b) {
  return a.key == b.key && a.port == b.port && a.affinity_seconds == b.affinity_seconds &&
         a.source_ranges == b.source_ranges && a.serving == b.serving && a.endpoints == b.endpoints &&
         std::equal(a.frontends.begin(), a.frontends.end(), b.frontends.begin(), b.frontends.end(),
                    [](const auto& x, const auto& y) { return equal(x, y); });
}

}  // namespace

std::string_view to_string(FrontendType type) {
  switch (type) {
    case FrontendType::cluster_ip:
      return "cluster-ip";
    case FrontendType::node_port:
      return "node-port";
    case FrontendType::external_ip:
      return "external-ip";
    case FrontendType::load_balancer:
      return "load-balancer";
  }
  return "unknown";
}

std::shared_ptr<const ResolvedService> resolve_service(const v1::Service& service, Slices slices,
                                                       const NodeView& node,
                                                       std::vector<Complaint>* complaints) {
  if (!is_ours(service)) return nullptr;
  const Addresses addresses = addresses_of(service);
  if (addresses.cluster.empty()) return nullptr;
  auto resolved = std::make_shared<ResolvedService>();
  resolved->key = {service.metadata().namespace_(), service.metadata().name()};
  resolved->created = service.metadata().creation_timestamp();
  if (complaints != nullptr) complain_of_weights(slices, complaints);
  PortResolver ports(service, addresses, node);
  HealthCheckBuilder health(service.spec());
  for (int i = 0; i < service.spec().ports_size(); ++i) {
    const v1::ServicePort& port = service.spec().ports(i);
    const auto protocol = protocol_of(port);
    if (!protocol) {
      if (complaints != nullptr)
        complaints->push_back({"Service " + resolved->key.to_string(),
                               fmt::format("spec.ports[{}].protocol: {} is not served (expected TCP, UDP or SCTP)",
                                           i, port.protocol())});
      continue;
    }
    // A family is served if the service has a cluster IP of it.
    for (const IpAddress& address : addresses.cluster) {
      const ServicePortKey key{resolved->key, port.name(), *protocol, address.family()};
      const std::vector<Candidate> candidates = gather(key, slices, node);
      ResolvedServicePort one = ports.run(key, port, reach_of(service.spec(), candidates, node));
      one.affinity_seconds = affinity_of(service.spec());
      one.source_ranges = source_ranges_of(service.spec(), addresses.balancer, node, key.family);
      if (*protocol == Protocol::udp) one.serving = serving_of(candidates);
      one.endpoints = count_endpoints(candidates);
      resolved->ports.push_back(std::move(one));
      health.add(key.family, candidates);
    }
  }
  std::sort(resolved->ports.begin(), resolved->ports.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  resolved->health_check = health.result();
  return resolved;
}

bool equal(const ResolvedService& a, const ResolvedService& b) {
  return a.key == b.key && a.created == b.created && a.health_check == b.health_check &&
         std::equal(a.ports.begin(), a.ports.end(), b.ports.begin(), b.ports.end(),
                    [](const auto& x, const auto& y) { return equal(x, y); });
}

}  // namespace maglane
