"""`mesosctl roles`: who the resources are charged to."""

from __future__ import annotations

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Listing
from mesosctl.cli.rolewords import COLUMNS, role_row


@cli_command("roles")
@output_options
@pass_globals
def command(found: Globals, /, output: Output) -> int | None:
    """List roles: weights and shares.

    What a role uses and its share count everything below it in the tree of roles. The allocation
    module drf serves the role with the lowest share over weight first, the module priority the one
    with the highest priority. `mesosctl role set` sets both.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import ListRoles, Roles

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListRoles(), Roles).roles
    Listing("roles", COLUMNS, [role_row(view) for view in views]).print(found.console, output)
    return None
