"""The scheduler's side of the protocol: subscribe, take offers, launch, hear what became of it.

The batch framework, `mesosctl run` and every scheduler of other people stand on this one machine.

Rules:
- It subscribes under the id it was given once, again and again, until it is told that it is over.
- Offers do not outlive a session: after Disconnected none is outstanding.
- It keeps nothing durable. Its owner writes its intent down before `accept`, acknowledges an update
  after it is durable, and after every Registered asks with `reconcile` for what it believes to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mesosctl.core.driver_events import (
    AdmissionAnswered,
    AgentMoved,
    AgentsHeldBack,
    Answered,
    Disconnected,
    DriverEvent,
    InverseOffersArrived,
    InverseOffersRescinded,
    OffersArrived,
    OffersRescinded,
    OperationsDone,
    Registered,
    StatusArrived,
    StopAsked,
    SubscriptionFailed,
)
from mesosctl.core.machine import Effect, NewId, Now, Received
from mesosctl.core.session import ClientSession
from mesosctl.limits import REFUSE_S
from mesosctl.model.cluster import Demand, FrameworkInfo, Offer, Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import StatusUpdate, TaskInfo
from mesosctl.protocol.messages.agent import Ack, Acknowledge, KillTasks, StatusUpdates, TaskKill
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import (
    Accept,
    Admit,
    Admitted,
    AgentChanged,
    Decline,
    FrameworkError,
    Offers,
    Operation,
    OperationsAnswered,
    Reconcile,
    Rescind,
    Revive,
    StateWaiting,
    StopFramework,
    Subscribe,
    Subscribed,
    Suppress,
    TaskRef,
    Teardown,
)
from mesosctl.protocol.messages.maintenance import (
    AgentsWithheld,
    AnswerInverseOffers,
    InverseOffer,
    InverseOffers,
    RescindInverseOffers,
)


@dataclass(slots=True)
class Incarnation:
    """Which life of a framework this is, counted durably, and how many sessions it has opened.

    Life 0: nobody counts, and whoever subscribes last is taken for the newest.
    """

    life: int = 0
    openings: int = 0


class FrameworkDriver:
    """The framework's end of the conversation with the master, on the link `link`."""

    def __init__(
        self,
        info: FrameworkInfo,
        new_id: NewId,
        *,
        link: str = "master",
        suppressed: bool = False,
        demand: Demand | None = None,
        epoch: int = 0,
        incarnation: Incarnation | None = None,
        where: tuple[Where, ...] = (),
    ) -> None:
        self.info = info
        self.link = link
        self.offers: dict[OfferId, Offer] = {}
        self.inverse_offers: dict[OfferId, InverseOffer] = {}
        self._suppressed, self._demand, self._where = suppressed, demand, where
        self._incarnation = incarnation or Incarnation()
        self._process = "" if self._incarnation.life else new_id()
        self._session = ClientSession(link, self._hello, self._session_lost, new_id)
        # The highest that its owner has heard of, in this process or an earlier one.
        self._session.epoch = epoch
        self._lost = False
        self._known = False
        # Whether the master ends tasks for others; see state_waiting().
        self.preempts = False

    @property
    def framework_id(self) -> FrameworkId:
        """The id the master gave, empty before the first subscription."""
        return self.info.framework_id

    @property
    def epoch(self) -> int:
        """The epoch of the master that spoke last; what has a lower one is ignored."""
        return self._session.epoch

    @property
    def is_registered(self) -> bool:
        """Whether the master knows us in the present session."""
        return self._session.confirmed

    @property
    def vouched(self) -> Now | None:
        """In the present session, when we sent the last message that the master has answered."""
        return self._session.vouched if self._session.confirmed else None

    def _hello(self) -> Message:
        self._incarnation.openings += 1
        life, opening = self._incarnation.life, self._incarnation.openings
        told = (self._suppressed, self._demand, life, opening, self._where, self._process)
        return Subscribe(self.info, *told)

    def _session_lost(self, now: Now) -> list[Effect]:
        self.offers.clear()
        self.inverse_offers.clear()
        self._lost = True
        return []

    def _losses(self) -> list[DriverEvent]:
        lost, self._lost = self._lost, False
        return [Disconnected()] if lost else []

    # --- what the shell feeds in ------------------------------------------------------------------
    def start(self, now: Now) -> list[Effect]:
        """Open the first session."""
        return self._session.start(now)

    def receive(self, event: Received, now: Now) -> tuple[list[DriverEvent], list[Effect]]:
        """Take an envelope from the master."""
        message, effects = self._session.receive(event.envelope, now)
        events = self._losses()
        if message is not None:
            events.extend(self._told(message, now, effects))
        return events, effects

    def _told(self, message: Message, now: Now, effects: list[Effect]) -> list[DriverEvent]:
        match message:
            case Subscribed(framework_id=framework_id, preempts=preempts):
                first = not self._known
                self._known, self.preempts = True, preempts
                self.info = replace(self.info, framework_id=framework_id)
                self._session.confirm(now)
                return [Registered(framework_id, first)]
            case Offers(offers=offers):
                for offer in offers:
                    self.offers[offer.offer_id] = offer
                return [OffersArrived(offers)]
            case Rescind(offer_ids=offer_ids):
                for offer_id in offer_ids:
                    self.offers.pop(offer_id, None)
                return [OffersRescinded(offer_ids)]
            case StatusUpdates(updates=updates):
                return [StatusArrived(updates)]
            case OperationsAnswered(results=results):
                return [OperationsDone(results)]
            case AgentChanged(agent_id=agent_id, name=name, state=state):
                return [AgentMoved(agent_id, name, state)]
            case AgentsWithheld(agents=agents):
                return [AgentsHeldBack(agents)]
            case InverseOffers(offers=asked):
                self.inverse_offers.update({one.inverse_offer_id: one for one in asked})
                return [InverseOffersArrived(asked)]
            case RescindInverseOffers(inverse_offer_ids=void):
                for offer_id in void:
                    self.inverse_offers.pop(offer_id, None)
                return [InverseOffersRescinded(void)]
            case Admitted(request=request, address=address, public_key=key, problem=problem):
                return [AdmissionAnswered(request, address, key, problem)]
            case FrameworkError(code=code, message=text):
                self.offers.clear()
                effects.extend(self._session.end())
                return [SubscriptionFailed(code, text)]
            case StopFramework():
                return [StopAsked()]
            case _:
                return [Answered(message)]

    def lost(self, now: Now, moved: bool = False) -> tuple[list[DriverEvent], list[Effect]]:
        """The connection to the master is gone, or leads elsewhere."""
        effects = self._session.lose(now, moved)
        return self._losses(), effects

    def tick(self, now: Now) -> tuple[list[DriverEvent], list[Effect]]:
        """Reconnect, ping, or notice silence, whichever is due."""
        effects = self._session.tick(now)
        return self._losses(), effects

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        return self._session.deadline()

    # --- what a scheduler asks for ----------------------------------------------------------------
    def accept(
        self,
        offer_ids: Sequence[OfferId],
        tasks: Sequence[TaskInfo],
        refuse_s: float = REFUSE_S,
        operations: Sequence[Operation] = (),
    ) -> list[Effect]:
        """Do operations, launch tasks on offers of one agent; refuse the rest for `refuse_s`."""
        # Offers that became void meanwhile are named all the same: the master answers every task of
        # such an acceptance with DROPPED, which is the one way in which a launch is taken back.
        self._take(offer_ids)
        message = Accept(tuple(offer_ids), tuple(tasks), refuse_s, tuple(operations))
        return self._session.send(message)

    def decline(self, offer_ids: Sequence[OfferId], refuse_s: float = REFUSE_S) -> list[Effect]:
        """Give offers back; nothing contained in them is offered again for `refuse_s` seconds."""
        known = self._take(offer_ids)
        return self._session.send(Decline(known, refuse_s)) if known else []

    def answer_inverse(
        self, accepted: Sequence[OfferId] = (), declined: Sequence[OfferId] = ()
    ) -> list[Effect]:
        """Say whether we will have left agents in time; operators are shown it, and no more."""
        if not self.is_registered or not (accepted or declined):
            return []
        return self._session.send(AnswerInverseOffers(tuple(accepted), tuple(declined)))

    def _take(self, offer_ids: Sequence[OfferId]) -> tuple[OfferId, ...]:
        return tuple(
            offer_id for offer_id in offer_ids if self.offers.pop(offer_id, None) is not None
        )

    def revive(self, demand: Demand | None = None, where: tuple[Where, ...] = ()) -> list[Effect]:
        """Ask for offers again and drop every filter; `demand` says what would be used.

        `where`: only agents that one of these accepts are offered; none: every agent is.
        """
        self._suppressed = False
        self._demand, self._where = demand, where
        return self._session.send(Revive(demand, where)) if self.is_registered else []

    def state_waiting(self, waiting: Sequence[Waiting]) -> list[Effect]:
        """Say what waits, the first one first, to a master that may preempt others for it.

        It is void after every launch and every Registered, until it is said again.
        """
        if not self.is_registered or not self.preempts:
            return []
        return self._session.send(StateWaiting(tuple(waiting)))

    def suppress(self) -> list[Effect]:
        """Ask for no more offers."""
        self._suppressed = True
        self._demand, self._where = None, ()
        return self._session.send(Suppress()) if self.is_registered else []

    def kill(self, kills: Sequence[TaskKill]) -> list[Effect]:
        """End tasks. Not remembered: repeat it until a terminal update came."""
        if not kills or not self.is_registered:
            return []
        return self._session.send(KillTasks(self.framework_id, tuple(kills)))

    def acknowledge(self, updates: Sequence[StatusUpdate]) -> list[Effect]:
        """Tell the agents that these updates are durable; those without a uuid are skipped."""
        acks = tuple(
            Ack(update.framework_id, update.task_id, update.agent_id, update.uuid)
            for update in updates
            if update.uuid
        )
        return self._session.send(Acknowledge(acks)) if acks and self.is_registered else []

    def reconcile(self, refs: Sequence[tuple[TaskId, AgentId]]) -> list[Effect]:
        """Ask for the state of tasks; what the master cannot know yet it does not answer."""
        if not refs or not self.is_registered:
            return []
        tasks = tuple(TaskRef(task_id, agent_id) for task_id, agent_id in refs)
        return self._session.send(Reconcile(tasks))

    def reconcile_all(self) -> list[Effect]:
        """Ask for every task of this framework that the master knows, also unexpected ones."""
        return self._session.send(Reconcile(())) if self.is_registered else []

    def admit(self, request: str, task_id: TaskId, agent_id: AgentId, key: str) -> list[Effect]:
        """Have an agent let `key` at the streams of a task; answered by AdmissionAnswered."""
        if not self.is_registered:
            return []
        return self._session.send(Admit(request, task_id, agent_id, key))

    def ask(self, message: Message) -> list[Effect]:
        """Put a question to the master; answered by Answered."""
        return self._session.send(message) if self.is_registered else []

    def teardown(self) -> list[Effect]:
        """End the framework and all its tasks, for good."""
        effects = self._session.send(Teardown())
        return [*effects, *self._session.end()]

    def end(self) -> list[Effect]:
        """Leave; tasks go on until the failover timeout."""
        return self._session.end()


__all__ = [
    "AdmissionAnswered",
    "AgentMoved",
    "AgentsHeldBack",
    "Answered",
    "Disconnected",
    "DriverEvent",
    "FrameworkDriver",
    "Incarnation",
    "InverseOffersArrived",
    "InverseOffersRescinded",
    "OffersArrived",
    "OffersRescinded",
    "OperationsDone",
    "Registered",
    "StatusArrived",
    "StopAsked",
    "SubscriptionFailed",
]
