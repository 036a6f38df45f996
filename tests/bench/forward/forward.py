#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Forwarding through a node, by maglane and by its peers, side by side in one run.

udp64: 64-byte frames from a client to a node port, whose endpoints are on another node, as many as
can be; what arrives there is counted. tcp: connections through the same port that ask, are answered
and closed. Each subject gets a network of its own (topology.py), in turn, several rounds; the best
round counts. A ratio is against the peer named in the row's key, of the same run. The generator,
the node and the sink share the machine's CPUs: compare the figures with each other alone.

`none` is routing without any service: the client sends to an endpoint. `redirect` is the same by a program
at XDP that does nothing else: nothing can be faster here.
"""
import argparse
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile

import balancers
from topology import CLIENT_ADDRESSES, ENDPOINT_NETWORK, ENDPOINT_PORT, MACS, Service, Topology

PROGRAM = balancers.BUILD / "bin/bench_forward"
MACHINE_KERNEL, MACHINE_LIMIT = "6.12", 1800  # seconds


def say(text):
    print(text, file=sys.stderr, flush=True)


def traffic(topology, kind, target, options, extra):
    """One measurement, by the program bench_forward."""
    command = [PROGRAM, kind, "--client", topology.name("client"), "--backend", topology.name("backend"),
               "--target", target[0], "--port", target[1], "--endpoint-port", ENDPOINT_PORT,
               "--seconds", options.seconds, *extra]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout)


def udp(topology, target, options, more):
    result = traffic(topology, "udp", target, options, [
        "--source", CLIENT_ADDRESSES[0], "--target-mac", MACS["node", "up0"], "--endpoints", ENDPOINT_NETWORK,
        "--flows", options.flows, *more])
    if not result["looked_at"] or result["wrong"]:
        raise RuntimeError(f"of {result['looked_at']} frames that were looked at {result['wrong']} had wrong checksums")
    return result["mpps"]


def tcp(topology, target, options):
    result = traffic(topology, "tcp", target, options, ["--connections", options.connections,
                                                        "--source", *CLIENT_ADDRESSES])
    if not result["per_second"] or result["wrong"]:
        raise RuntimeError(f"{result['connections']} connections were answered, {result['wrong']} wrongly")
    return result


class Measured:
    """The best of a subject's rounds."""

    def __init__(self, name):
        self.name, self.mpps, self.tcp = name, 0.0, None

    def add(self, mpps, connections):
        self.mpps = max(self.mpps, mpps)
        if not connections:
            return
        if not self.tcp or connections["per_second"] > self.tcp["per_second"]:
            self.tcp = connections


def measure(subject, services, options):
    """One round: (Mpps, what tcp says, if anything), in a network of its own."""
    topology = Topology()
    try:
        topology.up()
        subject.start(topology, services)
        target = subject.target(services[len(services) // 2])
        # A sink at XDP is what a wire is to a redirected frame, one at tc what it is to a packet of
        # the IP stack: whichever suits the subject.
        best = max(udp(topology, target, options, [*subject.udp_options(topology), *at_tc])
                   for at_tc in ([], ["--sink-at-tc"]))
        return best, tcp(topology, target, options) if subject.measures_tcp else None
    finally:
        try:
            subject.stop()
        finally:
            topology.down()


def rows(measured, peer):
    """One row of each kind for each subject; the ratio is to `peer`."""
    by_name = {one.name: one for one in measured}
    base = by_name.get(peer)
    result = []
    for one in measured:
        result.append({"case": "udp64", "by": one.name, "mpps": round(one.mpps, 4)}
                      | ({f"to_{peer}_ratio": round(one.mpps / base.mpps, 3)} if base else {}))
    for one in measured:
        if not one.tcp:
            continue
        result.append({"case": "tcp", "by": one.name, "connections_per_second": round(one.tcp["per_second"]),
                       "p50_us": one.tcp["p50_us"], "p99_us": one.tcp["p99_us"], "failed": one.tcp["failed"]}
                      | ({f"to_{peer}_ratio": round(one.tcp["per_second"] / base.tcp["per_second"], 3)} if base else {}))
    return result


def run(options):
    services = [Service(number) for number in range(1, options.services + 1)]
    subjects = balancers.MAGLANE + [balancers.PEERS[name] for name in options.peer]
    measured = {subject.name: Measured(subject.name) for subject in subjects}
    for number in range(options.rounds):
        for subject in subjects:
            if subject.name not in measured:
                continue
            try:
                mpps, connections = measure(subject, services, options)
            except balancers.Unavailable as reason:
                say(f"left out: {reason}")
                if options.asked:
                    raise SystemExit(1) from None
                del measured[subject.name]
                continue
            measured[subject.name].add(mpps, connections)
            say(f"round {number + 1}: {subject.name}: {mpps:.3f} Mpps" + (
                f", {connections['per_second']:.0f} connections/s, p50 {connections['p50_us']:.0f} us" if connections else ""))
    base = next((name for name in options.peer if name in measured and name not in ("none", "redirect")), "none")
    return rows(list(measured.values()), base)


def in_machine(arguments):
    """This script with these arguments in a virtual machine, whose kernel has what this one lacks.
    Its figures are an emulated CPU's: only their ratios say something."""
    sys.path.insert(0, str(balancers.ROOT / "tests/vm"))
    import kernels  # pylint: disable=import-outside-toplevel
    import machine  # pylint: disable=import-outside-toplevel
    subprocess.run([balancers.ROOT / "tools/setup", "--vm"], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as directory:
        command = f"{shlex.join([os.path.abspath(__file__), *arguments])} >/run/vm/figures.json"
        try:
            kernel = kernels.get(MACHINE_KERNEL, say)
        except kernels.KernelError as error:
            say(f"forward: {error}")
            return 1
        say(f"this kernel has no ip_vs: in a virtual machine with {kernel.release}")
        outcome = machine.Machine(kernel).run(["bash", "-c", command], directory, MACHINE_LIMIT, say)
        if outcome.problem or outcome.status:
            say(f"forward: {outcome.problem or 'it failed in the machine'}\n" + outcome.console[-2000:])
            return 1
        print((pathlib.Path(directory) / "figures.json").read_text(), end="")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=list(balancers.PEERS), action="append",
                        help="compare with this one (repeatable); default: those that this kernel has")
    parser.add_argument("--services", type=int, default=100, help="how many there are (1 to 2700; default 100)")
    parser.add_argument("--flows", type=int, default=1000, help="of the UDP frames (1 to 60000; default 1000)")
    parser.add_argument("--connections", type=int, default=64, help="of TCP at a time (default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--once", action="store_true", help="one short round: does it work?")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON (as always)")
    options = parser.parse_args()
    if not 1 <= options.services <= 2700:
        parser.error("--services is 1 to 2700")
    if os.geteuid() != 0:
        parser.error("needs root (network namespaces and BPF)")
    if options.once:
        options.rounds, options.seconds = 1, 0.3
    options.asked = bool(options.peer)
    options.peer = options.peer or ["nftables", "iptables", "none", "redirect"]
    if "ipvs" in options.peer and not balancers.kernel_has_ipvs():
        return in_machine(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the networks are taken down
    try:
        print(json.dumps(run(options), indent=1))
    except RuntimeError as error:
        say(f"forward: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
