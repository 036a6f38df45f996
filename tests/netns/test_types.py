# SPDX-License-Identifier: Apache-2.0
"""A service changes its type, an agent restarts with other manifests: nobody else notices."""
import contextlib
import errno
import subprocess
import threading
import time

import pytest

from conftest import WEB
from lab import IPV4, IPV6, Load, address
from manifests import WEB_PODS, service, service_address
from marker import Marker

# What is tested here does not depend on how XDP is attached.
pytestmark = pytest.mark.any_mode

NUMBER, NODE_PORT = 50, 31050
BALANCER = {IPV4: "203.0.113.50", IPV6: "2001:db8:1b::50"}
# Each type after each other one: a closed walk that takes every change once.
WALK = ("ClusterIP", "NodePort", "ClusterIP", "LoadBalancer", "ClusterIP", "ExternalName", "NodePort", "LoadBalancer",
        "NodePort", "ExternalName", "LoadBalancer", "ExternalName", "ClusterIP")
# Where a service of each type is reached.
REACHED = {"ExternalName": (), "ClusterIP": ("cluster-ip",), "NodePort": ("cluster-ip", "node-port"),
           "LoadBalancer": ("cluster-ip", "node-port", "load-balancer")}


def typed(kind, pods=("pod-a1", "pod-b1")):
    objects = service("typed", NUMBER, pods, 0 if kind in ("ClusterIP", "ExternalName") else NODE_PORT)
    objects[0]["spec"]["type"] = kind
    if kind == "ExternalName":
        objects[0]["spec"]["externalName"] = "example.org"
    if kind == "LoadBalancer":
        objects[0]["status"] = {"loadBalancer": {"ingress": [{"ip": ip} for ip in BALANCER.values()]}}
    return objects


class Opener:
    """Opens connections one after the other, in a thread: each must be answered."""

    def __init__(self, lab, questions):
        self.lab, self.questions, self.failures, self.opened = lab, questions, [], 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set() and not self.failures:
            for source, protocol, where in self.questions:
                try:
                    self.lab.ask(source, protocol, *where, timeout=10)
                    self.opened += 1
                except (OSError, AssertionError) as error:
                    self.failures.append(f"{source} to {where} by {protocol} after {self.opened}: {error!r}")

    def stop(self):
        self._stop.set()
        self._thread.join()
        assert not self.failures, self.failures
        assert self.opened > 0


def ways_to_web():
    return [(source, protocol, where) for protocol in ("TCP", "UDP") for family in (IPV4, IPV6)
            for source, where in (("pod-a1", (service_address(WEB[0], family), 80)),
                                  ("client", (address("node-a", family), WEB[1])),
                                  ("client", (address("node-b", family), WEB[1])))]


@contextlib.contextmanager
def everybody_else(lab):
    """Connections to another service, old ones and new ones, that must not notice anything: a lost
    datagram, a reset or another endpoint is a failure."""
    load = Load([lab.connect(source, protocol, *where) for source, protocol, where in ways_to_web() for _ in range(3)])
    opener = Opener(lab, ways_to_web())
    try:
        yield load
        load.goes_on()
    finally:
        try:
            opener.stop()
        finally:
            load.stop()


@pytest.fixture
def balancer_routes(lab):
    """The client's way to the load balancer's addresses: through node-a."""
    for family, target in BALANCER.items():
        subprocess.run(["ip", "-n", f"{lab.name}-client", "route", "replace", target, "via", address("node-a", family)],
                       check=True)
    yield
    for target in BALANCER.values():
        subprocess.run(["ip", "-n", f"{lab.name}-client", "route", "del", target], check=True)


def reached_at(lab, family):
    """The kinds of frontends at which the service answers."""
    result = []
    for kind, source, where in (("cluster-ip", "pod-a2", (service_address(NUMBER, family), 80)),
                                ("node-port", "client", (address("node-a", family), NODE_PORT)),
                                ("load-balancer", "client", (BALANCER[family], 80))):
        try:
            assert lab.ask(source, "TCP", *where, timeout=0.4).pod in ("pod-a1", "pod-b1")
            result.append(kind)
        except TimeoutError:
            pass  # nobody has the address
        except OSError as error:
            assert error.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH), error
    return tuple(result)


@pytest.mark.conformance(25)
@pytest.mark.any_mode
def test_type_changes_under_load(lab, directory, balancer_routes):
    marker = Marker(lab, directory)
    try:
        with everybody_else(lab) as load:
            for kind in WALK:
                directory.rename_over("typed.json", typed(kind))
                marker.settle()
                for family in (IPV4, IPV6):
                    assert reached_at(lab, family) == REACHED[kind], kind
                load.goes_on(1)
    finally:
        directory.remove("typed.json")
        marker.remove()


@pytest.mark.conformance(25)
@pytest.mark.any_mode
def test_policies_ports_and_the_service_itself_change_under_load(lab, directory):
    marker = Marker(lab, directory)

    def put(change):
        objects = typed("NodePort")
        change(objects[0]["spec"])
        directory.rename_over("typed.json", objects)
        marker.settle()

    def answers(port):
        return lab.ask("pod-a2", "TCP", service_address(NUMBER, IPV4), port, timeout=0.4).pod
    try:
        with everybody_else(lab):
            put(lambda spec: spec.update(internalTrafficPolicy="Local"))
            assert {answers(80) for _ in range(20)} == {"pod-a1"}
            put(lambda spec: [port.update(port=81) for port in spec["ports"]])
            assert {answers(81) for _ in range(60)} == {"pod-a1", "pod-b1"}
            with pytest.raises(ConnectionRefusedError):
                answers(80)
            directory.remove("typed.json")
            marker.settle()
            with pytest.raises(TimeoutError):
                answers(81)
            put(lambda spec: None)
            assert {answers(80) for _ in range(60)} == {"pod-a1", "pod-b1"}
    finally:
        directory.remove("typed.json")
        marker.remove()


@pytest.mark.conformance(30, 31)
@pytest.mark.any_mode
def test_restart_with_other_manifests(lab, directory):
    """What is still wanted is never absent: new connections meet it at every moment."""
    names = []
    try:
        with everybody_else(lab):
            for step in range(3):
                lab.command("agent", "node-a", ("stop", "kill", "stop")[step])
                for name in names[::2]:
                    directory.remove(name)
                names = [f"restart-{step}-{n}.json" for n in range(6)]
                for number, name in enumerate(names, 60 + 6 * step):
                    directory.write(name, service(name.removesuffix(".json"), number, WEB_PODS[:1 + step], 31000 + number))
                lab.command("agent", "node-a", "start")
                assert lab.ask("pod-a1", "TCP", service_address(65 + 6 * step, IPV4), 80).pod in WEB_PODS
    finally:
        for path in directory.path.glob("restart-*.json"):
            path.unlink()
        time.sleep(0.1)
