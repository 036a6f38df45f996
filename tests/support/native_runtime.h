// SPDX-License-Identifier: Apache-2.0
//
// What the packet path needs when it runs natively (bpf/native.h): its maps, its clock and
// the kernel's routes, as plain objects that tests set up and look into. One node at a time,
// one thread.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "bpf/native_packet.h"
#include "tests/support/packet_builder.h"

// A BPF map with the kernel's error numbers. Each value has an allocation of its own, freed
// when its entry is deleted, so that the address sanitizer sees every use beyond that. Only
// where the map's memory is written directly (`memory`) do its values follow each other.
struct native_map {
  enum class Kind { hash, lru, array, memory };

  native_map(Kind kind, uint32_t key_size, uint32_t value_size, uint32_t max_entries);

  void* find(const void* key);
  long update(const void* key, const void* value, uint64_t flags);
  long remove(const void* key);
  void clear();
  std::vector<std::string> keys() const;
  size_t size() const { return entries_.size(); }
  uint32_t value_size() const { return value_size_; }
  // Empties the map.
  void resize(uint32_t max_entries);
  // REQUIRES: Kind::memory. Valid until resize.
  std::span<uint8_t> memory();

  template <typename Key, typename Value>
  void put(const Key& key, const Value& value) {
    update(&key, &value, BPF_ANY);
  }

 private:
  using Value = std::unique_ptr<uint8_t[]>;
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  bool hashed() const { return kind_ == Kind::hash || kind_ == Kind::lru; }
  void* value_at(const std::string& key, const void* initial);

  Kind kind_;
  uint32_t key_size_;
  uint32_t value_size_;
  uint32_t max_entries_;
  std::map<std::string, Value> entries_;  // of an array: those that were ever touched
  std::unique_ptr<uint8_t, Free> memory_;
};

namespace maglane::test {

enum : uint32_t { kFrontendValues = 512 };

// The maps of bpf/maps.h by name; nullptr: no such map.
native_map* native_map_named(const std::string& name);

struct NativeSystem {
  abi::node_config config{};
  uint64_t jiffies = 1'000'000;
  // bpf_fib_lookup(): fills in `params`, returns a BPF_FIB_LKUP_RET_*.
  std::function<long(bpf_fib_lookup& params, uint32_t flags)> fib;
  uint64_t fib_lookups = 0;
  // Ends of packets that sockets of the node get: protocol and destination.
  std::set<std::pair<uint8_t, HostPort>> sockets;
};
NativeSystem& native_system();

// Empties every map, makes the tables as large as `config` says, resets the clock and forgets
// the routes.
void native_reset(const abi::node_config& config);

struct NativeResult {
  int verdict = 0;  // XDP_* or TC_ACT_*
  uint32_t sent_to = 0;
  bpf_fib_lookup resolved{};
  Bytes frame;
};
using NativeProgram = int (*)(native_packet*);

// Runs a program on a copy of `frame`. linear: how many bytes lie in the first part of the
// buffer (tc only); 0: all.
NativeResult native_run(NativeProgram program, std::span<const uint8_t> frame, uint32_t ifindex,
                        uint32_t linear = 0, uint16_t gso_segments = 0, bool vlan = false,
                        uint16_t gso_size = 0);

}  // namespace maglane::test
