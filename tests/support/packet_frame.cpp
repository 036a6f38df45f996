// SPDX-License-Identifier: Apache-2.0
//
// A frame as it is, spoilt perhaps, that is translated as RFC 3022 and RFC 1624 (equation 3) say:
// what is wrong with its checksums stays wrong by as much.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/support/packet_builder.h"

namespace maglane::test {
namespace {

uint16_t get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void put16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

// Stores 16-bit words and keeps account of what that does to a sum over them.
class Editor {
 public:
  Editor(Bytes& frame) : frame_(frame) {}  // NOLINT: short-lived
  void put(size_t at, std::span<const uint8_t> bytes) {
    for (size_t i = 0; i + 1 < bytes.size(); i += 2) word(at + i, static_cast<uint16_t>(bytes[i] << 8 | bytes[i + 1]));
  }
  void word(size_t at, uint16_t value) {
    difference_ += static_cast<uint16_t>(~get16(frame_, at));
    difference_ += value;
    put16(frame_, at, value);
  }
  void update_checksum(size_t at) const {
    put16(frame_, at, static_cast<uint16_t>(~fold(static_cast<uint16_t>(~get16(frame_, at)) + difference_)));
  }

 private:
  Bytes& frame_;
  uint32_t difference_ = 0;
};

std::span<const uint8_t> raw(const IpAddress& address) {
  return std::span(address.bytes()).first(address.family() == Family::ipv4 ? 4 : 16);
}

std::vector<uint8_t> port_bytes(uint16_t port) {
  return {static_cast<uint8_t>(port >> 8), static_cast<uint8_t>(port)};
}

}  // namespace

Packet Packet::of_frame(const Bytes& frame) {
  const Parsed parsed = parse(frame);
  if (!parsed.ports) std::abort();
  Packet p;
  p.kind_ = Kind::frame;
  p.frame_ = frame;
  p.source_ = HostPort(parsed.source, parsed.source_port);
  p.destination_ = HostPort(parsed.destination, parsed.destination_port);
  p.protocol_ = parsed.protocol;
  p.ttl_ = parsed.ttl;
  std::copy_n(frame.begin(), 6, p.destination_mac_.begin());
  std::copy_n(frame.begin() + 6, 6, p.source_mac_.begin());
  return p;
}

Bytes Packet::changed_frame() const {
  const Parsed parsed = parse(frame_);
  const bool v4 = parsed.family == Family::ipv4;
  Bytes out = frame_;
  std::ranges::copy(destination_mac_, out.begin());
  std::ranges::copy(source_mac_, out.begin() + 6);
  const size_t checksum = parsed.l4_offset + (protocol_ == kProtoTcp ? 16 : 6);
  const bool none = protocol_ == kProtoUdp && v4 && get16(out, checksum) == 0;
  Editor addresses(out);
  addresses.put(parsed.ip_offset + (v4 ? 12 : 8), raw(source_.address));
  addresses.put(parsed.ip_offset + (v4 ? 16 : 24), raw(destination_.address));
  Editor l4 = addresses;
  l4.put(parsed.l4_offset, port_bytes(source_.port));
  l4.put(parsed.l4_offset + 2, port_bytes(destination_.port));
  if (!none) l4.update_checksum(checksum);
  if (!none && protocol_ == kProtoUdp && get16(out, checksum) == 0) put16(out, checksum, 0xffff);
  const size_t hops = parsed.ip_offset + (v4 ? 8 : 6);  // IPv6: next header and hop limit
  if (v4) {
    addresses.word(hops, static_cast<uint16_t>(ttl_ << 8 | out[hops + 1]));
    addresses.update_checksum(parsed.ip_offset + 10);
  } else {
    out[hops + 1] = ttl_;
  }
  return out;
}

}  // namespace maglane::test
