// SPDX-License-Identifier: Apache-2.0
//
// What PinnedMaps knows of translated sockets.
#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "agent/kernel/maps_impl.h"

namespace maglane {
namespace {

constexpr uint8_t kUdp = 17;  // IPPROTO_UDP

}  // namespace

// As the hooks choose: from the set that the node's pods have.
bool PinnedMaps::Impl::reaches(const abi::socket_peer& peer) const {
  abi::frontend_key key{};
  std::copy(std::begin(peer.frontend_addr_be), std::end(peer.frontend_addr_be), key.addr_be);
  key.port_be = peer.frontend_port_be;
  key.protocol = peer.protocol;
  key.family = peer.family;
  const auto frontend = frontends.find(key);
  if (!frontend || peer.backend_id >= maps[kBackends].capacity()) return false;
  const abi::backend& backend = backends[peer.backend_id];
  if (backend.port_be != peer.endpoint_port_be || backend.family != peer.family ||
      !std::equal(std::begin(backend.addr_be), std::end(backend.addr_be), peer.endpoint_addr_be)) {
    return false;
  }
  const abi::table_ref table = frontend->tables[abi::SOURCE_POD];
  if (uint64_t{table.offset} + table.size > maglev_entries()) return false;
  const uint32_t* const ids = maglev + table.offset;
  return std::find(ids, ids + table.size, peer.backend_id) != ids + table.size;
}

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

Result<std::map<uint64_t, abi::socket_peer>> PinnedMaps::forget_stale_sockets() {
  using Reach = std::tuple<std::array<uint32_t, 4>, uint16_t, uint32_t>;  // frontend and backend
  std::map<Reach, bool> known;
  std::vector<abi::socket_key> stale;
  std::map<uint64_t, abi::socket_peer> connected;
  const auto look = [&](const abi::socket_key& key, const abi::socket_peer& peer) {
    if (peer.protocol != kUdp) return true;
    const Reach reach{std::to_array(peer.frontend_addr_be), peer.frontend_port_be, peer.backend_id};
    const auto [entry, added] = known.try_emplace(reach, false);
    if (added) entry->second = impl_->reaches(peer);
    if (entry->second) return true;
    stale.push_back(key);
    if (key.kind == abi::SOCKET_CONNECTED) connected.emplace(key.cookie, peer);
    return true;
  };
  if (auto s = each_socket(look); !s) return s.error();
  uint32_t done = 0;
  if (auto s = impl_->maps[kSockets].remove(stale.data(), static_cast<uint32_t>(stale.size()), done); !s)
    return s.error();
  return connected;
}

}  // namespace maglane
