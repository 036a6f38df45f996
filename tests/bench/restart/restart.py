#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Restarts of an agent under load: connections that broke, and answers of another endpoint.

A lab of its own (tools/lab), with an agent on each node. Connections through node-a, of TCP and UDP,
IPv4 and IPv6, from outside the cluster and from a pod, to pods of both nodes, are held and asked over
and over, and new ones are opened all the time, while its agent is restarted: by SIGTERM and SIGKILL,
each second time with another option or another program (tests/netns/restarts.py).
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/netns"))
import conftest  # noqa: E402  pylint: disable=wrong-import-position
import lab as lab_module  # noqa: E402  pylint: disable=wrong-import-position
import manifests  # noqa: E402  pylint: disable=wrong-import-position
import restarts  # noqa: E402  pylint: disable=wrong-import-position
import test_restarts  # noqa: E402  pylint: disable=wrong-import-position


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(options):
    lab = lab_module.Lab(f"mb{os.getpid()}")
    directory = manifests.Directory(pathlib.Path(tempfile.mkdtemp()))
    started = time.monotonic()
    try:
        shutil.copy(ROOT / "examples/nodes.yaml", directory.path)
        conftest.base_manifests(directory)
        lab.command("up")
        lab.command("agents", "up", "--xdp", options.xdp, "--manifests", directory.path)
        traffic = restarts.Traffic(lab, test_restarts.places())

        def progress(done):
            if done % 20 == 0 or done == options.restarts:
                say(f"{done} restarts in {time.monotonic() - started:.0f} s, {traffic.opened} connections, "
                    f"{traffic.asked} answers, {traffic.broken} broken, {traffic.wrong} of a wrong endpoint")
        try:
            restarts.restart(lab, "node-a", options.restarts, options.seed, progress)
        finally:
            traffic.stop()
            for line in traffic.said:
                say(line)
        return [{"restarts": options.restarts, "connections": traffic.opened, "broken": traffic.broken,
                 "wrong_endpoint": traffic.wrong}]
    finally:
        lab.command("down")
        shutil.rmtree(directory.path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=1000)
    parser.add_argument("--xdp", choices=("native", "generic", "off"), default="native")
    parser.add_argument("--seed", type=int, default=1, help="of what is chosen at random")
    parser.add_argument("--once", action="store_true", help="a few: does it work?")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON (as always)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root (network namespaces and BPF)")
    if options.once:
        options.restarts = 5
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab is taken down
    figures = run(options)
    print(json.dumps(figures, indent=1))
    return 1 if options.once and (figures[0]["broken"] or figures[0]["wrong_endpoint"]) else 0


if __name__ == "__main__":
    sys.exit(main())
