"""`mesosctl agents`: which agents there are, what they have, what of it is free."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import AGENT_STATES, agent_row, columns_for
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Listing


@cli_command("agents")
@click.option("--state", type=click.Choice(AGENT_STATES), help="Only agents in this state.")
@click.option("-a", "--all", "everyone", is_flag=True, help="Also agents that were declared gone.")
@output_options
@pass_globals
def command(found: Globals, /, state: str | None, everyone: bool, output: Output) -> int | None:
    """List agents: their resources, use and state.

    What an agent's isolation cannot enforce is in the column `not enforced` of `-o wide`, and said
    below the table for those that have such gaps. An agent that is `draining`, `drained` or
    `deactivated` is offered to nobody; `mesosctl undrain` brings it back.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import Agents, ListAgents

    with Cluster(found) as cluster:
        views = list(cluster.ask_master(ListAgents(), Agents).agents)
    if state is not None:
        views = [view for view in views if view.state == state]
    elif not everyone:
        views = [view for view in views if view.state != "gone"]
    rows = [agent_row(view) for view in views]
    Listing("agents", columns_for(views), rows).print(found.console, output)
    if output.format == "table":
        gaps = {line: None for view in views for line in view.agent.not_enforced}
        for line in gaps:
            found.console.note(f"not enforced: {line}")
    return None
