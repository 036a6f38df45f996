// SPDX-License-Identifier: Apache-2.0
//
// The agent's options: from the command line, from the YAML file that --config names (the
// same names without dashes in front; the command line wins), from the environment, or
// their defaults.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/base/socket_address.h"
#include "agent/kernel/attach_plan.h"
#include "agent/kernel/data_plane_config.h"

namespace maglane {

struct Config {
  std::string node_name;
  std::string manifests;
  std::vector<std::string> uplinks;      // empty: the devices of the default routes
  std::vector<std::string> pod_devices;  // patterns, fnmatch(3)
  std::vector<Cidr> pod_cidrs;
  std::vector<Cidr> service_cidrs;
  std::vector<Cidr> node_port_addresses;
  uint32_t pods_by = uint32_t{abi::PODS_BY_DEVICE} | abi::PODS_BY_CLUSTER_CIDR;  // enum pods_by
  bool masquerade_all = false;
  MasqueradeModel network_model = MasqueradeModel::none;
  std::vector<Cidr> vnet_cidrs;  // of azure-cni
  std::string masq_config;       // of custom: a file
  PortRange node_port_range{30000, 32767};
  XdpPolicy xdp = XdpPolicy::automatic;
  SocketTranslation socket_translation = SocketTranslation::host;
  std::string bpffs;
  std::string socket;
  std::optional<SocketAddress> healthz_address, metrics_address;  // nothing: not served
  uint32_t healthz_timeout = 60;                                  // seconds
  uint32_t flow_table_size = 524288;
  uint32_t affinity_entries = 65536;
  uint32_t maglev_entries = 16U << 20;
  std::vector<PortRange> snat_ports;  // one or two
  abi::timeouts timeout_seconds = default_timeout_seconds();
  std::chrono::seconds flow_bits_interval{0};  // 0: when it is worth it
  std::string log_level = "info";
  bool cleanup = false;
};

// What the command line asks for: to run with `config`, or to print `text` (to standard
// error if exit_code is not 0) and end.
struct CommandLine {
  Config config;
  std::optional<int> exit_code;  // 0: --help, --version; 2: wrong usage
  std::string text;
};

CommandLine parse_command_line(const std::vector<std::string>& arguments);

// Ports for source translation where no option says which: beside those that this machine's own
// connections use and those of node ports. proc: "/proc", or a copy of it.
std::vector<PortRange> default_snat_ports(const PortRange& node_ports, const std::string& proc = "/proc");

// "1024-29999,61000-65535": one or two ranges that do not overlap.
Result<std::vector<PortRange>> parse_port_ranges(const std::string& text);

}  // namespace maglane
