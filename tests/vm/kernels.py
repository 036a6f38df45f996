# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels for virtual machines, as packages that are unpacked and never installed."""
import dataclasses
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIRECTORY = ROOT / "build/vm/kernels"

# Name -> the packages that may be it. Cloud flavours: small, and all that a virtual machine needs.
PACKAGES = {
    "6.1": r"linux-image-6\.1\.0-[0-9]+-cloud-amd64",
    "6.12": r"linux-image-6\.12\.[0-9.]+\+deb12-cloud-amd64",
}
HOST = "host"  # the kernel of this machine

# What the first steps of a boot need: the machine's root file system, and a way to speak.
MODULES = ("virtio_pci", "virtio_console", "virtiofs", "overlay")


class KernelError(Exception):
    """What is missing, in one line."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    name: str     # as in PACKAGES
    release: str  # as uname -r says it
    path: pathlib.Path

    @property
    def image(self):
        return self.path / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self):
        return self.path / "lib/modules" / self.release

    @property
    def initrd(self):
        return self.path / "initrd"


def _run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise KernelError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _numbers(package):
    return [int(number) for number in re.findall(r"\d+", package)]


def _newest_package(name):
    """The newest that apt's lists have, or None."""
    found = [line.split()[0] for line in _run("apt-cache", "search", "--names-only", f"^{PACKAGES[name]}$").splitlines()]
    return max(found, key=_numbers, default=None)


def _apt_get(*arguments, **options):
    # Neither waits long for a network that is not there, nor calls lists that it could not fetch new ones.
    _run("apt-get", "-qq", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o",
         "APT::Update::Error-Mode=any", "-o", "APT::Sandbox::User=root", *arguments, **options)


def _fetch(name, directory, say):
    """(package, its file in that directory). apt's lists may be missing, or name what the archive
    has no more: the second time they are fetched first."""
    problem = "apt knows none"
    for update in (False, True):
        try:
            if update:
                _apt_get("update")
            package = _newest_package(name)
            if package:
                say(f"downloading {package}")
                _apt_get("download", package, cwd=directory)
                return package, next(directory.glob("*.deb"))
        except KernelError as error:
            problem = str(error).splitlines()[-1]
    place = (DIRECTORY / name).relative_to(ROOT)
    raise KernelError(
        f"kernel {name}: cannot download a package like {PACKAGES[name]}, of Debian 12's main, security and updates "
        f"suites: {problem}. Where there is no network: dpkg-deb -x FILE {place} && depmod -b {place} RELEASE")


def _unpacked(name):
    path = DIRECTORY / name
    images = list(path.glob("boot/vmlinuz-*"))
    return Kernel(name, images[0].name.removeprefix("vmlinuz-"), path) if images else None


def _download(name, say):
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as scratch:
        package, archive = _fetch(name, pathlib.Path(scratch), say)
        _run("dpkg-deb", "-x", archive, f"{scratch}/root")
        release = package.removeprefix("linux-image-")
        _run("depmod", "-b", f"{scratch}/root", release)
        shutil.rmtree(DIRECTORY / name, ignore_errors=True)
        os.rename(f"{scratch}/root", DIRECTORY / name)


def _module_files(kernel):
    """The files of MODULES and of what they need, in the order in which they load."""
    files = []
    for module in MODULES:
        for line in _run("modprobe", "-S", kernel.release, "-d", kernel.path, "--show-depends", module).splitlines():
            how, _, path = line.partition(" ")
            if how == "insmod" and path.strip() not in files:
                files.append(path.strip())
    return files


def _make_initrd(kernel):
    """busybox, the modules above, and init."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch)
        for name in ("bin", "dev", "proc", "sys", "modules", "host", "own", "root", "results"):
            (tree / name).mkdir()
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        (tree / "bin/sh").symlink_to("busybox")
        order = []
        for number, path in enumerate(_module_files(kernel)):
            order.append(f"{number:02}-{pathlib.Path(path).name.removesuffix('.xz')}")
            data = _read_xz(path) if path.endswith(".xz") else pathlib.Path(path).read_bytes()
            (tree / "modules" / order[-1]).write_bytes(data)
        (tree / "modules/order").write_text("".join(f"{name}\n" for name in order))
        shutil.copy(pathlib.Path(__file__).with_name("init"), tree / "init")
        (tree / "init").chmod(0o755)
        names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
        archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(),
                                 stdout=subprocess.PIPE, check=True).stdout
    fresh = kernel.initrd.with_suffix(".new")
    fresh.write_bytes(archive)
    os.rename(fresh, kernel.initrd)


def _read_xz(path):
    return subprocess.run(["xz", "-dc", path], stdout=subprocess.PIPE, check=True).stdout


def get(name, say=print):
    """The kernel of that name, ready to boot; downloads it the first time."""
    if name not in PACKAGES:
        raise KernelError(f"there is no kernel '{name}' (there are: {', '.join(PACKAGES)}, {HOST})")
    if platform.machine() != "x86_64":
        raise KernelError(f"the kernels are of x86_64, this machine is {platform.machine()}")
    if not _unpacked(name):
        _download(name, say)
    kernel = _unpacked(name)
    newest = max(os.path.getmtime(file) for file in (__file__, pathlib.Path(__file__).with_name("init")))
    if not kernel.initrd.exists() or kernel.initrd.stat().st_mtime < newest:
        _make_initrd(kernel)
    return kernel
