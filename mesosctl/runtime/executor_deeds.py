"""What the executor does to its host for its machine: containers, launches, and what comes of them.

Owns the table of orders that are with the spawner and the spawner's restarts. Rules:
- Every Spawn ends in exactly one of TaskStarted, LaunchFailed and LaunchRecalled. The death of a
  spawner is not the fault of any task: what was begun is taken over, what was not is ordered again.
- A spawner that dies before it could serve, again and again, is the host's fault: then what waits
  is given back as certainly not started.
- Everything that a task's description can make go wrong becomes LaunchFailed, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from mesosctl.core.executor_effects import (
    Begin,
    ContainerBusy,
    ContainerEmptied,
    Drain,
    FeedStdin,
    KillContainer,
    LaunchFailed,
    LaunchRecalled,
    LimitExceeded,
    MainExited,
    Prepare,
    Recall,
    Remove,
    RemoveFailed,
    Resize,
    ResizeFailed,
    Sample,
    SignalContainer,
    Spawn,
    TaskStarted,
)
from mesosctl.core.machine import Event
from mesosctl.errors import MesosctlError
from mesosctl.isolation import base
from mesosctl.isolation.base import JoinPlan
from mesosctl.isolation.compose import Isolation
from mesosctl.model.tasks import Usage
from mesosctl.runtime.executor_doors import Doors
from mesosctl.runtime.executor_limits import limits_of
from mesosctl.runtime.executor_orders import LaunchRefused, Orders
from mesosctl.runtime.executor_stdin import StdinPipes
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.spawner_link import SpawnerLink
from mesosctl.runtime.spawner_orders import (
    Exited,
    Recalled,
    Report,
    Spawned,
    SpawnerDied,
    SpawnFailed,
)
from mesosctl.runtime.trimming import StreamLimits

# A spawner that dies so often in a row before it is ready will not be mended by another start.
UNREADY_DEATHS_MAX = 5
# An order that was in flight at so many deaths is given back.
DEATHS_IN_FLIGHT_MAX = 5
# Empty containers are kept for the next task at least so long and at most twice.
TIDY_S = 0.5
_SIGNAL_MAX = 64


class Deeds:
    """Carries out the effects of an ExecutorMachine on `loop`; see the module."""

    def __init__(
        self, loop: Loop, isolation: Isolation, spawner: SpawnerLink, orders: Orders
    ) -> None:
        self._loop = loop
        self._isolation = isolation
        self._spawner = spawner
        self._orders = orders
        self._pipes = StdinPipes(loop)
        self._streams = StreamLimits(loop)
        self._doors = Doors(loop)
        self._plans: dict[str, JoinPlan] = {}
        # What is ordered and not answered: the order for it, its plan, and how often it was in
        # flight when a spawner died.
        self._ordered: dict[str, tuple[Spawn, JoinPlan, int]] = {}
        # Counters of containers that are not empty yet, and those that are gone for good.
        self._used: dict[str, tuple[Usage, int]] = {}
        self._removed: dict[str, None] = {}
        # Those of which the spawner has seen that nothing is inside.
        self._left: dict[str, bool] = {}
        self._tidies = False
        self._watched_fd = -1
        self._writing_fd = -1
        self._unready = 0
        self._deeds: dict[type, Callable[..., None]] = {
            Prepare: self._prepare,
            Resize: self._resize,
            Spawn: self._spawn,
            Begin: self._begin,
            Recall: self._recall,
            SignalContainer: self._signal,
            KillContainer: lambda effect: isolation.kill(effect.container),
            Drain: self._drain,
            Remove: self._remove,
            FeedStdin: self._pipes.feed,
            Sample: self._sample,
        }

    def attach(self, deaths_fd: int) -> None:
        """Join the loop. `deaths_fd` is readable when a child has died (signalfd)."""
        for kind, deed in self._deeds.items():
            self._loop.on_effect(kind, deed)
        self._loop.watch_fd(deaths_fd, lambda: self._children_died(deaths_fd))
        self._watch_spawner()

    # --- containers -------------------------------------------------------------------------------
    def _prepare(self, effect: Prepare) -> None:
        try:
            limits = limits_of(effect)
            plan = self._isolation.prepare(effect.container, limits)
        except MesosctlError as error:
            self._loop.post(LaunchFailed(effect.container, "limit", str(error)))
            return
        if effect.launch is not None and effect.launch.task.is_executor:
            try:
                self._doors.open(effect.launch)
            except MesosctlError as error:
                self._loop.post(LaunchFailed(effect.container, "sandbox", str(error)))
                return
        self._plans[effect.container] = plan

    def _resize(self, effect: Resize) -> None:
        try:
            self._isolation.update(effect.container, limits_of(effect))
        except MesosctlError as error:
            self._loop.post(ResizeFailed(effect.container, str(error)))

    def _signal(self, effect: SignalContainer) -> None:
        if 0 < effect.signum <= _SIGNAL_MAX:
            self._isolation.signal(effect.container, effect.signum)
        else:
            self._loop.log("warning", f"{effect.container}: no signal {effect.signum}")

    def _drain(self, effect: Drain) -> None:
        """Read the counters and remove the container in one go: only an empty one can be removed.

        Asking first whether it is empty would cost as much again, for each of a thousand tasks a
        second. Where a part of it is gone before the rest the earlier figures count.
        """
        container, isolation = effect.container, self._isolation
        used = _latest(self._used.pop(container, None), isolation.usage(container))
        is_left = self._left.pop(container, False)
        if isolation.release(container, is_left=is_left):
            self._removed[container] = None
            self._tidy_soon()
        elif not isolation.is_empty(container):
            isolation.kill(container)
            self._used[container] = used
            self._loop.post(ContainerBusy(container))
            return
        self._pipes.drop(container)
        self._streams.end(container)
        self._doors.close(container)
        self._loop.post(ContainerEmptied(container, *used))

    def _tidy_soon(self) -> None:
        """Containers may be kept for the next tasks, but not for long."""
        if not self._tidies:
            self._tidies = True
            self._loop.after(TIDY_S, self._tidy)

    def _tidy(self) -> Iterable[Event]:
        self._tidies = False
        if self._isolation.tidy():
            self._tidy_soon()
        return ()

    def _remove(self, effect: Remove) -> None:
        container = effect.container
        if container in self._removed:
            del self._removed[container]
        elif not self._isolation.cleanup(container):
            self._loop.post(RemoveFailed(container, effect.tries))

    def _sample(self, effect: Sample) -> None:
        for found in self._isolation.sample():
            self._loop.post(
                LimitExceeded(found.container, found.kind, found.peak_bytes, found.limit_bytes)
            )

    # --- launches ---------------------------------------------------------------------------------
    def _spawn(self, effect: Spawn) -> None:
        container = effect.launch.container
        plan = self._plans.pop(container, None)
        if plan is not None:
            self._ordered[container] = (effect, plan, 0)
            self._post_all(self._order(container))
            self._watch_spawner()

    def _begin(self, effect: Begin) -> None:
        self._spawner.begin(effect.container)
        self._watch_spawner()

    def _recall(self, effect: Recall) -> None:
        self._post_all(self._take(self._spawner.recall(effect.container)))

    def _order(self, container: str) -> list[Event]:
        """Hand the order to the spawner; the failure if it cannot be one."""
        effect, plan, _ = self._ordered[container]
        stdin_fd = None
        try:
            order = self._orders.make(effect, plan)
            if order.stdin == "fd":
                stdin_fd = self._pipes.make(container)
            self._spawner.spawn(order, stdin_fd)
        except (LaunchRefused, ValueError) as error:
            if stdin_fd is not None:
                os.close(stdin_fd)
            stage = error.stage if isinstance(error, LaunchRefused) else "exec"
            return self._failed(container, stage, str(error), None)
        if not self._spawner.alive:
            return self._start_spawner()
        return []

    def _failed(self, container: str, stage: str, text: str, exit_code: int | None) -> list[Event]:
        del self._ordered[container]
        self._pipes.drop(container)
        return [LaunchFailed(container, stage, text, exit_code)]

    def _begun(self, container: str, pid: int, fell_back: bool) -> Event:
        effect, _, _ = self._ordered.pop(container)
        launch = effect.launch
        self._isolation.started(container, pid)
        self._streams.begin(launch)
        note = f"started in its sandbox for want of {launch.task.command.cwd}" if fell_back else ""
        return TaskStarted(container, pid, note)

    # --- the spawner ------------------------------------------------------------------------------
    def _post_all(self, events: Iterable[Event]) -> None:
        for event in events:
            self._loop.post(event)

    def _children_died(self, deaths_fd: int) -> list[Event]:
        os.read(deaths_fd, 4096)
        return self._take(self._spawner.reap_orphans())

    def _spawner_spoke(self) -> list[Event]:
        return self._take(self._spawner.read())

    def _take(self, reports: list[Report]) -> list[Event]:
        events: list[Event] = []
        for report in reports:
            match report:
                case Spawned():
                    events.append(self._begun(report.id, report.pid, report.cwd_fallback))
                case Exited():
                    events += self._exited(report)
                case Recalled():
                    del self._ordered[report.id]
                    self._pipes.drop(report.id)
                    events.append(LaunchRecalled(report.id))
                case SpawnFailed():
                    events += self._failed(report.id, report.stage, report.text, report.exit_code)
                case SpawnerDied():
                    events += self._bury(report)
        self._watch_spawner()
        return events

    def _exited(self, report: Exited) -> list[Event]:
        container = report.id
        if container is None:
            # A process that some task left behind; its container is drained by the machine.
            return []
        self._isolation.reaped(
            container,
            report.utime_s,
            report.stime_s,
            report.maxrss_bytes,
            report.read_bytes,
            report.written_bytes,
            report.switches,
        )
        if report.is_left:
            self._left[container] = True
        code = os.waitstatus_to_exitcode(report.status)
        return [MainExited(container, code) if code >= 0 else MainExited(container, None, -code)]

    def _bury(self, report: SpawnerDied) -> list[Event]:
        """Take over what the dead spawner had begun, order again what it had not, start another."""
        code = os.waitstatus_to_exitcode(report.status)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        self._loop.log("warning", f"the spawner ended ({how}); its tasks go on under another")
        self._unready = 0 if report.ready else self._unready + 1
        container, pid = report.in_flight, report.in_flight_pid
        if container is None:
            return self._start_spawner()
        if pid is not None:
            return [self._begun(container, pid, False), *self._start_spawner()]
        return [*self._start_spawner(), *self._again(container)]

    def _again(self, container: str) -> list[Event]:
        """Order a task again that was next when its spawner died, and had not begun."""
        effect, plan, deaths = self._ordered[container]
        deaths += 1
        # Whom it followed has ended.
        self._ordered[container] = (Spawn(effect.launch), plan, deaths)
        if deaths >= DEATHS_IN_FLIGHT_MAX or not self._spawner.alive:
            text = f"the spawner ended {deaths} times while it was about to start this task"
            return self._failed(container, "spawner", text, None)
        return self._order(container)

    def _start_spawner(self) -> list[Event]:
        """Start a spawner, or give everything back that waits for one."""
        problem = f"the spawner ended {self._unready} times before it was ready; see its log"
        if self._unready < UNREADY_DEATHS_MAX:
            try:
                self._spawner.start()
                self._isolation.spare(self._spawner.pid)
                return []
            except OSError as error:
                problem = f"cannot start the spawner: {error.strerror}; this host is short of it"
        self._loop.log("error", problem)
        # The next order is given another chance.
        self._unready = 0
        events: list[Event] = []
        for container in self._spawner.queued:
            if self._spawner.cancel(container):
                events += self._failed(container, "spawner", problem, None)
        return events

    def _watch_spawner(self) -> None:
        """Keep the loop watching the descriptor of the present spawner, for room too if need be."""
        present = self._spawner.fileno()
        if present != self._watched_fd:
            self._stop_writing()
            self._loop.unwatch_fd(self._watched_fd)
            self._watched_fd = present
            if present >= 0:
                self._loop.watch_fd(present, self._spawner_spoke)
        if not self._spawner.wants_write:
            self._stop_writing()
        elif self._writing_fd < 0:
            # A descriptor is watched for one thing, so a twin is watched for the other.
            self._writing_fd = os.dup(present)
            self._loop.watch_fd(self._writing_fd, self._spawner_spoke, write=True)

    def _stop_writing(self) -> None:
        if self._writing_fd >= 0:
            self._loop.unwatch_fd(self._writing_fd)
            os.close(self._writing_fd)
            self._writing_fd = -1


def _latest(before: tuple[Usage, int] | None, used: base.Usage) -> tuple[Usage, int]:
    """The figures for the update, and the OOM kills; counters only grow, or are gone."""
    known, kills = before or (Usage(), 0)
    usage = Usage(
        max(known.cpu_user_s, used.cpu_user_s),
        max(known.cpu_system_s, used.cpu_system_s),
        max(known.mem_peak_bytes, used.mem_peak_bytes),
        max(known.mem_limit_bytes, used.mem_limit_bytes or 0),
        max(known.disk_peak_bytes, used.disk_bytes),
        max(known.disk_limit_bytes, used.disk_limit_bytes or 0),
        max(known.io_read_bytes, used.io_read_bytes),
        max(known.io_write_bytes, used.io_write_bytes),
        max(known.switches, used.switches),
    )
    return usage, max(kills, used.oom_kills)
