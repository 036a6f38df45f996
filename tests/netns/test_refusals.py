# SPDX-License-Identifier: Apache-2.0
"""What is refused is refused at once; what is dropped never leaves the node."""
import select
import socket
import time

import pytest

from conftest import ONLY, VOID, WEB
from lab import IPV6, address, eventually
from manifests import service_address

ETH_P_ALL = 3


def refused_within(lab, host, protocol, target, port, seconds=1.0):
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        with lab.connect(host, protocol, target, port) as connection:
            connection.ask()
    assert time.monotonic() - start < seconds


def test_cluster_ip_without_endpoints(lab, protocol, family):
    refused_within(lab, "pod-a1", protocol, service_address(VOID[0], family), 80)


@pytest.mark.parametrize("source", ["client", "pod-a1", "pod-b1"])
def test_node_port_without_endpoints(lab, protocol, family, source):
    refused_within(lab, source, protocol, address("node-a", family), VOID[1])


def test_unused_port_of_a_service_address(lab, protocol, family):
    refused_within(lab, "pod-a1", protocol, service_address(WEB[0], family), 81)


def test_unused_service_address_is_dropped(lab, protocol, family):
    """No answer, and no packet towards the node's default route."""
    target = service_address(250, family)
    wanted = socket.inet_pton(family, target)
    with lab.inside("client"):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tap.bind(("eth0", 0))
    with tap:
        with pytest.raises(TimeoutError):
            lab.ask("pod-a1", protocol, target, 80, timeout=0.7)
        offset = 38 if family == IPV6 else 30
        while select.select([tap], [], [], 0)[0]:
            assert tap.recv(2048)[offset:offset + len(wanted)] != wanted


def test_node_itself_stays_reachable(lab, family):
    """A port that no service has is the node's own business: here a closed one and an open one."""
    refused_within(lab, "client", "TCP", address("node-a", family), 31999)
    with lab.socket("node-a", family, socket.SOCK_STREAM) as listener:
        listener.bind((address("node-a", family), 0))
        listener.listen()
        with lab.connect("client", "TCP", address("node-a", family), listener.getsockname()[1]):
            pass


def test_pod_addresses_are_left_alone(lab, protocol, family):
    """Traffic that uses no service is routed by the kernel as before."""
    answer = lab.ask("pod-a1", protocol, address("pod-b1", family), 8080)
    assert (answer.pod, answer.client) == ("pod-b1", address("pod-a1", family))


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
