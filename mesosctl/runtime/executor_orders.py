"""From a launch to the order for the spawner: user, environment, script, streams and directory.

Rules:
- A task's environment is what its command and its agent say, and the few names set here; nothing
  of our own environment gets in.
- What is written into a sandbox is made anew and never through a link, because the directory
  belongs to the task's user and we may be root.
- Another user than our own needs root; without it the task is refused, not run as somebody else.
"""

from __future__ import annotations

import os
import pwd
import time
from typing import Literal, cast

from mesosctl.core.executor_effects import Spawn
from mesosctl.isolation.base import AGENT_ENV, CONTAINER_ENV, JoinPlan
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Command
from mesosctl.protocol.messages.agent import ExecutorLaunch
from mesosctl.runtime.helper_orders import through_helper
from mesosctl.runtime.scarcity import find_user
from mesosctl.runtime.spawner_orders import SpawnOrder

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A user that is looked up again may have other groups; a lookup may cost a round trip to a server.
ACCOUNT_KEPT_S = 60.0
_NAME_BYTES_MAX = 255
TMP_NAME = "tmp"
_TAKEN_NAMES = ("", ".", "..", "stdout", "stderr", TMP_NAME)


class LaunchRefused(Exception):
    """A launch that cannot become an order; `stage` is where, the text one line."""

    def __init__(self, stage: str, text: str) -> None:
        super().__init__(text)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this host. `uid` None: the one we are, so nothing has to be switched."""

    uid: int | None
    gid: int
    groups: tuple[int, ...]
    env: dict[str, str]


class Orders:
    """Makes orders; looks users up and keeps them for a minute."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._accounts: dict[str, tuple[float, Account]] = {}

    def make(self, effect: Spawn, plan: JoinPlan) -> SpawnOrder:
        """The order of a launch, its sandbox made ready. Raises LaunchRefused."""
        launch = effect.launch
        command, sandbox = launch.task.command, launch.sandbox
        account = self._account(command.user)
        try:
            _make_directory(f"{sandbox}/{TMP_NAME}", account)
            argv = command.argv
            if command.script is not None:
                argv = (_write_script(sandbox, command, account), *argv)
        except OSError as error:
            text = f"cannot write {error.filename or sandbox}: {error.strerror}"
            raise LaunchRefused("sandbox", text) from None
        env = self._environment(launch, account)
        if plan.env:
            env.update(plan.env)
        order = SpawnOrder(
            id=launch.container,
            argv=argv,
            env=env,
            cwd=command.cwd or sandbox,
            fallback_cwd=sandbox if command.cwd_may_fall_back else None,
            join=plan.files,
            home=plan.home,
            by=cast("Literal['thread', 'process', 'none']", plan.by),
            uid=account.uid,
            gid=account.gid if account.uid is not None else None,
            groups=account.groups,
            stdin=_input(command.stdin),
            stdout=_output(command.stdout, f"{sandbox}/stdout"),
            stderr=_output(command.stderr, f"{sandbox}/stderr", may_merge=True),
            append=command.append,
            umask=command.umask & 0o777,
            path_is_script=command.script is not None,
            after=effect.after,
            due=effect.due,
        )
        return through_helper(order, plan.helper, sandbox) if plan.helper else order

    def _environment(self, launch: ExecutorLaunch, account: Account) -> dict[str, str]:
        env = {
            "PATH": DEFAULT_PATH,
            "TMPDIR": f"{launch.sandbox}/{TMP_NAME}",
            **account.env,
            **launch.task.command.env,
            **launch.task.env,
            **launch.env,
            "MESOS_SANDBOX": launch.sandbox,
            CONTAINER_ENV: launch.container,
            AGENT_ENV: self._agent_id,
        }
        return env

    def _account(self, user: str) -> Account:
        now = time.monotonic()
        kept = self._accounts.get(user)
        if kept is not None and kept[0] > now:
            return kept[1]
        account = _look_up(user)
        self._accounts[user] = (now + ACCOUNT_KEPT_S, account)
        return account


def _look_up(user: str) -> Account:
    """The account of a user name, "" being our own. Raises LaunchRefused."""
    ours = os.geteuid()
    try:
        entry = find_user(user) if user else pwd.getpwuid(ours)
    except (KeyError, ValueError):
        if user:
            text = f"no user {user!r} on this host; create it, or name another with --user"
            raise LaunchRefused("user", text) from None
        # A user without an entry, as in some containers: it has no name and no home to tell of.
        return Account(None, os.getegid(), (), {})
    except OSError as error:
        raise LaunchRefused(
            "user", f"user {user!r} cannot be looked up: {error.strerror}"
        ) from None
    env = {
        "HOME": entry.pw_dir or "/",
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
    }
    if entry.pw_uid == ours:
        return Account(None, entry.pw_gid, (), env)
    if ours != 0:
        text = f"cannot run as {user}: this agent runs as {_name(ours)}; start it as root"
        raise LaunchRefused("permission", text)
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_uid, entry.pw_gid, groups, env)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _make_directory(path: str, account: Account) -> None:
    """Make a directory of the user's own. One that is there is left as it is. Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    if account.uid is not None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            os.fchown(descriptor, account.uid, account.gid)
        finally:
            os.close(descriptor)


def _write_script(sandbox: str, command: Command, account: Account) -> str:
    """Write the script's text into the sandbox; its path. Raises OSError."""
    name = command.script_name
    encoded = name.encode("utf-8", "surrogateescape")
    if name in _TAKEN_NAMES or "/" in name or "\0" in name or len(encoded) > _NAME_BYTES_MAX:
        name = "script"
    path = f"{sandbox}/{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o700)
    except FileExistsError:
        # Written before a spawner died; the same text goes into a new file.
        os.unlink(path)
        descriptor = os.open(path, flags, 0o700)
    with open(descriptor, "wb", buffering=0) as file:
        rest = memoryview(command.script or b"")
        while rest:
            rest = rest[file.write(rest) or 0 :]
        os.fchmod(descriptor, 0o700)
        if account.uid is not None:
            os.fchown(descriptor, account.uid, account.gid)
    return path


def _input(stdin: str) -> str:
    if stdin in ("", "stream"):
        return "fd" if stdin else "null"
    return f"./{stdin}" if stdin in ("fd", "null") else stdin


def _output(path: str, default: str, *, may_merge: bool = False) -> str:
    if path == "":
        return default
    if path == "none" or (path == "merge" and may_merge):
        return "null" if path == "none" else path
    return f"./{path}" if path in ("null", "merge") else path
