#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Source ports under load: flows of UDP from pods to one remote address and port through one address of
their node, all of them open at once, with real traffic.

A lab of its own in the shape kubenet (tools/lab). Two pods send from the same ports each, so that the
first keeps its own and every flow of the second needs another one. The remote end answers each datagram with
what was in it and the port that it came from. A reply counts as wrong when it is not that of its socket, or
when two flows are seen with the same port. All flows are asked twice, the second time when all are open.
"""
import argparse
import json
import os
import pathlib
import resource
import select
import shutil
import socket
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/netns"))
import lab as lab_module  # noqa: E402  pylint: disable=wrong-import-position
import manifests  # noqa: E402  pylint: disable=wrong-import-position

PODS = ("pod-a1", "pod-a2")
FIRST_PORT = 10000
PORT = 7777
BATCH = 200
REMOTE = "outside"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Remote(threading.Thread):
    """Answers "DATA" with "PORT ADDRESS DATA"."""

    def __init__(self, lab, family):
        super().__init__(daemon=True)
        self.sock = lab.socket(REMOTE, family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 16 << 20)
        self.sock.bind(("", PORT))
        self.ended = False

    def run(self):
        while not self.ended:
            data, peer = self.sock.recvfrom(256)
            self.sock.sendto(f"{peer[1]} {peer[0]} ".encode() + data, peer)

    def end(self, lab, family):
        self.ended = True
        with lab.socket(REMOTE, family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("::1" if family == socket.AF_INET6 else "127.0.0.1", PORT))
        self.join()
        self.sock.close()


class Flows:
    def __init__(self, lab, family, each):
        self.node = lab_module.address("node-a", family)
        self.sockets = {}  # what it sends: the socket
        where = lab_module.address(REMOTE, family), PORT
        for pod in PODS:
            with lab.inside(pod):
                for port in range(FIRST_PORT, FIRST_PORT + each):
                    sock = socket.socket(family, socket.SOCK_DGRAM)
                    sock.bind(("", port))
                    sock.connect(where)
                    sock.setblocking(False)
                    self.sockets[f"{pod}:{port}".encode()] = sock
        self.seen = {}  # as which port: whose
        self.wrong = set()

    def ask(self):
        """Each once, and once more where there is no answer: those that stay without one."""
        names, missing = list(self.sockets), []
        for at in range(0, len(names), BATCH):
            missing += self.ask_batch(names[at:at + BATCH])
        for _ in range(2):  # a datagram may be lost on a busy machine
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

    def close(self):
        for sock in self.sockets.values():
            sock.close()


def run(options):
    family = socket.AF_INET6 if options.ipv6 else socket.AF_INET
    each = (options.flows + 1) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * each + 1000, max(2 * each + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    lab = lab_module.Lab(f"mb{os.getpid()}")
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        shutil.copy(ROOT / "examples/nodes.yaml", directory)
        manifests.Directory(directory).write("web.json", manifests.service("web", 30, manifests.WEB_PODS))
        lab.command("up", "--shape", "kubenet")
        lab.command("agents", "up", "--manifests", directory, "--", "--flow-table-size", str(max(524288, 8 * each)))
        remote = Remote(lab, family)
        remote.start()
        flows = Flows(lab, family, each)
        failed, started = set(), time.monotonic()
        for turn in ("opened", "asked again"):
            failed |= set(flows.ask())
            say(f"{len(flows.sockets)} flows {turn}: {len(failed)} failed, {len(flows.wrong)} wrong replies")
        info = lab.maglane("node-a", "masquerade", "show")
        say(f"as the node has it: {info['remotes'][0]}")
        flows.close()
        remote.end(lab, family)
        return [{"flows": len(flows.sockets), "failed": len(failed), "wrong_reply": len(flows.wrong),
                 "seconds": round(time.monotonic() - started, 1)}]
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
