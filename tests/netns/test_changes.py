# SPDX-License-Identifier: Apache-2.0
"""Changes of the manifests under load: connections stay, new ones follow."""
import contextlib
import json
import subprocess

import pytest

from conftest import WEB
from lab import IPV4, IPV6, NODES, Load, address, eventually
from manifests import WEB_PODS, service, service_address

CHANGING = (40, 31040)  # a service that these tests change


@pytest.fixture
def changing(lab, directory):
    """Puts the service in place with all pods, and takes it away afterwards."""
    def put(pods, write=directory.write):
        write("changing.json", service("changing", CHANGING[0], pods, CHANGING[1]))
    put(WEB_PODS)
    wait_for_endpoints(lab, WEB_PODS)
    yield put
    directory.remove("changing.json")
    wait_for_service(lab, "changing", False)


def wait_for_endpoints(lab, pods, name="changing"):
    """Until new connections reach exactly these, on each node, in each family and protocol."""
    def in_force(node):
        ports = [s for s in lab.maglane(node, "service", "list")["services"] if s["name"] == name]
        if len(ports) != 4:
            return False
        shown = [lab.maglane(node, "maglev", "show", f"test/{name}:{port}").get("tables", []) for port in ("tcp", "udp")]
        reached = {e["address"] for tables in shown for t in tables for e in t.get("endpoints", [])}
        return reached == {address(pod, family) for pod in pods for family in (IPV4, IPV6)}
    for node in NODES:
        eventually(lambda: in_force(node), 5, f"{name} on {node} has {pods}")


def wait_for_service(lab, name, there):
    for node in NODES:
        eventually(lambda: there == any(s["name"] == name for s in
                                        lab.maglane(node, "service", "list").get("services", [])), 5, name)


def everywhere(lab, protocols=("TCP", "UDP"), each=8):
    """Connections to the changing service from a pod and from outside."""
    return [lab.connect(source, protocol, *where)
            for protocol in protocols for family in (IPV4, IPV6) for _ in range(each)
            for source, where in (("pod-a1", (service_address(CHANGING[0], family), 80)),
                                  ("client", (address("node-a", family), CHANGING[1])))]


def reached(lab, source, protocol, family, count=40):
    where = (service_address(CHANGING[0], family), 80) if source != "client" else (
        address("node-b", family), CHANGING[1])
    return {lab.ask(source, protocol, *where).pod for _ in range(count)}


@pytest.mark.conformance(3, 14)
@pytest.mark.parametrize("by", ["write", "rename_over"])
def test_endpoint_removed_and_added_under_load(lab, directory, changing, by):
    load = Load(everywhere(lab, protocols=("TCP",)))
    try:
        assert set(load.pods) == set(WEB_PODS)
        changing(WEB_PODS[:3], getattr(directory, by))
        wait_for_endpoints(lab, WEB_PODS[:3])
        load.goes_on()
        for source in ("pod-a1", "client"):
            for family in (IPV4, IPV6):
                assert reached(lab, source, "TCP", family) == set(WEB_PODS[:3])
                assert reached(lab, source, "UDP", family) == set(WEB_PODS[:3])
        changing(WEB_PODS, getattr(directory, by))
        wait_for_endpoints(lab, WEB_PODS)
        load.goes_on()
        assert reached(lab, "client", "TCP", IPV4, 80) == set(WEB_PODS)
    finally:
        load.stop()


@pytest.mark.conformance(11, 14)
@pytest.mark.any_mode
def test_all_endpoints_gone_and_back(lab, changing, family):
    with lab.connect("pod-a1", "TCP", service_address(CHANGING[0], family), 80) as connection:
        pod = connection.ask().pod
        changing([])
        wait_for_endpoints(lab, [])
        with pytest.raises(ConnectionRefusedError):
            lab.ask("pod-a1", "TCP", service_address(CHANGING[0], family), 80)
        assert connection.ask().pod == pod
        changing(["pod-b2"])
        wait_for_endpoints(lab, ["pod-b2"])
        assert reached(lab, "pod-a1", "TCP", family, 5) == {"pod-b2"}
        assert connection.ask().pod == pod


@pytest.mark.conformance(13, 25)
@pytest.mark.any_mode
def test_service_removed_while_another_carries_on(lab, directory, changing, family):
    other = Load([lab.connect("client", p, address("node-a", family), WEB[1]) for p in ("TCP", "UDP")])
    try:
        directory.write("passing.json", service("passing", 41, ["pod-a1"]))
        wait_for_endpoints(lab, ["pod-a1"], "passing")
        assert lab.ask("pod-b1", "UDP", service_address(41, family), 80).pod == "pod-a1"
        directory.remove("passing.json")
        wait_for_service(lab, "passing", False)
        with pytest.raises(TimeoutError):
            lab.ask("pod-b1", "TCP", service_address(41, family), 80, timeout=0.5)
        other.goes_on()
    finally:
        other.stop()


def flow_bits_generation(lab, node):
    """Changes with each rotation. See struct node_state."""
    value = json.loads(subprocess.run(
        ["bpftool", "-j", "map", "lookup", "pinned", lab.bpffs / node / "maps/node_state", "key", "0", "0", "0", "0"],
        check=True, capture_output=True).stdout)["value"]
    return int(value[28], 16)


def wait_for_rotations(lab, node, count):
    for _ in range(count):
        before = flow_bits_generation(lab, node)
        eventually(lambda: flow_bits_generation(lab, node) != before, 10, "the flows' bits are rotated")


def test_service_removed_under_a_download(lab, directory, family):
    """Through the uplink both ways, at an address that no other service has: after rotations
    the bits of its flows alone let its packets in."""
    target, option = service_address(46, family), ["-6"] if family == IPV6 else []
    route = ["route", "replace", f"{target}/{128 if family == IPV6 else 32}", "via", address("node-a", family)]
    directory.write("removed.json", service("removed", 46, ["pod-b1"]))
    wait_for_endpoints(lab, ["pod-b1"], "removed")
    lab.exec("client", "ip", *option, *route)
    try:
        with contextlib.ExitStack() as stack:
            downloads = []
            for source in ("client", "pod-a1"):
                connection = stack.enter_context(lab.connect(source, "TCP", target, 80, timeout=10))
                connection._http.request("GET", "/download?bytes=3000000&rate=600000")
                downloads.append(connection._http.getresponse())
            directory.remove("removed.json")
            wait_for_service(lab, "removed", False)
            wait_for_rotations(lab, "node-a", 2)
            for download in downloads:
                assert download.read() == (bytes(range(251)) * 12000)[:3000000]
    finally:
        (directory.path / "removed.json").unlink(missing_ok=True)
        lab.exec("client", "ip", *option, "route", "del", *route[2:])


def problems(lab, node, name):
    return [p for p in lab.maglane(node, "status").get("problems", []) if name in p["where"]]


@pytest.mark.any_mode
def test_a_file_that_does_not_parse_keeps_its_last_good_state(lab, directory, changing):
    directory.write("changing.json", '{"apiVersion": "v1",\n "kind": "List",\n "items": [ {"apiVersion": }')
    for node in NODES:
        problem = eventually(lambda: problems(lab, node, "changing.json"), 5, "the bad file is reported")[0]
        assert ":3" in problem["where"], problem
        assert "changing.json" in lab.agent_log(node)
    assert reached(lab, "pod-a1", "TCP", IPV4) == set(WEB_PODS)
    directory.write("later.json", service("later", 42, ["pod-b1"]))  # the other files go on
    wait_for_endpoints(lab, ["pod-b1"], "later")
    directory.remove("later.json")
    changing(["pod-a1"])
    wait_for_endpoints(lab, ["pod-a1"])
    for node in NODES:
        eventually(lambda: not problems(lab, node, "changing.json"), 5, "the problem is over")


@pytest.mark.any_mode
def test_an_impossible_object_is_refused_alone(lab, directory, changing):
    good, bad = service("good", 43, ["pod-b2"]), service("bad", 44, ["pod-b2"])
    bad[0]["spec"]["ports"][0]["port"] = 70000
    directory.write("mixed.json", bad + good)
    try:
        wait_for_endpoints(lab, ["pod-b2"], "good")
        assert "bad" not in {s["name"] for s in lab.maglane("node-a", "service", "list")["services"]}
        shown = eventually(lambda: [p for p in lab.maglane("node-a", "status").get("problems", [])
                                    if "70000" in p["message"]], 5, "the bad object is reported")
        assert "test/bad" in shown[0]["where"] + shown[0]["message"] or "mixed.json" in shown[0]["where"]
    finally:
        directory.remove("mixed.json")
        wait_for_service(lab, "good", False)


@pytest.mark.any_mode
def test_yaml_bundle_with_other_kinds(lab, directory):
    documents = [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1}}]
    documents += service("bundle", 45, ["pod-a2"])
    directory.write("bundle.yaml", "\n---\n".join(json.dumps(d) for d in documents) + "\n---\n")
    try:
        wait_for_endpoints(lab, ["pod-a2"], "bundle")
        assert not problems(lab, "node-a", "bundle.yaml")
        assert lab.ask("pod-b1", "TCP", service_address(45, IPV4), 80).pod == "pod-a2"
    finally:
        directory.remove("bundle.yaml")
        wait_for_service(lab, "bundle", False)


@pytest.mark.any_mode
def test_a_burst_of_changes_ends_in_the_last_state(lab, changing):
    for step in range(60):
        changing(WEB_PODS[step % 3:])
    changing(["pod-b1"])
    wait_for_endpoints(lab, ["pod-b1"])
    assert reached(lab, "client", "TCP", IPV6, 10) == {"pod-b1"}
