"""The helper: executed in place of a task, it sets up what a process can only do to itself, and
then becomes the task.

    python -I -S -X utf8 -c PROGRAM HOME SETTINGS -- ARGV...

SETTINGS is a JSON object: `uid`, `gid`, `groups` (uid null: stay who we are), `script` (the first
word is a captured script), `rlimits` (name to [soft, hard], -1: none), `private-tmp` (directories
that are to be the sandbox's own `tmp`), `private-pids`, `sandbox`. The task's variables come under
names that begin with PREFIX: what starts as root must not heed a user's LD_PRELOAD.

Rules: everything that needs root is done before the user is become, nothing of the user's is
executed or searched before. What cannot be done ends the helper with a line on stderr and exit code
125, and the task is not started. Like spawner.py it imports the standard library and its siblings.
"""

import ctypes
import json
import os
import resource
import signal
import stat

TYPE_CHECKING = False  # The name that type checkers know, without importing typing at each start.
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from mesosctl.runtime import rawcalls, spawner_launch

    Settings = dict[str, Any]
elif __package__:
    from mesosctl.runtime import rawcalls, spawner_launch
else:
    import rawcalls
    import spawner_launch

PREFIX = "MESOSCTL_TASK:"
REFUSED = 125
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Refused(Exception):
    """Something cannot be set up; one line says what."""


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """Call mount(2). Raises Refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        raise Refused(f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")


def set_rlimits(settings: "Settings") -> None:
    """Lower the limits of this process. Raises Refused."""
    for name, (soft, hard) in settings.get("rlimits", {}).items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            raise Refused(f"cannot set rlimit {name}: {error}") from None


def make_namespaces(settings: "Settings") -> None:
    """Leave the host's view of mounts and, for children to come, of processes. Raises Refused."""
    tmp, pids = settings.get("private-tmp", ()), settings.get("private-pids", False)
    if not tmp and not pids:
        return
    try:
        rawcalls.unshare(CLONE_NEWNS | (CLONE_NEWPID if pids else 0))
    except OSError as error:
        raise Refused(f"cannot make namespaces: {error}") from None
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    if tmp:
        bind_tmp(settings["sandbox"], settings["uid"], tmp)


def bind_tmp(sandbox: str, uid: int | None, targets: "list[str]") -> None:
    """Put the sandbox's own directory over the public ones. Raises Refused."""
    try:
        outer = os.open(sandbox, _DIRECTORY)
        inner = os.open("tmp", _DIRECTORY, dir_fd=outer)
    except OSError as error:
        raise Refused(f"cannot open the directory tmp of {sandbox}: {error.strerror}") from None
    # It belongs to a user who may have put something else in its place since it was made.
    status = os.fstat(inner)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != (os.getuid() if uid is None else uid):
        raise Refused(f"the directory tmp of {sandbox} is not the task's own")
    cwd = os.getcwd()
    for target in targets:
        if os.path.isdir(target):
            mount(f"/proc/self/fd/{inner}", target, None, MS_BIND)
    os.close(inner)
    os.close(outer)
    try:
        # The directory that we are in may be one that is hidden now.
        os.chdir(cwd)
    except OSError as error:
        raise Refused(f"cannot enter {cwd} with a private /tmp: {error.strerror}") from None


def become(settings: "Settings") -> None:
    """Be the user for good, all ids alike. Raises Refused."""
    uid, gid, groups = settings["uid"], settings["gid"], settings["groups"]
    if uid is None:
        return
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise Refused(f"cannot run as user {uid}: {error.strerror}") from None
    ids = (os.getresuid(), os.getresgid(), sorted(os.getgroups()))
    if ids != ((uid, uid, uid), (gid, gid, gid), sorted(set(groups))):
        raise Refused(f"ids did not change to {uid}:{gid}")


def execute(settings: "Settings", argv: "list[str]") -> "NoReturn":
    """Become the program, or end with a shell's exit code and a line why not."""
    env = {
        name.removeprefix(PREFIX): value
        for name, value in os.environ.items()
        if name.startswith(PREFIX)
    }
    for signum in spawner_launch.EVERY_SIGNAL:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        script = settings["script"]
        path = argv[0] if script else spawner_launch.find_program(argv[0], env)
        try:
            os.execve(path, argv, env)  # noqa: S606 - this is what it is for
        except OSError as error:
            command = by_hand(path, argv, script, error)
            os.execve(command[0], command, env)  # noqa: S606 - the same
    except spawner_launch.LaunchFailure as error:
        failure = error
    except (OSError, ValueError) as error:
        failure = spawner_launch.explain(argv[0], getattr(error, "errno", None) or 0)
    leave(failure.exit_code or REFUSED, failure.text)


def by_hand(path: str, argv: "list[str]", script: bool, error: OSError) -> "list[str]":
    """What runs a file that the kernel does not; the error itself if nothing does."""
    import errno

    if error.errno == errno.ENOEXEC or (script and error.errno == errno.EACCES):
        return spawner_launch.interpret(path, argv)
    raise error


def leave(code: int, text: str) -> "NoReturn":
    """End with a line on the task's stderr."""
    os.write(2, f"mesosctl: {text}\n".encode(errors="replace"))
    os._exit(code)


def run_in_pid_namespace(settings: "Settings", argv: "list[str]") -> "NoReturn":
    """Fork the init of the namespace, wait for the task's end, and end alike."""
    every = signal.valid_signals()
    # Signals are for the task: it gets them too, and only KILL ends us.
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    told, tell = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(told)
        try:
            be_init(settings, argv, tell)
        except Refused as error:
            leave(REFUSED, str(error))
    os.close(tell)
    try:
        become(settings)
    except Refused as error:
        os.kill(init, signal.SIGKILL)
        leave(REFUSED, str(error))
    _, status_of_init = os.waitpid(init, 0)
    data = os.read(told, 16)
    status = int(data) if data else status_of_init
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    end_by(os.WTERMSIG(status))


def end_by(signum: int) -> "NoReturn":
    """End by this signal, without a core."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os._exit(128 + signum)


def be_init(settings: "Settings", argv: "list[str]", tell: int) -> "NoReturn":
    """Be process 1: mount /proc, start the task, wait for all, end with it, and all with us."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    become(settings)
    rawcalls.prctl(rawcalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    task = os.fork()
    if task == 0:
        os.close(tell)
        os.setsid()
        try:
            set_rlimits(settings)
        except Refused as error:
            leave(REFUSED, str(error))
        execute(settings, argv)
    # The task's streams are its own: nobody waits for us to close them.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == task:
            os.write(tell, b"%d" % status)
            os._exit(0)


def main(arguments: "list[str]") -> "NoReturn":
    """Do as told; does not return."""
    settings: Settings = json.loads(arguments[0])
    argv = arguments[2:]
    try:
        make_namespaces(settings)
        if settings.get("private-pids"):
            run_in_pid_namespace(settings, argv)
        set_rlimits(settings)
        become(settings)
    except Refused as error:
        leave(REFUSED, f"{error}; the task was not started")
    execute(settings, argv)
