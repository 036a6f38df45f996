// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/operation.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>

#include "agent/base/ip.h"

namespace maglane {

namespace {

uint16_t from_be(uint16_t port_be) {
  return static_cast<uint16_t>(port_be >> 8 | port_be << 8);
}

IpAddress address_of(uint8_t family, const uint32_t (&addr_be)[4]) {
  return IpAddress::from_be(family == abi::FAMILY_IPV6 ? Family::ipv6 : Family::ipv4, addr_be);
}

std::string_view protocol_name(uint8_t protocol) {
  return to_string(static_cast<Protocol>(protocol));
}

std::string_view text(const char (&field)[64]) {
  return {field, strnlen(field, sizeof field)};
}

std::string text(const abi::frontend_key& key) {
  const IpAddress address = address_of(key.family, key.addr_be);
  if (key.protocol == 0) return "address " + address.to_string();
  return fmt::format("{} {}", address.with_port(from_be(key.port_be)), protocol_name(key.protocol));
}

std::string text(const abi::table_ref& ref) {
  if (ref.size > 0) return fmt::format("{}+{}", ref.offset, ref.size);
  return ref.offset == abi::EMPTY_DROP ? "drop" : "reject";
}

std::string text(const abi::source_range_key& key) {
  return fmt::format("source range {}/{} of service {}",
                     address_of(static_cast<uint8_t>(key.family), key.addr_be).to_string(),
                     key.prefix_bits - abi::SOURCE_RANGE_BITS, key.service_id);
}

std::string_view type_name(uint8_t type) {
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
  }
  return "unknown";
}

struct Renderer {
  std::string operator()(const PutService& put) const {
    const std::string_view port_name = text(put.info.port_name);
    return fmt::format("put service {}: {}/{}{}{} port {} {} {}", put.id, text(put.info.namespace_name),
                       text(put.info.name), port_name.empty() ? "" : ":", port_name, put.info.port,
                       protocol_name(put.info.protocol),
                       to_string(put.info.family == abi::FAMILY_IPV6 ? Family::ipv6 : Family::ipv4));
  }
  std::string operator()(const PutBackend& put) const {
    const abi::backend& backend = put.backend;
    return fmt::format("put backend {}: {} {}{}", put.id,
                       address_of(backend.family, backend.addr_be).with_port(from_be(backend.port_be)),
                       protocol_name(backend.protocol), backend.flags & abi::BACKEND_NODE    ? " node"
                       : backend.flags & abi::BACKEND_LOCAL ? " local"
                                                            : "");
  }
  std::string operator()(const WriteTable& write) const {
    return fmt::format("write table {}+{}", write.offset, write.backend_ids ? write.backend_ids->size() : 0);
  }
  std::string operator()(const SetVipBit& set) const {
    return fmt::format("{} VIP bit {}", set.value ? "set" : "clear", set.bit);
  }
  std::string operator()(const PutFrontend& put) const {
    const abi::frontend& frontend = put.frontend;
    if (frontend.type == abi::FRONTEND_ADDRESS) return "put frontend " + text(put.key);
    return fmt::format("put frontend {}: {} of service {}, outside {}, pods {}{}{}{}", text(put.key),
                       type_name(frontend.type), frontend.service_id,
                       text(frontend.tables[abi::SOURCE_OUTSIDE]), text(frontend.tables[abi::SOURCE_POD]),
                       frontend.flags & abi::FRONTEND_EXTERNAL_LOCAL ? ", policy local" : "",
                       frontend.flags & abi::FRONTEND_SOURCE_RANGES ? ", source ranges" : "",
                       frontend.affinity_seconds ? fmt::format(", affinity {} s", frontend.affinity_seconds)
                                                 : "");
  }
  std::string operator()(const DeleteFrontend& del) const { return "delete frontend " + text(del.key); }
  std::string operator()(const PutSourceRange& put) const { return "put " + text(put.key); }
  std::string operator()(const DeleteSourceRange& del) const { return "delete " + text(del.key); }
  std::string operator()(const ForgetEndpoint& forget) const {
    const abi::service_endpoint& endpoint = forget.endpoint;
    return fmt::format("forget {} {} of service {}",
                       address_of(endpoint.family, endpoint.addr_be).with_port(from_be(endpoint.port_be)),
                       protocol_name(endpoint.protocol), endpoint.service_id);
  }
  std::string operator()(const DeleteBackend& del) const { return fmt::format("delete backend {}", del.id); }
  std::string operator()(const DeleteService& del) const { return fmt::format("delete service {}", del.id); }
};

}  // namespace

std::string to_string(const Operation& operation) {
  return std::visit(Renderer{}, operation);
}

}  // namespace maglane
