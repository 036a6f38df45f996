# SPDX-License-Identifier: Apache-2.0
"""Each way through a service: from a pod, from outside, to this node, to another, to itself."""
import hashlib
import os
import socket
import subprocess

import pytest

import frames
from conftest import ONLY, TWIN, WEB
from lab import Answer, address
from manifests import WEB_PODS, service_address


def cluster_ip(pod, family):
    return service_address(ONLY[pod][0], family), 80


def node_port(node, pod, family):
    return address(node, family), ONLY[pod][1]


def test_pod_to_endpoint_on_same_node(lab, protocol, family):
    answer = lab.ask("pod-a1", protocol, *cluster_ip("pod-a2", family))
    assert (answer.pod, answer.client) == ("pod-a2", address("pod-a1", family))


def test_pod_to_endpoint_on_other_node(lab, protocol, family):
    answer = lab.ask("pod-a1", protocol, *cluster_ip("pod-b1", family))
    assert (answer.pod, answer.client) == ("pod-b1", address("pod-a1", family))


def test_pod_reaches_itself(lab, protocol, family):
    answer = lab.ask("pod-a1", protocol, *cluster_ip("pod-a1", family))
    assert answer.pod == "pod-a1"
    assert answer.client != address("pod-a1", family)


def test_outside_to_node_port_on_the_endpoints_node(lab, protocol, family):
    answer = lab.ask("client", protocol, *node_port("node-a", "pod-a1", family))
    assert (answer.pod, answer.client) == ("pod-a1", address("client", family))


def test_outside_to_node_port_on_another_node(lab, protocol, family):
    answer = lab.ask("client", protocol, *node_port("node-a", "pod-b1", family))
    assert (answer.pod, answer.client) == ("pod-b1", address("node-a", family))


@pytest.mark.parametrize("pod", ["pod-a1", "pod-a2", "pod-b1"])
@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_pod_to_node_port(lab, protocol, family, node, pod):
    assert lab.ask("pod-a1", protocol, *node_port(node, pod, family)).pod == pod


def test_one_source_port_for_two_services_with_one_endpoint(lab, protocol, family):
    """Two connections whose replies would look alike: the second one's port is translated."""
    with lab.connect("pod-a1", protocol, *cluster_ip("pod-b1", family), source_port=23456) as one, \
            lab.connect("pod-a1", protocol, service_address(TWIN, family), 80, source_port=23456) as other:
        for _ in range(5):
            assert one.ask() == Answer("pod-b1", address("pod-a1", family), 23456)
            answer = other.ask()
            assert answer.pod == "pod-b1" and answer.port != 23456


def test_the_port_of_a_closed_connection_is_free_at_once(lab, family):
    for number in (ONLY["pod-b1"][0], TWIN) * 10:
        sock = lab.connect("pod-a1", "TCP", service_address(number, family), 80, source_port=24567)
        assert sock.ask() == Answer("pod-b1", address("pod-a1", family), 24567)
        # An abortive close leaves no TIME_WAIT at the client, so that the port can be bound again.
        sock.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


@pytest.mark.parametrize("source, pod", [("client", "pod-a1"), ("client", "pod-b1"), ("pod-a2", "pod-a1"),
                                         ("pod-a2", "pod-b1"), ("pod-a1", "pod-a1")])
def test_each_frame_carries_right_checksums(lab, protocol, family, source, pod):
    """Looked at on the wire: Linux does not check again what GRO has checked before a rewrite."""
    where = node_port("node-a", pod, family) if source == "client" else cluster_ip(pod, family)
    with frames.Tap(lab, source) as at_source, frames.Tap(lab, pod) as at_pod:
        with lab.connect(source, protocol, *where) as connection:
            for _ in range(3):
                assert connection.ask().pod == pod
        for tap in (at_source, at_pod):
            seen = [frame for frame in tap.frames() if frames.transport(frame) == protocol]
            assert len(seen) >= 3
            assert [frame.hex() for frame in seen if not frames.checksums_right(frame)] == []


@pytest.fixture
def leave_checksums(lab):
    """Has hosts leave the checksums of what they send to the device, as most senders do."""
    hosts = []

    def offload(host, how):
        subprocess.run(["nsenter", f"--net=/run/netns/{lab.name}-{host}", "ethtool", "-K", "eth0", "tx", how],
                       check=True, capture_output=True)

    def on(*chosen):
        for host in chosen:
            hosts.append(host)
            offload(host, "on")
    yield on
    for host in hosts:
        offload(host, "off")


@pytest.mark.parametrize("pod", ["pod-a2", "pod-b1"])
def test_checksums_that_are_left_to_the_device(lab, leave_checksums, protocol, family, pod):
    """The device that the node sends by completes them: from what is in the field by then."""
    leave_checksums("pod-a1", pod)
    with frames.Tap(lab, "pod-a1") as at_source, frames.Tap(lab, pod) as at_pod:
        with lab.connect("pod-a1", protocol, *cluster_ip(pod, family)) as connection:
            for _ in range(3):
                assert connection.ask().pod == pod
        for tap, host in ((at_source, "pod-a1"), (at_pod, pod)):
            came_in = [frame for frame in tap.frames() if frames.transport(frame) == protocol and
                       not frames.sent_by(frame, address(host, family))]
            assert len(came_in) >= 3
            assert [frame.hex() for frame in came_in if not frames.checksums_right(frame)] == []


@pytest.mark.parametrize("source, target", [
    ("pod-a1", "cluster-ip"), ("pod-b2", "cluster-ip"), ("client", "node-a"), ("client", "node-b")])
def test_spread_over_all_endpoints(lab, protocol, family, source, target):
    where = (service_address(WEB[0], family), 80) if target == "cluster-ip" else (address(target, family), WEB[1])
    seen = [lab.ask(source, protocol, *where).pod for _ in range(80)]
    assert set(seen) == set(WEB_PODS)
    assert min(map(seen.count, WEB_PODS)) >= 5


@pytest.mark.parametrize("source, pod", [("client", "pod-a1"), ("client", "pod-b1"), ("pod-a2", "pod-a1"),
                                         ("pod-a2", "pod-b1"), ("pod-a1", "pod-a1")])
def test_bulk_both_ways(lab, family, source, pod):
    """Whole segments, at speed: what arrives is what was sent."""
    where = node_port("node-a", pod, family) if source == "client" else cluster_ip(pod, family)
    body = os.urandom(4 << 20)
    with lab.connect(source, "TCP", *where, timeout=20) as connection:
        answer = connection.http("POST", "/", body).decode().split()
        assert answer == [pod, hashlib.sha256(body).hexdigest()]
        down = connection.http("GET", "/download?bytes=4000000")
        period = bytes(range(251))
        assert down == (period * (4000000 // 251 + 1))[:4000000]


def test_datagrams_as_long_as_the_mtu(lab, family):
    overhead = 28 if family == 2 else 48
    payload = os.urandom(1500 - overhead - 64)  # the answer carries a header of its own
    for source, where in (("client", node_port("node-a", "pod-b1", family)),
                          ("pod-a1", cluster_ip("pod-b1", family))):
        with lab.connect(source, "UDP", *where) as connection:
            connection.sock.send(payload)
            assert connection.sock.recv(2048).endswith(payload)
