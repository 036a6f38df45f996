# SPDX-License-Identifier: Apache-2.0
"""The agent restarted again and again under load; a size of the flow table that changes; a program that
the kernel refuses."""
import pytest

import restarts
import test_changes
from conftest import ONLY, WEB
from lab import IPV4, IPV6, Load, address, eventually
from manifests import WEB_PODS, service, service_address


def places():
    """Through the node, from outside and from a pod of it, to pods of both nodes."""
    return [(host, protocol, *where, WEB_PODS)
            for protocol in ("TCP", "UDP") for family in (IPV4, IPV6)
            for host, where in (("pod-a1", (service_address(WEB[0], family), 80)),
                                ("client", (address("node-a", family), WEB[1])))]


@pytest.mark.conformance(14, 31)
def test_many_restarts_break_no_connection(lab):
    traffic = restarts.Traffic(lab, places())
    try:
        restarts.restart(lab, "node-a", 20)
    finally:
        traffic.stop()
    assert (traffic.broken, traffic.wrong) == (0, 0), traffic.said
    assert traffic.asked > 100


def flow_tables(lab):
    return {m["name"]: m["capacity"] for m in lab.maglane("node-a", "status")["maps"] if m["name"].startswith("flows")}


@pytest.fixture
def arguments(lab):
    """Starts the agent of node-a with more arguments; as it was, afterwards."""
    file = lab.run_directory / "node-a.agent.args"
    usual = file.read_bytes()

    def start(*more):
        lab.command("agent", "node-a", "stop")
        file.write_bytes(usual + b"".join(f"{word}\0".encode() for word in more))
        lab.command("agent", "node-a", "start")
    yield start
    file.write_bytes(usual)
    start()


@pytest.mark.conformance(14, 31)
def test_flows_are_carried_over_into_a_table_of_another_size(lab, arguments):
    """A datagram that is lost fails; connections keep the port that is the node's."""
    load = Load([lab.connect(host, protocol, *where) for protocol in ("TCP", "UDP") for family in (IPV4, IPV6)
                 for _ in range(8) for host, where in (("pod-a1", (service_address(WEB[0], family), 80)),
                                                       ("client", (address("node-a", family), WEB[1])))])

    # Whole: earlier connections may have had the same ports, and their flows may go at any time.
    ends = {(c.protocol, *c.local, *c.sock.getpeername()[:2]) for c in load.connections}

    def is_ours(flow):
        out, back = flow["original"], flow["translated"]
        return {(flow["protocol"], out["source"], out["sourcePort"], out["destination"], out["destinationPort"]),
                (flow["protocol"], back["destination"], back["destinationPort"], back["source"], back["sourcePort"])} & ends

    def of_connections():
        flows = lab.maglane("node-a", "flow", "list", "--port", "80") | {}
        flows = flows["flows"] + lab.maglane("node-a", "flow", "list", "--port", str(WEB[1]))["flows"]
        return {(f["protocol"], f["direction"], str(f["original"]), str(f["translated"])) for f in flows
                if is_ours(f)}
    try:
        before = of_connections()
        assert len(before) >= 2 * len(load.connections)
        for size in ("65536", "262144"):
            arguments("--flow-table-size", size)
            assert flow_tables(lab)["flows4"] >= int(size)
            assert before <= of_connections()
            load.goes_on(5)
        assert not [p for p in (lab.bpffs / "node-a/maps").iterdir() if "_old" in p.name]
    finally:
        load.stop()


@pytest.mark.conformance(26)
def test_what_was_forgotten_is_not_carried_over(lab, directory, arguments):
    """UDP's endpoint goes while no agent runs, and the next one has a table of another size."""
    directory.write("carried.json", service("carried", 48, ["pod-b1"]))
    test_changes.wait_for_endpoints(lab, ["pod-b1"], "carried")
    opened = [lab.connect("pod-a1", "UDP", service_address(48, family), 80) for family in (IPV4, IPV6)]
    try:
        assert {c.ask().pod for c in opened} == {"pod-b1"}
        lab.command("agent", "node-a", "stop")
        directory.write("carried.json", service("carried", 48, ["pod-a2"]))
        arguments("--flow-table-size", "65536")
        for connection in opened:
            eventually(lambda: connection.ask().pod == "pod-a2", 5, "the endpoint that is left")
    finally:
        for connection in opened:
            connection.close()
        directory.remove("carried.json")


def not_for_the_gpl(program):
    """The kernel refuses the programs: they use functions that it offers to those under the GPL alone."""
    changed = program.replace(b"Dual BSD/GPL", b"Proprietary!")
    assert changed != program
    return changed


@pytest.mark.any_mode
def test_programs_that_the_kernel_refuses_leave_the_old_ones(lab, directory):
    """The new agent goes on with them: it even follows the cluster."""
    other = restarts.OtherProgram(not_for_the_gpl)
    load = Load([lab.connect("client", "TCP", address("node-a", family), WEB[1]) for family in (IPV4, IPV6)])

    def problems():
        return [p for p in lab.maglane("node-a", "status").get("problems", []) if p["where"] == "programs"]
    usual = lab.environment
    try:
        lab.command("agent", "node-a", "stop")
        lab.environment = other.environment(lab)
        lab.command("agent", "node-a", "start")
        assert len(problems()) == 1 and "go on" in problems()[0]["message"], problems()
        assert "go on" in lab.agent_log("node-a")
        load.goes_on()
        directory.write("upgrade.json", service("upgrade", 47, ["pod-b1"]))
        test_changes.wait_for_endpoints(lab, ["pod-b1"], "upgrade")
        assert lab.ask("pod-a1", "TCP", service_address(47, IPV4), 80).pod == "pod-b1"
        lab.environment = usual
        lab.command("agent", "node-a", "restart")
        eventually(lambda: not problems(), 5, "the problem is over")
        load.goes_on()
    finally:
        lab.environment = usual
        directory.remove("upgrade.json")
        lab.command("agent", "node-a", "restart")
        other.remove()
        load.stop()


@pytest.mark.conformance(14, 27)
@pytest.mark.parametrize("direction", ["forward", "reply"])
def test_a_direction_that_is_removed_by_hand_is_made_again(lab, direction):
    """From the other one, over and over: the connection goes on through the port that it has."""
    opened = [lab.connect(host, "TCP", *where) for family in (IPV4, IPV6) for _ in range(4)
              for host, where in (("pod-a1", (service_address(ONLY["pod-b1"][0], family), 80)),
                                  ("pod-a1", (service_address(ONLY["pod-a1"][0], family), 80)),
                                  ("client", (address("node-a", family), ONLY["pod-a2"][1])),
                                  ("client", (address("node-a", family), ONLY["pod-b1"][1])))]
    try:
        before = [c.ask() for c in opened]
        for _ in range(10):
            removed = lab.maglane("node-a", "flow", "flush", "--protocol", "tcp", "--direction", direction)["removed"]
            assert removed >= len(opened)
            assert [c.ask() for c in opened] == before
    finally:
        for connection in opened:
            connection.close()
