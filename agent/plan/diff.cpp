// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/diff.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "agent/plan/recovery.h"

namespace maglane {

namespace {

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

using Services = std::map<uint32_t, abi::service_info>;
using Frontends = std::map<abi::frontend_key, abi::frontend, FrontendKeyLess>;

// What differs, map by map; then put in order.
struct Changes {
  Services old_services, new_services;
  Frontends old_frontends, new_frontends;
  std::vector<PutBackend> put_backends;
  std::vector<DeleteBackend> delete_backends;
  std::vector<WriteTable> tables;
  std::vector<SetVipBit> set_bits, clear_bits;
  std::set<abi::source_range_key, BytesLess> old_ranges, new_ranges;
  std::set<abi::service_endpoint, BytesLess> old_udp, new_udp;  // endpoints whose flows may live

  void backend(uint32_t id, const abi::backend& before, const abi::backend& after) {
    if (same_bytes(before, after)) return;
    if (after.family != 0)
      put_backends.push_back({id, after});
    else
      delete_backends.push_back({id});
  }

  void vip_word(uint32_t word, uint64_t before, uint64_t after) {
    for (uint64_t changed = before ^ after; changed != 0; changed &= changed - 1) {
      const auto bit = static_cast<uint32_t>(__builtin_ctzll(changed));
      const bool value = after >> bit & 1;
      (value ? set_bits : clear_bits).push_back({word * 64 + bit, value});
    }
  }
};

void spell_out_old(const ServicePlan& plan, Changes& changes) {
  for (const ServicePortPlan& port : plan.ports) {
    changes.old_services[port.id] = port.info;
    for (const FrontendPlan& frontend : port.frontends) changes.old_frontends[frontend.key] = frontend.value;
    changes.old_ranges.insert(port.source_ranges.begin(), port.source_ranges.end());
    changes.old_udp.insert(port.serving.begin(), port.serving.end());
  }
}

void spell_out_new(const ServicePlan& plan, Changes& changes) {
  for (const ServicePortPlan& port : plan.ports) {
    changes.new_services[port.id] = port.info;
    for (const FrontendPlan& frontend : port.frontends) changes.new_frontends[frontend.key] = frontend.value;
    changes.new_ranges.insert(port.source_ranges.begin(), port.source_ranges.end());
    changes.new_udp.insert(port.serving.begin(), port.serving.end());
  }
}

void put_frontends(const Changes& changes, bool addresses, std::vector<Operation>& out) {
  for (const auto& [key, frontend] : changes.new_frontends) {
    if ((key.protocol == 0) != addresses) continue;
    const auto old = changes.old_frontends.find(key);
    if (old == changes.old_frontends.end() || !same_bytes(old->second, frontend))
      out.emplace_back(PutFrontend{key, frontend});
  }
}

void delete_frontends(const Changes& changes, bool addresses, std::vector<Operation>& out) {
  for (const auto& [key, frontend] : changes.old_frontends)
    if ((key.protocol == 0) == addresses && !changes.new_frontends.contains(key))
      out.emplace_back(DeleteFrontend{key});
}

// An address entry comes after the frontends of its address and goes before them: alone it
// would reject connections to all of its ports.
std::vector<Operation> in_order(const Changes& changes) {
  std::vector<Operation> out;
  for (const auto& [id, info] : changes.new_services) {
    const auto old = changes.old_services.find(id);
    if (old == changes.old_services.end() || !same_bytes(old->second, info))
      out.emplace_back(PutService{id, info});
  }
  out.insert(out.end(), changes.put_backends.begin(), changes.put_backends.end());
  out.insert(out.end(), changes.tables.begin(), changes.tables.end());
  out.insert(out.end(), changes.set_bits.begin(), changes.set_bits.end());
  for (const abi::source_range_key& key : changes.new_ranges)
    if (!changes.old_ranges.contains(key)) out.emplace_back(PutSourceRange{key});
  put_frontends(changes, false, out);
  put_frontends(changes, true, out);
  delete_frontends(changes, true, out);
  delete_frontends(changes, false, out);
  out.insert(out.end(), changes.clear_bits.begin(), changes.clear_bits.end());
  for (const abi::source_range_key& key : changes.old_ranges)
    if (!changes.new_ranges.contains(key)) out.emplace_back(DeleteSourceRange{key});
  out.insert(out.end(), changes.delete_backends.begin(), changes.delete_backends.end());
  for (const auto& [id, info] : changes.old_services)
    if (!changes.new_services.contains(id)) out.emplace_back(DeleteService{id});
  for (const abi::service_endpoint& endpoint : changes.old_udp)
    if (!changes.new_udp.contains(endpoint)) out.emplace_back(ForgetEndpoint{endpoint});
  return out;
}

std::shared_ptr<const std::vector<uint32_t>> share(std::vector<uint32_t> entries) {
  return std::make_shared<const std::vector<uint32_t>>(std::move(entries));
}

}  // namespace

std::vector<Operation> diff(const Plan& from, const Plan& to) {
  Changes changes;
  MaglevBuilder builder;
  ChunkedArray<ServicePlanPtr>::each_unshared(
      from.services, to.services, [&](uint32_t, const ServicePlanPtr& before, const ServicePlanPtr& after) {
        if (before == after) return;
        if (before) spell_out_old(*before, changes);
        if (after) spell_out_new(*after, changes);
      });
  using Key = abi::frontend_key;
  ChunkedArray<Key>::each_unshared(from.addresses, to.addresses,
                                   [&](uint32_t, const Key& before, const Key& after) {
                                     if (same_bytes(before, after)) return;
                                     if (before.family != 0) changes.old_frontends[before] = address_entry();
                                     if (after.family != 0) changes.new_frontends[after] = address_entry();
                                   });
  ChunkedArray<TablePlanPtr>::each_unshared(
      from.tables, to.tables, [&](uint32_t, const TablePlanPtr& before, const TablePlanPtr& after) {
        if (!after || before == after || (before && before->same_entries(*after))) return;
        changes.tables.push_back({after->offset, share(table_entries(to, *after, builder))});
      });
  ChunkedArray<abi::backend>::each_unshared(
      from.backends, to.backends, [&](uint32_t id, const abi::backend& before, const abi::backend& after) {
        changes.backend(id, before, after);
      });
  ChunkedArray<uint64_t>::each_unshared(
      from.vip_words, to.vip_words,
      [&](uint32_t word, uint64_t before, uint64_t after) { changes.vip_word(word, before, after); });
  return in_order(changes);
}

std::vector<Operation> diff(const MapContents& from, const Plan& to) {
  Changes changes;
  MaglevBuilder builder;
  const Plan nothing;
  changes.old_services = from.services;
  changes.old_frontends = from.frontends;
  changes.old_ranges = from.source_ranges;
  changes.old_udp = from.udp_endpoints;
  ChunkedArray<ServicePlanPtr>::each_unshared(
      nothing.services, to.services, [&](uint32_t, const auto&, const ServicePlanPtr& after) {
        if (after) spell_out_new(*after, changes);
      });
  ChunkedArray<abi::frontend_key>::each_unshared(nothing.addresses, to.addresses,
                                                 [&](uint32_t, const auto&, const abi::frontend_key& after) {
                                                   if (after.family != 0)
                                                     changes.new_frontends[after] = address_entry();
                                                 });
  ChunkedArray<TablePlanPtr>::each_unshared(
      nothing.tables, to.tables, [&](uint32_t, const auto&, const TablePlanPtr& after) {
        if (!after) return;
        const bool there = static_cast<uint64_t>(after->offset) + after->size <= from.maglev.size();
        const auto present =
            std::span(from.maglev).subspan(there ? after->offset : 0, there ? after->size : 0);
        if (there && after->entries_hash != 0 && hash_entries(present) == after->entries_hash) return;
        auto entries = table_entries(to, *after, builder);
        if (!there || !std::equal(present.begin(), present.end(), entries.begin()))
          changes.tables.push_back({after->offset, share(std::move(entries))});
      });
  for (const auto& [id, before] : from.backends) changes.backend(id, before, to.backends.at(id));
  ChunkedArray<abi::backend>::each_unshared(nothing.backends, to.backends,
                                            [&](uint32_t id, const auto&, const abi::backend& after) {
                                              if (after.family != 0 && !from.backends.contains(id))
                                                changes.backend(id, abi::backend{}, after);
                                            });
  for (uint32_t word = 0; word < abi::VIP_WORDS; ++word)
    changes.vip_word(word, word < from.vip_words.size() ? from.vip_words[word] : 0, to.vip_words.at(word));
  return in_order(changes);
}

size_t cleanup_begin(std::span<const Operation> operations) {
  const auto first = std::find_if(operations.begin(), operations.end(), [](const Operation& operation) {
    return std::holds_alternative<DeleteBackend>(operation) ||
           std::holds_alternative<DeleteService>(operation) ||
           std::holds_alternative<ForgetEndpoint>(operation);
  });
  return static_cast<size_t>(first - operations.begin());
}

}  // namespace maglane
