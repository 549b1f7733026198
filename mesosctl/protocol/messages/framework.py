"""Between a framework's scheduler and the master."""

from __future__ import annotations

from mesosctl.model.cluster import Demand, FrameworkInfo, Offer, Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskInfo
from mesosctl.protocol.messages.base import Message, message


# --- framework -> master --------------------------------------------------------------------------
@message("subscribe")
@dataclass(frozen=True, slots=True)
class Subscribe(Message):
    """Opens a framework's session. An empty id in `framework` asks for a new one.

    `suppressed`: no offers before a Revive. `life` counts its starts, `opening` its sessions in
    this life: what is older than the latest is void. 0: it does not count. `where`: only agents
    that one of these accepts are offered; none: every agent is. `process` names a process of a
    framework that counts no lives: `opening` then counts its sessions.
    """

    framework: FrameworkInfo
    suppressed: bool = False
    demand: Demand | None = None
    life: int = 0
    opening: int = 0
    where: tuple[Where, ...] = ()
    process: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something to be done with offered resources. `kind`: reserve, unreserve, create or destroy.

    To reserve: `resources` under the keys where they are, for `role`. To unreserve: plain names, of
    what is reserved to `role`. To create the volume `volume_id`: `disk` alone, of what is reserved
    to `role`; it is offered when its agent has made it. To destroy that: no resources.
    """

    operation_id: str
    kind: str
    role: str
    resources: Resources
    volume_id: str = ""


@message("accept")
@dataclass(frozen=True, slots=True)
class Accept(Message):
    """Use offers of one agent for tasks; what is left over is declined for `refuse_s` seconds.

    `operations` are done first, in their order: tasks may use what they made.
    """

    offer_ids: tuple[OfferId, ...]
    tasks: tuple[TaskInfo, ...]
    refuse_s: float
    operations: tuple[Operation, ...] = ()


@message("decline")
@dataclass(frozen=True, slots=True)
class Decline(Message):
    """Give offers back; nothing contained in them is offered again for `refuse_s` seconds."""

    offer_ids: tuple[OfferId, ...]
    refuse_s: float


@message("revive")
@dataclass(frozen=True, slots=True)
class Revive(Message):
    """Want offers again: ends suppression and drops every filter. `demand` states the wish.

    `where` takes the place of what was stated before, as of Subscribe.
    """

    demand: Demand | None = None
    where: tuple[Where, ...] = ()


@message("suppress")
@dataclass(frozen=True, slots=True)
class Suppress(Message):
    """Want no offers until the next Revive."""


@message("state-waiting")
@dataclass(frozen=True, slots=True)
class StateWaiting(Message):
    """What waits to be started, the first one first: a master that preempts may make room for it.

    Takes the place of what was stated before, and is to be said again after every launch.
    """

    waiting: tuple[Waiting, ...]


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task whose state is asked for, and the agent it was meant for."""

    task_id: TaskId
    agent_id: AgentId


@message("reconcile")
@dataclass(frozen=True, slots=True)
class Reconcile(Message):
    """What is the state of these tasks? "Not known yet" is no answer at all, never "lost".

    None named: of all tasks of this framework that the master knows.
    """

    tasks: tuple[TaskRef, ...]


@message("teardown")
@dataclass(frozen=True, slots=True)
class Teardown(Message):
    """This framework ends: its tasks are killed and its id is never used again."""


@message("admit")
@dataclass(frozen=True, slots=True)
class Admit(Message):
    """Have the agent let `key` read (and, for its stdin, write) this task's streams."""

    request: str
    task_id: TaskId
    agent_id: AgentId
    key: str


# --- master -> framework --------------------------------------------------------------------------
@message("subscribed")
@dataclass(frozen=True, slots=True)
class Subscribed(Message):
    """The framework is known under `framework_id`. `preempts`: StateWaiting is of use."""

    framework_id: FrameworkId
    heartbeat_s: float
    cluster_name: str = ""
    preempts: bool = False


@message("offers")
@dataclass(frozen=True, slots=True)
class Offers(Message):
    """Resources to accept or decline."""

    offers: tuple[Offer, ...]


@message("rescind")
@dataclass(frozen=True, slots=True)
class Rescind(Message):
    """These offers are void."""

    offer_ids: tuple[OfferId, ...]


@dataclass(frozen=True, slots=True)
class OperationResult:
    """What became of an operation. `problem`: empty when it was done, and is kept by the master."""

    operation_id: str
    problem: str = ""


@message("operations-answered")
@dataclass(frozen=True, slots=True)
class OperationsAnswered(Message):
    """Answer to the operations of an Accept, each of them once.

    Those with volumes are answered when the agent has done them, and not in the order of others. A
    framework that was away meanwhile is not told: it is offered the volume, or is not.
    """

    results: tuple[OperationResult, ...]


@message("agent-changed")
@dataclass(frozen=True, slots=True)
class AgentChanged(Message):
    """An agent with tasks of this framework became `unreachable`, `registered` or `gone`."""

    agent_id: AgentId
    name: str
    state: str


@message("admitted")
@dataclass(frozen=True, slots=True)
class Admitted(Message):
    """Answer to Admit: where the streams are read, or the `problem`."""

    request: str
    address: str = ""
    public_key: str = ""
    problem: str = ""


@message("framework-error")
@dataclass(frozen=True, slots=True)
class FrameworkError(Message):
    """The subscription is refused or over. `code`: removed, failed-over, not-permitted, invalid."""

    code: str
    message: str


@message("stop-framework")
@dataclass(frozen=True, slots=True)
class StopFramework(Message):
    """A master that stops asks the batch framework it started to stop, too. Jobs stay queued."""
