"""`mesosctl framework`: the options of the batch framework's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, advertise_option, pass_globals
from mesosctl.cli.params import DURATION, LISTEN, NAME


@cli_command("framework")
@click.option(
    "--name",
    type=NAME,
    default="batch",
    show_default=True,
    metavar="NAME",
    help="The name under which commands look for it.",
)
@click.option(
    "-R",
    "--role",
    default="*",
    show_default=True,
    metavar="ROLE",
    help="The role that its tasks are charged to.",
)
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the queue is kept.",
)
@click.option(
    "--listen",
    type=LISTEN,
    default="tcp://127.0.0.1:0",
    show_default=True,
    metavar="ADDRESS",
    help="Where commands connect to; port 0 is any free one.",
)
@advertise_option
@click.option(
    "--failover-timeout",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="How long its tasks are kept while it is away.",
)
@click.option(
    "--filter",
    "filter_s",
    type=DURATION,
    default="5s",
    show_default=True,
    metavar="TIME",
    help="How long what it declines is not offered to it again.",
)
@click.option(
    "--log-keep",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="Keep the details of ended jobs for so long, then only a summary of each.",
)
@pass_globals
def command(found: Globals, /, **options: Any) -> int | None:
    """Run the batch framework: the queue of jobs.

    `mesosctl master` starts one by itself. Run your own with --no-framework there, on a host whose
    disk you trust: the queue is on that disk and nowhere else.
    """
    from mesosctl.runtime.framework_process import FrameworkOptions, run_framework

    endpoint = found.locate()
    return run_framework(
        FrameworkOptions(
            key=Path(endpoint.key_file),
            master=endpoint.master,
            name=options["name"],
            role=options["role"],
            work_dir=options["work_dir"],
            listen=options["listen"],
            advertise=options["advertise"] or "",
            failover_timeout_s=options["failover_timeout"],
            filter_s=options["filter_s"],
            log_keep_s=options["log_keep"],
        )
    )
