// SPDX-License-Identifier: Apache-2.0
//
// A BPF object with the data plane's maps, loaded beside whatever else runs on the machine:
// nothing is pinned, nothing attached outside a network namespace of this process's own.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/kernel/fd.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

// Says what failed, with errno, and ends the program.
[[noreturn]] void give_up(const std::string& what);

// Moves this process into a new network namespace and builds the network there, with an XDP
// program on each device (without one, the kernel runs no test frames "from" it). What holds it.
Fd enter_network_namespace(const Network& network);
// Lets `ip -batch` run these commands in this process's network namespace.
void run_ip(const std::string& commands);

class KernelObject final : public Maps {
 public:
  // max_entries by map, where neither the constants nor the needs of a small cluster say it.
  using Sizes = std::map<std::string, uint32_t>;

  KernelObject(const void* elf, size_t size, const abi::node_config& config, const Sizes& sizes,
               const Network& network);
  ~KernelObject() override;
  KernelObject(const KernelObject&) = delete;
  KernelObject& operator=(const KernelObject&) = delete;

  void put(const std::string& map, const void* key, const void* value) override;
  void erase(const std::string& map, const void* key) override;
  std::optional<Bytes> get(const std::string& map, const void* key) override;
  std::span<uint8_t> memory(const std::string& map) override;
  const Network& network() const override { return network_; }

  int map_fd(const std::string& map) const;
  int program_fd(const std::string& name) const;
  // Hash maps empty, tables zero, other arrays zero where `put` wrote.
  void empty_maps();
  std::vector<Bytes> keys(const std::string& map);
  // Summed over the CPUs; by reason + hook * REASON_COUNT.
  std::vector<abi::counter> counters();

 private:
  bpf_object* object_ = nullptr;
  std::map<std::string, bpf_map*> maps_;
  std::map<std::string, std::set<std::string>> written_;  // keys of arrays
  std::map<std::string, std::span<uint8_t>> memory_;      // of maps that are mapped
  const Network& network_;
};

// A frame and its origin, in the form that bpf_prog_test_run_opts takes.
class TestRun {
 public:
  // at_xdp: for an XDP program, else for one at tc. leaves: at egress, with a packet of the node's own.
  TestRun(bool at_xdp, const Arrival& arrival, bool leaves = false);
  // Runs `repeat` times on the same frame, which is not restored in between. 0, or -errno.
  int run(int program, uint32_t repeat = 1);

  int verdict() const { return static_cast<int>(options_.retval); }
  const Bytes& frame() const { return out_; }
  TestRun(const TestRun&) = delete;
  TestRun& operator=(const TestRun&) = delete;

 private:
  Bytes in_;
  Bytes out_;
  xdp_md xdp_;
  __sk_buff skb_;
  bpf_test_run_opts options_;
};

}  // namespace maglane::test
