// SPDX-License-Identifier: Apache-2.0
//
// Resolved clusters for tests, in few words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/resolve/resolved.h"

namespace maglane::test {

IpAddress ip(std::string_view text);

// 10.1.x.y:8080, local to this node if `local`.
ResolvedEndpoint endpoint(uint32_t number, uint32_t weight = 1, bool local = false);
EndpointSetPtr endpoints(std::vector<ResolvedEndpoint> list, EmptyVerdict when_empty = EmptyVerdict::reject);
EndpointSetPtr numbered_endpoints(uint32_t first, uint32_t count);

ResolvedFrontend frontend(FrontendType type, std::string_view address, uint16_t port, EndpointSetPtr set,
                          EndpointSetPtr for_pods = nullptr);

// Namespace default, one unnamed TCP port 80.
std::shared_ptr<const ResolvedService> service(const std::string& name,
                                               std::vector<ResolvedFrontend> frontends,
                                               const std::string& created = "2025-01-01T00:00:00Z");
void put(ResolvedCluster& cluster, std::shared_ptr<const ResolvedService> service);

// Services s0, s1... with a cluster IP 10.96.x.y:80 each, and endpoints of their own.
ResolvedCluster many_services(uint32_t count, uint32_t endpoints_each);

}  // namespace maglane::test
