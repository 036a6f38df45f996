# SPDX-License-Identifier: Apache-2.0
"""The inspector shows these very connections, with the agent alive and dead."""
import json

import pytest

from conftest import ONLY, WEB
from lab import NODES, address
from manifests import WEB_PODS, service_address


def flows_of(lab, node, connection, source):
    """By direction, the flows of a connection that `source` opened."""
    host, port = address(source, connection.sock.family), connection.local[1]
    found = {}
    for flow in lab.maglane(node, "flow", "list")["flows"]:
        ours = flow["original"] if flow["direction"] == "forward" else flow["translated"]
        if flow["direction"] == "forward":
            mine = (ours["source"], ours["sourcePort"]) == (host, port)
        else:
            mine = (ours["destination"], ours["destinationPort"]) == (host, port)
        if mine and flow["protocol"] == connection.protocol:
            found[flow["direction"]] = flow
    return found


def tuple_of(source, source_port, destination, destination_port):
    return {"source": source, "sourcePort": source_port, "destination": destination,
            "destinationPort": destination_port}


def test_flows_of_a_connection_from_a_pod(lab, protocol, family):
    vip = service_address(ONLY["pod-b1"][0], family)
    with lab.connect("pod-a1", protocol, vip, 80) as connection:
        connection.ask()
        flows = flows_of(lab, "node-a", connection, "pod-a1")
        pod, server, port = address("pod-a1", family), address("pod-b1", family), connection.local[1]
        assert set(flows) == {"forward", "reply"}
        assert flows["forward"]["original"] == tuple_of(pod, port, vip, 80)
        assert flows["forward"]["translated"] == tuple_of(pod, port, server, 8080)
        assert flows["reply"]["original"] == tuple_of(server, 8080, pod, port)
        assert flows["reply"]["translated"] == tuple_of(vip, 80, pod, port)
        assert flows["forward"]["service"] == f"test/only-pod-b1:{protocol.lower()}"
        assert flows["forward"]["state"] == ("established" if protocol == "TCP" else "replied")


def test_flows_of_a_connection_from_outside(lab, protocol, family):
    node = address("node-a", family)
    with lab.connect("client", protocol, node, ONLY["pod-b1"][1]) as connection:
        answer = connection.ask()
        flows = flows_of(lab, "node-a", connection, "client")
        client, server, port = address("client", family), address("pod-b1", family), connection.local[1]
        assert set(flows) == {"forward", "reply"}
        assert flows["forward"]["original"] == tuple_of(client, port, node, ONLY["pod-b1"][1])
        assert flows["forward"]["translated"] == tuple_of(node, answer.port, server, 8080)
        assert flows["forward"]["sourceTranslated"]
        assert flows["reply"]["translated"] == tuple_of(node, ONLY["pod-b1"][1], client, port)


@pytest.mark.any_mode
def test_closed_connection_shows_as_closed(lab, family):
    connection = lab.connect("pod-a1", "TCP", service_address(ONLY["pod-b1"][0], family), 80)
    connection.ask()
    port = connection.local[1]
    connection.close()
    flows = [f for f in lab.maglane("node-a", "flow", "list")["flows"]
             if f["direction"] == "forward" and f["original"]["sourcePort"] == port]
    assert all(f["state"] in ("closing", "closed") for f in flows)


def test_the_hook_that_was_asked_for_does_the_work(lab, mode, family):
    def sent(hook):
        return sum(c["packets"] for c in lab.maglane("node-a", "stats")["counters"]
                   if c["hook"] == hook and c["verdict"] == "send")
    xdp, tc = sent("xdp"), sent("tc")
    with lab.connect("client", "TCP", address("node-a", family), ONLY["pod-b1"][1]) as connection:
        for _ in range(10):
            connection.ask()
    if mode == "off":
        assert sent("xdp") == 0 and sent("tc") >= tc + 40
    else:
        assert sent("xdp") >= xdp + 40
    uplink = [a for a in lab.maglane("node-a", "status")["attachments"] if a["device"] == "eth0"]
    modes = {a["mode"] for a in uplink if a["hook"] == "xdp"}
    assert modes == ({mode} if mode != "off" else set())


@pytest.mark.any_mode
def test_service_and_backend_lists(lab):
    services = lab.maglane("node-a", "service", "list")["services"]
    web = [s for s in services if (s["namespace"], s["name"]) == ("test", "web")]
    assert {(s["protocol"], s["family"]) for s in web} == {(p, f) for p in ("TCP", "UDP") for f in ("IPv4", "IPv6")}
    backends = lab.maglane("node-a", "backend", "list")["backends"]
    assert {b["address"] for b in backends} == {address(pod, f) for pod in WEB_PODS for f in (2, 10)}
    assert {b["address"] for b in backends if b.get("local")} == {
        address(pod, f) for pod in ("pod-a1", "pod-a2") for f in (2, 10)}


@pytest.mark.any_mode
def test_maglev_shares_are_even(lab):
    for node in NODES:
        tables = lab.maglane(node, "maglev", "show", "test/web:tcp")["tables"]
        shares = [e["share"] for t in tables for e in t["endpoints"]]
        assert shares and all(share == pytest.approx(0.25, abs=0.01) for share in shares)


@pytest.mark.conformance(31)
@pytest.mark.any_mode
def test_agent_dead(lab, family):
    with lab.connect("pod-a1", "TCP", service_address(WEB[0], family), 80) as connection:
        connection.ask()
        lab.command("agent", "node-a", "kill")
        try:
            assert set(flows_of(lab, "node-a", connection, "pod-a1")) == {"forward", "reply"}
            assert lab.maglane("node-a", "service", "list")["services"]
            assert lab.maglane("node-a", "maglev", "show", "test/web:tcp")["tables"]
            assert lab.maglane("node-a", "stats")["counters"]
            status = lab.exec("node-a", "maglane", "--json", "status", check=False)
            assert status.returncode == 1 and not json.loads(status.stdout)["agentRunning"]
        finally:
            lab.command("agent", "node-a", "start")
        assert lab.maglane("node-a", "status")["agentRunning"]


@pytest.mark.any_mode
def test_flush_removes_only_what_the_filter_names(lab, family):
    with lab.connect("pod-a1", "UDP", service_address(WEB[0], family), 80) as one, \
            lab.connect("pod-a2", "UDP", service_address(WEB[0], family), 80) as other:
        one.ask(), other.ask()
        lab.maglane("node-a", "flow", "flush", "--source", address("pod-a1", family))
        assert "forward" not in flows_of(lab, "node-a", one, "pod-a1")
        assert set(flows_of(lab, "node-a", other, "pod-a2")) == {"forward", "reply"}
        one.ask()  # a new flow
