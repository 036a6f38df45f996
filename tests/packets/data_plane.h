// SPDX-License-Identifier: Apache-2.0
//
// The packet path to the packet table: its maps and programs, native or in the kernel. Each
// test binary links one maker; the random comparison links both.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "bpf/abi.h"
#include "tests/packets/network.h"
#include "tests/support/packet_builder.h"

namespace maglane::test {

enum class Program { xdp_uplink, tc_uplink, tc_pod, tc_egress };
abi::hook hook_of(Program program);
const char* to_string(Program program);

enum class Verdict { pass, drop, transmit, redirect, aborted };
const char* to_string(Verdict verdict);

// Of a program's return value.
Verdict verdict_of(Program program, int result);
struct RunResult {
  Verdict verdict = Verdict::aborted;
  Bytes frame;
  // The one reason that was counted; none, if none or several were, or its bytes are wrong.
  std::optional<abi::reason> reason;
  // Natively: the device that the frame was sent to.
  std::optional<uint32_t> sent_to;
};

// A packet as it comes in. What XDP never sees (gso, vlan) is for tc alone.
struct Arrival {
  Bytes frame;
  uint32_t device = kUp0;
  uint16_t gso_segments = 0;
  uint32_t linear = 0;  // natively at tc: bytes in the first part of the buffer, 0: all
  bool vlan = false;    // natively: a tag that the device has taken out
  uint16_t gso_size = 1400;  // bytes of payload in each segment
};

// Maps by their names in bpf/maps.h, on a node whose network is known.
class Maps {
 public:
  virtual ~Maps() = default;

  // Failing to write ends the test program.
  virtual void put(const std::string& map, const void* key, const void* value) = 0;
  // Of a hash map.
  virtual void erase(const std::string& map, const void* key) = 0;
  virtual std::optional<Bytes> get(const std::string& map, const void* key) = 0;
  // All values of a table (see tables.h), which lie one after the other. Valid until the
  // next reset.
  virtual std::span<uint8_t> memory(const std::string& map) = 0;
  // The routes that the programs see.
  virtual const Network& network() const = 0;

  template <typename Key, typename Value>
  void put_value(const std::string& map, const Key& key, const Value& value) {
    put(map, &key, &value);
  }

  template <typename Key>
  void erase_key(const std::string& map, const Key& key) {
    erase(map, &key);
  }

  template <typename Value, typename Key>
  std::optional<Value> get_value(const std::string& map, const Key& key) {
    const auto bytes = get(map, &key);
    if (!bytes || bytes->size() < sizeof(Value)) return std::nullopt;
    Value value;
    std::memcpy(&value, bytes->data(), sizeof value);
    return value;
  }
};

class DataPlane : public Maps {
 public:
  // A data plane as just loaded with these constants: empty maps, tables of as many buckets as
  // they say, the network as drawn.
  virtual void reset(const abi::node_config& config) = 0;
  // False where this plane has no means to run such a frame: the kernel refuses test frames
  // at tc that are shorter than their IP header.
  virtual bool can_run(Program program, const Arrival& arrival) const = 0;
  virtual RunResult run(Program program, const Arrival& arrival) = 0;
  // Runs the programs of these names.
  virtual void expire(abi::expire_call& call) = 0;
  virtual void forget(abi::forget_call& call) = 0;
  virtual void remove_flow(abi::remove_call& call) = 0;
  // A socket of the node binds this address of its and, with TCP, listens; until the next reset.
  virtual void bind_socket(const HostPort& address, uint8_t protocol) = 0;
  virtual void move_neighbour(const IpAddress& address, const Mac& to) = 0;
  // The present slot, of the same clock as stamps.
  virtual uint32_t slot() = 0;
  virtual bool native() const = 0;
};

// On this network at first. Several may be there beside each other: natively one at a time, the
// one that was reset last.
std::unique_ptr<DataPlane> make_native_data_plane(const Network& network = {});
std::unique_ptr<DataPlane> make_kernel_data_plane(const Network& network = {});

// The test binary's own: native in packets_native, the kernel's in packets_kernel.
DataPlane& data_plane();

}  // namespace maglane::test
