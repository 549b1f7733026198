"""A job and a task of the batch framework, and their form on disk.

    jobs     "<job>"             what was submitted, by whom, under which request; never changes
    cancels  "<job>"             ranges of positions that were cancelled before any attempt
    tasks    "<job>.<position>"  a task from its first attempt on
    summaries (core/batch/summaries.py) takes the place of a job's own after its time
    meta     "framework"         the framework's id, the cluster's, the next job number

Rules: what equals its default is left out of a record. A task that was never attempted has no
record: it is one of a range. The record of a request is the job's own, so that the two can not
contradict each other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import field
from operator import attrgetter
from typing import Any, NamedTuple

from mesosctl.core.batch.spans import Spans
from mesosctl.model.explanations import Change
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.jobs import BatchState, JobSpec
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command
from mesosctl.protocol.schema import from_plain, to_plain

JOBS = "jobs"
CANCELS = "cancels"
TASKS = "tasks"
META = "meta"
META_KEY = "framework"

Tables = Mapping[str, Mapping[str, dict[str, Any]]]
COMMAND_CHARS_MAX = 200
_NO_AGENT = AgentId("")
ACTIVE = frozenset({BatchState.STAGING, BatchState.RUNNING})


@dataclass(frozen=True, slots=True)
class Kill:
    """A wish to end a task that outlives us. `grace_s` None: the task's own."""

    grace_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier attempt: its number and the agent it was meant for."""

    number: int
    agent_id: AgentId
    agent: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Positions first..last were cancelled before any attempt, at `at` wall seconds."""

    first: int
    last: int
    at: float
    reason: str = ""


@dataclass(slots=True)
class Task:
    """One task from its first attempt on. Times are wall seconds; the usage is the kernel's.

    `exit_code` is what a command that waits for it ends with, set when it has ended. `stale` are
    earlier attempts that may still run somewhere; `past` those that had started. `drops` counts
    attempts that never started and is not kept; nor is `lease_due`, from when on an unreachable
    attempt counts as dead (monotonic seconds), nor `again_at`, when that is on the wall, nor
    `launched`, when the attempt was (monotonic). `lane` is that of an attempt under way. `history`
    is what befell its attempts (core/batch/history.py).
    """

    position: int
    state: BatchState = BatchState.PENDING
    attempt: int = 0
    agent_id: AgentId = _NO_AGENT
    agent: str = ""
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started: float | None = None
    ended: float | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    mem_peak_bytes: int | None = None
    losses: int = 0
    kill: Kill | None = None
    past: tuple[Attempt, ...] = ()
    stale: tuple[Attempt, ...] = ()
    drops: int = 0
    lease_due: float | None = None
    again_at: float | None = None
    lane: str = ""
    launched: float | None = None
    history: tuple[Change, ...] = ()


def cpu_us_of(task: Task) -> int:
    """CPU time of a task's last attempt in microseconds."""
    return round(((task.cpu_user_s or 0.0) + (task.cpu_system_s or 0.0)) * 1e6)


_PLAIN = (
    "attempt",
    "agent_id",
    "agent",
    "reason",
    "message",
    "exit_code",
    "signal",
    "started",
    "ended",
    "cpu_user_s",
    "cpu_system_s",
    "mem_peak_bytes",
    "losses",
    "lane",
)
_DEFAULTS = Task(0)
_PLAIN_DEFAULTS = tuple((name, getattr(_DEFAULTS, name)) for name in _PLAIN)
_PLAIN_OF = attrgetter(*_PLAIN)


def task_record(task: Task) -> dict[str, Any]:
    """The form of a task on disk."""
    plain: dict[str, Any] = {"state": str(task.state)}
    for (name, default), held in zip(_PLAIN_DEFAULTS, _PLAIN_OF(task), strict=True):
        # Most are one and the same object: comparing them would be most of the work.
        if held is not default and held != default:
            plain[name] = held
    if task.kill is not None:
        plain["kill"] = to_plain(task.kill)
    if task.past:
        plain["past"] = [[past.number, past.agent_id, past.agent] for past in task.past]
    if task.stale:
        plain["stale"] = [[stale.number, stale.agent_id, stale.agent] for stale in task.stale]
    if task.history:
        plain["history"] = [[change.at, change.reason, change.text] for change in task.history]
    return plain


def task_of(position: int, plain: dict[str, Any]) -> Task:
    """The task of a record. Raises KeyError or ValueError for what is none."""
    held = dict(plain)
    state = BatchState(held.pop("state"))
    kill = held.pop("kill", None)
    past = tuple(Attempt(*item) for item in held.pop("past", ()))
    stale = tuple(Attempt(*item) for item in held.pop("stale", ()))
    history = tuple(Change(*item) for item in held.pop("history", ()))
    return Task(
        position,
        state,
        kill=None if kill is None else from_plain(Kill, kill),
        past=past,
        stale=stale,
        history=history,
        **held,
    )


class Size(NamedTuple):
    """What one task of a job needs: two of the same size fit into the same offers.

    Thousandths of CPUs and of MiB of memory, the rest, and on which agents. `apart` is the number
    of a job whose tasks keep apart (--spread); 0: it is all the same to them.
    """

    cpus_milli: int
    mem_milli: int
    more: Resources
    constraint: str = ""
    apart: int = 0


@dataclass(slots=True)
class Job:
    """A job with its tasks.

    `fresh` counts the tasks that were never attempted nor cancelled, all of them at or beyond
    `cursor`. `requeued` is a heap of positions to run again; `delayed` counts those that wait for
    their time. `offered` is the room that the queue has counted. `counts` counts the tasks with
    records by state, without zeros; `active` those under way, `busy` the lanes and tasks without
    one that hold resources for them. `exit_code` is the largest of the ended tasks. `spots`: how
    many of `busy` are on which agent, of a job of --spread.
    """

    number: int
    spec: JobSpec
    owner: str
    request: str
    submitted: float
    spans: Spans
    resources: Resources
    cpus_milli: int
    mem_milli: int
    launch_bytes: int
    count: int
    fresh: int
    cursor: int = 0
    tasks: dict[int, Task] = field(default_factory=dict)
    requeued: list[int] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    counts: dict[BatchState, int] = field(default_factory=dict)
    cancelled: int = 0
    delayed: int = 0
    active: int = 0
    busy: int = 0
    offered: int = 0
    exit_code: int = 0
    started: float | None = None
    ended: float | None = None
    # CPU time of the ended tasks; whole, so that it can be recounted in any order.
    cpu_us: int = 0
    # Only its summary is left.
    faded: bool = False
    # What a slot took for one task of late, and after how many tasks that is known.
    pace_s: float | None = None
    paced: int = 0
    # What it has in common with other jobs that run the same for the same user.
    like: tuple[str, ...] = ()
    spots: dict[AgentId, int] = field(default_factory=dict)
    # What its tasks had in common that were launched last, and what that was made for.
    common: tuple[tuple[str, ...], Command] | None = None

    @property
    def id(self) -> str:
        """The job's id as users see it."""
        return str(self.number)

    def ready(self) -> int:
        """How many tasks could be started now if there were room."""
        return self.fresh + len(self.requeued)

    def room(self) -> int:
        """How many tasks may be started now."""
        ready = self.ready()
        if self.spec.max_running is None:
            return ready
        return max(0, min(ready, self.spec.max_running - self.active))

    def pending(self) -> int:
        """How many tasks wait, for whatever reason."""
        return self.fresh + self.counts.get(BatchState.PENDING, 0)

    def has_ended(self) -> bool:
        """Whether no task can change any more."""
        return not self.active and not self.fresh and not self.counts.get(BatchState.PENDING)

    def cancel_of(self, position: int) -> Cancel | None:
        """The cancellation that covers a position without a record, if any."""
        at = bisect_right(self.cancels, position, key=lambda cancel: cancel.first) - 1
        if at >= 0 and position <= self.cancels[at].last:
            return self.cancels[at]
        return None

    @property
    def size(self) -> Size:
        """What one task needs."""
        spec = self.spec
        apart = self.number if spec.spread else 0
        return Size(self.cpus_milli, self.mem_milli, spec.more, spec.constraint, apart)

    def task_id(self, position: int) -> str:
        """The id of a task as users see it: `<job>.<index>`."""
        return f"{self.number}.{self.spans.index(position)}"

    def wire_id(self, position: int, attempt: int) -> TaskId:
        """The id of one attempt on the wire."""
        return TaskId(f"{self.number}.{self.spans.index(position)}.{attempt}")

    def tallies(self) -> dict[str, int]:
        """How many tasks are in which state, without zeros, in the order of the states."""
        sums = dict(self.counts)
        for state, more in (
            (BatchState.PENDING, self.fresh),
            (BatchState.CANCELLED, self.cancelled),
        ):
            if more:
                sums[state] = sums.get(state, 0) + more
        return {str(state): sums[state] for state in BatchState if state in sums}


def new_job(number: int, spec: JobSpec, owner: str, request: str, submitted: float) -> Job:
    """A job of which nothing has happened yet."""
    count = spec.count()
    resources = Resources.of(cpus_milli=spec.cpus_milli, mem_bytes=spec.mem_bytes)
    if spec.more:
        resources = resources + spec.more
    ranges = spec.indices or ((0, count - 1, 1),)
    return Job(
        number,
        spec,
        owner,
        request,
        submitted,
        Spans(ranges),
        resources,
        resources.scalar("cpus"),
        resources.scalar("mem"),
        launch_bytes(spec),
        count,
        count,
    )


def launch_bytes(spec: JobSpec) -> int:
    """About how many bytes one task of the job takes in an ACCEPT, at the most."""
    entry = max(map(len, spec.entries), default=0)
    holes = sum(argument.count("{}") for argument in spec.argv) if entry else 0
    size = 1000 + len(spec.script or b"") + 4 * entry * (holes + 1)
    size += 4 * sum(map(len, spec.argv)) + 5 * len(spec.argv)
    size += 4 * sum(len(name) + len(value) + 2 for name, value in spec.env.items())
    return size + 4 * (len(spec.cwd) + len(spec.submit_dir) * 4 + len(spec.stdout))


def command_of(job: Job) -> str:
    """One line that tells what the job executes."""
    words = job.spec.argv if job.spec.script is None else (job.spec.script_name, *job.spec.argv)
    text = ""
    for word in words:
        text = f"{text} {word}" if text else word
        if len(text) > COMMAND_CHARS_MAX:
            return text[: COMMAND_CHARS_MAX - 1] + "…"
    return text


def job_record(job: Job) -> dict[str, Any]:
    """The form of a job on disk."""
    return {
        "spec": to_plain(job.spec),
        "owner": job.owner,
        "request": job.request,
        "submitted": job.submitted,
    }


def job_of(number: int, plain: dict[str, Any]) -> Job:
    """The job of a record. Raises KeyError or ValueError for what is none."""
    spec = from_plain(JobSpec, plain["spec"])
    return new_job(number, spec, plain["owner"], plain["request"], plain["submitted"])


def cancels_record(job: Job) -> dict[str, Any]:
    """The form of a job's early cancellations on disk."""
    return {"ranges": [[c.first, c.last, c.at, c.reason] for c in job.cancels]}


def cancels_of(plain: dict[str, Any]) -> list[Cancel]:
    """The cancellations of a record, ascending."""
    return [Cancel(*item) for item in plain["ranges"]]
