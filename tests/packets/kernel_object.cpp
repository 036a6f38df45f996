// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/kernel_object.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace maglane::test {
namespace {

void write_file(const std::string& path, const char* text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, std::strlen(text)) < 0) give_up(path);
  close(fd);
}

// The kernel runs XDP test frames "from" a device only if its receive queue is set up, which
// veth does when a program is attached.
void attach_pass(uint32_t device) {
  const bpf_insn code[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", code, 2, nullptr);
  if (fd < 0) give_up("loading an XDP program (needs root)");
  if (bpf_xdp_attach(static_cast<int>(device), fd, XDP_FLAGS_DRV_MODE, nullptr))
    give_up("attaching an XDP program");
  close(fd);
}

// Each compilation unit has left a copy of the constants behind; all are set alike.
void set_constants(bpf_map* rodata, const abi::node_config& config) {
  size_t size = 0;
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(bpf_map__initial_value(rodata, &size)));
  if (!bytes || size % sizeof config) give_up(".rodata holds more than the node's configuration");
  for (size_t at = 0; at < size; at += sizeof config) std::memcpy(bytes + at, &config, sizeof config);
}

KernelObject::Sizes sizes_of(const abi::node_config& config) {
  return {{"flows4", config.flow_buckets4},
          {"flows6", config.flow_buckets6},
          {"frontends", config.frontend_buckets},
          {"frontend_values", 512},
          {"maglev", 8192},
          {"backends", 8192},
          {"services", 512}};
}

}  // namespace

void give_up(const std::string& what) {
  fmt::print(stderr, "{}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

void run_ip(const std::string& commands) {
  FILE* pipe = popen("ip -batch -", "w");
  if (!pipe) give_up("ip");
  std::fwrite(commands.data(), 1, commands.size(), pipe);
  if (pclose(pipe) != 0) give_up("ip -batch failed");
}

Fd enter_network_namespace(const Network& network) {
  if (unshare(CLONE_NEWNET)) give_up("unshare(CLONE_NEWNET) (needs root)");
  run_ip(network.build_commands());
  write_file("/proc/sys/net/ipv4/ip_forward", "1");
  write_file("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  for (const auto& device : network.devices()) {
    attach_pass(device.index);
    if (device.forwarding) continue;
    for (const char* family : {"ipv4", "ipv6"})
      write_file(fmt::format("/proc/sys/net/{}/conf/{}/forwarding", family, device.name), "0");
  }
  Fd handle(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (handle.get() < 0) give_up("/proc/thread-self/ns/net");
  return handle;
}

KernelObject::KernelObject(const void* elf, size_t size, const abi::node_config& config, const Sizes& sizes,
                           const Network& network)
    : network_(network) {
  Sizes all_sizes = sizes;
  for (const auto& [name, entries] : sizes_of(config)) all_sizes.try_emplace(name, entries);
  object_ = bpf_object__open_mem(elf, size, nullptr);
  if (!object_) give_up("opening the BPF object");
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object_) {
    const std::string name = bpf_map__name(map);
    maps_[name] = map;
    if (const auto entries = all_sizes.find(name); entries != all_sizes.end())
      bpf_map__set_max_entries(map, entries->second);
    if (name.ends_with(".rodata")) set_constants(map, config);
  }
  if (bpf_object__load(object_)) give_up("loading the BPF object");
}

KernelObject::~KernelObject() {
  for (const auto& [name, memory] : memory_) munmap(memory.data(), memory.size());
  bpf_object__close(object_);
}

int KernelObject::map_fd(const std::string& map) const {
  return bpf_map__fd(maps_.at(map));
}

int KernelObject::program_fd(const std::string& name) const {
  const bpf_program* program = bpf_object__find_program_by_name(object_, name.c_str());
  if (!program) give_up(fmt::format("no program {}", name));
  return bpf_program__fd(program);
}

void KernelObject::put(const std::string& map, const void* key, const void* value) {
  if (bpf_map_update_elem(map_fd(map), key, value, BPF_ANY)) give_up("writing map " + map);
  const bpf_map* of = maps_.at(map);
  if (bpf_map__type(of) == BPF_MAP_TYPE_ARRAY)
    written_[map].insert(std::string(static_cast<const char*>(key), bpf_map__key_size(of)));
}

void KernelObject::erase(const std::string& map, const void* key) {
  bpf_map_delete_elem(map_fd(map), key);
}

std::optional<Bytes> KernelObject::get(const std::string& map, const void* key) {
  Bytes value(bpf_map__value_size(maps_.at(map)));
  if (bpf_map_lookup_elem(map_fd(map), key, value.data())) return std::nullopt;
  return value;
}

std::vector<Bytes> KernelObject::keys(const std::string& map) {
  std::vector<Bytes> result;
  Bytes key(bpf_map__key_size(maps_.at(map)));
  while (!bpf_map_get_next_key(map_fd(map), result.empty() ? nullptr : result.back().data(), key.data()))
    result.push_back(key);
  return result;
}

std::span<uint8_t> KernelObject::memory(const std::string& map) {
  auto& mapped = memory_[map];
  if (mapped.empty()) {
    const size_t size = size_t{bpf_map__max_entries(maps_.at(map))} * bpf_map__value_size(maps_.at(map));
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(map), 0);
    if (at == MAP_FAILED) give_up("mapping " + map);
    mapped = {static_cast<uint8_t*>(at), size};
  }
  return mapped;
}

void KernelObject::empty_maps() {
  for (const char* table : {"frontends", "frontend_values", "flows4", "flows6", "flow_bits"})
    std::ranges::fill(memory(table), uint8_t{0});
  for (const auto& [name, map] : maps_) {
    const auto type = bpf_map__type(map);
    if (type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LPM_TRIE)
      for (const Bytes& key : keys(name)) erase(name, key.data());
    const Bytes zeros(bpf_map__value_size(map));
    for (const auto& key : written_[name])
      bpf_map_update_elem(map_fd(name), key.data(), zeros.data(), BPF_ANY);
  }
  written_.clear();
  // What programs remember from packet to packet.
  const bpf_map* scratches = maps_.at("scratches");
  const size_t whole = (size_t{bpf_map__value_size(scratches)} + 7) / 8 * 8;
  const Bytes zeros(whole * static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < bpf_map__max_entries(scratches); ++i)
    bpf_map_update_elem(map_fd("scratches"), &i, zeros.data(), BPF_ANY);
}

std::vector<abi::counter> KernelObject::counters() {
  std::vector<abi::counter> all, each(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < uint32_t{abi::REASON_COUNT} * abi::HOOKS; ++i) {
    abi::counter sum{};
    if (bpf_map_lookup_elem(map_fd("counters"), &i, each.data())) give_up("reading the counters");
    for (const auto& one : each) {
      sum.packets += one.packets;
      sum.bytes += one.bytes;
    }
    all.push_back(sum);
  }
  return all;
}

TestRun::TestRun(bool at_xdp, const Arrival& arrival, bool leaves) : in_(arrival.frame) {
  // Whole, padding as well: the kernel refuses a context with other bits set.
  std::memset(&xdp_, 0, sizeof xdp_);
  std::memset(&skb_, 0, sizeof skb_);
  std::memset(&options_, 0, sizeof options_);
  options_.sz = sizeof options_;
  options_.data_in = in_.data();
  options_.data_size_in = static_cast<__u32>(in_.size());
  xdp_.data_end = options_.data_size_in;
  xdp_.ingress_ifindex = arrival.device;
  skb_.ifindex = arrival.device;
  skb_.ingress_ifindex = leaves ? 0 : arrival.device;
  skb_.gso_segs = arrival.gso_segments;
  if (arrival.gso_segments) skb_.gso_size = arrival.gso_size;
  options_.ctx_in = at_xdp ? static_cast<void*>(&xdp_) : &skb_;
  options_.ctx_size_in = at_xdp ? sizeof xdp_ : sizeof skb_;
}

int TestRun::run(int program, uint32_t repeat) {
  out_.assign(in_.size() + 1024, 0);
  options_.data_out = out_.data();
  options_.data_size_out = static_cast<__u32>(out_.size());
  options_.repeat = static_cast<int>(repeat);
  const int error = bpf_prog_test_run_opts(program, &options_);
  out_.resize(error ? 0 : options_.data_size_out);
  return error;
}

}  // namespace maglane::test
