"""What is done to a framework's executor and to the tasks that it does itself: limits, ends, kills.

Used by executor_guests.py, which owns the table of guests and talks to them. Rules: the room for a
task is made before its guest is told of it, and taken back when the task ends or gets a container
of its own; what a guest does not do in time is done to its container.
"""

from __future__ import annotations

from mesosctl.core.executor_effects import ContainerEmptied, Resize
from mesosctl.core.executor_guest import Guest, Held, one_line, orphaned
from mesosctl.core.executor_lives import TaskLives
from mesosctl.core.executor_task import Phase, Step, Task, classify, ending, update
from mesosctl.core.machine import Effect, Log, NewId, Now
from mesosctl.core.session import ServerSessions
from mesosctl.limits import (
    EXECUTOR_REGISTER_S,
    GUEST_RESIZE_AGAIN_S,
    GUEST_RESIZE_TRIES,
    KILL_GRACE_MAX_S,
)
from mesosctl.model.ids import TaskId
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.agent import KillTasks, ShutdownExecutor, TaskKill

_NOTHING = Usage()


class GuestTasks:
    """See the module. `idle_s`: a guest without tasks for so long is asked to end."""

    def __init__(
        self, lives: TaskLives, sessions: ServerSessions, new_id: NewId, idle_s: float
    ) -> None:
        self._lives = lives
        self._sessions = sessions
        self._new_id = new_id
        self._idle_s = idle_s

    def fit(self, guest: Guest) -> list[Effect]:
        """Bring the limits of a guest's container up to date."""
        wanted = guest.wanted_limits()
        if wanted == guest.limits or not guest.is_running:
            return []
        guest.limits = wanted
        guest.resize_tries, guest.resize_due = 0, None
        return [self._resize(guest)]

    def _resize(self, guest: Guest) -> Effect:
        cpus_milli, mem_bytes, pids = guest.limits
        container = guest.launch.container
        return Resize(container, cpus_milli, mem_bytes or None, pids, guest.launch)

    def resize_failed(self, guest: Guest, text: str, now: Now) -> list[Effect]:
        """Try again; one that does not give back what belongs to others is ended."""
        guest.resize_tries += 1
        if guest.resize_tries < GUEST_RESIZE_TRIES:
            guest.resize_due = now.mono + GUEST_RESIZE_AGAIN_S
            return []
        return self.force(
            guest, f"it keeps what its tasks had, and its limits cannot be changed: {text}", now
        )

    def begun(self, task: Task, text: str, now: Now) -> None:
        """A guest says that a held task has begun."""
        if task.phase is not Phase.WAITING:
            return
        task.phase, task.started_at = Phase.RUNNING, now.wall
        if not task.cause:
            self.tell(task, Step(TaskState.RUNNING, Reason.NONE, text), now)

    def tell(self, task: Task, step: Step, now: Now) -> None:
        """Make an update of a held task."""
        lives = self._lives
        made = update(task, lives.framework_id, self._new_id(), now.wall, step, None)
        lives.updates.put(task.launch.container, made, now.mono)

    def finish(self, guest: Guest, task: Task, step: Step, now: Now) -> list[Effect]:
        """A held task has ended."""
        del guest.held[task.launch.task.task_id]
        self.tell(task, step, now)
        return self.fit(guest)

    def gone(self, guest: Guest, told: StatusUpdate, now: Now) -> list[Effect]:
        """Its container is empty: so end its tasks."""
        how = told.message or f"exit code {told.exit_code}"
        why = f"its executor {guest.name} ended: {how}"
        for one in guest.held.values():
            self.tell(one.task, orphaned(one.task, why), now)
        effects: list[Effect] = []
        for task_id in guest.own:
            reason = Reason.EXECUTOR_TERMINATED
            kill = TaskKill(TaskId(task_id), grace_s=0.0, reason=reason, text=why)
            effects += self._lives.kill(kill, now)
        return effects

    def kill_held(self, guest: Guest, one: Held, kill: TaskKill, now: Now) -> list[Effect]:
        """End a held task: its guest is asked to, and its container made to when time is up."""
        task, info = one.task, one.task.launch.task
        if kill.signum is not None:
            message = KillTasks(self._lives.framework_id, (kill,))
            return self._sessions.send(guest.peer, message) if one.handed else []
        grace_s = info.grace_s if kill.grace_s is None else kill.grace_s
        due = now.mono + min(max(0.0, grace_s), KILL_GRACE_MAX_S)
        if not task.cause:
            task.cause, task.kill_reason = "kill", (kill.reason, kill.text)
            if not one.handed:
                step = classify(task, ContainerEmptied(task.launch.container, _NOTHING))
                return self.finish(guest, task, step, now)
            self.tell(task, ending(task), now)
        elif task.kill_due is not None and task.kill_due <= due:
            return []
        task.kill_due = due
        return self.pass_kill(guest, one, now)

    def pass_kill(self, guest: Guest, one: Held, now: Now) -> list[Effect]:
        """Tell a guest of the kill of a task that it has."""
        task = one.task
        if task.kill_due is None or not one.handed:
            return []
        grace_s = max(0.0, task.kill_due - now.mono)
        kill = TaskKill(task.launch.task.task_id, grace_s=grace_s, reason=task.kill_reason[0])
        return self._sessions.send(guest.peer, KillTasks(self._lives.framework_id, (kill,)))

    def say_end(self, guest: Guest, grace_s: float | None = None) -> list[Effect]:
        """Ask a guest to end."""
        own_s = guest.launch.task.grace_s
        message = ShutdownExecutor(own_s if grace_s is None else max(0.0, grace_s))
        return self._sessions.send(guest.peer, message)

    def force(self, guest: Guest, why: str, now: Now) -> list[Effect]:
        """End a guest and everything in its container."""
        guest.is_ending, guest.by, guest.quit_due, guest.resize_due = True, None, None, None
        reason = Reason.EXECUTOR_TERMINATED
        text = one_line(why)
        kill = TaskKill(TaskId(guest.name), grace_s=0.0, reason=reason, text=text)
        log = Log("warning", f"executor {guest.name} is ended: {text}")
        return [log, *self._lives.kill(kill, now)]

    def due(self, guest: Guest, now: Now) -> list[Effect]:
        """Do what is due about a guest."""
        effects: list[Effect] = []
        for one in list(guest.held.values()):
            effects += self._held_due(guest, one, now)
        if guest.by is not None and guest.by <= now.mono:
            text = f"it was not in a session with its agent for {EXECUTOR_REGISTER_S:g} s"
            effects += self.force(guest, text, now)
        if guest.quit_due is not None and guest.quit_due <= now.mono:
            effects += self.force(guest, "it had no task and did not end when it was asked", now)
        if guest.resize_due is not None and guest.resize_due <= now.mono:
            guest.resize_due = None
            effects.append(self._resize(guest))
        idle = guest.idle_since
        if idle is not None and not guest.is_ending and idle + self._idle_s <= now.mono:
            guest.is_ending = True
            guest.quit_due = now.mono + guest.launch.task.grace_s
            effects += self.say_end(guest)
        return effects

    def _held_due(self, guest: Guest, one: Held, now: Now) -> list[Effect]:
        task = one.task
        effects: list[Effect] = []
        if task.limit_due is not None and task.limit_due <= now.mono:
            task.limit_due = None
            if not task.cause:
                task.cause = "time"
                task.kill_due = now.mono + task.launch.task.grace_s
                effects += self.pass_kill(guest, one, now)
        if task.kill_due is not None and task.kill_due <= now.mono:
            task.kill_due = None
            text = f"it did not end task {task.launch.task.task_id} in time"
            effects += self.force(guest, text, now)
        return effects
