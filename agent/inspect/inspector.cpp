// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/inspector.h"

#include <fmt/format.h>
#include <net/if.h>

#include <utility>

#include "agent/inspect/masquerade.h"
#include "agent/inspect/names.h"
#include "agent/inspect/selector.h"
#include "agent/inspect/sockets.h"
#include "agent/inspect/stats.h"
#include "agent/inspect/tables.h"

namespace maglane::inspect {
namespace {

// By the names of the network namespace that this runs in, which is the agent's as a rule.
std::string device_name(uint32_t ifindex) {
  static std::map<uint32_t, std::string> known;
  const auto [name, added] = known.emplace(ifindex, "");
  if (added) {
    char text[IF_NAMESIZE];
    name->second = if_indextoname(ifindex, text) != nullptr ? text : fmt::format("if{}", ifindex);
  }
  return name->second;
}

void add_connections(const PinnedMaps& maps, v1::ServiceList& list) {
  for (v1::ServiceInfo& service : *list.mutable_services())
    service.set_connections(static_cast<double>(maps.connections_of(service.id())));
}

}  // namespace

// The flows, sorted, and what it takes to judge, select and name them.
struct Inspector::Flows {
  std::vector<FlowRecord> records;
  FlowFilter filter;
  PinnedMaps::Clock clock;
  FlowNames names;
};

Result<Inspector> Inspector::open(const std::string& bpffs, bool writable) {
  auto maps = PinnedMaps::open(bpffs, !writable);
  if (!maps) return maps.error();
  return Inspector(std::move(*maps));
}

Result<v1::Status> Inspector::status() const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  auto usage = maps_.usage();
  if (!usage) return usage.error();
  auto node = maps_.read_node_state();
  if (!node) return node.error();
  auto counters = maps_.read_counters();
  if (!counters) return counters.error();
  v1::Status status = status_of_maps(*contents, *usage, *node);
  add_flow_tables(maps_.flow_tables(), *usage, *counters, status);
  return status;
}

Result<v1::ServiceList> Inspector::list_services() const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  v1::ServiceList list = inspect::list_services(*contents);
  add_connections(maps_, list);
  return list;
}

Result<v1::ServiceList> Inspector::list_connections() const {
  auto services = maps_.read_services();
  if (!services) return services.error();
  v1::ServiceList list = name_services(*services);
  add_connections(maps_, list);
  return list;
}

Result<v1::ServiceList> Inspector::show_service(const std::string& service) const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  auto ids = select_services(*contents, service);
  if (!ids) return ids.error();
  v1::ServiceList list = show_services(*contents, *ids);
  add_connections(maps_, list);
  return list;
}

Result<v1::AffinityList> Inspector::list_affinity() const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  auto entries = maps_.read_affinity();
  if (!entries) return entries.error();
  auto clock = maps_.read_clock();
  if (!clock) return clock.error();
  return inspect::list_affinity(*contents, *entries, *clock);
}

Result<v1::BackendList> Inspector::list_backends() const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  return inspect::list_backends(*contents);
}

Result<v1::SocketList> Inspector::list_sockets() const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  std::map<uint32_t, std::string> names;
  for (const auto& [id, info] : contents->services) names.emplace(id, service_name(info));
  std::vector<SocketRecord> records;
  auto status = maps_.each_socket([&](const abi::socket_key& key, const abi::socket_peer& peer) {
    records.emplace_back(key, peer);
    return true;
  });
  if (!status) return status.error();
  return inspect::list_sockets(std::move(records), names);
}

Result<v1::MaglevInfo> Inspector::show_maglev(const std::string& service) const {
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  auto ids = select_services(*contents, service);
  if (!ids) return ids.error();
  return inspect::show_maglev(*contents, *ids, service);
}

Result<v1::MasqueradeInfo> Inspector::show_masquerade(size_t most) const {
  auto node = maps_.read_node_state();
  if (!node) return node.error();
  auto ranges = maps_.read_masquerade_ranges();
  if (!ranges) return ranges.error();
  auto addresses = maps_.read_egress_addresses();
  if (!addresses) return addresses.error();
  auto shortages = maps_.read_port_shortages();
  if (!shortages) return shortages.error();
  auto counters = maps_.read_counters();
  if (!counters) return counters.error();
  MasqueradeView view(*node);
  auto add = [&](const auto& flow) {
    view.add(flow);
    return true;
  };
  if (auto s = maps_.each_flow(add, add); !s) return s.error();
  return view.finish(*ranges, *addresses, *shortages, *counters, device_name, most);
}

Result<v1::Stats> Inspector::read_stats(bool all) const {
  auto counters = maps_.read_counters();
  if (!counters) return counters.error();
  return list_counters(*counters, all);
}

Result<v1::Status> Inspector::map_usage() const {
  auto usage = maps_.usage();
  if (!usage) return usage.error();
  v1::Status status;
  for (const MapInfo& info : *usage) *status.add_maps() = to_message(info);
  return status;
}

Result<Inspector::Flows> Inspector::read_flows(const FlowQuery& query) const {
  Flows flows;
  flows.filter = query.filter;
  auto contents = maps_.read_contents();
  if (!contents) return contents.error();
  if (query.service) {
    auto ids = select_services(*contents, *query.service);
    if (!ids) return ids.error();
    flows.filter.service_ids = std::move(*ids);
  }
  for (const auto& [id, info] : contents->services) flows.names.services.emplace(id, service_name(info));
  flows.names.device = device_name;
  auto status = maps_.each_flow(
      [&](const FlowEntry4& entry) {
        flows.records.push_back(record_of(entry));
        return true;
      },
      [&](const FlowEntry6& entry) {
        flows.records.push_back(record_of(entry));
        return true;
      });
  if (!status) return status.error();
  // After the flows, so that none of them is in the clock's future.
  auto clock = maps_.read_clock();
  if (!clock) return clock.error();
  flows.clock = *clock;
  sort_flows(flows.records);
  return flows;
}

Status Inspector::each_flow(const FlowQuery& query, const std::function<bool(const v1::Flow&)>& visit) const {
  auto flows = read_flows(query);
  if (!flows) return flows.error();
  each_selected(flows->records, flows->filter, flows->clock,
                [&](const FlowRecord& record, const Connection& connection) {
                  return visit(inspect::to_message(record, connection, flows->names));
                });
  return ok_status();
}

Result<v1::FlowCount> Inspector::count_flows(const FlowQuery& query) const {
  auto flows = read_flows(query);
  if (!flows) return flows.error();
  return inspect::count_flows(flows->records, flows->filter, flows->clock);
}

Result<v1::FlowFlushResult> Inspector::flush_flows(const FlowQuery& query) {
  auto flows = read_flows(query);
  if (!flows) return flows.error();
  v1::FlowFlushResult result;
  Status status = ok_status();
  each_selected(flows->records, flows->filter, flows->clock,
                [&](const FlowRecord& record, const Connection&) {
                  const auto removed = record.family == Family::ipv4 ? maps_.remove_flow(key4_of(record))
                                                                     : maps_.remove_flow(key6_of(record));
                  if (!removed) status = removed.error();
                  result.set_removed(result.removed() + (removed && *removed));
                  return status.ok();
                });
  if (!status) return status.error();
  return result;
}

}  // namespace maglane::inspect
