# SPDX-License-Identifier: Apache-2.0
"""Frames as they pass a host's eth0, and what they say."""
import select
import socket
import struct
import time

from lab import IPV6

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86dd
PACKET_OUTGOING = 4


class Tap:
    """A packet socket that keeps the frames that arrive at the host."""

    def __init__(self, lab, host):
        with lab.inside(host):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._sock.bind(("eth0", 0))

    def frames(self, timeout=0.0):
        """Those that have arrived since the last call; waits up to `timeout` seconds for a first one."""
        result, deadline = [], time.monotonic() + timeout
        while select.select([self._sock], [], [], 0.0 if result else max(0.0, deadline - time.monotonic()))[0]:
            frame, (_, _, kind, _, _) = self._sock.recvfrom(65535)
            if kind != PACKET_OUTGOING:
                result.append(frame)
        return result

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.close()


def _network(frame):
    """(IP version, transport protocol, offset of the transport header), or None."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == ETH_P_IP:
        return 4, frame[23], 14 + (frame[14] & 15) * 4
    if kind == ETH_P_IPV6:
        return 6, frame[20], 54
    return None


def transport(frame):
    """"TCP", "UDP" or None."""
    found = _network(frame)
    return found and {socket.IPPROTO_TCP: "TCP", socket.IPPROTO_UDP: "UDP"}.get(found[1])


def destination(frame):
    found = _network(frame)
    return None if not found else frame[30:34] if found[0] == 4 else frame[38:54]


def is_port_unreachable(frame, family):
    """RFC 792: type 3, code 3; RFC 4443: type 1, code 4."""
    found = _network(frame)
    if not found:
        return False
    wanted = (socket.IPPROTO_ICMPV6, (1, 4)) if family == IPV6 else (socket.IPPROTO_ICMP, (3, 3))
    return found[1] == wanted[0] and tuple(frame[found[2]:found[2] + 2]) == wanted[1]


def _sum(data):
    """The Internet checksum (RFC 1071): 0xffff over data that holds its own right checksum."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def checksums_right(frame):
    """Of a TCP or UDP frame: the IPv4 header's and the transport's."""
    version, protocol, offset = _network(frame)
    if version == 4:
        end = 14 + struct.unpack_from("!H", frame, 16)[0]
        if _sum(frame[14:offset]) != 0xffff:
            return False
        addresses = frame[26:34]
    else:
        end = 54 + struct.unpack_from("!H", frame, 18)[0]
        addresses = frame[22:54]
    pseudo = addresses + struct.pack("!II", end - offset, protocol)
    return _sum(pseudo + frame[offset:end]) == 0xffff


def sent_by(frame, address):
    """Whether the frame's source is this address."""
    at = slice(22, 38) if ":" in address else slice(26, 30)
    return frame[at] == socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
