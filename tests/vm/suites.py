# SPDX-License-Identifier: Apache-2.0
"""What runs on each kernel: every test that ctest knows as one of the kernel's, the ABI, and real
traffic. A suite leaves its results as a JUnit file, which GoogleTest and pytest both write."""
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess

from kernels import ROOT

BUILD = pathlib.Path(os.environ.get("MAGLANE_BUILD", ROOT / "build/release"))


@dataclasses.dataclass
class Suite:
    name: str
    command: list      # without where the results go
    results_flag: str  # the option that says it
    limit: int         # seconds, on an emulated machine
    environment: dict = dataclasses.field(default_factory=dict)
    made_of: str = ""  # names what the test itself is made of: its program, or its scripts and those of the lab


# What a look at a kernel needs, in two minutes on an emulated one: that its verifier takes the programs,
# that they attach, do what the packet table says, and carry traffic of each kind. None: not a part of it.
# Of the table not what waits, or needs the programs loaded again with other constants.
SLOW_CASES = ("refusals_are_limited*", "second_run_of_ports*", "flow_table_full*", "port_that_a_socket*", "masquerade_all*",
              "translated_port_is_free*", "pod_to_cluster_ip_on_this_node*", "point18*", "port_after_a_doubtful*",
              "no_source_ports*", "family_that*")
SMOKE = {
    "kernel_attach_test": ["--gtest_filter=Verifier.*:Cleanup.LeavesNothing"],
    "packets_kernel": ["--gtest_filter=All/PacketTable.*-" + ":".join(f"*/{case}" for case in SLOW_CASES)],
    "reconcile_test": None,
    "contract_kernel": None,
    "contract_random": None,
    "table_kernel_test": ["--seconds", "1", "--gtest_filter=*flows4*"],
}
# Real traffic of each kind, one test or two.
EACH_KIND = ["-k", "test_pod_to_endpoint_on_other_node or test_outside_to_node_port_on_another_node or "
             "test_cluster_ip_without_endpoints or test_cleanup_removes_everything or "
             "(test_node_to_cluster_ip and ipv4)"]
# Random play: how often. An emulated CPU is some ten times slower.
PLAYS = {True: 10, False: 40}


def digest(paths):
    """Names the contents of files."""
    result = hashlib.sha256()
    for path in paths:
        result.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return result.hexdigest()


def build():
    """Names the programs under test, the agent with all that it loads and the inspector."""
    return digest(BUILD / "bin" / name for name in ("maglane-agent", "maglane"))


def traces():
    return sorted(ROOT.glob("tests/contract/*.trace"))


def lab_files(tests):
    """The scripts of the files of tests `tests`, and what they have in common."""
    for pattern in ("tools/lab", "tools/lab.d/*", "tools/common.sh", "examples/*", "tests/netns/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and (path in tests or not path.match("tests/netns/test_*.py")):
                yield path
    yield from traces()


def _ctests():
    """(name, command) of the tests that need a kernel, and of the ABI's."""
    done = subprocess.run(["ctest", "--test-dir", BUILD, "-L", "kernel|unit", "--show-only=json-v1"],
                          capture_output=True, text=True, check=True)
    for test in json.loads(done.stdout)["tests"]:
        labels = next((p["value"] for p in test["properties"] if p["name"] == "LABELS"), [])
        if "kernel" not in labels and test["name"] != "abi_test":
            continue
        if "command" not in test:
            raise SystemExit(f"{test['name']} is not built in {BUILD}: cmake --build --preset release")
        yield test["name"], test["command"]


def suites(smoke):
    result = []
    for name, command in _ctests():
        options = SMOKE.get(name, []) if smoke else []
        if options is not None:
            result.append(Suite(name, [*command, *options], "--gtest_output=xml:", 900 if smoke else 1800,
                                {"RC_PARAMS": f"max_success={PLAYS[smoke]}"}, digest([pathlib.Path(command[0]), *traces()])))

    def netns(name, path, modes, limit, *options):
        where = ROOT / "tests/netns" / path
        command = ["/usr/bin/python3", "-m", "pytest", str(where), "-v", "--xdp-modes", modes, *options]
        tests = [where] if path else list(where.glob("test_*.py"))
        result.append(Suite(name, command, "--junitxml=", limit, made_of=digest(lab_files(tests))))
    if smoke:
        netns("netns", "", "native", 600, *EACH_KIND)
    else:
        # Each file by itself, since it takes long where the machine is emulated.
        for path in sorted((ROOT / "tests/netns").glob("test_*.py")):
            netns(f"netns_{path.stem.removeprefix('test_')}", path.name, "native", 3600)
        # What the modes differ in is how the programs are attached.
        netns("netns_other_modes", "", "generic,off", 1200, *EACH_KIND)
    return result
