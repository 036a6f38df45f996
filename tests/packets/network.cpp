// SPDX-License-Identifier: Apache-2.0
#include "tests/packets/network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace maglane::test {
namespace {

Cidr cidr(const char* text) {
  auto parsed = Cidr::parse(text);
  if (!parsed) std::abort();
  return *parsed;
}

std::string mac_text(const Mac& mac) {
  return fmt::format("{:02x}", fmt::join(mac, ":"));
}

constexpr const char* kKindNames[] = {"unicast", "blackhole", "unreachable", "prohibit"};
constexpr int kKindResults[] = {BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_BLACKHOLE,
                                BPF_FIB_LKUP_RET_UNREACHABLE, BPF_FIB_LKUP_RET_PROHIBIT};

// What the kernel forwards neither to nor from, whatever the routes are; of IPv6 alone.
bool stays_on_link(const IpAddress& address) {
  return address.family() == Family::ipv6 &&
         (address.is_multicast() || address.is_link_local() || address.is_loopback());
}

}  // namespace

Network::Network(std::vector<NetworkDevice> devices) : devices_(std::move(devices)) {
  for (const auto& device : devices_)
    for (const auto& address : device.addresses) own_.push_back(ip(address.substr(0, address.find('/'))));
}

Network::Network() {
  using namespace abi;
  const uint32_t uplink = uint32_t{DEVICE_UPLINK} | DEVICE_XDP, pod = DEVICE_POD;
  devices_ = {
      {kUp0, "up0", mac("02:00:00:00:01:01"), 1500, uplink, true, {"192.168.50.1/24", "fd50::1/64"}},
      {kUp1, "up1", mac("02:00:00:00:01:02"), 1500, uplink, true, {"192.168.51.1/24", "fd51::1/64"}},
      {kPod0, "pod0", mac("02:00:00:00:01:03"), 1500, pod, true, {}},
      {kPod1, "pod1", mac("02:00:00:00:01:04"), 1500, pod, true, {}},
      {kLow0, "low0", mac("02:00:00:00:01:05"), 1300, pod, true, {}},
      {kOff0, "off0", mac("02:00:00:00:01:06"), 1500, DEVICE_UPLINK, false, {}},
  };
  for (const auto& device : devices_)
    for (const auto& address : device.addresses) own_.push_back(ip(address.substr(0, address.find('/'))));
  add_route("192.168.50.0/24", kUp0, nullptr);
  add_route("192.168.51.0/24", kUp1, nullptr);
  add_route("fd50::/64", kUp0, nullptr);
  add_route("fd51::/64", kUp1, nullptr);
  add_route("10.1.0.0/24", kPod0, nullptr);
  add_route("10.1.1.0/24", kPod1, nullptr);
  add_route("10.1.2.0/24", kLow0, nullptr);
  add_route("fd01::/64", kPod0, nullptr);
  add_route("fd01:0:0:1::/64", kPod1, nullptr);
  add_route("fd01:0:0:2::/64", kLow0, nullptr);
  add_route("10.2.0.0/24", kUp0, "192.168.50.2");
  add_route("fd02::/64", kUp0, "fd50::2");
  add_route("10.3.0.0/24", kUp1, "192.168.51.3");
  add_route("fd03::/64", kUp1, "fd51::3");
  add_route("198.51.100.0/24", kUp0, "192.168.50.254");
  add_route("2001:db8:c::/48", kUp0, "fd50::254");
  // More of the outside, by the other uplink.
  add_route("198.51.101.0/24", kUp1, "192.168.51.3");
  add_route("2001:db8:d::/48", kUp1, "fd51::3");
  // Pods of many other nodes.
  add_route("10.64.0.0/10", kUp0, "192.168.50.254");
  add_route("fd0a::/64", kUp0, "fd50::254");
  // As a default route would lead to it.
  add_route("224.0.0.0/4", kUp0, "192.168.50.254");
  // Behind a narrow path that the route knows of.
  add_route("10.4.0.0/24", kUp0, "192.168.50.2", 1400);
  add_route("fd04::/64", kUp0, "fd50::2", 1400);
  add_special("10.9.1.0/24", NetworkRoute::Kind::blackhole);
  add_special("10.9.2.0/24", NetworkRoute::Kind::unreachable);
  add_special("10.9.3.0/24", NetworkRoute::Kind::prohibit);
  add_special("fd09:0:0:1::/64", NetworkRoute::Kind::blackhole);
  add_special("fd09:0:0:2::/64", NetworkRoute::Kind::unreachable);
  add_special("fd09:0:0:3::/64", NetworkRoute::Kind::prohibit);
  for (const char* address :
       {"192.168.50.2", "192.168.50.254", "192.168.50.7", "fd50::2", "fd50::254", "fd50::7"})
    add_neighbour(kUp0, address);
  for (const char* address : {"192.168.51.3", "192.168.51.7", "fd51::3", "fd51::7"})
    add_neighbour(kUp1, address);
  for (const char* address : {"10.1.0.10", "10.1.0.11", "10.1.0.12", "fd01::10", "fd01::11", "fd01::12"})
    add_neighbour(kPod0, address);
  for (const char* address : {"10.1.1.10", "10.1.1.11", "fd01:0:0:1::10", "fd01:0:0:1::11"})
    add_neighbour(kPod1, address);
  for (const char* address : {"10.1.2.10", "fd01:0:0:2::10"}) add_neighbour(kLow0, address);
}

void Network::add_route(const char* destination, uint32_t device, const char* gateway, uint32_t mtu) {
  NetworkRoute route{cidr(destination), NetworkRoute::Kind::unicast, device, std::nullopt, mtu};
  if (gateway) route.gateway = ip(gateway);
  routes_.push_back(route);
}

void Network::add_special(const char* destination, NetworkRoute::Kind kind) {
  routes_.push_back({cidr(destination), kind, 0, std::nullopt, 0});
}

void Network::add_neighbour(uint32_t device, const char* address) {
  const IpAddress neighbour = ip(address);
  const auto& bytes = neighbour.bytes();
  const size_t last = neighbour.family() == Family::ipv4 ? 3 : 15;
  // Different for each neighbour, and told apart in a dump.
  neighbours_[{device, neighbour}] = {0x02,
                                      static_cast<uint8_t>(neighbour.family()),
                                      static_cast<uint8_t>(device),
                                      bytes[0],
                                      bytes[last - 1],
                                      bytes[last]};
}

const NetworkDevice& Network::device(uint32_t index) const {
  for (const auto& device : devices_)
    if (device.index == index) return device;
  fmt::print(stderr, "no device {}\n", index);
  std::abort();
}

bool Network::is_own(const IpAddress& address) const {
  return std::find(own_.begin(), own_.end(), address) != own_.end();
}

bool Network::is_local_pod(const IpAddress& address) {
  static const Cidr pods4 = cidr("10.1.0.0/16"), pods6 = cidr("fd01::/48");
  return pods4.contains(address) || pods6.contains(address);
}

const NetworkRoute* Network::route_to(const IpAddress& destination) const {
  const NetworkRoute* best = nullptr;
  for (const auto& route : routes_)
    if (route.destination.contains(destination) &&
        (!best || route.destination.length() > best->destination.length()))
      best = &route;
  return best;
}

std::optional<NextHop> Network::next_hop(const IpAddress& destination) const {
  const NetworkRoute* route = route_to(destination);
  if (!route || route->kind != NetworkRoute::Kind::unicast || is_own(destination)) return std::nullopt;
  const NetworkDevice& out = device(route->device);
  NextHop hop{out.index, out.mac, std::nullopt, route->gateway.value_or(destination),
              route->mtu ? route->mtu : out.mtu};
  const auto neighbour = neighbours_.find({out.index, hop.neighbour});
  if (neighbour != neighbours_.end()) hop.destination = neighbour->second;
  return hop;
}

long Network::fib_lookup(bpf_fib_lookup& params) const {
  const bool v4 = params.family == AF_INET;
  const IpAddress destination =
      IpAddress::from_be(v4 ? Family::ipv4 : Family::ipv6, v4 ? &params.ipv4_dst : params.ipv6_dst);
  last_source_ = IpAddress::from_be(destination.family(), v4 ? &params.ipv4_src : params.ipv6_src);
  if (stays_on_link(destination) || stays_on_link(last_source_)) return BPF_FIB_LKUP_RET_NOT_FWDED;
  if (!device(params.ifindex).forwarding) return BPF_FIB_LKUP_RET_FWD_DISABLED;
  const NetworkRoute* route = route_to(destination);
  if (!route || is_own(destination)) return BPF_FIB_LKUP_RET_NOT_FWDED;
  if (route->kind != NetworkRoute::Kind::unicast) return kKindResults[static_cast<int>(route->kind)];
  const NextHop hop = *next_hop(destination);
  if (params.tot_len > hop.mtu) {
    params.mtu_result = static_cast<uint16_t>(hop.mtu);
    return BPF_FIB_LKUP_RET_FRAG_NEEDED;
  }
  params.ifindex = hop.device;
  hop.neighbour.to_be(params.ipv6_dst);  // in a union with ipv4_dst
  if (!hop.destination) return BPF_FIB_LKUP_RET_NO_NEIGH;
  std::memcpy(params.smac, hop.source.data(), 6);
  std::memcpy(params.dmac, hop.destination->data(), 6);
  params.h_vlan_TCI = 0;
  params.h_vlan_proto = 0;
  params.mtu_result = static_cast<uint16_t>(hop.mtu);
  return BPF_FIB_LKUP_RET_SUCCESS;
}

std::string Network::build_commands() const {
  std::string commands = "link set lo up\n";
  for (const auto& d : devices_) {
    commands += fmt::format("link add name {} index {} address {} mtu {} type veth peer name {}p\n", d.name,
                            d.index, mac_text(d.mac), d.mtu, d.name);
    commands += fmt::format("link set {} up\nlink set {}p up\n", d.name, d.name);
    for (const auto& address : d.addresses)
      commands += fmt::format("addr add {} dev {}{}\n", address, d.name,
                              address.find(':') == std::string::npos ? "" : " nodad");
  }
  for (const auto& route : routes_) {
    const std::string target = route.destination.to_string();
    if (route.kind != NetworkRoute::Kind::unicast)
      commands += fmt::format("route add {} {}\n", kKindNames[static_cast<int>(route.kind)], target);
    else
      commands += fmt::format("route replace {}{} dev {}{}\n", target,
                              route.gateway ? " via " + route.gateway->to_string() : "",
                              device(route.device).name, route.mtu ? fmt::format(" mtu lock {}", route.mtu) : "");
  }
  for (const auto& [where, to] : neighbours_)
    commands += fmt::format("neigh replace {} lladdr {} nud permanent dev {}\n", where.second.to_string(),
                            mac_text(to), device(where.first).name);
  return commands;
}

std::string Network::move_neighbour(const IpAddress& address, const Mac& to) {
  const NextHop hop = *next_hop(address);
  neighbours_[{hop.device, hop.neighbour}] = to;
  return fmt::format("neigh replace {} lladdr {} nud permanent dev {}\n", hop.neighbour.to_string(),
                     mac_text(to), device(hop.device).name);
}

}  // namespace maglane::test
