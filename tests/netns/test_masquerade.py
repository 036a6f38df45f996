# SPDX-License-Identifier: Apache-2.0
"""Masquerade with real traffic: as whom pods and nodes come to pods, nodes, hosts of the network and
hosts beyond it, in the lab's shapes kubenet (pods behind a bridge) and azure-cni (a flat network)."""
import contextlib
import errno
import hashlib
import os
import re
import select
import shutil
import socket
import subprocess

import pytest

import lab as lab_module
import manifests
from frames import Tap, network, sent_by
from lab import IPV6, NODES, address, eventually
from test_packets import IPPROTO_SCTP, sctp_packet, sctp_seen

# Traffic of pods comes by tc, their answers by whatever the uplink has: one mode shows both.
pytestmark = pytest.mark.any_mode

PORT = 8080
SERVERS = ("client", "outside", "node-b")  # where the lab has none; the client is a host of the network
OWN, NODE = "own", "node"

# As whom each source is seen at each destination.
INSIDE = {"pod-a2": OWN, "pod-b1": OWN, "node-b": OWN}
FROM_POD = {
    "kubenet": INSIDE | {"client": NODE, "outside": NODE},
    "azure-cni": INSIDE | {"client": OWN, "outside": NODE},
    "custom": INSIDE | {"client": NODE, "outside": NODE},  # the list has pods and nodes
}
FROM_NODE = {"pod-b1": OWN, "node-b": OWN, "client": OWN, "outside": OWN}
MASQ_CONFIG = """
nonMasqueradeCIDRs:
- 10.244.0.0/16
- fd00:10:244::/48
- 192.168.100.0/29
- fd00:100::/125
"""


class Shape:
    """A lab of one shape, with agents that are started for a model."""

    def __init__(self, shape, directory, tmp_path):
        self.shape, self.model, self.directory = shape, None, directory
        self.masq_config = tmp_path / "masq-config"
        self.masq_config.write_text(MASQ_CONFIG)
        self.lab = lab_module.Lab(f"mt{os.getpid()}{shape[0]}", lab_module.HOSTS + ("outside",))
        self.servers = []

    def up(self):
        self.lab.command("up", "--shape", self.shape)
        for host in SERVERS:
            self.servers.append(subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.lab.name}-{host}", lab_module.ROOT / "tools/lab.d/pod-server.py",
                 host, "--port", str(PORT)]))
        for host in SERVERS:
            eventually(lambda: self.answers(host), 10, f"{host} serves")

    def answers(self, host):
        with contextlib.suppress(OSError):
            return self.lab.ask(host, "TCP", address(host, socket.AF_INET), PORT, 0.5).pod == host
        return False

    def run(self, model, *flags):
        """The agents with this model and these flags, unless they are running so."""
        if self.model == (model, flags):
            return self.lab
        self.lab.command("agents", "down")
        words = {"kubenet": ("--network-model", "kubenet"),
                 "azure-cni": (),  # the shape's own
                 "custom": ("--network-model", "custom", "--masq-config", str(self.masq_config)),
                 "none": ("--network-model", "none")}[model]
        self.lab.command("agents", "up", "--manifests", self.directory.path, "--", *words, *flags)
        self.model = model, flags
        return self.lab

    def down(self):
        for process in self.servers:
            process.terminate()
            process.wait()
        self.lab.command("down")


@pytest.fixture(scope="module")
def shapes(mode, tmp_path_factory):
    """Makes each shape when it is first asked for."""
    assert os.geteuid() == 0, "these tests need root"
    made = {}
    path = tmp_path_factory.mktemp("masquerade")
    shutil.copy(lab_module.ROOT / "examples/nodes.yaml", path)
    directory = manifests.Directory(path)
    directory.write("web.json", manifests.service("web", 30, manifests.WEB_PODS, 31030))
    directory.write("own.json", manifests.service("own", 31, ["pod-a1"]))

    def shape(name):
        if name not in made:
            made[name] = Shape(name, directory, tmp_path_factory.mktemp("masq"))
            made[name].up()
        return made[name]
    try:
        yield shape
    finally:
        for one in made.values():
            one.down()


@pytest.fixture(params=["kubenet", "azure-cni"])
def lab(shapes, request):
    """Both shapes, each with its own model."""
    one = shapes(request.param).run(request.param)
    before = one.checksum_errors()
    yield one
    assert one.checksum_errors() == before


@pytest.fixture
def kubenet(shapes):
    one = shapes("kubenet").run("kubenet")
    before = one.checksum_errors()
    yield one
    assert one.checksum_errors() == before


def seen_as(source, how, family):
    return address("node-a" if how == NODE else source, family)


def check_table(lab, source, table, protocol, family):
    wrong = []
    for destination, how in table.items():
        try:
            answer = lab.ask(source, protocol, address(destination, family), PORT)
        except OSError as error:
            wrong.append(f"{source} to {destination}: {error!r}")
            continue
        assert answer.pod == destination
        if answer.client != seen_as(source, how, family):
            wrong.append(f"{source} to {destination}: seen as {answer.client}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.conformance(19)
@pytest.mark.parametrize("shape, model", [("kubenet", "kubenet"), ("azure-cni", "azure-cni"), ("kubenet", "custom")])
def test_who_sees_whom(shapes, shape, model, protocol, family):
    lab = shapes(shape).run(model)
    check_table(lab, "pod-a1", FROM_POD[model], protocol, family)
    check_table(lab, "node-a", FROM_NODE, protocol, family)


@pytest.mark.conformance(19)
def test_none_never(shapes, family):
    """The pod's own address arrives, to which there is no way back."""
    lab = shapes("kubenet").run("none")
    with Tap(lab, "outside") as tap:
        with lab.connect("pod-a1", "UDP", address("outside", family), PORT) as connection:
            connection.sock.send(b"hello")
            frames = eventually(lambda: [f for f in tap.frames(0.2) if is_datagram(f)], 5, "a datagram")
    assert sent_by(frames[0], address("pod-a1", family))


def is_datagram(frame):
    found = network(frame)
    return found and found[1] == socket.IPPROTO_UDP and frame[found[2] + 2:found[2] + 4] == PORT.to_bytes(2, "big")


@pytest.mark.conformance(19)
@pytest.mark.parametrize("size", [56, 4000], ids=["whole", "fragments"])
def test_echo(lab, family, size):
    """Two pods at once, and the node beside them."""
    protocol = socket.IPPROTO_ICMPV6 if family == IPV6 else socket.IPPROTO_ICMP
    with Tap(lab, "outside") as tap:
        for host in ("pod-a1", "pod-a2", "node-a"):
            for identifier in (1234, 1234):
                done = lab.exec(host, "ping", "-n", "-c", "2", "-i", "0.01", "-W", "2", "-s", str(size), "-e", str(identifier),
                                address("outside", family))
                assert "2 received" in done.stdout, done.stdout
        frames = [f for f in tap.frames() if network(f) and network(f)[1] == protocol and f[network(f)[2]] in (8, 128)]
    if size < 1000:  # fragments do not all say what they are
        assert len(frames) == 12
        assert all(sent_by(f, address("node-a", family)) for f in frames)


def test_services_are_as_ever(lab, protocol, family):
    """Also past a bridge, where the endpoint's answer need not come by the node."""
    seen = set()
    for _ in range(40):
        answer = lab.ask("pod-a1", protocol, manifests.service_address(30, family), 80)
        assert answer.client == address("pod-a1", family) or answer.pod == "pod-a1"
        seen.add(answer.pod)
    assert seen == set(manifests.WEB_PODS)
    assert lab.ask("pod-a1", protocol, manifests.service_address(31, family), 80).client == address("node-a", family)


@pytest.mark.conformance(19)
def test_the_own_port_is_kept_where_it_is_free(kubenet, protocol, family):
    where = address("outside", family), PORT
    with contextlib.ExitStack() as stack:
        connections, ports = [], []
        for host in ("pod-a1", "pod-a2", "node-a"):  # the node's own socket comes last, and knows nothing of theirs
            connections.append(stack.enter_context(kubenet.connect(host, protocol, *where, source_port=45001)))
            ports.append(connections[-1].ask().port)
        assert ports[0] == 45001
        assert len(set(ports)) == 3, "replies would be mixed up"
        for connection, port in zip(connections, ports):
            assert connection.ask().port == port
        ranges = kubenet.maglane("node-a", "masquerade", "show")["ports"]
    for port in ports[1:]:
        assert any(r["first"] <= port <= r["last"] for r in ranges)


def test_ports_of_the_range_are_the_nodes_own_no_more(kubenet):
    local = kubenet.exec("node-a", "sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split()
    for one in kubenet.maglane("node-a", "masquerade", "show")["ports"]:
        for first, last in (map(int, local), (30000, 32767)):
            assert one["last"] < first or last < one["first"]


@pytest.mark.conformance(19)
def test_errors_reach_the_pod_and_the_host_outside(kubenet, family):
    with kubenet.socket("outside", family, socket.SOCK_DGRAM) as there:
        there.bind(("", 0))
        closed = there.getsockname()[1] ^ 1
        with kubenet.connect("pod-a1", "UDP", address("outside", family), closed) as connection:
            connection.sock.send(b"hello")
            select.select([connection.sock], [], [], 2.0)
            assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        with kubenet.connect("pod-a1", "UDP", address("outside", family), there.getsockname()[1]) as connection:
            connection.sock.send(b"hello")
            there.settimeout(2.0)
            there.connect(there.recvfrom(100)[1][:2])
        there.send(b"too late")
        select.select([there], [], [], 2.0)
        assert there.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


@pytest.mark.conformance(19)
def test_sctp(lab, family):
    """Raw: two pods of one port, each with a right checksum there and back."""
    target, node = address("outside", family), socket.inet_pton(family, address("node-a", family))
    with Tap(lab, "outside") as there, lab.socket("outside", family, socket.SOCK_RAW, IPPROTO_SCTP) as server:
        seen_ports = set()
        for pod in ("pod-a1", "pod-a2"):
            with Tap(lab, pod) as here, lab.socket(pod, family, socket.SOCK_RAW, IPPROTO_SCTP) as client:
                client.sendto(sctp_packet(45100, 5000, bytes([1, 0, 0, 20]) + bytes(16)), (target, 0))  # INIT
                source, (port, _), right = sctp_seen(there)
                assert source == node and right
                seen_ports.add(port)
                server.sendto(sctp_packet(5000, port, bytes([2, 0, 0, 24]) + bytes(20)), (address("node-a", family), 0))
                assert sctp_seen(here) == (socket.inet_pton(family, target), (5000, 45100), True)
        assert 45100 in seen_ports and len(seen_ports) == 2


def test_the_node_tells_who_was_too_far(kubenet):
    done = kubenet.exec("pod-a1", "ping", "-n", "-c", "1", "-W", "2", "-t", "1", address("outside", socket.AF_INET), check=False)
    assert "Time to live exceeded" in done.stdout, done.stdout


@pytest.mark.conformance(19)
def test_datagrams_in_fragments(kubenet, family):
    data = os.urandom(5000)
    with kubenet.connect("pod-a1", "UDP", address("outside", family), PORT) as connection:
        connection.sock.send(data)
        answer = connection.sock.recv(65535)
    assert answer.split()[1].decode() == address("node-a", family)
    assert answer.endswith(data)


def large_ones(lab):
    """Packets and bytes that tc has sent on."""
    counters = [c for c in lab.maglane("node-a", "stats").get("counters", [])
                if c["hook"] == "tc" and c["reason"] == "redirected"]
    return sum(c["packets"] for c in counters), sum(c["bytes"] for c in counters)


def test_large_packets_stay_large(kubenet, family):
    """What a device has put together is sent on as it is."""
    before = large_ones(kubenet)
    body = os.urandom(4 << 20)
    with kubenet.connect("pod-a1", "TCP", address("outside", family), PORT, timeout=20) as connection:
        assert connection.http("POST", "/", body).decode().split() == ["outside", hashlib.sha256(body).hexdigest()]
        assert len(connection.http("GET", "/download?bytes=8000000")) == 8000000
    packets, size = (after - earlier for after, earlier in zip(large_ones(kubenet), before))
    assert size / packets > 2 * 1514, f"{packets} packets of {size} bytes"


@pytest.mark.conformance(19)
def test_the_list_is_followed_as_it_changes(shapes):
    one = shapes("azure-cni")
    lab = one.run("custom")
    client, pod = address("client", socket.AF_INET), address("pod-a1", socket.AF_INET)

    def seen():
        return lab.ask("pod-a1", "TCP", client, PORT).client
    assert seen() == address("node-a", socket.AF_INET)
    try:
        one.masq_config.write_text(MASQ_CONFIG + "- 192.168.100.8/29\n")
        eventually(lambda: seen() == pod, 5, "the new list is in force")
        one.masq_config.write_text("nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- nonsense\n")
        problem = eventually(lambda: [p for p in lab.maglane("node-a", "status").get("problems", [])
                                      if p["where"] == "--masq-config"], 5, "the fault is told")[0]
        assert f"{one.masq_config}:3: " in problem["message"]
        assert f"{one.masq_config}:3: " in lab.agent_log("node-a")
        assert seen() == pod, "the last good list stays in force"
        fresh = one.masq_config.with_suffix(".new")
        fresh.write_text(MASQ_CONFIG)
        fresh.rename(one.masq_config)
        eventually(lambda: seen() == address("node-a", socket.AF_INET), 5, "the old list is in force again")
        assert not lab.maglane("node-a", "status").get("problems")
    finally:
        one.masq_config.write_text(MASQ_CONFIG)


def test_a_wrong_list_ends_the_start(shapes, tmp_path):
    lab = shapes("kubenet").lab
    wrong = tmp_path / "wrong"
    wrong.write_text("masqLinkLocal: perhaps\n")
    done = lab.exec("node-b", "maglane-agent", "--manifests", tmp_path, "--network-model", "custom", "--masq-config", wrong,
                    "--bpffs", lab.bpffs / "wrong", "--socket", tmp_path / "socket", check=False)
    assert done.returncode == 1
    assert f"--masq-config: {wrong}:1: masqLinkLocal: is neither true nor false" in done.stderr


@pytest.mark.conformance(19)
def test_no_port_is_left(shapes):
    """A drop with a name, a line in the log that says towards whom, and all of it shown."""
    lab = shapes("kubenet").run("kubenet", "--snat-ports", "20000-20002")
    where = address("outside", socket.AF_INET), PORT
    with contextlib.ExitStack() as stack:
        def open_from(pod, port):
            return stack.enter_context(lab.connect(pod, "UDP", *where, timeout=0.3, source_port=port))
        ports = {open_from("pod-a1", 46000 + n).ask().port for n in range(4)}
        assert ports == {46000, 46001, 46002, 46003}
        ports = {open_from("pod-a2", 46000 + n).ask().port for n in range(3)}
        assert ports == {20000, 20001, 20002}
        with pytest.raises(TimeoutError):
            open_from("pod-a2", 46003).ask()
        dropped = [c for c in lab.maglane("node-a", "stats")["counters"] if c["reason"] == "no_source_port"]
        assert dropped[0]["verdict"] == "drop" and dropped[0]["packets"] >= 1
        line = eventually(lambda: re.search(r"no free source port towards (\S+ \S+) from (\S+):", lab.agent_log("node-a")), 10,
                          "a line in the log")
        assert line[1] == f"UDP {where[0]}:{PORT}" and line[2] == address("node-a", socket.AF_INET)
        info = lab.maglane("node-a", "masquerade", "show")
        assert info["model"] == "kubenet" and info["rangePorts"] == 3
        assert info["dropped"] >= 1
        assert {"device": "eth0", "ipv4": address("node-a", socket.AF_INET), "ipv6": address("node-a", IPV6)} in info["addresses"]
        full = info["remotes"][0]
        assert (full["protocol"], full["address"], full["port"]) == ("UDP", where[0], PORT)
        assert full["rangePortsUsed"] == 3 and full["rangeUsed"] == 1 and full["connections"] == 7 and full["dropped"] >= 1
        assert "10.244.0.0/16" in info["notMasqueraded"]
        text = lab.exec("node-a", "maglane", "masquerade", "show").stdout
        assert re.search(r"UDP +203\.0\.113\.10:8080 .*100\.0%", text), text


@pytest.mark.conformance(19)
def test_connections_go_on_without_the_agent(kubenet, family):
    with kubenet.connect("pod-a1", "TCP", address("outside", family), PORT) as connection:
        before = connection.ask()
        kubenet.command("agent", "node-a", "kill")
        try:
            assert connection.ask() == before
            assert kubenet.ask("pod-a1", "TCP", address("outside", family), PORT).client == address("node-a", family)
        finally:
            kubenet.command("agent", "node-a", "start")
        assert connection.ask() == before


def test_every_node_is_told_of_in_time(kubenet):
    for node in NODES:
        info = kubenet.maglane(node, "masquerade", "show")
        assert f"{address('node-a', socket.AF_INET)}/32" in info["notMasqueraded"]
