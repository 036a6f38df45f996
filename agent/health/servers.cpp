// SPDX-License-Identifier: Apache-2.0
#include "agent/health/servers.h"

#include <fmt/format.h>

namespace maglane {
namespace {

constexpr char kTriedAgain[] = "; it is tried again";

// One line for each server, whichever of its addresses it is about.
void listen_at(HttpServer& server, const std::optional<SocketAddress>& address, const char* option,
               std::vector<Complaint>& complaints) {
  if (!address) return;
  for (const auto& [where, error] : server.listen({*address}))
    complaints.push_back({option, error.message + kTriedAgain});
}

}  // namespace

Result<std::unique_ptr<HealthServers>> HealthServers::start(HealthMonitor& monitor,
                                                            const HealthAddresses& addresses) {
  std::unique_ptr<HealthServers> servers(new HealthServers(monitor, addresses));
  const auto start_one = [](std::unique_ptr<HttpServer>& server, const char* name, HttpHandler handler) {
    auto started = HttpServer::start(name, std::move(handler));
    if (!started) return Status(started.error());
    server = std::move(*started);
    return ok_status();
  };
  HealthMonitor* const to = &monitor;
  Status status = start_one(servers->probes_, "healthz", [to](const HttpRequest& request) {
    return to->answer_probe(request, Instant::now());
  });
  if (status.ok())
    status = start_one(servers->services_, "health-ports", [to](const HttpRequest& request) {
      return to->answer_service(request, Instant::now());
    });
  if (status.ok())
    status = start_one(servers->metrics_, "metrics",
                       [to](const HttpRequest& request) { return to->answer_metrics(request); });
  if (!status) return status.error();
  return servers;
}

std::vector<Complaint> HealthServers::listen(const std::optional<std::vector<IpAddress>>& node_addresses) {
  std::vector<Complaint> complaints = listen_for_services(node_addresses.value_or(std::vector{IpAddress()}));
  listen_at(*probes_, addresses_.healthz, "--healthz-address", complaints);
  listen_at(*metrics_, addresses_.metrics, "--metrics-address", complaints);
  return complaints;
}

std::vector<Complaint> HealthServers::listen_for_services(const std::vector<IpAddress>& node_addresses) {
  const auto ports = monitor_.ports();
  std::set<SocketAddress> wanted;
  for (const auto& [number, port] : ports)
    for (const IpAddress& address : node_addresses) wanted.insert({address, number});
  std::vector<Complaint> complaints;
  std::set<uint16_t> deaf;
  for (const auto& [where, error] : services_->listen(wanted)) {
    if (!deaf.insert(where.port).second) continue;
    complaints.push_back({"Service " + ports.at(where.port).service.to_string(),
                          fmt::format("spec.healthCheckNodePort: {}{}", error.message, kTriedAgain)});
  }
  monitor_.set_deaf_ports(std::move(deaf));
  return complaints;
}

}  // namespace maglane
