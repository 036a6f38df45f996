// SPDX-License-Identifier: Apache-2.0
//
// The loaded programs, run by BPF_PROG_TEST_RUN in a network namespace of this process's own
// with maps of its own: beside a running agent without touching it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/packets/data_plane.h"

// The skeleton names the type of the constants in the global namespace.
using maglane::abi::node_config;
#include "maglane.skel.h"

namespace maglane::test {
namespace {

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "packets_kernel: {}: {}\n", what, std::strerror(errno));
  std::abort();
}

void write_file(const char* path, const char* text) {
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, std::strlen(text)) < 0) give_up(path);
  close(fd);
}

void run_ip(const std::string& commands) {
  FILE* pipe = popen("ip -batch -", "w");
  if (!pipe) give_up("ip");
  std::fwrite(commands.data(), 1, commands.size(), pipe);
  if (pclose(pipe) != 0) give_up("ip -batch failed");
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

void enter_network_namespace(const Network& network) {
  if (unshare(CLONE_NEWNET)) give_up("unshare(CLONE_NEWNET) (needs root)");
  run_ip(network.build_commands());
  write_file("/proc/sys/net/ipv4/ip_forward", "1");
  write_file("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  for (const auto& device : network.devices()) {
    attach_pass(device.index);
    if (device.forwarding) continue;
    for (const char* family : {"ipv4", "ipv6"})
      write_file(fmt::format("/proc/sys/net/{}/conf/{}/forwarding", family, device.name).c_str(), "0");
  }
}

// The reason whose counter went up by one packet of so many bytes, and no other did.
std::optional<abi::reason> counted_reason(const std::vector<abi::counter>& before,
                                          const std::vector<abi::counter>& after, Program program,
                                          size_t bytes) {
  const size_t first = program == Program::xdp_uplink ? 0 : size_t{abi::REASON_COUNT};
  std::optional<abi::reason> found;
  for (size_t i = 0; i < before.size(); ++i) {
    const uint64_t packets = after[i].packets - before[i].packets;
    if (!packets && after[i].bytes == before[i].bytes) continue;
    const bool ours = i >= first && i < first + abi::REASON_COUNT;
    if (found || !ours || packets != 1 || after[i].bytes - before[i].bytes != bytes) return std::nullopt;
    found = static_cast<abi::reason>(i - first);
  }
  return found;
}

struct Loaded {
  bpf_object* object = nullptr;
  std::map<std::string, bpf_map*> maps;
  std::map<std::string, std::set<std::string>> written;  // keys of arrays that are not zero
};

// Each compilation unit has left a copy of the constants behind; all are set alike.
void set_constants(bpf_map* rodata, const abi::node_config& config) {
  size_t size = 0;
  auto* bytes = static_cast<uint8_t*>(const_cast<void*>(bpf_map__initial_value(rodata, &size)));
  if (!bytes || size % sizeof config) give_up(".rodata holds more than the node's configuration");
  for (size_t at = 0; at < size; at += sizeof config) std::memcpy(bytes + at, &config, sizeof config);
}

Loaded load(const abi::node_config& config, uint32_t flow_capacity) {
  Loaded loaded;
  size_t size = 0;
  const void* elf = maglane_bpf__elf_bytes(&size);
  loaded.object = bpf_object__open_mem(elf, size, nullptr);
  if (!loaded.object) give_up("opening the BPF object");
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, loaded.object) {
    const std::string name = bpf_map__name(map);
    loaded.maps[name] = map;
    if (name == "flows4" || name == "flows6") bpf_map__set_max_entries(map, flow_capacity);
    if (name == "maglev" || name == "backends") bpf_map__set_max_entries(map, 8192);
    if (name.ends_with(".rodata")) set_constants(map, config);
  }
  if (bpf_object__load(loaded.object)) give_up("loading the BPF object");
  return loaded;
}

class KernelDataPlane final : public DataPlane {
 public:
  KernelDataPlane() { enter_network_namespace(network_); }
  ~KernelDataPlane() override {
    for (auto& [key, loaded] : loaded_) bpf_object__close(loaded.object);
  }
  KernelDataPlane(const KernelDataPlane&) = delete;
  KernelDataPlane& operator=(const KernelDataPlane&) = delete;

  void reset(const abi::node_config& config, uint32_t flow_capacity) override {
    const std::string key(reinterpret_cast<const char*>(&config), sizeof config);
    auto [found, fresh] = loaded_.try_emplace({key, flow_capacity});
    if (fresh) found->second = load(config, flow_capacity);
    current_ = &found->second;
    config_ = config;
    empty_maps();
    if (moved_) {
      network_ = Network();
      std::string commands;
      for (const auto& line : undo_) commands += line;
      run_ip(commands);
      undo_.clear();
      moved_ = false;
    }
  }

  void put(const std::string& map, const void* key, const void* value) override {
    ASSERT_EQ(bpf_map_update_elem(fd(map), key, value, BPF_ANY), 0) << "writing map " << map;
    if (is_array(map)) current_->written[map].insert(key_text(map, key));
  }
  void erase(const std::string& map, const void* key) override { bpf_map_delete_elem(fd(map), key); }

  std::optional<Bytes> get(const std::string& map, const void* key) override {
    const bpf_map* of = current_->maps.at(map);
    Bytes value(bpf_map__value_size(of));
    if (bpf_map_lookup_elem(fd(map), key, value.data())) return std::nullopt;
    return value;
  }

  std::vector<Bytes> keys(const std::string& map) override {
    std::vector<Bytes> result;
    Bytes key(bpf_map__key_size(current_->maps.at(map)));
    const void* previous = nullptr;
    while (!bpf_map_get_next_key(fd(map), previous, key.data())) {
      result.push_back(key);
      previous = result.back().data();
    }
    return result;
  }

  bool can_run(Program program, const Arrival& arrival) const override {
    const Bytes& frame = arrival.frame;
    if (arrival.vlan || arrival.linear || frame.size() < 15) return false;
    if (program == Program::xdp_uplink) return true;
    const int type = frame[12] << 8 | frame[13];
    return frame.size() >= 14U + (type == 0x0800 ? 20 : type == 0x86dd ? 40 : 1);
  }

  RunResult run(Program program, const Arrival& arrival) override {
    const auto before = counters();
    Bytes out(arrival.frame.size() + 1024);
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = arrival.frame.data();
    options.data_size_in = static_cast<__u32>(arrival.frame.size());
    options.data_out = out.data();
    options.data_size_out = static_cast<__u32>(out.size());
    xdp_md xdp{};
    __sk_buff skb{};
    if (program == Program::xdp_uplink) {
      xdp.data_end = options.data_size_in;
      xdp.ingress_ifindex = arrival.device;
      options.ctx_in = &xdp;
      options.ctx_size_in = sizeof xdp;
    } else {
      skb.ifindex = arrival.device;
      skb.ingress_ifindex = arrival.device;
      skb.gso_segs = arrival.gso_segments;
      if (arrival.gso_segments) skb.gso_size = 1400;
      options.ctx_in = &skb;
      options.ctx_size_in = sizeof skb;
    }
    RunResult result;
    const int error = bpf_prog_test_run_opts(program_fd(to_string(program)), &options);
    EXPECT_EQ(error, 0) << "BPF_PROG_TEST_RUN of " << to_string(program) << ": " << std::strerror(errno);
    if (error) return result;
    result.verdict = verdict_of(program, static_cast<int>(options.retval));
    out.resize(options.data_size_out);
    result.frame = std::move(out);
    result.reason = counted_reason(before, counters(), program, arrival.frame.size());
    return result;
  }

  abi::expiry_result expire() override {
    Bytes frame(64);
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<__u32>(frame.size());
    EXPECT_EQ(bpf_prog_test_run_opts(program_fd("expire"), &options), 0) << std::strerror(errno);
    return *get_value<abi::expiry_result>("expiry_result", uint32_t{0});
  }

  const Network& network() const override { return network_; }

  void move_neighbour(const IpAddress& address, const Mac& to) override {
    const Mac before = *network_.next_hop(address)->destination;
    Network copy = network_;
    undo_.push_back(copy.move_neighbour(address, before));
    run_ip(network_.move_neighbour(address, to));
    moved_ = true;
  }

  uint32_t slot() override {
    Bytes frame(64);
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<__u32>(frame.size());
    EXPECT_EQ(bpf_prog_test_run_opts(program_fd("clock"), &options), 0) << std::strerror(errno);
    const auto clock = *get_value<abi::expiry_result>("expiry_result", uint32_t{0});
    return static_cast<uint32_t>(clock.jiffies >> clock.slot_shift) & abi::STAMP_SLOT_MASK;
  }
  bool native() const override { return false; }

 private:
  int fd(const std::string& map) const { return bpf_map__fd(current_->maps.at(map)); }

  int program_fd(const char* name) const {
    const bpf_program* program = bpf_object__find_program_by_name(current_->object, name);
    if (!program) give_up(fmt::format("no program {}", name));
    return bpf_program__fd(program);
  }

  bool is_array(const std::string& map) const {
    return bpf_map__type(current_->maps.at(map)) == BPF_MAP_TYPE_ARRAY;
  }

  std::string key_text(const std::string& map, const void* key) const {
    return std::string(static_cast<const char*>(key), bpf_map__key_size(current_->maps.at(map)));
  }

  void empty_maps() {
    for (const auto& [name, map] : current_->maps) {
      if (bpf_map__type(map) == BPF_MAP_TYPE_HASH)
        for (const Bytes& key : keys(name)) erase(name, key.data());
      const Bytes zeros(bpf_map__value_size(map));
      for (const auto& key : current_->written[name])
        bpf_map_update_elem(fd(name), key.data(), zeros.data(), BPF_ANY);
    }
    current_->written.clear();
  }

  std::vector<abi::counter> counters() {
    const int cpus = libbpf_num_possible_cpus();
    std::vector<abi::counter> all, each(static_cast<size_t>(cpus));
    for (uint32_t i = 0; i < uint32_t{abi::REASON_COUNT} * abi::HOOKS; ++i) {
      abi::counter sum{};
      if (bpf_map_lookup_elem(fd("counters"), &i, each.data())) give_up("reading the counters");
      for (const auto& one : each) {
        sum.packets += one.packets;
        sum.bytes += one.bytes;
      }
      all.push_back(sum);
    }
    return all;
  }

  Network network_;
  std::map<std::pair<std::string, uint32_t>, Loaded> loaded_;
  Loaded* current_ = nullptr;
  abi::node_config config_{};
  std::vector<std::string> undo_;
  bool moved_ = false;
};

}  // namespace

std::unique_ptr<DataPlane> make_kernel_data_plane() {
  return std::make_unique<KernelDataPlane>();
}

}  // namespace maglane::test
