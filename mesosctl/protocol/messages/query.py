"""Questions that commands and frameworks put to the master, and its answers."""

from __future__ import annotations

from dataclasses import field

from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Principal
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.protocol.messages.base import Message, message


@message("list-agents")
@dataclass(frozen=True, slots=True)
class ListAgents(Message):
    """Which agents are there? `agents` are names and ids; none asks for all."""

    agents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent with what it holds. Times are wall seconds.

    `state`: registered, unreachable, or what an operator decided, which is `mode` by itself.
    `deadline` and `deadline_s` (from now) are a drain's; `answers` are those to inverse offers.
    """

    agent: AgentInfo
    state: str
    used: Resources
    offered: Resources
    tasks: int
    registered: float = 0.0
    mode: str = ""
    reason: str = ""
    deadline: float | None = None
    deadline_s: float | None = None
    answers: dict[str, str] = field(default_factory=dict)


@message("agents")
@dataclass(frozen=True, slots=True)
class Agents(Message):
    """Answer to ListAgents, and to what operators ask for: see maintenance.py."""

    re: int
    agents: tuple[AgentView, ...]


@message("list-frameworks")
@dataclass(frozen=True, slots=True)
class ListFrameworks(Message):
    """Which frameworks are there?"""


@dataclass(frozen=True, slots=True)
class FrameworkView:
    """A framework with what it holds. `state`: active, suppressed, disconnected or recovered.

    `share_milli` is its dominant share of the cluster in thousandths.
    """

    framework: FrameworkInfo
    state: str
    used: Resources
    offered: Resources
    tasks: int
    offers: int
    share_milli: int
    subscribed: float = 0.0


@message("frameworks")
@dataclass(frozen=True, slots=True)
class Frameworks(Message):
    """Answer to ListFrameworks."""

    re: int
    frameworks: tuple[FrameworkView, ...]


@message("list-offers")
@dataclass(frozen=True, slots=True)
class ListOffers(Message):
    """Which offers are outstanding?"""


@dataclass(frozen=True, slots=True)
class OfferView:
    """An outstanding offer and its age in seconds."""

    offer_id: OfferId
    framework_id: FrameworkId
    framework_name: str
    agent_id: AgentId
    agent_name: str
    role: str
    resources: Resources
    age_s: float


@message("outstanding-offers")
@dataclass(frozen=True, slots=True)
class OutstandingOffers(Message):
    """Answer to ListOffers."""

    re: int
    offers: tuple[OfferView, ...]


@message("list-roles")
@dataclass(frozen=True, slots=True)
class ListRoles(Message):
    """Which roles have frameworks?"""


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role: its weight (thousandths) and priority, how many frameworks have it.

    `used` is what it and everything below it hold, `share_milli` their dominant share together.
    `limit` and `guarantee` are its quota, `consumed` what counts against that: by name, in
    thousandths; nothing where it has none.
    """

    role: str
    weight_milli: int
    priority: int
    frameworks: int
    used: Resources
    share_milli: int
    limit: dict[str, int] = field(default_factory=dict)
    guarantee: dict[str, int] = field(default_factory=dict)
    consumed: dict[str, int] = field(default_factory=dict)


@message("roles")
@dataclass(frozen=True, slots=True)
class Roles(Message):
    """Answer to ListRoles, and to what operators ask for: see roles.py."""

    re: int
    roles: tuple[RoleView, ...]


@message("find-framework")
@dataclass(frozen=True, slots=True)
class FindFramework(Message):
    """Where do clients reach the framework of this name?"""

    name: str


@message("framework-found")
@dataclass(frozen=True, slots=True)
class FrameworkFound(Message):
    """Answer to FindFramework."""

    re: int
    framework_id: FrameworkId
    name: str
    address: str
    public_key: str


@message("who-is")
@dataclass(frozen=True, slots=True)
class WhoIs(Message):
    """A framework asks who a key is that wants to talk to it."""

    key: str


@message("principal-is")
@dataclass(frozen=True, slots=True)
class PrincipalIs(Message):
    """Answer to WhoIs; None for a key that the list does not hold."""

    re: int
    key: str
    principal: Principal | None = None


@message("teardown-framework")
@dataclass(frozen=True, slots=True)
class TeardownFramework(Message):
    """An operator ends a framework and its tasks."""

    framework_id: FrameworkId


@message("describe-master")
@dataclass(frozen=True, slots=True)
class DescribeMaster(Message):
    """Who are you?"""


@message("master-is")
@dataclass(frozen=True, slots=True)
class MasterIs(Message):
    """Answer to DescribeMaster."""

    re: int
    cluster_name: str
    version: str
    allocator: str
    agents: int
    frameworks: int
    details: dict[str, str] = field(default_factory=dict)


@message("done")
@dataclass(frozen=True, slots=True)
class Done(Message):
    """The request with sequence number `re` was carried out."""

    re: int
    message: str = ""
