"""`mesosctl offers`: what is being offered to whom."""

from __future__ import annotations

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Column, Listing

COLUMNS = (
    Column("id", "id"),
    Column("framework", "framework"),
    Column("role", "role"),
    Column("agent", "agent"),
    Column("resources", "resources"),
    Column("age", "age", kind="duration"),
    Column("framework_id", "framework id", wide=True),
    Column("agent_id", "agent id", wide=True),
)


@cli_command("offers")
@output_options
@pass_globals
def command(found: Globals, /, output: Output) -> int | None:
    """List outstanding offers.

    An offer is outstanding until its framework accepts or declines it, or until it is rescinded.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import ListOffers, OutstandingOffers

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListOffers(), OutstandingOffers).offers
    rows = [
        {
            "id": view.offer_id,
            "framework": view.framework_name,
            "role": view.role,
            "agent": view.agent_name,
            "resources": str(view.resources),
            "age": view.age_s,
            "framework_id": view.framework_id,
            "agent_id": view.agent_id,
        }
        for view in views
    ]
    Listing("offers", COLUMNS, rows).print(found.console, output)
    return None
