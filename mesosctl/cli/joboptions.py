"""The options that `submit` and `run` share, and what they come to.

Rules: one option has one name, one meaning and one help text in both commands. What is wrong with a
value is said here, in one line, before anything is sent.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.environ import BASES
from mesosctl.cli.jobvalues import AGENT, MORE, PATH, ROLE, ULIMIT, USER, VOLUME, WHERE
from mesosctl.cli.params import (
    CPUS,
    DURATION,
    ENV,
    LOG_SIZE,
    MEMORY,
    NAME,
    SIZE,
    Duration,
    shown,
)
from mesosctl.errors import UsageError
from mesosctl.limits import KILL_GRACE_MAX_S, LEASE_MAX_S, LEASE_MIN_S
from mesosctl.model.records import dataclass

if TYPE_CHECKING:
    from mesosctl.model.resources import Resources
    from mesosctl.model.volumes import VolumeMount


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What the shared options say. Units as in model.jobs.JobSpec."""

    name: str | None = None
    cpus: int = 1000
    mem: int = 512 * 1024**2
    role: str = "*"
    user: str = ""
    env: tuple[tuple[str, str], ...] = ()
    env_base: str = "default"
    chdir: str | None = None
    sandbox: bool = False
    stdout: str | None = None
    stderr: str | None = None
    stdin: str | None = None
    append: bool = False
    log_max: int | None = None
    time: float | None = None
    grace: float = 10.0
    lost_after: float | None = None
    wrap: str | None = None
    disk: int | None = None
    gpus: int = 0
    resources: Resources | None = None
    whole_cores: bool = False
    ulimit: tuple[tuple[str, tuple[int, int]], ...] = ()
    private: tuple[str, ...] = ()
    constraint: str | None = None
    on: tuple[str, ...] = ()
    not_on: tuple[str, ...] = ()
    volume: tuple[tuple[str, str], ...] = ()

    def where(self) -> str:
        """On which agents a task may run, as one constraint; empty: on all."""
        if not (self.constraint or self.on or self.not_on):
            return ""
        from mesosctl.model.constraints import combined

        return combined(self.constraint or "", self.on, self.not_on)

    def more(self) -> Resources:
        """What is needed beside CPUs and memory. Raises UsageError for what is named twice."""
        from mesosctl.model.resources import EMPTY, Resources

        given = EMPTY if self.resources is None else self.resources
        for name, amount in (("disk", self.disk), ("gpus", self.gpus)):
            if amount and name in given.names():
                raise UsageError(f"--{name} and --resources both name it", "give one of them")
        return given + Resources.of(disk_bytes=self.disk or 0, gpus=self.gpus)

    def mounts(self) -> tuple[VolumeMount, ...]:
        """Where a task finds its volumes."""
        if not self.volume:
            return ()
        from mesosctl.model.volumes import VolumeMount

        return tuple([VolumeMount(name, path) for name, path in self.volume])

    def check(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.volume:
            from mesosctl.model.volumes import mounts_problem, wanted

            mounts = self.mounts()
            problem = mounts_problem(mounts, wanted(mounts))
            if problem:
                raise UsageError(f"--volume: {problem}", "write ID:PATH, as in data1:db")
        if self.chdir is not None and self.sandbox:
            raise UsageError("--chdir and --sandbox name two directories", "give one of them")
        if self.grace > KILL_GRACE_MAX_S:
            raise UsageError(f"--grace is over {KILL_GRACE_MAX_S / 3600:g}h", "give less")
        if self.lost_after is not None and not LEASE_MIN_S <= self.lost_after <= LEASE_MAX_S:
            raise UsageError(
                f"--lost-after {self.lost_after:g}s is out of range",
                f"give {LEASE_MIN_S:g}s at the least, minutes rather",
            )
        if self.whole_cores and self.cpus % 1000:
            raise UsageError(f"--whole-cores of {self.cpus / 1000:g} cpus", "ask for whole ones")
        if self.stdout == "merge":
            raise UsageError("-o merge: stdout cannot be merged", "write -e merge, or ./merge")
        if self.append and not (self.stdout or self.stderr):
            raise UsageError("--append is for files", "name one with -o or -e")
        both = [agent for agent in self.on if agent in self.not_on]
        if both:
            raise UsageError(f"--on and --not-on both name {shown(both[0])}", "give one of them")


def where(options: JobOptions) -> tuple[str, str, bool]:
    """The working directory, the submit directory, and whether the sandbox may take its place.

    Raises UsageError when the directory that we are in exists no more.
    """
    try:
        here = os.getcwd()
    except OSError:
        raise UsageError("the directory that you are in is gone", "change to another") from None
    if options.sandbox:
        return "", here, False
    if options.chdir is not None:
        return os.path.normpath(os.path.join(here, options.chdir)), here, False
    return here, here, True


def own_umask() -> int:
    """The umask of this process: it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask & 0o777


def _limits() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "-n", "--name", "-J", type=NAME, metavar="NAME", help="What it is called in listings."
        ),
        click.option(
            "-c",
            "--cpus",
            type=CPUS,
            default="1",
            show_default=True,
            metavar="CPUS",
            help="CPUs for each task, also as a fraction; it cannot use more.",
        ),
        click.option(
            "-m",
            "--mem",
            type=MEMORY,
            default="512M",
            show_default=True,
            metavar="SIZE",
            help="Memory for each task; one that uses more is ended as oom.",
        ),
        click.option(
            "-t",
            "--time",
            type=DURATION,
            metavar="TIME",
            help="End a task that runs longer than this; it is then in state timeout.",
        ),
        *_wishes(),
        *_places(),
        click.option(
            "--grace",
            type=Duration(zero=True),
            default="10s",
            show_default=True,
            metavar="TIME",
            help="How long a task that is asked to end (TERM) may take before KILL.",
        ),
        click.option(
            "--lost-after",
            type=DURATION,
            metavar="TIME",
            help="End a task whose agent is cut off from the master for so long, and then run it "
            "elsewhere; otherwise it waits for its agent.",
        ),
    )


def _places() -> tuple[Callable[[Any], Any], ...]:
    """On which agents."""
    return (
        click.option(
            "--constraint",
            type=WHERE,
            metavar="TEXT",
            help="Only on agents with such attributes, as in 'rack==r1 && (ssd || cores>=8)'; see "
            "above.",
        ),
        click.option(
            "--on",
            type=AGENT,
            multiple=True,
            metavar="AGENT",
            help="Only on this agent, by name or id; if repeated, on one of these.",
        ),
        click.option(
            "--not-on",
            type=AGENT,
            multiple=True,
            metavar="AGENT",
            help="Not on this agent, by name or id; may be repeated.",
        ),
    )


def _wishes() -> tuple[Callable[[Any], Any], ...]:
    """What few tasks ask for; an agent that cannot give it refuses the task."""
    return (
        click.option(
            "--disk",
            type=SIZE,
            metavar="SIZE",
            help="What the sandbox of each task may occupy; one that uses more is ended.",
        ),
        click.option(
            "--gpus",
            type=click.IntRange(0, 1024),
            default=0,
            metavar="N",
            help="GPUs for each task, for itself alone; their numbers are in CUDA_VISIBLE_DEVICES.",
        ),
        click.option(
            "--resources",
            type=MORE,
            metavar="TEXT",
            help="What else each task needs of its agent, as in 'ports:[31000-31001];seats:1'.",
        ),
        click.option(
            "--volume",
            type=VOLUME,
            multiple=True,
            metavar="ID:PATH",
            help="A volume of the role (mesosctl volume list), found under this path of the "
            "sandbox; may be repeated.",
        ),
        click.option(
            "--whole-cores",
            is_flag=True,
            help="Run on CPUs that no other task with this option has, as many as -c says.",
        ),
        click.option(
            "--ulimit",
            type=ULIMIT,
            multiple=True,
            metavar="NAME=SOFT[:HARD]",
            help="A limit of each process as of ulimit(1), such as nofile=1024; may be repeated.",
        ),
        click.option(
            "--private",
            type=click.Choice(("tmp", "pids")),
            multiple=True,
            help="Have a /tmp of its own, or see no processes but its own; may be repeated.",
        ),
    )


def _surroundings() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "-R", "--role", type=ROLE, metavar="ROLE", help="The role whose share it is run from."
        ),
        click.option(
            "-u",
            "--user",
            type=USER,
            metavar="USER",
            help="Run as this user of the agents; your key must name it.",
        ),
        click.option(
            "-E",
            "--env",
            type=ENV,
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Set a variable, or pass on your own; may be repeated.",
        ),
        click.option(
            "--env-base",
            type=click.Choice(BASES),
            default="default",
            show_default=True,
            help="What else of your environment a task gets, see above.",
        ),
        click.option(
            "-D",
            "--chdir",
            type=PATH,
            metavar="DIR",
            help="The working directory; it must exist on the agent.",
        ),
        click.option(
            "--sandbox",
            is_flag=True,
            help="Work in the task's own fresh directory instead of the present one.",
        ),
        click.option(
            "-o",
            "--stdout",
            type=PATH,
            metavar="FILE",
            help="Write stdout to this file of the agent, or nowhere (none).",
        ),
        click.option(
            "-e",
            "--stderr",
            type=PATH,
            metavar="FILE",
            help="Write stderr to this file of the agent, nowhere (none), or where stdout goes "
            "(merge).",
        ),
        click.option("--append", is_flag=True, help="Append to these files; do not empty them."),
        click.option(
            "--log-max",
            type=LOG_SIZE,
            metavar="SIZE",
            help="What each output of a task may occupy in its sandbox, if less than its agent "
            "allows (64M); its oldest part goes first.",
        ),
        click.option(
            "--wrap", metavar="LINE", help="Execute this line by the shell, instead of a command."
        ),
    )


def job_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command, which receives them as `job: JobOptions`.

    Its own option --stdin, if it has one, becomes a part of them.
    """

    @functools.wraps(function)
    def with_job(*args: Any, **rest: Any) -> Any:
        given = {name: rest.pop(name) for name in JobOptions.__slots__ if name in rest}
        given["role"] = given["role"] or "*"
        given["user"] = given["user"] or ""
        job = JobOptions(**given)
        job.check()
        return function(*args, job=job, **rest)

    decorated: Callable[..., Any] = with_job
    for option in reversed((*_limits(), *_surroundings())):
        decorated = option(decorated)
    return decorated
