# SPDX-License-Identifier: Apache-2.0
"""What a service asks of its clients, with real traffic: the service contract's points by number."""
import contextlib
import json
import math
import socket
import time

import pytest

from conftest import ONLY
from lab import IPV4, IPV6, NODES, Load, address, eventually
from manifests import WEB_PODS, service, service_address
from test_changes import wait_for_endpoints, wait_for_service

# What is tested here does not depend on how XDP is attached.
pytestmark = pytest.mark.any_mode

NUMBER, NODE_PORT = 60, 31060
BALANCER = {IPV4: "203.0.113.60", IPV6: "2001:db8:60::60"}


def changed(objects, spec=None, balancer=False, metadata=None, status=None):
    """A service as manifests.service makes it, with more in its spec."""
    first = objects[0]
    first["spec"] |= spec or {}
    first["metadata"] |= metadata or {}
    if balancer:
        first["spec"]["type"] = "LoadBalancer"
        first["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCER.values()]}}
    if status:
        first["status"] = status
    return objects


def frontends(lab, node, name):
    listed = [s for s in lab.maglane(node, "service", "list").get("services", []) if s["name"] == name]
    return {(f["type"], f["address"], f["port"], f["protocol"]): f
            for s in listed for f in s.get("frontends", [])}


@pytest.fixture
def put(lab, directory):
    """Puts a service in place on both nodes, whole; all are taken away afterwards."""
    names = set()

    def in_place(name, objects, timeout=5):
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        before = {node: lab.maglane(node, "status").get("updates", 0) for node in NODES}
        directory.rename_over(f"{name}.json", text)
        names.add(name)
        for node in NODES:
            eventually(lambda: lab.maglane(node, "status").get("updates", 0) > before[node], timeout, name)
    yield in_place
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            directory.remove(f"{name}.json")
    for name in names:
        wait_for_service(lab, name, False)


@pytest.fixture
def towards_node_a(lab):
    """The client reaches the load balancer's addresses through node-a."""
    for family, target in BALANCER.items():
        option = ["-6"] if family == IPV6 else []
        lab.exec("client", "ip", *option, "route", "replace", target, "via", address("node-a", family))
    yield
    for family, target in BALANCER.items():
        option = ["-6"] if family == IPV6 else []
        lab.exec("client", "ip", *option, "route", "del", target)


def silent(lab, host, protocol, target, port):
    """No answer, and no refusal either."""
    with pytest.raises(TimeoutError):
        lab.ask(host, protocol, target, port, timeout=0.5)


# ---- frontends: 20, 21, 24, and two services at one address ------------------------------------

def test_point21_load_balancer_and_external_addresses(lab, put, towards_node_a, protocol, family):
    external = {IPV4: "203.0.113.61", IPV6: "2001:db8:60::61"}
    put("policy", changed(service("policy", NUMBER, ["pod-a1", "pod-b1"], NODE_PORT),
                          {"externalIPs": list(external.values())}, balancer=True))
    seen = {lab.ask("client", protocol, BALANCER[family], 80).pod for _ in range(30)}
    assert seen == {"pod-a1", "pod-b1"}
    assert {lab.ask("pod-a2", protocol, external[family], 80).pod for _ in range(30)} == {"pod-a1", "pod-b1"}


@pytest.mark.any_mode
def test_point21_ip_mode_proxy_is_no_frontend(lab, put):
    put("policy", changed(service("policy", NUMBER, ["pod-a1"], NODE_PORT), balancer=True, status={
        "loadBalancer": {"ingress": [{"ip": BALANCER[IPV4], "ipMode": "Proxy"}, {"hostname": "lb.example.org"}]}}))
    assert {f[0] for f in frontends(lab, "node-a", "policy")} == {"cluster-ip", "node-port"}


@pytest.mark.any_mode
def test_two_services_at_one_address(lab, put):
    """The older keeps it; the other is named in the log, in status and as an event."""
    def at(name, number, created, pod):
        return changed(service(name, number, [pod]), {"externalIPs": [BALANCER[IPV4]]},
                       metadata={"creationTimestamp": created})
    put("younger", at("younger", 61, "2026-02-01T00:00:00Z", "pod-a1"))
    assert lab.ask("pod-a2", "TCP", BALANCER[IPV4], 80).pod == "pod-a1"
    put("elder", at("elder", 62, "2026-01-01T00:00:00Z", "pod-b1"))
    assert lab.ask("pod-a2", "TCP", BALANCER[IPV4], 80).pod == "pod-b1"
    status = lab.maglane("node-a", "status")
    assert [p for p in status["problems"] if p["where"] == "Service test/younger" and BALANCER[IPV4] in p["message"]]
    events = [e for e in status["events"] if e["reason"] == "AddressConflict"]
    assert {(e["kind"], e["namespace"], e["name"], e["type"]) for e in events} == {
        ("Service", "test", "younger", "Warning")}
    assert f"Service test/younger: port \"tcp\" is not served on {BALANCER[IPV4]}:80 TCP" in lab.agent_log("node-a")
    put("elder", service("elder", 62, ["pod-b1"]))
    assert lab.ask("pod-a2", "TCP", BALANCER[IPV4], 80).pod == "pod-a1"
    assert not lab.maglane("node-a", "status").get("events")


# ---- policies: 8, 12, 16 -------------------------------------------------------------------------

def test_point16_external_policy_local(lab, put, towards_node_a, protocol, family):
    put("policy", changed(service("policy", NUMBER, ["pod-a1", "pod-b1"], NODE_PORT),
                          {"externalTrafficPolicy": "Local"}, balancer=True))
    for target, port in ((BALANCER[family], 80), (address("node-a", family), NODE_PORT)):
        answers = [lab.ask("client", protocol, target, port) for _ in range(10)]
        assert {(a.pod, a.client) for a in answers} == {("pod-a1", address("client", family))}
    # A pod of this node gets all of them, under its own address.
    answers = [lab.ask("pod-a2", protocol, BALANCER[family], 80) for _ in range(30)]
    assert {(a.pod, a.client) for a in answers} == {
        (pod, address("pod-a2", family)) for pod in ("pod-a1", "pod-b1")}
    # One of another node that asks for this node's port gets an answer too.
    answers = [lab.ask("pod-b2", protocol, address("node-a", family), NODE_PORT) for _ in range(30)]
    assert {a.pod for a in answers} == {"pod-a1", "pod-b1"}


def test_point12_external_policy_local_without_endpoint_here(lab, put, protocol, family):
    put("policy", changed(service("policy", NUMBER, ["pod-b1"], NODE_PORT), {"externalTrafficPolicy": "Local"}))
    silent(lab, "client", protocol, address("node-a", family), NODE_PORT)
    assert lab.ask("client", protocol, address("node-b", family), NODE_PORT).pod == "pod-b1"
    assert lab.ask("pod-a1", protocol, service_address(NUMBER, family), 80).pod == "pod-b1"


def test_point12_internal_policy_local(lab, put, protocol, family):
    put("policy", changed(service("policy", NUMBER, ["pod-b1"], NODE_PORT), {"internalTrafficPolicy": "Local"}))
    silent(lab, "pod-a1", protocol, service_address(NUMBER, family), 80)
    assert lab.ask("pod-b2", protocol, service_address(NUMBER, family), 80).pod == "pod-b1"
    assert lab.ask("client", protocol, address("node-a", family), NODE_PORT).pod == "pod-b1"


@pytest.mark.any_mode
def test_point07_terminating_endpoints_serve_when_no_other_does(lab, put, family):
    objects = service("policy", NUMBER, ["pod-a1", "pod-a2"], NODE_PORT)
    for piece in objects[1:]:
        piece["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    put("policy", objects)
    assert {lab.ask("client", "TCP", address("node-a", family), NODE_PORT).pod for _ in range(10)} == {"pod-a2"}
    for piece in objects[1:]:
        piece["endpoints"][1]["conditions"] = {"ready": False, "serving": False, "terminating": True}
    put("policy", objects)
    assert {lab.ask("client", "TCP", address("node-a", family), NODE_PORT).pod for _ in range(10)} == {"pod-a1"}


@pytest.mark.any_mode
def test_point09_topology_hints(lab, put, family):
    objects = service("policy", NUMBER, ["pod-a1", "pod-b1"])
    for piece in objects[1:]:
        for endpoint in piece["endpoints"]:
            endpoint["hints"] = {"forNodes": [{"name": endpoint["nodeName"]}]}
    put("policy", objects)
    for pod, other in (("pod-a2", "pod-a1"), ("pod-b2", "pod-b1")):
        assert {lab.ask(pod, "TCP", service_address(NUMBER, family), 80).pod for _ in range(10)} == {other}


# ---- source ranges: 22 -------------------------------------------------------------------------------

def test_point22_source_ranges(lab, put, towards_node_a, protocol, family):
    width = 128 if family == IPV6 else 32
    allowed = [f" {address('client', family)}/{width} "]
    both = service("policy", NUMBER, ["pod-a1"], NODE_PORT)
    put("policy", changed(both, {"loadBalancerSourceRanges": allowed}, balancer=True))
    assert lab.ask("client", protocol, BALANCER[family], 80).pod == "pod-a1"
    silent(lab, "pod-a2", protocol, BALANCER[family], 80)
    assert lab.ask("pod-a2", protocol, service_address(NUMBER, family), 80).pod == "pod-a1"
    assert lab.ask("pod-a2", protocol, address("node-a", family), NODE_PORT).pod == "pod-a1"
    # A range of only this family denies the other.
    other = IPV4 if family == IPV6 else IPV6
    silent(lab, "client", protocol, BALANCER[other], 80)
    # What is open stays open; what is new is denied, and counted.
    with lab.connect("client", "TCP", BALANCER[family], 80) as connection:
        connection.ask()
        put("policy", changed(both, {"loadBalancerSourceRanges": [f"{address('pod-a2', family)}/{width}"]},
                              balancer=True))
        assert connection.ask().pod == "pod-a1"
    silent(lab, "client", "TCP", BALANCER[family], 80)
    counters = lab.maglane("node-a", "stats")["counters"]
    assert sum(c["packets"] for c in counters if c["reason"] == "source_range") > 0
    assert lab.ask("pod-a2", "TCP", BALANCER[family], 80).pod == "pod-a1"


# ---- affinity: 23, 31 -----------------------------------------------------------------------------------

def affine(pods, seconds=10800):
    return changed(service("policy", NUMBER, pods, NODE_PORT), {
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}})


def test_point23_session_affinity(lab, put, protocol, family):
    put("policy", affine(WEB_PODS))
    where = (("client", address("node-a", family), NODE_PORT), ("pod-a1", service_address(NUMBER, family), 80))
    chosen = {}
    for host, target, port in where:
        seen = {lab.ask(host, protocol, target, port).pod for _ in range(12)}
        assert len(seen) == 1
        chosen[host], = seen
    listed = lab.maglane("node-a", "affinity", "list")["clients"]
    mine = [c for c in listed if c["service"] == f"test/policy:{protocol.lower()}"
            and c["client"] == address("client", family)]
    assert [c["address"] for c in mine] == [address(chosen["client"], family)]
    # An endpoint that leaves is left; another that comes draws nobody.
    rest = [pod for pod in WEB_PODS if pod != chosen["client"]]
    put("policy", affine(rest))
    second, = {lab.ask("client", protocol, address("node-a", family), NODE_PORT).pod for _ in range(12)}
    assert second in rest
    put("policy", affine(WEB_PODS))
    assert {lab.ask("client", protocol, address("node-a", family), NODE_PORT).pod for _ in range(12)} == {second}


@pytest.mark.any_mode
def test_point23_affinity_survives_the_agent(lab, put, family):
    put("policy", affine(WEB_PODS))
    first = lab.ask("client", "TCP", address("node-a", family), NODE_PORT).pod
    for how in ("kill", "stop"):
        lab.command("agent", "node-a", how)
        try:
            assert {lab.ask("client", "TCP", address("node-a", family), NODE_PORT).pod for _ in range(8)} == {first}
        finally:
            lab.command("agent", "node-a", "start")
        assert {lab.ask("client", "TCP", address("node-a", family), NODE_PORT).pod for _ in range(8)} == {first}


@pytest.mark.any_mode
def test_point23_affinity_is_over_after_its_time(lab, put):
    where = address("node-a", IPV4), NODE_PORT
    put("policy", affine(WEB_PODS))
    began = time.monotonic()
    lab.ask("client", "TCP", *where)
    seconds = 1 + math.ceil(3 * (time.monotonic() - began))  # an emulated machine asks slowly
    put("policy", affine(WEB_PODS, seconds=seconds))
    seen = set()
    for _ in range(12):
        pod = lab.ask("client", "TCP", *where).pod
        assert lab.ask("client", "TCP", *where).pod == pod
        seen.add(pod)
        time.sleep(seconds + 1.1)
        if len(seen) > 1:
            break
    assert len(seen) > 1


# ---- what the inspector says of both ------------------------------------------------------------------------

def test_service_show_tells_affinity_and_source_ranges(lab, put):
    put("policy", changed(affine(["pod-a1"], seconds=300), {
        "loadBalancerSourceRanges": ["198.51.100.0/24", "10.0.0.0/8"]}, balancer=True))

    def shown():
        services = lab.maglane("node-a", "service", "show", "test/policy:tcp")["services"]
        return {(s["family"], f["type"]): (f["affinitySeconds"], f["limited"], f["sourceRanges"])
                for s in services for f in s["frontends"]}
    expected = {(family, kind): (300, False, []) for family in ("IPv4", "IPv6") for kind in ("cluster-ip", "node-port")}
    expected |= {("IPv4", "load-balancer"): (300, True, ["10.0.0.0/8", "198.51.100.0/24"]),
                 ("IPv6", "load-balancer"): (300, True, [])}
    assert shown() == expected
    lab.command("agent", "node-a", "kill")
    try:
        assert shown() == expected
        text = lab.exec("node-a", "maglane", "service", "show", "test/policy:tcp").stdout
        assert "5m00s  10.0.0.0/8, 198.51.100.0/24\n" in text and "5m00s  nobody\n" in text
    finally:
        lab.command("agent", "node-a", "start")


# ---- datagrams: 26 ------------------------------------------------------------------------------------------

def test_point26_datagrams_leave_an_endpoint_that_is_gone(lab, put, family):
    put("policy", service("policy", NUMBER, ["pod-b1"], NODE_PORT))
    hosts = (("client", address("node-a", family), NODE_PORT), ("pod-a1", service_address(NUMBER, family), 80))
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(lab.connect(host, "UDP", target, port)) for host, target, port in hosts]
        tcp = stack.enter_context(lab.connect("client", "TCP", address("node-a", family), NODE_PORT))
        assert {c.ask().pod for c in (*opened, tcp)} == {"pod-b1"}
        put("policy", service("policy", NUMBER, ["pod-a2"], NODE_PORT))
        assert {c.ask().pod for c in opened} == {"pod-a2"}  # the same socket, the same port
        assert tcp.ask().pod == "pod-b1"


@pytest.mark.any_mode
def test_point26_datagrams_stay_with_an_endpoint_that_still_serves(lab, put, family):
    objects = service("policy", NUMBER, ["pod-b1", "pod-b2"], NODE_PORT)
    put("policy", objects)
    with lab.connect("client", "UDP", address("node-a", family), NODE_PORT) as connection:
        pod = connection.ask().pod
        for state, expected in (({"ready": False, "serving": True, "terminating": True}, [pod]),
                                ({"ready": False, "serving": False, "terminating": True}, ["pod-b1", "pod-b2"])):
            for piece in objects[1:]:
                piece["endpoints"][int(pod[-1]) - 1]["conditions"] = state
            put("policy", objects)
            now = connection.ask().pod
            assert now in expected and (state["serving"] or now != pod)


@pytest.mark.any_mode
def test_point26_learnt_by_an_agent_that_was_away(lab, put, directory, family):
    put("policy", service("policy", NUMBER, ["pod-b1"], NODE_PORT))
    with lab.connect("client", "UDP", address("node-a", family), NODE_PORT) as connection:
        assert connection.ask().pod == "pod-b1"
        lab.command("agent", "node-a", "kill")
        try:
            directory.rename_over("policy.json", service("policy", NUMBER, ["pod-a2"], NODE_PORT))
            assert connection.ask().pod == "pod-b1"
        finally:
            lab.command("agent", "node-a", "start")
        assert connection.ask().pod == "pod-a2"


@pytest.mark.any_mode
def test_point26_a_socket_that_began_without_endpoints(lab, put, family):
    put("policy", service("policy", NUMBER, [], NODE_PORT))
    with lab.connect("client", "UDP", address("node-a", family), NODE_PORT) as connection:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                connection.ask()
                connection.ask()
        put("policy", service("policy", NUMBER, ["pod-b1"], NODE_PORT))
        assert connection.ask().pod == "pod-b1"


# ---- endpoints in the node's own network ----------------------------------------------------------------------

@pytest.fixture
def node_server(lab):
    """The pods' server, in the network of node-a itself."""
    import subprocess
    from lab import ROOT
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/{lab.name}-node-a", ROOT / "tools/lab.d/pod-server.py",
                                "node-a"])
    try:
        eventually(lambda: lab.exec("node-a", "curl", "-sf", "http://127.0.0.1:8080/", check=False).returncode == 0)
        yield
    finally:
        process.kill()
        process.wait()


def on_node_a(objects):
    for index, piece in enumerate(objects[1:]):
        piece["endpoints"] = [{"addresses": [address("node-a", (IPV4, IPV6)[index])], "nodeName": "node-a",
                               "conditions": {"ready": True}}]
    return objects


def test_endpoint_in_the_network_of_this_node_and_of_another(lab, put, node_server, protocol, family):
    put("policy", on_node_a(service("policy", NUMBER, [], NODE_PORT)))
    for host in ("client", "pod-a1", "pod-b1"):
        for node in NODES:
            with lab.connect(host, protocol, address(node, family), NODE_PORT) as connection:
                for _ in range(3):
                    assert connection.ask().pod == "node-a"
    for host in ("pod-a1", "pod-b1"):
        answer = lab.ask(host, protocol, service_address(NUMBER, family), 80)
        assert (answer.pod, answer.client) == ("node-a", address(host, family))
    answer = lab.ask("client", protocol, address("node-a", family), NODE_PORT)
    assert answer.client == address("client", family)


def test_bulk_from_an_endpoint_in_the_nodes_network(lab, put, node_server, family):
    put("policy", on_node_a(service("policy", NUMBER, [], NODE_PORT)))
    for host, target, port in (("client", address("node-a", family), NODE_PORT),
                               ("pod-a1", service_address(NUMBER, family), 80)):
        with lab.connect(host, "TCP", target, port, timeout=20) as connection:
            down = connection.http("GET", "/download?bytes=3000000")
            assert down == (bytes(range(251)) * (3000000 // 251 + 1))[:3000000]


# ---- changes under load: 25 ---------------------------------------------------------------------------------------

@pytest.mark.any_mode
def test_point25_types_change_while_other_services_carry_on(lab, put, family):
    other = Load([lab.connect(host, p, *where) for p in ("TCP", "UDP") for host, where in (
        ("client", (address("node-a", family), ONLY["pod-b1"][1])),
        ("pod-a1", (service_address(ONLY["pod-b2"][0], family), 80)))])
    kinds = {
        "ClusterIP": {"type": "ClusterIP"}, "NodePort": {"type": "NodePort"}, "LoadBalancer": {"type": "LoadBalancer"},
        "ExternalName": {"type": "ExternalName", "externalName": "example.org"}}
    try:
        order = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "LoadBalancer", "ClusterIP", "ExternalName",
                 "NodePort", "ExternalName", "ClusterIP", "LoadBalancer", "NodePort", "ClusterIP"]
        for kind in order:
            put("policy", changed(service("policy", NUMBER, WEB_PODS, NODE_PORT), kinds[kind]))
            types = {f[0] for f in frontends(lab, "node-a", "policy")}
            assert types == {"ClusterIP": {"cluster-ip"}, "NodePort": {"cluster-ip", "node-port"},
                             "LoadBalancer": {"cluster-ip", "node-port"}, "ExternalName": set()}[kind]
            other.goes_on(1)
    finally:
        other.stop()
