"""`mesosctl local`: a whole cluster on this host, for one command or until Ctrl-C."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.cli.params import CPUS, MEMORY


@cli_command("local", passes_task_code=True, ends_at_argument=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@click.option(
    "--agents",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="How many agents share this host.",
)
@click.option("--cpus", type=CPUS, metavar="N", help="The CPUs they share; all without it.")
@click.option(
    "--mem", type=MEMORY, metavar="SIZE", help="The memory they share; most of it without."
)
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    metavar="LIST",
    help="How the agents enforce limits, as in `mesosctl agent`.",
)
@click.option("--keep", is_flag=True, help="Keep the cluster's directory with all logs.")
@pass_globals
def command(
    found: Globals,
    /,
    words: tuple[str, ...],
    agents: int,
    cpus: int | None,
    mem: int | None,
    isolation: str,
    keep: bool,
) -> int | None:
    """Run a whole cluster on this host, for one command.

    It needs no root and no set-up, listens on a free port of the loopback interface, and is gone
    afterwards with all it wrote. COMMAND runs against it (`mesosctl submit` inside it finds it by
    itself), and its exit code is passed on. Without COMMAND the cluster stays up until Ctrl-C.
    """
    from mesosctl.runtime.local_cluster import LocalCluster, LocalOptions, run_command, stay

    options = LocalOptions(agents, cpus, mem, isolation, keep)
    with LocalCluster(options, found.console.note) as cluster:
        if words:
            return run_command(cluster, words)
        found.console.note("the cluster stands; Ctrl-C ends it. Use it with:")
        found.console.out(f"export MESOSCTL_MASTER={cluster.master}")
        found.console.out(f"export MESOSCTL_KEY={cluster.key_file}")
        found.console.flush()
        return stay(cluster)
