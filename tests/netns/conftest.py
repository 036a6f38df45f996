# SPDX-License-Identifier: Apache-2.0
"""A lab of its own for each run, named after this process, and agents in every XDP mode. With xdist (-n 3)
each of its workers is such a process; they share a run's tests by file and mode."""
import os
import pathlib
import re
import shutil
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import lab as lab_module  # noqa: E402
import manifests  # noqa: E402

# Services of one pod each, so that a test decides where the endpoint is.
ONLY = {pod: (number, 31000 + number) for number, pod in enumerate(manifests.WEB_PODS, 11)}
VOID = (20, 31020)  # address and node port of a service without endpoints
WEB = (30, 31030)   # of a service of all pods
TWIN = 31           # address of a second service of pod-b1 alone

AGENT_FLAGS = ("--flow-bits-interval", "1")  # of every agent; whoever restarts one with more brings it back with these

# Of half a minute and more, the longest first: a worker that begins one last is waited for.
LONG = ("test_traces", "test_policies", "test_restarts", "test_masquerade", "test_uplinks")


def base_manifests(directory):
    for pod, (number, node_port) in ONLY.items():
        directory.write(f"only-{pod}.json", manifests.service(f"only-{pod}", number, [pod], node_port))
    directory.write("void.json", manifests.service("void", VOID[0], [], VOID[1]))
    directory.write("twin.json", manifests.service("twin", TWIN, ["pod-b1"]))
    directory.write("web.json", manifests.service("web", WEB[0], manifests.WEB_PODS, WEB[1]))


def remove_abandoned_labs():
    """Of runs that were killed before they could clean up."""
    names = {match[1] for name in os.listdir("/run/netns") if (match := re.match(r"(mt(\d+)[a-z]?)-", name))
             and not os.path.exists(f"/proc/{match[2]}")} if os.path.isdir("/run/netns") else ()
    for name in names:
        lab_module.Lab(name).command("down")


def pytest_addoption(parser):
    parser.addoption("--xdp-modes", default="native,generic,off", help="which XDP modes to test in, by comma")


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        modes = metafunc.config.getoption("--xdp-modes").split(",")
        metafunc.parametrize("mode", modes, indirect=True, scope="session")


def group_of(nodeid, modes):
    """(mode, file): what is tested by one worker. All of it in one mode, since changing it restarts the agents."""
    words = re.split(r"[\[\]-]", nodeid)
    mode = next((word for word in reversed(words) if word in modes), modes[0])
    return mode, pathlib.PurePath(nodeid.split("::")[0]).stem


def order_of(nodeid, modes):
    """All of a mode before the next one, in each worker."""
    mode, file = group_of(nodeid, modes)
    return modes.index(mode), LONG.index(file) if file in LONG else len(LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByModeAndFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "-".join(group_of(nodeid, config.getoption("--xdp-modes").split(",")))

    return ByModeAndFile(config, log)


def pytest_collection_modifyitems(config, items):
    """What does not depend on the XDP mode is tested in the first one alone."""
    modes = config.getoption("--xdp-modes").split(",")
    first = modes[0]
    again = [item for item in items if item.get_closest_marker("any_mode") and hasattr(item, "callspec")
             and item.callspec.params.get("mode", first) != first]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if item not in again]
    items.sort(key=lambda item: order_of(item.nodeid, modes))
    for item in items:  # into the report, where tools/contract finds them
        points = {point for marker in item.iter_markers("conformance") for point in marker.args}
        if points:
            item.user_properties.append(("conformance", ",".join(map(str, sorted(points)))))


def pytest_configure():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that fixtures clean up


def pytest_unconfigure(config):
    """A worker that takes long to end, or hangs, is killed."""
    if config.getoption("numprocesses", None):
        remove_abandoned_labs()


@pytest.fixture(scope="session")
def bare_lab():
    assert os.geteuid() == 0, "these tests need root"
    remove_abandoned_labs()
    lab = lab_module.Lab(f"mt{os.getpid()}")
    try:
        lab.command("up")
        yield lab
    finally:
        lab.command("down")


@pytest.fixture(scope="session")
def mode(request):
    return request.param


@pytest.fixture(scope="session")
def directory(bare_lab, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifests")
    for name in ("nodes.yaml",):
        shutil.copy(lab_module.ROOT / "examples" / name, path)
    result = manifests.Directory(path)
    base_manifests(result)
    return result


@pytest.fixture(scope="session")
def lab(bare_lab, mode, directory):
    """The lab with an agent on each node, all in one XDP mode."""
    bare_lab.command("agents", "up", "--xdp", mode, "--manifests", directory.path, "--", *AGENT_FLAGS)
    yield bare_lab
    bare_lab.command("agents", "down")


@pytest.fixture(autouse=True)
def checksums(request):
    """No test may make a host see a bad checksum, whatever it is about."""
    if "bare_lab" not in request.fixturenames:
        yield
        return
    lab = request.getfixturevalue("bare_lab")
    before = lab.checksum_errors()
    yield
    assert lab.checksum_errors() == before


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab:
        for node in lab_module.NODES:
            report.sections.append((f"agent of {node}", "\n".join(lab.agent_log(node).splitlines()[-30:])))
            stats = lab.exec(node, "maglane", "stats", check=False)
            report.sections.append((f"counters of {node}", stats.stdout + stats.stderr))


@pytest.fixture(params=[lab_module.IPV4, lab_module.IPV6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.fixture(params=["TCP", "UDP"])
def protocol(request):
    return request.param
