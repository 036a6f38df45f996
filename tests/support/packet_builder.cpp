// SPDX-License-Identifier: Apache-2.0
#include "tests/support/packet_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace maglane::test {
namespace {

[[noreturn]] void wrong_text(std::string_view text, const char* expected) {
  fmt::print(stderr, "test text \"{}\" is not {}\n", text, expected);
  std::abort();
}

void put16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

void append16(Bytes& bytes, uint16_t value) {
  bytes.push_back(static_cast<uint8_t>(value >> 8));
  bytes.push_back(static_cast<uint8_t>(value));
}

void append32(Bytes& bytes, uint32_t value) {
  append16(bytes, static_cast<uint16_t>(value >> 16));
  append16(bytes, static_cast<uint16_t>(value));
}

void append(Bytes& bytes, std::span<const uint8_t> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

std::span<const uint8_t> raw(const IpAddress& address) {
  return {address.bytes().data(), address.family() == Family::ipv4 ? 4U : 16U};
}

}  // namespace

IpAddress ip(std::string_view text) {
  auto address = IpAddress::parse(text);
  if (!address) wrong_text(text, "an IP address");
  return *address;
}

Mac mac(std::string_view text) {
  Mac result{};
  const std::string copy(text);
  if (std::sscanf(copy.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &result[0], &result[1], &result[2],
                  &result[3], &result[4], &result[5]) != 6)
    wrong_text(text, "a MAC address");
  return result;
}

HostPort::HostPort(const char* text) : HostPort(std::string(text)) {}

HostPort::HostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) wrong_text(text, "an address and port");
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  address = ip(host);
  port = static_cast<uint16_t>(std::atoi(text.c_str() + colon + 1));
}

uint32_t add_to_sum(uint32_t sum, std::span<const uint8_t> data) {
  for (size_t i = 0; i < data.size(); i += 2) {
    sum += static_cast<uint32_t>(data[i]) << 8 | (i + 1 < data.size() ? data[i + 1] : 0U);
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

uint16_t fold(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

Packet Packet::tcp(const HostPort& source, const HostPort& destination, uint8_t flags) {
  Packet p;
  p.kind_ = Kind::tcp;
  p.protocol_ = kProtoTcp;
  p.source_ = source;
  p.destination_ = destination;
  p.flags_ = flags;
  if (flags & kAck) p.acknowledgement_ = 0x0a0b0c0d;
  return p;
}

Packet Packet::udp(const HostPort& source, const HostPort& destination) {
  Packet p = tcp(source, destination, 0);
  p.kind_ = Kind::udp;
  p.protocol_ = kProtoUdp;
  return p.payload("datagram");
}

// One DATA chunk.
Packet Packet::sctp(const HostPort& source, const HostPort& destination) {
  Packet p = tcp(source, destination, 0);
  p.kind_ = Kind::sctp;
  p.protocol_ = kProtoSctp;
  return p.payload(Bytes{0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 'd', 'a', 't', 'a'});
}

uint32_t crc32c(std::span<const uint8_t> data) {
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc;
}

Packet Packet::icmp(const IpAddress& source, const IpAddress& destination, uint8_t type, uint8_t code) {
  Packet p = tcp(HostPort(source, 0), HostPort(destination, 0), 0);
  p.kind_ = Kind::icmp;
  p.protocol_ = source.family() == Family::ipv4 ? kProtoIcmp4 : kProtoIcmp6;
  p.icmp_type_ = type;
  p.icmp_code_ = code;
  return p;
}

Packet Packet::other(const IpAddress& source, const IpAddress& destination, uint8_t protocol) {
  Packet p = tcp(HostPort(source, 0), HostPort(destination, 0), 0);
  p.kind_ = Kind::other;
  p.protocol_ = protocol;
  return p.payload_size(16);
}

Packet Packet::ethernet(uint16_t ether_type) {
  Packet p;
  p.ether_type_ = ether_type;
  return p.payload_size(46);
}

// The setters: copy, change, return.
#define SETTER(signature, change)  \
  Packet Packet::signature const { \
    Packet p = *this;              \
    change;                        \
    return p;                      \
  }
SETTER(from(const HostPort& source), p.source_ = source)
SETTER(to(const HostPort& destination), p.destination_ = destination)
SETTER(from_address(const IpAddress& source), p.source_.address = source)
SETTER(to_address(const IpAddress& destination), p.destination_.address = destination)
SETTER(macs(const Mac& source, const Mac& destination),
       (p.source_mac_ = source, p.destination_mac_ = destination))
SETTER(vlan(uint16_t id), p.vlans_.push_back(id))
SETTER(ttl(uint8_t value), p.ttl_ = value)
SETTER(hop(), --p.ttl_)
SETTER(tos(uint8_t value), p.tos_ = value)
SETTER(id(uint16_t value), p.id_ = value)
SETTER(dont_fragment(bool value), p.fragment_ = static_cast<uint16_t>(value ? 0x4000 : 0))
SETTER(fragment(uint16_t offset, bool more),
       (p.is_fragment_ = true, p.fragment_ = static_cast<uint16_t>(offset / 8 | (more ? 0x2000 : 0))))
SETTER(part(uint16_t offset, size_t bytes), {
  p = fragment(offset, offset + bytes < l4_bytes().size());
  p.part_offset_ = offset;
  p.part_size_ = bytes;
})
SETTER(options(const Bytes& bytes), p.options_ = bytes)
SETTER(extension(uint8_t type, const Bytes& after_length), p.extensions_.push_back({type, after_length}))
SETTER(flags(uint8_t tcp_flags), p.flags_ = tcp_flags)
SETTER(sequence(uint32_t sequence_number, uint32_t acknowledgement),
       (p.sequence_ = sequence_number, p.acknowledgement_ = acknowledgement))
SETTER(tcp_options(const Bytes& bytes), p.tcp_options_ = bytes)
SETTER(icmp_rest(uint32_t value), p.icmp_rest_ = value)
SETTER(payload(const Bytes& bytes), p.payload_ = bytes)
SETTER(about(const Packet& quoted, size_t bytes), {
  p.quoted_ = std::make_shared<const Packet>(quoted);
  p.payload_ = quoted.ip_bytes();
  p.payload_.resize(std::min(bytes, p.payload_.size()));
})
Packet Packet::requoted(const Packet& quoted) const { return about(quoted, payload_.size()); }
SETTER(payload(std::string_view text), p.payload_.assign(text.begin(), text.end()))
SETTER(payload_size(size_t size), {
  p.payload_.resize(size);
  for (size_t i = 0; i < size; ++i) p.payload_[i] = static_cast<uint8_t>(i * 7 + 3);
})
SETTER(ip_checksum_error(uint16_t difference), p.ip_checksum_error_ = difference)
SETTER(l4_checksum_error(uint16_t difference), p.l4_checksum_error_ = difference)
SETTER(no_l4_checksum(), p.no_l4_checksum_ = true)
SETTER(version(uint8_t value), p.version_ = value)
SETTER(ihl(uint8_t words), p.ihl_ = words)
SETTER(total_length(uint16_t value), p.total_length_ = value)
SETTER(udp_length(uint16_t value), p.udp_length_ = value)
SETTER(tcp_data_offset(uint8_t words), p.tcp_data_offset_ = words)
SETTER(trailer(size_t size), p.trailer_ = size)
#undef SETTER

void Packet::put_l4_checksum(Bytes& l4, size_t field) const {
  if (no_l4_checksum_) return;
  uint32_t sum = 0;
  if (kind_ != Kind::icmp || family() == Family::ipv6) {
    sum = add_to_sum(add_to_sum(sum, raw(source_.address)), raw(destination_.address));
    sum += protocol_ + static_cast<uint32_t>(l4.size());
  }
  auto checksum = static_cast<uint16_t>(~fold(add_to_sum(sum, l4)));
  checksum = fold(static_cast<uint32_t>(checksum) + l4_checksum_error_);
  if (kind_ == Kind::udp && checksum == 0) checksum = 0xffff;
  put16(l4, field, checksum);
}

Bytes Packet::l4_bytes() const {
  Bytes l4;
  if (kind_ == Kind::tcp) {
    append16(l4, source_.port);
    append16(l4, destination_.port);
    append32(l4, sequence_);
    append32(l4, acknowledgement_);
    const auto words = static_cast<uint8_t>(5 + tcp_options_.size() / 4);
    l4.push_back(static_cast<uint8_t>(tcp_data_offset_.value_or(words) << 4));
    l4.push_back(flags_);
    append16(l4, 0xfaf0);
    append32(l4, 0);
    append(l4, tcp_options_);
  } else if (kind_ == Kind::udp) {
    append16(l4, source_.port);
    append16(l4, destination_.port);
    append16(l4, udp_length_.value_or(static_cast<uint16_t>(8 + payload_.size())));
    append16(l4, 0);
  } else if (kind_ == Kind::sctp) {
    append16(l4, source_.port);
    append16(l4, destination_.port);
    append32(l4, sequence_);  // as verification tag
    append32(l4, 0);
  } else if (kind_ == Kind::icmp) {
    l4 = {icmp_type_, icmp_code_, 0, 0};
    append32(l4, icmp_rest_);
  }
  append(l4, payload_);
  if (kind_ == Kind::tcp) put_l4_checksum(l4, 16);
  if (kind_ == Kind::udp) put_l4_checksum(l4, 6);
  if (kind_ == Kind::icmp) put_l4_checksum(l4, 2);
  if (kind_ == Kind::sctp && !no_l4_checksum_) {
    const uint32_t crc = crc32c(l4) ^ l4_checksum_error_;
    for (size_t i = 0; i < 4; ++i) l4[8 + i] = static_cast<uint8_t>(crc >> (8 * i));
  }
  return l4;
}

Bytes Packet::ipv4_header(size_t l4_size) const {
  const size_t size = 20 + options_.size();
  Bytes header;
  header.push_back(
      static_cast<uint8_t>(version_.value_or(4) << 4 | ihl_.value_or(static_cast<uint8_t>(size / 4))));
  header.push_back(tos_);
  append16(header, total_length_.value_or(static_cast<uint16_t>(size + l4_size)));
  append16(header, id_);
  append16(header, fragment_);
  header.push_back(ttl_);
  header.push_back(protocol_);
  append16(header, 0);
  append(header, raw(source_.address));
  append(header, raw(destination_.address));
  append(header, options_);
  const auto checksum = static_cast<uint16_t>(~fold(add_to_sum(0, header)));
  put16(header, 10, fold(static_cast<uint32_t>(checksum) + ip_checksum_error_));
  return header;
}

Bytes Packet::ipv6_header(size_t l4_size) const {
  std::vector<Extension> extensions = extensions_;
  if (is_fragment_) {
    // RFC 8200 section 4.5: offset in units of 8 bytes above three low bits, the lowest is "more".
    const auto field = static_cast<uint16_t>((fragment_ & 0x1fff) << 3 | (fragment_ & 0x2000 ? 1 : 0));
    extensions.push_back({kExtFragment,
                          {static_cast<uint8_t>(field >> 8), static_cast<uint8_t>(field), 0, 0,
                           static_cast<uint8_t>(id_ >> 8), static_cast<uint8_t>(id_)}});
  }
  size_t extension_size = 0;
  for (const auto& extension : extensions) extension_size += extension.body.size() + 2;
  Bytes header;
  append32(header, static_cast<uint32_t>(version_.value_or(6)) << 28 | static_cast<uint32_t>(tos_) << 20);
  append16(header, total_length_.value_or(static_cast<uint16_t>(extension_size + l4_size)));
  header.push_back(extensions.empty() ? protocol_ : extensions[0].type);
  header.push_back(ttl_);
  append(header, raw(source_.address));
  append(header, raw(destination_.address));
  for (size_t i = 0; i < extensions.size(); ++i) {
    header.push_back(i + 1 < extensions.size() ? extensions[i + 1].type : protocol_);
    // The fragment header's second byte is reserved, not a length.
    const size_t size = extensions[i].body.size() + 2;
    const size_t units = extensions[i].type == kExtAuthentication ? size / 4 - 2 : size / 8 - 1;
    header.push_back(extensions[i].type == kExtFragment ? 0 : static_cast<uint8_t>(units));
    append(header, extensions[i].body);
  }
  return header;
}

Bytes Packet::ip_bytes() const {
  Bytes l4 = l4_bytes();
  if (part_size_) {
    l4.resize(std::min(l4.size(), part_offset_ + part_size_));
    l4.erase(l4.begin(), l4.begin() + std::min<ptrdiff_t>(part_offset_, static_cast<ptrdiff_t>(l4.size())));
  }
  Bytes packet = family() == Family::ipv4 ? ipv4_header(l4.size()) : ipv6_header(l4.size());
  append(packet, l4);
  return packet;
}

Bytes Packet::bytes() const {
  Bytes frame;
  append(frame, destination_mac_);
  append(frame, source_mac_);
  for (const uint16_t id : vlans_) {
    append16(frame, 0x8100);
    append16(frame, id);
  }
  if (kind_ == Kind::ethernet) {
    append16(frame, ether_type_);
    append(frame, payload_);
  } else {
    append16(frame, family() == Family::ipv4 ? 0x0800 : 0x86dd);
    append(frame, ip_bytes());
  }
  frame.insert(frame.end(), trailer_, 0xee);
  return frame;
}

Bytes Packet::truncated(size_t size) const {
  Bytes frame = bytes();
  frame.resize(std::min(size, frame.size()));
  return frame;
}

}  // namespace maglane::test
