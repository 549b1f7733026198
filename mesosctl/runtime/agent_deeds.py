"""What the agent's machine wants done on its host, done: processes, directories, containers, files.

Rules: an executor is started in a session of its own, with an environment that holds no secret, and
outlives us; it is watched by a pidfd. A sandbox is made through descriptors, never by a path that
somebody else could bend. Nothing here waits: what takes time is asked for again by the machine.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import mesosctl
from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Event
from mesosctl.errors import MesosctlError
from mesosctl.isolation.compose import Isolation
from mesosctl.model.ids import AgentId, ExecutorId
from mesosctl.model.records import dataclass
from mesosctl.plugins.isolators import has_plug_ins
from mesosctl.runtime.janitor import Janitor
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.probe import start_ticks
from mesosctl.runtime.scarcity import find_user
from mesosctl.runtime.streams import read_file
from mesosctl.runtime.volumes import NoVolume, VolumeDeeds

ACCOUNT_KEPT_S = 60.0
# Passed on to executors; everything else of our environment stays with us.
_ENV_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _NoSandbox(Exception):
    """Why a sandbox cannot be made: the kind of SandboxFailed, and one line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are below the work directory, and the executors' `socket`."""

    sandboxes: Path
    log: Path
    socket: Path
    volumes: Path


@dataclass(frozen=True, slots=True)
class Executing:
    """How executors are started: the isolators in use, the root of their containers, their state.

    `state_dir` is what the isolators of this agent share.
    """

    isolation: str
    cgroup_root: str
    state_dir: Path
    open_isolation: Callable[[AgentId], Isolation]
    root_tasks: bool = True


class AgentDeeds:
    """Carries out the effects of an agent's machine on `loop`. Call `close` in the end."""

    def __init__(self, loop: Loop, places: Places, executing: Executing) -> None:
        self.allowed_keys: dict[str, None] = {}
        self._loop = loop
        self._places = places
        self._executing = executing
        self._agent_id = AgentId("")
        self._isolation: Isolation | None = None
        # pidfd of each watched executor, and its pid; 0 for one that is not our child.
        self._watched: dict[ExecutorId, int] = {}
        self._children: dict[ExecutorId, int] = {}
        self._accounts: dict[str, tuple[float, tuple[int, int]]] = {}
        self._sandboxes = os.open(places.sandboxes, _DIRECTORY)
        # Directories of frameworks that have the right mode: each of their tasks is in one.
        self._framework_dirs: dict[str, None] = {}
        self._janitor = Janitor(loop, places.sandboxes, places.log)
        self._volumes = VolumeDeeds(loop, places.volumes, self._janitor.begin)
        loop.on_effect(deeds.OpenContainers, self._open_containers)
        loop.on_effect(deeds.StartExecutor, self._start)
        loop.on_effect(deeds.WatchExecutor, self._watch)
        loop.on_effect(deeds.KillExecutor, self._kill)
        loop.on_effect(deeds.MakeSandbox, self._make_sandbox)
        loop.on_effect(deeds.KillContainers, self._kill_containers)
        loop.on_effect(deeds.RemoveContainers, self._remove_containers)
        loop.on_effect(deeds.SweepContainers, self._sweep)
        loop.on_effect(deeds.AllowKey, lambda e: self.allowed_keys.update({e.key: None}))
        loop.on_effect(deeds.ForgetKey, lambda e: self.allowed_keys.pop(e.key, None))
        loop.on_effect(deeds.ReadFile, lambda e: loop.post(read_file(self._sandboxes, e)))

    def may_connect(self, key: str) -> bool:
        """Whether the holder of this key was admitted to some task."""
        return key in self.allowed_keys

    def close(self, remove: bool = False) -> None:
        """Let go of everything; executors and containers stay as they are.

        `remove`: no executor is left, so also what is empty of the directories of containers.
        """
        for descriptor in self._watched.values():
            self._loop.unwatch_fd(descriptor)
            os.close(descriptor)
        self._watched.clear()
        self._janitor.close()
        self._volumes.close()
        os.close(self._sandboxes)
        if self._isolation is not None:
            self._isolation.close_root(remove=remove)

    # --- executors --------------------------------------------------------------------------------
    def _open_containers(self, effect: deeds.OpenContainers) -> None:
        self._agent_id = effect.agent_id
        self._isolation = self._executing.open_isolation(effect.agent_id)

    def _start(self, effect: deeds.StartExecutor) -> None:
        executor_id = effect.executor_id
        try:
            pid = self._spawn(executor_id)
        except OSError as error:
            text = f"it cannot be started: {error.strerror}"
            self._loop.post(deeds.ExecutorExited(executor_id, text))
            return
        self._children[executor_id] = pid
        self._loop.post(deeds.ExecutorStarted(executor_id, pid, start_ticks(pid)))
        self._follow(executor_id, os.pidfd_open(pid))

    def _spawn(self, executor_id: ExecutorId) -> int:
        command = [
            *(sys.executable, "-m", "mesosctl.runtime.executor_process"),
            *("--socket", str(self._places.socket)),
            *("--executor-id", executor_id, "--agent-id", self._agent_id),
            *("--isolation", self._executing.isolation),
            *("--cgroup-root", self._executing.cgroup_root),
            *("--state-dir", str(self._executing.state_dir)),
            *("--work-dir", str(self._places.sandboxes)),
        ]
        env = {name: os.environ[name] for name in _ENV_KEPT if name in os.environ}
        env["PATH"] = _PATH
        # A checkout is not installed: the executor has to find the package that we come from.
        env["PYTHONPATH"] = str(Path(mesosctl.__file__).resolve().parent.parent)
        if has_plug_ins(self._executing.isolation) and "PYTHONPATH" in os.environ:
            env["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        log = os.open(
            self._places.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            return os.posix_spawn(
                sys.executable,
                command,
                env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(log)

    def _watch(self, effect: deeds.WatchExecutor) -> None:
        try:
            descriptor = os.pidfd_open(effect.pid)
        except OSError:
            descriptor = -1
        # The descriptor pins the process, so what is read now is about that one. One of which it is
        # not known when it started may be any other, which must be neither watched nor killed.
        ours = effect.start_ticks > 0 and start_ticks(effect.pid) == effect.start_ticks
        if descriptor >= 0 and not ours:
            os.close(descriptor)
            descriptor = -1
        if descriptor < 0:
            text = "its process was not there any more"
            self._loop.post(deeds.ExecutorExited(effect.executor_id, text))
            return
        self._follow(effect.executor_id, descriptor)

    def _follow(self, executor_id: ExecutorId, descriptor: int) -> None:
        self._watched[executor_id] = descriptor
        self._loop.watch_fd(descriptor, lambda: self._exited(executor_id))

    def _exited(self, executor_id: ExecutorId) -> Iterable[Event]:
        descriptor = self._watched.pop(executor_id)
        self._loop.unwatch_fd(descriptor)
        os.close(descriptor)
        pid = self._children.pop(executor_id, 0)
        text = ""
        if pid:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            text = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return [deeds.ExecutorExited(executor_id, text)]

    def _kill(self, effect: deeds.KillExecutor) -> None:
        descriptor = self._watched.get(effect.executor_id)
        if descriptor is None:
            return
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            # Its end is being told already.
            return

    # --- sandboxes --------------------------------------------------------------------------------
    def _make_sandbox(self, effect: deeds.MakeSandbox) -> None:
        try:
            uid, gid = self._account(effect.user)
            self._directory(effect, uid, gid)
        except NoVolume as error:
            self._loop.post(deeds.SandboxFailed(effect.container, "failed", str(error)))
        except _NoSandbox as error:
            self._loop.post(deeds.SandboxFailed(effect.container, error.kind, str(error)))
        except OSError as error:
            text = f"the sandbox cannot be made: {error.strerror}"
            self._loop.post(deeds.SandboxFailed(effect.container, "failed", text))
        else:
            path = f"{self._places.sandboxes}/{effect.container}"
            self._loop.post(deeds.SandboxMade(effect.container, path))

    def _account(self, user: str) -> tuple[int, int]:
        """User and group id of a user; an answer is kept for a minute. Raises _NoSandbox."""
        now = time.monotonic()
        kept = self._accounts.get(user)
        if kept is None or kept[0] <= now:
            self._accounts[user] = kept = (now + ACCOUNT_KEPT_S, self._look_up(user))
        return kept[1]

    def _look_up(self, user: str) -> tuple[int, int]:
        ours = os.geteuid()
        try:
            entry = find_user(user) if user else None
        except (KeyError, ValueError):
            text = f"no user {user!r} on this host; create it, or name another with --user"
            raise _NoSandbox("failed", text) from None
        uid, gid = (entry.pw_uid, entry.pw_gid) if entry else (ours, os.getegid())
        if uid == 0 and not self._executing.root_tasks:
            raise _NoSandbox("root", "this agent runs no tasks of root (--no-root-tasks)")
        if ours not in (0, uid):
            text = f"cannot run as {user}: this agent runs as user {ours}; start it as root"
            raise _NoSandbox("permission", text)
        return uid, gid

    def _directory(self, effect: deeds.MakeSandbox, uid: int, gid: int) -> None:
        framework, _, task = effect.container.partition("/")
        is_usual = effect.fresh and not effect.volumes and framework in self._framework_dirs
        if is_usual and self._make_directory(effect.container, uid, gid):
            return
        try:
            parent = os.open(framework, _DIRECTORY, dir_fd=self._sandboxes)
        except FileNotFoundError:
            os.mkdir(framework, 0o700, dir_fd=self._sandboxes)
            parent = os.open(framework, _DIRECTORY, dir_fd=self._sandboxes)
        try:
            # Its users must be able to pass, not to look around. Setting it anew for each task
            # would write to the disk each time.
            if stat.S_IMODE(os.fstat(parent).st_mode) != 0o711:
                os.fchmod(parent, 0o711)
            try:
                os.mkdir(task, 0o700, dir_fd=parent)
            except FileExistsError:
                if effect.fresh:
                    text = f"task id {task} was used on this agent before"
                    raise _NoSandbox("used", text) from None
            sandbox = os.open(task, _DIRECTORY, dir_fd=parent)
            try:
                found = os.fstat(sandbox)
                if found.st_uid != uid:
                    os.fchown(sandbox, uid, gid)
                if stat.S_IMODE(found.st_mode) != 0o700:
                    os.fchmod(sandbox, 0o700)
                if effect.volumes:
                    self._volumes.lend(sandbox, effect.volumes, uid, gid)
            finally:
                os.close(sandbox)
        finally:
            os.close(parent)
        if stat.S_IMODE(found.st_mode) == 0o700:
            # Our umask leaves it as it is asked for.
            self._framework_dirs[framework] = None

    def _make_directory(self, container: str, uid: int, gid: int) -> bool:
        """Make one where its framework's was looked at before, which nobody else can change.

        Whether it is there now; what is in the way the long way finds out again.
        """
        try:
            os.mkdir(container, 0o700, dir_fd=self._sandboxes)
        except OSError:
            return False
        if uid != os.geteuid():
            os.chown(container, uid, gid, dir_fd=self._sandboxes, follow_symlinks=False)
        return True

    # --- containers -------------------------------------------------------------------------------
    def _kill_containers(self, effect: deeds.KillContainers) -> None:
        gone: list[str] = []
        busy: list[str] = []
        isolation = self._isolation
        if isolation is not None:
            # They were made by an executor: look for them before they can be killed.
            isolation.recover()
        for container in effect.containers:
            (gone if isolation is None or self._end(isolation, container) else busy).append(
                container
            )
        if isolation is not None:
            for framework in dict.fromkeys(container.partition("/")[0] for container in gone):
                # Made again when it is needed again.
                isolation.retire(framework)
        if gone:
            self._loop.post(deeds.ContainersGone(tuple(gone)))
        if busy:
            self._loop.post(deeds.ContainersBusy(tuple(busy)))

    def _end(self, isolation: Isolation, container: str) -> bool:
        try:
            if not isolation.is_empty(container):
                isolation.kill(container)
            return isolation.is_empty(container) and isolation.cleanup(container)
        except MesosctlError as error:
            self._loop.log("warning", f"container {container}: {error}")
            return False

    def _remove_containers(self, effect: deeds.RemoveContainers) -> None:
        if self._isolation is None:
            return
        for container in effect.containers:
            try:
                # Only what is empty can be removed.
                self._isolation.cleanup(container)
            except MesosctlError as error:
                self._loop.log("warning", f"container {container}: {error}")

    def _sweep(self, effect: deeds.SweepContainers) -> None:
        found: tuple[str, ...] = ()
        if self._isolation is not None:
            found = self._isolation.recover()
            self._isolation.prune(effect.spared)
        self._loop.post(deeds.ContainersFound(found, effect.is_routine))
