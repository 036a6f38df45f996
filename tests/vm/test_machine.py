# SPDX-License-Identifier: Apache-2.0
"""That nothing which goes wrong in a machine, or in the suites in it, passes for a success."""
import functools
import json
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kernels  # noqa: E402
import machine  # noqa: E402
import report as reports  # noqa: E402
import run as run_module  # noqa: E402
import suites  # noqa: E402

KERNEL = "6.12"


@pytest.fixture(scope="module")
def kernel():
    return kernels.get(KERNEL)


def run(kernel, tmp_path, script, limit=100, **options):
    lines = []
    outcome = machine.Machine(kernel, **options).run(["bash", "-c", script], tmp_path, limit, lines.append)
    return outcome, lines


def test_status_and_output_come_back(kernel, tmp_path):
    outcome, lines = run(kernel, tmp_path, "uname -r; echo kept >/run/vm/file; echo lost >/root/file; exit 7")
    assert (outcome.status, outcome.problem) == (7, "")
    assert kernel.release in lines
    assert (tmp_path / "file").read_text() == "kept\n"
    assert not pathlib.Path("/root/file").exists()


def test_a_run_that_is_killed_leaves_what_the_console_said(kernel, tmp_path):
    """Else its suites would count as passed although the kernel had complained."""
    said = []
    machine.Machine(kernel).run(["bash", "-c", "echo '<2>some words' >/dev/kmsg; sleep 2; echo now; sleep 2"], tmp_path, 100,
                                lambda line: said.append((tmp_path / "console").read_text()) if line == "now" else None)
    assert ["some words" in text for text in said] == [True]


# ---- what goes wrong in a suite, seen through the whole run: a failed test, with the console ----

# A process at the highest priority on each CPU: nothing else runs there any more, nor does the kernel's own work.
# Neither after a second in which the kernel lets others run; newer ones have a server for that.
HANG = ("mount -t debugfs debugfs /sys/kernel/debug; "
        "for server in /sys/kernel/debug/sched/fair_server/*/runtime; do echo 0 >$server; done; "
        "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; for cpu in $(seq $(nproc)); do "
        "chrt --fifo 99 bash -c 'while :; do :; done' & done; sleep 1000")

FILL_MEMORY = "/usr/bin/python3 -c 'all = []\nwhile True: all.append(bytearray(1 << 24))'; exit 0"


@pytest.mark.parametrize("script, limit, silence, problem, on_console", [
    ("echo c >/proc/sysrq-trigger; sleep 20", 60, 180, "the console says: ", "Kernel panic"),
    (HANG, 10, 180, "the machine was still running after ", "suite breaks"),
    (HANG, 600, 20, "the machine hangs: not a sign of life for 20 s", "suite breaks"),
    (FILL_MEMORY, 60, 180, "the console says: ", "Out of memory"),
], ids=["panic", "hang-until-the-limit", "hang", "out-of-memory"])
def test_a_machine_that_breaks_is_a_failed_test(kernel, tmp_path, monkeypatch, capsys, script, limit, silence, problem,
                                                on_console):
    monkeypatch.setattr(machine, "SILENCE_LIMIT", silence)
    monkeypatch.setattr(run_module, "DIRECTORY", tmp_path)
    monkeypatch.setattr(run_module, "BOOT_ALLOWANCE", 40)
    monkeypatch.setattr(machine, "Machine", functools.partial(machine.Machine, memory=768))
    plan = [suites.Suite("breaks", ["bash", "-c", script], "--results=", limit), suites.Suite("after", ["true"], "", 5)]
    report = run_module.run_kernel(kernel.name, plan, complete=False)
    assert report.failures[0].test == "the machine"
    assert report.failures[0].text.startswith(problem)
    assert not report.ok
    run_module.tell(report)
    told = capsys.readouterr().out
    assert f"FAILED on {kernel.name}: the machine" in told
    assert on_console in told


def test_a_machine_that_is_alive_may_take_long(kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SILENCE_LIMIT", 12)
    outcome, _ = run(kernel, tmp_path, "sleep 30; exit 7")
    assert (outcome.status, outcome.problem) == (7, "")


def test_a_machine_that_never_stops_talking_has_a_limit_too(kernel, tmp_path):
    outcome, lines = run(kernel, tmp_path, "yes talk", limit=20)
    assert outcome.problem.startswith("the machine was still running after 20 s")
    assert "talk" in lines


def test_a_kernel_that_kvm_does_not_bring_up_is_emulated_and_kvm_not_asked_again(tmp_path, monkeypatch):
    asked = []

    def boot(_, directory, limit, on_line, accelerator, boot_limit):
        asked.append(accelerator)
        return machine.Outcome(0, "", "", 1, accelerator, accelerator == "tcg")
    monkeypatch.setattr(machine, "kvm_works", lambda: True)
    monkeypatch.setattr(machine, "_not_by_kvm", set())
    monkeypatch.setattr(machine.Machine, "_boot", boot)
    for release in ("1", "1", "2"):
        of_it = kernels.Kernel("some", release, kernels.ROOT)
        assert machine.Machine(of_it).run(["true"], tmp_path, 5, lambda line: None).accelerator == "tcg"
    assert asked == ["kvm", "tcg", "tcg", "kvm", "tcg"]


@pytest.mark.parametrize("needed", ["/tmp/tree", "/run/tree"])
def test_a_tree_that_a_machine_does_not_see_is_told(kernel, tmp_path, monkeypatch, needed):
    monkeypatch.setattr(machine, "ROOT", pathlib.Path(needed))
    outcome, _ = run(kernel, tmp_path, "true")
    assert f"does not see {needed}: move" in outcome.problem


def test_a_machine_that_ends_early_is_told(kernel, tmp_path):
    outcome, _ = run(kernel, tmp_path, "/run/busybox poweroff -f")
    assert outcome.status is None
    assert "before it had told a result" in outcome.problem


# ---- kernels and reports: no machine needed ----

@pytest.mark.parametrize("again, ran", [(False, ["passes", "fails", "other"]), (True, ["fails", "other"])])
def test_what_passed_does_not_run_again(tmp_path, monkeypatch, again, ran):
    monkeypatch.setattr(run_module, "DIRECTORY", tmp_path)
    result = 'from sys import argv; open(argv[1], "w").write(%r)' % JUNIT.replace('<failure message="1 is not 2"/>', "")

    def suite(name, then=""):
        return suites.Suite(name, ["/usr/bin/python3", "-c", f"{result}; open({str(tmp_path / 'ran')!r}, 'a').write('{name} '){then}"], "", 20)
    plan = [suite("passes"), suite("fails", "; exit(1)"), suite("other")]
    assert [failure.test for failure in run_module.run_kernel(kernels.HOST, plan, True).failures] == ["fails"]
    (tmp_path / "ran").unlink()
    plan = [suite("passes"), suite("fails"), suite("other", "; exit(0)")]  # the last another command than what passed
    report = run_module.run_kernel(kernels.HOST, plan, True, again)
    assert (report.failures, report.passed) == ([], 2 * len(plan))
    assert (tmp_path / "ran").read_text().split() == ran


@pytest.mark.parametrize("subject, second, console, left", [
    ("same", "same", "", []), ("other", "same", "", ["first", "second"]), ("same", "changed", "", ["second"]),
    ("same", "same", "suite first\nsuite second\nWARNING: CPU: 0\n", ["second"]),
    ("same", "same", "Kernel panic\nsuite first\n", ["first", "second"]),
])
def test_what_passed_counts_for_the_same_programs_and_tests_on_a_sound_kernel(tmp_path, subject, second, console, left):
    plan = [suites.Suite(name, [name], "", 20, made_of="same") for name in ("first", "second")]
    (tmp_path / "done.json").write_text(json.dumps([{**vars(suite), "status": 0, "seconds": 1} for suite in plan]))
    (tmp_path / "subject").write_text("same")
    (tmp_path / "console").write_text(console)
    plan[1].made_of = second
    assert [suite.name for suite in run_module.what_is_left(tmp_path, plan, subject)] == left


def test_a_suite_is_named_by_its_own_tests_and_what_all_have(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    for path in ("tools/lab", "tests/netns/conftest.py", "tests/netns/test_a.py", "tests/netns/test_b.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    of_a = list(suites.lab_files([tmp_path / "tests/netns/test_a.py"]))
    assert [path.name for path in of_a] == ["lab", "conftest.py", "test_a.py"]
    before = suites.digest(of_a)
    (tmp_path / "tests/netns/conftest.py").write_text("other")
    assert suites.digest(of_a) != before


def test_without_a_network_it_says_so_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "DIRECTORY", kernels.ROOT / "build/vm" / tmp_path.name)
    for protocol in ("http", "https"):
        monkeypatch.setenv(f"{protocol}_proxy", "http://127.0.0.1:9")  # discard: nobody listens
    try:
        with pytest.raises(kernels.KernelError) as caught:
            kernels.get(KERNEL, print)
    finally:
        shutil.rmtree(kernels.DIRECTORY, ignore_errors=True)
    message = str(caught.value)
    assert message.startswith(f"kernel {KERNEL}: cannot download a package like linux-image-6")
    assert "Where there is no network: dpkg-deb -x" in message
    assert "\n" not in message

JUNIT = """<testsuites><testsuite name="Suite">
<testcase name="Passes" status="run" result="completed" classname="Suite"><properties>
  <property name="release" value="6.1.0"/><property name="program.xdp_uplink" value="101887"/>
  <property name="attached.xdp" value="native"/></properties></testcase>
<testcase name="Fails" status="run" result="completed" classname="Suite"><failure message="1 is not 2"/></testcase>
<testcase name="IsSkipped" status="run" result="skipped" classname="Suite"><skipped message="file:1&#x0A;no tcx"/></testcase>
</testsuite></testsuites>"""


def collect(directory, done, running=None, junit=JUNIT):
    (directory / "one.xml").write_text(junit)
    (directory / "done.json").write_text(json.dumps(done))
    if running:
        (directory / "running").write_text(running)
    report = reports.Report("6.1", True)
    reports.collect(report, directory, ["one"])
    return report


def test_results_are_counted(tmp_path):
    report = collect(tmp_path, [{"name": "one", "status": 1, "seconds": 2}])
    assert (report.passed, report.skipped) == (1, {"no tcx": 1})
    assert [failure.test for failure in report.failures] == ["one: Suite.Fails"]
    assert (report.release, report.programs, report.attached) == ("6.1.0", {"xdp_uplink": 101887}, {"xdp": "native"})
    text = reports.table([report])
    assert "| 6.1 (6.1.0) | XDP native | all | 1 | 1 | 1 |" in text
    assert "| xdp_uplink | 101,887, left 89.8 % |" in text
    assert "- 6.1, 1 test: no tcx" in text


@pytest.mark.parametrize("done, running, told", [
    ([], "one", "was running when the machine ended"),
    ([], None, "did not run"),
    ([{"name": "one", "status": None, "seconds": 9}], None, "ran longer than it may"),
    ([{"name": "one", "status": -11, "seconds": 1}], None, "exit status -11"),
])
def test_a_suite_that_did_not_end_well_is_a_failure(tmp_path, done, running, told):
    passing = JUNIT.replace('<failure message="1 is not 2"/>', "")
    report = collect(tmp_path, done, running, passing)
    assert [told in failure.text for failure in report.failures] == [True]


def test_a_suite_without_a_test_is_a_failure(tmp_path):
    report = collect(tmp_path, [{"name": "one", "status": 0, "seconds": 1}], junit="<testsuites/>")
    assert ["no test ran" in failure.text for failure in report.failures] == [True]


@pytest.mark.parametrize("instructions, wrong", [(250_000, False), (250_001, True)])
def test_a_program_that_needs_more_than_a_quarter_is_a_failure(tmp_path, instructions, wrong):
    passing = JUNIT.replace('<failure message="1 is not 2"/>', "").replace("101887", str(instructions))
    report = collect(tmp_path, [{"name": "one", "status": 0, "seconds": 1}], junit=passing)
    reports.judge(report)
    assert [failure.test for failure in report.failures] == ["the verifier: xdp_uplink"] * wrong


def test_a_complete_run_without_figures_is_a_failure(tmp_path):
    passing = JUNIT.replace('<failure message="1 is not 2"/>', "").replace("program.", "x.")
    report = collect(tmp_path, [{"name": "one", "status": 0, "seconds": 1}], junit=passing)
    reports.judge(report)
    assert ["the figures"] == [failure.test for failure in report.failures]
