// SPDX-License-Identifier: Apache-2.0
//
// The answers of the health servers, headers and all. Pure.
#pragma once

#include <optional>

#include "agent/base/object_key.h"
#include "agent/health/http.h"
#include "agent/resolve/resolved.h"
#include "proto/health.pb.h"

namespace maglane {

// /healthz or /livez: 200 or 503.
HttpAnswer answer_of(const v1::ProxyHealth& health);

// A service's healthCheckNodePort: 200 with at least one endpoint on this node and a healthy
// proxy, else 503. Load balancers weight nodes by X-Load-Balancing-Endpoint-Weight.
HttpAnswer answer_of(const v1::ServiceHealth& health);

// What is asked in one family is answered for it; a service that has only the other, for that.
v1::ServiceHealth service_health(const ServiceKey& service, const HealthCheck& check, Family asked,
                                 bool proxy_healthy);

HttpAnswer not_found(const std::string& what_there_is);

// A request to the address of /healthz and /livez.
enum class Probe { healthz, livez, none };
Probe probe_of(const HttpRequest& request);

}  // namespace maglane
