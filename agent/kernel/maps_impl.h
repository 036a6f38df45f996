// SPDX-License-Identifier: Apache-2.0
//
// What the reading and the writing half of PinnedMaps share. Included by both, by nobody else.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "agent/kernel/bpf_map.h"
#include "agent/kernel/frontend_table.h"
#include "agent/kernel/maps.h"

namespace maglane {

enum MapIndex {
  kFrontends,
  kFrontendValues,
  kServices,
  kBackends,
  kMaglev,
  kVipBits,
  kFlowBits,
  kFlows4,
  kFlows6,
  kNodeState,
  kDevices,
  kSourceRanges,
  kAffinity,
  kGoneEndpoints,
  kServiceCounters,
  kCounters,
  kSockets,
  kMasqueradeRanges,
  kEgressAddresses,
  kPortShortages,
  kMapCount
};

struct PinnedMaps::Impl {
  std::string bpffs;
  bool read_only = false;
  std::array<BpfMap, kMapCount> maps;
  std::array<std::byte*, kMapCount> memory{};  // of the maps that are mapped
  // The same as what it holds.
  abi::backend* backends = nullptr;  // by id
  uint32_t* maglev = nullptr;        // by entry
  uint64_t* vip_words = nullptr;
  abi::flow_bits* flow_bits = nullptr;
  abi::node_state* node_state = nullptr;
  std::span<abi::flow_bucket4> flows4;
  std::span<abi::flow_bucket6> flows6;
  FrontendTable frontends;
  std::span<abi::service_counter> service_counters;  // by service id, part after part
  int clock_program = -1;
  int remove_program = -1;
  int forget_program = -1;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  uint64_t maglev_entries() const { return uint64_t{maps[kMaglev].capacity()} * abi::MAGLEV_LINE_ENTRIES; }

  Status open_maps();
  Status map_arrays();
  void open_programs();
  template <typename T>
  std::span<T> mapped(MapIndex index) const {
    return {reinterpret_cast<T*>(memory[index]), maps[index].capacity()};
  }

  Status put(uint32_t id, const abi::backend& backend);
  Status write(const WriteTable& table);
  Status set(const SetVipBit& bit);
  Status put(const PutFrontend& operation);
  Status add_udp_endpoints_of_sockets(std::set<abi::service_endpoint, BytesLess>& endpoints) const;
  void clear_counters(uint32_t service_id);
  Result<bool> remove_flow(abi::remove_call& call) const;
  Status apply_to_memory(const Operation& operation);
  Status forget(std::span<const Operation> run);
  Status forget_flows() const;
  Status apply_to_hash(std::span<const Operation> run, uint32_t& done);
};

}  // namespace maglane
