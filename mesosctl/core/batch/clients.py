"""Requests of commands to the batch framework, and their answers.

Rules: the caller is whom its key names, never what a message says. Every request is answered once,
by its answer or by a Refusal. An answer that promises something is sent in the pass that writes it
down, and so after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from fnmatch import fnmatchcase

from mesosctl.core.batch.explaining import explain_spec, kinds
from mesosctl.core.batch.intake import admitted
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import CANCELLED_CODE, Queue
from mesosctl.core.batch.records import ACTIVE, Job, Kill, Task, new_job
from mesosctl.core.batch.selectors import (
    Positions,
    Selection,
    each,
    is_own,
    may_see,
    select,
    whole,
)
from mesosctl.core.batch.updates import Outbox, kill_of
from mesosctl.core.batch.views import job_state, job_view, state_of, task_view
from mesosctl.core.batch.watching import Watches
from mesosctl.core.machine import Effect, Now
from mesosctl.errors import PeerError
from mesosctl.limits import KILL_GRACE_MAX_S
from mesosctl.model.cluster import Principal
from mesosctl.model.explanations import Explanation
from mesosctl.model.ids import is_ident
from mesosctl.model.jobs import ENDED, BatchState, JobView, TaskView
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.agent import TaskKill
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import (
    JobAccepted,
    Jobs,
    KillJobs,
    KillsBegun,
    ListJobs,
    ListTasks,
    SubmitJob,
    Tasks,
    Watch,
)
from mesosctl.protocol.messages.explain import Explained, ExplainTasks
from mesosctl.protocol.messages.session import Refusal

PAGE_ITEMS_MAX = 5_000
PAGE_BYTES_MAX = 2 * 1024 * 1024
EXPLAINED_MAX = 50
REASON_CHARS_MAX = 500
HINTS = {
    "not-found": "see `mesosctl jobs -a`",
    "not-permitted": "ask the operator for a key that may (`mesosctl keygen`)",
}

SendTo = Callable[[str, Message], list[Effect]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and which of its messages it is."""

    peer: str
    seq: int
    key: str
    principal: Principal


@dataclass(slots=True)
class Clients:
    """Carries out requests on the queue. `new_jobs` are those whose records are to be written."""

    queue: Queue
    outbox: Outbox
    watches: Watches
    outlook: Outlook
    role: str
    send: SendTo
    new_jobs: list[int] = field(default_factory=list)

    def handle(self, caller: Caller, message: Message, now: Now) -> list[Effect]:
        """Carry a request out; raises PeerError for what is refused."""
        match message:
            case SubmitJob():
                return self.send(caller.peer, self._submit(caller, message, now))
            case ListJobs():
                return self.send(caller.peer, self._list_jobs(caller, message))
            case ListTasks():
                return self.send(caller.peer, self._list_tasks(caller, message))
            case KillJobs():
                return self.send(caller.peer, self._kill(caller, message, now))
            case ExplainTasks():
                return self.send(caller.peer, self._explain(caller, message))
            case Watch():
                self._watch(caller, message)
                return []
            case _:
                raise PeerError("unknown-kind", f"the batch framework takes no {message.kind}")

    # --- submission -------------------------------------------------------------------------------
    def _submit(self, caller: Caller, message: SubmitJob, now: Now) -> JobAccepted:
        if not is_ident(message.request_id):
            raise PeerError("invalid", "the request has no id")
        owner = caller.principal.name
        known = self.queue.requests.get((owner, message.request_id))
        if known is not None and not message.dry_run:
            return JobAccepted(caller.seq, str(known), self.queue.jobs[known].count)
        job = self.drafted(caller, message, now)
        note = self.outlook.agents.misfit(job.cpus_milli, job.mem_milli)
        if message.dry_run:
            found = explain_spec(job, self.outlook)
            if found is None:
                return JobAccepted(caller.seq, "", job.count, note, fits=not note)
            text = "" if found.verdict == "now" else found.causes[0].text
            return JobAccepted(caller.seq, "", job.count, text, found.verdict != "never", found)
        self.queue.add(job)
        self.new_jobs.append(job.number)
        told = note if self.outlook.agents.seen else ""
        return JobAccepted(caller.seq, job.id, job.count, told, fits=not told)

    def drafted(self, caller: Caller, message: SubmitJob, now: Now) -> Job:
        """The job that a submission would become. Raises PeerError for what is refused."""
        spec = admitted(message.job, caller.principal, self.role)
        owner = caller.principal.name
        return new_job(self.queue.next_number, spec, owner, message.request_id, now.wall)

    # --- explanations -----------------------------------------------------------------------------
    def waiting_of(self, caller: Caller, message: ExplainTasks) -> list[Job]:
        """The jobs to be explained that wait, as far as they are told apart."""
        jobs = [job for job, _ in self._explained(caller, message) if job.pending()]
        return jobs[:EXPLAINED_MAX]

    def _explained(self, caller: Caller, message: ExplainTasks) -> list[tuple[Job, Positions]]:
        if not message.selectors:
            raise PeerError("invalid", "nothing is named to be explained")
        selection = select(self.queue, caller.principal, message.selectors, ended=False)
        found = [(self.queue.jobs[number], ranges) for number, ranges in selection.items()]
        if found and all(job.faded for job, _ in found):
            raise PeerError("not-found", f"job {found[0][0].id}: {self.queue.faded_text}")
        return [(job, ranges) for job, ranges in found if not job.faded]

    def _explain(self, caller: Caller, message: ExplainTasks) -> Explained:
        chosen = self._explained(caller, message)
        found: list[Explanation] = []
        for job, ranges in chosen[:EXPLAINED_MAX]:
            found += kinds(job, ranges, self.outlook)
        return Explained(caller.seq, tuple(found), max(0, len(chosen) - EXPLAINED_MAX))

    # --- listings ---------------------------------------------------------------------------------
    def _listed(
        self, caller: Caller, selectors: tuple[str, ...], everyone: bool, ended: bool
    ) -> Selection:
        if selectors:
            return select(self.queue, caller.principal, selectors, ended=ended)
        is_listed = may_see if everyone else is_own
        return {
            job.number: whole(job)
            for job in self.queue.jobs.values()
            if (ended or not job.has_ended()) and is_listed(job, caller.principal)
        }

    def _list_jobs(self, caller: Caller, message: ListJobs) -> Jobs:
        states = _states(message.states)
        ended = message.ended or bool(message.selectors) or any(s in ENDED for s in states)
        selection = self._listed(caller, message.selectors, message.everyone, ended)
        after = _after(message.after)[0] if message.after else 0
        page: list[JobView] = []
        size = 0
        for number in selection:
            job = self.queue.jobs[number]
            if number <= after or (states and job_state(job) not in states):
                continue
            if message.name and not fnmatchcase(job.spec.name, message.name[:REASON_CHARS_MAX]):
                continue
            if len(page) >= _limit(message.limit) or size > PAGE_BYTES_MAX:
                return Jobs(caller.seq, tuple(page), page[-1].id)
            page.append(job_view(job, self.outlook, self.queue.faded_text))
            size += 400 + 4 * len(page[-1].command)
        return Jobs(caller.seq, tuple(page))

    def _list_tasks(self, caller: Caller, message: ListTasks) -> Tasks:
        states = _states(message.states)
        ended = bool(message.selectors)
        selection = self._listed(caller, message.selectors, message.everyone, ended)
        faded = [number for number in selection if self.queue.jobs[number].faded]
        if faded and len(faded) == len(selection):
            raise PeerError("not-found", f"job {faded[0]}: {self.queue.faded_text}")
        page: list[TaskView] = []
        size = 0
        for job, position in self._from(selection, message.after):
            state = state_of(job, position)
            if (states and state not in states) or (not message.ended and state in ENDED):
                continue
            if len(page) >= _limit(message.limit) or size > PAGE_BYTES_MAX:
                return Tasks(caller.seq, tuple(page), page[-1].id)
            view = task_view(job, position, self.outlook)
            page.append(view)
            size += 400 + 4 * (len(view.entry or "") + len(view.message))
        return Tasks(caller.seq, tuple(page))

    def _from(self, selection: Selection, after: str) -> Iterator[tuple[Job, int]]:
        number_after, index_after = _after(after) if after else (0, -1)
        for number, ranges in selection.items():
            job = self.queue.jobs[number]
            if number < number_after or job.faded:
                continue
            start = job.spans.not_below(index_after + 1) if number == number_after else 0
            for first, last in ranges:
                for position in range(max(first, start), last + 1):
                    yield job, position

    # --- watching ---------------------------------------------------------------------------------
    def _watch(self, caller: Caller, message: Watch) -> None:
        if not message.selectors:
            raise PeerError("invalid", "a watch names nothing")
        if not self.watches.may_add(caller.peer):
            raise PeerError("unavailable", "too many watches in one session")
        selection = select(self.queue, caller.principal, message.selectors, ended=False)
        self.watches.add(caller.peer, caller.seq, selection, message.tasks)

    # --- ending -----------------------------------------------------------------------------------
    def _kill(self, caller: Caller, message: KillJobs, now: Now) -> KillsBegun:
        if not message.selectors:
            raise PeerError("invalid", "nothing is named to be ended")
        if message.signum is not None and not 1 <= message.signum <= 64:
            raise PeerError("invalid", f"there is no signal {message.signum}")
        if message.grace_s is not None and not 0 <= message.grace_s <= KILL_GRACE_MAX_S:
            raise PeerError("invalid", f"the grace is over {KILL_GRACE_MAX_S:.0f}s")
        states = _states(message.states)
        kill = Kill(message.grace_s, message.reason[:REASON_CHARS_MAX])
        selection = select(self.queue, caller.principal, message.selectors, ended=False)
        ending = cancelled = over = 0
        for number, ranges in selection.items():
            job = self.queue.jobs[number]
            over += _ended_before(job, ranges, states)
            if job.faded:
                continue
            if message.signum is None and (not states or BatchState.PENDING in states):
                for first, last in ranges:
                    cancelled += self.queue.cancel_fresh(job, first, last, kill.reason, now)
            for task in _records(job, ranges):
                if states and task.state not in states:
                    continue
                if task.state in ACTIVE:
                    self._end_live(job, task, kill, message.signum)
                    ending += 1
                elif task.state is BatchState.PENDING and message.signum is None:
                    task.reason, task.message = "KillRequested", kill.reason
                    self.queue.end(job, task, BatchState.CANCELLED, CANCELLED_CODE, now)
                    cancelled += 1
        return KillsBegun(caller.seq, ending, cancelled, over)

    def _end_live(self, job: Job, task: Task, kill: Kill, signum: int | None) -> None:
        if signum is None:
            self.queue.ask_kill(job, task, kill)
            self.outbox.kills.append(kill_of(job, task))
        else:
            wire_id = job.wire_id(task.position, task.attempt)
            self.outbox.kills.append(TaskKill(wire_id, task.agent_id, signum=signum))

    def refuse(self, peer: str, seq: int, error: PeerError) -> list[Effect]:
        """Say no to a request."""
        refusal = Refusal(seq, error.code, error.message[:500], HINTS.get(error.code, ""))
        return self.send(peer, refusal)


def _states(words: tuple[str, ...]) -> list[BatchState]:
    try:
        return [BatchState(word) for word in words]
    except ValueError:
        known = ", ".join(BatchState)
        raise PeerError("invalid", f"unknown state among {words!r:.80}: {known}") from None


def _limit(limit: int) -> int:
    return max(1, min(limit, PAGE_ITEMS_MAX))


def _after(text: str) -> tuple[int, int]:
    number, _, index = text.partition(".")
    if not (number.isascii() and number.isdigit() and len(number) < 16):
        raise PeerError("invalid", "the list cannot be continued there")
    if index and not (index.isascii() and index.isdigit() and len(index) < 16):
        raise PeerError("invalid", "the list cannot be continued there")
    return int(number), int(index or 0)


def _records(job: Job, ranges: Positions) -> list[Task]:
    """The tasks with records among these positions, ascending."""
    wanted = sum(last - first + 1 for first, last in ranges)
    if wanted <= len(job.tasks):
        return [job.tasks[position] for position in each(ranges) if position in job.tasks]
    return [
        job.tasks[position]
        for position in sorted(job.tasks)
        if any(first <= position <= last for first, last in ranges)
    ]


def _ended_before(job: Job, ranges: Positions, states: list[BatchState]) -> int:
    """How many of these positions had ended."""
    if job.faded:
        return sum(n for state, n in job.tallies().items() if not states or state in states)
    over = sum(
        task.state in ENDED and (not states or task.state in states)
        for task in _records(job, ranges)
    )
    if not states or BatchState.CANCELLED in states:
        for first, last in ranges:
            for cancel in job.cancels:
                over += max(0, min(last, cancel.last) - max(first, cancel.first) + 1)
    return over
