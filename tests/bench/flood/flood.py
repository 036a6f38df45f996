#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A node under a flood: connections that are established, and honest new ones.

The network of the forwarding benchmark (tests/bench/forward/topology.py). While SYNs, then UDP datagrams,
from random sources come in at ten times the flow table's size in all, through two node ports, one with
endpoints on another node (whose connections each need a source port), one with endpoints on this node:
connections that were there before are asked over and over, and new ones are opened, asked and closed.
What of the flood reaches the endpoints is counted and dropped there: this measures the node.

One row of figures for SYNs, one for UDP. A connection is lost if it ends, or is not answered for ten
seconds; a new one has failed if it was not open and answered within five.
"""
import argparse
import json
import os
import pathlib
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "forward"))
sys.path.insert(0, str(HERE.parents[1] / "netns"))
import balancers  # noqa: E402  pylint: disable=wrong-import-position
import lab  # noqa: E402  pylint: disable=wrong-import-position
import topology as network  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = balancers.BUILD / "bin/bench_flood"
LOST_AFTER, FAILED_AFTER = 10.0, 5.0  # seconds


def say(text):
    print(text, file=sys.stderr, flush=True)


def objects(services):
    """As the forwarding benchmark has them; but the second service's endpoints are on this node."""
    result = balancers.objects(services)
    for item in result:
        if item["metadata"]["name"].startswith(services[1].name):
            for endpoint in item.get("endpoints", []):
                endpoint["nodeName"] = "node"
    return result


class Inside:
    """This thread in a host's network namespace."""

    def __init__(self, topology, host):
        self.path = f"/run/netns/{topology.name(host)}"

    def __enter__(self):
        self.home = open("/proc/thread-self/ns/net")  # pylint: disable=consider-using-with
        with open(self.path) as there:
            lab._setns(there)  # pylint: disable=protected-access

    def __exit__(self, *_):
        lab._setns(self.home)  # pylint: disable=protected-access
        self.home.close()


class Server(threading.Thread):
    """Echoes whatever comes, on all endpoints."""

    def __init__(self, topology):
        super().__init__(daemon=True)
        self.selector, self.over = selectors.DefaultSelector(), False
        with Inside(topology, "backend"):
            self.listener = socket.create_server(("", network.ENDPOINT_PORT), backlog=4096)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.start()

    def run(self):
        while not self.over:
            for key, _ in self.selector.select(0.2):
                if key.fileobj is self.listener:
                    self._accept()
                else:
                    self._echo(key.fileobj)

    def _accept(self):
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ)

    def _echo(self, sock):
        try:
            data = sock.recv(256)
            if data:
                sock.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.selector.unregister(sock)
        sock.close()

    def stop(self):
        self.over = True
        self.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


class Established(threading.Thread):
    """Connections that are asked in turn."""

    def __init__(self, topology, target, ports, count):
        super().__init__(daemon=True)
        self.over, self.lost, self.delays, self.sockets = False, 0, [], []
        with Inside(topology, "client"):
            for number in range(count):
                self.sockets.append(socket.create_connection((target, ports[number % len(ports)]), 20))
        self.count = len(self.sockets)
        for sock in self.sockets:
            sock.settimeout(LOST_AFTER)
            if not self._ask(sock):
                raise RuntimeError("a connection is not answered before there is any flood")
        self.delays.clear()

    def _ask(self, sock):
        before = time.monotonic()
        try:
            sock.sendall(b"question")
            answered = sock.recv(256) == b"question"
        except OSError:
            return False
        self.delays.append(time.monotonic() - before)
        return answered

    def run(self):
        while not self.over:
            for sock in list(self.sockets):
                if self.over:
                    return
                if not self._ask(sock):
                    self.lost += 1
                    self.sockets.remove(sock)
                    sock.close()

    def stop(self):
        """Each once more, so that none is left out that was lost late."""
        self.over = True
        self.join()
        for sock in self.sockets:
            self.lost += not self._ask(sock)
            sock.close()


class Honest(threading.Thread):
    """New connections, one after the other."""

    def __init__(self, topology, target, ports):
        super().__init__(daemon=True)
        self.topology, self.target, self.ports = topology, target, ports
        self.over, self.tried, self.failed, self.delays = False, 0, 0, []

    def run(self):
        with Inside(self.topology, "client"):
            while not self.over:
                self._one(self.ports[self.tried % len(self.ports)])
                time.sleep(0.005)

    def _one(self, port):
        before = time.monotonic()
        self.tried += 1
        try:
            with socket.create_connection((self.target, port), FAILED_AFTER) as sock:
                sock.settimeout(max(0.1, before + FAILED_AFTER - time.monotonic()))
                sock.sendall(b"question")
                if sock.recv(256) != b"question":
                    raise OSError("closed")
                self.delays.append(time.monotonic() - before)
        except OSError:
            self.failed += 1

    def stop(self):
        self.over = True
        self.join()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000 if values else float("nan")


def flood(topology, protocol, target, ports, options):
    command = [PROGRAM, "--client", topology.name("client"), "--backend", topology.name("backend"), "--target", target,
               "--target-mac", network.MACS["node", "up0"], "--protocol", protocol, "--seconds", options.seconds,
               "--per-second", 10 * options.table_size / options.seconds, "--port", *ports]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def measure(protocol, options):
    topology, agent = network.Topology(), Agent(options)
    services = [network.Service(1), network.Service(2)]
    target, ports = network.NODE_ADDRESS, [service.node_port for service in services]
    server = None
    try:
        topology.up()
        topology.sysctl("backend", net__ipv4__tcp_max_syn_backlog=16384)
        agent.start(topology, services)
        server = Server(topology)
        established = Established(topology, target, ports, options.established)
        honest = Honest(topology, target, ports)
        established.start()
        honest.start()
        result = flood(topology, protocol, target, ports, options)
        honest.stop()
        established.stop()
        say(f"{protocol}: {result['sent']} packets in {result['seconds']:.1f} s, {result['arrived']} reached an endpoint; "
            f"established answered within {percentile(established.delays, .5):.1f} ms (p50), "
            f"{percentile(established.delays, .99):.1f} ms (p99), new ones {percentile(honest.delays, .5):.1f}, "
            f"{percentile(honest.delays, .99):.1f} ms; {honest.tried - honest.failed} of {honest.tried} got in")
        say(agent.told(topology))
        return {"established": established.count, "established_lost": established.lost, "honest_tried": honest.tried,
                "honest_failed": honest.failed,
                "flood_packets_per_second": round(result["sent"] / result["seconds"])}
    finally:
        if server:
            server.stop()
        agent.stop()
        topology.down()


class Agent(balancers.Maglane):
    """With a flow table of the size that is asked for."""

    def __init__(self, options):
        super().__init__(options.xdp)
        self.more = ["--flow-table-size", str(options.table_size)]
        self.objects = objects

    def told(self, topology):
        """What the node has to say of its table and of drops."""
        status = json.loads(topology.on("node", balancers.BUILD / "bin/maglane", "--json", "status",
                                        env=self._environment()))
        stats = json.loads(topology.on("node", balancers.BUILD / "bin/maglane", "--json", "stats",
                                       env=self._environment()))
        drops = {c["reason"]: int(c["packets"]) for c in stats.get("counters", []) if c["verdict"] == "drop"}
        tables = {m["name"]: f"{m.get('used', 0)} of {m['capacity']}" for m in status["maps"] if m["name"] == "flows4"}
        return f"flow table at the end: {tables}; drops: {drops}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table-size", type=int, default=131072, help="flow entries, --flow-table-size of the agent")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each flood")
    parser.add_argument("--established", type=int, default=500, help="connections that are there before")
    parser.add_argument("--xdp", choices=("native", "generic", "off"), default="native")
    parser.add_argument("--once", action="store_true", help="one short iteration: does it work?")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON (as always)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root (network namespaces and BPF)")
    if options.once:
        options.table_size, options.seconds, options.established = 2048, 2.0, 50
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the networks are taken down
    try:
        rows = [measure(protocol, options) for protocol in ("tcp", "udp")]
    except RuntimeError as error:
        say(f"flood: {error}")
        return 1
    print(json.dumps(rows, indent=1))
    bad = any(row["established_lost"] or row["honest_failed"] * 20 > row["honest_tried"] for row in rows)
    return 1 if options.once and bad else 0


if __name__ == "__main__":
    sys.exit(main())
