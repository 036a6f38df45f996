// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/recovery.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>

#include "agent/plan/siphash.h"

namespace maglane {

abi::frontend_key make_key(const IpAddress& address, uint16_t port, uint8_t protocol) {
  abi::frontend_key key{};
  address.to_be(key.addr_be);
  key.port_be = static_cast<uint16_t>(port >> 8 | port << 8);
  key.protocol = protocol;
  key.family = static_cast<uint8_t>(address.family());
  return key;
}

abi::frontend_key backend_key(const abi::backend& backend) {
  abi::frontend_key key{};
  std::memcpy(key.addr_be, backend.addr_be, sizeof key.addr_be);
  key.port_be = backend.port_be;
  key.protocol = backend.protocol;
  key.family = backend.family;
  return key;
}

abi::source_range_key make_source_range(uint32_t service_id, const Cidr& range) {
  abi::source_range_key key{};
  key.prefix_bits = abi::SOURCE_RANGE_BITS + range.length();
  key.service_id = service_id;
  key.family = static_cast<uint32_t>(range.family());
  range.address().to_be(key.addr_be);
  return key;
}

abi::service_endpoint make_service_endpoint(uint32_t service_id, const IpAddress& address, uint16_t port,
                                            Protocol protocol) {
  abi::service_endpoint endpoint{};
  address.to_be(endpoint.addr_be);
  endpoint.service_id = service_id;
  endpoint.port_be = static_cast<uint16_t>(port >> 8 | port << 8);
  endpoint.protocol = static_cast<uint8_t>(protocol);
  endpoint.family = static_cast<uint8_t>(address.family());
  return endpoint;
}

uint64_t hash_entries(std::span<const uint32_t> entries) {
  return siphash({0, 0}, entries.data(), entries.size_bytes());
}

namespace {

bool read_string(const char (&field)[64], std::string& out) {
  const size_t length = strnlen(field, sizeof field);
  out.assign(field, length);
  return length < sizeof field;
}

// A run of entries that frontends refer to; `table` if all of them mean the same run.
struct Extent {
  EntryRange range;
  bool table = true;
};

// Merges what overlaps, in whole lines.
std::vector<Extent> merge(const std::set<EntryRange>& refs) {
  constexpr uint32_t line = abi::MAGLEV_LINE_ENTRIES;
  std::vector<Extent> extents;
  for (const EntryRange& ref : refs) {
    if (!extents.empty()) {
      EntryRange& last = extents.back().range;
      const uint32_t last_end = (last.offset + last.entries + line - 1) / line * line;
      if (ref.offset < last_end) {
        last.entries = std::max(last.offset + last.entries, ref.offset + ref.entries) - last.offset;
        extents.back().table = false;
        continue;
      }
    }
    const uint32_t skew = ref.offset % line;
    extents.push_back({{ref.offset - skew, ref.entries + skew}, skew == 0});
  }
  return extents;
}

void recover_tables(const MapContents& contents, const MapLimits& limits, Recovered& recovered) {
  const uint64_t end = std::min<uint64_t>(contents.maglev.size(), limits.maglev_entries);
  std::set<EntryRange> refs;
  for (const auto& [key, frontend] : contents.frontends)
    for (const abi::table_ref& ref : frontend.tables)
      if (ref.size > 0 && static_cast<uint64_t>(ref.offset) + ref.size <= end)
        refs.insert({ref.offset, ref.size});
  for (const Extent& extent : merge(refs)) {
    if (!extent.table) {
      recovered.other_ranges.push_back(extent.range);
      continue;
    }
    const std::span entries = std::span(contents.maglev).subspan(extent.range.offset, extent.range.entries);
    recovered.tables.emplace(hash_entries(entries), extent.range);
  }
}

}  // namespace

Result<ServicePortKey> parse_service_info(const abi::service_info& info) {
  ServicePortKey key;
  if (!read_string(info.namespace_name, key.service.namespace_name) ||
      !read_string(info.name, key.service.name) || !read_string(info.port_name, key.port_name))
    return Error{"a name has no end"};
  if (key.service.name.empty()) return Error{"there is no name"};
  if (info.family != abi::FAMILY_IPV4 && info.family != abi::FAMILY_IPV6) return Error{"unknown family"};
  key.protocol = static_cast<Protocol>(info.protocol);
  key.family = static_cast<Family>(info.family);
  if (to_string(key.protocol) == "unknown") return Error{"unknown protocol"};
  return key;
}

Recovered recover(const MapContents& contents, const MapLimits& limits) {
  Recovered recovered;
  for (const auto& [id, info] : contents.services) {
    if (id == 0 || id > limits.services) continue;
    const auto key = parse_service_info(info);
    if (!key || !recovered.service_ids.emplace(*key, id).second) recovered.other_service_ids.push_back(id);
  }
  for (const auto& [id, backend] : contents.backends) {
    if (id == 0 || id >= limits.backends) continue;
    const bool known = backend.family == abi::FAMILY_IPV4 || backend.family == abi::FAMILY_IPV6;
    if (!known || !recovered.backend_ids.emplace(backend_key(backend), id).second)
      recovered.other_backend_ids.push_back(id);
  }
  for (const auto& [key, frontend] : contents.frontends) recovered.frontends.insert(key);
  recover_tables(contents, limits, recovered);
  return recovered;
}

}  // namespace maglane
