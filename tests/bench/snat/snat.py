#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Source ports under load: flows of UDP from pods to one remote address and port through one address of
their node, all of them open at once, with real traffic.

A lab of its own in the shape kubenet (tools/lab). Two pods send from the same ports each, so that the
first keeps its own and every flow of the second needs another one. The remote end answers each datagram with
what was in it and the port that it came from. A reply counts as wrong when it is not that of its socket, or
when two flows are seen with the same port. All flows are asked twice, the second time when all are open.

The ports that an agent uses by default, which leave out the node's own (net.ipv4.ip_local_port_range), are
fewer than 40,000: here only node ports are left out.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import select
import shutil
import socket
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/netns"))
import lab as lab_module  # noqa: E402  pylint: disable=wrong-import-position
import manifests  # noqa: E402  pylint: disable=wrong-import-position

PODS = ("pod-a1", "pod-a2")
FIRST_PORT = 10000
PORT = 7777
BATCH = 200
MOST = 10000  # sockets of a process
FORK = multiprocessing.get_context("fork")
REMOTE = "outside"
SOURCE_PORTS = "1024-29999,32768-65535"
SO_RCVBUFFORCE = 33  # of asm-generic/socket.h; Python has no name for it


def say(text):
    print(text, file=sys.stderr, flush=True)


class Remote:
    """Answers "DATA" with "PORT ADDRESS DATA", in a process of its own."""

    def __init__(self, lab, family):
        sock = lab.socket(REMOTE, family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        sock.bind(("", PORT))
        self.process = FORK.Process(target=self.serve, args=(sock,), daemon=True)

    @staticmethod
    def serve(sock):
        while True:
            data, peer = sock.recvfrom(256)
            sock.sendto(f"{peer[1]} {peer[0]} ".encode() + data, peer)

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.join()


class Flows:
    """Those of one process, from one pod, with these ports."""

    def __init__(self, lab, family, pod, ports):
        self.node = lab_module.address("node-a", family)
        self.sockets = {}  # what it sends: the socket
        self.seen = {}  # as which port: whose
        self.wrong = set()
        where = lab_module.address(REMOTE, family), PORT
        with lab.inside(pod):
            for port in ports:
                sock = socket.socket(family, socket.SOCK_DGRAM)
                sock.bind(("", port))
                sock.connect(where)
                sock.setblocking(False)
                self.sockets[f"{pod}:{port}".encode()] = sock

    def ask(self):
        """Each once, and again where there is no answer: those that stay without one."""
        missing = list(self.sockets)
        for _ in range(3):  # a datagram may be lost on a busy machine
            missing = [name for at in range(0, len(missing), BATCH) for name in self.ask_batch(missing[at:at + BATCH])]
        return missing

    def ask_batch(self, names):
        poll, by_fd = select.poll(), {}
        for name in names:
            sock = self.sockets[name]
            sock.send(name)
            by_fd[sock.fileno()] = name
            poll.register(sock, select.POLLIN)
        while by_fd:
            ready = poll.poll(500)
            if not ready:
                break
            for fd, _ in ready:
                poll.unregister(fd)
                self.judge(by_fd.pop(fd))
        return list(by_fd.values())

    def judge(self, name):
        try:
            answer = self.sockets[name].recv(256)
        except OSError:
            self.wrong.add(name)
            return
        port, address, data = answer.split(b" ", 2)
        if data != name or address.decode() != self.node or self.seen.setdefault(port, name) != name:
            self.wrong.add(name)


def work(lab, family, pod, ports, turns, results):
    """In a process of its own: a process has only so many sockets."""
    flows = Flows(lab, family, pod, ports)
    failed = set()
    for _ in range(2):
        failed |= set(flows.ask())
        turns.wait()
    results.put((len(flows.sockets), failed, flows.wrong, flows.seen))
    turns.wait()  # open until it has been looked at


def shares(flows):
    """(pod, ports) of each process."""
    each = (flows + 1) // 2
    return [(pod, range(FIRST_PORT + first, FIRST_PORT + min(first + MOST, each)))
            for pod in PODS for first in range(0, each, MOST)]


def run_flows(lab, family, wanted):
    workers = shares(wanted)
    turns, results = FORK.Barrier(len(workers) + 1), FORK.SimpleQueue()
    processes = [FORK.Process(target=work, args=(lab, family, *share, turns, results), daemon=True) for share in workers]
    for process in processes:
        process.start()
    try:
        for turn in ("opened", "asked again"):
            turns.wait(600)
            say(f"all flows {turn}")
        flows, failed, wrong, seen = 0, set(), set(), {}
        for _ in workers:
            count, no_answer, wrong_here, ports = results.get()
            flows += count
            failed |= no_answer
            wrong |= wrong_here | {name for port, name in ports.items() if seen.setdefault(port, name) != name}
        say(f"as the node has it: {lab.maglane('node-a', 'masquerade', 'show')['remotes'][0]}")
        turns.wait(600)
        return flows, len(failed), len(wrong)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def run(options):
    family = socket.AF_INET6 if options.ipv6 else socket.AF_INET
    lab = lab_module.Lab(f"mb{os.getpid()}")
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        shutil.copy(ROOT / "examples/nodes.yaml", directory)
        manifests.Directory(directory).write("web.json", manifests.service("web", 30, manifests.WEB_PODS))
        lab.command("up", "--shape", "kubenet")
        lab.command("agents", "up", "--manifests", directory, "--", "--flow-table-size", str(max(524288, 4 * options.flows)),
                    "--snat-ports", SOURCE_PORTS)
        with Remote(lab, family):
            started = time.monotonic()
            flows, failed, wrong = run_flows(lab, family, options.flows)
        return [{"flows": flows, "failed": failed, "wrong_reply": wrong, "seconds": round(time.monotonic() - started, 1)}]
    finally:
        lab.command("down")
        shutil.rmtree(directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flows", type=int, default=40000, help="half of them from each pod (default: 40000)")
    parser.add_argument("--ipv6", action="store_true")
    parser.add_argument("--once", action="store_true", help="a few flows: does it work?")
    parser.add_argument("--json", action="store_true", help="(always)")
    options = parser.parse_args()
    if options.once:
        options.flows = 1000
    result = run(options)
    print(json.dumps(result, indent=1))
    sys.exit(1 if result[0]["failed"] or result[0]["wrong_reply"] else 0)


if __name__ == "__main__":
    main()
