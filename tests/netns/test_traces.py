# SPDX-License-Identifier: Apache-2.0
"""The packet-tracer table (tests/contract) with real connections: who answers, and whom it sees."""
import contextlib
import errno
import itertools
import subprocess

import pytest

import traces
from conftest import AGENT_FLAGS
from lab import IPV4, IPV6, NODES, ROOT, address, eventually, node_of
from marker import Marker
from test_refusals import refused

# What is tested here does not depend on how XDP is attached.
pytestmark = pytest.mark.any_mode

SILENCE = 0.4   # seconds without an answer that mean none will come
MOST = 200      # connections until every endpoint of a set must have answered
FILES = {file.name: file for file in traces.read_all()}
_ports = itertools.cycle(range(10000, 30000))


class Tracer:
    """Puts a case's objects in place and asks its questions."""

    def __init__(self, lab, directory, file):
        self.lab, self.directory, self.file = lab, directory, file
        self.files, self.saved, self.servers = set(), {}, {}
        self.marker = Marker(lab, directory)
        self.connections = {}  # by name, protocol and family: connection and its last answer
        self.held = {}  # by name, protocol and family: who answers
        self.problems = []

    # ---- objects

    def put(self, objects):
        for name, text in objects.items():
            path = self.directory.path / name
            if name not in self.files:
                self.saved[name] = path.read_text() if path.exists() else None
            self.files.add(name)
            if text is None:
                path.unlink()
            else:
                self.directory.rename_over(name, text)
        self.marker.settle()

    def clean_up(self):
        for connection, _ in self.connections.values():
            connection.close()
        for process in self.servers.values():
            process.terminate()
            process.wait()
        for name in self.files:
            if self.saved[name] is None:
                (self.directory.path / name).unlink(missing_ok=True)
            else:
                self.directory.rename_over(name, self.saved[name])
        self.marker.remove()

    # ---- questions

    def run(self, case):
        self.put(self.file.objects)
        for step in case.steps:
            if step.objects:
                self.put(step.objects)
            for line in step.lines:
                for family in (IPV4, IPV6):
                    where = self.file.address(line.destination, family)
                    for protocol in line.protocols if where else ():
                        with self.way(line, where):
                            problem = self.ask(line, protocol, family, where)
                        if problem:
                            self.problems.append(f"{self.file.name}:{line.number}: {line.text}\n"
                                                 f"    {protocol}, {where}: {problem}")

    @contextlib.contextmanager
    def way(self, line, where):
        """The route of a packet that is sent `via` a node."""
        if not line.via:
            yield
            return
        family = IPV6 if ":" in where else IPV4
        ip = ["ip", "-n", f"{self.lab.name}-{line.source}", "-6" if family == IPV6 else "-4", "route"]
        target = f"{where}/{128 if family == IPV6 else 32}"
        subprocess.run([*ip, "replace", target, "via", address(line.via, family)], check=True)
        try:
            yield
        finally:
            subprocess.run([*ip, "del", target], check=True)

    def connect(self, line, protocol, where, timeout=3.0):
        return self.lab.connect(line.source, protocol, where, line.port, timeout, source_port=next(_ports))

    @staticmethod
    def serving_node(line):
        """The node whose service proxy has the packet: whose address it is, or else the first on its way."""
        if line.destination in NODES:
            return line.destination
        return line.via or (node_of(line.source) if line.source.startswith("pod") else line.source)

    def ask(self, line, protocol, family, where):
        """What is wrong, or None."""
        for name in line.endpoints:
            self.serve(name, family)
        if line.connection:
            return self.ask_one(line, protocol, family, where)
        if line.source in NODES and line.result in ("REJECT", "DROP"):
            return self.fails_at_once(line, protocol, where)
        if line.result == "REJECT":
            try:
                refused(self.lab, line.source, protocol, family, where, line.port)
            except AssertionError as error:
                return f"not refused: {error}"
            return None
        if line.result in ("DROP", "PASS"):
            return self.nobody_answers(line, protocol, where)
        if line.one_of or line.name:
            return self.one_answers(line, protocol, family, where)
        return self.everybody_answers(line, protocol, family, where)

    def fails_at_once(self, line, protocol, where):
        """A program of the node is told so by its call."""
        wanted = {"REJECT": errno.ECONNREFUSED, "DROP": errno.EHOSTUNREACH}[line.result]
        try:
            with self.connect(line, protocol, where, SILENCE) as connection:
                return f"{connection.ask().pod} answers"
        except OSError as error:
            return None if error.errno == wanted else f"{error!r}"

    def nobody_answers(self, line, protocol, where):
        try:
            with self.connect(line, protocol, where, SILENCE) as connection:
                answer = connection.ask()
        except TimeoutError:
            return None
        except OSError as error:
            return f"{error!r}" if line.result == "DROP" else None  # a closed port of the node refuses
        return f"{answer.pod} answers"

    def judge(self, line, family, answer):
        if answer.pod not in line.endpoints:
            return f"{answer.pod} answers"
        masqueraded = line.endpoints[answer.pod]
        seen = address(self.serving_node(line), family) if masqueraded else address(line.source, family)
        return None if answer.client == seen else f"{answer.pod} sees {answer.client}, not {seen}"

    def everybody_answers(self, line, protocol, family, where):
        missing, more = set(line.endpoints), 3
        for _ in range(MOST):
            try:
                with self.connect(line, protocol, where) as connection:
                    answer = connection.ask()
            except OSError as error:
                return f"{error!r}; no answer from {missing}"
            if problem := self.judge(line, family, answer):
                return problem
            missing.discard(answer.pod)
            more -= not missing
            if more < 0:
                return None
        return f"in {MOST} connections no answer from {missing}"

    def one_answers(self, line, protocol, family, where):
        key = line.name, protocol, family
        seen = set()
        for _ in range(12):
            try:
                with self.connect(line, protocol, where) as connection:
                    answer = connection.ask()
            except OSError as error:
                return repr(error)
            seen.add(answer.pod)
            if line.one_of and (problem := self.judge(line, family, answer)):
                return problem
        if line.one_of and line.name:
            self.held[key] = seen
        expected = self.held[key] if line.name else seen
        return None if len(seen) == 1 and seen == expected else f"{seen} answer"

    def ask_one(self, line, protocol, family, where):
        """A connection that stays open from one line to the next."""
        key = line.connection, protocol, family
        connection, before = self.connections.get(key) or (self.connect(line, protocol, where), None)
        try:
            answer = connection.ask()
        except OSError as error:
            answer = error
        self.connections[key] = connection, answer
        if line.result == "REJECT":
            return None if isinstance(answer, ConnectionRefusedError) else f"{answer!r}"
        if isinstance(answer, OSError):
            return repr(answer)
        if line.result == "SAME":
            return None if answer == before else f"was {before}, is {answer}"
        return self.judge(line, family, answer)

    def serve(self, name, family):
        """A server where the lab has none: another port, or a node's own network."""
        host, _, port = name.partition(":")
        if name in self.servers or (host.startswith("pod") and not port):
            return
        port = int(port or traces.PORT)
        self.servers[name] = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.lab.name}-{host}", ROOT / "tools/lab.d/pod-server.py", name,
             "--port", str(port)])

        def answers():
            with contextlib.suppress(OSError):
                return self.lab.ask(host, "TCP", address(host, family), port, 0.5).pod == name
        eventually(answers, 10, f"{name} serves")


@contextlib.contextmanager
def agents(lab, mode, directory, options):
    """The agents with more flags, for as long as this lasts."""
    def restart(*flags):
        lab.command("agents", "down")
        lab.command("agents", "up", "--xdp", mode, "--manifests", directory.path, "--", *AGENT_FLAGS, *flags)
    if options:
        restart(*(word for option in options for word in f"--{option}".split()))
    try:
        yield
    finally:
        if options:
            restart()


def cases():
    for file in FILES.values():
        for case in file.cases:
            marks = [pytest.mark.conformance(*case.points)]
            if file.options:  # a restart of the agents each
                marks.append(pytest.mark.any_mode)
            yield pytest.param(file.name, case, id=f"{file.name}: {case.title}", marks=marks)


@pytest.mark.parametrize("name, case", cases())
def test_trace(lab, mode, directory, name, case):
    file = FILES[name]
    with agents(lab, mode, directory, file.options):
        tracer = Tracer(lab, directory, file)
        try:
            tracer.run(case)
        finally:
            tracer.clean_up()
    assert not tracer.problems, "\n".join(tracer.problems)
