"""What a status update does to a task of the batch framework.

Rules:
- A task that has ended never changes again. News of an attempt that is not the present one only
  lead to its end: nothing of what it did counts.
- DROPPED is proof that nothing started: the task is pending again and the attempt is not counted.
- What was ended to empty its agent, or preempted, is run again, uncounted, unless it may start only
  once.
- GONE is proof that it runs no more, after a start: it is run again LOST_ATTEMPTS_MAX times, with
  `once` never. Silence and UNKNOWN prove nothing.
- A lease (--lost-after) is proof as well: once its agent has been unreachable for longer, without
  a break and from the moment on at which we learned it. A new session with the master is a break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from mesosctl.core.batch.history import note
from mesosctl.core.batch.queue import CANCELLED_CODE, PAST_MAX, Place, Queue
from mesosctl.core.batch.records import ACTIVE, Attempt, Job, Task
from mesosctl.core.machine import Effect, Log, Now
from mesosctl.limits import LEASE_SLACK_S, LEASE_SLACK_SHARE, LOST_ATTEMPTS_MAX
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.jobs import LOST_CODE, SIGNAL_CODE, SIGTERM, BatchState, exit_code, seen_as
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import PUT_OFF, Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import TaskKill

DROP_BACKOFF_S = 1.0
DROP_BACKOFF_MAX_S = 60.0
# It was ended for one of these by somebody else, who wants it to run elsewhere, or later.
DISPLACED = (Reason.DRAINED, Reason.PREEMPTED)
UNREACHABLE = "Unreachable"
KILLING = "Killing"


@dataclass(slots=True)
class Outbox:
    """What a pass collects for the master, sent once at its end."""

    acks: list[StatusUpdate] = field(default_factory=list)
    kills: list[TaskKill] = field(default_factory=list)
    logs: list[Effect] = field(default_factory=list)


class Updates:
    """Applies updates to the queue. `unanswered` are attempts whose state was asked for."""

    def __init__(self, queue: Queue, outbox: Outbox) -> None:
        self.queue = queue
        self.outbox = outbox
        self.unanswered: dict[TaskId, AgentId] = {}
        # Live tasks on unreachable agents whose lease is counted down.
        self._leased: dict[Place, None] = {}

    def take(self, updates: Sequence[StatusUpdate], framework_id: FrameworkId, now: Now) -> None:
        """Apply updates in the order in which they came."""
        for update in updates:
            if update.uuid:
                self.outbox.acks.append(update)
            if update.framework_id == framework_id:
                self._take_one(update, now)

    def _take_one(self, update: StatusUpdate, now: Now) -> None:
        if update.state is not TaskState.UNKNOWN:
            self.unanswered.pop(update.task_id, None)
        found = self._find(update.task_id)
        if found is None:
            self._end_stray(update)
            return
        job, task, attempt = found
        if attempt == task.attempt and task.state in ACTIVE:
            self._apply(job, task, update, now)
        elif update.is_terminal:
            self.queue.bury(update.task_id)
        else:
            self._end_stray(update)

    def _find(self, task_id: TaskId) -> tuple[Job, Task, int] | None:
        parts = task_id.split(".")
        digits = "".join(parts)
        if len(parts) != 3 or not all(parts) or not (digits.isascii() and digits.isdigit()):
            return None
        job = self.queue.jobs.get(int(parts[0]))
        position = job.spans.position(int(parts[1])) if job is not None else None
        if job is None or position is None or position not in job.tasks:
            return None
        return job, job.tasks[position], int(parts[2])

    def _end_stray(self, update: StatusUpdate) -> None:
        """An attempt runs that nobody waits for any more."""
        runs = update.state in (TaskState.STAGING, TaskState.RUNNING)
        if runs:
            self.outbox.kills.append(TaskKill(update.task_id, update.agent_id))

    def _apply(self, job: Job, task: Task, update: StatusUpdate, now: Now) -> None:
        if update.started_at is not None and task.started is None:
            task.started = update.started_at
        match update.state:
            case TaskState.STAGING | TaskState.RUNNING | TaskState.KILLING:
                self._goes_on(job, task, update, now)
            case TaskState.UNREACHABLE:
                self.unreachable(job, task, now)
            case TaskState.UNKNOWN:
                self._does_not_answer(job, task, now)
            case TaskState.DROPPED if task.started is None:
                self._dropped(job, task, update, now)
            case TaskState.DROPPED | TaskState.GONE:
                self.gone(job, task, update.reason, update.message, now)
            case TaskState.KILLED if update.reason is Reason.AGENT_GONE:
                self.gone(job, task, update.reason, update.message, now)
            case TaskState.KILLED if update.reason in DISPLACED and task.kill is None:
                self._displaced(job, task, update, now)
            case _:
                self._ended(job, task, update, now)

    def _goes_on(self, job: Job, task: Task, update: StatusUpdate, now: Now) -> None:
        self._forget_lease(job, task)
        is_killing = task.kill is not None or update.state is TaskState.KILLING
        reason = KILLING if is_killing else ""
        runs = update.state is not TaskState.STAGING or task.state is BatchState.RUNNING
        state = BatchState.RUNNING if runs else BatchState.STAGING
        if runs and task.started is None:
            task.started = update.at or None
        if task.reason == UNREACHABLE:
            note(task, now.wall, state.capitalize(), f"agent {task.agent} answers again")
        if task.state is not state or task.reason != reason:
            is_displaced = update.reason in DISPLACED and task.kill is None
            task.reason, task.message = reason, update.message if is_displaced else ""
            self.queue.move(job, task, state)

    def unreachable(self, job: Job, task: Task, now: Now) -> None:
        """The task's agent does not answer; that is no end of it, but its lease runs out."""
        lease_s = job.spec.lost_after_s
        if lease_s is not None and task.lease_due is None:
            wait_s = lease_s * (1 + LEASE_SLACK_SHARE) + LEASE_SLACK_S
            task.lease_due, task.again_at = now.mono + wait_s, now.wall + wait_s
            self._leased[job.number, task.position] = None
            self.queue.touch(job, task)
        self._does_not_answer(job, task, now)

    def _does_not_answer(self, job: Job, task: Task, now: Now) -> None:
        text = f"agent {task.agent} does not answer"
        if job.spec.restartable and task.kill is None:
            self.queue.abandon(job, task)
            self.gone(job, task, Reason.AGENT_UNREACHABLE, text, now)
        elif task.reason != UNREACHABLE:
            task.reason, task.message = UNREACHABLE, text
            note(task, now.wall, UNREACHABLE, text)
            self.queue.touch(job, task)

    def _forget_lease(self, job: Job, task: Task) -> None:
        """Its agent was heard of, or may have been: a countdown would begin anew."""
        self._leased.pop((job.number, task.position), None)
        if task.lease_due is not None:
            task.lease_due = task.again_at = None
            self.queue.touch(job, task)

    def forget_leases(self) -> None:
        """A new session with the master: what happened in between nobody has told us."""
        for number, position in list(self._leased):
            job = self.queue.jobs[number]
            self._forget_lease(job, job.tasks[position])

    def end_leases(self, vouched: Now | None, now: Now) -> None:
        """Count attempts as lost whose lease has run out.

        `vouched`: in the present session, when we sent the last message that the master answered.
        Had the agent come back before it answered, we would have heard that before.
        """
        for number, position in list(self._leased):
            job = self.queue.jobs[number]
            task = job.tasks[position]
            if task.state not in ACTIVE:
                self._forget_lease(job, task)
            if task.lease_due is None or vouched is None or vouched.mono < task.lease_due:
                continue
            self.queue.abandon(job, task)
            text = f"agent {task.agent} did not return within {job.spec.lost_after_s:g} s"
            self.gone(job, task, Reason.LEASE_EXPIRED, text, now)

    def _dropped(self, job: Job, task: Task, update: StatusUpdate, now: Now) -> None:
        self._forget_lease(job, task)
        if task.kill is not None:
            task.reason, task.message = "KillRequested", task.kill.reason
            self.queue.end(job, task, BatchState.CANCELLED, CANCELLED_CODE, now)
            return
        if update.reason not in PUT_OFF:
            task.drops += 1
        lane = self.queue.lanes.get(task.lane)
        if lane is not None and update.reason is Reason.RETURNED:
            # Whoever was before it took longer than was thought.
            self.queue.lanes.measure(job, lane, lane.ran + 1, now.mono)
        task.reason = ""
        task.message = (
            f"attempt {task.attempt} never started: {_said(update.reason, update.message)}"
        )
        if update.reason is not Reason.RETURNED:
            note(task, now.wall, str(update.reason) or "Dropped", task.message)
        # The first one is a rescinded offer or a lost message; an agent that drops everything it is
        # given must not keep us busy.
        wait_s = min(DROP_BACKOFF_S * 2 ** min(task.drops - 2, 10), DROP_BACKOFF_MAX_S)
        self.queue.requeue(job, task, now.mono + wait_s if task.drops > 1 else None)

    def gone(
        self, job: Job, task: Task, reason: Reason, message: str, now: Now, wait_s: float = 0.0
    ) -> None:
        """The present attempt had started, runs no more, and its end is unknown."""
        said = _said(reason, message)
        self._forget_lease(job, task)
        task.losses += 1
        if task.kill is not None:
            task.reason, task.message = str(reason), said
            self.queue.end(job, task, BatchState.KILLED, SIGNAL_CODE + SIGTERM, now)
        elif job.spec.once or task.losses > LOST_ATTEMPTS_MAX:
            why = "it may start only once" if job.spec.once else f"lost {task.losses} times"
            task.reason, task.message = str(reason) or "Lost", f"{said}; {why}"
            self.queue.end(job, task, BatchState.LOST, LOST_CODE, now)
        else:
            self._note_past(task)
            task.reason, task.message = "", f"attempt {task.attempt} was lost: {said}"
            note(task, now.wall, str(reason) or "Lost", task.message)
            self.queue.requeue(job, task, now.mono + wait_s if wait_s else None)
            text = f"task {job.task_id(task.position)} {task.message}; it is run again"
            self.outbox.logs.append(Log("warning", text))

    def _displaced(self, job: Job, task: Task, update: StatusUpdate, now: Now) -> None:
        """It was in the way where it ran: it is run again, and no loss is counted."""
        if job.spec.once:
            self._ended(job, task, update, now)
            task.message = f"{update.message}; it may start only once"
            return
        self._note_past(task)
        task.message = f"attempt {task.attempt} was {update.message}"
        note(task, now.wall, str(update.reason), task.message)
        task.reason = ""
        self.queue.requeue(job, task)
        text = f"task {job.task_id(task.position)}: {task.message}; it is run again"
        self.outbox.logs.append(Log("info", text))

    def _note_past(self, task: Task) -> None:
        past = Attempt(task.attempt, task.agent_id, task.agent)
        task.past = (*task.past, past)[-PAST_MAX:]

    def _ended(self, job: Job, task: Task, update: StatusUpdate, now: Now) -> None:
        self._forget_lease(job, task)
        state = seen_as(update.state, update.reason)
        task.reason, task.message = str(update.reason), update.message
        task.signal = update.signal
        task.ended = update.at or now.wall
        if update.usage is not None:
            task.cpu_user_s = update.usage.cpu_user_s
            task.cpu_system_s = update.usage.cpu_system_s
            task.mem_peak_bytes = update.usage.mem_peak_bytes
        if task.kill is not None and task.kill.reason and state is BatchState.KILLED:
            task.message = f"{update.message}: {task.kill.reason}"
        lane, launched = self.queue.lanes.get(task.lane), task.launched
        self.queue.end(job, task, state, exit_code(update), now)
        if lane is not None and update.started_at is not None:
            lane.ran += 1
            if not lane.open:
                self.queue.lanes.measure(job, lane, lane.ran, now.mono)
        elif launched is not None and update.started_at is not None:
            self.queue.lanes.note(job, now.mono - launched, 1)

    # --- asking -----------------------------------------------------------------------------------
    def expect_all(self) -> list[tuple[TaskId, AgentId]]:
        """Every attempt that may run, to be asked for until it is answered."""
        self.unanswered = {
            job.wire_id(task.position, task.attempt): task.agent_id
            for job, task in self.queue.live_tasks()
        }
        for wire_id, (number, position) in self.queue.stale.items():
            task = self.queue.jobs[number].tasks[position]
            for old in task.stale:
                if self.queue.jobs[number].wire_id(position, old.number) == wire_id:
                    self.unanswered[wire_id] = old.agent_id
        return list(self.unanswered.items())

    def open_questions(self) -> list[tuple[TaskId, AgentId]]:
        """What is still to be asked for; what has ended meanwhile is not."""
        self.unanswered = {
            wire_id: agent_id
            for wire_id, agent_id in self.unanswered.items()
            if self._may_run(wire_id)
        }
        return list(self.unanswered.items())

    def _may_run(self, wire_id: TaskId) -> bool:
        if wire_id in self.queue.stale:
            return True
        found = self._find(wire_id)
        return found is not None and found[1].attempt == found[2] and found[1].state in ACTIVE

    def kills_due(self) -> list[TaskKill]:
        """Every kill that is still waited for."""
        kills = []
        for number, position in self.queue.killing:
            job = self.queue.jobs[number]
            kills.append(kill_of(job, job.tasks[position]))
        for wire_id, (number, position) in self.queue.stale.items():
            job = self.queue.jobs[number]
            for old in job.tasks[position].stale:
                if job.wire_id(position, old.number) == wire_id:
                    kills.append(TaskKill(wire_id, old.agent_id))
        return kills

    def on_agent(self, agent_id: AgentId, state: str, now: Now) -> list[tuple[TaskId, AgentId]]:
        """An agent became unreachable, came back or was removed; answers what is to be asked."""
        ask: list[tuple[TaskId, AgentId]] = []
        for job, task in self.queue.live_tasks():
            if task.agent_id != agent_id:
                continue
            if state == "unreachable":
                self.unreachable(job, task, now)
            else:
                self._forget_lease(job, task)
                ask.append((job.wire_id(task.position, task.attempt), agent_id))
        self.unanswered.update(ask)
        return ask


def kill_of(job: Job, task: Task) -> TaskKill:
    """The message that ends the present attempt of a task as it was asked for."""
    grace_s = task.kill.grace_s if task.kill else None
    return TaskKill(job.wire_id(task.position, task.attempt), task.agent_id, grace_s)


def _said(reason: Reason, message: str) -> str:
    if reason and message:
        return f"{reason}: {message}"
    return str(reason) or message or "no reason was given"
