"""The deeds of one launch: join, become the user, enter, open, find, execute.

Everything here acts on the calling thread and leaves it changed; the spawner's loop, which alone
calls it, steps back afterwards. Like spawner.py it imports the standard library and rawcalls only.
Each deed that fails raises LaunchFailure with its stage, an error number and one line of text.
"""

import errno
import os
import signal
import stat

TYPE_CHECKING = False  # The name that type checkers know, without importing typing at each start.
if TYPE_CHECKING:
    from typing import Any

    from mesosctl.runtime import rawcalls

    Order = dict[str, Any]
elif __package__:
    from mesosctl.runtime import rawcalls
else:
    import rawcalls

# What moves whoever writes it: a thread in `tasks`, a process in `cgroup.procs`. For a thread that
# is named by its number the kernel holds up every fork and every end on the host meanwhile.
WHO_WRITES = b"0"
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
SCRIPT_HEAD_BYTES = 256
EVERY_SIGNAL = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
# These say that the host is short of something, not that the command is wrong: no exit code.
SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.EIO})


class LaunchFailure(Exception):
    """A launch that ended early. `stage` is one of join, user, cwd, stdin, stdout, stderr, exec."""

    def __init__(self, stage: str, number: int, text: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        self.stage = stage
        self.number = number
        self.text = text
        self.exit_code = exit_code


class Identity:
    """Who this thread is between launches, and the way there and back."""

    def __init__(self) -> None:
        self._uids = os.getresuid()
        self._gids = os.getresgid()
        self._groups = sorted(os.getgroups())

    def become(self, uid: int, gid: int, groups: list[int]) -> None:
        """Take on a user's ids in this thread, our own left as saved ids to step back with.

        The kernel empties the effective capabilities here and the permitted ones, together with
        the saved ids, when the task is executed. Raises LaunchFailure.
        """
        try:
            rawcalls.setgroups(groups)
            rawcalls.setresgid(gid, gid, self._gids[1])
            rawcalls.setresuid(uid, uid, self._uids[1])
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None) or errno.EINVAL
            text = f"cannot run as user {uid}, group {gid}: {error}; start the agent as root"
            raise LaunchFailure("user", number, text) from None
        if not self._is(uid, gid, groups):
            raise LaunchFailure("user", errno.EPERM, f"ids did not change to {uid}:{gid}")

    def _is(self, uid: int, gid: int, groups: list[int]) -> bool:
        return (
            os.getresuid() == (uid, uid, self._uids[1])
            and os.getresgid() == (gid, gid, self._gids[1])
            and sorted(os.getgroups()) == sorted(set(groups))
        )

    def step_back(self) -> None:
        """Be who we were. Raises OSError: the caller must end the process."""
        rawcalls.setresuid(*self._uids)
        rawcalls.setresgid(*self._gids)
        rawcalls.setgroups(self._groups)
        now = (os.getresuid(), os.getresgid(), sorted(os.getgroups()))
        if now != (self._uids, self._gids, self._groups):
            raise PermissionError(errno.EPERM, f"ids are {now} after stepping back")


def write_file(path: str, text: bytes) -> None:
    """Write to a file of the kernel's in one call. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def join_cgroups(order: "Order") -> None:
    """Move this thread (or, by "process", all of us) into the task's cgroups; LaunchFailure."""
    for path in order["join"]:
        try:
            write_file(path, WHO_WRITES)
        except OSError as error:
            message = f"cannot join the cgroup of {path}: {error.strerror}"
            raise LaunchFailure("join", error.errno or errno.EIO, message) from None


def is_left(join: list[str]) -> bool:
    """Whether nothing is in the cgroups of these files any more, nor a cgroup made by a task.

    Without cgroups nobody could tell. The files are opened anew each time: version 1 shows an old
    list to whoever keeps one open.
    """
    for path in join:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            if os.read(descriptor, 1) or os.stat(os.path.dirname(path)).st_nlink != 2:
                return False
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return bool(join)


def enter_directory(order: "Order") -> bool:
    """Change into the task's directory, or its fallback (then True), as the user; LaunchFailure."""
    cwd, fallback = order["cwd"], order["fallback_cwd"]
    try:
        os.chdir(cwd)
        return False
    except OSError as error:
        if fallback is None:
            text = f"cannot enter directory {cwd}: {error.strerror}; "
            text += "create it on this host, or name another"
            raise LaunchFailure("cwd", error.errno or errno.EIO, text) from None
    try:
        os.chdir(fallback)
    except OSError as error:
        text = f"cannot enter directory {cwd} nor {fallback}: {error.strerror}"
        raise LaunchFailure("cwd", error.errno or errno.EIO, text) from None
    return True


def open_input(path: str) -> int:
    """Open a file to read from, following links: the user could read it anyway. OSError."""
    # Without O_NONBLOCK a named pipe would hold up every later launch.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    os.set_blocking(descriptor, True)
    return descriptor


def open_output(path: str, append: bool) -> int:
    """Open a file to write to, made with its parents if need be. OSError.

    Always O_APPEND, so that two streams or two processes given one file do not overwrite each
    other; a link as the last part is refused. The task's umask decides the mode.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    if not append:
        flags |= os.O_TRUNC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def open_streams(
    order: "Order", null_fd: int, stdin_fd: int | None, opened: list[int]
) -> list[int]:
    """Return the descriptors of the task's streams; adds to opened what to close. LaunchFailure."""
    stage = "stdin"
    try:
        streams = [null_fd, null_fd, null_fd]
        if order["stdin"] == "fd":
            if stdin_fd is None:
                raise OSError(errno.EBADF, "the pipe for standard input got lost")
            streams[0] = stdin_fd
        elif order["stdin"] != "null":
            streams[0] = open_input(order["stdin"])
            opened.append(streams[0])
        for slot, stage in ((1, "stdout"), (2, "stderr")):
            if slot == 2 and order[stage] == "merge":
                streams[2] = streams[1]
            elif order[stage] != "null":
                streams[slot] = open_output(order[stage], order["append"])
                opened.append(streams[slot])
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        reason = "it is a symbolic link" if number == errno.ELOOP else str(os.strerror(number))
        text = f"cannot open {stage} {order[stage]}: {reason}; name a file this user may use"
        raise LaunchFailure(stage, number, text) from None
    return streams


def find_program(name: str, env: dict[str, str]) -> str:
    """Return the path execve needs for a command, found in the task's PATH, as the user.

    Directory and ids must be the task's already. Raises LaunchFailure with the exit code a shell
    would give: 127 when there is no such command, 126 when there is but it may not be executed.
    """
    if "/" in name:
        return name
    path = env.get("PATH", DEFAULT_PATH)
    refused = ""
    if name:
        for directory in path.split(":"):
            candidate = f"{directory or '.'}/{name}"
            if os.path.isfile(candidate):
                if os.access(candidate, os.X_OK):
                    return candidate
                refused = refused or candidate
    if refused:
        text = f"cannot execute {refused}: Permission denied; make it executable for this user"
        raise LaunchFailure("exec", errno.EACCES, text, 126)
    text = f"command not found: {name!r} is in no directory of PATH={path}; give its full path"
    raise LaunchFailure("exec", errno.ENOENT, text, 127)


def read_head(path: str) -> bytes:
    """Return the first bytes of a file, nothing when it may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, SCRIPT_HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def interpret(path: str, argv: list[str]) -> list[str]:
    """Return the arguments that run a file the kernel would not execute: its #! line, or sh."""
    head = read_head(path)
    # After "--" no name of a file can be taken for an option of the shell.
    prefix = ["/bin/sh", "--"]
    if head.startswith(b"#!"):
        words = os.fsdecode(head[2:].split(b"\n")[0]).strip().split(None, 1)
        prefix = words or prefix
    elif b"\0" in head:
        raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))
    return [*prefix, path, *argv[1:]]


def execute(order: "Order", streams: list[int]) -> int:
    """Start the task's program and return its pid. Raises LaunchFailure at stage exec.

    A file without #! that the kernel does not know is run by /bin/sh, as a shell would do; a
    captured script (path_is_script) is not searched for and needs no execute permission.
    """
    env: dict[str, str] = order["env"]
    argv: list[str] = order["argv"]
    script = order["path_is_script"]
    path = argv[0] if script else find_program(argv[0], env)
    actions = [(os.POSIX_SPAWN_DUP2, fd, slot) for slot, fd in enumerate(streams)]
    try:
        try:
            return spawn(path, argv, env, actions)
        except OSError as error:
            by_hand = error.errno == errno.ENOEXEC or (script and error.errno == errno.EACCES)
            if not by_hand:
                raise
            command = interpret(path, argv)
            return spawn(command[0], command, env, actions)
    except OSError as error:
        raise explain(path, error.errno or errno.EIO) from None


def spawn(
    path: str, argv: list[str], env: dict[str, str], actions: list[tuple[int, int, int]]
) -> int:
    """Call posix_spawn: a new session, no signal blocked or ignored. OSError, ValueError."""
    return os.posix_spawn(
        path, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=EVERY_SIGNAL
    )


def explain(path: str, number: int) -> LaunchFailure:
    """Say why a program could not be executed, with a shell's exit code where it has one."""
    reason = os.strerror(number)
    if number in SHORTAGES:
        text = f"cannot start a process: {reason}; raise the task's pids or memory limit"
        return LaunchFailure("exec", number, text)
    if number in (errno.ENOENT, errno.ENOTDIR):
        if not os.path.exists(path):
            return LaunchFailure("exec", number, f"command not found: {path}: {reason}", 127)
        text = f"cannot execute {path}: its interpreter (the #! line or loader) does not exist"
        return LaunchFailure("exec", number, text, 126)
    if number == errno.EACCES and os.path.isdir(path):
        reason = "it is a directory"
    return LaunchFailure("exec", number, f"cannot execute {path}: {reason}", 126)
