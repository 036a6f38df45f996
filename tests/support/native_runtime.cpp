// SPDX-License-Identifier: Apache-2.0
#include "tests/support/native_runtime.h"

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>

namespace {

// Key bytes compare as the kernel's hash does: all of them, padding included.
std::string key_text(const void* key, uint32_t size) {
  return std::string(static_cast<const char*>(key), size);
}

}  // namespace

native_map::native_map(Kind kind, uint32_t key_size, uint32_t value_size, uint32_t max_entries)
    : kind_(kind), key_size_(key_size), value_size_(value_size), max_entries_(max_entries) {}

void* native_map::value_at(const std::string& key, const void* initial) {
  auto value = std::make_unique<uint8_t[]>(value_size_);
  if (initial) std::memcpy(value.get(), initial, value_size_);
  return (entries_[key] = std::move(value)).get();
}

// Whether the first bits of both are the same.
static bool same_bits(const uint8_t* a, const uint8_t* b, uint32_t bits) {
  if (std::memcmp(a, b, bits / 8) != 0) return false;
  return bits % 8 == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - bits % 8) == 0;
}

// Of a trie: a key begins with its length in bits (struct bpf_lpm_trie_key).
void* native_map::find_longest(const void* key) {
  const auto* wanted = static_cast<const uint8_t*>(key);
  uint32_t wanted_bits = 0, best_bits = 0;
  std::memcpy(&wanted_bits, key, sizeof wanted_bits);
  void* best = nullptr;
  for (const auto& [text, value] : entries_) {
    const auto* entry = reinterpret_cast<const uint8_t*>(text.data());
    uint32_t bits = 0;
    std::memcpy(&bits, entry, sizeof bits);
    if (bits > wanted_bits || (best && bits <= best_bits) || !same_bits(entry + 4, wanted + 4, bits)) continue;
    best = value.get();
    best_bits = bits;
  }
  return best;
}

void* native_map::find(const void* key) {
  uint32_t index = 0;
  if (kind_ == Kind::prefix_trie) return find_longest(key);
  if (is_array()) {
    std::memcpy(&index, key, sizeof index);
    if (index >= max_entries_) return nullptr;
  }
  if (kind_ == Kind::memory) return &memory()[size_t{index} * value_size_];
  const std::string text = key_text(key, key_size_);
  const auto found = entries_.find(text);
  if (found != entries_.end()) return found->second.get();
  return is_array() ? value_at(text, nullptr) : nullptr;
}

long native_map::update(const void* key, const void* value, uint64_t flags) {
  if (flags > BPF_EXIST) return -EINVAL;
  if (is_array()) {
    if (flags == BPF_NOEXIST) return -EEXIST;
    void* at = find(key);
    if (!at) return -E2BIG;
    std::memcpy(at, value, value_size_);
    return 0;
  }
  const auto entry = entries_.find(key_text(key, key_size_));
  void* present = entry == entries_.end() ? nullptr : entry->second.get();
  if (present && flags == BPF_NOEXIST) return -EEXIST;
  if (!present && flags == BPF_EXIST) return -ENOENT;
  if (!present && entries_.size() >= max_entries_) {
    if (kind_ != Kind::lru_hash) return -E2BIG;
    entries_.erase(entries_.begin());  // any will do: the kernel's order is approximate too
  }
  if (present)
    std::memcpy(present, value, value_size_);
  else
    value_at(key_text(key, key_size_), value);
  return 0;
}

long native_map::remove(const void* key) {
  if (is_array()) return -EINVAL;
  return entries_.erase(key_text(key, key_size_)) ? 0 : -ENOENT;
}

void native_map::clear() {
  entries_.clear();
  if (memory_) std::memset(memory_.get(), 0, size_t{max_entries_} * value_size_);
}

void native_map::resize(uint32_t max_entries) {
  entries_.clear();
  memory_.reset();
  max_entries_ = max_entries;
}

std::span<uint8_t> native_map::memory() {
  const size_t size = size_t{max_entries_} * value_size_;
  if (!memory_) {
    void* made = nullptr;
    if (kind_ != Kind::memory || posix_memalign(&made, 64, size)) std::abort();
    memory_.reset(static_cast<uint8_t*>(made));
    std::memset(made, 0, size);
  }
  return {memory_.get(), size};
}

std::vector<std::string> native_map::keys() const {
  std::vector<std::string> result;
  for (const auto& entry : entries_) result.push_back(entry.first);
  return result;
}

namespace maglane::test {

using Kind = native_map::Kind;

// Of the C side: bpf/scratch.h is not for C++.
extern "C" uint32_t native_scratch_size(void);

// Sizes as in bpf/maps.h, but for the tables, whose number of buckets is in the constants.
extern "C" {
native_map frontends(Kind::memory, sizeof(uint32_t), sizeof(abi::frontend_bucket), 1);
native_map frontend_values(Kind::memory, sizeof(uint32_t), sizeof(abi::frontend), kFrontendValues);
native_map services(Kind::hash, sizeof(uint32_t), sizeof(abi::service_info), 131072);
native_map backends(Kind::array, sizeof(uint32_t), sizeof(abi::backend), 262144);
native_map maglev(Kind::array, sizeof(uint32_t), sizeof(abi::maglev_line), 1048576);
native_map vip_bits(Kind::array, sizeof(uint32_t), sizeof(abi::vip_bits), 1);
native_map flow_bits(Kind::memory, sizeof(uint32_t), sizeof(abi::flow_bits), 1);
native_map flows4(Kind::memory, sizeof(uint32_t), sizeof(abi::flow_bucket4), 1);
native_map flows6(Kind::memory, sizeof(uint32_t), sizeof(abi::flow_bucket6), 1);
native_map retired_flows4(Kind::hash, sizeof(uint32_t), sizeof(uint32_t), 1);  // none, here
native_map retired_flows6(Kind::hash, sizeof(uint32_t), sizeof(uint32_t), 1);
native_map fragments(Kind::lru_hash, sizeof(abi::fragment_key), sizeof(abi::fragment), 8192);
native_map node_state(Kind::memory, sizeof(uint32_t), sizeof(abi::node_state), 1);
native_map devices(Kind::hash, sizeof(uint32_t), sizeof(abi::device), 4096);
native_map source_ranges(Kind::prefix_trie, sizeof(abi::source_range_key), sizeof(uint32_t), 65536);
native_map affinity(Kind::lru_hash, sizeof(abi::affinity_key), sizeof(abi::affinity), 65536);
native_map gone_endpoints(Kind::hash, sizeof(abi::service_endpoint), sizeof(uint32_t), 65536);
native_map masquerade_ranges(Kind::prefix_trie, sizeof(abi::masquerade_range_key), sizeof(uint32_t), 65536);
native_map egress_addresses(Kind::hash, sizeof(uint32_t), sizeof(abi::egress_address), 256);
native_map port_shortages(Kind::lru_hash, sizeof(abi::port_shortage_key), sizeof(abi::port_shortage), 1024);
native_map service_counters(Kind::array, sizeof(uint32_t), sizeof(abi::service_counter),
                            uint32_t{abi::SERVICE_IDS} * abi::SERVICE_COUNTER_PARTS);
native_map counters(Kind::array, sizeof(uint32_t), sizeof(abi::counter),
                    uint32_t{abi::REASON_COUNT} * abi::HOOKS);
native_map scratches(Kind::array, sizeof(uint32_t), native_scratch_size(), abi::HOOKS + 1);

// To the packet path this is `const volatile struct node_config config`; native_run sets it.
abi::node_config config;
}

namespace {

const std::map<std::string, native_map*>& all_maps() {
  static const std::map<std::string, native_map*> maps = {
      {"frontends", &frontends}, {"frontend_values", &frontend_values}, {"services", &services},
      {"backends", &backends},   {"maglev", &maglev},                   {"vip_bits", &vip_bits},
      {"flow_bits", &flow_bits}, {"flows4", &flows4},                   {"flows6", &flows6},
      {"fragments", &fragments}, {"node_state", &node_state},           {"devices", &devices},
      {"affinity", &affinity},   {"source_ranges", &source_ranges},     {"gone_endpoints", &gone_endpoints},
      {"masquerade_ranges", &masquerade_ranges}, {"egress_addresses", &egress_addresses},
      {"port_shortages", &port_shortages},
      {"counters", &counters},   {"scratches", &scratches},             {"service_counters", &service_counters}};
  return maps;
}

// Two bytes before the frame align the IP header.
constexpr size_t kAlign = 2;

uint8_t* new_frame(const uint8_t* bytes, size_t size, size_t kept) {
  auto* block = new uint8_t[kAlign + size]();
  if (kept) std::memcpy(block + kAlign, bytes, kept);
  return block + kAlign;
}

void free_frame(uint8_t* frame) {
  delete[](frame - kAlign);
}

}  // namespace

native_map* native_map_named(const std::string& name) {
  const auto found = all_maps().find(name);
  return found == all_maps().end() ? nullptr : found->second;
}

NativeSystem& native_system() {
  static NativeSystem system;
  return system;
}

void native_reset(const abi::node_config& constants) {
  for (const auto& [name, map] : all_maps()) map->clear();
  frontends.resize(constants.frontend_buckets);
  flows4.resize(constants.flow_buckets4);
  flows6.resize(constants.flow_buckets6);
  native_system() = NativeSystem{};
  native_system().config = config = constants;
}

NativeResult native_run(NativeProgram program, std::span<const uint8_t> frame, uint32_t ifindex,
                        uint32_t linear, uint16_t gso_segments, bool vlan, uint16_t gso_size) {
  config = native_system().config;
  native_packet packet{};
  packet.data = new_frame(frame.data(), frame.size(), frame.size());
  packet.len = static_cast<uint32_t>(frame.size());
  packet.linear = linear && linear < packet.len ? linear : packet.len;
  packet.ifindex = ifindex;
  packet.gso_segs = gso_segments;
  packet.gso_size = gso_size;
  packet.vlan_present = vlan;
  NativeResult result;
  result.verdict = program(&packet);
  result.sent_to = packet.sent_to;
  result.resolved = packet.resolved;
  result.frame.assign(packet.data, packet.data + packet.len);
  free_frame(packet.data);
  return result;
}

}  // namespace maglane::test

using maglane::test::native_system;

extern "C" {

void native_packet_pull(native_packet* packet, __u32 len) {
  uint8_t* moved = maglane::test::new_frame(packet->data, packet->len, packet->len);
  maglane::test::free_frame(packet->data);
  packet->data = moved;
  if (len > packet->linear && len <= packet->len) packet->linear = len;
}

int native_packet_resize(native_packet* packet, __u32 len) {
  // Limits as of bpf_xdp_adjust_tail (an Ethernet header) and of one page of room.
  if (len < 14 || len > 65535) return -EINVAL;
  uint8_t* moved = maglane::test::new_frame(packet->data, len, len < packet->len ? len : packet->len);
  maglane::test::free_frame(packet->data);
  packet->data = moved;
  packet->len = len;
  packet->linear = len;
  return 0;
}

void* native_map_lookup_elem(void* map, const void* key) {
  return static_cast<native_map*>(map)->find(key);
}

long native_map_update_elem(void* map, const void* key, const void* value, __u64 flags) {
  return static_cast<native_map*>(map)->update(key, value, flags);
}

long native_loop(__u32 iterations, void* callback, void* context, __u64) {
  using Callback = long (*)(__u32, void*);
  __u32 done = 0;
  while (done < iterations)
    if (reinterpret_cast<Callback>(callback)(done++, context)) break;
  return done;
}

int native_node_socket_has(const void* tuple, int family) {
  using maglane::Family;
  maglane::abi::tuple4 t4;
  maglane::abi::tuple6 t6;
  std::memcpy(&t4, tuple, sizeof t4);
  std::memcpy(&t6, tuple, sizeof t6);
  const bool v4 = family == maglane::abi::FAMILY_IPV4;
  const maglane::test::HostPort to(v4 ? maglane::IpAddress::from_be(Family::ipv4, &t4.dst_be)
                                      : maglane::IpAddress::from_be(Family::ipv6, t6.dst_be),
                                   ntohs(v4 ? t4.dst_port_be : t6.dst_port_be));
  return native_system().sockets.contains({v4 ? t4.protocol : t6.protocol, to});
}

__u64 native_jiffies64() {
  return native_system().jiffies;
}

long native_fib_lookup(void*, bpf_fib_lookup* params, int, __u32 flags) {
  ++native_system().fib_lookups;
  if (!native_system().fib) return BPF_FIB_LKUP_RET_NOT_FWDED;
  return native_system().fib(*params, flags);
}
}
