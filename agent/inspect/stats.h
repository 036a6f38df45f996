// SPDX-License-Identifier: Apache-2.0
//
// Counters and map usage as the inspector shows them. Pure.
#pragma once

#include <array>
#include <vector>

#include "agent/kernel/maps.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

// `counters`: index reason + hook * REASON_COUNT; what is missing counts as 0. Most packets
// first. Without `all`, only those that counted something.
v1::Stats list_counters(const std::vector<abi::counter>& counters, bool all);

v1::MapUsage to_message(const MapInfo& info);

// What the maps tell about a node whose agent does not answer.
v1::Status status_of_maps(const MapContents& contents, const std::vector<MapInfo>& usage,
                          const abi::node_state& node);

// How full the flow tables are (IPv4, IPv6), and what came of that. `counters`: as above.
void add_flow_tables(const std::array<FlowTableUse, 2>& tables, const std::vector<MapInfo>& usage,
                     const std::vector<abi::counter>& counters, v1::Status& status);

}  // namespace maglane::inspect
