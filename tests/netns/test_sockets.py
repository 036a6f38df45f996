# SPDX-License-Identifier: Apache-2.0
"""What the node itself, and pods in its network, reach: the hooks at sockets choose the endpoint."""
import errno
import socket
import time

import pytest

import manifests
from conftest import ONLY, VOID, WEB
from lab import IPV4, IPV6, NODES, address, eventually
from manifests import WEB_PODS, service_address

LOCAL = (45, 31045)  # a service of pod-b1 with policy Local for everything, on external addresses too
MOVING = 46         # a service whose endpoint changes
pytestmark = pytest.mark.any_mode


def external_address(family):
    return "fd00:10:77::45" if family == IPV6 else "198.51.100.45"


def balancer_address(family):
    return "fd00:10:77::46" if family == IPV6 else "198.51.100.46"


@pytest.fixture(scope="module")
def local(lab, directory):
    """Policy Local, inside and outside, and no endpoint on node-a."""
    objects = manifests.service("local", LOCAL[0], ["pod-b1"], LOCAL[1])
    spec = objects[0]["spec"]
    spec |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
             "externalIPs": [external_address(IPV4), external_address(IPV6)]}
    objects[0]["status"] = {"loadBalancer": {"ingress": [{"ip": balancer_address(f)} for f in (IPV4, IPV6)]}}
    directory.write("local.json", objects)
    for node in NODES:
        eventually(lambda: any(s["name"] == "local" for s in lab.maglane(node, "service", "list")["services"]))
    yield
    directory.remove("local.json")


def mapped(host, family):
    return f"::ffff:{host}" if family == IPV4 else host


def open_socket(lab, protocol, family=IPV4, host="node-a", timeout=3):
    sock = lab.socket(host, family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
    sock.settimeout(timeout)
    return sock


@pytest.mark.parametrize("pod", ["pod-a1", "pod-b1"])
def test_node_to_cluster_ip(lab, protocol, family, pod):
    answer = lab.ask("node-a", protocol, service_address(ONLY[pod][0], family), 80)
    assert (answer.pod, answer.client) == (pod, address("node-a", family))


@pytest.mark.parametrize("pod", ["pod-a1", "pod-b1"])
@pytest.mark.parametrize("node", NODES)
def test_node_to_node_port(lab, protocol, family, pod, node):
    assert lab.ask("node-a", protocol, address(node, family), ONLY[pod][1]).pod == pod


def test_node_to_external_frontends_has_all_endpoints(lab, protocol, family, local):
    for target in (external_address(family), balancer_address(family)):
        answer = lab.ask("node-a", protocol, target, 80)
        assert (answer.pod, answer.client) == ("pod-b1", address("node-a", family))
    assert lab.ask("node-a", protocol, address("node-a", family), LOCAL[1]).pod == "pod-b1"


def test_no_endpoint_here_and_policy_local_inside(lab, protocol, family, local):
    assert lab.ask("node-b", protocol, service_address(LOCAL[0], family), 80).pod == "pod-b1"
    with open_socket(lab, protocol, family) as sock, pytest.raises(OSError) as error:
        sock.connect((service_address(LOCAL[0], family), 80))
    assert error.value.errno == errno.EHOSTUNREACH


def test_ipv4_through_an_ipv6_socket(lab, protocol):
    """Addresses of the form ::ffff:a.b.c.d, connected, and for UDP by datagram as well."""
    target = (mapped(service_address(ONLY["pod-b1"][0], IPV4), IPV4), 80)
    answer = lab.ask("node-a", protocol, *target)
    assert (answer.pod, answer.client) in {("pod-b1", address("node-a", IPV4)),
                                           ("pod-b1", mapped(address("node-a", IPV4), IPV4))}
    with open_socket(lab, protocol, IPV6) as sock:
        sock.connect(target)
        assert sock.getpeername()[:2] == target
    if protocol == "UDP":
        with open_socket(lab, protocol, IPV6) as sock:
            sock.sendto(b"hello", target)
            text, sender = sock.recvfrom(2048)
            assert text.startswith(b"pod-b1 ") and sender[:2] == target


@pytest.mark.parametrize("target", [lambda f: (service_address(WEB[0], f), 80),
                                    lambda f: (address("node-a", f), WEB[1])], ids=["cluster", "node-port"])
def test_the_program_sees_the_frontend(lab, protocol, family, target):
    with open_socket(lab, protocol, family) as sock:
        sock.connect(target(family))
        assert sock.getpeername()[:2] == target(family)
        if protocol == "UDP":
            sock.send(b"hello")
            assert sock.recvfrom(2048)[1][:2] == target(family)


def test_datagrams_without_connection(lab, family):
    """One socket, several frontends: each answer comes from whom it was asked of."""
    targets = [(service_address(ONLY[pod][0], family), 80) for pod in ONLY] + [
        (address("pod-b2", family), 8080)]
    with open_socket(lab, "UDP", family) as sock:
        for target in targets * 3:
            sock.sendto(b"hello", target)
            assert sock.recvfrom(2048)[1][:2] == target


def test_datagrams_of_one_socket_stay_together(lab, family):
    def pods(sock, count):
        found = set()
        for _ in range(count):
            sock.sendto(b"hello", (service_address(WEB[0], family), 80))
            found.add(sock.recv(2048).split()[0].decode())
        return found
    used = set()
    for _ in range(30):
        with open_socket(lab, "UDP", family) as sock:
            found = pods(sock, 5)
            assert len(found) == 1
            used |= found
    assert used == set(WEB_PODS)


def test_connections_are_spread(lab, protocol, family):
    assert {lab.ask("node-a", protocol, service_address(WEB[0], family), 80).pod
            for _ in range(40)} == set(WEB_PODS)


@pytest.mark.parametrize("protocol, connected", [("TCP", True), ("UDP", True), ("UDP", False)],
                         ids=["TCP-connect", "UDP-connect", "UDP-sendto"])
@pytest.mark.parametrize("target, error", [
    (lambda f: (service_address(VOID[0], f), 80), errno.ECONNREFUSED),
    (lambda f: (address("node-a", f), VOID[1]), errno.ECONNREFUSED),
    (lambda f: (service_address(WEB[0], f), 81), errno.ECONNREFUSED),
    (lambda f: (service_address(250, f), 80), errno.EHOSTUNREACH),
], ids=["no-endpoint", "no-endpoint-node-port", "unused-port", "unused-address"])
def test_refusals_come_at_once(lab, protocol, family, target, error, connected):
    with open_socket(lab, protocol, family) as sock:
        begin = time.monotonic()
        with pytest.raises(OSError) as raised:
            sock.connect(target(family)) if connected else sock.sendto(b"hello", target(family))
        assert raised.value.errno == error
        assert time.monotonic() - begin < 0.2


def test_resolvers_may_ask_for_their_own_address(lab, family):
    """getaddrinfo(3) connects a datagram socket to port 0 of each address, to sort them."""
    with open_socket(lab, "UDP", family) as sock:
        sock.connect((service_address(WEB[0], family), 0))


def test_loopback_is_no_node_port(lab, protocol, family):
    with open_socket(lab, protocol, family, timeout=1) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("::1" if family == IPV6 else "127.0.0.1", WEB[1]))
        sock.send(b"hello")
        sock.recv(100)


def test_a_socket_that_goes_elsewhere_is_not_taken_for_the_services(lab, family):
    """A datagram socket that was connected to a frontend, then to its endpoint itself."""
    with open_socket(lab, "UDP", family) as sock:
        sock.connect((service_address(ONLY["pod-b1"][0], family), 80))
        sock.connect((address("pod-b1", family), 8080))
        assert sock.getpeername()[:2] == (address("pod-b1", family), 8080)


def test_goes_on_without_the_agent(lab, protocol, family):
    target = (service_address(WEB[0], family), 80)
    with lab.connect("node-a", protocol, *target) as before:
        first = before.ask()
        lab.command("agent", "node-a", "kill")
        try:
            assert before.ask() == first
            assert lab.ask("node-a", protocol, *target).pod in WEB_PODS
            assert before.sock.getpeername()[:2] == target
        finally:
            lab.command("agent", "node-a", "start")
        assert before.ask() == first
        assert before.sock.getpeername()[:2] == target


@pytest.mark.parametrize("host", ["client", "pod-a1", None])
def test_other_namespaces_are_left_alone(lab, protocol, family, host):
    """Whoever has an address of a service for itself, elsewhere on the machine, reaches itself: the
    client of the lab, and a pod; the machine's own programs go on as ever."""
    if host:
        target, port = service_address(WEB[0], family), 80
        lab.exec(host, "ip", "addr", "add", target, "dev", "lo", *(["nodad"] if family == IPV6 else []))
        # The kernel adds an IPv6 address first, and its route in a work queue.
        eventually(lambda: lab.exec(host, "ip", "route", "get", target, check=False).stdout.startswith("local"),
                   what="the address has its route")
    else:
        target, port = ("::1" if family == IPV6 else "127.0.0.1"), 0
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM

    def make():
        sock = lab.socket(host, family, kind) if host else socket.socket(family, kind)
        sock.settimeout(2)
        return sock
    try:
        with make() as server, make() as sock:
            server.bind((target, port))
            there = server.getsockname()[:2]
            if protocol == "TCP":
                server.listen()
            sock.connect(there)
            assert sock.getpeername()[:2] == there
            if protocol == "TCP":
                assert server.accept()[1][:2] == sock.getsockname()[:2]
            else:
                sock.send(b"hello")
                assert server.recvfrom(100)[1][:2] == sock.getsockname()[:2]
    finally:
        if host:
            lab.exec(host, "ip", "addr", "del", target, "dev", "lo")


def test_status_tells_where_the_hooks_are(lab):
    for node in NODES:
        found = [a for a in lab.maglane(node, "status")["attachments"] if a["role"] == "sockets"]
        assert [(a["hook"], a["mode"]) for a in found] == [("cgroup", "host")]


def test_the_inspector_lists_them(lab, protocol, family):
    target = (service_address(ONLY["pod-b1"][0], family), 80)
    with lab.connect("node-a", protocol, *target) as connection:
        connection.ask()
        cookie = int.from_bytes(connection.sock.getsockopt(socket.SOL_SOCKET, 57, 8), "little")  # SO_COOKIE

        def mine():
            return [s for s in lab.maglane("node-a", "socket", "list").get("sockets", [])
                    if s["cookie"] == f"{cookie:x}"]
        [listed] = mine()
        assert (listed["frontend"], listed["frontendPort"]) == target
        assert (listed["endpoint"], listed["endpointPort"]) == (address("pod-b1", family), 8080)
        assert listed["service"] == f"test/only-pod-b1:{protocol.lower()}" and listed["use"] == "connected"
    assert not mine()


def test_cleanup_takes_the_hooks_away(lab, family):
    lab.command("agent", "node-a", "stop")
    try:
        lab.exec("node-a", "maglane-agent", "--cleanup")
        with pytest.raises(OSError):
            lab.ask("node-a", "TCP", service_address(WEB[0], family), 80, timeout=0.5)
    finally:
        lab.command("agent", "node-a", "start")
    assert lab.ask("node-a", "TCP", service_address(WEB[0], family), 80).pod in WEB_PODS


@pytest.fixture
def moving(lab, directory):
    """A service of one pod; called, it changes to another."""
    def put(*pods):
        directory.write("moving.json", manifests.service("moving", MOVING, pods))
        wanted = {address(pod, family) for pod in pods for family in (IPV4, IPV6)}

        def in_force():
            return all({e["address"] for table in lab.maglane("node-a", "maglev", "show", f"test/moving:{port}")
                        .get("tables", []) for e in table.get("endpoints", [])} == wanted for port in ("tcp", "udp"))
        eventually(lambda: any(s["name"] == "moving" for s in lab.maglane("node-a", "service", "list")["services"])
                   and in_force(), 5, f"the service has {pods}")
    put("pod-b1")
    yield put
    directory.remove("moving.json")


def told_that_the_endpoint_is_gone(lab, host, family, moving):
    target = (service_address(MOVING, family), 80)
    moving("pod-b1")
    with lab.connect(host, "UDP", *target) as mine, \
            lab.connect(host, "UDP", address("pod-b1", family), 8080) as direct:
        assert mine.ask().pod == "pod-b1"
        moving("pod-b2")

        told = eventually(lambda: mine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 3, "the program is told")
        assert told == errno.ECONNABORTED
        with pytest.raises(OSError) as error:
            mine.sock.send(b"hello")
        assert error.value.errno == errno.EDESTADDRREQ
        mine.sock.connect(target)
        assert mine.ask().pod == "pod-b2"
        assert direct.ask().pod == "pod-b1", "no service was asked for it"


def test_a_connected_socket_is_told_that_its_endpoint_is_gone(lab, family, moving):
    told_that_the_endpoint_is_gone(lab, "node-a", family, moving)


def test_an_unconnected_socket_moves_on(lab, family, moving):
    target = (service_address(MOVING, family), 80)
    with open_socket(lab, "UDP", family) as sock:
        def pod():
            sock.sendto(b"hello", target)
            return sock.recv(2048).split()[0].decode()
        assert pod() == "pod-b1"
        moving("pod-b1", "pod-b2", "pod-a1")
        assert {pod() for _ in range(10)} == {"pod-b1"}, "as long as the endpoint serves"
        moving("pod-b2")
        assert pod() == "pod-b2"
        assert sock.getsockname()[1] != 0


@pytest.fixture(scope="module")
def all_sockets(lab):
    """node-a serves the sockets of its pods, too; node-b does not."""
    arguments = lab.run_directory / "node-a.agent.args"
    before = arguments.read_bytes()
    lab.command("agent", "node-a", "stop")
    arguments.write_bytes(before + b"--socket-translation\0all\0")
    try:
        lab.command("agent", "node-a", "start")
        yield
    finally:
        lab.command("agent", "node-a", "stop")
        arguments.write_bytes(before)
        lab.command("agent", "node-a", "start")


def forward_flows(lab, node, connection):
    return [flow for flow in lab.maglane(node, "flow", "list").get("flows", [])
            if flow["direction"] == "forward" and flow["original"]["sourcePort"] == connection.local[1]
            and flow["protocol"] == connection.protocol]


@pytest.mark.parametrize("pod", ["pod-a1", "pod-a2", "pod-b1"])
def test_all_serves_pods_without_a_flow(lab, all_sockets, protocol, family, pod):
    status = lab.maglane("node-a", "status")
    assert [a["mode"] for a in status["attachments"] if a["role"] == "sockets"] == ["all"]
    assert not [p for p in status.get("problems", []) if "--socket-translation" in p["where"]]
    for target in ((service_address(ONLY[pod][0], family), 80), (address("node-a", family), ONLY[pod][1])):
        with lab.connect("pod-a1", protocol, *target) as connection:
            answer = connection.ask()
            assert (answer.pod, answer.client) == (pod, address("pod-a1", family))
            assert connection.sock.getpeername()[:2] == target
            assert not forward_flows(lab, "node-a", connection)


def test_all_leaves_other_agents_pods_alone(lab, all_sockets, protocol, family):
    with lab.connect("pod-b2", protocol, service_address(ONLY["pod-b1"][0], family), 80) as connection:
        assert connection.ask().pod == "pod-b1"
        assert forward_flows(lab, "node-b", connection)


def test_all_leaves_refusals_to_the_packet_path(lab, all_sockets, family):
    def count(hook):
        return sum(c["packets"] for c in lab.maglane("node-a", "stats")["counters"]
                   if c["hook"] == hook and c["reason"] == "no_endpoint")
    before = count("tc"), count("socket")
    with pytest.raises(OSError):
        lab.ask("pod-a1", "TCP", service_address(VOID[0], family), 80, timeout=2)
    assert count("tc") > before[0] and count("socket") == before[1]


def test_all_tells_pods_that_an_endpoint_is_gone(lab, all_sockets, family, moving):
    told_that_the_endpoint_is_gone(lab, "pod-a1", family, moving)
