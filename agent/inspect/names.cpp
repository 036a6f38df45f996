// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/names.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

namespace maglane::inspect {

std::string protocol_name(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "TCP";
    case IPPROTO_UDP:
      return "UDP";
    case IPPROTO_SCTP:
      return "SCTP";
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return "ICMP";
    default:
      return std::to_string(protocol);
  }
}

std::string frontend_type_name(uint8_t type) {
  switch (type) {
    case abi::FRONTEND_ADDRESS:
      return "address";
    case abi::FRONTEND_CLUSTER_IP:
      return "cluster-ip";
    case abi::FRONTEND_NODE_PORT:
      return "node-port";
    case abi::FRONTEND_EXTERNAL_IP:
      return "external-ip";
    case abi::FRONTEND_LOAD_BALANCER:
      return "load-balancer";
    default:
      return std::to_string(type);
  }
}

std::string mac_name(const uint8_t (&mac)[6]) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4],
                     mac[5]);
}

Family family_of(uint8_t family) {
  return family == abi::FAMILY_IPV6 ? Family::ipv6 : Family::ipv4;
}

std::string address_name(uint8_t family, const __be32 (&addr_be)[4]) {
  return IpAddress::from_be(family_of(family), addr_be).to_string();
}

uint16_t host_port(__be16 port_be) {
  return ntohs(port_be);
}

std::string service_name(const abi::service_info& info) {
  const std::string port_name = text_of(info.port_name);
  return fmt::format("{}/{}{}{}", text_of(info.namespace_name), text_of(info.name),
                     port_name.empty() ? "" : ":", port_name);
}

}  // namespace maglane::inspect
