"""`mesosctl simulate`: what would happen if."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.cli.output import Column, Console, print_table
from mesosctl.cli.values import NOTHING, duration_text

SEED_MAX = 2**53
# Lines of the course of things on a terminal; JSON and the plot have more.
COURSE_ROWS = 12


def _percent(value: float) -> str:
    return f"{value * 100:.0f}%"


_WAITS = (
    Column("wait_mean", "wait mean", kind="duration"),
    Column("wait_median", "median", kind="duration"),
    Column("wait_p95", "p95", kind="duration"),
)
FRAMEWORKS = (
    Column("framework", "framework"),
    Column("role", "role"),
    Column("jobs", "jobs", kind="number"),
    Column("tasks", "tasks", kind="number"),
    Column("makespan", "makespan", kind="duration"),
    *_WAITS,
    Column("share", "share", kind="number", render=_percent),
    Column("most", "at once", kind="number"),
)
JOBS = (
    Column("framework", "framework"),
    Column("job", "job"),
    Column("jobs", "jobs", kind="number"),
    Column("tasks", "tasks", kind="number"),
    *_WAITS,
    Column("took_mean", "took mean", kind="duration"),
)
COMPARED = (
    Column("framework", "framework"),
    Column("job", "job"),
    Column("static", "static", kind="duration"),
    Column("shared", "shared", kind="duration"),
    Column("speedup", "speedup", kind="number", render=lambda value: f"{value:.2f}"),
)


@cli_command("simulate")
@click.argument("scenario", type=click.Path(path_type=Path), metavar="SCENARIO.toml")
@click.option(
    "--seed",
    type=click.IntRange(0, SEED_MAX),
    metavar="N",
    help="Draw times from this seed instead of the scenario's own.",
)
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["table", "json"]),
    envvar="MESOSCTL_OUTPUT",
    help="How to print: table or json.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the roles' shares over time into this picture (.png, .svg, .pdf).",
)
@pass_globals
def command(
    found: Globals,
    /,
    scenario: Path,
    seed: int | None,
    output_format: str | None,
    as_json: bool,
    plot: Path | None,
) -> int | None:
    """Run a scenario in virtual time: what would happen if.

    The real master, allocation module and batch framework run on the agents and jobs that the file
    describes, with a clock that jumps from event to event. Prints how long everything took, how
    long tasks waited, and who had which share when; the same file and seed give the same answer.
    Where the file has a table [static] the same jobs also run on partitions of the cluster, and the
    two are compared. The exit code is 1 when tasks were left that nothing could start. The manual
    page tells of the file: man mesosctl-scenario.
    """
    from mesosctl.cli.scenariofile import load
    from mesosctl.plugins.allocators import make_allocator
    from mesosctl.sim.scenario.figures import comparison, figures
    from mesosctl.sim.scenario.run import misfits, run_shared, run_static

    if plot is not None:
        from mesosctl.cli.plotting import check_plot

        check_plot(plot)
    loaded = load(scenario, seed)
    # What cannot be loaded is told before anything is simulated.
    make_allocator(loaded.allocator)
    for name, needs in misfits(loaded).items():
        found.console.warn(f"no agent is large enough for a task of {name}: it needs {needs}")
    outcome = run_shared(loaded, make_allocator)
    told = figures(outcome)
    told["static"] = None
    if loaded.static:
        told["static"] = comparison(outcome, run_static(loaded, make_allocator))
    if plot is not None:
        from mesosctl.cli.plotting import draw

        draw(told, plot)
    if as_json or output_format == "json":
        found.console.json("simulate", told)
    else:
        _print(found.console, told)
    if told["tasks_left"]:
        found.console.warn(_left(told))
    return 1 if told["stalled"] else None


def _left(told: Mapping[str, Any]) -> str:
    left = f"{told['tasks_left']} of {told['tasks']} tasks"
    if told["stalled"]:
        return f"{left} were left, and nothing moved any more"
    return f"{left} had not ended at the end of the scenario (until)"


def _print(console: Console, told: Mapping[str, Any]) -> None:
    """The report for people."""
    for event in told["events"]:
        console.out(f"{event['at']:12.3f}s  {event['text']}")
    if told["events"]:
        console.out("")
    console.out(
        f"{told['scenario']}: {told['resources']}, allocator {told['allocator']},"
        f" seed {told['seed']}"
    )
    waits = " / ".join(_time(told[key]) for key in ("wait_mean", "wait_median", "wait_p95"))
    console.out(
        f"makespan {_time(told['makespan'])}, {told['tasks']} tasks,"
        f" waited {waits} (mean / median / p95), used {_parts(told['utilisation'])}"
    )
    console.out("")
    print_table(console, FRAMEWORKS, told["frameworks"])
    console.out("")
    print_table(console, JOBS, told["jobs"])
    if told["course"]:
        console.out("")
        _print_course(console, told["course"])
    if told["static"]:
        console.out("")
        _print_comparison(console, told["static"])


def _time(seconds: float | None) -> str:
    return duration_text(seconds)


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{_percent(part)} {name}" for name, part in parts.items()) or NOTHING


def _print_course(console: Console, course: Sequence[Mapping[str, Any]]) -> None:
    """Utilisation and shares over time, in as many lines as a person reads."""
    step = -(-len(course) // COURSE_ROWS)
    rows = []
    for at in range(0, len(course), step):
        part = course[at : at + step]
        row: dict[str, Any] = {"from": part[0]["from"]}
        for key in ("utilisation", "shares"):
            for name in part[0][key]:
                row[f"{key} {name}"] = sum(one[key][name] for one in part) / len(part)
        rows.append(row)
    names = [name for name in rows[0] if name != "from"]
    columns = [Column("from", "from", kind="duration")]
    columns += [Column(name, _title(name), kind="number", render=_percent) for name in names]
    print_table(console, columns, rows)


def _title(name: str) -> str:
    kind, _, what = name.partition(" ")
    return f"all {what}" if kind == "utilisation" else f"share {what}"


def _print_comparison(console: Console, compared: Mapping[str, Any]) -> None:
    """The same jobs on partitions of the cluster, and by how much sharing beats them."""
    parts = ", ".join(f"{name} {count}" for name, count in compared["agents"].items())
    console.out(f"the same on static partitions ({parts} agents); sums of the jobs' times:")
    rows = [{**row, "job": row["job"] or "all"} for row in compared["rows"]]
    print_table(console, COMPARED, rows)
    static, shared = compared["makespan_static"], compared["makespan_shared"]
    console.out(
        f"makespan static {_time(static)}, shared {_time(shared)};"
        f" used static {_parts(compared['utilisation_static'])},"
        f" shared {_parts(compared['utilisation_shared'])}"
    )
    for row in compared["rows"]:
        if row["job"] is None and row["speedup"] is not None:
            how = "quicker" if row["speedup"] >= 1 else "slower"
            factor = row["speedup"] if row["speedup"] >= 1 else 1 / row["speedup"]
            console.out(
                f"shared, the jobs of {row['framework']} are {factor:.2f} times {how}"
                " than on their partition"
            )
