// SPDX-License-Identifier: Apache-2.0
#include "agent/base/ip.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "agent/base/quote.h"

namespace maglane {

std::string_view to_string(Family family) {
  return family == Family::ipv4 ? "IPv4" : "IPv6";
}

std::string_view to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp:
      return "TCP";
    case Protocol::udp:
      return "UDP";
    case Protocol::sctp:
      return "SCTP";
  }
  return "unknown";
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  IpAddress address;
  if (copy.size() == text.size() && copy.find('\0') == std::string::npos) {
    if (inet_pton(AF_INET, copy.c_str(), address.bytes_.data()) == 1) return address;
    address.family_ = Family::ipv6;
    if (inet_pton(AF_INET6, copy.c_str(), address.bytes_.data()) == 1) return address;
  }
  return Error{
      fmt::format("{} is not an IP address (expected such as 10.0.0.1 or fd00::1)", in_quotes(text))};
}

IpAddress IpAddress::from_be(Family family, const uint32_t be[4]) {
  IpAddress address;
  address.family_ = family;
  std::memcpy(address.bytes_.data(), be, family == Family::ipv4 ? 4 : 16);
  return address;
}

void IpAddress::to_be(uint32_t be[4]) const {
  std::memcpy(be, bytes_.data(), 16);
}

std::string IpAddress::to_string() const {
  char text[INET6_ADDRSTRLEN];
  inet_ntop(family_ == Family::ipv4 ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

std::string IpAddress::with_port(uint16_t port) const {
  return family_ == Family::ipv4 ? fmt::format("{}:{}", to_string(), port)
                                 : fmt::format("[{}]:{}", to_string(), port);
}

bool IpAddress::is_unspecified() const {
  return std::all_of(bytes_.begin(), bytes_.end(), [](uint8_t b) { return b == 0; });
}

bool IpAddress::is_loopback() const {
  if (family_ == Family::ipv4) return bytes_[0] == 127;
  return std::all_of(bytes_.begin(), bytes_.end() - 1, [](uint8_t b) { return b == 0; }) && bytes_[15] == 1;
}

bool IpAddress::is_multicast() const {
  return family_ == Family::ipv4 ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_link_local() const {
  if (family_ == Family::ipv4) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_ipv4_mapped() const {
  return family_ == Family::ipv6 &&
         std::all_of(bytes_.begin(), bytes_.begin() + 10, [](uint8_t b) { return b == 0; }) &&
         bytes_[10] == 0xff && bytes_[11] == 0xff;
}

namespace {

uint8_t mask_byte(unsigned length, unsigned index) {
  const unsigned bits = length > index * 8 ? std::min(length - index * 8, 8U) : 0;
  return static_cast<uint8_t>(0xff00U >> bits);
}

}  // namespace

Result<Cidr> Cidr::parse(std::string_view text, bool allow_host_bits) {
  const size_t slash = text.find('/');
  auto address = IpAddress::parse(text.substr(0, slash));
  if (!address)
    return Error{fmt::format("{} is not a CIDR (expected such as 10.0.0.0/8 or fd00::/48)", in_quotes(text))};
  const unsigned width = address->family() == Family::ipv4 ? 32 : 128;
  unsigned length = width;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (failure != std::errc() || end != digits.data() + digits.size() || length > width)
      return Error{fmt::format("{}: the prefix length must be 0 to {}", in_quotes(text), width)};
  }
  uint32_t be[4];
  address->to_be(be);
  auto* bytes = reinterpret_cast<uint8_t*>(be);
  for (unsigned i = 0; i < 16; ++i) bytes[i] &= mask_byte(length, i);
  Cidr cidr;
  cidr.address_ = IpAddress::from_be(address->family(), be);
  cidr.length_ = static_cast<uint8_t>(length);
  if (!allow_host_bits && cidr.address_ != *address)
    return Error{fmt::format("{} has host bits set; did you mean {}?", in_quotes(text), cidr.to_string())};
  return cidr;
}

bool Cidr::contains(const IpAddress& address) const {
  if (address.family() != family()) return false;
  for (unsigned i = 0; i < 16; ++i)
    if ((address.bytes()[i] & mask_byte(length_, i)) != address_.bytes()[i]) return false;
  return true;
}

void Cidr::mask_be(uint32_t be[4]) const {
  auto* bytes = reinterpret_cast<uint8_t*>(be);
  for (unsigned i = 0; i < 16; ++i) bytes[i] = mask_byte(length_, i);
}

std::string Cidr::to_string() const {
  return fmt::format("{}/{}", address_.to_string(), length_);
}

}  // namespace maglane
