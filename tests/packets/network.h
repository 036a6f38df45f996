// SPDX-License-Identifier: Apache-2.0
//
// The node that the packet table plays on: its devices, routes and neighbours, as a model
// that answers route look-ups natively and that is built for real for the kernel runner.
//
//   up0  uplink, XDP: 192.168.50.0/24 with node B (.2) and a router to all clients (.254)
//   up1  second uplink, XDP: 192.168.51.0/24 with node C (.3)
//   pod0 pod0's host end, tc only: pods 10.1.0.0/24
//   pod1 another pod's: 10.1.1.0/24
//   low0 pods behind a small MTU: 10.1.2.0/24
//   off0 a device on which forwarding is switched off
// IPv6 likewise: fd50::, fd51::, fd01:0::, fd01:1::, fd01:2::, remote pods fd02::, fd03::.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "bpf/abi.h"
#include "tests/support/packet_builder.h"

namespace maglane::test {

// Interface indices: the real devices are made with the same ones.
enum Device : uint32_t { kUp0 = 101, kUp1 = 102, kPod0 = 103, kPod1 = 104, kLow0 = 105, kOff0 = 106 };

struct NetworkDevice {
  uint32_t index = 0;
  std::string name;
  Mac mac{};
  uint32_t mtu = 1500;
  uint32_t flags = 0;  // abi::device_flag
  bool forwarding = true;
  std::vector<std::string> addresses;  // with prefix length
};

struct NetworkRoute {
  enum class Kind { unicast, blackhole, unreachable, prohibit };
  Cidr destination;
  Kind kind = Kind::unicast;
  uint32_t device = 0;
  std::optional<IpAddress> gateway;
  uint32_t mtu = 0;  // locked, as the kernel wants it of what it forwards; 0: the device's
};

struct NextHop {
  uint32_t device = 0;
  Mac source{};
  std::optional<Mac> destination;  // none: the neighbour is not known
  IpAddress neighbour;
  uint32_t mtu = 0;
};

class Network {
 public:
  Network();  // as drawn above
  // Another one: with these devices, and the routes and neighbours that are added.
  explicit Network(std::vector<NetworkDevice> devices);
  void add_route(const char* destination, uint32_t device, const char* gateway, uint32_t mtu = 0);
  void add_neighbour(uint32_t device, const char* address);

  const std::vector<NetworkDevice>& devices() const { return devices_; }
  const NetworkDevice& device(uint32_t index) const;

  // The way to an address; none: there is no route.
  std::optional<NextHop> next_hop(const IpAddress& destination) const;

  // bpf_fib_lookup() with a length in the parameters, with the kernel's results, the same on both
  // hooks.
  long fib_lookup(bpf_fib_lookup& params) const;
  // Whose packet the last look-up was for. No route here depends on it, those of real nodes may.
  const IpAddress& last_source() const { return last_source_; }

  // The commands of `ip -batch` that build it, and those that bring a change about.
  std::string build_commands() const;
  std::string move_neighbour(const IpAddress& address, const Mac& to);

  static constexpr const char* kNodeAddress4 = "192.168.50.1";
  static constexpr const char* kNodeAddress6 = "fd50::1";
  static bool is_local_pod(const IpAddress& address);
  bool is_own(const IpAddress& address) const;

 private:
  const NetworkRoute* route_to(const IpAddress& destination) const;
  void add_special(const char* destination, NetworkRoute::Kind kind);

  std::vector<NetworkDevice> devices_;
  std::vector<IpAddress> own_;
  mutable IpAddress last_source_;
  std::vector<NetworkRoute> routes_;
  std::map<std::pair<uint32_t, IpAddress>, Mac> neighbours_;
};

}  // namespace maglane::test
