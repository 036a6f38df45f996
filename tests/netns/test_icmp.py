# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about translated connections reach who sent the packet, who then knows them for its own."""
import contextlib
import errno
import hashlib
import os
import select
import socket

import pytest

from conftest import ONLY
from lab import HOSTS, IPV6, address, eventually, node_of
from manifests import service, service_address

CLOSED = (45, 31045)  # of a service whose endpoints have no socket
NARROW = 1300


def where_is(source, pod, family):
    """Where a host asks for the service of one pod: outside by node-a's node port."""
    number, node_port = ONLY[pod]
    return (address("node-a", family), node_port) if source == "client" else (service_address(number, family), 80)


@pytest.fixture(params=[("client", "pod-a1"), ("client", "pod-b1"), ("pod-a1", "pod-a2"), ("pod-a1", "pod-b1")],
                ids="-".join)
def path(request):
    return request.param


@contextlib.contextmanager
def closed_service(lab, directory, pod):
    objects = service("closed", CLOSED[0], [pod], CLOSED[1])
    for slice_of_pod in objects[1:]:
        for port in slice_of_pod["ports"]:
            port["port"] = 8099
    directory.write("closed.json", objects)
    try:
        for node in ("node-a", "node-b"):
            eventually(lambda: [e for e in lab.maglane(node, "backend", "list").get("backends", [])
                                if "8099" in str(e) and address(pod, IPV6) in str(e)], 5, "the closed service")
        yield
    finally:
        directory.remove("closed.json")


def test_port_unreachable_of_a_pod(lab, directory, path, family):
    """The client's socket is told: it knows the connection that the error is about."""
    source, pod = path
    target = ((address("node-a", family), CLOSED[1]) if source == "client"
              else (service_address(CLOSED[0], family), 80))
    with closed_service(lab, directory, pod):
        with lab.socket(source, family, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            sock.send(b"hello")
            select.select([sock], [], [], 2.0)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def forget_path_mtus(lab):
    for host in HOSTS:
        for version in ("-4", "-6"):
            lab.exec(host, "ip", version, "route", "flush", "cache")


@contextlib.contextmanager
def narrow(lab, node, host, family):
    """The node's way to a host takes no more than NARROW bytes."""
    version = "-6" if family == IPV6 else "-4"
    target = address(host, family)
    device = "eth0" if host == "client" else host
    old = lab.exec(node, "ip", version, "route", "show", target).stdout.split()
    lab.exec(node, "ip", version, "route", "replace", target, "dev", device, "mtu", "lock", str(NARROW))
    try:
        yield
    finally:
        if old:
            lab.exec(node, "ip", version, "route", "replace", *[word for word in old if word != "linkdown"])
        else:
            lab.exec(node, "ip", version, "route", "del", target, "dev", device)
        forget_path_mtus(lab)


def upload(lab, source, pod, family):
    body = os.urandom(1 << 20)
    with lab.connect(source, "TCP", *where_is(source, pod, family), timeout=20) as connection:
        assert connection.http("POST", "/", body).decode().split() == [pod, hashlib.sha256(body).hexdigest()]


def download(lab, source, pod, family):
    with lab.connect(source, "TCP", *where_is(source, pod, family), timeout=20) as connection:
        period = bytes(range(251))
        assert connection.http("GET", "/download?bytes=1000000") == (period * (1000000 // 251 + 1))[:1000000]


def test_narrow_way_to_the_endpoint(lab, path, family):
    """This node's own error where it forwards to the pod, the other node's kernel's where that does."""
    source, pod = path
    with narrow(lab, node_of(pod), pod, family):
        upload(lab, source, pod, family)


@pytest.mark.parametrize("pod", ["pod-a1", "pod-b1"])
def test_narrow_way_to_the_client(lab, pod, family):
    with narrow(lab, "node-a", "client", family):
        download(lab, "client", pod, family)


def test_narrow_way_back_to_a_pod(lab, family):
    """From another node: its pod answers one here, past which it knows nothing of services."""
    with narrow(lab, "node-a", "pod-a1", family):
        download(lab, "pod-a1", "pod-b1", family)


def test_datagrams_learn_of_a_narrow_way(lab, path, family):
    source, pod = path
    level, discover, mtu = (socket.IPPROTO_IPV6, 23, 24) if family == IPV6 else (socket.IPPROTO_IP, 10, 14)
    with narrow(lab, node_of(pod), pod, family):
        with lab.connect(source, "UDP", *where_is(source, pod, family)) as connection:
            assert connection.ask().pod == pod
            connection.sock.setsockopt(level, discover, 2)  # never a fragment

            def learnt():
                with contextlib.suppress(OSError):
                    connection.sock.send(bytes(1400))
                return connection.sock.getsockopt(level, mtu) == NARROW
            eventually(learnt, 3, "the path's MTU")
            with contextlib.suppress(OSError):  # the error that is pending
                connection.sock.send(b"")
            assert connection.ask().pod == pod
