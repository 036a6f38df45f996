// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/plan/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace maglane::test {

IpAddress ip(std::string_view text) {
  return IpAddress::parse(text).value();
}

ResolvedEndpoint endpoint(uint32_t number, uint32_t weight, bool local) {
  return {ip(fmt::format("10.{}.{}.{}", 1 + (number >> 16), number >> 8 & 255, number & 255)), 8080, local,
          weight};
}

EndpointSetPtr endpoints(std::vector<ResolvedEndpoint> list, EmptyVerdict when_empty) {
  std::sort(list.begin(), list.end());
  return std::make_shared<const EndpointSet>(EndpointSet{std::move(list), when_empty});
}

EndpointSetPtr numbered_endpoints(uint32_t first, uint32_t count) {
  std::vector<ResolvedEndpoint> list;
  for (uint32_t i = 0; i < count; ++i) list.push_back(endpoint(first + i));
  return endpoints(std::move(list));
}

ResolvedFrontend frontend(FrontendType type, std::string_view address, uint16_t port, EndpointSetPtr set,
                          EndpointSetPtr for_pods) {
  return {type, ip(address), port, set, for_pods ? for_pods : set};
}

std::shared_ptr<const ResolvedService> service(const std::string& name,
                                               std::vector<ResolvedFrontend> frontends,
                                               const std::string& created) {
  ResolvedService service{{"default", name}, created, {}};
  service.ports.push_back({{service.key, "", Protocol::tcp, Family::ipv4}, 80, std::move(frontends)});
  return std::make_shared<const ResolvedService>(std::move(service));
}

void put(ResolvedCluster& cluster, std::shared_ptr<const ResolvedService> service) {
  cluster[service->key] = std::move(service);
}

ResolvedCluster many_services(uint32_t count, uint32_t endpoints_each) {
  ResolvedCluster cluster;
  for (uint32_t i = 0; i < count; ++i)
    put(cluster, service(fmt::format("s{}", i),
                         {frontend(FrontendType::cluster_ip, fmt::format("10.96.{}.{}", i >> 8, i & 255), 80,
                                   numbered_endpoints(i * endpoints_each, endpoints_each))}));
  return cluster;
}

}  // namespace maglane::test
