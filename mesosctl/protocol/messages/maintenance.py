"""An operator takes agents out of use, and brings them back; frameworks are told of it.

Rules: an agent is named by its id or by its name, and a name that stands for several is refused.
Many agents are one request, carried out for all of them or for none. A request with the id of one
that was carried out changes nothing more. The answer to all of them is `agents`, with these alone.
"""

from __future__ import annotations

from mesosctl.model.ids import AgentId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.base import Message, message


# --- operator -> master ---------------------------------------------------------------------------
@message("deactivate-agents")
@dataclass(frozen=True, slots=True)
class DeactivateAgents(Message):
    """Offer nothing of these agents; what runs there goes on."""

    request_id: str
    agents: tuple[str, ...]
    reason: str = ""


@message("drain-agents")
@dataclass(frozen=True, slots=True)
class DrainAgents(Message):
    """Offer nothing of these agents, and end what still runs there in `deadline_s` seconds.

    None: it may take as long as it takes.
    """

    request_id: str
    agents: tuple[str, ...]
    deadline_s: float | None = None
    reason: str = ""


@message("undrain-agents")
@dataclass(frozen=True, slots=True)
class UndrainAgents(Message):
    """Offer these agents again, whether they were drained or deactivated."""

    request_id: str
    agents: tuple[str, ...]


@message("declare-gone")
@dataclass(frozen=True, slots=True)
class DeclareGone(Message):
    """The sender vouches that these hosts are dead. Their ids are never admitted again."""

    request_id: str
    agents: tuple[str, ...]
    reason: str = ""


@message("reserve")
@dataclass(frozen=True, slots=True)
class Reserve(Message):
    """Keep resources of each of these agents for a role and those below it.

    They are named under the keys where they are: `cpus` of nobody, `cpus(eng)` for eng/backend.
    """

    request_id: str
    agents: tuple[str, ...]
    role: str
    resources: Resources


@message("unreserve")
@dataclass(frozen=True, slots=True)
class Unreserve(Message):
    """Give back what was reserved to this very role, by plain names: to where it was before."""

    request_id: str
    agents: tuple[str, ...]
    role: str
    resources: Resources


# --- framework -> master --------------------------------------------------------------------------
@message("answer-inverse-offers")
@dataclass(frozen=True, slots=True)
class AnswerInverseOffers(Message):
    """Whether the framework will leave these agents in time. It is shown, and no more."""

    accepted: tuple[OfferId, ...] = ()
    declined: tuple[OfferId, ...] = ()


# --- master -> framework --------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class WithheldAgent:
    """An agent of which nothing is offered. `mode`: deactivated, draining; empty: offered again."""

    agent_id: AgentId
    name: str
    mode: str
    reason: str = ""


@message("agents-withheld")
@dataclass(frozen=True, slots=True)
class AgentsWithheld(Message):
    """These agents are withheld, or no longer; all that are follow each subscription."""

    agents: tuple[WithheldAgent, ...]


@dataclass(frozen=True, slots=True)
class InverseOffer:
    """An agent that is wanted back: what the framework has there is ended after `deadline_s`.

    `deadline` is the same in wall time, for people. None: there is no deadline.
    """

    inverse_offer_id: OfferId
    agent_id: AgentId
    agent_name: str
    deadline_s: float | None = None
    deadline: float | None = None
    reason: str = ""


@message("inverse-offers")
@dataclass(frozen=True, slots=True)
class InverseOffers(Message):
    """Agents with tasks of this framework that it is asked to leave."""

    offers: tuple[InverseOffer, ...]


@message("rescind-inverse-offers")
@dataclass(frozen=True, slots=True)
class RescindInverseOffers(Message):
    """These agents are not wanted back any more, or on other terms, which follow."""

    inverse_offer_ids: tuple[OfferId, ...]
