// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/inspect/names.h"

namespace maglane::inspect {
namespace {

using Frontend = std::pair<abi::frontend_key, abi::frontend>;
using FrontendsOf = std::map<uint32_t, std::vector<Frontend>>;  // by service id
using TableId = std::pair<uint32_t, uint32_t>;                  // offset, size
using Entries = std::map<uint32_t, uint32_t>;                   // backend id -> entries in a table
using RangesOf = std::map<uint32_t, std::vector<std::string>>;  // by service id

TableId id_of(const abi::table_ref& table) {
  return {table.offset, table.size};
}

FrontendsOf frontends_by_service(const MapContents& contents, const std::set<uint32_t>* only) {
  FrontendsOf found;
  for (const auto& [key, frontend] : contents.frontends)
    if (frontend.type != abi::FRONTEND_ADDRESS && (only == nullptr || only->contains(frontend.service_id)))
      found[frontend.service_id].emplace_back(key, frontend);
  for (auto& [id, frontends] : found)
    std::sort(frontends.begin(), frontends.end(), [](const Frontend& a, const Frontend& b) {
      return std::tuple(a.second.type, IpAddress::from_be(family_of(a.first.family), a.first.addr_be),
                        host_port(a.first.port_be)) <
             std::tuple(b.second.type, IpAddress::from_be(family_of(b.first.family), b.first.addr_be),
                        host_port(b.first.port_be));
    });
  return found;
}

std::string range_name(const abi::source_range_key& key) {
  const int64_t length = int64_t{key.prefix_bits} - abi::SOURCE_RANGE_BITS;
  return fmt::format("{}/{}", address_name(static_cast<uint8_t>(key.family), key.addr_be), length);
}

// Each service's by address and length.
RangesOf ranges_by_service(const MapContents& contents, const std::set<uint32_t>* only) {
  std::vector<abi::source_range_key> keys;
  for (const abi::source_range_key& key : contents.source_ranges)
    if (only == nullptr || only->contains(key.service_id)) keys.push_back(key);
  const auto order = [](const abi::source_range_key& key) {
    return std::tuple(IpAddress::from_be(family_of(static_cast<uint8_t>(key.family)), key.addr_be),
                      key.prefix_bits);
  };
  std::sort(keys.begin(), keys.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  RangesOf found;
  for (const abi::source_range_key& key : keys) found[key.service_id].push_back(range_name(key));
  return found;
}

// The part of a table that the contents hold: a frontend may name entries that are not there.
std::pair<uint64_t, uint64_t> bounds(const MapContents& contents, TableId table) {
  const uint64_t begin = std::min<uint64_t>(table.first, contents.maglev.size());
  return {begin, std::min<uint64_t>(begin + table.second, contents.maglev.size())};
}

Entries count_entries(const MapContents& contents, TableId table) {
  Entries entries;
  const auto [begin, end] = bounds(contents, table);
  for (uint64_t i = begin; i < end; ++i) ++entries[contents.maglev[i]];
  return entries;
}

// How many different backends each table has; asked for every frontend of a node, so each
// table is walked once, and without a map.
class EndpointCounter {
 public:
  explicit EndpointCounter(const MapContents& contents)
      : contents_(contents),
        last_seen_(contents.backends.empty() ? 1 : size_t{contents.backends.rbegin()->first} + 1) {}

  uint32_t count(TableId table) {
    const auto [known, added] = counts_.emplace(table, 0);
    if (!added) return known->second;
    ++round_;
    const auto [begin, end] = bounds(contents_, table);
    for (uint64_t i = begin; i < end; ++i) {
      const uint32_t id = contents_.maglev[i];
      if (id >= last_seen_.size() || last_seen_[id] == round_) continue;
      last_seen_[id] = round_;
      known->second += contents_.backends.contains(id) ? 1 : 0;
    }
    return known->second;
  }

 private:
  const MapContents& contents_;
  std::vector<uint32_t> last_seen_;  // by backend id: the last round that met it
  uint32_t round_ = 0;
  std::map<TableId, uint32_t> counts_;
};

void fill_frontend(const Frontend& source, EndpointCounter& counter, const RangesOf& ranges,
                   v1::FrontendInfo& frontend) {
  const auto& [key, value] = source;
  const abi::table_ref& outside = value.tables[abi::SOURCE_OUTSIDE];
  const abi::table_ref& pods = value.tables[abi::SOURCE_POD];
  frontend.set_type(frontend_type_name(value.type));
  frontend.set_address(address_name(key.family, key.addr_be));
  frontend.set_port(host_port(key.port_be));
  frontend.set_protocol(protocol_name(key.protocol));
  frontend.set_endpoints(outside.size == 0 ? 0 : counter.count(id_of(outside)));
  frontend.set_pod_endpoints(pods.size == 0 ? 0 : counter.count(id_of(pods)));
  const abi::table_ref* empty = outside.size == 0 ? &outside : pods.size == 0 ? &pods : nullptr;
  if (empty != nullptr) frontend.set_when_empty(empty->offset == abi::EMPTY_DROP ? "drop" : "reject");
  frontend.set_affinity_seconds(value.affinity_seconds);
  frontend.set_limited((value.flags & abi::FRONTEND_SOURCE_RANGES) != 0);
  const auto found = ranges.find(value.service_id);
  if (!frontend.limited() || found == ranges.end()) return;
  for (const std::string& range : found->second) frontend.add_source_ranges(range);
}

void fill_service(uint32_t id, const abi::service_info& info, v1::ServiceInfo& service) {
  service.set_id(id);
  service.set_namespace_(text_of(info.namespace_name));
  service.set_name(text_of(info.name));
  service.set_port_name(text_of(info.port_name));
  service.set_port(info.port);
  service.set_protocol(protocol_name(info.protocol));
  service.set_family(std::string(to_string(family_of(info.family))));
}

// As people look for them: by address, port and protocol. A backend that is gone sorts first.
auto place_of(const MapContents& contents, uint32_t id) {
  static const abi::backend gone{};
  const auto found = contents.backends.find(id);
  const abi::backend& backend = found == contents.backends.end() ? gone : found->second;
  return std::tuple(IpAddress::from_be(family_of(backend.family), backend.addr_be),
                    host_port(backend.port_be), backend.protocol, id);
}

void add_shares(const MapContents& contents, const Entries& entries,
                google::protobuf::RepeatedPtrField<v1::EndpointShare>& shares) {
  double total = 0;
  std::vector<uint32_t> ids;
  for (const auto& [id, count] : entries) {
    total += count;
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end(),
            [&](uint32_t a, uint32_t b) { return place_of(contents, a) < place_of(contents, b); });
  for (const uint32_t id : ids) {
    v1::EndpointShare& share = *shares.Add();
    share.set_backend_id(id);
    share.set_entries(entries.at(id));
    share.set_share(entries.at(id) / total);
    const auto backend = contents.backends.find(id);
    if (backend == contents.backends.end()) continue;  // shown without an address
    share.set_address(address_name(backend->second.family, backend->second.addr_be));
    share.set_port(host_port(backend->second.port_be));
    share.set_local((backend->second.flags & abi::BACKEND_LOCAL) != 0);
  }
}

void fill_endpoints(const MapContents& contents, const std::vector<Frontend>& frontends,
                    v1::ServiceInfo& service) {
  std::set<TableId> tables;
  for (const auto& [key, frontend] : frontends)
    for (const auto& table : frontend.tables)
      if (table.size != 0) tables.insert(id_of(table));
  Entries entries;
  for (const TableId& table : tables)
    for (const auto& [id, count] : count_entries(contents, table)) entries[id] += count;
  add_shares(contents, entries, *service.mutable_endpoints());
}

void sort_by_name(v1::ServiceList& list) {
  const auto order = [](const v1::ServiceInfo& s) {
    return std::tie(s.namespace_(), s.name(), s.port_name(), s.protocol(), s.family());
  };
  std::sort(list.mutable_services()->begin(), list.mutable_services()->end(),
            [&](const v1::ServiceInfo& a, const v1::ServiceInfo& b) { return order(a) < order(b); });
}

v1::ServiceList make_list(const MapContents& contents, const std::set<uint32_t>* only) {
  const FrontendsOf frontends = frontends_by_service(contents, only);
  const RangesOf ranges = ranges_by_service(contents, only);
  EndpointCounter counter(contents);
  v1::ServiceList list;
  for (const auto& [id, info] : contents.services) {
    if (only != nullptr && !only->contains(id)) continue;
    v1::ServiceInfo& service = *list.add_services();
    fill_service(id, info, service);
    const auto found = frontends.find(id);
    if (found == frontends.end()) continue;
    for (const Frontend& frontend : found->second)
      fill_frontend(frontend, counter, ranges, *service.add_frontends());
    if (only != nullptr) fill_endpoints(contents, found->second, service);
  }
  sort_by_name(list);
  return list;
}

std::string describe(const Frontend& source, const char* who) {
  const auto& [key, frontend] = source;
  return fmt::format("{} {} {}{}", frontend_type_name(frontend.type),
                     IpAddress::from_be(family_of(key.family), key.addr_be).with_port(host_port(key.port_be)),
                     protocol_name(key.protocol), who);
}

}  // namespace

v1::ServiceList list_services(const MapContents& contents) {
  return make_list(contents, nullptr);
}

v1::ServiceList show_services(const MapContents& contents, const std::set<uint32_t>& ids) {
  return make_list(contents, &ids);
}

v1::ServiceList name_services(const std::map<uint32_t, abi::service_info>& services) {
  v1::ServiceList list;
  for (const auto& [id, info] : services) fill_service(id, info, *list.add_services());
  sort_by_name(list);
  return list;
}

v1::BackendList list_backends(const MapContents& contents) {
  std::vector<uint32_t> ids;
  for (const auto& [id, backend] : contents.backends) ids.push_back(id);
  std::sort(ids.begin(), ids.end(),
            [&](uint32_t a, uint32_t b) { return place_of(contents, a) < place_of(contents, b); });
  v1::BackendList list;
  for (const uint32_t id : ids) {
    const abi::backend& backend = contents.backends.at(id);
    v1::BackendInfo& info = *list.add_backends();
    info.set_id(id);
    info.set_address(address_name(backend.family, backend.addr_be));
    info.set_port(host_port(backend.port_be));
    info.set_protocol(protocol_name(backend.protocol));
    info.set_local((backend.flags & abi::BACKEND_LOCAL) != 0);
  }
  return list;
}

v1::AffinityList list_affinity(const MapContents& contents, const std::vector<AffinityEntry>& entries,
                               const PinnedMaps::Clock& clock) {
  std::map<uint32_t, uint32_t> limits;  // by service id: seconds
  for (const auto& [key, frontend] : contents.frontends)
    if (frontend.affinity_seconds != 0) limits[frontend.service_id] = frontend.affinity_seconds;
  v1::AffinityList list;
  for (const auto& [key, value] : entries) {
    const auto limit = limits.find(key.service_id);
    const auto service = contents.services.find(key.service_id);
    if (limit == limits.end() || service == contents.services.end()) continue;
    const double idle = ((clock.slot - value.slot) & abi::STAMP_SLOT_MASK) * clock.slot_seconds;
    if (idle >= limit->second) continue;
    v1::AffinityInfo& info = *list.add_clients();
    info.set_service(service_name(service->second));
    info.set_service_id(key.service_id);
    info.set_client(address_name(service->second.family, key.addr_be));
    info.set_backend_id(value.backend_id);
    info.set_idle_seconds(idle);
    info.set_seconds_left(limit->second - idle);
    const auto backend = contents.backends.find(value.backend_id);
    if (backend == contents.backends.end()) continue;
    info.set_address(address_name(backend->second.family, backend->second.addr_be));
    info.set_port(host_port(backend->second.port_be));
  }
  std::sort(list.mutable_clients()->begin(), list.mutable_clients()->end(), [](const auto& a, const auto& b) {
    return std::tie(a.service(), a.client()) < std::tie(b.service(), b.client());
  });
  return list;
}

v1::MaglevInfo show_maglev(const MapContents& contents, const std::set<uint32_t>& ids,
                           const std::string& name) {
  v1::MaglevInfo info;
  info.set_service(name);
  std::map<TableId, v1::MaglevTable*> tables;
  const auto use = [&](const abi::table_ref& ref, const std::string& frontend) {
    v1::MaglevTable*& table = tables[id_of(ref)];
    if (table == nullptr) {
      table = info.add_tables();
      table->set_size(ref.size);
      // Of an empty table the offset is a verdict, not a place.
      if (ref.size != 0) {
        table->set_offset(ref.offset);
        add_shares(contents, count_entries(contents, id_of(ref)), *table->mutable_endpoints());
      }
    }
    table->add_frontends(frontend);
  };
  for (const auto& [id, frontends] : frontends_by_service(contents, &ids)) {
    for (const Frontend& frontend : frontends) {
      const auto& refs = frontend.second.tables;
      const bool same = id_of(refs[abi::SOURCE_OUTSIDE]) == id_of(refs[abi::SOURCE_POD]);
      use(refs[abi::SOURCE_OUTSIDE], describe(frontend, same ? "" : " (outside)"));
      if (!same) use(refs[abi::SOURCE_POD], describe(frontend, " (pods)"));
    }
  }
  return info;
}

}  // namespace maglane::inspect
