# SPDX-License-Identifier: Apache-2.0
"""A node with two uplinks and several addresses, some of which node ports listen on (points 20 and 18)."""
import subprocess

import pytest

from conftest import ONLY
from lab import IPV4, IPV6, address, eventually
from manifests import service, service_address
from test_policies import NODE_PORT, NUMBER, changed, put, silent  # noqa: F401 (put is a fixture)

# What is tested here does not depend on how XDP is attached.
pytestmark = pytest.mark.any_mode

# Of the second uplink: node-a's two addresses a family, and the client at its other end.
OURS = {IPV4: ("10.77.0.1", "10.77.0.2"), IPV6: ("fd00:77::1", "fd00:77::2")}
THEIRS = {IPV4: "10.77.0.10", IPV6: "fd00:77::10"}


def ip(namespace, *arguments):
    subprocess.run(["ip", "-n", namespace, *arguments], check=True)


@pytest.fixture
def second_uplink(lab):
    """Another client, `far`, at eth1 of node-a."""
    far, node = f"{lab.name}-far", f"{lab.name}-node-a"
    subprocess.run(["ip", "netns", "add", far], check=True)
    try:
        subprocess.run(["ip", "link", "add", "eth0", "netns", far, "type", "veth", "peer", "name", "eth1", "netns",
                        node], check=True)
        for namespace, device in ((far, "eth0"), (node, "eth1")):
            ip(namespace, "link", "set", device, "up")
            subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "ethtool", "-K", device, "tx", "off", "gro",
                            "on"], check=True, capture_output=True)
        for family, ours in OURS.items():
            width, nodad = ("/64", ["nodad"]) if family == IPV6 else ("/24", [])
            for one in ours:
                ip(node, "addr", "add", one + width, "dev", "eth1", *nodad)
            ip(far, "addr", "add", THEIRS[family] + width, "dev", "eth0", *nodad)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", far], check=True)
        eventually(lambda: subprocess.run(["ip", "-n", node, "link", "show", "eth1"],
                                          capture_output=True).returncode, 5, "the device is gone")


@pytest.fixture
def restarted(lab, second_uplink):
    """Restarts node-a's agent with more flags; its own come back in the end."""
    args = lab.run_directory / "node-a.agent.args"
    before = args.read_bytes()

    def restart(*flags):
        lab.command("agent", "node-a", "stop")
        args.write_bytes(before + b"".join(flag.encode() + b"\0" for flag in flags))
        lab.command("agent", "node-a", "start")
    yield restart
    restart()


def test_point20_two_uplinks_and_chosen_addresses(lab, restarted, protocol, family):
    ours = OURS[family]
    width = "/128" if family == IPV6 else "/32"
    restarted("--uplink", "eth1", "--node-port-addresses", ours[1] + width,
              "--node-port-addresses", address("node-a", family) + width)
    for pod in ("pod-a1", "pod-b1"):
        port = ONLY[pod][1]
        for target in (ours[1], address("node-a", family)):
            if target == ours[1]:
                answer = lab.ask("far", protocol, target, port)
                assert answer.pod == pod
                assert (answer.client == THEIRS[family]) == (pod == "pod-a1")
            else:
                assert lab.ask("client", protocol, target, port).pod == pod
        # The other address of the same device is the node's own business.
        with pytest.raises(ConnectionRefusedError):
            lab.ask("far", protocol, ours[0], port)
            lab.ask("far", protocol, ours[0], port)


@pytest.mark.any_mode
@pytest.mark.parametrize("how, others_are", [("interface", False), ("cluster-cidr", True), ("node-cidr", False)])
def test_point18_who_is_a_pod(lab, put, restarted, family, how, others_are):
    """External policy Local without an endpoint here: the cluster's pods alone get an answer."""
    put("policy", changed(service("policy", NUMBER, ["pod-b1"], NODE_PORT), {"externalTrafficPolicy": "Local"}))
    restarted("--pod-detection", how)
    answer = lab.ask("pod-a2", "TCP", service_address(ONLY["pod-a1"][0], family), 80)
    assert answer.client == address("pod-a2", family)
    assert lab.ask("pod-a2", "TCP", address("node-a", family), NODE_PORT).client == address("pod-a2", family)
    if others_are:
        assert lab.ask("pod-b2", "TCP", address("node-a", family), NODE_PORT).pod == "pod-b1"
    else:
        silent(lab, "pod-b2", "TCP", address("node-a", family), NODE_PORT)
