"""`mesosctl roles`: who the resources are charged to."""

from __future__ import annotations

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Column, Listing

COLUMNS = (
    Column("role", "role"),
    Column("weight", "weight", kind="number"),
    Column("priority", "priority", kind="number"),
    Column("frameworks", "frameworks", kind="number"),
    Column("share", "share", kind="number"),
    Column("used", "used"),
)


@cli_command("roles")
@output_options
@pass_globals
def command(found: Globals, /, output: Output) -> int | None:
    """List roles: weights and shares.

    The allocation module drf serves the role with the lowest share over weight first, the module
    priority the one with the highest priority. `mesosctl master` sets both.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import ListRoles, Roles

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListRoles(), Roles).roles
    rows = [
        {
            "role": view.role,
            "weight": view.weight_milli / 1000,
            "priority": view.priority,
            "frameworks": view.frameworks,
            "share": view.share_milli / 1000,
            "used": str(view.used),
        }
        for view in views
    ]
    Listing("roles", COLUMNS, rows).print(found.console, output)
    return None
