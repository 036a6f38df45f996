# SPDX-License-Identifier: Apache-2.0
"""vagrant/ as far as it can be run without its boxes: Vagrant reads the Vagrantfile, and containers of
Debian 12 go through what its machines do, provisioning, smoke test and benchmarks."""
import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import containers  # noqa: E402

ROOT = containers.ROOT
# As in the Vagrantfile.
MACS = {"client": "52540064000a", "node-a": "525400640001", "node-b": "525400640002"}
NODES = 2
BUILD_LIMIT = 3600  # seconds


# ---- the Vagrantfile ----

@pytest.fixture(scope="module")
def vagrant(tmp_path_factory):
    if not shutil.which("vagrant"):
        pytest.skip("there is no program vagrant: tools/setup --vagrant")
    if "vagrant-libvirt" not in subprocess.run(["vagrant", "plugin", "list"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("Vagrant has no plugin vagrant-libvirt: tools/setup --vagrant")
    environment = {**os.environ, "VAGRANT_HOME": str(tmp_path_factory.mktemp("vagrant")), "HOME": "/root",
                   "VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_CWD": str(ROOT / "vagrant"),
                   "VAGRANT_DOTFILE_PATH": str(tmp_path_factory.mktemp("dotfile"))}

    def command(*arguments, **variables):
        return subprocess.run(["vagrant", *arguments], env={**environment, **variables}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return command


# VirtualBox is not in Debian: Vagrant reads all but what is for it.
@pytest.mark.parametrize("nodes, kernel, provider, options", [
    ("2", "6.1", "libvirt", []), ("3", "6.12", "libvirt", []), ("3", "6.12", "virtualbox", ["--ignore-provider"])])
def test_the_vagrantfile_is_valid(vagrant, nodes, kernel, provider, options):
    done = vagrant("validate", *options, MAGLANE_NODES=nodes, MAGLANE_KERNEL=kernel, VAGRANT_DEFAULT_PROVIDER=provider)
    assert (done.returncode, "validated successfully" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("variable, value", [("MAGLANE_NODES", "4"), ("MAGLANE_KERNEL", "5.10")])
def test_a_wrong_setting_is_named(vagrant, variable, value):
    done = vagrant("validate", **{variable: value})
    assert done.returncode != 0
    assert f"{variable} is" in done.stdout and f"not {value}" in done.stdout


# ---- its machines, as containers ----

@pytest.fixture(scope="module")
def directory():
    """On a disk: what provisioning adds is too large for a tmpfs."""
    if not shutil.which("debootstrap"):
        pytest.skip("there is no program debootstrap: tools/setup --vagrant")
    path = containers.DIRECTORY / "vagrant"
    containers.remove(path)
    path.mkdir(parents=True)
    yield path
    containers.remove(path)


def provision(machine, *arguments):
    return machine.run("bash", f"{containers.TREE}/vagrant/provision.sh", *arguments, timeout=BUILD_LIMIT)


@pytest.fixture(scope="module")
def prepared(directory):
    """(layers for other machines, {kernel: what its step has left}): what the first step makes of a machine."""
    layers = [containers.tree_layer(directory / "tree"), containers.base()]
    left = {}
    with containers.Machine("prepared", directory, layers, network=False) as machine:
        for kernel in ("6.12", "6.1"):
            provision(machine, "prepare", kernel)
            left[kernel] = machine.run("bash", "-c", "ls /boot; cat /etc/default/grub.d/maglane.cfg 2>/dev/null || true")
    return [machine.upper, *layers], left


class Fabric:
    """Joins the machines' devices as the network of the Vagrantfile does."""
    PREFIX = "maglane-vagrant-"

    def __init__(self, directory):
        self.name, self.directory = f"{self.PREFIX}{os.getpid()}", directory

    def on(self, *command):
        containers.run("nsenter", f"--net=/run/netns/{self.name}", *command)

    def __enter__(self):
        for left in pathlib.Path("/run/netns").glob(f"{self.PREFIX}*"):  # of tests that were killed
            if not pathlib.Path("/proc", left.name.removeprefix(self.PREFIX)).exists():
                containers.run("ip", "netns", "delete", left.name)
        containers.run("ip", "netns", "add", self.name)
        self.on("ip", "link", "add", "bridge", "up", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        containers.run("bash", "-c", 'clang -O2 -target bpf -isystem "/usr/include/$(gcc -print-multiarch)" -c "$0" -o "$1"',
                       ROOT / "tools/lab.d/pass.bpf.c", self.directory / "pass.bpf.o")
        return self

    def join(self, machine, mac):
        address = ":".join(mac[i:i + 2] for i in range(0, 12, 2))
        self.on("ip", "link", "add", machine.name, "type", "veth",
                "peer", "name", "eth1", "address", address, "netns", str(machine.pid))
        self.on("ip", "link", "set", machine.name, "master", "bridge", "up")
        # As docs/lab.md tells: a veth takes frames of XDP_TX only so, and a real wire's checksums are whole.
        self.on("ip", "-force", "link", "set", "dev", machine.name, "xdp", "obj", self.directory / "pass.bpf.o", "sec", "xdp")
        self.on("ethtool", "-K", machine.name, "tx", "off", "gro", "on")

    def __exit__(self, *_):
        containers.run("ip", "netns", "delete", self.name)


VAGRANT_SHIM = """\
#!/bin/bash
# vagrant ssh HOST -c COMMAND -- OPTIONS OF SSH
case $2 in
{cases}  *) echo "there is no machine '$2'" >&2; exit 1 ;;
esac
exec "${{enter[@]}}" bash -c "$4" </dev/null
"""


@pytest.fixture(scope="module")
def machines(directory, prepared):
    """All, built and joined; {host: machine}, and the environment in which `vagrant ssh` reaches them."""
    layers, _ = prepared
    with contextlib.ExitStack() as stack:
        fabric = stack.enter_context(Fabric(directory))
        up = {}
        for host, mac in MACS.items():
            up[host] = stack.enter_context(containers.Machine(host, directory, layers))
            fabric.join(up[host], mac)
            provision(up[host], "build", host)
        for host, mac in MACS.items():
            provision(up[host], "join", host, mac, NODES)
        shim = directory / "bin/vagrant"
        shim.parent.mkdir()
        shim.write_text(VAGRANT_SHIM.format(cases="".join(
            f"  {host}) enter=({shlex.join(map(str, machine.command()))}) ;;\n" for host, machine in up.items())))
        shim.chmod(0o755)
        yield up, {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}


def test_each_kernel_is_installed_and_started(prepared):
    _, left = prepared
    assert "vmlinuz-6.12." in left["6.12"] and "Linux 6.12." in left["6.12"]
    assert "vmlinuz-6.1.0-" in left["6.1"] and "Linux 6.1.0-" in left["6.1"] and "Linux 6.12." not in left["6.1"]


def test_joining_again_changes_nothing(machines):
    up, _ = machines
    before = up["node-a"].run("cat", "/run/maglane-lab/maglane/node-a.agent.pid")
    provision(up["node-a"], "join", "node-a", MACS["node-a"], NODES)
    assert up["node-a"].run("cat", "/run/maglane-lab/maglane/node-a.agent.pid") == before


def test_the_smoke_test_passes(machines):
    _, environment = machines
    output = containers.run(ROOT / "vagrant/smoke.sh", env=environment, timeout=600)
    assert "All went well" in output


def test_the_smoke_test_sees_a_node_that_does_not_serve(machines):
    up, environment = machines
    up["node-b"].run(f"{containers.TREE}/tools/lab", "agents", "down")
    try:
        with pytest.raises(RuntimeError, match="of 40 requests some were not answered"):
            containers.run(ROOT / "vagrant/smoke.sh", env=environment, timeout=600)
    finally:
        up["node-b"].run(f"{containers.TREE}/tools/lab", "agents", "up")


def test_benchmarks_run_and_leave_their_figures_here(machines):
    _, environment = machines
    output = containers.run(ROOT / "vagrant/bench.sh", "--once", "packet", env=environment, timeout=BUILD_LIMIT)
    assert "the figures are in build/bench/vagrant-" in output


# ---- the smoke test, in the lab of this machine ----

def test_the_smoke_test_passes_in_the_lab():
    environment = {**os.environ, "MAGLANE_LAB": f"mtv{os.getpid()}"}
    try:
        containers.run(ROOT / "tools/lab", "up", env=environment)
        containers.run(ROOT / "tools/lab", "agents", "up", env=environment)
        assert "All went well" in containers.run(ROOT / "vagrant/smoke.sh", "--lab", env=environment)
    finally:
        containers.run(ROOT / "tools/lab", "down", env=environment)
