# SPDX-License-Identifier: Apache-2.0
"""Health checks and metrics over real HTTP: from the client, from pods and on the node itself."""
import contextlib
import http.client
import json
import re
import socket
import time

import pytest

from conftest import WEB
from lab import IPV4, IPV6, NODES, address, eventually
from manifests import service, service_address

BALANCED = (50, 31050)  # a load-balanced service of policy Local
CHECK_PORT = 31950


def get(lab, host, target, port, path="/", method="GET", timeout=3.0):
    """(status, headers, body) of one request."""
    sock = lab.socket(host, IPV6 if ":" in target else IPV4, socket.SOCK_STREAM)
    with contextlib.closing(sock):
        sock.settimeout(timeout)
        sock.connect((target, port))
        connection = http.client.HTTPConnection(target)
        connection.sock = sock
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()


def balanced(pods, port=CHECK_PORT, conditions=None):
    objects = service("balanced", BALANCED[0], pods, BALANCED[1])
    objects[0]["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
    for slices in objects[1:]:
        for endpoint in slices["endpoints"]:
            endpoint["conditions"] = conditions or {"ready": True}
    return objects


@pytest.fixture
def check(lab, directory):
    """Writes the service; waits until node-a answers for so many endpoints at the port."""
    def put(pods, count, port=CHECK_PORT, conditions=None):
        directory.write("balanced.json", balanced(pods, port, conditions))

        def answers(node, expected):
            with contextlib.suppress(OSError):
                found = json.loads(get(lab, "client", address(node, IPV4), port)[2])["localEndpoints"]
                return expected is None or found == expected
        for node, expected in (("node-a", count), ("node-b", None)):
            eventually(lambda node=node, expected=expected: answers(node, expected), 10,
                       f"{expected} endpoints at port {port} of {node}")
    yield put
    directory.remove("balanced.json")
    for node in NODES:
        eventually(lambda node=node: not listens(lab, node, CHECK_PORT), 10, "the port is closed")


def listens(lab, node, port):
    return bool(lab.exec(node, "ss", "-Hltn", f"sport = :{port}").stdout)


def metrics(lab, node):
    """{series: value}"""
    status, headers, text = get(lab, node, "127.0.0.1", 10249, "/metrics", timeout=10)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z0-9_]+(\{[^}]*\})? [-+.0-9eInfa]+', line) for line in lines)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.any_mode
@pytest.mark.parametrize("path", ["/", "/healthz", "/any/path?with=query"])
def test_point28_health_check_node_port(lab, check, family, path):
    check(["pod-a1", "pod-a2", "pod-b1"], 2)
    for node, count in (("node-a", 2), ("node-b", 1)):
        status, headers, body = get(lab, "client", address(node, family), CHECK_PORT, path)
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Load-Balancing-Endpoint-Weight"] == str(count)
        assert json.loads(body) == {"service": {"namespace": "test", "name": "balanced"}, "localEndpoints": count,
                                    "serviceProxyHealthy": True}


@pytest.mark.any_mode
def test_point28_endpoints_here_come_and_go(lab, check, family):
    check(["pod-a1", "pod-b1"], 1)
    assert get(lab, "client", address("node-a", family), CHECK_PORT)[0] == 200
    check(["pod-b1"], 0)
    status, headers, body = get(lab, "client", address("node-a", family), CHECK_PORT)
    assert status == 503 and headers["X-Load-Balancing-Endpoint-Weight"] == "0"
    assert json.loads(body)["serviceProxyHealthy"] is True
    assert get(lab, "client", address("node-b", family), CHECK_PORT)[0] == 200
    # Whoever terminates serves on, but is to get no new connections.
    check(["pod-a1"], 0, conditions={"ready": False, "serving": True, "terminating": True})
    assert get(lab, "client", address("node-a", family), CHECK_PORT)[0] == 503
    assert lab.ask("client", "TCP", address("node-a", family), BALANCED[1]).pod == "pod-a1"
    check(["pod-a1", "pod-a2"], 2)
    assert get(lab, "pod-b2", address("node-a", family), CHECK_PORT, method="HEAD")[0] == 200


@pytest.mark.any_mode
def test_point28_the_port_moves_with_the_service(lab, check):
    check(["pod-a1"], 1)
    check(["pod-a1"], 1, port=CHECK_PORT + 1)
    assert not listens(lab, "node-a", CHECK_PORT)
    check(["pod-a1"], 1)
    assert not listens(lab, "node-a", CHECK_PORT + 1)


@pytest.mark.any_mode
def test_point28_a_port_that_is_taken(lab, directory, check):
    with contextlib.closing(lab.socket("node-a", IPV4, socket.SOCK_STREAM)) as taken:
        taken.bind(("0.0.0.0", CHECK_PORT + 2))
        taken.listen()
        directory.write("balanced.json", balanced(["pod-a1"], CHECK_PORT + 2))
        told = eventually(lambda: [p for p in lab.maglane("node-a", "status").get("problems", [])
                                   if str(CHECK_PORT + 2) in p["message"]], 5, "the problem is told")
        assert told[0]["where"] == "Service test/balanced" and "Address already in use" in told[0]["message"]
        assert lab.agent_log("node-a").count(f"cannot listen on 0.0.0.0:{CHECK_PORT + 2}") == 1
        assert lab.ask("client", "TCP", address("node-a", IPV4), WEB[1]).pod
        assert get(lab, "client", address("node-b", IPV4), CHECK_PORT + 2)[0] == 503
    check(["pod-a1"], 1, port=CHECK_PORT + 2)


@pytest.mark.any_mode
@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_point29_probes(lab, family, path):
    for node in NODES:
        status, headers, body = get(lab, "client", address(node, family), 10256, path)
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        health = json.loads(body)
        assert health["healthy"] is True
        assert ("nodeEligible" in health) == (path == "/healthz") and health.get("nodeEligible", True) is True
        assert set(health["status"]) == {"IPv4", "IPv6"}
        assert all(family["healthy"] and family["lastUpdated"] for family in health["status"].values())
        now = time.time()
        for name in ("lastUpdated", "currentTime"):
            told = time.strptime(health[name][:19], "%Y-%m-%dT%H:%M:%S")
            assert abs(now - __import__("calendar").timegm(told)) < 5
    assert get(lab, "client", address("node-a", family), 10256, "/")[0] == 404


@pytest.mark.any_mode
def test_point29_a_node_that_is_to_be_deleted(lab, directory):
    nodes = (directory.path / "nodes.yaml").read_text()
    documents = [d for d in nodes.split("---") if "name: node-a" in d]
    assert len(documents) == 1
    tainted = documents[0].rstrip()
    spec = "spec:\n  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]"
    assert "taints" not in tainted
    tainted = tainted.replace("spec:", spec, 1) if "\nspec:" in tainted else tainted + "\n" + spec
    try:
        directory.write("nodes.yaml", nodes.replace(documents[0], tainted + "\n"))
        where = "client", address("node-a", IPV4), 10256
        eventually(lambda: get(lab, *where, "/healthz")[0] == 503, 5, "node-a is not eligible")
        assert json.loads(get(lab, *where, "/healthz")[2])["nodeEligible"] is False
        assert get(lab, *where, "/livez")[0] == 200
        assert get(lab, "client", address("node-b", IPV4), 10256, "/healthz")[0] == 200
        assert lab.maglane("node-a", "status")["health"]["proxy"]["nodeEligible"] is False
    finally:
        directory.write("nodes.yaml", nodes)
    eventually(lambda: get(lab, *where, "/healthz")[0] == 200, 5, "node-a is eligible again")


def series(name, labels):
    return f"{name}{{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}"


def test_point29_connections_and_endpoints_by_service(lab, protocol, family):
    port = {"namespace": "test", "service": "web", "port": protocol.lower(), "protocol": protocol,
            "family": "IPv6" if family == IPV6 else "IPv4"}
    connections = series("maglane_service_connections_total", port)
    before = metrics(lab, "node-a")
    with lab.connect("pod-a1", protocol, service_address(WEB[0], family), 80) as connection:
        for _ in range(5):
            connection.ask()  # packets of one connection
    for _ in range(9):
        lab.ask("client", protocol, address("node-a", family), WEB[1])
    after = metrics(lab, "node-a")
    assert after[connections] == before[connections] + 10
    other = connections.replace("web", "void")
    assert after[other] == before[other]
    assert after[series("maglane_service_endpoints", port | {"condition": "ready"})] == 4
    assert after[series("maglane_service_endpoints", port | {"condition": "not_ready"})] == 0
    assert after[series("maglane_service_local_endpoints", port)] == 2
    shown = lab.maglane("node-a", "service", "show", f"test/web:{protocol.lower()}")["services"]
    assert after[connections] in [s.get("connections") for s in shown if s["family"] == port["family"]]


def test_point29_packets_by_reason(lab, mode, family):
    hook = "xdp" if mode != "off" else "tc"
    refused = series("maglane_packets_total", {"hook": hook, "reason": "unused_port", "verdict": "reject"})
    octets = refused.replace("packets", "bytes")
    before = metrics(lab, "node-a")
    with pytest.raises(ConnectionRefusedError):
        lab.ask("pod-a1", "TCP", service_address(WEB[0], family), 81)
    after = metrics(lab, "node-a")
    tc = refused.replace(hook, "tc")  # a pod's packets are seen there
    packets = after[tc] - before[tc]
    assert 1 <= packets <= 3  # a SYN may be sent again before its answer is seen
    assert after[tc.replace("packets", "bytes")] - before[tc.replace("packets", "bytes")] >= 54 * packets
    assert after[octets] >= before[octets]


@pytest.mark.any_mode
def test_point29_updates_are_counted(lab, directory):
    def value(name):
        return metrics(lab, "node-a")[f"maglane_{name}"]
    names = ("sync_proxy_rules_duration_seconds_count", "sync_proxy_rules_service_changes_total",
             "sync_proxy_rules_endpoint_changes_total", "network_programming_duration_seconds_count")
    before = {name: value(name) for name in names}
    total = value("network_programming_duration_seconds_sum")
    objects = service("counted", 51, ["pod-a1"])
    changed = time.time()  # no earlier: what was before the agent's start is not counted
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(changed)) + f"{changed % 1:.6f}"[1:] + "Z"
    objects[1]["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": stamp}
    time.sleep(1)
    directory.write("counted.json", objects)
    try:
        eventually(lambda: value(names[1]) == before[names[1]] + 1, 5, "the change")
        eventually(lambda: value(names[0]) > before[names[0]], 5, "the update")
        assert value(names[2]) == before[names[2]] + 2
        eventually(lambda: value(names[3]) == before[names[3]] + 1, 5, "the slice in force")
        assert 1 <= value("network_programming_duration_seconds_sum") - total < 6
        assert value("sync_proxy_rules_service_changes_pending") == 0
        assert value("sync_proxy_rules_endpoint_changes_pending") == 0
        assert abs(value("sync_proxy_rules_last_timestamp_seconds") - time.time()) < 10
        assert value("sync_proxy_rules_last_queued_timestamp_seconds") <= value(
            "sync_proxy_rules_last_timestamp_seconds")
        probes = value('proxy_healthz_total{code="200"}')
        get(lab, "node-a", "127.0.0.1", 10256, "/healthz")
        assert value('proxy_healthz_total{code="200"}') == probes + 1
    finally:
        directory.remove("counted.json")


@pytest.mark.any_mode
def test_point29_local_policies_without_endpoints_here(lab, check):
    name = 'maglane_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"}'
    check(["pod-a1"], 1)
    before = metrics(lab, "node-a")[name]
    check(["pod-b1"], 0)
    assert metrics(lab, "node-a")[name] == before + 4  # TCP and UDP, each in two families


@pytest.mark.any_mode
def test_point28_the_status_shows_the_health_checks(lab, check):
    check(["pod-a1"], 1)
    health = lab.maglane("node-a", "status")["health"]
    assert health["proxy"]["healthy"] and health["healthzAddress"] == "0.0.0.0:10256"
    port = [p for p in health["ports"] if p["port"] == CHECK_PORT]
    assert port[0]["service"] == "test/balanced" and port[0]["listening"]
    assert [a["localEndpoints"] for a in port[0]["answers"]] == [1, 1]
    text = lab.exec("node-a", "maglane", "status").stdout
    assert re.search(rf"{CHECK_PORT} +test/balanced +IPv4 +1 +200", text), text
    assert "health   healthy; /healthz on 0.0.0.0:10256; /metrics on 127.0.0.1:10249" in text


@pytest.mark.any_mode
def test_clients_that_hang_keep_nobody_from_an_answer(lab, check):
    check(["pod-a1"], 1)
    with contextlib.ExitStack() as stack:
        for port in (CHECK_PORT, 10256):
            for _ in range(300):
                sock = stack.enter_context(contextlib.closing(lab.socket("client", IPV4, socket.SOCK_STREAM)))
                sock.settimeout(3)
                sock.connect((address("node-a", IPV4), port))
                sock.send(b"GET / HT")
        assert get(lab, "client", address("node-a", IPV4), CHECK_PORT)[0] == 200
        assert get(lab, "client", address("node-a", IPV4), 10256, "/livez")[0] == 200
    assert lab.maglane("node-a", "status")["agentRunning"]
