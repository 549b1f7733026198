"""`mesosctl deactivate`: offer nothing of agents any more; their tasks go on."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import check_reason, operate, tell
from mesosctl.cli.options import Globals, json_option, pass_globals


@cli_command("deactivate")
@click.argument("agents", nargs=-1, required=True, metavar="AGENT...")
@click.option("--reason", default="", metavar="TEXT", help="Why: shown with the agents.")
@json_option
@pass_globals
def command(found: Globals, /, agents: tuple[str, ...], reason: str, as_json: bool) -> int | None:
    """Offer nothing of agents; what runs there goes on.

    An agent is named by its name or its id. Offers that were made already are taken back. All of
    the agents are deactivated, or none is. It holds until `mesosctl undrain`, whatever is started
    anew meanwhile.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.maintenance import DeactivateAgents
    from mesosctl.runtime.ids import new_id

    message = DeactivateAgents(new_id(), agents, check_reason(reason))
    with Cluster(found) as cluster:
        tell(found, operate(cluster, message), as_json, "{tasks} there, which go on")
    return None
