#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Connections as fast as they can be made, beside many that stay open.

The network of the forwarding benchmark (tests/bench/forward/topology.py), with one endpoint on another
node: each connection needs a source port of the node's one address towards it. Most ports are held by
connections that stay open; for some seconds others are opened through what is left, asked, answered and
closed, as many as the machine can. Each asks what no other asks. In the end those that were held are
asked again.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "forward"))
sys.path.insert(0, str(HERE.parents[1] / "netns"))
import balancers  # noqa: E402  pylint: disable=wrong-import-position
import lab  # noqa: E402  pylint: disable=wrong-import-position
import topology as network  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = balancers.BUILD / "bin/bench_forward"
OF_A_PROCESS = 15000  # connections: what it may have open


def say(text):
    print(text, file=sys.stderr, flush=True)


def one_endpoint(services):
    """As the forwarding benchmark has them, but for that."""
    result = balancers.objects(services)
    for item in result:
        if "endpoints" in item:
            item["endpoints"] = item["endpoints"][:1]
    return result


def enter(namespace):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with open(f"/run/netns/{namespace}") as there:
        lab._setns(there)  # pylint: disable=protected-access


def hold_server(namespace, count, pipe):
    """Takes so many connections, and then no more; echoes until it is told to end."""
    enter(namespace)
    listener = socket.create_server(("", network.ENDPOINT_PORT), backlog=4096)
    poll, sockets = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    pipe.send("listening")
    while not pipe.poll():
        for number, _ in poll.poll(0.2):
            if listener and number == listener.fileno():
                sock, _ = listener.accept()
                sockets[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
                if len(sockets) == count:
                    poll.unregister(listener)
                    listener.close()
                    listener = None
                    pipe.send("full")
                continue
            data = sockets[number].recv(64)
            if data:
                sockets[number].sendall(data)
            else:
                poll.unregister(number)


def ask(sock, question):
    """0: answered, 1: not, 2: by another's answer."""
    try:
        sock.sendall(question)
        answer = sock.recv(64)
    except OSError:
        return 1
    return 0 if answer == question else 2 if answer else 1


def hold_client(namespace, first, count, target, port, pipe):
    """Opens so many connections, asks each at once and again when it is told to."""
    enter(namespace)
    sockets, said = {}, [0, 0, 0]
    for number in range(first, first + count):
        source = network.CLIENT_ADDRESSES[number % len(network.CLIENT_ADDRESSES)]
        question = number.to_bytes(8, "big")
        try:
            sock = socket.create_connection((target, port), 20, (source, 0))
        except OSError:
            said[1] += 1
            continue
        said[ask(sock, question)] += 1
        sockets[question] = sock
    pipe.send(said)
    pipe.recv()
    said = [0, 0, 0]
    for question, sock in sockets.items():
        said[ask(sock, question)] += 1
    pipe.send(said)


class Held:
    """Connections that stay open: a process at each end for each few of them."""

    def __init__(self):
        self.processes, self.clients, self.servers, self.said = [], [], [], [0, 0, 0]

    def _start(self, what, *arguments):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=what, args=(*arguments, there), daemon=True)
        process.start()
        self.processes.append(process)
        return here

    def open(self, topology, target, port, total):
        for first in range(0, total, OF_A_PROCESS):
            count = min(OF_A_PROCESS, total - first)
            server = self._start(hold_server, topology.name("backend"), count)
            server.recv()
            client = self._start(hold_client, topology.name("client"), first, count, target, port)
            self._add(client.recv())
            if not server.poll(5):
                raise RuntimeError("connections that are to be held did not reach the endpoint")
            server.recv()
            self.servers.append(server)
            self.clients.append(client)

    def _add(self, said):
        self.said = [a + b for a, b in zip(self.said, said)]

    def ask_again(self):
        for client in self.clients:
            client.send("again")
        for client in self.clients:
            self._add(client.recv())

    def stop(self):
        for process in self.processes:
            process.terminate()
            process.join()


def churn(topology, target, port, options):
    command = [PROGRAM, "tcp", "--client", topology.name("client"), "--backend", topology.name("backend"),
               "--target", target, "--port", port, "--endpoint-port", network.ENDPOINT_PORT, "--seconds", options.seconds,
               "--connections", options.connections, "--source", *network.CLIENT_ADDRESSES]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def run(options):
    topology, agent, held = network.Topology(), balancers.Maglane(options.xdp), Held()
    agent.objects = one_endpoint
    service = network.Service(1)
    target, port = network.NODE_ADDRESS, service.node_port
    try:
        topology.up()
        # Whoever closes first would keep the tuple for a minute, and the node's few ports come again sooner.
        topology.sysctl("backend", net__ipv4__tcp_max_tw_buckets=0)
        agent.start(topology, [service])
        started = time.monotonic()
        held.open(topology, target, port, options.held)
        say(f"{options.held} connections are open after {time.monotonic() - started:.0f} s")
        result = churn(topology, target, port, options)
        say(f"{result['connections']} connections in {result['seconds']:.1f} s, {result['per_second']:.0f} a second, "
            f"p50 {result['p50_us']:.0f} us, p99 {result['p99_us']:.0f} us")
        held.ask_again()
        return [{"connections": options.held + result["connections"], "seconds": round(result["seconds"], 2),
                 "failed": held.said[1] + result["failed"], "wrong_reply": held.said[2] + result["wrong"]}]
    finally:
        held.stop()
        agent.stop()
        topology.down()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held", type=int, default=30000, help="connections that stay open (default 30000)")
    parser.add_argument("--connections", type=int, default=64, help="others at a time (default 64)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--xdp", choices=("native", "generic", "off"), default="native")
    parser.add_argument("--once", action="store_true", help="a few: does it work?")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON (as always)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root (network namespaces and BPF)")
    if options.once:
        options.held, options.seconds = 500, 1.0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the network is taken down
    try:
        figures = run(options)
    except RuntimeError as error:
        say(f"churn: {error}")
        return 1
    print(json.dumps(figures, indent=1))
    return 1 if options.once and (figures[0]["failed"] or figures[0]["wrong_reply"]) else 0


if __name__ == "__main__":
    sys.exit(main())
