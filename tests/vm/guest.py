"""A Linux guest with cgroup v2 alone, in which a command of this checkout runs as root.

    python tests/vm/guest.py [--limit-s N] [--memory-mib N] COMMAND [ARGUMENT...]
    make test-v2

Needs neither root nor KVM: QEMU translates every instruction, ten to twenty times slower than the
host. Debian's packages are downloaded and unpacked into a directory (`.vm` in the checkout, or
MESOSCTL_VM_CACHE), nothing is installed. The guest's root is the host's, read-only over 9p, with
a file system in memory on top: so it has this checkout and its virtual environment, and what it
writes is gone in the end. MESOSCTL_TEST_SLOWNESS tells tests there how slow it is.

Exit codes: that of the command; 77 when there can be no guest here, with the reason; 124 when it
was not done in time.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SKIPPED = 77
TIMED_OUT = 124
# Found on the serial line, whatever the command prints: nobody else writes such a line.
END = re.compile(rb"^guest: the command ended with (\d+)\r?$")
UP = b"guest: up"
# Everything between the kernel and the host's files; each after what it needs.
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("virtio_blk", "netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay"),
)
APT = ("apt-get", "-q")
DOWNLOAD_S = 300
SWAP_BYTES = 256 << 20

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in {modules}; do insmod /modules/$module.ko || echo "guest: no module $module"; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /lower
mount -t tmpfs none /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work none /top

mount -t proc none /top/proc
mount -t sysfs none /top/sys
mount -t devtmpfs none /top/dev
mkdir -p /top/dev/shm /top/dev/pts
mount -t devpts none /top/dev/pts
for place in dev/shm run; do mount -t tmpfs -o mode=1777 none /top/$place; done
mkswap /dev/vda > /dev/null && swapon /dev/vda || echo "guest: no swap"
mount -t cgroup2 none /top/sys/fs/cgroup
ifconfig lo 127.0.0.1 up
cp /command /top/run/command
read up rest < /proc/uptime
echo "guest: up after $up s, Linux $(uname -r)"
chroot /top /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TERM=dumb LC_ALL=C.UTF-8 \\
    NO_COLOR=1 MESOSCTL_TEST_SLOWNESS=10 /bin/sh /run/command < /dev/null
echo "guest: the command ended with $?"
sync
poweroff -f
"""


class NoGuest(Exception):
    """Why there can be no guest on this host."""


def main() -> int:
    """Boot, run, tell; see the module."""
    parser = argparse.ArgumentParser(description="Run a command in a guest with cgroup v2 alone.")
    parser.add_argument("--limit-s", type=float, default=900.0)
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    cache = Path(os.environ.get("MESOSCTL_VM_CACHE") or CHECKOUT / ".vm").resolve()
    try:
        tools = unpacked(cache)
        with tempfile.TemporaryDirectory(prefix="run-", dir=cache) as name:
            initrd, swap = Path(name, "initrd"), Path(name, "swap")
            initrd.write_bytes(packed(Path(name), tools, options.command))
            with swap.open("wb") as file:
                # Swap must be there to be had, or no limit of it is tested.
                file.truncate(SWAP_BYTES)
            words = qemu(tools, initrd, swap, options.memory_mib)
            return run(words, tools, options.limit_s)
    except NoGuest as reason:
        print(f"no guest with cgroup v2: {reason}", flush=True)
        return SKIPPED


def unpacked(cache: Path) -> Path:
    """The directory into which the packages are unpacked, downloaded if need be. NoGuest."""
    if platform.machine() != "x86_64":
        raise NoGuest(f"only made for x86_64, and this is {platform.machine()}")
    tools, debs = cache / "tools", cache / "packages"
    if (cache / "unpacked").exists():
        return tools
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise NoGuest(f"its packages come from Debian, and there is no {program}")
    try:
        download(debs)
    except NoGuest:
        if os.geteuid() != 0:
            raise
        # What apt knows of its archive may be too old, or nothing.
        call([*APT, "update"], limit_s=DOWNLOAD_S)
        download(debs)
    shutil.rmtree(tools, ignore_errors=True)
    for package in sorted(debs.glob("*.deb")):
        call(["dpkg-deb", "--extract", str(package), str(tools)], debs, DOWNLOAD_S)
    for module in (tools / "lib" / "modules").rglob("*.ko"):
        if module.stem not in MODULES:
            module.unlink()
    shutil.rmtree(debs)
    (cache / "unpacked").touch()
    return tools


def download(debs: Path) -> None:
    """Fetch every package into an empty directory. NoGuest."""
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir(parents=True)
    needed = [*missing("qemu-system-x86"), "busybox-static", kernel()]
    call([*APT, "download", *needed], debs, DOWNLOAD_S)


def missing(package: str) -> list[str]:
    """A package and all that it needs and this host has not installed. NoGuest."""
    text = call([*APT, "install", "--simulate", "--no-install-recommends", package])
    return re.findall(r"^Inst (\S+)", text, re.MULTILINE)


def kernel() -> str:
    """The name of Debian's present kernel package. NoGuest."""
    found = re.search(
        r"Depends: (linux-image-\d\S+)", call(["apt-cache", "depends", "linux-image-amd64"])
    )
    if found is None:
        raise NoGuest("apt knows no kernel; run apt-get update")
    return found[1]


def call(words: Sequence[str], cwd: Path = CHECKOUT, limit_s: float = 60.0) -> str:
    """The output of a command that has to succeed. NoGuest."""
    try:
        done = subprocess.run(
            words, cwd=cwd, text=True, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoGuest(f"{' '.join(words[:3])} takes longer than {limit_s:g} s") from None
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[0]
        raise NoGuest(f"{' '.join(words[:3])}: {reason}")
    return done.stdout


def packed(place: Path, tools: Path, command: Sequence[str]) -> bytes:
    """The first file system of the guest, which mounts the real one and runs the command there."""
    tree = place / "first"
    for name in ("bin", "modules", "proc", "sys", "dev", "lower", "upper", "top"):
        (tree / name).mkdir(parents=True)
    shutil.copy(tools / "bin" / "busybox", tree / "bin" / "busybox")
    for name in MODULES:
        for path in (tools / "lib" / "modules").rglob(f"{name}.ko"):
            shutil.copy(path, tree / "modules" / path.name)
    (tree / "init").write_text(INIT.replace("{modules}", " ".join(MODULES)))
    (tree / "init").chmod(0o755)
    (tree / "command").write_text(f"cd {shlex.quote(str(CHECKOUT))} && {shlex.join(command)}\n")
    names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
    archive = subprocess.run(
        [str(tools / "bin" / "busybox"), "cpio", "-o", "-H", "newc", "-R", "0:0"],
        cwd=tree, input=names.encode(), capture_output=True, check=True,
    )  # fmt: skip
    return gzip.compress(archive.stdout, 1)


def qemu(tools: Path, initrd: Path, swap: Path, memory_mib: int) -> list[str]:
    """The words that start the guest."""
    kernels = sorted((tools / "boot").glob("vmlinuz-*"))
    share = tools / "usr" / "share"
    return [
        *(str(tools / "usr" / "bin" / "qemu-system-x86_64"), "-no-user-config", "-nodefaults"),
        *("-L", str(share / "qemu"), "-L", str(share / "seabios"), "-cpu", "max"),
        *("-accel", "tcg,thread=multi", "-smp", "2", "-m", str(memory_mib)),
        *("-kernel", str(kernels[-1]), "-initrd", str(initrd)),
        *("-append", "console=ttyS0 loglevel=1 panic=-1 no_timer_check cgroup_no_v1=all"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
        *("-drive", f"file={swap},if=virtio,format=raw"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
    ]


def run(words: Sequence[str], tools: Path, limit_s: float) -> int:
    """Run the guest and pass on what it prints; the exit code of its command."""
    libraries = tools / "usr" / "lib" / "x86_64-linux-gnu"
    places = [libraries, tools / "lib" / "x86_64-linux-gnu"]
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(str(place) for place in places),
        "QEMU_MODULE_DIR": str(libraries / "qemu"),
    }
    code, up = None, False
    with subprocess.Popen(
        words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as guest:
        assert guest.stdout is not None
        signal.signal(signal.SIGTERM, lambda *_: guest.kill())
        timer = threading.Timer(limit_s, guest.kill)
        timer.start()
        for line in guest.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            up = up or line.startswith(UP)
            found = END.match(line.rstrip(b"\n"))
            code = code if found is None else int(found[1])
        late = not timer.is_alive()
        timer.cancel()
    if code is not None:
        return code
    if up or late:
        print(f"guest: not done after {limit_s:g} s" if late else "guest: it ended by itself")
        return TIMED_OUT
    # One that was never up says something about this host, and nothing about the command.
    raise NoGuest("it ended before it was up")


if __name__ == "__main__":
    sys.exit(main())
