"""`mesosctl role`: what roles weigh, set while the master runs."""

from __future__ import annotations

import click

from mesosctl.cli.group import Command, Verbs
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.output import Listing
from mesosctl.cli.rolewords import COLUMNS, WEIGHT, role_row
from mesosctl.errors import UsageError
from mesosctl.limits import PRIORITY_MAX


@click.group("role", cls=Verbs)
def command() -> None:
    """Set weights and priorities of roles.

    What is in force is shown by `mesosctl roles`.
    """


@command.command("set", cls=Command)
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...")
@click.option(
    "--weight", type=WEIGHT, metavar="W", help="Its part beside other roles; 1 if never set."
)
@click.option(
    "--priority",
    type=click.IntRange(-PRIORITY_MAX, PRIORITY_MAX),
    metavar="N",
    help="Higher goes first with the allocation module priority; 0 if never set.",
)
@json_option
@pass_globals
def set_roles(
    found: Globals,
    /,
    roles: tuple[str, ...],
    weight: int | None,
    priority: int | None,
    as_json: bool,
) -> None:
    """Set the weight or the priority of roles.

    It holds from the next offers on, for a role that nobody has yet as well, until it is set anew,
    whatever is started anew meanwhile; options of `mesosctl master` stand behind it. Roles beside
    each other in the tree share by weight: with eng at 3 and ops at 1, all below eng together may
    get three times what ops gets. Nothing is taken from running tasks.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import Roles
    from mesosctl.protocol.messages.roles import SetRoles
    from mesosctl.runtime.ids import new_id

    if weight is None and priority is None:
        raise UsageError("nothing is to be set", "give --weight, --priority or both")
    with Cluster(found) as cluster:
        message = SetRoles(new_id(), roles, weight, priority)
        views = cluster.ask_master(message, Roles).roles
    if as_json:
        rows = Listing("roles", COLUMNS, [role_row(view) for view in views])
        found.console.json("roles", rows.items())
        return
    for view in views:
        count = "1 framework" if view.frameworks == 1 else f"{view.frameworks} frameworks"
        text = f"weight {view.weight_milli / 1000:g}, priority {view.priority}; {count}"
        found.console.note(f"{view.role}: {text}")
