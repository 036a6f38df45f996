// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <tuple>

namespace maglane {

struct Planner::ServiceState {
  ServiceKey key;
  uint32_t slot = 0;
  std::shared_ptr<const ResolvedService> wanted;  // what its claims come from
  ServicePlanPtr plan;                            // null: none yet
  std::vector<Complaint> complaints;
  std::vector<v1::Event> events;
};

struct Planner::Draft {
  ServicePlan plan;
  struct NewId {
    uint32_t id;
    bool recovered;
  };
  std::vector<NewId> new_ids;
  std::vector<Complaint> complaints;
  std::vector<v1::Event> events;
  std::vector<std::pair<const EndpointSet*, abi::table_ref>> refs;  // of the port at hand
  uint32_t frontends_removed = 0;
};

namespace {

abi::frontend_key key_of(const ResolvedServicePort& port, const ResolvedFrontend& frontend) {
  return make_key(frontend.address, frontend.port, static_cast<uint8_t>(port.key.protocol));
}

v1::Event conflict_event(const ServiceKey& service, const std::string& message) {
  v1::Event event;
  event.set_kind("Service");
  event.set_namespace_(service.namespace_name);
  event.set_name(service.name);
  event.set_type("Warning");
  event.set_reason("AddressConflict");
  event.set_message(message);
  return event;
}

uint32_t count_source_ranges(const ServicePlan* plan) {
  size_t count = 0;
  if (plan)
    for (const ServicePortPlan& port : plan->ports) count += port.source_ranges.size();
  return static_cast<uint32_t>(count);
}

}  // namespace

bool Planner::ByKey::operator()(const ServiceState* a, const ServiceState* b) const {
  return a->key < b->key;
}

// The older object first; one that does not say how old it is comes after all that do.
bool Planner::Claim::before(const Claim& other) const {
  const std::string& mine = state->wanted->created;
  const std::string& its = other.state->wanted->created;
  return std::forward_as_tuple(mine.empty(), mine, port->key) <
         std::forward_as_tuple(its.empty(), its, other.port->key);
}

Planner::Planner(const MapLimits& limits, const MapContents& recovered)
    : ranges_(limits.maglev_entries),
      backend_ids_(limits.backends > 0 ? limits.backends - 1 : 0, "backend"),
      service_ids_(limits.services, "service"),
      frontend_budget_(limits.frontends, "frontends"),
      source_range_limit_(limits.source_ranges),
      recovered_(std::make_unique<Recovered>(recover(recovered, limits))) {
  hold_recovered();
}

Planner::~Planner() = default;

void Planner::claim(ServiceState& state) {
  for (const ResolvedServicePort& port : state.wanted->ports)
    for (const ResolvedFrontend& frontend : port.frontends) {
      auto& claims = claims_[key_of(port, frontend)];
      for (const Claim& other : claims) dirty_.insert(other.state);
      const Claim mine{&state, &port};
      claims.insert(std::upper_bound(claims.begin(), claims.end(), mine,
                                     [](const Claim& a, const Claim& b) { return a.before(b); }),
                    mine);
    }
}

void Planner::withdraw(ServiceState& state) {
  if (!state.wanted) return;
  for (const ResolvedServicePort& port : state.wanted->ports)
    for (const ResolvedFrontend& frontend : port.frontends) {
      const auto it = claims_.find(key_of(port, frontend));
      if (it == claims_.end()) continue;
      std::erase_if(it->second, [&](const Claim& one) { return one.state == &state; });
      for (const Claim& other : it->second) dirty_.insert(other.state);
      if (it->second.empty()) claims_.erase(it);
    }
}

const Planner::Claim* Planner::winner(const abi::frontend_key& key) const {
  const auto it = claims_.find(key);
  return it == claims_.end() ? nullptr : &it->second.front();
}

void Planner::forget(ServiceState& state) {
  withdraw(state);
  if (state.plan) {
    leaving_.push_back(state.plan);
    source_ranges_ -= count_source_ranges(state.plan.get());
    for (const ServicePortPlan& port : state.plan->ports) {
      service_ids_.retire(port.id, generation_);
      frontend_budget_.retire(static_cast<uint32_t>(port.frontends.size()), generation_);
    }
  }
  plan_.services.set(state.slot, nullptr);
  free_service_slots_.push_back(state.slot);
  for (auto* set : {&dirty_, &failed_, &complaining_}) set->erase(&state);
}

std::unique_ptr<Planner::ServiceState> Planner::new_state(const ServiceKey& key) {
  auto state = std::make_unique<ServiceState>();
  state->key = key;
  if (free_service_slots_.empty()) {
    state->slot = next_service_slot_++;
  } else {
    state->slot = free_service_slots_.back();
    free_service_slots_.pop_back();
  }
  return state;
}

// Walks both ordered maps once; an unchanged service costs one comparison of pointers.
void Planner::take_in(const ResolvedCluster& cluster) {
  auto known = states_.begin();
  for (const auto& [key, wanted] : cluster) {
    while (known != states_.end() && known->first < key) {
      forget(*known->second);
      known = states_.erase(known);
    }
    if (known == states_.end() || key < known->first)
      known = states_.emplace_hint(known, key, new_state(key));
    ServiceState& state = *known->second;
    ++known;
    if (state.wanted == wanted) continue;
    withdraw(state);
    state.wanted = wanted;
    claim(state);
    dirty_.insert(&state);
  }
  while (known != states_.end()) {
    forget(*known->second);
    known = states_.erase(known);
  }
}

PlanUpdate Planner::update(const ResolvedCluster& cluster) {
  ++generation_;
  take_in(cluster);
  dirty_.insert(failed_.begin(), failed_.end());
  for (ServiceState* state : dirty_) replan(*state);
  dirty_.clear();
  for (const ServicePlanPtr& plan : leaving_) drop_holdings(*plan);
  leaving_.clear();
  if (recovered_) retire_unclaimed();

  PlanUpdate update;
  plan_.generation = generation_;
  update.plan = plan_;
  update.retry_after_release = !failed_.empty() && anything_retired();
  for (const ServiceState* state : complaining_) {
    update.complaints.insert(update.complaints.end(), state->complaints.begin(), state->complaints.end());
    update.events.insert(update.events.end(), state->events.begin(), state->events.end());
  }
  return update;
}

namespace {

bool same_port(const abi::service_info& a, const abi::service_info& b) {
  return a.protocol == b.protocol && a.family == b.family && std::strcmp(a.port_name, b.port_name) == 0;
}

const ServicePortPlan* find_port(const ServicePlan* plan, const abi::service_info& info) {
  if (plan)
    for (const ServicePortPlan& port : plan->ports)
      if (same_port(port.info, info)) return &port;
  return nullptr;
}

Status put_string(const std::string& text, const char* what, char (&field)[64]) {
  if (text.size() >= sizeof field || text.find('\0') != std::string::npos)
    return Error{fmt::format("the {} has {} characters, at most {} are possible", what, text.size(),
                             sizeof field - 1)};
  std::memcpy(field, text.data(), text.size());
  return ok_status();
}

Result<abi::service_info> make_info(const ResolvedServicePort& port) {
  abi::service_info info{};
  Status status = put_string(port.key.service.namespace_name, "namespace", info.namespace_name);
  if (status) status = put_string(port.key.service.name, "name", info.name);
  if (status) status = put_string(port.key.port_name, "port name", info.port_name);
  if (!status) return status.error();
  info.port = port.port;
  info.protocol = static_cast<uint8_t>(port.key.protocol);
  info.family = static_cast<uint8_t>(port.key.family);
  return info;
}

bool equal(const FrontendPlan& a, const FrontendPlan& b) {
  return a.address_slot == b.address_slot && std::memcmp(&a.key, &b.key, sizeof a.key) == 0 &&
         std::memcmp(&a.value, &b.value, sizeof a.value) == 0;
}

template <typename T>
bool same_elements(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

bool equal(const ServicePlan& a, const ServicePlan& b) {
  const auto same_hold = [](BackendHold x, BackendHold y) {
    return x.id == y.id && x.local == y.local && x.node == y.node;
  };
  const auto same_frontend = [](const FrontendPlan& x, const FrontendPlan& y) { return equal(x, y); };
  const auto same = [&](const ServicePortPlan& x, const ServicePortPlan& y) {
    return x.id == y.id && std::memcmp(&x.info, &y.info, sizeof x.info) == 0 &&
           same_elements(x.source_ranges, y.source_ranges) && same_elements(x.serving, y.serving) &&
           std::equal(x.frontends.begin(), x.frontends.end(), y.frontends.begin(), y.frontends.end(),
                      same_frontend);
  };
  return a.tables == b.tables &&
         std::equal(a.backends.begin(), a.backends.end(), b.backends.begin(), b.backends.end(), same_hold) &&
         std::equal(a.ports.begin(), a.ports.end(), b.ports.begin(), b.ports.end(), same);
}

std::set<abi::frontend_key, FrontendKeyLess> keys_of(const ServicePlan* plan) {
  std::set<abi::frontend_key, FrontendKeyLess> keys;
  if (plan)
    for (const ServicePortPlan& port : plan->ports)
      for (const FrontendPlan& frontend : port.frontends) keys.insert(frontend.key);
  return keys;
}

}  // namespace

void Planner::replan(ServiceState& state) {
  ++stats_.services_planned;
  Draft draft;
  draft.plan.key = state.key;
  if (const Status status = draft_service(state, draft); !status) {
    roll_back(draft);
    const char* consequence = state.plan ? "its last good state stays in force" : "it is not served";
    state.complaints = {{"Service " + state.key.to_string(), status.error().message + "; " + consequence}};
    failed_.insert(&state);
    complaining_.insert(&state);
    keep_last_good(state);
    return;
  }
  failed_.erase(&state);
  state.complaints = std::move(draft.complaints);
  state.events = std::move(draft.events);
  if (state.complaints.empty())
    complaining_.erase(&state);
  else
    complaining_.insert(&state);
  adopt(state, draft);
}

void Planner::adopt(ServiceState& state, Draft& draft) {
  if (state.plan && equal(*state.plan, draft.plan)) {
    drop_holdings(draft.plan);
    return;
  }
  frontend_budget_.retire(draft.frontends_removed, generation_);
  source_ranges_ += count_source_ranges(&draft.plan) - count_source_ranges(state.plan.get());
  if (state.plan) {
    for (const ServicePortPlan& port : state.plan->ports)
      if (!find_port(&draft.plan, port.info)) service_ids_.retire(port.id, generation_);
    leaving_.push_back(state.plan);
  }
  state.plan = std::make_shared<const ServicePlan>(std::move(draft.plan));
  plan_.services.set(state.slot, state.plan);
}

// Frontends that belong to others by now must not be in two plans.
void Planner::keep_last_good(ServiceState& state) {
  if (!state.plan) return;
  const auto lost = [&](const FrontendPlan& frontend) {
    const Claim* claim = winner(frontend.key);
    return claim && claim->state != &state;
  };
  auto trimmed = std::make_shared<ServicePlan>(*state.plan);
  uint32_t count = 0;
  for (ServicePortPlan& port : trimmed->ports) {
    for (const FrontendPlan& frontend : port.frontends)
      if (lost(frontend)) drop_address(frontend.address_slot, frontend.node_address);
    count += static_cast<uint32_t>(std::erase_if(port.frontends, lost));
  }
  if (count == 0) return;
  frontend_budget_.retire(count, generation_);
  state.plan = std::move(trimmed);
  plan_.services.set(state.slot, state.plan);
}

Status Planner::draft_service(ServiceState& state, Draft& draft) {
  for (const ResolvedServicePort& port : state.wanted->ports)
    if (Status status = draft_port(state, port, draft); !status) return status;
  if (Status status = draft_source_ranges(state.plan.get(), draft.plan); !status) return status;
  return count_frontends(state.plan.get(), draft.plan, draft.frontends_removed);
}

Status Planner::draft_source_ranges(const ServicePlan* old_plan, const ServicePlan& new_plan) {
  const uint32_t others = source_ranges_ - count_source_ranges(old_plan);
  const uint32_t own = count_source_ranges(&new_plan);
  if (own <= source_range_limit_ - others) return ok_status();
  return Error{fmt::format("no room for its {} source ranges, all others have {} of {}", own, others,
                           source_range_limit_)};
}

// The id that it has, or had under a previous agent, or a new one.
Result<uint32_t> Planner::draft_id(const ServicePlan* old_plan, const abi::service_info& info,
                                   const ServicePortKey& key, Draft& draft) {
  if (const ServicePortPlan* old = find_port(old_plan, info)) return old->id;
  if (recovered_ && recovered_->service_ids.contains(key)) {
    const uint32_t id = recovered_->service_ids.extract(key).mapped();
    draft.new_ids.push_back({id, true});
    return id;
  }
  const auto id = service_ids_.allocate();
  if (id) draft.new_ids.push_back({*id, false});
  return id;
}

Status Planner::draft_port(ServiceState& state, const ResolvedServicePort& port, Draft& draft) {
  const auto info = make_info(port);
  if (!info) return info.error();
  const auto id = draft_id(state.plan.get(), *info, port.key, draft);
  if (!id) return id.error();
  draft.plan.ports.push_back({*id, *info, {}, {}, {}});
  for (const Cidr& range : port.source_ranges)
    draft.plan.ports.back().source_ranges.push_back(make_source_range(*id, range));
  for (const auto& [address, number] : port.serving)
    draft.plan.ports.back().serving.push_back(make_service_endpoint(*id, address, number, port.key.protocol));
  draft.refs.clear();
  for (const ResolvedFrontend& frontend : port.frontends) {
    const abi::frontend_key key = key_of(port, frontend);
    if (const Claim* claim = winner(key); claim->state != &state || claim->port != &port) {
      const std::string message =
          fmt::format("port \"{}\" is not served on {} {}: that is taken by Service {}, which comes first; "
                      "change the address or the port of one of them",
                      port.key.port_name, frontend.address.with_port(frontend.port),
                      to_string(port.key.protocol), claim->port->key.to_string());
      draft.complaints.push_back({"Service " + state.key.to_string(), message});
      draft.events.push_back(conflict_event(state.key, message));
      continue;
    }
    if (Status status = draft_frontend(port, frontend, key, draft); !status) return status;
  }
  return ok_status();
}

Status Planner::draft_frontend(const ResolvedServicePort& port, const ResolvedFrontend& frontend,
                               const abi::frontend_key& key, Draft& draft) {
  const auto outside = draft_table(port, frontend.for_outside, draft);
  if (!outside) return outside.error();
  const auto pods = draft_table(port, frontend.for_pods, draft);
  if (!pods) return pods.error();
  const bool node_address = frontend.node_address || frontend.type == FrontendType::node_port;
  const auto slot = hold_address(key, node_address);
  if (!slot) return slot.error();

  ServicePortPlan& plan = draft.plan.ports.back();
  FrontendPlan one{.key = key, .address_slot = *slot, .node_address = node_address};
  one.value.service_id = plan.id;
  one.value.type = static_cast<uint8_t>(frontend.type);
  if (frontend.external_local) one.value.flags |= abi::FRONTEND_EXTERNAL_LOCAL;
  if (frontend.limited) one.value.flags |= abi::FRONTEND_SOURCE_RANGES;
  one.value.affinity_seconds = port.affinity_seconds;
  one.value.tables[abi::SOURCE_OUTSIDE] = *outside;
  one.value.tables[abi::SOURCE_POD] = *pods;
  plan.frontends.push_back(one);
  return ok_status();
}

// Frontends of a port mostly share their sets: each set is looked at once.
Result<abi::table_ref> Planner::draft_table(const ResolvedServicePort& port, const EndpointSetPtr& set,
                                            Draft& draft) {
  for (const auto& [known, ref] : draft.refs)
    if (known == set.get()) return ref;
  std::vector<TableMember> members;
  for (const ResolvedEndpoint& endpoint : set->endpoints) {
    if (endpoint.weight == 0) continue;
    const auto id = hold_backend(endpoint, port.key.protocol);
    if (!id) return id.error();
    draft.plan.backends.push_back({*id, endpoint.local, endpoint.node});
    members.push_back({*id, endpoint.weight});
  }
  abi::table_ref ref{static_cast<uint32_t>(set->when_empty), 0};
  if (!members.empty()) {
    const auto slot = hold_table(std::move(members));
    if (!slot) return slot.error();
    draft.plan.tables.push_back(*slot);
    const TablePlanPtr& table = plan_.tables.at(*slot);
    ref = {table->offset, table->size};
  }
  draft.refs.emplace_back(set.get(), ref);
  return ref;
}

Status Planner::count_frontends(const ServicePlan* old_plan, const ServicePlan& new_plan, uint32_t& removed) {
  const auto before = keys_of(old_plan);
  const auto after = keys_of(&new_plan);
  std::vector<abi::frontend_key> recovered;
  uint32_t added = 0;
  for (const abi::frontend_key& key : after) {
    if (before.contains(key)) continue;
    if (recovered_ && recovered_->frontends.contains(key))
      recovered.push_back(key);
    else
      ++added;
  }
  if (Status status = frontend_budget_.add(added); !status) return status;
  for (const abi::frontend_key& key : recovered) recovered_->frontends.erase(key);
  removed = static_cast<uint32_t>(
      std::count_if(before.begin(), before.end(), [&](const auto& key) { return !after.contains(key); }));
  return ok_status();
}

void Planner::roll_back(Draft& draft) {
  drop_holdings(draft.plan);
  for (const Draft::NewId& one : draft.new_ids) {
    if (one.recovered)
      service_ids_.retire(one.id, generation_);
    else
      service_ids_.cancel(one.id);
  }
}

void Planner::release_retired(uint64_t generation) {
  ranges_.release_retired(generation);
  backend_ids_.release_retired(generation);
  service_ids_.release_retired(generation);
  frontend_budget_.release_retired(generation);
}

bool Planner::anything_retired() const {
  return ranges_.retired() > 0 || backend_ids_.retired() > 0 || service_ids_.retired() > 0 ||
         frontend_budget_.retired() > 0;
}

}  // namespace maglane
