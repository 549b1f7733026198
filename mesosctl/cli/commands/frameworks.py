"""`mesosctl frameworks`: which frameworks there are; ending one."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Column, Listing

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("state", "state"),
    Column("role", "role"),
    Column("user", "user"),
    Column("tasks", "tasks", kind="number"),
    Column("share", "share", kind="number"),
    Column("used", "used"),
    Column("offered", "offered", wide=True),
    Column("offers", "offers", kind="number", wide=True),
    Column("subscribed", "subscribed", kind="time", wide=True),
    Column("failover_timeout", "failover", kind="duration", wide=True),
    Column("principal", "key", wide=True),
    Column("address", "address", wide=True),
)


@cli_command("frameworks")
@click.option(
    "--teardown",
    metavar="ID",
    help="End this framework for good, and every task of it.",
)
@output_options
@pass_globals
def command(found: Globals, /, teardown: str | None, output: Output) -> int | None:
    """List frameworks, or tear one down.

    The share is the dominant one, what is offered included: of the resource of which a framework
    holds most, the part of the whole cluster that it holds.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.errors import NotFound
    from mesosctl.model.ids import FrameworkId, is_ident
    from mesosctl.protocol.messages.query import (
        Done,
        Frameworks,
        ListFrameworks,
        TeardownFramework,
    )

    with Cluster(found) as cluster:
        if teardown is not None:
            if not is_ident(teardown):
                raise NotFound(f"no framework {teardown[:40]!r}", "see `mesosctl frameworks`")
            cluster.ask_master(TeardownFramework(FrameworkId(teardown)), Done)
            found.console.note(f"framework {teardown} is torn down; its tasks are being ended")
            return 0
        views = cluster.ask_master(ListFrameworks(), Frameworks).frameworks
    rows = [
        {
            "id": view.framework.framework_id,
            "name": view.framework.name,
            "state": view.state,
            "role": view.framework.role,
            "user": view.framework.user,
            "tasks": view.tasks,
            "share": view.share_milli / 1000,
            "used": str(view.used),
            "offered": str(view.offered),
            "offers": view.offers,
            "subscribed": view.subscribed or None,
            "failover_timeout": view.framework.failover_timeout_s,
            "principal": view.framework.principal,
            "address": view.framework.address,
        }
        for view in views
    ]
    Listing("frameworks", COLUMNS, rows).print(found.console, output)
    return None
