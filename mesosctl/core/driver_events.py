"""What a framework's driver (core/driver.py) tells its scheduler."""

from __future__ import annotations

from mesosctl.model.cluster import Offer
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import StatusUpdate
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import OperationResult
from mesosctl.protocol.messages.maintenance import InverseOffer, WithheldAgent


class DriverEvent:
    """Something a scheduler is told."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Registered(DriverEvent):
    """The master knows the framework. `first`: for the first time under this id in this process."""

    framework_id: FrameworkId
    first: bool


@dataclass(frozen=True, slots=True)
class Disconnected(DriverEvent):
    """The master does not answer; every offer is void. Tasks go on."""


@dataclass(frozen=True, slots=True)
class OffersArrived(DriverEvent):
    """New offers; each wants an answer."""

    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class OffersRescinded(DriverEvent):
    """These offers are void."""

    offer_ids: tuple[OfferId, ...]


@dataclass(frozen=True, slots=True)
class StatusArrived(DriverEvent):
    """Steps in the lives of tasks. Those with a uuid want to be acknowledged once durable."""

    updates: tuple[StatusUpdate, ...]


@dataclass(frozen=True, slots=True)
class OperationsDone(DriverEvent):
    """What became of the operations of an acceptance, each told once and not again."""

    results: tuple[OperationResult, ...]


@dataclass(frozen=True, slots=True)
class AgentMoved(DriverEvent):
    """An agent became `unreachable`, `registered` again, or was declared `gone`."""

    agent_id: AgentId
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class AgentsHeldBack(DriverEvent):
    """What operators decided of these agents: nothing is offered of them, or they are again."""

    agents: tuple[WithheldAgent, ...]


@dataclass(frozen=True, slots=True)
class InverseOffersArrived(DriverEvent):
    """Agents that run our tasks are wanted back; see `answer_inverse`."""

    offers: tuple[InverseOffer, ...]


@dataclass(frozen=True, slots=True)
class InverseOffersRescinded(DriverEvent):
    """These are void: the agents stay, or are asked back on other terms."""

    inverse_offer_ids: tuple[OfferId, ...]


@dataclass(frozen=True, slots=True)
class AdmissionAnswered(DriverEvent):
    """Where the streams asked for with `admit` are read, or the problem."""

    request: str
    address: str
    public_key: str
    problem: str


@dataclass(frozen=True, slots=True)
class SubscriptionFailed(DriverEvent):
    """The master refuses this framework. The driver does not try again by itself."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class StopAsked(DriverEvent):
    """The master that started this framework stops and asks it to stop, too."""


@dataclass(frozen=True, slots=True)
class Answered(DriverEvent):
    """The answer to something sent with `ask`."""

    message: Message
