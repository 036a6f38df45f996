// SPDX-License-Identifier: Apache-2.0
//
// What the reading and the writing half of PinnedMaps share. Included by both, by nobody else.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "agent/kernel/bpf_map.h"
#include "agent/kernel/maps.h"

namespace maglane {

enum MapIndex {
  kFrontends,
  kServices,
  kBackends,
  kMaglev,
  kVipBits,
  kFlows4,
  kFlows6,
  kNodeState,
  kDevices,
  kCounters,
  kExpiryResult,
  kMapCount
};

struct PinnedMaps::Impl {
  std::string bpffs;
  bool read_only = false;
  std::array<BpfMap, kMapCount> maps;
  // Mapped memory of the maps of these names.
  abi::backend* backends = nullptr;  // by id
  uint32_t* maglev = nullptr;        // by entry
  uint64_t* vip_words = nullptr;
  abi::node_state* node_state = nullptr;
  int clock_program = -1;

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl();

  uint64_t maglev_entries() const { return uint64_t{maps[kMaglev].capacity()} * abi::MAGLEV_LINE_ENTRIES; }

  Status open_maps();
  Status map_arrays();

  Status put(uint32_t id, const abi::backend& backend);
  Status write(const WriteTable& table);
  Status set(const SetVipBit& bit);
  Status apply_to_memory(const Operation& operation);
  Status apply_to_hash(std::span<const Operation> run, uint32_t& done);
};

}  // namespace maglane
