"""`mesosctl kill`: end jobs and tasks, or send them a signal.

Rules: what is selected by `all` or by a pattern and is more than CONFIRM_OVER tasks is asked about
first; where nobody can be asked, -y has to say it. What has ended before is no error.
"""

from __future__ import annotations

import signal as signals
import sys
from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.listing import STATES, all_jobs
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.params import Duration, Parsed, shown
from mesosctl.errors import UsageError
from mesosctl.limits import KILL_GRACE_MAX_S
from mesosctl.model.jobs import ENDED

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster

CONFIRM_OVER = 20
SIGNAL_MAX = 64


def parse_signal(text: str) -> int:
    """A signal's number: TERM, SIGTERM, term or 15. Raises UsageError."""
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= SIGNAL_MAX:
        return int(text)
    name = text.upper().removeprefix("SIG")
    for known in signals.Signals:
        if known.name == f"SIG{name}":
            return int(known)
    raise UsageError(f"{shown(text)} is not a signal", "write USR1, INT or a number such as 10")


SIGNAL = Parsed("SIGNAL", parse_signal)


@cli_command("kill")
@click.argument("selectors", nargs=-1, required=True, metavar="SEL...")
@click.option(
    "-s", "--signal", type=SIGNAL, help="Only send this signal to what runs; end nothing else."
)
@click.option(
    "--grace",
    type=Duration(zero=True),
    metavar="TIME",
    help="How long between TERM and KILL; otherwise as the job was submitted.",
)
@click.option("--state", "states", type=STATES, help="Only tasks in these states.")
@click.option("--reason", default="", metavar="TEXT", help="Why: shown with the tasks.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_globals
def command(
    found: Globals,
    /,
    selectors: tuple[str, ...],
    signal: int | None,
    grace: float | None,
    states: tuple[str, ...] | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> int | None:
    """End jobs and tasks.

    Running tasks are sent TERM and, after their grace, KILL, and end as killed; those that have not
    started are cancelled. What has ended stays as it is. A selector is a job (12), a task (12.3),
    several (12.0-9, 10-14), last, all, or name:GLOB.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.batch import KillJobs, KillsBegun

    if grace is not None and grace > KILL_GRACE_MAX_S:
        raise UsageError(f"--grace is over {KILL_GRACE_MAX_S / 3600:g}h", "give less")
    if signal is not None and grace is not None:
        raise UsageError("--signal ends nothing, so there is no --grace", "leave one of them out")
    with Cluster(found) as cluster:
        is_broad = any(_is_broad(selector) for selector in selectors)
        if is_broad and not yes and not _is_confirmed(cluster, found, selectors):
            return 1
        message = KillJobs(selectors, states or (), signal, grace, reason[:500])
        begun = cluster.ask(message, KillsBegun)
    if as_json:
        content = {
            "ending": begun.ending,
            "cancelled": begun.cancelled,
            "already_ended": begun.already_ended,
        }
        found.console.json("kill", content)
        return None
    found.console.note(_told(begun.ending, begun.cancelled, begun.already_ended, signal))
    return None


def _told(ending: int, cancelled: int, already_ended: int, signal: int | None) -> str:
    sent = "being ended" if signal is None else f"sent signal {signal}"
    parts = [
        f"{count} {what}"
        for count, what in (
            (ending, sent),
            (cancelled, "cancelled"),
            (already_ended, "over before"),
        )
        if count
    ]
    return f"tasks: {', '.join(parts)}" if parts else "no task is in such a state; nothing to end"


def _is_broad(selector: str) -> bool:
    return selector == "all" or selector.startswith("name:")


def _is_confirmed(cluster: Cluster, found: Globals, selectors: tuple[str, ...]) -> bool:
    jobs = all_jobs(cluster, selectors)
    tasks = sum(count for job in jobs for state, count in job.counts.items() if state not in ENDED)
    if tasks <= CONFIRM_OVER:
        return True
    what = f"{tasks} tasks of {len(jobs)} jobs" if len(jobs) != 1 else f"{tasks} tasks"
    if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
        raise UsageError(f"these selectors name {what}", "add -y to end them all")
    found.console.error_line(f"This ends {what}. Sure? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
