// SPDX-License-Identifier: Apache-2.0
//
// What PinnedMaps knows of translated sockets.
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "agent/kernel/maps_impl.h"

namespace maglane {
namespace {

abi::service_endpoint endpoint_of(const abi::socket_peer& peer) {
  abi::service_endpoint endpoint{};
  std::copy(std::begin(peer.endpoint_addr_be), std::end(peer.endpoint_addr_be), endpoint.addr_be);
  endpoint.service_id = peer.service_id;
  endpoint.port_be = peer.endpoint_port_be;
  endpoint.protocol = peer.protocol;
  endpoint.family = peer.family;
  return endpoint;
}

}  // namespace

Status PinnedMaps::each_socket(
    const std::function<bool(const abi::socket_key&, const abi::socket_peer&)>& visit) const {
  return impl_->maps[kSockets].each([&](const std::byte* key_bytes, const std::byte* value) {
    abi::socket_key key;
    abi::socket_peer peer;
    std::memcpy(&key, key_bytes, sizeof key);
    std::memcpy(&peer, value, sizeof peer);
    return visit(key, peer);
  });
}

Result<std::map<uint64_t, abi::socket_peer>> PinnedMaps::forget_sockets(const std::set<abi::service_endpoint, BytesLess>& gone) {
  std::vector<abi::socket_key> unconnected;
  std::map<uint64_t, abi::socket_peer> connected;
  const auto look = [&](const abi::socket_key& key, const abi::socket_peer& peer) {
    if (!gone.contains(endpoint_of(peer))) return true;
    if (key.kind == abi::SOCKET_CONNECTED)
      connected.emplace(key.cookie, peer);
    else
      unconnected.push_back(key);
    return true;
  };
  if (auto s = each_socket(look); !s) return s.error();
  uint32_t done = 0;
  const auto count = static_cast<uint32_t>(unconnected.size());
  if (auto s = impl_->maps[kSockets].remove(unconnected.data(), count, done); !s) return s.error();
  return connected;
}

Status PinnedMaps::Impl::add_udp_endpoints_of_sockets(std::set<abi::service_endpoint, BytesLess>& endpoints) const {
  return maps[kSockets].each([&](const std::byte*, const std::byte* value) {
    abi::socket_peer peer;
    std::memcpy(&peer, value, sizeof peer);
    if (peer.protocol == IPPROTO_UDP) endpoints.insert(endpoint_of(peer));
    return true;
  });
}

}  // namespace maglane
