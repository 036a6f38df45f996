// SPDX-License-Identifier: Apache-2.0
//
// The cluster as one node's data plane sees it: for every service port the addresses that
// clients use and the endpoints that each of them may reach from here. Output of resolve,
// input of plan; values only.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/base/ip.h"
#include "agent/base/object_key.h"

namespace maglane {

using ServiceKey = ObjectKey;

// A service port of one family: what has an id, a name in the inspector, and counters.
struct ServicePortKey {
  ServiceKey service;
  std::string port_name;
  Protocol protocol = Protocol::tcp;
  Family family = Family::ipv4;
  // "default/web", "default/web:http" where the port has a name.
  std::string to_string() const {
    return port_name.empty() ? service.to_string() : service.to_string() + ":" + port_name;
  }
  auto operator<=>(const ServicePortKey&) const = default;
};

struct ResolvedEndpoint {
  IpAddress address;
  uint16_t port = 0;
  bool local = false;   // on this node
  uint32_t weight = 1;  // share of new connections relative to the others
  bool node = false;    // in this node's own network: the address is one of the node's
  auto operator<=>(const ResolvedEndpoint&) const = default;
};

enum class EmptyVerdict : uint8_t { reject = 0, drop = 1 };  // enum empty_verdict of the ABI

// Sorted, each address and port once.
struct EndpointSet {
  std::vector<ResolvedEndpoint> endpoints;
  EmptyVerdict when_empty = EmptyVerdict::reject;
  auto operator<=>(const EndpointSet&) const = default;
};
using EndpointSetPtr = std::shared_ptr<const EndpointSet>;  // never null; shared where equal

enum class FrontendType : uint8_t { cluster_ip = 1, node_port = 2, external_ip = 3, load_balancer = 4 };
std::string_view to_string(FrontendType type);  // "cluster-ip", "node-port", "external-ip", "load-balancer"

struct ResolvedFrontend {
  FrontendType type = FrontendType::cluster_ip;
  IpAddress address;
  uint16_t port = 0;
  EndpointSetPtr for_outside;  // sources outside the cluster (and everyone, where pods are not special)
  EndpointSetPtr for_pods;     // pods of the cluster; the same pointer where nothing differs
  bool node_address = false;   // the address is this node's own: its other ports are the node's business
  bool external_local = false;  // policy Local: this node's pods keep their address at any endpoint
  bool limited = false;         // only the port's source_ranges may open connections
};

// A service port's endpoints by condition, whoever may reach them; each address and port once.
struct EndpointCounts {
  uint32_t ready = 0;
  uint32_t serving_terminating = 0;
  uint32_t not_ready = 0;
  uint32_t local_ready = 0;  // of `ready`, on this node
  auto operator<=>(const EndpointCounts&) const = default;
};

struct ResolvedServicePort {
  ServicePortKey key;
  uint16_t port = 0;
  std::vector<ResolvedFrontend> frontends;  // sorted by (type, address, port); no duplicates
  uint32_t affinity_seconds = 0;            // clients stay with their endpoint; 0: they do not
  std::vector<Cidr> source_ranges;          // of the port's family: sorted, each once
  // Of UDP: all endpoints that serve, whether new datagrams may reach them or not. Sorted.
  std::vector<std::pair<IpAddress, uint16_t>> serving;
  EndpointCounts endpoints{};
};

// The port at which load balancers ask whether this node has endpoints of a service: type
// LoadBalancer with externalTrafficPolicy Local.
struct HealthCheck {
  uint16_t port = 0;
  // Addresses of ready endpoints on this node, each once however many ports it serves; by
  // family, of those that the service has.
  std::map<Family, uint32_t> local_endpoints;
  auto operator<=>(const HealthCheck&) const = default;
};

struct ResolvedService {
  ServiceKey key;
  std::string created;  // creationTimestamp; settles who keeps an address claimed twice, older first
  std::vector<ResolvedServicePort> ports;  // sorted by key
  std::optional<HealthCheck> health_check;
};

// An unchanged service keeps its pointer from one resolve to the next, so that plan and
// diff tell by comparing pointers what there is to do.
using ResolvedCluster = std::map<ServiceKey, std::shared_ptr<const ResolvedService>>;

}  // namespace maglane
