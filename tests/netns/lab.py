# SPDX-License-Identifier: Apache-2.0
"""tools/lab from Python, and sockets inside its hosts."""
import contextlib
import ctypes
import dataclasses
import http.client
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MAGLANE_BUILD", ROOT / "build/release"))
COMMAND_LIMIT = 240  # s; tools/lab gives an agent 180 until it is ready
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
NODES = ("node-a", "node-b")
PODS = ("pod-a1", "pod-a2", "pod-b1", "pod-b2")
HOSTS = ("client",) + NODES + PODS

# As in tools/lab.d/plan.sh.
ADDRESSES = {
    "client": ("192.168.100.10", "fd00:100::10"),
    "outside": ("203.0.113.10", "2001:db8:99::10"),  # in the shapes that have it
    "node-a": ("192.168.100.1", "fd00:100::1"),
    "node-b": ("192.168.100.2", "fd00:100::2"),
    "pod-a1": ("10.244.1.11", "fd00:10:244:1::11"),
    "pod-a2": ("10.244.1.12", "fd00:10:244:1::12"),
    "pod-b1": ("10.244.2.11", "fd00:10:244:2::11"),
    "pod-b2": ("10.244.2.12", "fd00:10:244:2::12"),
}


def address(host, family):
    return ADDRESSES[host][family == IPV6]


def node_of(pod):
    return f"node-{pod[4]}"


def eventually(condition, timeout=5.0, what="condition"):
    """The condition's first true value; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)
    return value


@dataclasses.dataclass(frozen=True)
class Answer:
    pod: str
    client: str  # the address that the pod saw
    port: int


class Connection:
    """A TCP connection to a pod's HTTP server, or a connected UDP socket to its echo."""

    def __init__(self, sock, protocol):
        self.sock, self.protocol = sock, protocol
        if protocol == "TCP":
            self._http = http.client.HTTPConnection("pod")
            self._http.sock = sock
            self._http.auto_open = False

    @property
    def local(self):
        return self.sock.getsockname()[:2]

    def ask(self):
        if self.protocol == "TCP":
            text = self.http("GET", "/").decode()
        else:
            self.sock.send(b"hello")
            text = self.sock.recv(2048).decode()
            assert text.endswith(" hello"), text
        pod, client, port = text.split()[:3]
        return Answer(pod, client, int(port))

    def http(self, method, path, body=None):
        self._http.request(method, path, body)
        response = self._http.getresponse()
        body = response.read()
        assert response.status == 200, (response.status, body)
        return body

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Lab:
    def __init__(self, name, hosts=HOSTS):
        self.name, self.hosts = name, hosts
        self.environment = {**os.environ, "MAGLANE_LAB": name}
        self.run_directory = pathlib.Path("/run/maglane-lab") / name
        self.bpffs = pathlib.Path("/sys/fs/bpf/maglane-lab") / name

    def _run(self, command, environment, check, timeout):
        command = list(map(str, command))
        done = subprocess.run(command, env=environment, timeout=timeout, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def command(self, *arguments, check=True, timeout=COMMAND_LIMIT):
        return self._run([ROOT / "tools/lab", *arguments], self.environment, check, timeout)

    def exec(self, host, *command, check=True, timeout=COMMAND_LIMIT):
        """What `tools/lab exec` does, without its shell: most tests ask `maglane` over and over."""
        environment = {**self.environment, "PATH": f"{BUILD / 'bin'}:{os.environ['PATH']}"}
        if host.startswith("node-"):
            environment |= {"MAGLANE_BPFFS": str(self.bpffs / host), "MAGLANE_SOCKET": str(self.run_directory / f"{host}.sock")}
        with self.inside(host):  # which the process inherits
            return self._run(command, environment, check, timeout)

    def maglane(self, node, *arguments):
        """What `maglane --json` says on a node."""
        return json.loads(self.exec(node, "maglane", "--json", *arguments).stdout)

    def agent_log(self, node):
        log = self.run_directory / f"{node}.agent.log"
        return log.read_text() if log.exists() else ""

    def agent_pid(self, node):
        return int((self.run_directory / f"{node}.agent.pid").read_text())

    @contextlib.contextmanager
    def inside(self, host):
        """This thread in the host's network namespace. Sockets made meanwhile stay there."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}-{host}") as there:
            _setns(there)
            try:
                yield
            finally:
                _setns(home)

    def socket(self, host, family, kind, protocol=0):
        with self.inside(host):
            return socket.socket(family, kind, protocol)

    def connect(self, host, protocol, target, port, timeout=3.0, source_port=0):
        family = IPV6 if ":" in target else IPV4
        sock = self.socket(host, family, socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM)
        try:
            sock.settimeout(timeout)
            if source_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", source_port))
            sock.connect((target, port))
        except OSError:
            sock.close()
            raise
        return Connection(sock, protocol)

    def ask(self, host, protocol, target, port, timeout=3.0):
        """One new connection, one question, one answer."""
        with self.connect(host, protocol, target, port, timeout) as connection:
            return connection.ask()

    def checksum_errors(self):
        """Packets that arrived with a bad checksum: {(host, counter): number} where not zero."""
        errors = {}
        for host in self.hosts:
            with self.inside(host):
                snmp = pathlib.Path("/proc/thread-self/net/snmp").read_text().splitlines()
                snmp6 = pathlib.Path("/proc/thread-self/net/snmp6").read_text().splitlines()
            for names, values in zip(snmp[::2], snmp[1::2]):
                for name, value in zip(names.split()[1:], values.split()[1:]):
                    if name == "InCsumErrors" and value != "0":
                        errors[host, names.split(":")[0] + name] = int(value)
            for name, value in (line.split() for line in snmp6):
                if name.endswith("InCsumErrors") and value != "0":
                    errors[host, name] = int(value)
        return errors


def _setns(file):
    if _libc.setns(file.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Load:
    """Asks on every connection in turn, in a thread, until stopped; the pod that answers a
    connection must stay the same."""

    def __init__(self, connections):
        self.connections = connections
        self.pods = [connection.ask().pod for connection in connections]
        self.failures, self.rounds, self._stop = [], 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set() and not self.failures:
            for connection, pod in zip(self.connections, self.pods):
                try:
                    answer = connection.ask()
                    if answer.pod != pod:
                        self.failures.append(f"{connection.local} moved from {pod} to {answer.pod}")
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.failures.append(f"{connection.protocol} {connection.local} to {pod}: {error!r}")
            self.rounds += 1

    def goes_on(self, rounds=3, timeout=20):
        """Waits for that many more whole rounds."""
        target = self.rounds + rounds
        eventually(lambda: self.failures or self.rounds >= target, timeout, "load goes on")
        assert not self.failures, self.failures

    def stop(self):
        self._stop.set()
        self._thread.join()
        for connection in self.connections:
            connection.close()
        assert not self.failures, self.failures
