// SPDX-License-Identifier: Apache-2.0
//
// The agent's HTTP servers: /healthz and /livez, the services' health check ports, /metrics.
// Each has a thread of its own, so that none keeps another from answering, nor the reconciler
// any of them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/base/socket_address.h"
#include "agent/health/http_server.h"
#include "agent/health/monitor.h"

namespace maglane {

struct HealthAddresses {
  std::optional<SocketAddress> healthz, metrics;  // nothing: not served
};

class HealthServers {
 public:
  // Listens nowhere yet. monitor must outlive it.
  static Result<std::unique_ptr<HealthServers>> start(HealthMonitor& monitor,
                                                      const HealthAddresses& addresses);

  // Listens where it is to, at the services' ports on these addresses; nothing: on all. Returns
  // what is in the way: call again for another try.
  std::vector<Complaint> listen(const std::optional<std::vector<IpAddress>>& node_addresses);

 private:
  HealthServers(HealthMonitor& monitor, const HealthAddresses& addresses)
      : monitor_(monitor), addresses_(addresses) {}
  std::vector<Complaint> listen_for_services(const std::vector<IpAddress>& node_addresses);

  HealthMonitor& monitor_;
  HealthAddresses addresses_;
  std::unique_ptr<HttpServer> probes_, services_, metrics_;
};

}  // namespace maglane
