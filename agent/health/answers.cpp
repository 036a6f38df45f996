// SPDX-License-Identifier: Apache-2.0
#include "agent/health/answers.h"

#include <google/protobuf/util/json_util.h>

namespace maglane {
namespace {

constexpr int kOk = 200;
constexpr int kNotFound = 404;
constexpr int kUnavailable = 503;

HttpAnswer json_answer(const google::protobuf::Message& message, bool fine) {
  HttpAnswer answer{fine ? kOk : kUnavailable, "application/json", {{"X-Content-Type-Options", "nosniff"}}, {}};
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  // Fails for unknown Any types alone, of which there are none.
  (void)google::protobuf::util::MessageToJsonString(message, &answer.body, options);
  return answer;
}

}  // namespace

HttpAnswer answer_of(const v1::ProxyHealth& health) {
  return json_answer(health, health.healthy() && (!health.has_node_eligible() || health.node_eligible()));
}

HttpAnswer answer_of(const v1::ServiceHealth& health) {
  HttpAnswer answer = json_answer(health, health.local_endpoints() != 0 && health.service_proxy_healthy());
  answer.headers["X-Load-Balancing-Endpoint-Weight"] = std::to_string(health.local_endpoints());
  return answer;
}

v1::ServiceHealth service_health(const ServiceKey& service, const HealthCheck& check, Family asked,
                                 bool proxy_healthy) {
  v1::ServiceHealth health;
  health.mutable_service()->set_namespace_(service.namespace_name);
  health.mutable_service()->set_name(service.name);
  health.set_service_proxy_healthy(proxy_healthy);
  auto counted = check.local_endpoints.find(asked);
  if (counted == check.local_endpoints.end()) counted = check.local_endpoints.begin();
  if (counted != check.local_endpoints.end()) health.set_local_endpoints(counted->second);
  return health;
}

HttpAnswer not_found(const std::string& what_there_is) {
  return {kNotFound, "text/plain; charset=utf-8", {{"X-Content-Type-Options", "nosniff"}},
          "not found; there is " + what_there_is + "\n"};
}

Probe probe_of(const HttpRequest& request) {
  if (request.path == "/healthz") return Probe::healthz;
  if (request.path == "/livez") return Probe::livez;
  return Probe::none;
}

}  // namespace maglane
