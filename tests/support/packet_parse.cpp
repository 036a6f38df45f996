// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

#include "tests/support/packet_builder.h"

namespace maglane::test {
namespace {

uint16_t get16(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

IpAddress address_at(std::span<const uint8_t> frame, size_t at, Family family) {
  uint32_t be[4] = {};
  std::memcpy(be, frame.data() + at, family == Family::ipv4 ? 4 : 16);
  return IpAddress::from_be(family, be);
}

bool is_extension(uint8_t type) {
  return type == kExtHopByHop || type == kExtRouting || type == kExtFragment || type == kExtDestination ||
         type == kExtAuthentication;
}

bool l4_sum_is_zero(std::span<const uint8_t> frame, const Parsed& p, bool pseudo_header) {
  uint32_t sum = 0;
  if (pseudo_header) {
    const size_t addresses = p.ip_offset + (p.family == Family::ipv4 ? 12 : 8);
    sum = add_to_sum(sum, frame.subspan(addresses, p.family == Family::ipv4 ? 8 : 32));
    sum += p.protocol + static_cast<uint32_t>(p.l4_size);
  }
  return fold(add_to_sum(sum, frame.subspan(p.l4_offset, p.l4_size))) == 0xffff;
}

// 0: none (RFC 9653).
bool sctp_checksum_right(std::span<const uint8_t> l4) {
  Bytes copy(l4.begin(), l4.end());
  uint32_t in_packet = 0;
  for (size_t i = 0; i < 4; ++i) {
    in_packet |= static_cast<uint32_t>(l4[8 + i]) << (8 * i);
    copy[8 + i] = 0;
  }
  return !in_packet || in_packet == crc32c(copy);
}

void parse_l4(std::span<const uint8_t> frame, Parsed& p) {
  const auto l4 = frame.subspan(p.l4_offset, p.l4_size);
  const bool tcp = p.protocol == kProtoTcp, udp = p.protocol == kProtoUdp, sctp = p.protocol == kProtoSctp;
  const size_t header = tcp ? 20 : udp ? 8 : 12;
  if (p.fragment) {
    if (p.later_fragment || !(tcp || udp || sctp) || l4.size() < header) return;
    p.ports = true;
    p.source_port = get16(l4, 0);
    p.destination_port = get16(l4, 2);
    if (tcp) p.tcp_flags = l4[13];
    return;
  }
  if (tcp || udp || sctp) {
    if (l4.size() < header) {
      p.fault = fmt::format("{} header cut short", tcp ? "TCP" : udp ? "UDP" : "SCTP");
      return;
    }
    p.ports = true;
    p.source_port = get16(l4, 0);
    p.destination_port = get16(l4, 2);
    if (tcp) p.tcp_flags = l4[13];
    if (udp && get16(l4, 4) != l4.size())
      p.fault = fmt::format("UDP length {} of {}", get16(l4, 4), l4.size());
    const bool none = udp && p.family == Family::ipv4 && get16(l4, 6) == 0;
    p.l4_checksum_right = none || sctp || l4_sum_is_zero(frame, p, true);
    if (sctp) p.l4_checksum_right = sctp_checksum_right(l4);
    if (udp && !none && get16(l4, 6) == 0) p.l4_checksum_right = false;
  } else if ((p.protocol == kProtoIcmp4 || p.protocol == kProtoIcmp6) && l4.size() >= 8) {
    p.l4_checksum_right = l4_sum_is_zero(frame, p, p.protocol == kProtoIcmp6);
  }
}

void parse_ipv4(std::span<const uint8_t> frame, Parsed& p) {
  const auto rest = frame.subspan(p.ip_offset);
  if (rest.size() < 20) {
    p.fault = "IPv4 header cut short";
    return;
  }
  const size_t header = static_cast<size_t>(rest[0] & 15) * 4;
  p.ip_size = get16(rest, 2);
  if (rest[0] >> 4 != 4) {
    p.fault = fmt::format("IP version {}", rest[0] >> 4);
    return;
  }
  if (header < 20 || header > p.ip_size) {
    p.fault = fmt::format("IPv4 header length {}", header);
    return;
  }
  if (p.ip_size > rest.size()) {
    p.fault = fmt::format("IPv4 total length {} of {}", p.ip_size, rest.size());
    return;
  }
  p.ip = true;
  p.family = Family::ipv4;
  p.ttl = rest[8];
  p.protocol = rest[9];
  p.fragment = (get16(rest, 6) & 0x3fff) != 0;
  p.later_fragment = (get16(rest, 6) & 0x1fff) != 0;
  p.source = address_at(frame, p.ip_offset + 12, Family::ipv4);
  p.destination = address_at(frame, p.ip_offset + 16, Family::ipv4);
  p.ip_checksum_right = fold(add_to_sum(0, rest.first(header))) == 0xffff;
  p.l4_offset = p.ip_offset + header;
  p.l4_size = p.ip_size - header;
  parse_l4(frame, p);
}

void parse_ipv6(std::span<const uint8_t> frame, Parsed& p) {
  const auto rest = frame.subspan(p.ip_offset);
  if (rest.size() < 40) {
    p.fault = "IPv6 header cut short";
    return;
  }
  p.ip_size = 40U + get16(rest, 4);
  if (rest[0] >> 4 != 6) {
    p.fault = fmt::format("IP version {}", rest[0] >> 4);
    return;
  }
  if (p.ip_size > rest.size()) {
    p.fault = fmt::format("IPv6 length {} of {}", p.ip_size, rest.size());
    return;
  }
  p.ip = true;
  p.family = Family::ipv6;
  p.ttl = rest[7];
  p.source = address_at(frame, p.ip_offset + 8, Family::ipv6);
  p.destination = address_at(frame, p.ip_offset + 24, Family::ipv6);
  uint8_t next = rest[6];
  size_t at = 40;
  while (is_extension(next)) {
    if (at + 8 > p.ip_size) {
      p.fault = "IPv6 extension header cut short";
      return;
    }
    const bool piece = next == kExtFragment;
    if (piece) {
      p.fragment = (get16(rest, at + 2) & 0xfff9) != 0;
      p.later_fragment = (get16(rest, at + 2) & 0xfff8) != 0;
    }
    const size_t units = static_cast<size_t>(rest[at + 1]);
    const size_t size = piece ? 8 : next == kExtAuthentication ? (units + 2) * 4 : (units + 1) * 8;
    next = rest[at];
    at += size;
    ++p.extensions;
    if (p.later_fragment) break;  // what follows is from the middle of something
  }
  if (at > p.ip_size) {
    p.fault = "IPv6 extension header cut short";
    return;
  }
  p.protocol = next;
  p.l4_offset = p.ip_offset + at;
  p.l4_size = p.ip_size - at;
  parse_l4(frame, p);
}

std::string tcp_flag_names(uint8_t flags) {
  static constexpr const char* kNames[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"};
  std::string names;
  for (int i = 0; i < 8; ++i)
    if (flags >> i & 1) names += (names.empty() ? "" : "+") + std::string(kNames[i]);
  return names.empty() ? "no flags" : names;
}

std::string mac_text(std::span<const uint8_t> bytes) {
  return fmt::format("{:02x}", fmt::join(bytes.first(6), ":"));
}

std::string describe_l4(std::span<const uint8_t> frame, const Parsed& p) {
  if (p.ports && p.protocol == kProtoTcp) return "TCP " + tcp_flag_names(p.tcp_flags);
  if (p.ports) return p.protocol == kProtoUdp ? "UDP" : "SCTP";
  const bool icmp = p.protocol == kProtoIcmp4 || p.protocol == kProtoIcmp6;
  if (icmp && !p.fragment && p.l4_size >= 2)
    return fmt::format("ICMP{} {}/{}", p.protocol == kProtoIcmp6 ? "v6" : "", frame[p.l4_offset],
                       frame[p.l4_offset + 1]);
  return fmt::format("protocol {}", p.protocol);
}

}  // namespace

Parsed parse(std::span<const uint8_t> frame) {
  Parsed p;
  size_t at = 12;
  if (frame.size() < 14) {
    p.fault = "Ethernet header cut short";
    return p;
  }
  while (at + 6 <= frame.size() && (get16(frame, at) == 0x8100 || get16(frame, at) == 0x88a8)) {
    p.tagged = true;
    at += 4;
  }
  p.ether_type = get16(frame, at);
  p.ip_offset = at + 2;
  if (p.ether_type == 0x0800)
    parse_ipv4(frame, p);
  else if (p.ether_type == 0x86dd)
    parse_ipv6(frame, p);
  return p;
}

std::string faults(std::span<const uint8_t> frame) {
  const Parsed p = parse(frame);
  if (!p.fault.empty()) return p.fault;
  if (!p.ip_checksum_right) return "wrong IPv4 header checksum";
  if (!p.l4_checksum_right) return "wrong checksum in " + describe_l4(frame, p);
  return "";
}

std::string describe(std::span<const uint8_t> frame) {
  if (frame.size() < 14) return fmt::format("{} bytes", frame.size());
  const Parsed p = parse(frame);
  std::string text = fmt::format("{} > {} ", mac_text(frame.subspan(6)), mac_text(frame));
  if (p.tagged) text += "VLAN ";
  if (!p.ip) {
    text += fmt::format("type {:04x}", p.ether_type);
  } else {
    text += p.ports ? fmt::format("{} > {} ", p.source.with_port(p.source_port),
                                  p.destination.with_port(p.destination_port))
                    : fmt::format("{} > {} ", p.source.to_string(), p.destination.to_string());
    text += describe_l4(frame, p) + (p.fragment ? " fragment" : "");
    text += fmt::format(" ttl {} size {}", p.ttl, p.ip_size);
    if (p.extensions) text += fmt::format(" extensions {}", p.extensions);
  }
  text += fmt::format(" frame {}", frame.size());
  const std::string fault = faults(frame);
  return fault.empty() ? text : text + " [" + fault + "]";
}

std::string hex(std::span<const uint8_t> frame) {
  return fmt::format("{:02x}", fmt::join(frame, ""));
}

}  // namespace maglane::test
