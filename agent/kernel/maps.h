// SPDX-License-Identifier: Apache-2.0
//
// Typed access to the pinned maps of one data plane, by their bpffs directory. Used by the
// agent (reads what a previous one left, writes operations) and by the inspector (reads
// with the agent dead, removes flows). The only place besides kernel/ that knows map names.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "agent/kernel/flow_bits.h"
#include "agent/kernel/flow_table.h"
#include "agent/plan/contents.h"
#include "agent/plan/operation.h"
#include "bpf/abi.h"

namespace maglane {

struct MapInfo {
  std::string name;
  uint32_t used = 0;
  uint32_t capacity = 0;
  uint64_t bytes = 0;  // that the kernel allocated, where it says so, else computed
};

// The node's addresses on an uplink.
struct EgressAddress {
  uint32_t ifindex = 0;
  std::optional<IpAddress> ipv4, ipv6;
  auto operator<=>(const EgressAddress&) const = default;
};

// A remote end towards which all source ports were taken.
struct PortShortage {
  IpAddress remote, source;
  uint16_t port = 0;
  uint8_t protocol = 0;
  uint64_t packets = 0;  // dropped, ever
};

struct AffinityEntry {
  abi::affinity_key key;
  abi::affinity value;
};

class PinnedMaps {
 public:
  // Fails with a clear line if `bpffs` holds no maglane maps, or maps of another ABI. Maps
  // that are just made carry no ABI version yet and are accepted; write_node_state sets it.
  static Result<PinnedMaps> open(const std::string& bpffs, bool read_only = false);
  PinnedMaps(PinnedMaps&&) noexcept;
  PinnedMaps& operator=(PinnedMaps&&) noexcept;
  ~PinnedMaps();

  // What the agent owns, read back whole (batched where the kernel can). Strings of services
  // end, and tables lie within the map, whatever the maps hold; all else is as it is there.
  // `flows`: with the endpoints that flows of UDP lead to, which takes a walk through all flows.
  Result<MapContents> read_contents(bool flows = false) const;
  Result<std::map<uint32_t, abi::service_info>> read_services() const;
  // Since the id was given to its present service; survives the agent.
  uint64_t connections_of(uint32_t service_id) const;
  // Applies in order; runs of the same kind go in batches. On error says which operation
  // failed and how many before it took effect.
  Status apply(std::span<const Operation> operations);
  // What apply took out of use may be used again. REQUIRES: an RCU grace period since.
  void release_retired();

  // Flows. Stops early when `visit` returns false.
  Status each_flow(const std::function<bool(const FlowEntry4&)>& visit4,
                   const std::function<bool(const FlowEntry6&)>& visit6) const;
  // Removes one direction; false: there was none. Fails if packets keep its bucket locked for
  // as long as this tries.
  Result<bool> remove_flow(const abi::tuple4& key);
  Result<bool> remove_flow(const abi::tuple6& key);

  // Translated sockets. Stops early when `visit` returns false.
  Status each_socket(const std::function<bool(const abi::socket_key&, const abi::socket_peer&)>& visit) const;
  // Forgets that unconnected sockets use endpoints that are gone: their next datagram finds another.
  // Returns the connected ones, by cookie: their datagrams pass no hook (end_udp_sockets). REQUIRES:
  // an RCU grace period since the frontends changed.
  Result<std::map<uint64_t, abi::socket_peer>> forget_sockets(
      const std::set<abi::service_endpoint, BytesLess>& gone);
  // Clients that session affinity holds to an endpoint, in no order.
  Result<std::vector<AffinityEntry>> read_affinity() const;

  // Masquerade. The lists are what there is to be, all of it.
  Status write_masquerade_ranges(const std::set<Cidr>& ranges);
  Status write_egress_addresses(const std::vector<EgressAddress>& addresses);
  Result<std::set<Cidr>> read_masquerade_ranges() const;
  Result<std::vector<EgressAddress>> read_egress_addresses() const;
  Result<std::vector<PortShortage>> read_port_shortages() const;

  // What forgets the bits of flows that are gone; see flow_bits.h for `interval`. To be used for
  // as long as this lives. REQUIRES: not opened for reading only
  FlowBits flow_bits(std::chrono::seconds interval);

  // Summed over the CPUs; index: reason + hook * REASON_COUNT.
  Result<std::vector<abi::counter>> read_counters() const;

  Result<abi::node_state> read_node_state() const;
  // Epoch, addresses and what is for people: the rest has other writers.
  Status write_node_state(const abi::node_state& state);

  // The flow clock: the present slot, and how long a slot lasts. From the pinned program
  // "clock" and its constants, so it works with the agent dead.
  struct Clock { uint32_t slot; double slot_seconds; };
  Result<Clock> read_clock() const;

  Result<std::vector<MapInfo>> usage() const;
  // The flow tables, of IPv4 and IPv6.
  std::array<FlowTableUse, 2> flow_tables() const;

 private:
  struct Impl;
  explicit PinnedMaps(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace maglane
