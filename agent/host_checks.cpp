// SPDX-License-Identifier: Apache-2.0
#include "agent/host_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace maglane {
namespace {

bool serves(const Config& config, Family family) {
  const std::vector<Cidr>& cidrs = config.service_cidrs;
  return cidrs.empty() ||
         std::any_of(cidrs.begin(), cidrs.end(), [&](const Cidr& c) { return c.family() == family; });
}

void check_forwarding(const std::string& proc, const char* family, const char* path, const char* setting,
                      std::vector<Complaint>& complaints) {
  std::ifstream file(proc + path);
  int value = 0;
  if (!(file >> value) || value != 0) return;
  complaints.push_back({"node", fmt::format("{} forwarding is off, so pods and other nodes are not reached: "
                                            "`sysctl -w {}=1`",
                                            family, setting)});
}

}  // namespace

DataPlaneOptions data_plane_options(const Config& config) {
  DataPlaneOptions options;
  options.ipv4 = serves(config, Family::ipv4);
  options.ipv6 = serves(config, Family::ipv6) && std::filesystem::exists("/proc/sys/net/ipv6");
  options.masquerade_all = config.masquerade_all;
  options.socket_translation = config.socket_translation;
  options.network_model = config.network_model;
  options.snat_ports = config.snat_ports;
  options.pod_cidrs = config.pod_cidrs;
  options.pods_by = config.pods_by;
  options.affinity_entries = config.affinity_entries;
  options.service_cidrs = config.service_cidrs;
  options.flow_entries = config.flow_table_size;
  options.maglev_entries = config.maglev_entries;
  options.timeout_seconds = config.timeout_seconds;
  return options;
}

std::vector<Complaint> check_host(const Config& config, const DataPlaneOptions& options,
                                  const std::string& proc) {
  std::vector<Complaint> complaints;
  if (options.ipv4)
    check_forwarding(proc, "IPv4", "/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward", complaints);
  if (options.ipv6) {
    check_forwarding(proc, "IPv6", "/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding",
                     complaints);
  }
  std::ifstream file(proc + "/sys/net/ipv4/ip_local_port_range");
  PortRange own;
  if (file >> own.first >> own.last) {
    for (const PortRange& range : config.snat_ports) {
      if (!range.overlaps(own)) continue;
      complaints.push_back(
          {"--snat-ports",
           fmt::format("{}-{} overlaps the ports {}-{} of this machine's own connections: "
                       "`sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"`, or other ports",
                       range.first, range.last, own.first, own.last)});
    }
  }
  for (const PortRange& range : config.snat_ports) {
    if (!range.overlaps(config.node_port_range)) continue;
    complaints.push_back({"--snat-ports", fmt::format("{}-{} overlaps the node ports {}-{}: other ports, or --node-port-range",
                                                      range.first, range.last, config.node_port_range.first,
                                                      config.node_port_range.last)});
  }
  return complaints;
}

}  // namespace maglane
