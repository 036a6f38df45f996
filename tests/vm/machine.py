# SPDX-License-Identifier: Apache-2.0
"""One virtual machine: boots a kernel of kernels.py, runs one command as root, and ends.

The machine has the host's root file system below and memory above: it sees every program and the
tree with its build, and can change nothing but the directory of results. What it prints is passed
on line by line. A machine that hangs, panics or ends before it has reported is an outcome as any
other, with its console.
"""
import dataclasses
import functools
import os
import pathlib
import re
import select
import shlex
import subprocess
import tempfile
import time

from kernels import ROOT

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
QEMU = "qemu-system-x86_64"
PASSED_ON = ("MAGLANE_BUILD",)              # of the environment, to the command
OWN_DIRECTORIES = ("/tmp", "/run", "/dev")  # of a machine: those of the host are not seen there
BOOT_LIMIT = 90        # seconds until the first line of the guest, under emulation on a busy machine
KVM_PROBE_LIMIT = 3    # seconds; a machine where KVM works needs less than one
KVM_BOOT_LIMIT = 30
# The CPUs take turns in one thread. With one for each, 6.12 panicked where programs were swapped under load:
# "Oops: int3" in bpf_dispatcher_xdp_func, it seems since a CPU met the breakpoint under which another had
# rewritten the kernel's code, after that was done.
# With "enhanced rep movsb" the kernel copies and clears memory by single bytes, each of them emulated: without it
# the verifier is twice as fast.
EMULATED_CPU = ["-accel", "tcg,thread=single", "-cpu", "max,-erms"]
# A virtual host may not let its guests see which flaws its CPU has.
KVM_CPU = "host,-arch-capabilities"
GREETING = "machine is up"
# An empty line says that the machine is alive. One that says nothing for longer hangs; under emulation on a
# busy host some are late.
ALIVE_EVERY, SILENCE_LIMIT = 5, 180  # seconds

_not_by_kvm = set()  # releases that KVM did not bring up where it runs instructions; tried once

# mov al, 1; out 0xf4, al; hlt: ends a qemu that has an isa-debug-exit device, with status 3.
BOOT_SECTOR = bytes.fromhex("b001e6f4f4").ljust(510, b"\0") + b"\x55\xaa"

# Lines of a console that speak of a broken kernel. Emulated machines may be slow for many
# seconds: that a CPU was stuck is told by the time limit.
TROUBLE = re.compile(r"Kernel panic|Oops|general protection|BUG: (?!workqueue lockup|soft lockup)|KASAN|"
                     r"Out of memory|invoked oom-killer|WARNING: CPU|refcount_t:|unregister_netdevice: waiting")


@dataclasses.dataclass
class Outcome:
    status: int | None  # of the command; None if the machine never told it
    problem: str        # why there is no status, or what the console says went wrong; else ""
    console: str
    seconds: float
    accelerator: str
    up: bool            # whether it came as far as to run the command


@functools.cache
def kvm_works():
    """Whether a virtual CPU of KVM executes instructions. The device alone proves nothing."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(BOOT_SECTOR.ljust(1 << 20, b"\0"))
        disk.flush()
        process = subprocess.Popen(
            [QEMU, "-accel", "kvm", "-cpu", KVM_CPU, "-M", "pc", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none",
             "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive", f"file={disk.name},format=raw,if=ide"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _wait(process, KVM_PROBE_LIMIT) == 3


def _wait(process, seconds):
    """The exit status, or None after the time is up; the process is killed then, and left
    alone if even that does not end it."""
    for limit in (seconds, 5):
        try:
            status = process.wait(limit)
            return status if limit == seconds else None
        except subprocess.TimeoutExpired:
            process.kill()
    return None


def _spawn(command, **options):
    """A process that does not outlive this one."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdin=subprocess.DEVNULL, **options)


class Machine:
    def __init__(self, kernel, memory=2048, cpus=2):
        self.kernel, self.memory, self.cpus = kernel, memory, cpus

    def run(self, command, directory, limit, on_line=print):
        """Runs `command` (a list) in the machine, with `directory` shared for reading and writing
        as /run/vm there. Ends the machine after `limit` seconds."""
        for needed in (ROOT, self.kernel.modules.resolve(), pathlib.Path(os.environ.get("MAGLANE_BUILD", ROOT)).resolve()):
            own = next((own for own in OWN_DIRECTORIES if needed.is_relative_to(own)), None)
            if own:
                problem = f"a machine has a {own} of its own and does not see {needed}: move the tree elsewhere"
                return Outcome(None, problem, "", 0, "none", False)
        directory = pathlib.Path(directory).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "status").unlink(missing_ok=True)
        (directory / "modules").write_text(str(self.kernel.modules.resolve()) + "\n")
        (directory / "start").write_text(_start_script(command))
        if kvm_works() and self.kernel.release not in _not_by_kvm:
            outcome = self._boot(directory, limit, on_line, "kvm", KVM_BOOT_LIMIT)
            if outcome.up:
                return outcome
            _not_by_kvm.add(self.kernel.release)
            on_line("KVM runs instructions here, but not this kernel: going on with emulation")
        return self._boot(directory, limit, on_line, "tcg", BOOT_LIMIT)

    def _boot(self, directory, limit, on_line, accelerator, boot_limit):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            children = []
            try:
                for tag, path, cache in (("root", "/", "always"), ("results", directory, "auto")):
                    children.append(_spawn([VIRTIOFSD, f"--socket-path={scratch}/{tag}.sock", "-o", f"source={path}",
                                            "-o", f"cache={cache}", "-o", "sandbox=chroot"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                    _wait_for(f"{scratch}/{tag}.sock", children[-1])
                os.mkfifo(f"{scratch}/out")
                # For writing too, so that it opens at once and never ends.
                output = os.open(f"{scratch}/out", os.O_RDWR | os.O_NONBLOCK)
                with open(f"{scratch}/qemu", "w+b") as complaints:
                    qemu = _spawn(self._command(scratch, directory / "console", accelerator), stdout=complaints, stderr=complaints)
                    children.append(qemu)
                    up, problem = _follow(qemu, output, started, limit, boot_limit, on_line)
                os.close(output)
                console = _text(f"{scratch}/qemu") + _text(directory / "console")
            finally:
                for child in reversed(children):
                    child.kill()
                    _wait(child, 5)
        (directory / "console").write_text(console)
        status = _text(directory / "status").strip()
        trouble = TROUBLE.search(console)
        if trouble:
            problem = "the console says: " + console[trouble.start():].splitlines()[0]
        elif not status and not problem:
            problem = "the machine ended before it had told a result"
        return Outcome(int(status) if status.isdigit() else None, problem, console, time.monotonic() - started,
                       accelerator, up)

    def _command(self, scratch, console, accelerator):
        cpu = ["-accel", "kvm", "-cpu", KVM_CPU] if accelerator == "kvm" else EMULATED_CPU
        # A virtual CPU that waits for its turn on a busy host is no lock-up.
        watchdog = "" if accelerator == "kvm" else " nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
        command = [QEMU, "-M", "q35,usb=off,vmport=off", *cpu, "-smp", self.cpus, "-m", self.memory, "-nodefaults",
                   "-no-user-config", "-display", "none", "-no-reboot", "-kernel", self.kernel.image,
                   "-initrd", self.kernel.initrd,
                   "-append", "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic mitigations=off tsc=reliable "
                   "audit=0 random.trust_cpu=on" + watchdog,
                   "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
                   "-chardev", f"file,id=out,path={scratch}/out", "-device", "virtio-serial-pci",
                   "-device", "virtserialport,chardev=out,name=out",
                   "-object", f"memory-backend-memfd,id=memory,size={self.memory}M,share=on",
                   "-numa", "node,memdev=memory"]
        for tag in ("root", "results"):
            command += ["-chardev", f"socket,id={tag},path={scratch}/{tag}.sock",
                        "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        return command


def _start_script(command):
    environment = "".join(f"{name}={shlex.quote(os.environ[name])} " for name in PASSED_ON if name in os.environ)
    return f"""\
out=/dev/console
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = out ] && out=/dev/${{port##*/}}
done
export HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{{
  echo {shlex.quote(GREETING)}
  while sleep {ALIVE_EVERY}; do echo; done &
  cd {shlex.quote(str(ROOT))} && {environment}{shlex.join(map(str, command))}
  echo $? >/run/vm/status
}} </dev/null >"$out" 2>&1
sync
exec /run/busybox poweroff -f
"""


def _wait_for(path, process):
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{VIRTIOFSD} does not come up")
        time.sleep(0.02)


def _text(path):
    try:
        return pathlib.Path(path).read_bytes().decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""


def _follow(qemu, output, started, limit, boot_limit, on_line):
    """Passes the guest's lines on until the machine has ended. Returns whether it came
    up, and what is wrong or ""."""
    up, rest, heard = False, b"", started
    while True:
        ended = qemu.poll() is not None
        ready = select.select([output], [], [], 0 if ended else 0.2)[0]
        if ready:
            *lines, rest = (rest + os.read(output, 65536)).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r")
                if not up and text == GREETING:
                    up = True
                elif text:
                    on_line(text)
            heard = time.monotonic()
        elif ended:
            return up, ""
        now = time.monotonic()
        elapsed = now - started
        if not up and elapsed > boot_limit:
            return up, f"the machine did not come up within {boot_limit} s"
        if up and now - heard > SILENCE_LIMIT:
            return up, f"the machine hangs: not a sign of life for {SILENCE_LIMIT} s"
        if elapsed > limit:
            return up, f"the machine was still running after {limit} s"
