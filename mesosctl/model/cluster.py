"""Who takes part: agents, frameworks, offers, and the people and programs behind the keys."""

from __future__ import annotations

from dataclasses import field

from mesosctl.limits import FAILOVER_TIMEOUT_S
from mesosctl.model.constraints import Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.volumes import Volume

KINDS = ("agent", "framework", "client", "operator")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key is: its name, what it may be, as which users it may run, in which roles.

    `users` and `roles` list what is allowed; "*" stands for every one but root (for users). An
    empty list means nobody, never everybody.
    """

    name: str
    key: str
    kinds: tuple[str, ...]
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("*",)

    def may_be(self, kind: str) -> bool:
        """Whether this key may act as `kind`; an operator may act as everyone."""
        return kind in self.kinds or "operator" in self.kinds

    def may_run_as(self, user: str) -> bool:
        """Whether tasks may run as `user`. Root must be named in so many letters."""
        return user in self.users or ("*" in self.users and user != "root")

    def may_use_role(self, role: str) -> bool:
        """Whether this key may take resources as `role`."""
        return "*" in self.roles or role in self.roles


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """One agent as it presents itself. `address` and `public_key` are where its data is read."""

    agent_id: AgentId
    name: str
    total: Resources
    attributes: dict[str, str] = field(default_factory=dict)
    isolation: tuple[str, ...] = ()
    not_enforced: tuple[str, ...] = ()
    address: str = ""
    public_key: str = ""
    boot_id: str = ""
    user: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class FrameworkInfo:
    """One framework. `framework_id` is empty until the master gave one.

    `address` and `public_key` say where its clients reach it (empty: it has none).
    `failover_timeout_s`: so long after its disconnection its tasks are kept.
    """

    framework_id: FrameworkId
    name: str
    user: str
    role: str = "*"
    failover_timeout_s: float = FAILOVER_TIMEOUT_S
    address: str = ""
    public_key: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """Resources of one agent, put before one framework for one role until it answers.

    `volumes` tells more of those that are among the resources.
    """

    offer_id: OfferId
    framework_id: FrameworkId
    agent_id: AgentId
    agent_name: str
    role: str
    resources: Resources
    attributes: dict[str, str] = field(default_factory=dict)
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks that a framework would start before all that it runs of a lower `priority`.

    `count` of the size `task`, each on an agent that `where` accepts; None: on any.
    """

    task: Resources
    count: int = 1
    priority: int = 0
    where: Where | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a framework could use: the task at the head of its queue, and how many like it."""

    task: Resources
    count: int
