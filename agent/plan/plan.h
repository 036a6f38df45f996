// SPDX-License-Identifier: Apache-2.0
//
// What the maps are to hold, as a value: ids, table places and frontends. A plan shares with
// its predecessor all that did not change, so that two plans are compared by pointer (diff.h).
// Made by the planner (planner.h).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/plan/chunked_array.h"
#include "agent/plan/contents.h"
#include "agent/plan/maglev.h"
#include "agent/resolve/resolved.h"
#include "bpf/abi.h"

namespace maglane {

struct TableMember {
  uint32_t backend_id = 0;
  uint32_t weight = 1;
  bool operator==(const TableMember&) const = default;
};

// A Maglev table and its place. The entries follow from the members and are computed when
// they are written (table_entries): kept, they would be most of the agent's memory.
struct TablePlan {
  uint32_t offset = 0;
  uint32_t size = 0;
  std::vector<TableMember> members;  // by backend id
  uint64_t entries_hash = 0;         // hash_entries of its entries where that is known, else 0
  bool same_entries(const TablePlan& other) const {
    return offset == other.offset && size == other.size && members == other.members;
  }
};
using TablePlanPtr = std::shared_ptr<const TablePlan>;

struct FrontendPlan {
  abi::frontend_key key{};
  abi::frontend value{};
  uint32_t address_slot = 0;  // the planner's count of its address
  bool node_address = false;  // the address is the node's own, its other ports are none of ours
};

struct ServicePortPlan {
  uint32_t id = 0;
  abi::service_info info{};
  std::vector<FrontendPlan> frontends;
  std::vector<abi::source_range_key> source_ranges;
  std::vector<abi::service_endpoint> serving;  // of UDP: whose flows may live
};

struct BackendHold {
  uint32_t id : 30;
  uint32_t local : 1;
  uint32_t node : 1;
};

struct ServicePlan {
  ServiceKey key;
  std::vector<ServicePortPlan> ports;
  // References that the planner counts, one for each mention.
  std::vector<uint32_t> tables;  // slots of Plan::tables
  std::vector<BackendHold> backends;
};
using ServicePlanPtr = std::shared_ptr<const ServicePlan>;

// Slots are the planner's own numbers. Slots not in use hold T{}.
struct Plan {
  uint64_t generation = 0;                    // ascends from update to update
  ChunkedArray<ServicePlanPtr> services;      // by slot
  ChunkedArray<TablePlanPtr> tables;          // by slot
  ChunkedArray<abi::backend> backends;        // by backend id
  ChunkedArray<abi::frontend_key> addresses;  // by slot: keys of FRONTEND_ADDRESS entries
  ChunkedArray<uint64_t> vip_words;           // by word of struct vip_bits
};

// The entries of a table of this plan, padded with 0 to a whole line.
std::vector<uint32_t> table_entries(const Plan& plan, const TablePlan& table, MaglevBuilder& builder);

// All of it spelled out, tables included.
MapContents to_contents(const Plan& plan);

inline abi::frontend address_entry() {
  return abi::frontend{.type = abi::FRONTEND_ADDRESS};
}

}  // namespace maglane
