"""`mesosctl tasks`: where each task ran, how it ended and what it used."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.listing import STATES, all_tasks, task_columns, task_row
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Listing


@cli_command("tasks")
@click.argument("selectors", nargs=-1, metavar="[SEL]...")
@click.option("-A", "--everyone", is_flag=True, help="Also the tasks of other users.")
@click.option("-s", "--state", "states", type=STATES, help="Only tasks in these states.")
@output_options
@pass_globals
def command(
    found: Globals,
    /,
    selectors: tuple[str, ...],
    everyone: bool,
    states: tuple[str, ...] | None,
    output: Output,
) -> int | None:
    """List the tasks of jobs.

    Without a selector: those of your jobs that have not ended. A selector is a job (12), a task
    (12.3), several (12.0-9, 10-14), last, all, or name:GLOB. A job that is no array has one task,
    12.0.
    """
    from mesosctl.cli.ask import Cluster

    with Cluster(found) as cluster:
        tasks = all_tasks(cluster, selectors, states or (), everyone)
    rows = [task_row(task) for task in tasks]
    Listing("tasks", task_columns(tasks), rows).print(found.console, output)
    return None
