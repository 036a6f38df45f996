// SPDX-License-Identifier: Apache-2.0
//
// The constants that the BPF programs are loaded with, from the agent's options. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/kernel/timeouts.h"
#include "bpf/abi.h"

namespace maglane {

// Both ends belong to it.
struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;
  bool overlaps(const PortRange& other) const { return first <= other.last && other.first <= last; }
  auto operator<=>(const PortRange&) const = default;
};

// Whose sockets get their endpoint when they connect, so that their packets need no translation:
// nobody's; those in the node's own network namespace; those of its pods, too.
enum class SocketTranslation : uint8_t {
  off = abi::SOCKETS_OFF,
  host = abi::SOCKETS_HOST,
  all = abi::SOCKETS_ALL
};
std::string_view to_string(SocketTranslation translation);  // "off", "host", "all"

// What pods send to the outside of the cluster's network: --network-model.
enum class MasqueradeModel : uint8_t {
  none = abi::NETWORK_NONE,
  kubenet = abi::NETWORK_KUBENET,
  azure_cni = abi::NETWORK_AZURE_CNI,
  custom = abi::NETWORK_CUSTOM
};
std::string_view to_string(MasqueradeModel model);  // "none", "kubenet", "azure-cni", "custom"

// Ports from 1024 on that are in neither range, in one or two runs: the longest. None, if there are none.
std::vector<PortRange> ports_beside(const PortRange& local, const PortRange& node_ports);

struct DataPlaneOptions {
  bool ipv4 = true;
  bool ipv6 = true;
  bool masquerade_all = false;
  SocketTranslation socket_translation = SocketTranslation::host;
  MasqueradeModel network_model = MasqueradeModel::none;
  std::vector<PortRange> snat_ports = {{1024, 29999}, {61000, 65535}};  // one or two
  std::vector<Cidr> pod_cidrs;
  std::vector<Cidr> service_cidrs;
  uint32_t pods_by = uint32_t{abi::PODS_BY_DEVICE} | abi::PODS_BY_CLUSTER_CIDR;  // enum pods_by
  uint32_t affinity_entries = 65536;    // clients of services with session affinity
  uint32_t flow_entries = 524288;       // of each family, rounded up to whole buckets; a connection takes two
  uint32_t maglev_entries = 16U << 20;  // a multiple of MAGLEV_LINE_ENTRIES
  uint32_t frontends = 131072;
  abi::timeouts timeout_seconds = default_timeout_seconds();

  // Buckets of the tables.
  uint32_t flow_buckets() const;
  uint32_t frontend_buckets() const;
  // Values of frontends: more than frontends, so that changes need not wait for a grace period.
  uint32_t frontend_values() const;
};

// The kernel's CONFIG_HZ. The coarse clocks advance with the tick, and their resolution is
// its length (clock_getres(2)).
uint32_t kernel_hz();

// So that a slot, hz >> shift of a second, is nearest to one second.
uint32_t slot_shift_for(uint32_t hz);

// `netns_cookie`: of the network namespace that the node's own sockets are in. Fails if there are
// more CIDRs or port ranges than the ABI holds.
Result<abi::node_config> make_node_config(const DataPlaneOptions& options, uint32_t hz, const abi::table_seed& seed,
                                          uint64_t netns_cookie);

abi::prefix make_prefix(const Cidr& cidr);

// A new one at random, from the kernel's generator (getrandom(2)).
abi::table_seed random_seed();

}  // namespace maglane
