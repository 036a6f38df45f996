// SPDX-License-Identifier: Apache-2.0
//
// Map contents and flows made by hand.
#pragma once

#include <endian.h>

#include <cstring>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/kernel/maps.h"
#include "agent/plan/contents.h"

namespace maglane::test {

inline void set_address(const std::string& text, __be32 (&addr_be)[4], __u8& family) {
  const IpAddress address = *IpAddress::parse(text);
  address.to_be(addr_be);
  family = static_cast<__u8>(address.family());
}

inline abi::service_info service(const char* namespace_name, const char* name, const char* port_name,
                                 uint16_t port, uint8_t protocol = 6, uint8_t family = 4) {
  abi::service_info info{};
  std::strcpy(info.namespace_name, namespace_name);
  std::strcpy(info.name, name);
  std::strcpy(info.port_name, port_name);
  info.port = port;
  info.protocol = protocol;
  info.family = family;
  return info;
}

inline abi::backend backend(const std::string& address, uint16_t port, bool local = false) {
  abi::backend result{};
  set_address(address, result.addr_be, result.family);
  result.port_be = htobe16(port);
  result.protocol = 6;
  if (local) result.flags = abi::BACKEND_LOCAL;
  return result;
}

inline void add_frontend(MapContents& contents, const std::string& address, uint16_t port,
                         uint32_t service_id, uint8_t type, abi::table_ref outside, abi::table_ref pods) {
  abi::frontend_key key{};
  set_address(address, key.addr_be, key.family);
  key.port_be = htobe16(port);
  key.protocol = type == abi::FRONTEND_ADDRESS ? 0 : 6;
  contents.frontends[key] = {service_id, type, 0, {}, {outside, pods}, 0, 0};
}

// One that only the service's source ranges may open connections to.
inline void add_limited(MapContents& contents, const std::string& address, uint16_t port,
                        uint32_t service_id) {
  add_frontend(contents, address, port, service_id, abi::FRONTEND_LOAD_BALANCER, {0, 10}, {0, 10});
  for (auto& [key, frontend] : contents.frontends)
    if (frontend.service_id == service_id && frontend.type == abi::FRONTEND_LOAD_BALANCER)
      frontend.flags |= abi::FRONTEND_SOURCE_RANGES;
}

inline void add_source_range(MapContents& contents, uint32_t service_id, const std::string& address,
                             uint32_t length) {
  abi::source_range_key key{};
  __u8 family;
  set_address(address, key.addr_be, family);
  key.prefix_bits = abi::SOURCE_RANGE_BITS + length;
  key.service_id = service_id;
  key.family = family;
  contents.source_ranges.insert(key);
}

// default/web:http with a cluster address, a node port of policy Local and three endpoints,
// one of them here; default/empty, which rejects; prod/web.
inline MapContents cluster() {
  MapContents contents;
  contents.services[7] = service("default", "web", "http", 80);
  contents.services[8] = service("default", "empty", "", 81);
  contents.services[9] = service("prod", "web", "", 80);
  contents.backends[3] = backend("10.244.0.10", 8080, true);
  contents.backends[4] = backend("10.244.1.2", 8080);
  contents.backends[5] = backend("10.244.1.10", 8080);
  contents.maglev = std::vector<uint32_t>(48, 0);
  const std::vector<uint32_t> all = {3, 4, 5, 3, 4, 5, 3, 4, 5, 3};
  std::copy(all.begin(), all.end(), contents.maglev.begin());
  contents.maglev[16] = 3;
  add_frontend(contents, "10.96.0.1", 0, 7, abi::FRONTEND_ADDRESS, {}, {});
  add_frontend(contents, "10.96.0.1", 80, 7, abi::FRONTEND_CLUSTER_IP, {0, 10}, {0, 10});
  add_frontend(contents, "192.168.1.1", 30080, 7, abi::FRONTEND_NODE_PORT, {16, 1}, {0, 10});
  add_frontend(contents, "10.96.0.2", 81, 8, abi::FRONTEND_CLUSTER_IP, {0, 0}, {0, 0});
  add_frontend(contents, "10.96.0.3", 80, 9, abi::FRONTEND_CLUSTER_IP, {abi::EMPTY_DROP, 0}, {0, 10});
  return contents;
}

struct End {
  std::string address;
  uint16_t port;
};

// The two entries of a connection `client` -> `service`, translated to `source` -> `endpoint`.
inline abi::tuple4 tuple4(const End& source, const End& destination, uint8_t protocol) {
  __be32 from[4];
  __be32 to[4];
  __u8 family;
  set_address(source.address, from, family);
  set_address(destination.address, to, family);
  return {from[0], to[0], htobe16(source.port), htobe16(destination.port), protocol, {}};
}

inline FlowEntry4 flow4(const abi::tuple4& original, const abi::tuple4& translated, uint8_t flags,
                        uint8_t seen, uint32_t slot) {
  FlowEntry4 entry{
      original, {translated.src_be, translated.dst_be, translated.src_port_be, translated.dst_port_be, {}}};
  entry.flow.body.flags = flags;
  entry.seen = seen;
  entry.flow.body.stamp = (3U << abi::STAMP_SLOT_BITS) | slot;
  entry.flow.body.service_id = 7;
  entry.flow.body.backend_id = 4;
  return entry;
}

struct Pair {
  FlowEntry4 forward;
  FlowEntry4 reply;
};

inline Pair connection(const End& client, const End& service_end, const End& source, const End& endpoint,
                       uint8_t protocol, uint8_t forward_seen, uint8_t reply_seen, uint32_t slot = 100) {
  return {
      flow4(tuple4(client, service_end, protocol), tuple4(source, endpoint, protocol), 0, forward_seen, slot),
      flow4(tuple4(endpoint, source, protocol), tuple4(service_end, client, protocol), abi::FLOW_REPLY,
            reply_seen, slot)};
}

}  // namespace maglane::test
