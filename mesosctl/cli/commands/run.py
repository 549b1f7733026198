"""`mesosctl run`: one task in the foreground, as a framework of its own.

Rules: stdout and stderr carry the task's bytes alone; what mesosctl itself has to say is a line on
stderr that begins with its name. The exit code is the task's.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import click

from mesosctl.cli.group import after_double_dash, cli_command
from mesosctl.cli.joboptions import JobOptions, job_options
from mesosctl.cli.jobvalues import PATH
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.cli.work import Work
    from mesosctl.model.cluster import Offer
    from mesosctl.model.tasks import Command, TaskInfo

TASK_ID = "run"


@cli_command("run", passes_task_code=True, ends_at_argument=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT|-|--] [ARG]...")
@click.option(
    "-i",
    "--stdin",
    type=PATH,
    metavar="-|FILE|none",
    help="Pass stdin on (-, the default unless it is a terminal), read a file of the agent, or "
    "nothing (none).",
)
@job_options
@pass_globals
@click.pass_context
def command(
    ctx: click.Context, found: Globals, /, words: tuple[str, ...], job: JobOptions
) -> int | None:
    """Run a command in the foreground, somewhere in the cluster.

    What to execute is a command behind `--`, a script (its text is sent along, and without a first
    line #! it is run by /bin/sh), `-` for a script on stdin, or a line for the shell: --wrap, or
    one single argument with a blank in it.

    Its output comes straight from the agent, stdout and stderr apart, and its exit code is the exit
    code. Ctrl-C is passed on as INT; a second one within two seconds ends the task. When this
    command is ended, by whatever, so is the task.

    Options and the task's environment are those of mesosctl-submit(1).
    """
    from mesosctl.cli.work import read_work

    if job.stdin in ("t", "-t"):
        raise UsageError(
            "-it: a terminal cannot be passed on", "leave it out; -i - passes stdin on"
        )
    work = read_work(words, after_double_dash(ctx), job.wrap)
    task = make_task(work, job)
    return _run(found, job, work, task)


def _run(found: Globals, job: JobOptions, work: Work, task: TaskInfo) -> int:
    from pathlib import Path

    from mesosctl.model.cluster import FrameworkInfo
    from mesosctl.model.constraints import Where
    from mesosctl.model.ids import FrameworkId
    from mesosctl.runtime.run_process import run_once
    from mesosctl.storage.keys import load_key

    endpoint = found.locate()
    key = load_key(Path(endpoint.key_file))
    master = endpoint.master
    user = job.user or own_user()
    info = FrameworkInfo(FrameworkId(""), task.name, user, job.role)
    console = found.console

    def fill(placed: TaskInfo, offer: Offer, framework_id: str) -> TaskInfo:
        return completed(placed, offer, framework_id, job, master, user)

    return run_once(
        info,
        task,
        key,
        master,
        note=lambda text: console.note(f"mesosctl: {text}"),
        fill=fill,
        answer_timeout_s=found.request_timeout,
        where=Where(job.where()),
    )


def own_user() -> str:
    """The name of the user who runs this. Raises UsageError when it has none."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise UsageError(f"user {os.geteuid()} has no name here", "give --user") from None


# --- the task -------------------------------------------------------------------------------------


def make_task(work: Work, job: JobOptions) -> TaskInfo:
    """The task to launch, complete but for its place. Raises UsageError."""
    from mesosctl.cli.environ import task_environment
    from mesosctl.cli.joboptions import own_umask, where
    from mesosctl.model.ids import AgentId, TaskId
    from mesosctl.model.resources import Resources
    from mesosctl.model.tasks import Command, TaskInfo
    from mesosctl.model.volumes import wanted

    cwd, submit_dir, may_fall_back = where(job)
    env = task_environment(job.env_base, job.env, os.environ, bool(job.user))
    command = Command(
        work.argv,
        script=work.script,
        script_name=work.script_name,
        env={**env, "MESOS_SUBMIT_DIR": submit_dir},
        cwd=cwd,
        cwd_may_fall_back=may_fall_back,
        user=job.user,
        stdin=_stdin(job.stdin, work, submit_dir),
        stdout=_absolute(job.stdout, submit_dir),
        stderr=_absolute(job.stderr, submit_dir),
        append=job.append,
        umask=own_umask(),
        log_max_bytes=job.log_max or 0,
    )
    return TaskInfo(
        TaskId(TASK_ID),
        job.name or work.name,
        AgentId(""),
        Resources.of(job.cpus, job.mem) + job.more() + wanted(job.mounts()),
        command,
        grace_s=job.grace,
        time_limit_s=job.time,
        lease_s=job.lost_after,
        whole_cores=job.whole_cores,
        rlimits=dict(job.ulimit),
        private=tuple(sorted(set(job.private))),
        volumes=job.mounts(),
    )


def _absolute(path: str | None, submit_dir: str) -> str:
    if path is None or path in ("none", "merge"):
        return path or ""
    return os.path.join(submit_dir, path)


def _stdin(given: str | None, work: Work, submit_dir: str) -> str:
    """How the task gets its stdin: "stream", a path of the agent, or "" for nothing."""
    if given == "-" and work.from_stdin:
        raise UsageError("stdin cannot be both the script and the task's stdin", "use a file")
    if given == "-":
        return "stream"
    if given is not None and given != "none":
        return os.path.join(submit_dir, given)
    if given == "none" or work.from_stdin:
        return ""
    return "stream" if _has_input() else ""


def _has_input() -> bool:
    """Whether stdin can hold anything for a task: it is neither a terminal nor /dev/null."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return False
    try:
        found = os.fstat(0)
        null = os.stat(os.devnull)
    except OSError:
        return False
    return not (stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev)


def completed(
    task: TaskInfo, offer: Offer, framework_id: str, job: JobOptions, master: str, user: str
) -> TaskInfo:
    """The task in its place: the variables that it finds itself by, and its paths filled in."""
    from dataclasses import replace

    from mesosctl.cli.values import cpus_text

    env = {
        "MESOS_JOB_NAME": task.name,
        "MESOS_TASK_ID": str(task.task_id),
        "MESOS_ATTEMPT": str(task.task_id).rpartition(".")[2],
        "MESOS_CPUS": cpus_text(job.cpus),
        "MESOS_MEM": str(job.mem >> 20),
        "MESOS_AGENT": offer.agent_name,
        "MESOS_FRAMEWORK_ID": framework_id,
        "MESOS_ROLE": offer.role,
        "MESOS_MASTER": master,
    }
    names = {"x": task.name, "u": user, "N": offer.agent_name, "j": framework_id}
    names.update({"A": framework_id, "a": "0", "t": "0", "%": "%"})
    command: Command = task.command
    filled = replace(
        command,
        env={**command.env, **env},
        stdin=filled_path(command.stdin, names),
        stdout=filled_path(command.stdout, names),
        stderr=filled_path(command.stderr, names),
    )
    return replace(task, command=filled)


def filled_path(path: str, names: dict[str, str]) -> str:
    """A path with %x and the like replaced; keywords, which have no slash, stay."""
    import re

    if "/" not in path:
        return path
    pattern = f"%([{''.join(names)}])"
    return re.sub(pattern, lambda match: names[match[1]].replace("/", "_"), path)
