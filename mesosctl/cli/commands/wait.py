"""`mesosctl wait`: told when jobs end, and how."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.cli.params import DURATION


@cli_command("wait", passes_task_code=True)
@click.argument("selectors", nargs=-1, required=True, metavar="SEL...")
@click.option(
    "--timeout", type=DURATION, metavar="TIME", help="Give up after this, with exit code 124."
)
@click.option("--progress", is_flag=True, help="Show on stderr how far the jobs are.")
@pass_globals
def command(
    found: Globals, /, selectors: tuple[str, ...], timeout: float | None, progress: bool
) -> int | None:
    """Wait for jobs to end; exit with their code.

    The exit code is 0 when every selected task is ok, and otherwise the largest of theirs. Ctrl-C
    ends the waiting, not the jobs. A selector is a job (12), a task (12.3), several (12.0-9,
    10-14), last, all, or name:GLOB.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.following import detaching, wait_for

    console = found.console
    with Cluster(found) as cluster, detaching(console.note, "the jobs go on"):
        return wait_for(cluster, console, selectors, timeout_s=timeout, with_progress=progress)
