#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/contract on reports made up for it."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True


def case(name, points="", inside="", attributes='status="run" result="completed"'):
    properties = f'<properties><property name="conformance" value="{points}"/></properties>' if points else ""
    return f'<testcase name="{name}" classname="Suite" {attributes}>{properties}{inside}</testcase>'


class Contract(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="maglane-contract-")
        self.addCleanup(self.directory.cleanup)

    def report(self, name, *cases):
        text = f"<testsuites><testsuite name='s'>{''.join(cases)}</testsuite></testsuites>"
        (pathlib.Path(self.directory.name) / f"{name}.xml").write_text(text)

    def run_contract(self, *arguments):
        return subprocess.run([ROOT / "tools/contract", "--reports", self.directory.name, *arguments],
                              capture_output=True, text=True)

    def points(self):
        return {row["point"]: row for row in json.loads(self.run_contract("--json").stdout)}

    def everything(self, without=()):
        """Reports that prove every point in every way, but for some (report, point)."""
        for name in ("plan_test", "packets_kernel", "netns"):
            self.report(name, *(case(f"T{n}", n) for n in range(1, 32) if (name, n) not in without))

    def test_nothing_is_proved_without_reports(self):
        done = self.run_contract()
        self.assertEqual(done.returncode, 1)
        self.assertIn("0 of 31 points are proved: there are no reports", done.stdout)

    def test_everything_proved(self):
        self.everything()
        done = self.run_contract()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("31 of 31 points are proved", done.stdout)

    def test_a_proof_that_is_missing(self):
        self.everything(without=[("packets_kernel", 8)])
        done = self.run_contract()
        self.assertEqual(done.returncode, 1)
        self.assertIn("8 which set a frontend uses under which policy: BPF", done.stdout)
        self.assertTrue(self.points()[8]["ways"]["model"]["proved"])

    def test_a_way_that_does_not_apply_is_not_needed(self):
        self.everything(without=[("packets_kernel", 28)])
        self.assertEqual(self.run_contract().returncode, 0)

    def test_one_failure_makes_a_point_red(self):
        for fault in ("<failure message='x'/>", "<error message='x'/>"):
            self.everything()
            self.report("resolve_test", case("Bad", "3", fault))
            self.assertEqual(self.run_contract().returncode, 1)
            self.assertEqual(self.points()[3]["ways"]["model"], {"needed": True, "passed": 1, "failed": 1, "proved": False})

    def test_skipped_is_no_proof(self):
        for how in (case("T", "3", "<skipped/>"), case("T", "3", attributes='status="notrun" result="suppressed"'),
                    case("T", "3", attributes='status="run" result="skipped"')):
            self.everything(without=[("netns", 3)])
            self.report("netns", how, *(case(f"T{n}", n) for n in range(1, 32) if n != 3))
            self.assertEqual(self.run_contract().returncode, 1)

    def test_numbers_by_property_and_by_name(self):
        self.report("plan_test", case("A", "1,2"), case("Point04_B"), case("Point05_C", "6"), case("D"))
        rows = self.points()
        self.assertEqual([n for n, row in rows.items() if row["ways"]["model"]["passed"]], [1, 2, 4, 5, 6])

    def test_tests_of_a_point(self):
        self.report("netns", case("test_x[ipv4]", "7"))
        self.report("packets_native", case("T", "7"))
        done = self.run_contract("7")
        self.assertIn("real traffic  passed   Suite.test_x[ipv4]", done.stdout)
        self.assertIn("native        passed   Suite.T", done.stdout)

    def test_what_it_cannot_place_is_an_error(self):
        self.report("unheard_of", case("T", "7"))
        self.assertIn("does not name the report", self.run_contract().stderr)
        self.report("unheard_of", case("T"))
        self.report("netns", case("T", "32"))
        self.assertIn("there is no point 32", self.run_contract().stderr)
        (pathlib.Path(self.directory.name) / "netns.xml").write_text("<testsuites>")
        done = self.run_contract()
        self.assertEqual(done.returncode, 1)
        self.assertIn("netns.xml", done.stderr)

    def test_wrong_usage(self):
        for arguments in (["--what"], ["x"], ["99"], ["--reports"]):
            self.assertEqual(self.run_contract(*arguments).returncode, 2, arguments)
        self.assertEqual(self.run_contract("--help").returncode, 0)


if __name__ == "__main__":
    unittest.main()
