"""`mesosctl unreserve`: an end of what is kept for a role."""

from __future__ import annotations

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import operate, tell_totals
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.rolewords import reserved_arguments
from mesosctl.model.resources import Resources


@cli_command("unreserve")
@reserved_arguments
@json_option
@pass_globals
def command(
    found: Globals,
    /,
    agents: tuple[str, ...],
    resources: Resources,
    role: str,
    as_json: bool,
) -> int | None:
    """Give back what is reserved to a role.

    RESOURCES are written without a role: `cpus:2;mem:4G` of what is reserved to ROLE itself, by
    command or by a framework. They go back to where they were before: to everybody, or to the role
    that they were refined from. What an agent reserves by its own --resources stays.

    What tasks hold cannot be given back. All of the agents are changed, or none.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.maintenance import Unreserve
    from mesosctl.runtime.ids import new_id

    message = Unreserve(new_id(), agents, role, resources)
    with Cluster(found) as cluster:
        tell_totals(found, operate(cluster, message), as_json)
    return None
