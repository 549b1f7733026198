"""What the commands of operators share: agents named by words, one request, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesosctl.cli.output import Column, Listing
from mesosctl.errors import UsageError
from mesosctl.limits import REASON_CHARS_MAX

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.options import Globals
    from mesosctl.protocol.messages.base import Message
    from mesosctl.protocol.messages.query import AgentView

AGENT_STATES = ("registered", "unreachable", "draining", "drained", "deactivated", "gone")

AGENT_COLUMNS = (
    Column("name", "agent"),
    Column("state", "state"),
    Column("tasks", "tasks", kind="number"),
    Column("cpus_used", "cpus used", kind="cpus"),
    Column("cpus", "cpus", kind="cpus"),
    Column("mem_used", "mem used", kind="size"),
    Column("mem", "mem", kind="size"),
    Column("isolation", "isolation", kind="words"),
    Column("not_enforced", "not enforced", kind="words", wide=True),
    Column("offered", "offered", wide=True),
    Column("total", "total", wide=True),
    Column("attributes", "attributes", wide=True),
    Column("registered", "registered", kind="time", wide=True),
    Column("user", "user", wide=True),
    Column("id", "id", wide=True),
    Column("address", "address", wide=True),
    Column("version", "version", hidden=True),
    Column("mode", "mode", hidden=True),
    Column("reason", "reason", wide=True),
    Column("deadline", "deadline", kind="time", wide=True),
    Column("deadline_s", "left", kind="duration", hidden=True),
    Column("answers", "answers", kind="words", wide=True),
)


def agent_row(view: AgentView) -> dict[str, Any]:
    """An agent as a row of AGENT_COLUMNS."""
    agent = view.agent
    return {
        "name": agent.name,
        "state": view.state,
        "tasks": view.tasks,
        "cpus_used": view.used.cpus_milli,
        "cpus": agent.total.cpus_milli,
        "mem_used": view.used.mem_bytes,
        "mem": agent.total.mem_bytes,
        "isolation": agent.isolation,
        "not_enforced": agent.not_enforced,
        "offered": str(view.offered),
        "total": str(agent.total),
        "attributes": ";".join(f"{k}:{v}" for k, v in agent.attributes.items()),
        "registered": view.registered or None,
        "user": agent.user,
        "id": agent.agent_id,
        "address": agent.address,
        "version": agent.version,
        "mode": view.mode,
        "reason": view.reason,
        "deadline": view.deadline,
        "deadline_s": view.deadline_s,
        "answers": tuple([f"{name}:{answer}" for name, answer in view.answers.items()]),
    }


def columns_for(views: list[AgentView]) -> tuple[Column, ...]:
    """The columns for these agents: why one is out of use, and until when, where one is."""
    from dataclasses import replace

    shown = {"reason"} if any(view.reason for view in views) else set()
    shown |= {"deadline"} if any(view.deadline is not None for view in views) else set()
    return tuple(
        [replace(column, wide=False) if column.key in shown else column for column in AGENT_COLUMNS]
    )


def check_reason(reason: str) -> str:
    """The reason as it is sent. Raises UsageError for one that is no single short line."""
    if len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise UsageError(
            f"--reason is one line of at most {REASON_CHARS_MAX} characters", "say it shorter"
        )
    return reason


def operate(cluster: Cluster, message: Message) -> list[AgentView]:
    """Have a request of an operator carried out; the agents as they are then."""
    from mesosctl.protocol.messages.query import Agents

    return list(cluster.ask_master(message, Agents).agents)


def tell(found: Globals, views: list[AgentView], as_json: bool, what: str) -> None:
    """Say what became of agents: an object for programs, a line for each to people.

    `what` is put behind the state; {tasks} in it is how many run there.
    """
    lines = []
    for view in views:
        count = "1 task" if view.tasks == 1 else f"{view.tasks} tasks"
        lines.append(f"{view.agent.name}: {view.state}; {what.format(tasks=count)}")
    _tell(found, views, as_json, lines)


def tell_totals(found: Globals, views: list[AgentView], as_json: bool) -> None:
    """Say what agents have now, with what is reserved of it."""
    _tell(found, views, as_json, [f"{view.agent.name}: {view.agent.total}" for view in views])


def _tell(found: Globals, views: list[AgentView], as_json: bool, lines: list[str]) -> None:
    if as_json:
        listing = Listing("agents", AGENT_COLUMNS, [agent_row(view) for view in views])
        found.console.json("agents", listing.items())
        return
    for line in lines:
        found.console.note(line)
