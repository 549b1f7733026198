"""System calls that act on the calling thread alone, made by number through ctypes.

glibc's setgroups, setresgid and setresuid signal every thread of the process to change its ids
too (nptl(7)); the spawner must change one thread only, so it goes round them. This module owns the
system call numbers and nothing else: it keeps no state, imports only the standard library, and
is importable both as part of the package and as a top-level module beside spawner.py.

Numbers are those of Linux: arch/x86/entry/syscalls/syscall_64.tbl and, for aarch64,
include/uapi/asm-generic/unistd.h. Any other machine is refused when a call is made, never
guessed at, because a wrong number is some other system call.
"""

import ctypes
import os

CLONE_FS = 0x00000200
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAP_SETGID = 6
CAP_SETUID = 7
CLOCK_BOOTTIME = 7
TFD_TIMER_ABSTIME = 1
TFD_CLOEXEC = 0o2000000
TFD_NONBLOCK = 0o4000
SFD_CLOEXEC = 0o2000000
SFD_NONBLOCK = 0o4000

# 2**32 - 1 means "leave this id as it is" to the kernel: as a user's id it would keep root's.
_HIGHEST_ID = 2**32 - 2
_CAPABILITY_VERSION_3 = 0x20080522
_SIGNAL_SET_BYTES = 8
_SIGINFO_BYTES = 128
_RUSAGE_LONGS = 18

_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "capset": 126,
        "prctl": 157,
        "setgroups": 116,
        "setresgid": 119,
        "setresuid": 117,
        "signalfd4": 289,
        "timerfd_create": 283,
        "timerfd_settime": 286,
        "unshare": 272,
        "waitid": 247,
    },
    "aarch64": {
        "capset": 91,
        "prctl": 167,
        "setgroups": 159,
        "setresgid": 149,
        "setresuid": 147,
        "signalfd4": 74,
        "timerfd_create": 85,
        "timerfd_settime": 86,
        "unshare": 97,
        "waitid": 95,
    },
}

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class UnsupportedMachine(RuntimeError):
    """The machine is neither x86_64 nor aarch64 with 64-bit processes."""


def numbers_for(machine: str, pointer_bytes: int) -> dict[str, int]:
    """Return the system call numbers of a machine as uname(2) names it.

    pointer_bytes tells a 32-bit process on a 64-bit kernel apart: its numbers are others.
    Raises UnsupportedMachine.
    """
    numbers = _NUMBERS.get(machine)
    if numbers is None or pointer_bytes != 8:
        raise UnsupportedMachine(
            f"cannot change ids per thread on {machine} ({pointer_bytes * 8}-bit process): "
            f"only 64-bit {' and '.join(sorted(_NUMBERS))} are supported; run on one of those"
        )
    return numbers


def _call(name: str, *arguments: object) -> int:
    """Make one system call; raises OSError with the call's name and errno, UnsupportedMachine."""
    number = _here.get(name)
    if number is None:
        number = numbers_for(os.uname().machine, ctypes.sizeof(ctypes.c_void_p))[name]
        _here[name] = number
    result: int = _syscall(ctypes.c_long(number), *arguments)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


_here: dict[str, int] = {}


def _id(value: int) -> ctypes.c_uint32:
    if not 0 <= value <= _HIGHEST_ID:
        raise ValueError(f"{value} is not a user or group id (0 to {_HIGHEST_ID})")
    return ctypes.c_uint32(value)


def setgroups(groups: list[int]) -> None:
    """Set the supplementary groups of the calling thread alone."""
    array = (ctypes.c_uint32 * len(groups))(*(_id(group) for group in groups))
    _call("setgroups", ctypes.c_size_t(len(groups)), array)


def setresgid(real: int, effective: int, saved: int) -> None:
    """Set the three group ids of the calling thread alone. Raises OSError, ValueError."""
    _call("setresgid", _id(real), _id(effective), _id(saved))


def setresuid(real: int, effective: int, saved: int) -> None:
    """Set the three user ids of the calling thread alone. Raises OSError, ValueError."""
    _call("setresuid", _id(real), _id(effective), _id(saved))


def prctl(option: int, second: int = 0, third: int = 0) -> int:
    """Call prctl(2) for the calling thread; arguments not named are zero. Raises OSError."""
    zero = ctypes.c_ulong(0)
    return _call(
        "prctl", ctypes.c_int(option), ctypes.c_ulong(second), ctypes.c_ulong(third), zero, zero
    )


def set_capabilities(capabilities: tuple[int, ...]) -> None:
    """Leave the calling thread these effective and permitted capabilities and nothing to inherit.

    There is no way back. Raises OSError (EPERM) when it has not all of them; each is below 32.
    """
    mask = sum(1 << capability for capability in capabilities)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)
    _call("capset", header, data)


def set_thread_name(name: str) -> None:
    """Set the name ps and top show for the calling thread; the kernel keeps 15 bytes of it."""
    _call("prctl", ctypes.c_int(PR_SET_NAME), ctypes.c_char_p(os.fsencode(name)), 0, 0, 0)


def unshare(flags: int) -> None:
    """Give the calling thread its own copy of what flags name (CLONE_FS: directory, umask)."""
    _call("unshare", ctypes.c_int(flags))


def signalfd(signal_number: int) -> int:
    """Return a close-on-exec, non-blocking descriptor readable while the signal is pending.

    The signal must be blocked in every thread, or a thread takes it before the descriptor does.
    """
    mask = ctypes.c_uint64(1 << (signal_number - 1))
    size = ctypes.c_size_t(_SIGNAL_SET_BYTES)
    flags = ctypes.c_int(SFD_CLOEXEC | SFD_NONBLOCK)
    return _call("signalfd4", ctypes.c_int(-1), ctypes.byref(mask), size, flags)


def timerfd_boottime() -> int:
    """Return a close-on-exec, non-blocking timer that goes on while the host is suspended."""
    flags = ctypes.c_int(TFD_CLOEXEC | TFD_NONBLOCK)
    return _call("timerfd_create", ctypes.c_int(CLOCK_BOOTTIME), flags)


def timerfd_set(descriptor: int, boot_s: float) -> None:
    """Have the timer become readable at this time of CLOCK_BOOTTIME, which is above 0."""
    seconds = max(0, int(boot_s))
    nanoseconds = max(1, min(999_999_999, int((boot_s - seconds) * 1e9)))
    spec = (ctypes.c_long * 4)(0, 0, seconds, nanoseconds)
    flags = ctypes.c_int(TFD_TIMER_ABSTIME)
    _call("timerfd_settime", ctypes.c_int(descriptor), flags, ctypes.byref(spec), None)


def peek_exit() -> tuple[int, int, float, float, int, int, int, int] | None:
    """Look at one dead child without reaping it; None when no child is dead (or there is none).

    Returns (pid, raw wait status, user time in s, system time in s, peak resident bytes, bytes read
    from disks, bytes written to them, times it was taken off a CPU or gave it up). The
    system call, unlike the library's waitid, also gives the usage of a child it leaves a zombie,
    so the figures can be reported before the child is reaped.
    """
    info = (ctypes.c_int * (_SIGINFO_BYTES // 4))()
    usage = (ctypes.c_long * _RUSAGE_LONGS)()
    options = ctypes.c_int(os.WEXITED | os.WNOHANG | os.WNOWAIT)
    try:
        _call("waitid", ctypes.c_int(os.P_ALL), ctypes.c_int(0), info, options, usage)
    except ChildProcessError:
        return None
    # siginfo_t after SIGCHLD on both machines: signo, errno, code, padding, pid, uid, status.
    code, pid, value = info[2], info[4], info[6]
    if pid == 0:
        return None
    status = value << 8 if code == os.CLD_EXITED else value
    if code == os.CLD_DUMPED:
        status |= 0x80
    user_s = usage[0] + usage[1] / 1e6
    system_s = usage[2] + usage[3] / 1e6
    # struct rusage after the two times: 4 ru_maxrss in KiB, 11 ru_inblock and 12 ru_oublock in
    # blocks of 512 bytes, 16 ru_nvcsw, 17 ru_nivcsw.
    read, written, switches = usage[11] * 512, usage[12] * 512, usage[16] + usage[17]
    return pid, status, user_s, system_s, usage[4] * 1024, read, written, switches
