// SPDX-License-Identifier: Apache-2.0
//
// The writing half of PinnedMaps. Arrays, and the table of frontends in one, change through
// mapped memory, by stores that a packet sees whole or not at all; the hash map of services by
// batched system calls; flows by a program, under the locks of the table.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "agent/kernel/call.h"
#include "agent/kernel/grace.h"
#include "agent/kernel/maps_impl.h"

namespace maglane {
namespace {

constexpr int kRemoveTries = 100;
constexpr size_t kRun = 4096;  // operations that go to the kernel in one call

// A packet that reads the slot meanwhile sees the old backend, none, or the new one: port,
// protocol, family (0: free) and flags share one word, which is cleared while the address
// changes.
void store_backend(abi::backend& slot, const abi::backend& backend) {
  constexpr size_t kAttributes = offsetof(abi::backend, port_be) / sizeof(uint64_t);
  static_assert(offsetof(abi::backend, port_be) % sizeof(uint64_t) == 0 &&
                offsetof(abi::backend, flags) / sizeof(uint64_t) == kAttributes);
  std::array<uint64_t, sizeof backend / sizeof(uint64_t)> words;
  std::memcpy(words.data(), &backend, sizeof backend);
  auto* const live = static_cast<uint64_t*>(static_cast<void*>(&slot));
  const bool moves = !std::equal(words.begin(), words.begin() + kAttributes, live);
  if (moves) {
    std::atomic_ref<uint64_t>(live[kAttributes]).store(0);
    for (size_t i = 0; i < kAttributes; ++i) std::atomic_ref<uint64_t>(live[i]).store(words[i]);
  }
  std::atomic_ref<uint64_t>(live[kAttributes]).store(words[kAttributes]);
}

Error opened_for_reading() {
  return Error{"the maps were opened for reading only"};
}

bool changes_memory(const Operation& operation) {
  return std::holds_alternative<PutBackend>(operation) || std::holds_alternative<DeleteBackend>(operation) ||
         std::holds_alternative<WriteTable>(operation) || std::holds_alternative<SetVipBit>(operation) ||
         std::holds_alternative<PutFrontend>(operation) || std::holds_alternative<DeleteFrontend>(operation);
}

size_t run_length(std::span<const Operation> operations) {
  size_t length = 1;
  while (length < operations.size() && length < kRun && operations[length].index() == operations[0].index())
    ++length;
  return length;
}

// The operands of a run of one kind, as one system call takes them.
template <typename Key, typename Value>
struct Rows {
  std::vector<Key> keys;
  std::vector<Value> values;

  explicit Rows(size_t count) {
    keys.reserve(count);
    values.reserve(count);
  }
  void add(const Key& key, const Value& value) {
    keys.push_back(key);
    values.push_back(value);
  }
  Status apply(BpfMap& map, uint32_t& done) const {
    const auto count = static_cast<uint32_t>(keys.size());
    return values.empty() ? map.remove(keys.data(), count, done)
                          : map.update(keys.data(), values.data(), count, done);
  }
};

}  // namespace

Status PinnedMaps::Impl::put(uint32_t id, const abi::backend& backend) {
  if (id == 0 || id >= maps[kBackends].capacity())
    return Error{fmt::format("backend id {} is not in 1 to {}", id, maps[kBackends].capacity() - 1)};
  store_backend(backends[id], backend);
  return ok_status();
}

Status PinnedMaps::Impl::write(const WriteTable& table) {
  const std::vector<uint32_t>& ids = *table.backend_ids;
  if (table.offset % abi::MAGLEV_LINE_ENTRIES != 0 || uint64_t{table.offset} + ids.size() > maglev_entries())
    return Error{fmt::format("a table of {} entries from {} on does not fit map \"maglev\" of {} entries",
                             ids.size(), table.offset, maglev_entries())};
  const size_t lines = (ids.size() + abi::MAGLEV_LINE_ENTRIES - 1) / abi::MAGLEV_LINE_ENTRIES;
  for (size_t i = 0; i < lines * abi::MAGLEV_LINE_ENTRIES; ++i)
    std::atomic_ref<uint32_t>(maglev[table.offset + i])
        .store(i < ids.size() ? ids[i] : 0, std::memory_order_relaxed);
  return ok_status();
}

Status PinnedMaps::Impl::set(const SetVipBit& bit) {
  if (bit.bit >= abi::VIP_WORDS * 64U) return Error{fmt::format("VIP bit {} does not exist", bit.bit)};
  const std::atomic_ref<uint64_t> word(vip_words[bit.bit / 64]);
  const uint64_t mask = uint64_t{1} << (bit.bit % 64);
  if (bit.value)
    word.fetch_or(mask);
  else
    word.fetch_and(~mask);
  return ok_status();
}

// Where all that is free waits for a grace period, it is waited for here.
Status PinnedMaps::Impl::put(const PutFrontend& operation) {
  auto outcome = frontends.put(operation.key, operation.frontend);
  if (outcome == FrontendTable::Outcome::full && frontends.has_retired()) {
    wait_grace_period();
    frontends.release_retired();
    outcome = frontends.put(operation.key, operation.frontend);
  }
  if (outcome == FrontendTable::Outcome::full)
    return Error{fmt::format("the table of frontends is full: {} of {}", frontends.size(), frontends.capacity())};
  return ok_status();
}

Status PinnedMaps::Impl::apply_to_memory(const Operation& operation) {
  if (const auto* put_backend = std::get_if<PutBackend>(&operation))
    return put(put_backend->id, put_backend->backend);
  if (const auto* delete_backend = std::get_if<DeleteBackend>(&operation))
    return put(delete_backend->id, abi::backend{});
  if (const auto* write_table = std::get_if<WriteTable>(&operation)) return write(*write_table);
  if (const auto* put_frontend = std::get_if<PutFrontend>(&operation)) return put(*put_frontend);
  if (const auto* delete_frontend = std::get_if<DeleteFrontend>(&operation)) {
    frontends.remove(delete_frontend->key);
    return ok_status();
  }
  return set(std::get<SetVipBit>(operation));
}

// A call ends when it has held its CPU for long enough (bpf/walk.h).
Status PinnedMaps::Impl::forget_flows() const {
  if (forget_program < 0)
    return Error{fmt::format("no program {}/programs/forget: has the agent finished starting?", bpffs)};
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    const auto buckets = static_cast<uint32_t>(family == abi::FAMILY_IPV4 ? flows4.size() : flows6.size());
    for (uint32_t first = 0; first < buckets;) {
      abi::forget_call call{};
      call.family = family;
      call.first_bucket = first;
      call.buckets = buckets - first;
      if (auto status = call_program(forget_program, call); !status)
        return status.error().in(bpffs + "/programs/forget");
      if (call.walked == 0) break;  // past the end
      first += call.walked;
    }
  }
  return ok_status();
}

// Twice: a reply that was under way during the first walk may have made its flow's other
// direction again, behind the walk's back.
Status PinnedMaps::Impl::forget(std::span<const Operation> run) {
  Rows<abi::service_endpoint, uint32_t> gone(run.size());
  for (const Operation& operation : run) gone.add(std::get<ForgetEndpoint>(operation).endpoint, 1);
  uint32_t done = 0;
  Status status = gone.apply(maps[kGoneEndpoints], done);
  if (status) status = forget_flows();
  if (status) {
    wait_grace_period();
    status = forget_flows();
  }
  gone.values.clear();
  const Status emptied = gone.apply(maps[kGoneEndpoints], done);
  return status ? emptied : status;
}

// The id may be another service's next time. No packet counts for it any more: a service goes
// after a grace period.
void PinnedMaps::Impl::clear_counters(uint32_t service_id) {
  for (size_t at = service_id; service_id < abi::SERVICE_IDS && at < service_counters.size();
       at += abi::SERVICE_IDS)
    std::atomic_ref(service_counters[at].connections).store(0, std::memory_order_relaxed);
}

// REQUIRES: all of `run` is of one kind.
Status PinnedMaps::Impl::apply_to_hash(std::span<const Operation> run, uint32_t& done) {
  if (std::holds_alternative<ForgetEndpoint>(run[0])) {
    const Status forgotten = forget(run);
    if (forgotten) done = static_cast<uint32_t>(run.size());
    return forgotten;
  }
  if (std::holds_alternative<PutSourceRange>(run[0]) || std::holds_alternative<DeleteSourceRange>(run[0])) {
    Rows<abi::source_range_key, uint32_t> ranges(run.size());
    for (const Operation& operation : run) {
      if (const auto* put_range = std::get_if<PutSourceRange>(&operation))
        ranges.add(put_range->key, 1);
      else
        ranges.keys.push_back(std::get<DeleteSourceRange>(operation).key);
    }
    return ranges.apply(maps[kSourceRanges], done);
  }
  Rows<uint32_t, abi::service_info> services(run.size());
  for (const Operation& operation : run) {
    if (const auto* put_service = std::get_if<PutService>(&operation))
      services.add(put_service->id, put_service->info);
    else if (const auto* delete_service = std::get_if<DeleteService>(&operation)) {
      services.keys.push_back(delete_service->id);
      clear_counters(delete_service->id);
    }
  }
  return services.apply(maps[kServices], done);
}

Status PinnedMaps::apply(std::span<const Operation> operations) {
  if (impl_->read_only) return opened_for_reading();
  for (size_t at = 0; at < operations.size();) {
    const size_t length = run_length(operations.subspan(at));
    uint32_t done = 0;
    Status status = ok_status();
    if (changes_memory(operations[at])) {
      for (; done < length && status.ok(); ++done) status = impl_->apply_to_memory(operations[at + done]);
      if (!status) --done;
    } else {
      status = impl_->apply_to_hash(operations.subspan(at, length), done);
    }
    if (!status)
      return status.error().in(fmt::format("operation {} of {} ({}; those before it took effect)",
                                           at + done + 1, operations.size(),
                                           to_string(operations[at + done])));
    at += length;
  }
  return ok_status();
}

Status PinnedMaps::write_node_state(const abi::node_state& state) {
  if (impl_->read_only) return opened_for_reading();
  abi::node_state& live = *impl_->node_state;
  for (int i = 0; i < 4; ++i) std::atomic_ref<uint32_t>(live.addr6_be[i]).store(state.addr6_be[i]);
  std::atomic_ref<uint32_t>(live.addr4_be).store(state.addr4_be);
  for (int i = 0; i < abi::NODE_POD_CIDRS; ++i) {
    if (std::memcmp(&live.pod_cidrs[i], &state.pod_cidrs[i], sizeof state.pod_cidrs[i]) == 0) continue;
    // Of no family while it changes: it contains nothing then.
    std::atomic_ref<uint32_t>(live.pod_cidrs[i].family).store(0);
    for (int word = 0; word < 4; ++word) {
      std::atomic_ref<uint32_t>(live.pod_cidrs[i].addr_be[word]).store(state.pod_cidrs[i].addr_be[word]);
      std::atomic_ref<uint32_t>(live.pod_cidrs[i].mask_be[word]).store(state.pod_cidrs[i].mask_be[word]);
    }
    std::atomic_ref<uint32_t>(live.pod_cidrs[i].family).store(state.pod_cidrs[i].family);
  }
  std::atomic_ref<uint32_t>(live.shared_hops).store(state.shared_hops);
  live.network_model = state.network_model;
  std::copy(std::begin(state.snat_port_min), std::end(state.snat_port_min), live.snat_port_min);
  std::copy(std::begin(state.snat_port_count), std::end(state.snat_port_count), live.snat_port_count);
  std::atomic_ref<uint32_t>(live.abi_version).store(abi::MAGLANE_ABI_VERSION);
  // Last: a packet that sees the new epoch sees the addresses that belong to it.
  std::atomic_ref<uint32_t>(live.epoch).store(state.epoch);
  return ok_status();
}

FlowBits PinnedMaps::flow_bits(std::chrono::seconds interval) {
  return FlowBits({impl_->flow_bits, impl_->node_state, impl_->flows4, impl_->flows6}, interval);
}

void PinnedMaps::release_retired() { impl_->frontends.release_retired(); }

Result<bool> PinnedMaps::Impl::remove_flow(abi::remove_call& call) const {
  if (read_only) return opened_for_reading();
  if (remove_program < 0)
    return Error{fmt::format("no program {}/programs/remove_flow: has the agent finished starting?", bpffs)};
  for (int tries = 0; tries < kRemoveTries; ++tries) {
    auto status = call_program(remove_program, call);
    if (!status) return status.error().in(bpffs + "/programs/remove_flow");
    if (call.result != abi::REMOVE_BUSY) return call.result == abi::REMOVE_DONE;
  }
  return Error{"the flow's bucket is in use all the time; try again"};
}

Result<bool> PinnedMaps::remove_flow(const abi::tuple4& key) {
  abi::remove_call call{};
  call.family = abi::FAMILY_IPV4;
  call.tuple.t4 = key;
  return impl_->remove_flow(call);
}

Result<bool> PinnedMaps::remove_flow(const abi::tuple6& key) {
  abi::remove_call call{};
  call.family = abi::FAMILY_IPV6;
  call.tuple.t6 = key;
  return impl_->remove_flow(call);
}

}  // namespace maglane
