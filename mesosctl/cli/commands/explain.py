"""`mesosctl explain`: why a job or a task waits, or what became of it."""

from __future__ import annotations

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, Output, output_options, pass_globals
from mesosctl.cli.output import Column, Listing

COLUMNS = (
    Column("id", "id"),
    Column("state", "state"),
    Column("verdict", "fits"),
    Column("reason", "reason"),
    Column("text", "text"),
)


@cli_command("explain")
@click.argument("selectors", nargs=-1, required=True, metavar="SEL...")
@click.option("--history", is_flag=True, help="Tell how the reason changed, up to ten times.")
@output_options
@pass_globals
def command(
    found: Globals, /, selectors: tuple[str, ...], history: bool, output: Output
) -> int | None:
    """Tell why jobs and tasks wait, or how they ended.

    Of a task that waits: everything that keeps it waiting, with the numbers, whether it fits now,
    when agents are idle, or never, and what would get it running. Of one that has ended: what its
    exit code, signal or limit means, and the end of its stderr. Of a job each kind of its tasks is
    told once, those that went wrong first. With --history also what it waited for before, as seen
    every 30 s and whenever somebody asked, since the batch framework was started; and what befell
    earlier attempts. JSON always has it. A selector is a job (12), a task (12.3), several
    (12.0-9, 10-14), last, all, or name:GLOB.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.cli.explaining import (
        READ_MAX,
        explanation_row,
        now_wall,
        print_explanation,
        stderr_of,
        wants_stderr,
    )
    from mesosctl.protocol.messages.explain import Explained, ExplainTasks

    console = found.console
    with Cluster(found) as cluster:
        answer = cluster.ask(ExplainTasks(selectors), Explained)
        wanted = [one.task.id for one in answer.explanations if wants_stderr(one)][:READ_MAX]
        said = {task_id: stderr_of(cluster, task_id) for task_id in wanted}
    if output.format == "json":
        rows = [explanation_row(one, said.get(one.task.id)) for one in answer.explanations]
        console.json("explain", rows)
    elif output.format in ("table", "wide") and not output.fields:
        for number, one in enumerate(answer.explanations):
            if number:
                console.out("")
            print_explanation(console, one, said.get(one.task.id), now_wall(), history)
    else:
        rows = [
            {
                "id": one.task.id,
                "state": str(one.task.state),
                "verdict": one.verdict,
                "reason": cause.reason,
                "text": cause.text,
            }
            for one in answer.explanations
            # An id alone is said once.
            for cause in one.causes[: 1 if output.format == "name" else None]
        ]
        Listing("explain", COLUMNS, rows).print(console, output)
    if answer.left_out:
        console.note(f"mesosctl: {answer.left_out} more jobs are not explained; name fewer")
    return None
