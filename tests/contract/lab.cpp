// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/lab.h"

#include <fmt/format.h>

namespace maglane::test {
namespace {

// Interface indices of a node.
constexpr uint32_t kUplink = 101, kFirstPod = 103;

int number_of(const std::string& node) {
  return node == "node-a" ? 1 : 2;
}

LabHost pod(const std::string& node, int n) {
  const int number = number_of(node);
  return {fmt::format("pod-{}{}", node.back(), n), node, ip(fmt::format("10.244.{}.1{}", number, n)),
          ip(fmt::format("fd00:10:244:{}::1{}", number, n))};
}

LabHost node_host(const std::string& name) {
  const int number = number_of(name);
  return {name, name, ip(fmt::format("192.168.100.{}", number)), ip(fmt::format("fd00:100::{}", number))};
}

NetworkDevice device(uint32_t index, const std::string& name, uint32_t flags) {
  return {index, name, mac(fmt::format("02:00:00:00:01:{:02x}", index - 100)), 1500, flags, true, {}};
}

}  // namespace

const std::vector<LabHost>& lab_hosts() {
  static const std::vector<LabHost> hosts = [] {
    std::vector<LabHost> all = {{"client", "", ip("192.168.100.10"), ip("fd00:100::10")}};
    for (const char* node : kLabNodes) {
      all.push_back(node_host(node));
      for (const int n : {1, 2}) all.push_back(pod(node, n));
    }
    return all;
  }();
  return hosts;
}

const LabHost* lab_host(const std::string& name) {
  for (const LabHost& host : lab_hosts())
    if (host.name == name) return &host;
  return nullptr;
}

const LabHost* lab_host(const IpAddress& address) {
  for (const LabHost& host : lab_hosts())
    if (host.of(address.family()) == address) return &host;
  return nullptr;
}

uint32_t lab_device(const std::string& node, const LabHost& from) {
  if (!from.is_pod() || from.node != node) return kUplink;
  return kFirstPod + static_cast<uint32_t>(from.name.back() - '1');
}

Network lab_network(const std::string& node) {
  const LabHost& self = *lab_host(node);
  NetworkDevice uplink = device(kUplink, "eth0", uint32_t{abi::DEVICE_UPLINK} | abi::DEVICE_XDP);
  uplink.addresses = {self.ipv4.to_string() + "/24", self.ipv6.to_string() + "/64"};
  std::vector<NetworkDevice> devices = {uplink};
  for (const LabHost& host : lab_hosts())
    if (host.is_pod() && host.node == node)
      devices.push_back(device(lab_device(node, host), host.name, abi::DEVICE_POD));
  Network network(devices);
  const LabHost& client = *lab_host("client");
  for (const char* cidr : {"192.168.100.0/24", "fd00:100::/64"}) network.add_route(cidr, kUplink, nullptr);
  for (const LabHost& host : lab_hosts()) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      const std::string address = host.of(family).to_string();
      if (host.name == node) continue;
      if (!host.is_pod() || host.node == node) network.add_neighbour(lab_device(node, host), address.c_str());
      if (!host.is_pod()) continue;
      const std::string gateway = lab_host(host.node)->of(family).to_string();
      const std::string whole = Cidr::parse(address)->to_string();
      network.add_route(whole.c_str(), lab_device(node, host), host.node == node ? nullptr : gateway.c_str());
    }
  }
  // The way to the outside world.
  network.add_route("0.0.0.0/0", kUplink, client.ipv4.to_string().c_str());
  network.add_route("::/0", kUplink, client.ipv6.to_string().c_str());
  return network;
}

}  // namespace maglane::test
