#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs suites on the kernel at hand, one after the other: guest.py RESULTS PLAN.

PLAN is a JSON file of suites (suites.py). In the directory RESULTS each suite leaves NAME.xml and
NAME.log; `running` names the one that is under way, so that a machine that dies tells in which;
`done.json` says how each ended, after what it says already. Exit status 0 unless this script itself fails.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

IN_MACHINE = pathlib.Path("/run/vm")  # where the results are, seen from a virtual machine
KERN_CRIT = 2                         # shown on a quiet console


def end(process):
    """With all that it started; first so that it cleans up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
            break
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue


def run_suite(suite, results):
    environment = {**os.environ, **suite["environment"]}
    command = [*suite["command"], suite["results_flag"] + str(results / f"{suite['name']}.xml")]
    start = time.monotonic()
    with open(results / f"{suite['name']}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   env=environment, start_new_session=True)
        try:
            status = process.wait(suite["limit"])
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                end(process)
    return {**suite, "status": status, "seconds": round(time.monotonic() - start, 1)}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results, plan = map(pathlib.Path, sys.argv[1:])
    done_file, whole = results / "done.json", results / "done.new"
    done = json.loads(done_file.read_text()) if done_file.exists() else []
    for suite in json.loads(plan.read_text()):
        (results / "running").write_text(suite["name"])
        if results == IN_MACHINE:  # each line of the console is some suite's
            pathlib.Path("/dev/kmsg").write_text(f"<{KERN_CRIT}>suite {suite['name']}\n")
        done.append(run_suite(suite, results))
        whole.write_text(json.dumps(done))
        whole.replace(done_file)  # a machine may end at any time
        last = done[-1]
        how = "time is up" if last["status"] is None else "ok" if last["status"] == 0 else f"exit status {last['status']}"
        print(f"{last['name']}: {how} after {last['seconds']:.0f} s", flush=True)
    (results / "running").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
