# SPDX-License-Identifier: Apache-2.0
"""That nothing which goes wrong in a machine, or in the suites in it, passes for a success."""
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kernels  # noqa: E402
import machine  # noqa: E402
import report as reports  # noqa: E402

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


def test_a_panic_is_told(kernel, tmp_path):
    outcome, _ = run(kernel, tmp_path, "echo c >/proc/sysrq-trigger; sleep 20")
    assert outcome.status is None
    assert "the console says" in outcome.problem
    assert "panic" in outcome.console


def test_a_hang_is_told(kernel, tmp_path):
    outcome, _ = run(kernel, tmp_path, "sleep 1000", limit=25)
    assert outcome.status is None
    assert "still running after 25 s" in outcome.problem


def test_running_out_of_memory_is_told(kernel, tmp_path):
    outcome, _ = run(kernel, tmp_path, "python3 -c 'bytearray(1 << 30)'; exit 0", memory=512)
    assert outcome.status == 0
    assert "the console says" in outcome.problem
    assert "oom" in outcome.problem or "Out of memory" in outcome.problem


def test_a_machine_that_ends_early_is_told(kernel, tmp_path):
    outcome, _ = run(kernel, tmp_path, "/run/busybox poweroff -f")
    assert outcome.status is None
    assert "before it had told a result" in outcome.problem


# ---- reports: no machine needed ----

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
