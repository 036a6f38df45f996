// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/plan.h"

#include <algorithm>
#include <cstring>

namespace maglane {

std::vector<uint32_t> table_entries(const Plan& plan, const TablePlan& table, MaglevBuilder& builder) {
  std::vector<MaglevEndpoint> endpoints;
  endpoints.reserve(table.members.size());
  for (const TableMember& member : table.members) {
    const abi::backend& backend = plan.backends.at(member.backend_id);
    uint32_t be[4];
    std::memcpy(be, backend.addr_be, sizeof be);
    endpoints.push_back(maglev_endpoint(IpAddress::from_be(static_cast<Family>(backend.family), be),
                                        static_cast<uint16_t>(backend.port_be >> 8 | backend.port_be << 8),
                                        static_cast<Protocol>(backend.protocol), member.weight,
                                        member.backend_id));
  }
  constexpr size_t line = abi::MAGLEV_LINE_ENTRIES;
  std::vector<uint32_t> entries((table.size + line - 1) / line * line);
  builder.build(endpoints, std::span(entries).first(table.size));
  return entries;
}

MapContents to_contents(const Plan& plan) {
  MapContents contents;
  MaglevBuilder builder;
  const Plan nothing;
  ChunkedArray<abi::backend>::each_unshared(nothing.backends, plan.backends,
                                            [&](uint32_t id, const auto&, const abi::backend& backend) {
                                              if (backend.family != 0) contents.backends[id] = backend;
                                            });
  ChunkedArray<TablePlanPtr>::each_unshared(
      nothing.tables, plan.tables, [&](uint32_t, const auto&, const TablePlanPtr& table) {
        if (!table) return;
        const auto entries = table_entries(plan, *table, builder);
        if (contents.maglev.size() < table->offset + entries.size())
          contents.maglev.resize(table->offset + entries.size());
        std::copy(entries.begin(), entries.end(), contents.maglev.begin() + table->offset);
      });
  ChunkedArray<uint64_t>::each_unshared(nothing.vip_words, plan.vip_words,
                                        [&](uint32_t word, uint64_t, uint64_t bits) {
                                          contents.vip_words.resize(abi::VIP_WORDS);
                                          contents.vip_words[word] = bits;
                                        });
  ChunkedArray<ServicePlanPtr>::each_unshared(nothing.services, plan.services,
                                              [&](uint32_t, const auto&, const ServicePlanPtr& service) {
                                                if (!service) return;
                                                for (const ServicePortPlan& port : service->ports) {
                                                  contents.services[port.id] = port.info;
                                                  for (const FrontendPlan& frontend : port.frontends)
                                                    contents.frontends[frontend.key] = frontend.value;
                                                  contents.source_ranges.insert(port.source_ranges.begin(),
                                                                                port.source_ranges.end());
                                                }
                                              });
  ChunkedArray<abi::frontend_key>::each_unshared(nothing.addresses, plan.addresses,
                                                 [&](uint32_t, const auto&, const abi::frontend_key& key) {
                                                   if (key.family != 0)
                                                     contents.frontends[key] = address_entry();
                                                 });
  return contents;
}

}  // namespace maglane
