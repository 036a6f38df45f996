// SPDX-License-Identifier: Apache-2.0
//
// Packets for tests, as values: described field by field, turned into a frame with every
// length and checksum computed from the whole packet (never incrementally), so that a
// frame built here is the reference for what the data plane must send.
//
// Sources: IEEE 802.3, 802.1Q; RFC 791 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP), 792 and
// 4443 (ICMP), 1071 (checksum). Ports, lengths and the like are in host byte order.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"

namespace maglane::test {

using Bytes = std::vector<uint8_t>;
using Mac = std::array<uint8_t, 6>;

// From text; abort the test program when it is wrong.
IpAddress ip(std::string_view text);
Mac mac(std::string_view text);  // "02:00:00:00:00:01"

struct HostPort {
  IpAddress address;
  uint16_t port = 0;
  HostPort() = default;
  HostPort(const IpAddress& a, uint16_t p) : address(a), port(p) {}
  HostPort(const char* text);         // NOLINT: implicit by intent. "10.0.0.1:80", "[fd00::1]:80"
  HostPort(const std::string& text);  // NOLINT: implicit by intent
  std::string to_string() const { return address.with_port(port); }
  auto operator<=>(const HostPort&) const = default;
};

enum TcpFlag : uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32 };

inline constexpr uint8_t kProtoIcmp4 = 1, kProtoTcp = 6, kProtoUdp = 17, kProtoIcmp6 = 58, kProtoSctp = 132;
inline constexpr uint8_t kExtHopByHop = 0, kExtRouting = 43, kExtFragment = 44, kExtAuthentication = 51,
                         kExtDestination = 60;

// One's complement sum of RFC 1071 over `data`, carried on from `sum`; fold() ends it.
uint32_t add_to_sum(uint32_t sum, std::span<const uint8_t> data);
uint16_t fold(uint32_t sum);

// CRC32c (RFC 9260 appendix A), bit by bit.
uint32_t crc32c(std::span<const uint8_t> data);

// Each setter changes and returns a copy: a case derives the expected packet from the one
// that was sent.
class Packet {
 public:
  static Packet tcp(const HostPort& source, const HostPort& destination, uint8_t flags);
  static Packet udp(const HostPort& source, const HostPort& destination);
  static Packet sctp(const HostPort& source, const HostPort& destination);
  // An ICMP or ICMPv6 message, by the family of the addresses.
  static Packet icmp(const IpAddress& source, const IpAddress& destination, uint8_t type, uint8_t code);
  // Any other protocol: the payload follows the IP header.
  static Packet other(const IpAddress& source, const IpAddress& destination, uint8_t protocol);
  // A frame that is not IP.
  static Packet ethernet(uint16_t ether_type);

  Packet from(const HostPort& source) const;
  Packet to(const HostPort& destination) const;
  Packet from_address(const IpAddress& source) const;
  Packet to_address(const IpAddress& destination) const;
  Packet macs(const Mac& source, const Mac& destination) const;
  Packet vlan(uint16_t id) const;  // may be repeated; the last one is innermost
  Packet ttl(uint8_t value) const;
  Packet hop() const;  // as a router sends it on: TTL or hop limit less one
  Packet tos(uint8_t value) const;
  Packet id(uint16_t value) const;                    // IPv4 identification
  Packet dont_fragment(bool value) const;             // IPv4; set unless this says otherwise
  Packet fragment(uint16_t offset, bool more) const;  // offset in bytes, a multiple of 8
  // A fragment of it: so many bytes from an offset, both of what follows the IP header.
  Packet part(uint16_t offset, size_t bytes) const;
  bool is_later_part() const { return part_size_ && part_offset_; }
  bool is_first_part() const { return part_size_ && !part_offset_; }
  size_t size_to_part() const { return l4_bytes().size(); }
  uint16_t id_value() const { return id_; }
  uint8_t tcp_flags() const { return flags_; }
  Packet options(const Bytes& bytes) const;           // IPv4; a multiple of 4
  // IPv6; 8n-2 bytes, of an authentication header 4n-2.
  Packet extension(uint8_t type, const Bytes& after_length = Bytes(6, 0)) const;
  Packet flags(uint8_t tcp_flags) const;
  Packet sequence(uint32_t sequence_number, uint32_t acknowledgement) const;
  Packet tcp_options(const Bytes& bytes) const;  // a multiple of 4
  Packet icmp_rest(uint32_t value) const;        // the four bytes after the ICMP checksum
  Packet payload(const Bytes& bytes) const;
  // Of an ICMP error: the packet that it quotes, and how many bytes of it.
  Packet about(const Packet& quoted, size_t bytes) const;
  Packet requoted(const Packet& quoted) const;  // as many bytes of another
  // What the error is about; nullptr: not made by about().
  const Packet* quoted() const { return quoted_.get(); }
  Packet payload(std::string_view text) const;
  Packet payload_size(size_t size) const;  // so many bytes of a pattern

  // Deliberate faults. A checksum error is a difference added to the right sum, so that it
  // stays as it is through a right translation.
  Packet ip_checksum_error(uint16_t difference) const;
  Packet l4_checksum_error(uint16_t difference) const;
  Packet no_l4_checksum() const;  // UDP over IPv4: the field is 0
  Packet version(uint8_t value) const;
  Packet ihl(uint8_t words) const;
  Packet total_length(uint16_t value) const;  // IPv6: payload length
  Packet udp_length(uint16_t value) const;
  Packet tcp_data_offset(uint8_t words) const;
  Packet trailer(size_t size) const;  // bytes after the IP packet, as Ethernet padding is

  Family family() const { return source_.address.family(); }
  uint8_t protocol() const { return protocol_; }
  const HostPort& source() const { return source_; }
  const HostPort& destination() const { return destination_; }

  Bytes bytes() const;
  // The IP packet alone: what ICMP errors quote.
  Bytes ip_bytes() const;
  // Cut off after `size` bytes of frame.
  Bytes truncated(size_t size) const;

 private:
  Bytes l4_bytes() const;
  Bytes ipv4_header(size_t l4_size) const;
  Bytes ipv6_header(size_t l4_size) const;
  void put_l4_checksum(Bytes& l4, size_t field) const;

  enum class Kind { tcp, udp, sctp, icmp, other, ethernet };
  struct Extension {
    uint8_t type;
    Bytes body;
  };

  Kind kind_ = Kind::ethernet;
  uint16_t ether_type_ = 0;
  Mac source_mac_{0x02, 0, 0, 0, 0, 0x01};
  Mac destination_mac_{0x02, 0, 0, 0, 0, 0x02};
  std::vector<uint16_t> vlans_;
  HostPort source_;
  HostPort destination_;
  uint8_t protocol_ = 0;
  uint8_t ttl_ = 64;
  uint8_t tos_ = 0;
  uint16_t id_ = 0x1234;
  uint16_t fragment_ = 0x4000;
  bool is_fragment_ = false;
  uint16_t part_offset_ = 0;
  size_t part_size_ = 0;  // 0: it is whole
  Bytes options_;
  std::vector<Extension> extensions_;
  uint8_t flags_ = 0;
  uint8_t icmp_type_ = 0;
  uint8_t icmp_code_ = 0;
  uint32_t icmp_rest_ = 0;
  uint32_t sequence_ = 0x01020304;
  uint32_t acknowledgement_ = 0;
  Bytes tcp_options_;
  Bytes payload_;
  std::shared_ptr<const Packet> quoted_;
  uint16_t ip_checksum_error_ = 0;
  uint16_t l4_checksum_error_ = 0;
  bool no_l4_checksum_ = false;
  std::optional<uint8_t> version_;
  std::optional<uint8_t> ihl_;
  std::optional<uint16_t> total_length_;
  std::optional<uint16_t> udp_length_;
  std::optional<uint8_t> tcp_data_offset_;
  size_t trailer_ = 0;
};

// What a frame says, read independently of the data plane. Offsets are from the start of the
// frame; 0 where there is no such header.
struct Parsed {
  uint16_t ether_type = 0;  // innermost
  bool tagged = false;
  bool ip = false;  // a whole, consistent IP header was read
  Family family = Family::ipv4;
  size_t ip_offset = 0;
  size_t ip_size = 0;  // header, payload and extensions: total length
  IpAddress source;
  IpAddress destination;
  uint8_t ttl = 0;
  bool fragment = false;    // any fragment, also the first, if it is not the only one
  bool later_fragment = false;
  uint8_t protocol = 0;     // after the extension headers
  unsigned extensions = 0;  // how many IPv6 extension headers
  size_t l4_offset = 0;
  size_t l4_size = 0;
  bool ports = false;  // TCP or UDP, not a later fragment, header whole
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t tcp_flags = 0;
  bool ip_checksum_right = true;
  bool l4_checksum_right = true;  // true also where there is none to check
  std::string fault;              // why the packet could not be read further; empty if it could
};
Parsed parse(std::span<const uint8_t> frame);

// Recomputes every checksum and length of a frame: empty if all are right, else what is wrong.
std::string faults(std::span<const uint8_t> frame);

// One line for a failure message.
std::string describe(std::span<const uint8_t> frame);
std::string hex(std::span<const uint8_t> frame);

}  // namespace maglane::test
