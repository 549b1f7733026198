"""`mesosctl quota`: what roles may hold at most, and what is kept for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import Command, Verbs
from mesosctl.cli.options import Globals, Output, json_option, output_options, pass_globals
from mesosctl.cli.output import Listing
from mesosctl.cli.rolewords import AMOUNTS, QUOTA_COLUMNS, amounts_text, parse_amounts, role_row
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.protocol.messages.query import RoleView
    from mesosctl.protocol.messages.roles import Quota


@click.group("quota", cls=Verbs)
def command() -> None:
    """Show and set limits and guarantees of roles.

    A quota is for a role of the top and everything below it: `eng` with `eng/backend`. What is
    reserved to them counts, in use or not.
    """


@command.command("list", cls=Command)
@output_options
@pass_globals
def list_quotas(found: Globals, /, output: Output) -> None:
    """List the roles that have a quota.

    `consumed` is what counts against limit and guarantee: what their tasks use, and what is
    reserved to them.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import ListRoles, Roles

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListRoles(), Roles).roles
    rows = [role_row(view) for view in views if view.limit or view.guarantee]
    Listing("quotas", QUOTA_COLUMNS, rows).print(found.console, output)


@command.command("set", cls=Command)
@click.argument("words", nargs=-1, required=True, metavar="ROLE LIMIT [ROLE LIMIT]...")
@click.option(
    "--guarantee",
    type=AMOUNTS,
    multiple=True,
    metavar="RESOURCES",
    help="What is kept for the role; once for each role, in their order.",
)
@click.option(
    "--force", is_flag=True, help="Also below what is held, or beyond what the cluster has."
)
@json_option
@pass_globals
def set_quotas(
    found: Globals,
    /,
    words: tuple[str, ...],
    guarantee: tuple[dict[str, int], ...],
    force: bool,
    as_json: bool,
) -> None:
    """Set limits, and guarantees with them, in the place of those that the roles had.

    LIMIT is written as in `cpus:10;mem:64G`; what it does not name is not limited, and `none`
    limits nothing. A guarantee is kept free for its role, whether it has work or not: others are
    offered only what is left beside all guarantees. All of the roles are changed, or none.

    It holds from the next offers on, whatever is started anew meanwhile. No task is ended for it:
    a role above its limit gets nothing until it is below, a guarantee is met as tasks end.
    """
    _set(found, _quotas(words, guarantee), force, as_json)


@command.command("unset", cls=Command)
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...")
@json_option
@pass_globals
def unset(found: Globals, /, roles: tuple[str, ...], as_json: bool) -> None:
    """End the quotas of roles: neither limit nor guarantee."""
    from mesosctl.protocol.messages.roles import Quota

    _set(found, tuple([Quota(role) for role in dict.fromkeys(roles)]), False, as_json)


def _quotas(words: tuple[str, ...], guarantee: tuple[dict[str, int], ...]) -> tuple[Quota, ...]:
    from mesosctl.protocol.messages.roles import Quota

    if len(words) % 2:
        raise UsageError(f"{words[-1]} has no limit", "write ROLE LIMIT, as in eng 'cpus:10'")
    if guarantee and len(guarantee) != len(words) // 2:
        raise UsageError("--guarantee is given once for each role", "none means no guarantee")
    pairs = zip(words[::2], words[1::2], strict=True)
    kept = guarantee or ({},) * (len(words) // 2)
    return tuple(
        [
            Quota(role, parse_amounts(limit), least)
            for (role, limit), least in zip(pairs, kept, strict=True)
        ]
    )


def _set(found: Globals, quotas: tuple[Quota, ...], force: bool, as_json: bool) -> None:
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.query import Roles
    from mesosctl.protocol.messages.roles import SetQuotas
    from mesosctl.runtime.ids import new_id

    with Cluster(found) as cluster:
        views = cluster.ask_master(SetQuotas(new_id(), quotas, force), Roles).roles
    if as_json:
        rows = Listing("quotas", QUOTA_COLUMNS, [role_row(view) for view in views])
        found.console.json("quotas", rows.items())
        return
    for view in views:
        found.console.note(f"{view.role}: {_told(view)}")


def _told(view: RoleView) -> str:
    if not view.limit and not view.guarantee:
        return "no quota"
    limit = f"limit {amounts_text(view.limit)}" if view.limit else "no limit"
    kept = f", guarantee {amounts_text(view.guarantee)}" if view.guarantee else ""
    return f"{limit}{kept}; consumed {amounts_text(view.consumed) or 'nothing'}"
