// SPDX-License-Identifier: Apache-2.0
//
// What PinnedMaps knows of masquerade.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "agent/kernel/maps_impl.h"

namespace maglane {
namespace {

template <typename T>
T load_bytes(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

abi::masquerade_range_key key_of(const Cidr& range) {
  abi::masquerade_range_key key{};
  key.prefix_bits = abi::MASQUERADE_RANGE_BITS + range.length();
  key.family = static_cast<uint32_t>(range.family());
  range.address().to_be(key.addr_be);
  return key;
}

std::optional<Cidr> range_of(const abi::masquerade_range_key& key) {
  if (key.prefix_bits < abi::MASQUERADE_RANGE_BITS) return std::nullopt;
  const auto family = key.family == abi::FAMILY_IPV4 ? Family::ipv4 : Family::ipv6;
  const auto cidr = Cidr::parse(fmt::format("{}/{}", IpAddress::from_be(family, key.addr_be).to_string(),
                                            key.prefix_bits - abi::MASQUERADE_RANGE_BITS));
  return cidr ? std::optional(*cidr) : std::nullopt;
}

std::optional<IpAddress> address_of(Family family, const uint32_t be[4]) {
  const IpAddress address = IpAddress::from_be(family, be);
  return address.is_unspecified() ? std::nullopt : std::optional(address);
}

Error opened_for_reading() {
  return Error{"the maps were opened for reading only"};
}

}  // namespace

Result<std::set<Cidr>> PinnedMaps::read_masquerade_ranges() const {
  std::set<Cidr> ranges;
  auto status = impl_->maps[kMasqueradeRanges].each([&](const std::byte* key, const std::byte*) {
    if (const auto range = range_of(load_bytes<abi::masquerade_range_key>(key))) ranges.insert(*range);
    return true;
  });
  if (!status) return status.error();
  return ranges;
}

// What is new goes first, so that no destination that stays is ever missing.
Status PinnedMaps::write_masquerade_ranges(const std::set<Cidr>& ranges) {
  if (impl_->read_only) return opened_for_reading();
  auto present = read_masquerade_ranges();
  if (!present) return present.error();
  BpfMap& map = impl_->maps[kMasqueradeRanges];
  uint32_t done = 0;
  const uint32_t one = 1;
  for (const Cidr& range : ranges) {
    const auto key = key_of(range);
    if (present->contains(range)) continue;
    if (auto s = map.update(&key, &one, 1, done); !s) return s;
  }
  for (const Cidr& range : *present) {
    const auto key = key_of(range);
    if (ranges.contains(range)) continue;
    if (auto s = map.remove(&key, 1, done); !s) return s;
  }
  return ok_status();
}

Result<std::vector<EgressAddress>> PinnedMaps::read_egress_addresses() const {
  std::vector<EgressAddress> addresses;
  auto status = impl_->maps[kEgressAddresses].each([&](const std::byte* key, const std::byte* value) {
    const auto egress = load_bytes<abi::egress_address>(value);
    const uint32_t ipv4[4] = {egress.addr4_be};
    addresses.push_back({load_bytes<uint32_t>(key), address_of(Family::ipv4, ipv4),
                         address_of(Family::ipv6, egress.addr6_be)});
    return true;
  });
  if (!status) return status.error();
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

Status PinnedMaps::write_egress_addresses(const std::vector<EgressAddress>& addresses) {
  if (impl_->read_only) return opened_for_reading();
  auto present = read_egress_addresses();
  if (!present) return present.error();
  BpfMap& map = impl_->maps[kEgressAddresses];
  uint32_t done = 0;
  for (const EgressAddress& one : addresses) {
    if (std::find(present->begin(), present->end(), one) != present->end()) continue;
    abi::egress_address egress{};
    uint32_t ipv4[4] = {};
    if (one.ipv4) one.ipv4->to_be(ipv4);
    if (one.ipv6) one.ipv6->to_be(egress.addr6_be);
    egress.addr4_be = ipv4[0];
    if (auto s = map.update(&one.ifindex, &egress, 1, done); !s) return s;
  }
  for (const EgressAddress& one : *present) {
    const bool stays = std::any_of(addresses.begin(), addresses.end(),
                                   [&](const EgressAddress& other) { return other.ifindex == one.ifindex; });
    if (stays) continue;
    if (auto s = map.remove(&one.ifindex, 1, done); !s) return s;
  }
  return ok_status();
}

Result<std::vector<PortShortage>> PinnedMaps::read_port_shortages() const {
  std::vector<PortShortage> shortages;
  auto status = impl_->maps[kPortShortages].each([&](const std::byte* key_bytes, const std::byte* value) {
    const auto key = load_bytes<abi::port_shortage_key>(key_bytes);
    const auto family = key.family == abi::FAMILY_IPV4 ? Family::ipv4 : Family::ipv6;
    shortages.push_back({IpAddress::from_be(family, key.addr_be), IpAddress::from_be(family, key.source_be),
                         ntohs(key.port_be), key.protocol, load_bytes<abi::port_shortage>(value).packets});
    return true;
  });
  if (!status) return status.error();
  return shortages;
}

}  // namespace maglane
