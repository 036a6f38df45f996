# SPDX-License-Identifier: Apache-2.0
"""Packets that are not plain: fragments, SCTP, VLAN tags, RSTs of a stranger, sockets of the node."""
import contextlib
import os
import socket
import struct
import time

import pytest

import frames
from conftest import ONLY
from lab import IPV6, address, eventually
from manifests import service, service_address

PATHS = [("client", "pod-a1"), ("client", "pod-b1"), ("pod-a1", "pod-a2"), ("pod-a1", "pod-b1"), ("pod-a1", "pod-a1")]
SCTP = (46, 31046)
IPPROTO_SCTP = 132


@pytest.fixture(params=PATHS, ids="-".join)
def path(request):
    return request.param


def where_is(source, pod, family):
    number, node_port = ONLY[pod]
    return (address("node-a", family), node_port) if source == "client" else (service_address(number, family), 80)


# ---- fragments ----------------------------------------------------------------------------

@pytest.mark.parametrize("size", [1473, 3000, 20000])
def test_datagrams_in_fragments(lab, path, family, size):
    """Both ways: the answer is as long."""
    source, pod = path
    payload = os.urandom(size)
    with lab.connect(source, "UDP", *where_is(source, pod, family)) as connection:
        for _ in range(3):
            connection.sock.send(payload)
            answer = connection.sock.recv(65535)
            assert answer.split()[0].decode() == pod and answer.endswith(payload)


def fragments(family, source, target, port, payload, identification):
    """The IP packets, without link layer, of one datagram in three fragments."""
    src, dst = (socket.inet_pton(family, host) for host in (source, target))
    udp = struct.pack("!HHHH", 45678, port, 8 + len(payload), 0) + payload
    pseudo = src + dst + (struct.pack("!II", len(udp), 17) if family == IPV6 else struct.pack("!BBH", 0, 17, len(udp)))
    udp = udp[:6] + struct.pack("!H", frames.checksum(pseudo + udp) or 0xffff) + udp[8:]
    result, piece = [], 1024
    for offset in range(0, len(udp), piece):
        part, more = udp[offset:offset + piece], offset + piece < len(udp)
        if family == IPV6:
            header = struct.pack("!IHBB", 6 << 28, 8 + len(part), 44, 64) + src + dst
            header += struct.pack("!BBHI", 17, 0, offset | more, identification)
        else:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), identification, more << 13 | offset // 8, 64, 17,
                                 0) + src + dst
            header = header[:10] + struct.pack("!H", frames.checksum(header)) + header[12:]
        result.append(header + part)
    return result


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1, 1, 2)], ids=["swapped", "twice"])
def test_fragments_out_of_order(lab, family, order):
    """As long as the first one comes first."""
    payload = os.urandom(3000)
    number = ONLY["pod-b1"][0]
    pieces = fragments(family, address("pod-a1", family), service_address(number, family), 80, payload, 0x4711)
    with frames.Link(lab, "pod-a1") as link, lab.socket("pod-a1", family, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 45678))
        sock.settimeout(3)
        for index in order:
            link.send(pieces[index], family)
        answer = sock.recv(65535)
        assert answer.split()[0] == b"pod-b1" and answer.endswith(payload)


# ---- SCTP ---------------------------------------------------------------------------------

def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def sctp_packet(source_port, target_port, body):
    """RFC 9260: ports, verification tag, checksum, chunks."""
    packet = struct.pack("!HHII", source_port, target_port, 0x01020304, 0) + body
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def sctp_seen(tap, timeout=2.0):
    """(source address, ports, whether its checksum is right) of the first SCTP packet."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        for frame in tap.frames(left):
            found = frames.network(frame)
            if found and found[1] == IPPROTO_SCTP:
                _, _, offset = found
                end = 14 + struct.unpack_from("!H", frame, 16)[0] if found[0] == 4 else \
                    54 + struct.unpack_from("!H", frame, 18)[0]
                packet = frame[offset:end]
                source = frame[26:30] if found[0] == 4 else frame[22:38]
                right = packet[8:12] == struct.pack("<I", crc32c(packet[:8] + bytes(4) + packet[12:]))
                return source, struct.unpack("!HH", packet[:4]), right
    return None


@contextlib.contextmanager
def sctp_service(lab, directory, pod):
    directory.write("sctp.json", service("sctp", SCTP[0], [pod], SCTP[1], protocols=("SCTP",)))
    try:
        for node in ("node-a", "node-b"):
            eventually(lambda: any(s["name"] == "sctp" for s in lab.maglane(node, "service", "list")["services"]), 5)
        yield
    finally:
        directory.remove("sctp.json")


@pytest.mark.parametrize("source, pod", [("client", "pod-a1"), ("client", "pod-b1"), ("pod-a1", "pod-b1"),
                                         ("pod-a2", "pod-a1")])
def test_sctp(lab, directory, family, source, pod):
    """Raw: ports are rewritten both ways, each time with a right checksum."""
    target, port = ((address("node-a", family), SCTP[1]) if source == "client"
                    else (service_address(SCTP[0], family), 80))
    wanted = socket.inet_pton(family, target)
    body = bytes([1, 0, 0, 20]) + bytes(16)  # INIT
    with sctp_service(lab, directory, pod), frames.Tap(lab, pod) as at_pod, frames.Tap(lab, source) as at_source, \
            lab.socket(source, family, socket.SOCK_RAW, IPPROTO_SCTP) as client, \
            lab.socket(pod, family, socket.SOCK_RAW, IPPROTO_SCTP) as server:
        client.sendto(sctp_packet(40123, port, body), (target, 0))
        seen = sctp_seen(at_pod)
        assert seen is not None
        seen_from, (client_port, server_port), right = seen
        assert right and server_port == 8080
        server.sendto(sctp_packet(8080, client_port, bytes([2, 0, 0, 24]) + bytes(20)),
                      (socket.inet_ntop(family, seen_from), 0))
        assert sctp_seen(at_source) == (wanted, (port, 40123), True)


# ---- strangers and tags ----------------------------------------------------------------------

RST, SYN = 4, 2


def tcp_packet(family, source, target, flags):
    """A segment with a sequence number out of nowhere. `source`, `target`: (address, port)."""
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], 0x7badcafe, 0, 5 << 4, flags, 1000, 0, 0)
    src, dst = (socket.inet_pton(family, end[0]) for end in (source, target))
    pseudo = src + dst + struct.pack("!II", len(segment), socket.IPPROTO_TCP)
    return segment[:16] + struct.pack("!H", frames.checksum(pseudo + segment)) + segment[18:]


@pytest.mark.parametrize("pod", ["pod-a1", "pod-b1"])
def test_reset_of_a_stranger(lab, family, pod):
    """One with the client's address and port, but not its sequence number, and a SYN likewise."""
    target = where_is("client", pod, family)

    def states(port):
        flows = lab.maglane("node-a", "flow", "list", "--source", address("client", family), "--port", str(port))
        return {flow["state"] for flow in flows.get("flows", [])}
    with lab.connect("client", "TCP", *target) as connection, \
            lab.socket("client", family, socket.SOCK_RAW, socket.IPPROTO_TCP) as stranger:
        assert connection.ask().pod == pod
        own = connection.local
        assert states(own[1]) == {"established"}
        for flags in (RST, SYN):
            stranger.sendto(tcp_packet(family, (address("client", family), own[1]), target, flags), (target[0], 0))
            eventually(lambda: states(own[1]) == {"reset"}, 2, "the RST has been seen")
            assert connection.ask().pod == pod
        time.sleep(1.5)
        assert connection.ask().pod == pod
        eventually(lambda: states(own[1]) == {"established"}, 2, "the connection has gone on")


def test_tagged_frames_are_left_to_their_vlan(lab, family):
    """A connection to a service in a tagged frame: no uplink's business."""
    link = lab.exec("node-a", "ip", "-o", "link", "show", "eth0").stdout.split()
    mac = bytes.fromhex(link[link.index("link/ether") + 1].replace(":", ""))
    source, target = (address("client", family), 45679), where_is("client", "pod-a1", family)
    segment = tcp_packet(family, source, target, SYN)
    src, dst = (socket.inet_pton(family, end[0]) for end in (source, target))
    if family == IPV6:
        packet = struct.pack("!IHBB", 6 << 28, len(segment), socket.IPPROTO_TCP, 64) + src + dst + segment
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, socket.IPPROTO_TCP, 0) + src + dst
        packet = header[:10] + struct.pack("!H", frames.checksum(header)) + header[12:] + segment
    kind = struct.pack("!H", 0x86dd if family == IPV6 else 0x0800)

    def untouched():
        return sum(c["packets"] for c in lab.maglane("node-a", "stats")["counters"] if c["reason"] == "not_ip")
    with frames.Tap(lab, "pod-a1") as at_pod, lab.socket("client", socket.AF_PACKET, socket.SOCK_RAW) as raw:
        before = untouched()
        raw.bind(("eth0", 0))
        raw.send(mac + bytes.fromhex("020000000001") + struct.pack("!HH", 0x8100, 100) + kind + packet)
        eventually(lambda: untouched() > before, 2, "the tagged frame")
        raw.send(mac + bytes.fromhex("020000000001") + kind + packet)
        time.sleep(0.3)
        seen = [frame for frame in at_pod.frames() if frames.transport(frame) == "TCP"
                and frame[frames.network(frame)[2] + 13] == SYN]
        assert len(seen) == 1, "the frame without a tag, alone, is served"
