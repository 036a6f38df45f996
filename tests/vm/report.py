# SPDX-License-Identifier: Apache-2.0
"""What the suites left behind, as one value for each kernel, and as the table of docs/kernels.md."""
import dataclasses
import json
import pathlib
import xml.etree.ElementTree

VERIFIER_LIMIT = 1_000_000


@dataclasses.dataclass
class Failure:
    test: str
    text: str


@dataclasses.dataclass
class Report:
    kernel: str                 # 6.1, 6.12, host
    complete: bool              # every suite, not a part of them
    build: str = ""             # names the programs under test
    release: str = ""           # uname -r
    machine: str = ""           # kvm, tcg, or none: the tests ran on the host
    seconds: float = 0
    passed: int = 0
    failures: list = dataclasses.field(default_factory=list)
    skipped: dict = dataclasses.field(default_factory=dict)   # reason -> number of tests
    suites: dict = dataclasses.field(default_factory=dict)    # name -> [passed, skipped, failed, seconds]
    attached: dict = dataclasses.field(default_factory=dict)  # hook -> mode
    programs: dict = dataclasses.field(default_factory=dict)  # name -> instructions that the verifier processed

    @property
    def ok(self):
        return not self.failures

    def save(self, path):
        pathlib.Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def load(path):
        value = json.loads(pathlib.Path(path).read_text())
        value["failures"] = [Failure(**failure) for failure in value["failures"]]
        return Report(**value)


def _end_of(path, lines=40):
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _add_properties(report, case):
    for entry in case.iter("property"):
        name, value = entry.get("name"), entry.get("value")
        if name == "release":
            report.release = value
        elif name.startswith("program."):
            report.programs[name.removeprefix("program.")] = int(value)
        elif name.startswith("attached."):
            report.attached[name.removeprefix("attached.")] = value


def _add_suite(report, name, path):
    """Of a JUnit file, in which a test case holds what went wrong or why it was skipped."""
    counts = [0, 0, 0]
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        _add_properties(report, case)
        test = f"{case.get('classname', name).split('.')[-1]}.{case.get('name')}"
        wrong = [element for element in case if element.tag in ("failure", "error")]
        skipped = case.find("skipped")
        if wrong:
            text = "\n".join(element.text or element.get("message") or "" for element in wrong)
            report.failures.append(Failure(f"{name}: {test}", text))
            counts[2] += 1
        elif skipped is not None or case.get("result") == "skipped":
            message = ((skipped.get("message") or skipped.text) if skipped is not None else None) or "no reason given"
            reason = message.strip().splitlines()[-1]
            report.skipped[reason] = report.skipped.get(reason, 0) + 1
            counts[1] += 1
        elif case.get("status") != "notrun":
            counts[0] += 1
    report.passed += counts[0]
    return counts


def what_was_done(directory):
    """{suite: how it ended}, of a directory of results."""
    try:
        return {suite["name"]: suite for suite in json.loads((directory / "done.json").read_text())}
    except FileNotFoundError:
        return {}


def collect(report, directory, planned):
    """Adds what is in a directory of results; `planned` names the suites that should have run."""
    done = what_was_done(directory)
    running = _end_of(directory / "running")
    for name in planned:
        how = done.get(name)
        path = directory / f"{name}.xml"
        failed_before = len(report.failures)
        counts = [0, 0, 0]
        if path.exists():
            try:
                counts = _add_suite(report, name, path)
            except xml.etree.ElementTree.ParseError:
                pass  # cut short: told below
        report.suites[name] = [*counts, how["seconds"] if how else 0]
        log = _end_of(directory / f"{name}.log")
        if how is None:
            what = "was running when the machine ended" if name == running else "did not run"
            report.failures.append(Failure(name, f"{what}\n{log if name == running else ''}"))
        elif how["status"] is None:
            report.failures.append(Failure(name, f"ran longer than it may\n{log}"))
        elif how["status"] != 0 and len(report.failures) == failed_before:
            report.failures.append(Failure(name, f"exit status {how['status']}\n{log}"))
        elif sum(counts) == 0:
            report.failures.append(Failure(name, f"no test ran\n{log}"))


def judge(report):
    """Adds what is wrong with the figures: a program that leaves too little room for the next feature,
    or for another kernel's verifier; and a complete run that has none."""
    for name, instructions in sorted(report.programs.items()):
        if instructions > VERIFIER_LIMIT // 4:
            report.failures.append(Failure(f"the verifier: {name}", f"{instructions:,} instructions are more than a quarter "
                                                                    f"of the {VERIFIER_LIMIT:,} that it allows"))
    if report.complete and not (report.programs and report.attached):
        report.failures.append(Failure("the figures", "no suite told how the programs are verified and attached"))


def _attached(report):
    words = {"xdp": "XDP", "tc-ingress": "tc ingress", "tc-egress": "tc egress"}
    return ", ".join(f"{words.get(hook, hook)} {mode}" for hook, mode in
                     sorted(report.attached.items(), key=lambda item: list(words).index(item[0]) if item[0] in words else 9))


def _heading(report):
    return f"{report.kernel} ({report.release})"


def table(reports):
    """The text of docs/kernels.md."""
    lines = ["# Kernels", "",
             "Written by `tools/test --vm`, which runs every test that needs a kernel on each of these: those of",
             "Debian in virtual machines, the host's as it is. Suites netns_* are real traffic with native",
             "XDP, netns_other_modes is traffic of each kind with generic XDP and without.", "",
             "| kernel | attached | tests | passed | skipped | failed |", "|---|---|---|---|---|---|"]
    for report in reports:
        lines.append(f"| {_heading(report)} | {_attached(report)} | {'all' if report.complete else 'a part'} "
                     f"| {report.passed} | {sum(report.skipped.values())} | {len(report.failures)} |")
    lines += ["", "## What ran", "", "Passed, and skipped where that is not 0.", "",
              "| suite | " + " | ".join(report.kernel for report in reports) + " |", "|---|" + "---|" * len(reports)]
    for name in dict.fromkeys(name for report in reports for name in report.suites):
        cells = []
        for report in reports:
            passed, skipped, failed, _ = report.suites.get(name, (0, 0, 0, 0))
            cells.append(f"{passed}" + (f", {skipped} skipped" if skipped else "") + (f", {failed} FAILED" if failed else ""))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "## What was skipped, and what showed that it must be", ""]
    reasons = [(report, reason, number) for report in reports for reason, number in sorted(report.skipped.items())]
    lines += [f"- {report.kernel}, {number} test{'s' if number > 1 else ''}: {reason}"
              for report, reason, number in reasons] or ["Nothing."]
    lines += ["", "## The verifier", "",
              f"Instructions that it processed for each program, of the {VERIFIER_LIMIT:,} that it allows, and what is left.",
              "A program that needs more than a quarter fails the test.", "",
              "| program | " + " | ".join(report.kernel for report in reports) + " |", "|---|" + "---|" * len(reports)]
    for name in sorted({name for report in reports for name in report.programs}):
        cells = [f"{report.programs[name]:,}, left {100 - 100 * report.programs[name] / VERIFIER_LIMIT:.1f} %"
                 if name in report.programs else "-" for report in reports]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
