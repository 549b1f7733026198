"""`mesosctl agents`: which agents there are, what they have, what of it is free."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Column, Listing

COLUMNS = (
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
)


@cli_command("agents")
@click.option(
    "--state",
    type=click.Choice(("registered", "unreachable")),
    help="Only agents in this state.",
)
@output_options
@pass_globals
def command(found: Globals, /, state: str | None, output: Output) -> int | None:
    """List agents: their resources, use and state.

    What an agent's isolation cannot enforce is in the column `not enforced` of `-o wide`, and said
    below the table for those that have such gaps.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import Agents, ListAgents

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListAgents(), Agents).agents
    rows = []
    for view in views:
        if state not in (None, view.state):
            continue
        agent = view.agent
        rows.append(
            {
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
            }
        )
    Listing("agents", COLUMNS, rows).print(found.console, output)
    if output.format == "table":
        gaps = {line: None for view in views for line in view.agent.not_enforced}
        for line in gaps:
            found.console.note(f"not enforced: {line}")
    return None
