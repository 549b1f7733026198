"""`mesosctl run`: a framework of one task, its streams passed through, its end passed on.

Rules:
- The framework has a failover timeout of 0: when this process dies, its task is ended.
- Output is asked for with credit and credit is given back only for what was really written, so a
  slow reader holds the agent back and nothing piles up here. Input is sent in the same way.
- The end is told only after both outputs are complete, or are known to be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mesosctl.core.batch.fitwords import advice_of, causes_of
from mesosctl.core.driver import (
    AdmissionAnswered,
    AgentMoved,
    Answered,
    DriverEvent,
    FrameworkDriver,
    InverseOffersArrived,
    OffersArrived,
    Registered,
    StatusArrived,
    SubscriptionFailed,
)
from mesosctl.core.machine import (
    Effect,
    Event,
    NewId,
    Now,
    PeerLost,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.oneshot.events import Connect, Note, StdinRead, Written
from mesosctl.core.oneshot.streams import AGENT_LINK, Streams
from mesosctl.limits import LEASE_SLACK_S, LEASE_SLACK_SHARE, REQUEST_TIMEOUT_S
from mesosctl.model.cluster import Demand, FrameworkInfo, Offer, Waiting
from mesosctl.model.constraints import ANYWHERE, Where, place_of
from mesosctl.model.fit import Fit, Need
from mesosctl.model.ids import AgentId, TaskId
from mesosctl.model.jobs import exit_code
from mesosctl.model.tasks import Reason, StatusUpdate, TaskInfo, TaskState
from mesosctl.protocol.messages.agent import TaskKill
from mesosctl.protocol.messages.explain import Fits, HowFits
from mesosctl.protocol.messages.maintenance import InverseOffer

# Nobody wants the rest of what is offered to a framework that only ever runs one task.
REFUSE_REST_S = 3600.0
# How long the streams of an ended task may take before they count as lost.
STREAMS_WAIT_S = 30.0
# An agent that does not answer may have come back at another address: ask where, this often.
ADMIT_AGAIN_S = 2.0
# A task that waits longer than this for its place is explained on stderr.
EXPLAIN_AFTER_S = 2.0
SECOND_INTERRUPT_S = 2.0
_SIGINT = 2
_SIGPIPE = 13


class OneShot:
    """The machine of `mesosctl run`. `task` has no agent yet; its id is made anew per attempt."""

    def __init__(
        self,
        info: FrameworkInfo,
        task: TaskInfo,
        own_key: str,
        new_id: NewId,
        fill: Callable[[TaskInfo, Offer, str], TaskInfo] | None = None,
        answer_timeout_s: float = REQUEST_TIMEOUT_S,
        where: Where = ANYWHERE,
    ) -> None:
        self._answer_timeout_s = answer_timeout_s
        # Until the master answered for the first time; afterwards its absence is only waited out.
        self._answer_by: float | None = None
        self._where = () if where == ANYWHERE else (where,)
        self._driver = FrameworkDriver(
            replace(info, failover_timeout_s=0.0),
            new_id,
            demand=Demand(task.resources, 1),
            where=self._where,
        )
        self._task = task
        self._own_key = own_key
        self._new_id = new_id
        self._fill = fill
        self._streams = Streams(task.command, new_id, self._ask_admission)
        self._attempt = 0
        self._launched: TaskInfo | None = None
        self._admission = ""
        self._admit_at: float | None = None
        self._end: StatusUpdate | None = None
        self._give_up_at: float | None = None
        self._explain_at: float | None = None
        self._interrupted_at: float | None = None
        self._kill: TaskKill | None = None
        self._lease_due: float | None = None
        self._over = False
        # Nobody reads our stdout any more; the shell expects us to end as SIGPIPE would have it.
        self._reader_left = False

    # --- the machine ------------------------------------------------------------------------------
    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        if self._over:
            return []
        effects = self._handle(event, now)
        self._end_lease(now)
        return effects + self._finish_if_done(now)

    def _handle(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case Started():
                self._explain_at = now.mono + EXPLAIN_AFTER_S
                self._answer_by = now.mono + self._answer_timeout_s
                return self._driver.start(now)
            case Received(peer=peer) if peer == AGENT_LINK:
                return self._streams.receive(event, now)
            case Received():
                events, effects = self._driver.receive(event, now)
                return effects + self._told(events, now)
            case PeerLost(peer=peer) if peer == AGENT_LINK:
                return [*self._streams.lose(now), *self._ask_admission(now)]
            case PeerLost(moved=moved):
                events, effects = self._driver.lost(now, moved)
                return effects + self._told(events, now)
            case Tick():
                return self._tick(now)
            case StdinRead(data=data):
                return self._streams.stdin_read(data)
            case Written():
                return self._written(event)
            case Signalled(signum=signum):
                return self._signalled(signum, now)
            case _:
                return []

    def settle(self, now: Now) -> list[Effect]:
        """Nothing is put off to the end of a pass."""
        return []

    def check(self) -> None:
        """Nothing here is kept twice."""

    def deadline(self) -> float | None:
        """The earliest timer."""
        if self._over:
            return None
        candidates = [
            self._driver.deadline(),
            self._streams.deadline(),
            self._give_up_at,
            self._explain_at,
            self._answer_by,
            self._admit_at,
        ]
        return min((at for at in candidates if at is not None), default=None)

    def _tick(self, now: Now) -> list[Effect]:
        events, effects = self._driver.tick(now)
        effects += self._told(events, now)
        effects += self._streams.tick(now)
        if self._admit_at is not None and now.mono >= self._admit_at:
            self._admit_at = None
            if not self._streams.is_live and not self._streams.all_read:
                effects += self._ask_admission(now)
        if self._answer_by is not None and now.mono >= self._answer_by:
            note = Note(f"the master does not answer within {self._answer_timeout_s:g} s")
            return [*effects, note, *self._stop(125)]
        if self._explain_at is not None and now.mono >= self._explain_at:
            self._explain_at = None
            if self._launched is None:
                effects += self._ask_why_it_waits()
        return effects

    def _ask_why_it_waits(self) -> list[Effect]:
        if not self._driver.is_registered:
            return [Note("waiting for the master to answer")]
        where = self._where[0] if self._where else ANYWHERE
        return self._driver.ask(HowFits("run", (Need(self._task.resources, where),)))

    def _told_why(self, fit: Fit) -> list[Effect]:
        if self._launched is not None:
            return []
        cause = causes_of(fit)[0]
        advice = advice_of(fit, cause)
        return [Note(f"waiting for {self._task.resources}: {cause.text}; {advice}")]

    # --- the master's side ------------------------------------------------------------------------
    def _told(self, events: list[DriverEvent], now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            match event:
                case Registered():
                    self._answer_by = None
                    effects += self._registered()
                case OffersArrived(offers=offers):
                    effects += self._offered(offers, now)
                case StatusArrived(updates=updates):
                    for update in updates:
                        effects += self._status(update, now)
                    effects += self._driver.acknowledge(updates)
                case AdmissionAnswered():
                    effects += self._admitted(event, now)
                case AgentMoved():
                    effects += self._agent_moved(event, now)
                case InverseOffersArrived(offers=offers):
                    effects += [Note(_drain_note(offer)) for offer in offers]
                case Answered(message=Fits(fits=(fit, *_))):
                    effects += self._told_why(fit)
                case SubscriptionFailed(message=message):
                    effects += [Note(message), *self._stop(125)]
                case _:
                    pass
        return effects

    def _agent_moved(self, event: AgentMoved, now: Now) -> list[Effect]:
        if event.state != "unreachable":
            self._lease_due = None
            return []
        lease_s = self._task.lease_s
        if lease_s is None:
            return [Note(f"agent {event.name} does not answer; the task may still run")]
        self._begin_lease(lease_s, now)
        text = f"agent {event.name} does not answer; without it the task is lost in"
        return [Note(f"{text} {lease_s + LEASE_SLACK_S:.0f} s")]

    def _begin_lease(self, lease_s: float, now: Now) -> None:
        if self._lease_due is None:
            self._lease_due = now.mono + lease_s * (1 + LEASE_SLACK_SHARE) + LEASE_SLACK_S

    def _end_lease(self, now: Now) -> None:
        """The task is certainly ended: nothing of it may be started anew, for it was told here."""
        vouched, launched = self._driver.vouched, self._launched
        waits = self._lease_due is None or vouched is None or vouched.mono < self._lease_due
        if waits or launched is None or self._end is not None:
            return
        self._end = StatusUpdate(
            self._driver.framework_id,
            launched.task_id,
            launched.agent_id,
            TaskState.GONE,
            reason=Reason.LEASE_EXPIRED,
            message="lost: its agent did not return in time (--lost-after)",
        )

    def _registered(self) -> list[Effect]:
        # What happened since the last session nobody has told us: a countdown begins anew.
        self._lease_due = None
        if self._launched is None or self._end is not None:
            return self._waits() if self._launched is None else []
        effects = self._driver.reconcile([(self._launched.task_id, self._launched.agent_id)])
        if self._kill is not None:
            effects += self._driver.kill((self._kill,))
        return effects

    def _waits(self) -> list[Effect]:
        where = next(iter(self._where), None)
        return self._driver.state_waiting([Waiting(self._task.resources, where=where)])

    def _offered(self, offers: tuple[Offer, ...], now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for offer in offers:
            held = offer.resources.take(self._task.resources) if self._launched is None else None
            if held is None or not self._accepts(offer):
                effects += self._driver.decline([offer.offer_id], REFUSE_REST_S)
                continue
            self._attempt += 1
            task = replace(
                self._task,
                task_id=TaskId(f"{self._task.task_id}.{self._attempt}"),
                agent_id=offer.agent_id,
                resources=held,
            )
            if self._fill is not None:
                task = self._fill(task, offer, self._driver.framework_id)
            self._launched = task
            effects += self._driver.accept([offer.offer_id], [task], REFUSE_REST_S)
            effects += self._driver.suppress()
            effects += self._ask_admission(now)
        return effects

    def _accepts(self, offer: Offer) -> bool:
        place = place_of(offer.agent_id, offer.agent_name, offer.attributes)
        return all(where.accepts(place) for where in self._where)

    def _ask_admission(self, now: Now) -> list[Effect]:
        if self._launched is None:
            return []
        self._admit_at = now.mono + ADMIT_AGAIN_S
        self._admission = self._new_id()
        return self._driver.admit(
            self._admission, self._launched.task_id, self._launched.agent_id, self._own_key
        )

    def _admitted(self, event: AdmissionAnswered, now: Now) -> list[Effect]:
        if event.request != self._admission:
            return []
        if event.problem:
            return [Note(f"no output yet: {event.problem}")]
        if self._launched is None or self._streams.is_live:
            return []
        connect = Connect(event.address, event.public_key)
        task_id = self._launched.task_id
        return [connect, *self._streams.start(self._driver.framework_id, task_id, now)]

    def _status(self, update: StatusUpdate, now: Now) -> list[Effect]:
        launched = self._launched
        if launched is None or update.task_id != launched.task_id or self._end is not None:
            return []
        self._lease_due = None if update.state is not TaskState.UNREACHABLE else self._lease_due
        if update.state is TaskState.UNREACHABLE and launched.lease_s is not None:
            self._begin_lease(launched.lease_s, now)
        if update.state is TaskState.DROPPED and self._kill is None:
            # It certainly never ran: look for another place.
            self._launched = None
            revived = self._driver.revive(Demand(self._task.resources, 1), self._where)
            return [*revived, *self._waits()]
        if update.is_terminal or update.state is TaskState.UNKNOWN:
            self._end = update
            self._give_up_at = now.mono + STREAMS_WAIT_S
        return []

    # --- our own streams, signals and the end ---------------------------------------------------
    def _written(self, event: Written) -> list[Effect]:
        effects = self._streams.written(event)
        if event.closed and event.name == "stdout" and self._end is None:
            # As in any pipe: who writes to a reader that left is ended by it, without a word.
            self._reader_left = True
            effects += self._end_task(TaskKill(TaskId("")))
        return effects

    def _signalled(self, signum: int, now: Now) -> list[Effect]:
        if self._launched is None:
            return self._stop(128 + signum)
        again = self._interrupted_at is not None and (
            now.mono - self._interrupted_at <= SECOND_INTERRUPT_S
        )
        if signum == _SIGINT and not again:
            self._interrupted_at = now.mono
            note = Note("interrupted: passed on to the task; once more within 2 s ends it")
            kill = TaskKill(self._launched.task_id, self._launched.agent_id, signum=_SIGINT)
            return [note, *self._driver.kill((kill,))]
        if signum == _SIGINT:
            return self._end_task(TaskKill(TaskId(""), grace_s=0.0))
        return self._end_task(TaskKill(TaskId("")))

    def _end_task(self, kill: TaskKill) -> list[Effect]:
        if self._launched is None:
            return self._stop(125)
        self._kill = replace(
            kill, task_id=self._launched.task_id, agent_id=AgentId(self._launched.agent_id)
        )
        return self._driver.kill((self._kill,))

    def _finish_if_done(self, now: Now) -> list[Effect]:
        end = self._end
        if end is None or self._over:
            return []
        if self._reader_left:
            return self._stop(128 + _SIGPIPE)
        # A task that never started has no streams to wait for.
        if end.started_at is None:
            return [*self._tell(end), *self._stop(exit_code(end))]
        written = self._streams.all_written
        if self._streams.all_read and written:
            return [*self._tell(end), *self._stop(exit_code(end))]
        if self._give_up_at is not None and now.mono >= self._give_up_at and written:
            note = Note("the agent does not give the rest of the output")
            return [note, *self._tell(end), *self._stop(exit_code(end))]
        if self._give_up_at is not None and now.mono >= self._give_up_at:
            self._give_up_at = now.mono + STREAMS_WAIT_S
        return []

    def _tell(self, end: StatusUpdate) -> list[Effect]:
        """Say what an exit code alone does not: limits, signals, launches that went wrong."""
        plain = end.state is TaskState.FINISHED or (
            end.exit_code is not None and end.reason == "Exited"
        )
        return [] if plain or not end.message else [Note(end.message)]

    def _stop(self, code: int) -> list[Effect]:
        self._over = True
        return [*self._streams.end(), *self._driver.teardown(), Stop(code)]


def _drain_note(offer: InverseOffer) -> str:
    """What the user of a task is told whose agent is emptied."""
    why = f" ({offer.reason})" if offer.reason else ""
    if offer.deadline_s is None:
        return f"agent {offer.agent_name} is drained{why}; the task may finish"
    return (
        f"agent {offer.agent_name} is drained{why}: the task is ended in {offer.deadline_s:.0f} s"
    )
