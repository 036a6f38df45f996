// SPDX-License-Identifier: Apache-2.0
//
// IP addresses and CIDR prefixes as values. Text forms: RFC 4291 section 2.2 and RFC 5952
// for IPv6, dotted decimal for IPv4 (inet_pton's rules; no leading zeros).
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace maglane {

enum class Family : uint8_t { ipv4 = 4, ipv6 = 6 };
enum class Protocol : uint8_t { tcp = 6, udp = 17, sctp = 132 };

std::string_view to_string(Family family);      // "IPv4", "IPv6"
std::string_view to_string(Protocol protocol);  // "TCP", "UDP", "SCTP"

class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0

  static Result<IpAddress> parse(std::string_view text);
  // The 16 bytes of an ABI field addr_be[4]: IPv4 in the first four, the rest zero.
  static IpAddress from_be(Family family, const uint32_t be[4]);

  Family family() const { return family_; }
  void to_be(uint32_t be[4]) const;
  const std::array<uint8_t, 16>& bytes() const { return bytes_; }  // network byte order
  std::string to_string() const;
  // "10.0.0.1:80", "[fd00::1]:80".
  std::string with_port(uint16_t port) const;

  bool is_unspecified() const;
  bool is_loopback() const;
  bool is_multicast() const;
  bool is_link_local() const;
  bool is_ipv4_mapped() const;  // ::ffff:0:0/96, RFC 4291 section 2.5.5.2

  auto operator<=>(const IpAddress&) const = default;

 private:
  Family family_ = Family::ipv4;
  std::array<uint8_t, 16> bytes_{};
};

class Cidr {
 public:
  Cidr() = default;
  // "10.0.0.0/8"; host bits must be zero unless allow_host_bits; no "/n" means a whole address.
  static Result<Cidr> parse(std::string_view text, bool allow_host_bits = false);

  Family family() const { return address_.family(); }
  const IpAddress& address() const { return address_; }  // masked
  unsigned length() const { return length_; }
  bool contains(const IpAddress& address) const;
  // The mask as an ABI field mask_be[4].
  void mask_be(uint32_t be[4]) const;
  std::string to_string() const;

  auto operator<=>(const Cidr&) const = default;

 private:
  IpAddress address_;
  uint8_t length_ = 0;
};

}  // namespace maglane
