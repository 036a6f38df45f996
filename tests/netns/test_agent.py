# SPDX-License-Identifier: Apache-2.0
"""The agent's life: killed and restarted under load, pod devices that come and go, clean-up."""
import json
import subprocess
import time

import pytest

from conftest import ONLY, WEB
from lab import IPV4, IPV6, NODES, Load, address, eventually
from manifests import WEB_PODS, service_address


def connections(lab):
    return [lab.connect(source, protocol, *where)
            for protocol in ("TCP", "UDP") for family in (IPV4, IPV6) for _ in range(4)
            for source, where in (("pod-a1", (service_address(WEB[0], family), 80)),
                                  ("client", (address("node-a", family), WEB[1])))]


@pytest.mark.conformance(14, 31)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_restart_under_load(lab, how):
    load = Load(connections(lab))
    try:
        lab.command("agent", "node-a", how)
        load.goes_on()
        for source, where in (("pod-a1", (service_address(WEB[0], IPV4), 80)),
                              ("client", (address("node-a", IPV6), WEB[1]))):
            assert {lab.ask(source, "TCP", *where).pod for _ in range(40)} == set(WEB_PODS)  # new ones, too
        before = lab.maglane("node-a", "service", "list"), lab.maglane("node-a", "backend", "list")
        lab.command("agent", "node-a", "start")
        load.goes_on()
        assert (lab.maglane("node-a", "service", "list"), lab.maglane("node-a", "backend", "list")) == before
        assert lab.ask("client", "TCP", address("node-a", IPV4), WEB[1]).pod in WEB_PODS
    finally:
        load.stop()


@pytest.mark.conformance(14, 31)
def test_a_download_goes_on_while_the_agent_is_killed(lab, family):
    with lab.connect("client", "TCP", address("node-a", family), ONLY["pod-b1"][1], timeout=10) as connection:
        connection._http.request("GET", "/download?bytes=1500000&rate=1000000")
        response = connection._http.getresponse()
        first = response.read(300000)
        lab.command("agent", "node-a", "kill")
        try:
            rest = response.read()
        finally:
            lab.command("agent", "node-a", "start")
        assert first + rest == (bytes(range(251)) * 6000)[:1500000]


def test_flows_stay_where_their_bits_were_not_kept(lab):
    """As after an agent that knew of none: the new one's programs see a map made anew. Replies
    to a pod that come through an uplink have nothing but those bits; a datagram that is lost fails."""
    load = Load([lab.connect("pod-a1", "UDP", service_address(ONLY[pod][0], family), 80)
                 for family in (IPV4, IPV6) for pod in ("pod-b1", "pod-b2") for _ in range(8)])
    try:
        lab.command("agent", "node-a", "kill")
        (lab.bpffs / "node-a/maps/flow_bits").unlink()
        lab.command("agent", "node-a", "start")
        load.goes_on(20)
    finally:
        load.stop()


@pytest.mark.conformance(14, 27)
def test_lost_flows_are_made_again(lab):
    """Established connections whose flows are all forgotten keep their endpoint and their port."""
    opened = [c for c in connections(lab) if c.protocol == "TCP"]
    before = [c.ask() for c in opened]
    assert lab.maglane("node-a", "flow", "flush", "--all")["removed"] >= 2 * len(opened)
    try:
        assert [c.ask() for c in opened] == before
    finally:
        for connection in opened:
            connection.close()


@pytest.fixture
def guest(lab):
    """A third pod on node-a, whose device appears while the agent runs; called again, a new one."""
    name, node = f"{lab.name}-guest", f"{lab.name}-node-a"

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True)

    def remove():
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        eventually(lambda: subprocess.run(["ip", "-n", node, "link", "show", "pod-a9"],
                                          capture_output=True).returncode, 5, "the device is gone")

    def make():
        ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", "pod-a9", "netns", node)
        for host, device in ((name, "eth0"), (node, "pod-a9")):
            ip("-n", host, "link", "set", device, "up")
            lab_offloads(lab, host, device)
        ip("-n", node, "addr", "add", "169.254.1.1/32", "dev", "pod-a9", "scope", "link")
        ip("-n", node, "addr", "add", "fe80::1/64", "dev", "pod-a9", "nodad")
        ip("-n", node, "route", "add", "10.244.1.19/32", "dev", "pod-a9", "src", "192.168.100.1")
        ip("-n", node, "route", "add", "fd00:10:244:1::19/128", "dev", "pod-a9", "src", "fd00:100::1")
        ip("-n", name, "addr", "add", "10.244.1.19/32", "dev", "eth0")
        ip("-n", name, "addr", "add", "fd00:10:244:1::19/128", "dev", "eth0", "nodad")
        ip("-n", name, "route", "add", "169.254.1.1/32", "dev", "eth0", "scope", "link")
        ip("-n", name, "route", "add", "default", "via", "169.254.1.1")
        ip("-n", name, "route", "add", "default", "via", "fe80::1", "dev", "eth0")

    yield make, remove
    remove()


def lab_offloads(lab, namespace, device):
    subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "ethtool", "-K", device, "tx", "off", "gro", "on"],
                   check=True, capture_output=True)


def test_pod_device_appears_and_disappears(lab, guest):
    make, remove = guest

    def attached():
        return [a for a in lab.maglane("node-a", "status")["attachments"] if a["device"] == "pod-a9"]
    for _ in range(2):
        make()
        eventually(attached, 5, "the device is attached")
        for family in (IPV4, IPV6):
            for protocol in ("TCP", "UDP"):
                for pod in ("pod-a2", "pod-b1"):
                    answer = lab.ask("guest", protocol, service_address(ONLY[pod][0], family), 80)
                    assert answer.pod == pod
        remove()
        eventually(lambda: not attached(), 5, "the device is forgotten")


@pytest.mark.conformance(31)
@pytest.mark.any_mode
def test_pinned_programs_and_nothing_else_survive_a_stop(lab):
    lab.command("agent", "node-b", "stop")
    try:
        pins = {path.name for path in (lab.bpffs / "node-b").iterdir()}
        assert {"maps", "programs", "links"} <= pins
        assert not (lab.run_directory / "node-b.sock").exists()
    finally:
        lab.command("agent", "node-b", "start")


def program_ids(directory):
    return {json.loads(subprocess.run(["bpftool", "-j", "prog", "show", "pinned", path], check=True,
                                      capture_output=True).stdout)["id"] for path in directory.iterdir()}


def test_cleanup_removes_everything(lab, mode, directory):
    bpffs = lab.bpffs / "node-b"
    ids = program_ids(bpffs / "programs")
    assert ids
    lab.command("agent", "node-b", "stop")
    try:
        done = lab.exec("node-b", "maglane-agent", "--cleanup")
        assert done.returncode == 0
        assert not bpffs.exists() or not list(bpffs.iterdir())
        eventually(lambda: not ids & {p["id"] for p in json.loads(subprocess.run(
            ["bpftool", "-j", "prog", "show"], check=True, capture_output=True).stdout)}, 5, "programs are gone")
        assert "xdp" not in lab.exec("node-b", "ip", "link", "show", "eth0").stdout
        with pytest.raises(OSError):
            lab.ask("client", "TCP", address("node-b", IPV4), WEB[1], timeout=1)
        assert lab.exec("node-b", "maglane-agent", "--cleanup").returncode == 0  # nothing to do is no error
    finally:
        lab.command("agent", "node-b", "start")
    assert lab.ask("client", "TCP", address("node-b", IPV4), WEB[1]).pod in WEB_PODS


def test_moved_neighbour_is_found_again(lab, family):
    """A next hop whose MAC address changes: cached answers follow it."""
    with lab.connect("client", "TCP", address("node-a", family), ONLY["pod-a2"][1], timeout=8) as connection:
        connection.ask()
        lab.exec("pod-a2", "ip", "link", "set", "eth0", "address", f"02:00:00:00:00:{time.time_ns() % 200 + 16:02x}")
        lab.exec("node-a", "ip", "neigh", "flush", "dev", "pod-a2")
        assert connection.ask().pod == "pod-a2"


@pytest.mark.any_mode
def test_status_of_a_healthy_agent(lab):
    for node in NODES:
        status = lab.maglane(node, "status")
        assert status["agentRunning"] and status["synced"]
        assert status["nodeName"] == node
        assert status["nodeAddressIpv4"] == address(node, IPV4)
        assert status["nodeAddressIpv6"] == address(node, IPV6)
        assert status["pid"] == lab.agent_pid(node)
        assert {a["device"] for a in status["attachments"]} >= {"eth0", f"pod-{node[-1]}1", f"pod-{node[-1]}2"}
