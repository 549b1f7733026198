"""`mesosctl jobs`: which jobs there are."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.listing import JOB_COLUMNS, STATES, all_jobs, job_row
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Listing


@cli_command("jobs")
@click.argument("selectors", nargs=-1, metavar="[SEL]...")
@click.option("-a", "--all", "ended", is_flag=True, help="Also jobs that have ended.")
@click.option("-A", "--everyone", is_flag=True, help="Also the jobs of other users.")
@click.option("-s", "--state", "states", type=STATES, help="Only jobs in these states.")
@click.option("-n", "--name", metavar="GLOB", help="Only jobs whose name matches, as in 'sim-*'.")
@output_options
@pass_globals
def command(
    found: Globals,
    /,
    selectors: tuple[str, ...],
    ended: bool,
    everyone: bool,
    states: tuple[str, ...] | None,
    name: str | None,
    output: Output,
) -> int | None:
    """List jobs.

    Without a selector: your own that have not ended. A selector is a job (12), several (10-14),
    last, all, or name:GLOB. Naming a state that is an end also finds jobs that have ended.
    """
    from mesosctl.cli.ask import Cluster

    with Cluster(found) as cluster:
        jobs = all_jobs(cluster, selectors, states or (), name or "", everyone, ended)
    Listing("jobs", JOB_COLUMNS, [job_row(job) for job in jobs]).print(found.console, output)
    return None
