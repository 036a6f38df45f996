# SPDX-License-Identifier: Apache-2.0
"""Debian 12 machines as containers: what runs in the machines of vagrant/, without its boxes.

A debootstrapped root is the lower layer of an overlay, and of further ones on that: what one
provisioning step made of it is where each machine goes on. A machine is a set of namespaces with such
a root; its processes end with it, and nothing that it does is kept.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build/vm"
BASE = DIRECTORY / "bookworm"
CCACHE = DIRECTORY / "ccache"
TREE = "/maglane"  # as the Vagrantfile has it

# Beside the smallest Debian, what the box has that the scripts use.
BOX_PACKAGES = "sudo,ca-certificates,iproute2"
SOURCES = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
"""

# Arguments: the root, the host's name, a directory for ccache. Says when it is up on its standard output.
INIT = """
set -e
root=$1
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
mount -t tmpfs dev "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs shm "$root/dev/shm"
mount -t tmpfs run "$root/run"
mkdir -p "$root/run/lock" "$root/root/.cache/ccache"
mount --bind "$3" "$root/root/.cache/ccache"
hostname "$2"
ip link set lo up
echo up
exec chroot "$root" sleep infinity
"""


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-6000:]}")
    return done.stdout


def base():
    """The debootstrapped root; made the first time, which needs a network."""
    if not BASE.exists():
        fresh = BASE.with_suffix(".new")
        remove(fresh)  # of one that was killed, which has /proc mounted there
        fresh.mkdir(parents=True)
        run("debootstrap", "--variant=minbase", f"--include={BOX_PACKAGES}", "bookworm", fresh)
        (fresh / "etc/apt/sources.list").write_text(SOURCES)
        fresh.rename(BASE)
    return BASE


def remove(directory):
    """With what machines that were killed have left mounted there."""
    for line in reversed(pathlib.Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{directory}/"):
            run("umount", line.split()[1])
    if directory.exists():
        shutil.rmtree(directory)


def tree_layer(directory):
    """A layer with what Vagrant's rsync takes of the tree."""
    to = directory / TREE.lstrip("/")
    to.mkdir(parents=True)
    run("bash", "-c", 'set -o pipefail; tar -C "$0" --exclude=./build --exclude=./.git -c . | tar -C "$1" -x', ROOT, to)
    return directory


class Machine:
    """`layers` are directories, the topmost first. `network`: a network namespace of its own, else the
    host's. Use as a context manager."""

    def __init__(self, name, directory, layers, network=True):
        self.name, self.network = name, network
        self.upper, self.work, self.root = (directory / f"{name}.{part}" for part in ("upper", "work", "root"))
        self.layers, self.process = layers, None

    def __enter__(self):
        for path in (self.upper, self.work, self.root, CCACHE):
            path.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={':'.join(map(str, self.layers))},upperdir={self.upper},"
            f"workdir={self.work}", "overlay", self.root)
        try:
            if not self.network:
                shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 "unshare", "--mount", "--pid", "--fork", "--uts", "--kill-child", *(["--net"] if self.network else []),
                 "bash", "-c", INIT, "init", self.root, self.name, CCACHE],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            if self.process.stdout.readline() != "up\n":
                raise RuntimeError(f"machine {self.name} does not come up")
            self.pid = self._first_process()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _first_process(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # until bash has become sleep, in its root
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if children and os.readlink(f"/proc/{children[0]}/root") != "/":
                return int(children[0])
            time.sleep(0.02)
        raise RuntimeError(f"machine {self.name} has no first process")

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGKILL)  # and by --kill-child all that is in it
            self.process.wait()
            self.process.stdout.close()
        # The last of its processes may be on its way out.
        for attempt in range(100):
            if subprocess.run(["umount", self.root], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        shutil.rmtree(self.work, ignore_errors=True)

    def command(self, *command):
        """As a list for the host's shell."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--pid", "--net", f"--root=/proc/{self.pid}/root",
                f"--wd=/proc/{self.pid}/root", "env", "-i", "HOME=/root", "TERM=dumb", f"TREE={TREE}",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *map(str, command)]

    def run(self, *command, timeout=1800):
        return run(*self.command(*command), timeout=timeout)
