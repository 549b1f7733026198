"""`mesosctl undrain`: offer agents again that were drained or deactivated."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import operate, tell
from mesosctl.cli.options import Globals, json_option, pass_globals


@cli_command("undrain")
@click.argument("agents", nargs=-1, required=True, metavar="AGENT...")
@json_option
@pass_globals
def command(found: Globals, /, agents: tuple[str, ...], as_json: bool) -> int | None:
    """Offer agents again, after a drain or a deactivation.

    An agent is named by its name or its id. One that is in use stays so. What a drain has ended
    already is not brought back.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.maintenance import UndrainAgents
    from mesosctl.runtime.ids import new_id

    with Cluster(found) as cluster:
        tell(found, operate(cluster, UndrainAgents(new_id(), agents)), as_json, "{tasks} there")
    return None
