// SPDX-License-Identifier: Apache-2.0
//
// What the inspector's commands ask of one data plane, answered from its pinned maps: reads
// them and leaves the rest to the pure functions beside this.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/inspect/flows.h"
#include "agent/kernel/maps.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

// A flow filter as people give it: the service by name (selector.h).
struct FlowQuery {
  FlowFilter filter;
  std::optional<std::string> service;
};

class Inspector {
 public:
  // `writable`: for flush_flows.
  static Result<Inspector> open(const std::string& bpffs, bool writable = false);

  Result<v1::Status> status() const;  // without the agent: agent_running is false
  Result<v1::ServiceList> list_services() const;
  // Names and connections alone; costs no more than that.
  Result<v1::ServiceList> list_connections() const;
  Result<v1::ServiceList> show_service(const std::string& service) const;
  Result<v1::BackendList> list_backends() const;
  Result<v1::SocketList> list_sockets() const;
  Result<v1::AffinityList> list_affinity() const;
  Result<v1::MaglevInfo> show_maglev(const std::string& service) const;
  // `most`: remote ends to list.
  Result<v1::MasqueradeInfo> show_masquerade(size_t most) const;
  Result<v1::Stats> read_stats(bool all) const;
  Result<v1::Status> map_usage() const;  // `maps` alone

  // One at a time, since there may be a million. Stops early when `visit` returns false.
  Status each_flow(const FlowQuery& query, const std::function<bool(const v1::Flow&)>& visit) const;
  Result<v1::FlowCount> count_flows(const FlowQuery& query) const;
  Result<v1::FlowFlushResult> flush_flows(const FlowQuery& query);

 private:
  struct Flows;

  explicit Inspector(PinnedMaps maps) : maps_(std::move(maps)) {}
  Result<Flows> read_flows(const FlowQuery& query) const;

  PinnedMaps maps_;
};

}  // namespace maglane::inspect
