"""`mesosctl gone`: vouch that hosts are dead, so that their tasks can run elsewhere.

Rules: it is asked about first, always; where nobody can be asked, -y has to say it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import check_reason, operate, tell
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster


@cli_command("gone")
@click.argument("agents", nargs=-1, required=True, metavar="AGENT...")
@click.option("--reason", default="", metavar="TEXT", help="Why: shown with the agents.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_globals
def command(
    found: Globals, /, agents: tuple[str, ...], reason: str, yes: bool, as_json: bool
) -> int | None:
    """Declare agents dead, for good.

    Tasks that were there are over from then on: they are run again elsewhere, or are `lost` if they
    may start only once. Nobody checks it: if such a host still runs, so do its tasks, beside those
    that take their place. Say it of hosts that are switched off or destroyed.

    An agent that comes back all the same is refused; it ends what it runs, then exits with code 5.
    Started with `--recover cleanup`, or with an empty work directory, it joins as a new agent.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.maintenance import DeclareGone
    from mesosctl.runtime.ids import new_id

    reason = check_reason(reason)
    with Cluster(found) as cluster:
        if not yes and not _is_confirmed(cluster, found, agents):
            return 1
        views = operate(cluster, DeclareGone(new_id(), agents, reason))
        tell(found, views, as_json, "its tasks are over, and its id is refused from now on")
    return None


def _is_confirmed(cluster: Cluster, found: Globals, agents: tuple[str, ...]) -> bool:
    from mesosctl.protocol.messages.query import Agents, ListAgents

    views = cluster.ask_master(ListAgents(agents), Agents).agents
    if not views:
        # The master says it better.
        return True
    for view in views:
        tasks = "1 task" if view.tasks == 1 else f"{view.tasks} tasks"
        text = f"{view.agent.name} ({view.agent.agent_id}) is {view.state} with {tasks}"
        if view.state not in ("unreachable", "gone"):
            text += ": it answers, and is told to end them"
        found.console.error_line(text)
    if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
        raise UsageError("whoever declares agents gone is asked first", "add -y to mean it")
    found.console.error_line("Are these hosts dead, and everything on them? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
