# SPDX-License-Identifier: Apache-2.0
"""What is refused is refused at once; what is dropped never leaves the node."""
import errno
import select
import socket
import time

import pytest

import frames
from conftest import ONLY, VOID, WEB
from lab import address, eventually
from manifests import service_address


def port_unreachable_within(tap, family, seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if any(frames.is_port_unreachable(frame, family) for frame in tap.frames(left)):
            return True
    return False


def refused(lab, host, protocol, family, target, port):
    """The ICMP error comes at once, and the program that asked learns of it.

    TCP over IPv6 may learn only from its second SYN, a second later: where the error arrives
    on the very CPU that is inside connect(), Linux drops it (TcpExtLockDroppedIcmps). The
    kernel's own packet filter rejects no faster.
    """
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with frames.Tap(lab, host) as tap, lab.socket(host, family, kind) as sock:
        sock.setblocking(False)
        error = sock.connect_ex((target, port))
        if protocol == "UDP":
            sock.send(b"hello")
        assert port_unreachable_within(tap, family, 0.5)
        if error != errno.ECONNREFUSED:
            select.select([sock] if protocol == "UDP" else [], [sock] if protocol == "TCP" else [], [], 2.5)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error == errno.ECONNREFUSED


@pytest.mark.conformance(11)
def test_cluster_ip_without_endpoints(lab, protocol, family):
    refused(lab, "pod-a1", protocol, family, service_address(VOID[0], family), 80)


@pytest.mark.conformance(11)
@pytest.mark.parametrize("source", ["client", "pod-a1", "pod-b1"])
def test_node_port_without_endpoints(lab, protocol, family, source):
    refused(lab, source, protocol, family, address("node-a", family), VOID[1])


@pytest.mark.conformance(13)
def test_unused_port_of_a_service_address(lab, protocol, family):
    refused(lab, "pod-a1", protocol, family, service_address(WEB[0], family), 81)


@pytest.mark.conformance(13)
def test_unused_service_address_is_dropped(lab, protocol, family):
    """No answer, and no packet towards the node's default route."""
    target = service_address(250, family)
    wanted = socket.inet_pton(family, target)
    with frames.Tap(lab, "client") as tap:
        with pytest.raises(TimeoutError):
            lab.ask("pod-a1", protocol, target, 80, timeout=0.7)
        assert not [frame for frame in tap.frames() if frames.destination(frame) == wanted]


def test_node_itself_stays_reachable(lab, family):
    """A port that no service has is the node's own business: here a closed one and an open one."""
    with pytest.raises(ConnectionRefusedError):
        lab.ask("client", "TCP", address("node-a", family), 31999)
    with lab.socket("node-a", family, socket.SOCK_STREAM) as listener:
        listener.bind((address("node-a", family), 0))
        listener.listen()
        with lab.connect("client", "TCP", address("node-a", family), listener.getsockname()[1]):
            pass


@pytest.mark.any_mode
def test_pod_addresses_are_left_alone(lab, protocol, family):
    """Traffic that uses no service is routed by the kernel as before."""
    answer = lab.ask("pod-a1", protocol, address("pod-b1", family), 8080)
    assert (answer.pod, answer.client) == ("pod-b1", address("pod-a1", family))


@pytest.mark.any_mode
def test_refusals_are_counted(lab, family):
    def count(reason):
        counters = lab.maglane("node-a", "stats")["counters"]
        return sum(c["packets"] for c in counters if c["reason"] == reason)
    reasons = {"no_endpoint": (VOID[0], 80), "unused_port": (ONLY["pod-a1"][0], 81), "unused_address": (251, 80)}
    for reason, (number, port) in reasons.items():
        before = count(reason)
        with pytest.raises(OSError):
            lab.ask("pod-a1", "TCP", service_address(number, family), port, timeout=0.3)
        eventually(lambda: count(reason) > before, 2, reason)
