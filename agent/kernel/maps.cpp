// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "agent/kernel/call.h"
#include "agent/kernel/maps_impl.h"

namespace maglane {
namespace {

constexpr std::array<MapShape, kMapCount> kShapes = {{
    {"frontends", sizeof(uint32_t), sizeof(abi::frontend_bucket)},
    {"frontend_values", sizeof(uint32_t), sizeof(abi::frontend)},
    {"services", sizeof(uint32_t), sizeof(abi::service_info)},
    {"backends", sizeof(uint32_t), sizeof(abi::backend)},
    {"maglev", sizeof(uint32_t), sizeof(abi::maglev_line)},
    {"vip_bits", sizeof(uint32_t), sizeof(abi::vip_bits)},
    {"flow_bits", sizeof(uint32_t), sizeof(abi::flow_bits)},
    {"flows4", sizeof(uint32_t), sizeof(abi::flow_bucket4)},
    {"flows6", sizeof(uint32_t), sizeof(abi::flow_bucket6)},
    {"node_state", sizeof(uint32_t), sizeof(abi::node_state)},
    {"devices", sizeof(uint32_t), sizeof(abi::device)},
    {"source_ranges", sizeof(abi::source_range_key), sizeof(uint32_t)},
    {"affinity", sizeof(abi::affinity_key), sizeof(abi::affinity)},
    {"gone_endpoints", sizeof(abi::service_endpoint), sizeof(uint32_t)},
    {"service_counters", sizeof(uint32_t), sizeof(abi::service_counter)},
    {"counters", sizeof(uint32_t), sizeof(abi::counter)},
    {"sockets", sizeof(abi::socket_key), sizeof(abi::socket_peer)},
    {"masquerade_ranges", sizeof(abi::masquerade_range_key), sizeof(uint32_t)},
    {"egress_addresses", sizeof(uint32_t), sizeof(abi::egress_address)},
    {"port_shortages", sizeof(abi::port_shortage_key), sizeof(abi::port_shortage)},
}};

// The kernel spaces the values of an array by 8 bytes; mapped memory is read as C arrays.
static_assert(sizeof(abi::backend) % 8 == 0 && sizeof(abi::maglev_line) % 8 == 0 &&
              sizeof(abi::vip_bits) % 8 == 0 && sizeof(abi::flow_bits) % 8 == 0 && sizeof(abi::node_state) % 8 == 0 &&
              sizeof(abi::frontend_bucket) % 8 == 0 && sizeof(abi::frontend) % 8 == 0 &&
              sizeof(abi::flow_bucket4) % 8 == 0 && sizeof(abi::flow_bucket6) % 8 == 0);

template <typename T>
T load_bytes(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

void end_strings(abi::service_info& info) {
  info.namespace_name[sizeof info.namespace_name - 1] = '\0';
  info.name[sizeof info.name - 1] = '\0';
  info.port_name[sizeof info.port_name - 1] = '\0';
}

bool is_mapped(size_t map) {
  return map != kServices && map != kDevices && map != kCounters && map != kSourceRanges && map != kAffinity &&
         map != kGoneEndpoints && map != kSockets && map != kMasqueradeRanges && map != kEgressAddresses &&
         map != kPortShortages;
}

// Of a flow of UDP through a service: where it leads.
template <typename Entry>
std::optional<abi::service_endpoint> udp_endpoint(const Entry& entry, abi::family family) {
  if (entry.key.protocol != IPPROTO_UDP || entry.flow.body.service_id == 0) return std::nullopt;
  const bool reply = (entry.flow.body.flags & abi::FLOW_REPLY) != 0;
  const auto& address = reply ? entry.key.src_be : entry.flow.dst_be;
  abi::service_endpoint endpoint{};
  std::memcpy(endpoint.addr_be, &address, sizeof address);
  endpoint.service_id = entry.flow.body.service_id;
  endpoint.port_be = reply ? entry.key.src_port_be : entry.flow.dst_port_be;
  endpoint.protocol = IPPROTO_UDP;
  endpoint.family = static_cast<uint8_t>(family);
  return endpoint;
}

Error no_data_plane(const std::string& bpffs) {
  return Error{fmt::format(
      "no maglane data plane at {}: is the agent running there, or did you mean --bpffs?", bpffs)};
}

}  // namespace

PinnedMaps::Impl::~Impl() {
  if (clock_program >= 0) close(clock_program);
  if (remove_program >= 0) close(remove_program);
  if (forget_program >= 0) close(forget_program);
}

Status PinnedMaps::Impl::open_maps() {
  struct stat entry;
  const std::string directory = bpffs + "/maps";
  if (stat(directory.c_str(), &entry) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return no_data_plane(bpffs);
    return Error{fmt::format("cannot look into {}: {} (run as root)", directory, std::strerror(errno))};
  }
  for (size_t i = 0; i < kMapCount; ++i) {
    // A map that was opened for reading only cannot be mapped into memory, not even for reading.
    auto map = BpfMap::open(directory + "/" + kShapes[i].name, kShapes[i], read_only && !is_mapped(i));
    if (!map)
      return Error{fmt::format("{}; restart the agent, which makes what is missing or outdated anew",
                               map.error().message)};
    maps[i] = std::move(*map);
  }
  return ok_status();
}

Status PinnedMaps::Impl::map_arrays() {
  for (size_t i = 0; i < kMapCount; ++i) {
    if (!is_mapped(i)) continue;
    auto mapped_at = maps[i].map_memory(!read_only);
    if (!mapped_at) return mapped_at.error();
    memory[i] = *mapped_at;
  }
  backends = mapped<abi::backend>(kBackends).data();
  maglev = reinterpret_cast<uint32_t*>(memory[kMaglev]);
  vip_words = reinterpret_cast<uint64_t*>(memory[kVipBits]);
  flow_bits = mapped<abi::flow_bits>(kFlowBits).data();
  node_state = mapped<abi::node_state>(kNodeState).data();
  flows4 = mapped<abi::flow_bucket4>(kFlows4);
  flows6 = mapped<abi::flow_bucket6>(kFlows6);
  service_counters = mapped<abi::service_counter>(kServiceCounters);
  frontends = FrontendTable(mapped<abi::frontend_bucket>(kFrontends), mapped<abi::frontend>(kFrontendValues),
                            &node_state->seed);
  // 0: just made, nobody has written to it yet.
  if (node_state->abi_version != 0 && node_state->abi_version != abi::MAGLANE_ABI_VERSION)
    return Error{
        fmt::format("the maps at {} are of ABI version {}, this program is of version {}: use the "
                    "maglane of the agent that made them, or restart the agent in this version",
                    bpffs, node_state->abi_version, int{abi::MAGLANE_ABI_VERSION})};
  return ok_status();
}

// Absent while the agent is starting: whatever needs one says so then.
void PinnedMaps::Impl::open_programs() {
  clock_program = bpf_obj_get((bpffs + "/programs/clock").c_str());
  remove_program = bpf_obj_get((bpffs + "/programs/remove_flow").c_str());
  forget_program = bpf_obj_get((bpffs + "/programs/forget").c_str());
}

PinnedMaps::PinnedMaps(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PinnedMaps::PinnedMaps(PinnedMaps&&) noexcept = default;
PinnedMaps& PinnedMaps::operator=(PinnedMaps&&) noexcept = default;
PinnedMaps::~PinnedMaps() = default;

Result<PinnedMaps> PinnedMaps::open(const std::string& bpffs, bool read_only) {
  auto impl = std::make_unique<Impl>();
  impl->bpffs = bpffs;
  impl->read_only = read_only;
  if (auto status = impl->open_maps(); !status) return status.error();
  if (auto status = impl->map_arrays(); !status) return status.error();
  impl->open_programs();
  return PinnedMaps(std::move(impl));
}

// ---- reading ------------------------------------------------------------------------------

Result<std::map<uint32_t, abi::service_info>> PinnedMaps::read_services() const {
  std::map<uint32_t, abi::service_info> services;
  auto status = impl_->maps[kServices].each([&](const std::byte* key, const std::byte* value) {
    auto info = load_bytes<abi::service_info>(value);
    end_strings(info);
    services.emplace(load_bytes<uint32_t>(key), info);
    return true;
  });
  if (!status) return status.error();
  return services;
}

uint64_t PinnedMaps::connections_of(uint32_t service_id) const {
  uint64_t sum = 0;
  for (size_t at = service_id; service_id < abi::SERVICE_IDS && at < impl_->service_counters.size();
       at += abi::SERVICE_IDS)
    sum += std::atomic_ref(impl_->service_counters[at].connections).load(std::memory_order_relaxed);
  return sum;
}

Result<MapContents> PinnedMaps::read_contents(bool flows) const {
  MapContents contents;
  auto services = read_services();
  if (!services) return services.error();
  contents.services = std::move(*services);

  uint64_t end = 0;
  impl_->frontends.each([&](const abi::frontend_key& key, const abi::frontend& frontend) {
    for (const auto& table : frontend.tables)
      if (table.size != 0) end = std::max(end, uint64_t{table.offset} + table.size);
    contents.frontends.emplace(key, frontend);
  });

  for (uint32_t id = 1; id < impl_->maps[kBackends].capacity(); ++id)
    if (impl_->backends[id].family != 0)
      contents.backends.emplace_hint(contents.backends.end(), id, impl_->backends[id]);
  contents.maglev.assign(impl_->maglev, impl_->maglev + std::min(end, impl_->maglev_entries()));
  contents.vip_words.assign(impl_->vip_words, impl_->vip_words + abi::VIP_WORDS);
  auto status = impl_->maps[kSourceRanges].each([&](const std::byte* key, const std::byte*) {
    contents.source_ranges.insert(load_bytes<abi::source_range_key>(key));
    return true;
  });
  if (!status) return status.error();
  if (!flows) return contents;
  if (auto s = impl_->add_udp_endpoints_of_sockets(contents.udp_endpoints); !s) return s.error();
  each_flow4(impl_->flows4, [&](const FlowEntry4& flow) {
    if (const auto endpoint = udp_endpoint(flow, abi::FAMILY_IPV4)) contents.udp_endpoints.insert(*endpoint);
    return true;
  });
  each_flow6(impl_->flows6, [&](const FlowEntry6& flow) {
    if (const auto endpoint = udp_endpoint(flow, abi::FAMILY_IPV6)) contents.udp_endpoints.insert(*endpoint);
    return true;
  });
  return contents;
}

Status PinnedMaps::each_flow(const std::function<bool(const FlowEntry4&)>& visit4,
                             const std::function<bool(const FlowEntry6&)>& visit6) const {
  if (each_flow4(impl_->flows4, visit4)) each_flow6(impl_->flows6, visit6);
  return ok_status();
}

Result<std::vector<AffinityEntry>> PinnedMaps::read_affinity() const {
  std::vector<AffinityEntry> entries;
  auto status = impl_->maps[kAffinity].each([&](const std::byte* key, const std::byte* value) {
    entries.push_back({load_bytes<abi::affinity_key>(key), load_bytes<abi::affinity>(value)});
    return true;
  });
  if (!status) return status.error();
  return entries;
}

Result<std::vector<abi::counter>> PinnedMaps::read_counters() const {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return Error{fmt::format("cannot count the CPUs: {}", std::strerror(-cpus))};
  std::vector<abi::counter> of_cpu(static_cast<size_t>(cpus));
  std::vector<abi::counter> sums(size_t{abi::REASON_COUNT} * abi::HOOKS);
  for (uint32_t i = 0; i < sums.size() && i < impl_->maps[kCounters].capacity(); ++i) {
    if (auto status = impl_->maps[kCounters].look_up(&i, of_cpu.data()); !status) return status.error();
    for (const abi::counter& counter : of_cpu) {
      sums[i].packets += counter.packets;
      sums[i].bytes += counter.bytes;
    }
  }
  return sums;
}

Result<abi::node_state> PinnedMaps::read_node_state() const {
  return *impl_->node_state;
}

Result<PinnedMaps::Clock> PinnedMaps::read_clock() const {
  if (impl_->clock_program < 0)
    return Error{fmt::format("no program {}/programs/clock: has the agent finished starting?", impl_->bpffs)};
  abi::clock_call call{};
  if (auto status = call_program(impl_->clock_program, call); !status)
    return status.error().in(impl_->bpffs + "/programs/clock");
  if (call.hz == 0 || call.slot_shift > 31)
    return Error{fmt::format("program {}/programs/clock told no usable time", impl_->bpffs)};
  return Clock{static_cast<uint32_t>(call.jiffies >> call.slot_shift) & abi::STAMP_SLOT_MASK,
               static_cast<double>(uint64_t{1} << call.slot_shift) / call.hz};
}

// ---- usage ----------------------------------------------------------------------------------

namespace {

Result<uint32_t> count_entries(const BpfMap& map) {
  uint32_t count = 0;
  auto status = map.each([&](const std::byte*, const std::byte*) { return ++count != UINT32_MAX; });
  if (!status) return status.error();
  return count;
}

uint64_t bytes_of(const BpfMap& map, const MapShape& shape) {
  const uint64_t bytes = map.kernel_bytes();
  return bytes != 0 ? bytes : uint64_t{map.capacity()} * (uint64_t{shape.key_size} + shape.value_size);
}

}  // namespace

std::array<FlowTableUse, 2> PinnedMaps::flow_tables() const {
  return {use_of_flows4(impl_->flows4), use_of_flows6(impl_->flows6)};
}

Result<std::vector<MapInfo>> PinnedMaps::usage() const {
  std::vector<MapInfo> infos;
  const auto add = [&](MapIndex index, uint64_t used, uint64_t capacity) {
    infos.push_back({kShapes[index].name, static_cast<uint32_t>(used), static_cast<uint32_t>(capacity),
                     bytes_of(impl_->maps[index], kShapes[index])});
  };
  add(kFrontends, impl_->frontends.size(), impl_->frontends.capacity());
  add(kFlows4, count_flows4(impl_->flows4), impl_->flows4.size() * abi::TABLE_SLOTS);
  add(kFlows6, count_flows6(impl_->flows6), impl_->flows6.size() * abi::TABLE_SLOTS);
  for (const MapIndex index : {kServices, kDevices, kSourceRanges, kAffinity, kSockets}) {
    auto count = count_entries(impl_->maps[index]);
    if (!count) return count.error();
    add(index, *count, impl_->maps[index].capacity());
  }
  const abi::backend* const begin = impl_->backends;
  const abi::backend* const end = begin + impl_->maps[kBackends].capacity();
  add(kBackends,
      static_cast<uint64_t>(std::count_if(begin, end, [](const auto& b) { return b.family != 0; })),
      impl_->maps[kBackends].capacity());

  std::set<std::pair<uint32_t, uint32_t>> tables;
  impl_->frontends.each([&](const abi::frontend_key&, const abi::frontend& frontend) {
    for (const auto& table : frontend.tables)
      if (table.size != 0) tables.emplace(table.offset, table.size);
  });
  uint64_t entries = 0;
  for (const auto& [offset, size] : tables) entries += size;
  add(kMaglev, std::min(entries, impl_->maglev_entries()), impl_->maglev_entries());
  uint64_t bits = 0;
  for (size_t i = 0; i < abi::VIP_WORDS; ++i)
    bits += static_cast<uint64_t>(std::popcount(impl_->vip_words[i]));
  add(kVipBits, bits, uint64_t{abi::VIP_WORDS} * 64);
  bits = 0;  // of the two generations taken together, as packets see them
  for (const abi::flow_bits_word& word : impl_->flow_bits->word)
    bits += static_cast<uint64_t>(std::popcount(word.to[0] | word.to[1]) +
                                  std::popcount(word.from[0] | word.from[1]));
  add(kFlowBits, bits, uint64_t{abi::VIP_WORDS} * 64 * 2);
  return infos;
}

}  // namespace maglane
