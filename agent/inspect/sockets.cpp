// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/sockets.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "agent/inspect/names.h"

namespace maglane::inspect {
namespace {

auto order_of(const SocketRecord& record) {
  const auto& [key, peer] = record;
  return std::tuple(peer.family, IpAddress::from_be(family_of(peer.family), peer.frontend_addr_be),
                    host_port(peer.frontend_port_be), peer.protocol, key.cookie);
}

v1::Socket to_message(const SocketRecord& record, const std::map<uint32_t, std::string>& services) {
  const auto& [key, peer] = record;
  v1::Socket socket;
  socket.set_protocol(protocol_name(peer.protocol));
  socket.set_family(std::string(to_string(family_of(peer.family))));
  socket.set_use(key.kind == abi::SOCKET_CONNECTED ? "connected" : "datagrams");
  socket.set_frontend(address_name(peer.family, peer.frontend_addr_be));
  socket.set_frontend_port(host_port(peer.frontend_port_be));
  socket.set_endpoint(address_name(peer.family, peer.endpoint_addr_be));
  socket.set_endpoint_port(host_port(peer.endpoint_port_be));
  socket.set_service_id(peer.service_id);
  if (auto name = services.find(peer.service_id); name != services.end()) socket.set_service(name->second);
  socket.set_backend_id(peer.backend_id);
  socket.set_cookie(fmt::format("{:x}", key.cookie));
  return socket;
}

}  // namespace

v1::SocketList list_sockets(std::vector<SocketRecord> records, const std::map<uint32_t, std::string>& services) {
  // Of a socket that is not connected there is a second record, by which it knows the sender.
  std::erase_if(records, [](const SocketRecord& r) { return r.first.kind == abi::SOCKET_HEARS_FROM; });
  std::sort(records.begin(), records.end(),
            [](const SocketRecord& a, const SocketRecord& b) { return order_of(a) < order_of(b); });
  v1::SocketList list;
  for (const SocketRecord& record : records) *list.add_sockets() = to_message(record, services);
  return list;
}

}  // namespace maglane::inspect
