// SPDX-License-Identifier: Apache-2.0
//
// The part of the planner that counts who holds what services share: backends, Maglev tables,
// addresses. What no one holds any more is retired; what only a failed attempt had is free
// again at once.
#include <algorithm>
#include <cassert>

#include "agent/plan/planner.h"
#include "agent/plan/siphash.h"

namespace maglane {

Result<uint32_t> Planner::hold_backend(const ResolvedEndpoint& endpoint, Protocol protocol) {
  const abi::frontend_key key = make_key(endpoint.address, endpoint.port, static_cast<uint8_t>(protocol));
  auto it = backends_.find(key);
  if (it == backends_.end()) {
    BackendState state{.since = generation_};
    if (recovered_ && recovered_->backend_ids.contains(key)) {
      state.id = recovered_->backend_ids.extract(key).mapped();
      state.since = 0;
    } else {
      const auto id = backend_ids_.allocate();
      if (!id) return id;
      state.id = *id;
    }
    it = backends_.emplace(key, state).first;
    abi::backend backend{};
    std::copy(std::begin(key.addr_be), std::end(key.addr_be), backend.addr_be);
    backend.port_be = key.port_be;
    backend.protocol = key.protocol;
    backend.family = key.family;
    plan_.backends.set(state.id, backend);
  }
  BackendState& state = it->second;
  ++state.holds;
  if (endpoint.local && state.local_holds++ == 0) set_backend_flag(state.id, abi::BACKEND_LOCAL, true);
  if (endpoint.node && state.node_holds++ == 0) set_backend_flag(state.id, abi::BACKEND_NODE, true);
  return state.id;
}

void Planner::set_backend_flag(uint32_t id, uint32_t flag, bool value) {
  abi::backend backend = plan_.backends.at(id);
  backend.flags = value ? backend.flags | flag : backend.flags & ~flag;
  if (flag == abi::BACKEND_NODE) node_backends_ += value ? 1U : -1U;
  plan_.backends.set(id, backend);
}

void Planner::drop_backend(BackendHold hold) {
  const auto it = backends_.find(backend_key(plan_.backends.at(hold.id)));
  assert(it != backends_.end());
  BackendState& state = it->second;
  if (hold.local && --state.local_holds == 0) set_backend_flag(hold.id, abi::BACKEND_LOCAL, false);
  if (hold.node && --state.node_holds == 0) set_backend_flag(hold.id, abi::BACKEND_NODE, false);
  if (--state.holds > 0) return;
  if (state.since == generation_)
    backend_ids_.cancel(hold.id);
  else
    backend_ids_.retire(hold.id, generation_);
  plan_.backends.set(hold.id, abi::backend{});
  backends_.erase(it);
}

Result<uint32_t> Planner::hold_table(std::vector<TableMember> members) {
  std::sort(members.begin(), members.end(),
            [](const TableMember& a, const TableMember& b) { return a.backend_id < b.backend_id; });
  static_assert(sizeof(TableMember) == 8);
  const uint64_t hash = siphash({0, 0}, members.data(), members.size() * sizeof(TableMember));
  const auto [begin, end] = table_by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (plan_.tables.at(it->second)->members != members) continue;
    ++tables_[it->second].holds;
    ++stats_.tables_shared;
    return it->second;
  }

  std::vector<uint32_t> weights;
  for (const TableMember& member : members) weights.push_back(member.weight);
  TablePlan table{0, maglev_size(weights), std::move(members)};
  if (const Status status = place_table(table); !status) return status.error();
  ++stats_.tables_built;
  if (free_table_slots_.empty()) {
    free_table_slots_.push_back(static_cast<uint32_t>(tables_.size()));
    tables_.emplace_back();
  }
  const uint32_t slot = free_table_slots_.back();
  free_table_slots_.pop_back();
  tables_[slot] = {1, hash, generation_};
  table_by_hash_.emplace(hash, slot);
  plan_.tables.set(slot, std::make_shared<const TablePlan>(std::move(table)));
  return slot;
}

// Where such a table lies already, if a previous agent wrote it; else a free place.
Status Planner::place_table(TablePlan& table) {
  if (recovered_ && !recovered_->tables.empty()) {
    const auto entries = table_entries(plan_, table, builder_);
    table.entries_hash = hash_entries(std::span(entries).first(table.size));
    const auto found = recovered_->tables.find(table.entries_hash);
    if (found != recovered_->tables.end() && found->second.entries == table.size) {
      table.offset = found->second.offset;
      recovered_->tables.erase(found);
      ++stats_.tables_adopted;
      return ok_status();
    }
  }
  const auto offset = ranges_.allocate(table.size);
  if (!offset) return offset.error();
  table.offset = *offset;
  return ok_status();
}

void Planner::drop_table(uint32_t slot) {
  TableState& state = tables_[slot];
  if (--state.holds > 0) return;
  const TablePlanPtr table = plan_.tables.at(slot);
  const EntryRange range{table->offset, table->size};
  // During the first update the place may be a recovered one, which programs read.
  if (state.since == generation_ && !recovered_)
    ranges_.cancel(range);
  else
    ranges_.retire(range, generation_);
  const auto [begin, end] = table_by_hash_.equal_range(state.hash);
  table_by_hash_.erase(std::find_if(begin, end, [&](const auto& one) { return one.second == slot; }));
  plan_.tables.set(slot, nullptr);
  free_table_slots_.push_back(slot);
}

Result<uint32_t> Planner::hold_address(const abi::frontend_key& key, bool node_address) {
  abi::frontend_key address = key;
  address.port_be = 0;
  address.protocol = 0;
  const auto [it, fresh] = addresses_.try_emplace(address);
  AddressState& state = it->second;
  if (fresh) {
    if (free_address_slots_.empty()) {
      free_address_slots_.push_back(static_cast<uint32_t>(address_by_slot_.size()));
      address_by_slot_.emplace_back();
    }
    state.slot = free_address_slots_.back();
    free_address_slots_.pop_back();
    address_by_slot_[state.slot] = address;
    count_vip_bit(address, +1);
  }
  ++state.holds;
  state.node_holds += node_address;
  const uint32_t slot = state.slot;
  if (const Status status = show_address(state, address); !status) {
    drop_address(slot, node_address);
    return status.error();
  }
  return slot;
}

// An address of the node itself gets no entry: its other ports are the host's own.
Status Planner::show_address(const AddressState& state, const abi::frontend_key& key) {
  const bool shown = plan_.addresses.at(state.slot).family != 0;
  const bool wanted = state.holds > 0 && state.node_holds == 0;
  if (wanted && !shown) {
    if (!recovered_ || recovered_->frontends.erase(key) == 0)
      if (Status status = frontend_budget_.add(1); !status) return status;
    plan_.addresses.set(state.slot, key);
  } else if (!wanted && shown) {
    hide_address(state.slot);
  }
  return ok_status();
}

void Planner::hide_address(uint32_t slot) {
  plan_.addresses.set(slot, abi::frontend_key{});
  frontend_budget_.retire(1, generation_);
}

void Planner::drop_address(uint32_t slot, bool node_address) {
  const abi::frontend_key key = address_by_slot_[slot];
  AddressState& state = addresses_.at(key);
  --state.holds;
  state.node_holds -= node_address;
  if (state.holds > 0) {
    // Without room for its entry an address only loses the answer for its unused ports.
    (void)show_address(state, key).ok();
    return;
  }
  if (plan_.addresses.at(slot).family != 0) hide_address(slot);
  count_vip_bit(key, -1);
  free_address_slots_.push_back(slot);
  addresses_.erase(key);
}

void Planner::count_vip_bit(const abi::frontend_key& key, int change) {
  const uint32_t bit = abi::vip_hash(key.addr_be);
  uint32_t& holds = vip_holds_[bit];
  const bool before = holds > 0;
  holds += static_cast<uint32_t>(change);
  if (before == (holds > 0)) return;
  plan_.vip_words.set(bit / 64, plan_.vip_words.at(bit / 64) ^ (1ULL << (bit % 64)));
  if (holds == 0) vip_holds_.erase(bit);
}

void Planner::drop_holdings(const ServicePlan& plan) {
  for (const uint32_t slot : plan.tables) drop_table(slot);
  for (const BackendHold hold : plan.backends) drop_backend(hold);
  for (const ServicePortPlan& port : plan.ports)
    for (const FrontendPlan& frontend : port.frontends)
      drop_address(frontend.address_slot, frontend.node_address);
}

// Everything that the maps hold stays taken until the first release.
void Planner::hold_recovered() {
  for (const auto& [key, id] : recovered_->service_ids) service_ids_.reserve(id);
  for (const uint32_t id : recovered_->other_service_ids) service_ids_.reserve(id);
  for (const auto& [key, id] : recovered_->backend_ids) backend_ids_.reserve(id);
  for (const uint32_t id : recovered_->other_backend_ids) backend_ids_.reserve(id);
  std::erase_if(recovered_->tables, [&](const auto& one) { return !ranges_.reserve(one.second).ok(); });
  std::erase_if(recovered_->other_ranges,
                [&](const EntryRange& range) { return !ranges_.reserve(range).ok(); });
  frontend_budget_.add_existing(static_cast<uint32_t>(recovered_->frontends.size()));
}

void Planner::retire_unclaimed() {
  for (const auto& [key, id] : recovered_->service_ids) service_ids_.retire(id, generation_);
  for (const uint32_t id : recovered_->other_service_ids) service_ids_.retire(id, generation_);
  for (const auto& [key, id] : recovered_->backend_ids) backend_ids_.retire(id, generation_);
  for (const uint32_t id : recovered_->other_backend_ids) backend_ids_.retire(id, generation_);
  for (const auto& [hash, range] : recovered_->tables) ranges_.retire(range, generation_);
  for (const EntryRange& range : recovered_->other_ranges) ranges_.retire(range, generation_);
  frontend_budget_.retire(static_cast<uint32_t>(recovered_->frontends.size()), generation_);
  recovered_.reset();
}

}  // namespace maglane
