"""`mesosctl drain`: empty agents, for maintenance of their hosts.

Rules: the drain is the master's: it goes on when this command is left, whether it waits or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import check_reason, operate, tell
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.params import Duration
from mesosctl.errors import MesosctlError, Unreachable

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.output import Console
    from mesosctl.protocol.messages.query import AgentView

LOOK_S = 0.5
# A master that is started anew meanwhile is waited for.
PATIENCE_S = 60.0


@cli_command("drain")
@click.argument("agents", nargs=-1, required=True, metavar="AGENT...")
@click.option(
    "--deadline",
    type=Duration(zero=True),
    metavar="TIME",
    help="End what still runs there after this; otherwise it may finish.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why: shown with agents and tasks.")
@click.option("--wait", is_flag=True, help="Return when nothing runs there any more.")
@json_option
@pass_globals
def command(
    found: Globals,
    /,
    agents: tuple[str, ...],
    deadline: float | None,
    reason: str,
    wait: bool,
    as_json: bool,
) -> int | None:
    """Empty agents, for maintenance of their hosts.

    Nothing new is started there, and frameworks are told at once. At the deadline what is left is
    ended, each task with its own grace between TERM and KILL. The batch framework runs such tasks
    again elsewhere, and does not count it; only those of --once jobs that had started end as
    killed. A second drain sets a new deadline.

    It holds, whatever is started anew meanwhile, until `mesosctl undrain`. Ctrl-C ends the waiting,
    not the drain.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.following import detaching
    from mesosctl.protocol.messages.maintenance import DrainAgents
    from mesosctl.runtime.ids import new_id

    message = DrainAgents(new_id(), agents, deadline, check_reason(reason))
    with Cluster(found) as cluster:
        views = operate(cluster, message)
        if wait:
            with detaching(found.console.note, "the drain goes on; `mesosctl undrain` ends it"):
                views = _wait(cluster, found.console, views)
        tell(found, views, as_json, "{tasks} left there")
    return None


def _wait(cluster: Cluster, console: Console, views: list[AgentView]) -> list[AgentView]:
    """Look again and again until all are drained; says what changes. Raises MesosctlError."""
    ids = tuple([view.agent.agent_id for view in views])
    told = ""
    while True:
        left = [view for view in views if view.state != "drained"]
        for view in left:
            if view.mode != "draining":
                name, mode = view.agent.name, view.mode or "in use"
                raise MesosctlError(f"{name} is {mode}: somebody ended its drain", "ask who did")
        if not left:
            return views
        text = "; ".join(_progress(console, view) for view in left)
        if text != told:
            told = text
            console.note(text)
        cluster.hub.wait(lambda: False, LOOK_S)
        views = _look(cluster, console, ids)


def _progress(console: Console, view: AgentView) -> str:
    count = "1 task" if view.tasks == 1 else f"{view.tasks} tasks"
    until = f" until {console.time(view.deadline)}" if view.deadline is not None else ""
    if view.state == "unreachable":
        return f"{view.agent.name}: does not answer; {count} known there"
    over = view.deadline_s is not None and view.deadline_s <= 0
    return f"{view.agent.name}: {count} {'being ended' if over else 'left' + until}"


def _look(cluster: Cluster, console: Console, ids: tuple[str, ...]) -> list[AgentView]:
    """The agents as they are now; a master that does not answer is asked again for a while."""
    import time

    from mesosctl.protocol.messages.query import Agents, ListAgents

    until = time.monotonic() + PATIENCE_S
    said = False
    while True:
        try:
            return list(cluster.ask_master(ListAgents(ids), Agents).agents)
        except Unreachable as error:
            if time.monotonic() >= until:
                raise
            if not said:
                said = True
                console.note(f"{error.message}; the drain goes on, waiting for the master")
            cluster.hub.wait(lambda: False, LOOK_S)
