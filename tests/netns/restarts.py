# SPDX-License-Identifier: Apache-2.0
"""Agents that are ended and started again under load: by SIGTERM, by SIGKILL, by SIGKILL before they are
ready, each second time with another option or another program."""
import http.client
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time

import lab as lab_module

# Of which one replaces another: sizes of tables that hold flows or are referred to by them, what is
# a constant of the programs, and which of them there are.
OPTIONS = (
    ("--flow-table-size", "65536"),
    ("--tcp-timeout-established", "2h"),
    ("--flow-table-size", "131072", "--snat-ports", "1024-19999"),
    ("--maglev-entries", "1048576"),
    ("--socket-translation", "off"),
    ("--flow-table-size", "262144"),
    ("--affinity-entries", "8192", "--udp-timeout-stream", "5m"),
    ("--log-level", "debug"),
)


class Traffic:
    """Connections that are held and asked over and over, and new ones all the time, each in a thread.
    `where`: (host, protocol, address, port, pods that may answer) of each to hold; each is opened
    as a new one, too. Nothing may be lost."""

    def __init__(self, lab, where, each=4):
        self.lab, self.where = lab, where
        self.opened = self.broken = self.wrong = self.asked = 0
        self.said = []  # of the first failures
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._hold, args=(where[i::2], each), daemon=True) for i in (0, 1)]
        self._threads.append(threading.Thread(target=self._open, daemon=True))
        for thread in self._threads:
            thread.start()

    def _fail(self, what, place, error):
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)
            if len(self.said) < 20:
                self.said.append(f"{time.strftime('%H:%M:%S')} {place[0]} {place[1]} {place[2]}:{place[3]}: {error}")

    def _connect(self, place):
        with self._lock:
            self.opened += 1
        try:
            return self.lab.connect(*place[:4], timeout=8)
        except OSError as error:
            self._fail("broken", place, repr(error))
            return None

    def _ask(self, connection, place, pod=None):
        """Who answered; None: nobody."""
        try:
            answer = connection.ask()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self._fail("broken", place, repr(error))
            return None
        with self._lock:
            self.asked += 1
        if answer.pod not in place[4] or (pod and answer.pod != pod):
            self._fail("wrong", place, f"answered by {answer.pod}, not {pod or place[4]}")
        return answer.pod

    def _hold(self, places, each):
        held = []
        for place in places * each:
            connection = self._connect(place)
            held.append((place, connection, connection and self._ask(connection, place)))
        while not self._stop.is_set():
            for index, (place, connection, pod) in enumerate(held):
                if self._stop.is_set():
                    break
                if not connection:
                    connection = self._connect(place)
                    held[index] = (place, connection, connection and self._ask(connection, place))
                elif self._ask(connection, place, pod) is None:
                    connection.close()
                    held[index] = (place, None, None)
                time.sleep(0.001)
        for _, connection, _ in held:
            if connection:
                connection.close()

    def _open(self):
        while not self._stop.is_set():
            for place in self.where:
                if self._stop.is_set():
                    return
                connection = self._connect(place)
                if connection:
                    self._ask(connection, place)
                    connection.close()
                time.sleep(0.005)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


class OtherProgram:
    """A directory like the build's, whose agent is another file. `change`: what is done to its bytes."""

    def __init__(self, change=lambda program: program + b"\0another\0"):
        build = lab_module.BUILD
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="maglane-program-"))
        (self.directory / "bin").mkdir()
        (self.directory / "bin/maglane").symlink_to(build / "bin/maglane")
        agent = self.directory / "bin/maglane-agent"
        agent.write_bytes(change((build / "bin/maglane-agent").read_bytes()))
        agent.chmod(0o755)

    def environment(self, lab):
        return {**lab.environment, "MAGLANE_BUILD": str(self.directory)}

    def remove(self):
        shutil.rmtree(self.directory)


def restart(lab, node, count, seed=1, progress=lambda done: None):
    """Restarts the agent of `node` so many times; it is as it was before, afterwards."""
    arguments_file = lab.run_directory / f"{node}.agent.args"
    usual = arguments_file.read_bytes()
    chance, other = random.Random(seed), OtherProgram()
    lab_tool = lab_module.ROOT / "tools/lab"
    try:
        for number in range(count):
            lab.command("agent", node, chance.choice(("kill", "stop")))
            option = OPTIONS[number // 4 % len(OPTIONS)] if number % 4 == 1 else ()
            extra = b"".join(f"{word}\0".encode() for word in option)
            arguments_file.write_bytes(usual + extra)
            environment = other.environment(lab) if number % 4 == 3 else lab.environment
            start = subprocess.Popen([lab_tool, "agent", node, "start"], env=environment, stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if number % 5 == 4:  # the next one finds what this one has begun
                time.sleep(chance.uniform(0.1, 1.0))
                lab.command("agent", node, "kill")
                start.communicate()
            else:
                said = start.communicate(timeout=lab_module.COMMAND_LIMIT)[0]
                assert start.returncode == 0, said
            arguments_file.write_bytes(usual)
            progress(number + 1)
    finally:
        arguments_file.write_bytes(usual)
        other.remove()
        lab.command("agent", node, "stop")
        lab.command("agent", node, "start")
