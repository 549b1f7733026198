"""`mesosctl reserve`: resources of agents that are kept for a role."""

from __future__ import annotations

from mesosctl.cli.group import cli_command
from mesosctl.cli.operating import operate, tell_totals
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.rolewords import reserved_arguments
from mesosctl.model.resources import Resources


@cli_command("reserve")
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
    """Keep resources of agents for a role.

    They are offered to that role and to those below it alone, used or not, until `mesosctl
    unreserve`, whatever is started anew meanwhile. RESOURCES is what nobody has reserved, as in
    `cpus:2;mem:4G`; with a role in brackets it is refined: `cpus(eng):1` for eng/backend.

    No task is ended: what tasks hold cannot be reserved. Offers in the way are taken back. All of
    the agents are changed, or none.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.maintenance import Reserve
    from mesosctl.runtime.ids import new_id

    message = Reserve(new_id(), agents, role, resources)
    with Cluster(found) as cluster:
        tell_totals(found, operate(cluster, message), as_json)
    return None
