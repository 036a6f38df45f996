// SPDX-License-Identifier: Apache-2.0
//
// Flows as the inspector shows, selects and counts them. Pure.
//
// Both entries of a connection are seen from the client: `opened` is the packet that the
// client sends, `translated` what becomes of it. The entry of the reply direction holds the
// same two, exchanged and reversed; so two entries are of one connection exactly when these
// are equal, and no filter but that by direction splits a connection.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/kernel/maps.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

// One entry, of either family (IPv4 addresses in the first word, the rest 0).
struct FlowRecord {
  abi::tuple6 opened;
  abi::tuple6 translated;
  abi::flow_body body;
  Family family = Family::ipv4;
  uint8_t seen = 0;  // as in FlowEntry4

  bool is_reply() const { return (body.flags & abi::FLOW_REPLY) != 0; }
};

FlowRecord record_of(const FlowEntry4& entry);
FlowRecord record_of(const FlowEntry6& entry);

// The key of the entry in its map.
abi::tuple4 key4_of(const FlowRecord& record);
abi::tuple6 key6_of(const FlowRecord& record);

// Brings the entries of each connection together, forward before reply.
void sort_flows(std::vector<FlowRecord>& flows);

// What holds for a connection, from whichever of its entries exist.
struct Connection {
  const char* state = "";  // opening, established, closing, closed; UDP: new, replied
  double idle_seconds = 0;
};

// An unset member selects all. Addresses and ports are those of the client's direction:
// a source is the client, before or after translation; a destination is the service's
// address or the endpoint's; `port` is any of these four's.
struct FlowFilter {
  std::optional<Protocol> protocol;
  std::optional<Family> family;
  std::optional<Cidr> source;
  std::optional<Cidr> destination;
  std::optional<uint16_t> port;
  std::optional<std::set<uint32_t>> service_ids;
  std::optional<std::string> state;
  std::optional<bool> reply;  // this direction's entries alone

  bool selects_all() const;
};

bool is_state(const std::string& word);

// REQUIRES: sorted. Stops early when `visit` returns false.
void each_selected(const std::vector<FlowRecord>& sorted, const FlowFilter& filter,
                   const PinnedMaps::Clock& clock,
                   const std::function<bool(const FlowRecord&, const Connection&)>& visit);

// REQUIRES: sorted.
v1::FlowCount count_flows(const std::vector<FlowRecord>& sorted, const FlowFilter& filter,
                          const PinnedMaps::Clock& clock);

// Names that a flow holds as numbers.
struct FlowNames {
  std::map<uint32_t, std::string> services;             // by id
  std::function<std::string(uint32_t ifindex)> device;  // "" where there is none
};

v1::Flow to_message(const FlowRecord& record, const Connection& connection, const FlowNames& names);

}  // namespace maglane::inspect
