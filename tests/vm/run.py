#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the kernel-facing tests on several kernels: run.py [--smoke] [--again] [--document] [--only SUITE] [KERNEL...]

KERNEL is 6.1, 6.12 or host; default: all. Needs root and the release build. Results stay in
build/vm/results, of a part (--smoke, --only) in build/vm/part. Once all of it has passed on all kernels with
the same programs, docs/kernels.md is written anew. Exit status 1 if anything failed on any kernel: a test,
or the machine itself (its console is shown).
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import kernels
import machine
import report as reports
import suites

DIRECTORY = kernels.ROOT / "build/vm"
DOCUMENT = kernels.ROOT / "docs/kernels.md"
BOOT_ALLOWANCE = 120  # seconds beside the suites' own limits
CONSOLE_LINES = 60
DOWNLOADING = threading.Lock()  # apt-get waits for nobody


def say(kernel, text):
    print(f"    {kernel:4}  {text}", flush=True)


def run_on_host(command, on_line):
    started = time.monotonic()
    with subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        for line in process.stdout:
            on_line(line.rstrip("\n"))
    return machine.Outcome(process.returncode, "", "", time.monotonic() - started, "none", True)


def results_of(complete):
    return DIRECTORY / ("results" if complete else "part")


def suites_in_trouble(console):
    """Those under way where the console complains; before the first of them it is all."""
    starts = [(0, "*"), *((found.start(), found[1]) for found in re.finditer(r"suite (\S+)", console))]
    return {[name for start, name in starts if start <= trouble.start()][-1]
            for trouble in machine.TROUBLE.finditer(console)}


def what_is_left(directory, plan, subject):
    """The suites that did not pass, as they are now and on the same subject, when they ran last; nothing of
    these stays in the directory. `subject` names the programs and the kernel."""
    subject_file, console = directory / "subject", directory / "console"
    done = reports.what_was_done(directory)
    if not subject_file.exists() or subject_file.read_text() != subject:
        done = {}
    now = {suite.name: vars(suite) for suite in plan}
    blamed = suites_in_trouble(console.read_text(errors="replace")) if console.exists() else set()
    passed = [how for name, how in done.items() if how["status"] == 0 and not {name, "*"} & blamed
              and how == {**how, **now.get(name, {"name": None})}]
    names = [how["name"] for how in passed]
    for path in directory.iterdir():
        if path.stem not in names:
            path.unlink()
    (directory / "done.json").write_text(json.dumps(passed))
    subject_file.write_text(subject)
    return [suite for suite in plan if suite.name not in names]


def run_kernel(name, plan, complete, again=False):
    results = results_of(complete)
    directory = results / name
    if not again:
        shutil.rmtree(directory, ignore_errors=True)
    (results / f"{name}.json").unlink(missing_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    build = suites.build()
    report, on_line = reports.Report(name, complete, build, os.uname().release), functools.partial(say, name)
    if name != kernels.HOST:
        try:
            with DOWNLOADING:
                kernel = kernels.get(name, on_line)
        except kernels.KernelError as error:
            report.failures.append(reports.Failure("the kernel", str(error)))
            return report
        report.release = kernel.release
    left = what_is_left(directory, plan, f"{build} on {report.release}")
    (directory / "plan.json").write_text(json.dumps([vars(suite) for suite in left]))
    guest = pathlib.Path(__file__).with_name("guest.py")
    if name == kernels.HOST:
        outcome = run_on_host([guest, directory, directory / "plan.json"], on_line)
    else:
        on_line(f"{kernel.release}, {'KVM' if machine.kvm_works() else 'emulated: KVM does not work here'}")
        outcome = machine.Machine(kernel).run([guest, "/run/vm", "/run/vm/plan.json"], directory,
                                              sum(suite.limit for suite in left) + BOOT_ALLOWANCE, on_line)
    report.machine, report.seconds = outcome.accelerator, round(outcome.seconds, 1)
    if outcome.problem or outcome.status:
        problem = outcome.problem or f"the run of the suites ended with {outcome.status}"
        on_line(problem)
        report.failures.append(reports.Failure("the machine", problem + "\n" + "\n".join(
            outcome.console.splitlines()[-CONSOLE_LINES:])))
    reports.collect(report, directory, [suite.name for suite in plan])
    reports.judge(report)
    report.save(results / f"{name}.json")
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


def write_document(results, forced):
    names = [*kernels.PACKAGES, kernels.HOST]
    paths = [results / f"{name}.json" for name in names]
    known = [reports.Report.load(path) for path in paths if path.exists()]
    complete = len(known) == len(names) and all(report.complete and report.ok for report in known)
    complete = complete and len({report.build for report in known}) == 1
    if complete or forced:
        DOCUMENT.write_text(reports.table(known))
        print(f"written: {DOCUMENT.relative_to(kernels.ROOT)}")
    (results / "kernels.md").write_text(reports.table(known))


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
    complete = not options.smoke and not options.only
    names = options.kernels or [*kernels.PACKAGES, kernels.HOST]
    found = run_kernels(names, plan, complete, options.again)
    for report in found:
        tell(report)
    failed = [report.kernel for report in found if not report.ok]
    write_document(results_of(complete), options.document)
    print(f"kernels with failures: {', '.join(failed)}" if failed else "all passed on every kernel")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
