"""`mesosctl submit`: a job from the command line to the batch framework's disk, and maybe its end.

Rules: a submission has an id of its own and is repeated under it when the answer is lost, so it is
one job. On stdout is the id alone, unless a person reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.group import after_double_dash, cli_command
from mesosctl.cli.joboptions import JobOptions, job_options
from mesosctl.cli.jobvalues import PATH
from mesosctl.cli.options import Globals, json_option, pass_globals
from mesosctl.cli.output import escaped
from mesosctl.cli.params import ARRAY, ArraySpec

if TYPE_CHECKING:
    from mesosctl.cli.ask import Cluster
    from mesosctl.model.jobs import JobSpec
    from mesosctl.protocol.messages.batch import JobAccepted

# What the batch framework says of a dry run that fits; anything else tells why it does not.
FITS = "an agent that fits is known"
# What of an explanation is true of a job that does not exist.
DRY_KEYS = (
    "verdict",
    "reason",
    "causes",
    "advice",
    "need",
    "constraint",
    "agents",
    "fit_now",
    "fit_idle",
    "groups",
    "rivals",
    "quota",
)


def _waits(params: dict[str, Any]) -> bool:
    return bool(params["wait"]) and not params["dry_run"]


@cli_command("submit", passes_task_code=_waits, ends_at_argument=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT|-|--] [ARG]...")
@click.option(
    "-a",
    "--array",
    type=ARRAY,
    metavar="INDICES[%N]",
    help="One task for each index, N at a time; each finds its own in MESOS_ARRAY_INDEX.",
)
@click.option(
    "--each-line",
    metavar="FILE",
    help="One task for each line of FILE (- is stdin): {} in arguments, and MESOS_ENTRY.",
)
@click.option(
    "--max-running",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most so many tasks of the job run at once.",
)
@click.option(
    "-p",
    "--priority",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Jobs of a higher priority are started first.",
)
@click.option(
    "-i", "--stdin", type=PATH, metavar="FILE", help="Read stdin from this file of the agent."
)
@job_options
@click.option(
    "--once", is_flag=True, help="Start each task once at the most, whatever happens to its agent."
)
@click.option(
    "--restartable",
    is_flag=True,
    help="A task whose agent is silent may be started elsewhere; two of it may overlap.",
)
@click.option(
    "--preemptible",
    is_flag=True,
    help="A task may be ended for a guarantee or a higher priority, and is run again later.",
)
@click.option(
    "--spread", is_flag=True, help="No two tasks of the job run on one agent at the same time."
)
@click.option("-W", "--wait", is_flag=True, help="Wait for the end; exit with the largest code.")
@click.option("--progress", is_flag=True, help="While waiting, show how far the job is.")
@click.option(
    "--kill-on-exit", is_flag=True, help="With --wait: Ctrl-C ends the job instead of leaving it."
)
@click.option("--parsable", is_flag=True, help="Print the id alone, also on a terminal.")
@json_option
@click.option(
    "--dry-run", is_flag=True, help="Check everything, say whether it fits, submit nothing."
)
@pass_globals
@click.pass_context
def command(
    ctx: click.Context,
    found: Globals,
    /,
    words: tuple[str, ...],
    job: JobOptions,
    array: ArraySpec | None,
    each_line: str | None,
    wait: bool,
    dry_run: bool,
    **rest: Any,
) -> int | None:
    """Queue a job: a command, a script or many of them.

    What to execute is a command behind `--`, a script (its text is sent along as it is now, it
    need not be executable, and without a first line #! it is run by /bin/sh), `-` for a script on
    stdin, or a line for the shell: --wrap, or one single argument with a blank in it.

    The job is queued when this command ends, and survives the restart of every part of the
    cluster. On stdout is its id alone where no person reads it, so that id=$(mesosctl submit ...)
    works.

    Paths of -o, -e and -i may be anywhere on the agent and are opened with the rights of the user
    that the task runs as; a relative one is meant from where you are now. %j in them is the job,
    %a the index, %x the name, %u the user, %N the agent, %t the task counted from 0, %% a percent
    sign.

    A task's environment is yours without what belongs to your login session (SSH_*, DBUS_*,
    XDG_RUNTIME_DIR, XDG_SESSION_*, DISPLAY, TERM, MESOSCTL_* and the like) and without what looks
    like a secret (names with TOKEN, SECRET, PASSWORD, CREDENTIAL, _KEY and the like). With
    --env-base all it is everything, with basic only HOME, USER, SHELL, PATH, TZ and the language,
    with none nothing. -E NAME adds one of your variables, -E NAME=VALUE any other.

    A constraint compares what the operators of agents said of them (`mesosctl agent --attributes`,
    shown by `mesosctl agents -o wide`) with ==, != and, numbers, with <, <=, > and >=; a name alone
    asks whether it is set and not false or 0. && binds closer than ||, ! is not, and round brackets
    group. What an agent has no word of equals nothing. A value with blanks or signs in it is put
    in double quotes; the name agent stands for the agent itself.
    """
    from mesosctl.cli.jobspec import Many, make_job
    from mesosctl.cli.work import read_work

    many = Many(
        array,
        each_line,
        rest["max_running"],
        rest["priority"],
        rest["once"],
        rest["restartable"],
        rest["spread"],
        rest["preemptible"],
    )
    many.check()
    work = read_work(words, after_double_dash(ctx), job.wrap)
    spec = make_job(work, job, many)
    from mesosctl.cli.ask import Cluster

    with Cluster(found) as cluster:
        accepted = _submit(cluster, spec, dry_run)
        if dry_run:
            return _tell_dry_run(found, accepted, rest["as_json"])
        _tell(found, accepted, rest["as_json"], rest["parsable"])
        if not wait:
            return None
        return _wait(found, cluster, accepted.job_id, rest["progress"], rest["kill_on_exit"])


def _submit(cluster: Cluster, spec: JobSpec, dry_run: bool) -> JobAccepted:
    from mesosctl.protocol.messages.batch import JobAccepted, SubmitJob
    from mesosctl.runtime.ids import new_id

    return cluster.ask(SubmitJob(new_id(), spec, dry_run), JobAccepted)


def _tell(found: Globals, accepted: JobAccepted, as_json: bool, parsable: bool) -> None:
    console = found.console
    if as_json:
        job = {"id": accepted.job_id, "tasks": accepted.tasks, "note": accepted.note}
        console.json("submit", job)
    elif parsable or not console.is_tty:
        console.out(accepted.job_id)
    else:
        tasks = f" ({accepted.tasks} tasks)" if accepted.tasks != 1 else ""
        console.out(f"submitted job {accepted.job_id}{tasks}")
    console.flush()
    if accepted.note:
        console.note(f"mesosctl: job {accepted.job_id}: {accepted.note}")


def _tell_dry_run(found: Globals, accepted: JobAccepted, as_json: bool) -> int:
    from mesosctl.cli.explaining import explanation_row, lines_of

    told = accepted.explanation
    if as_json:
        content = {"id": None, "tasks": accepted.tasks, "note": accepted.note}
        content["fits"] = accepted.fits
        if told is not None:
            row = explanation_row(told)
            content |= {key: row[key] for key in row if key in DRY_KEYS}
        found.console.json("submit", content)
        return 0 if accepted.fits else 1
    many = "1 task" if accepted.tasks == 1 else f"{accepted.tasks} tasks"
    found.console.note(f"would submit {many}; {accepted.note or FITS}; nothing was submitted")
    if told is not None:
        for line in lines_of(told):
            found.console.out(escaped(line))
        if told.advice:
            found.console.out(escaped(f"To get it running: {told.advice}"))
    return 0 if accepted.fits else 1


def _wait(
    found: Globals, cluster: Cluster, job_id: str, with_progress: bool, kill_on_exit: bool
) -> int:
    from mesosctl.cli.following import detaching, ending, wait_for

    console = found.console
    if kill_on_exit:
        with ending(cluster, job_id, console.note):
            return wait_for(cluster, console, (job_id,), with_progress=with_progress)
    hint = f"job {job_id} goes on; mesosctl wait {job_id} to wait again, kill {job_id} to end it"
    with detaching(console.note, hint):
        return wait_for(cluster, console, (job_id,), with_progress=with_progress)
