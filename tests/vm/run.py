#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the kernel-facing tests on several kernels: run.py [--smoke] [--again] [--document] [--only SUITE] [KERNEL...]

KERNEL is 6.1, 6.12 or host; default: all. Needs root and the release build. Results stay in
build/vm/results; after a complete run of all kernels docs/kernels.md is written anew. Exit status
1 if anything failed on any kernel: a test, or the machine itself (its console is shown).
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import kernels
import machine
import report as reports
import suites

RESULTS = kernels.ROOT / "build/vm/results"
DOCUMENT = kernels.ROOT / "docs/kernels.md"
BOOT_ALLOWANCE = 120  # seconds beside the suites' own limits
CONSOLE_LINES = 60


def say(kernel, text):
    print(f"    {kernel:4}  {text}", flush=True)


def run_on_host(command, on_line):
    started = time.monotonic()
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    for line in process.stdout.splitlines():
        on_line(line)
    return machine.Outcome(process.returncode, "", "", time.monotonic() - started, "none", True)


def what_is_left(directory, plan):
    """The suites that did not pass, as they are now, when they ran last; nothing of these stays in the directory."""
    done_file = directory / "done.json"
    done = json.loads(done_file.read_text()) if done_file.exists() else []
    commands = {suite.name: suite.command for suite in plan}
    passed = [how for how in done if how["status"] == 0 and how["command"] == commands.get(how["name"])]
    names = [how["name"] for how in passed]
    for path in directory.iterdir():
        if path.stem not in names:
            path.unlink()
    done_file.write_text(json.dumps(passed))
    return [suite for suite in plan if suite.name not in names]


def run_kernel(name, plan, complete, again=False):
    directory = RESULTS / name
    if not again:
        shutil.rmtree(directory, ignore_errors=True)
    (RESULTS / f"{name}.json").unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    left = what_is_left(directory, plan)
    (directory / "plan.json").write_text(json.dumps([vars(suite) for suite in left]))
    guest = pathlib.Path(__file__).with_name("guest.py")
    report, on_line = reports.Report(name, complete), functools.partial(say, name)
    if name == kernels.HOST:
        outcome = run_on_host([guest, directory, directory / "plan.json"], on_line)
    else:
        try:
            kernel = kernels.get(name, on_line)
        except kernels.KernelError as error:
            report.failures.append(reports.Failure("the kernel", str(error)))
            return report
        report.release = kernel.release
        on_line(f"{kernel.release}, {'KVM' if machine.kvm_works() else 'emulated: KVM does not work here'}")
        outcome = machine.Machine(kernel).run([guest, "/run/vm", "/run/vm/plan.json"], directory,
                                              sum(suite.limit for suite in left) + BOOT_ALLOWANCE, on_line)
    report.machine, report.seconds = outcome.accelerator, round(outcome.seconds, 1)
    if outcome.problem or outcome.status:
        problem = outcome.problem or f"the run of the suites ended with {outcome.status}"
        report.failures.append(reports.Failure("the machine", problem + "\n" + "\n".join(
            outcome.console.splitlines()[-CONSOLE_LINES:])))
    reports.collect(report, directory, [suite.name for suite in plan])
    reports.judge(report)
    report.save(RESULTS / f"{name}.json")
    return report


def run_kernels(names, plan, complete, again):
    """Machines as many at a time as there are CPUs, since a test mostly keeps one busy; the host last."""
    machine.kvm_works()  # once, before there are threads
    machines = [name for name in names if name != kernels.HOST]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(machines, pool.map(lambda name: run_kernel(name, plan, complete, again), machines)))
    return [found.get(name) or run_kernel(name, plan, complete, again) for name in names]


def tell(report):
    skipped = sum(report.skipped.values())
    print(f"==> {report.kernel}: {report.passed} passed, {skipped} skipped, {len(report.failures)} failed, "
          f"{report.seconds:.0f} s")
    for reason, number in report.skipped.items():
        print(f"    skipped {number}: {reason}")
    for failure in report.failures:
        print(f"FAILED on {report.kernel}: {failure.test}")
        for line in failure.text.rstrip().splitlines():
            print(f"  | {line}")


def write_document(forced):
    names = [*kernels.PACKAGES, kernels.HOST]
    paths = [RESULTS / f"{name}.json" for name in names]
    known = [reports.Report.load(path) for path in paths if path.exists()]
    complete = len(known) == len(names) and all(report.complete and report.ok for report in known)
    if complete or forced:
        DOCUMENT.write_text(reports.table(known))
        print(f"written: {DOCUMENT.relative_to(kernels.ROOT)}")
    (RESULTS / "kernels.md").write_text(reports.table(known))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a part that takes a minute or two a kernel")
    parser.add_argument("--again", action="store_true", help="what did not pass the last time; what did stays as it is")
    parser.add_argument("--document", action="store_true", help="write docs/kernels.md from what has run so far")
    parser.add_argument("--only", metavar="SUITE", action="append", help="this suite alone (repeatable)")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"{', '.join(kernels.PACKAGES)} or {kernels.HOST}")
    options = parser.parse_args()
    for name in options.kernels:
        if name not in (*kernels.PACKAGES, kernels.HOST):
            parser.error(f"there is no kernel '{name}' (there are: {', '.join(kernels.PACKAGES)}, {kernels.HOST})")
    plan = [suite for suite in suites.suites(options.smoke) if not options.only or suite.name in options.only]
    if not plan:
        parser.error("there is no such suite")
    names = options.kernels or [*kernels.PACKAGES, kernels.HOST]
    found = run_kernels(names, plan, not options.smoke and not options.only, options.again)
    for report in found:
        tell(report)
    failed = [report.kernel for report in found if not report.ok]
    write_document(options.document)
    print(f"kernels with failures: {', '.join(failed)}" if failed else "all passed on every kernel")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
