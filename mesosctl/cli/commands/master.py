"""`mesosctl master`: the options of the master's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, advertise_option, parent_option, pass_globals
from mesosctl.cli.params import DURATION, LISTEN, NAME, WORDS, ZK
from mesosctl.errors import UsageError


@cli_command("master")
@click.option(
    "--listen",
    type=LISTEN,
    default="tcp://127.0.0.1:5050",
    show_default=True,
    metavar="ADDRESS",
    help="Where agents, frameworks and commands connect to.",
)
@advertise_option
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the registry and the keys are kept.",
)
@click.option(
    "--cluster",
    type=NAME,
    default="default",
    show_default=True,
    metavar="NAME",
    help="The name of the cluster, and of the key file made for you.",
)
@click.option(
    "--allocator",
    default="drf",
    show_default=True,
    metavar="NAME",
    help="The allocation module: drf (fair shares), priority (strict), random (weighted lots), "
    "or MODULE:CLASS.",
)
@click.option(
    "--allocation-interval",
    type=DURATION,
    default="1s",
    show_default=True,
    metavar="TIME",
    help="The longest time between two full allocation rounds.",
)
@click.option(
    "--offer-timeout",
    type=DURATION,
    default="30s",
    show_default=True,
    metavar="TIME",
    help="Rescind offers that nobody answered for so long.",
)
@click.option(
    "--agent-timeout",
    type=DURATION,
    default="15s",
    show_default=True,
    metavar="TIME",
    help="Call an agent unreachable after so long without a sign of life.",
)
@click.option(
    "--weights",
    type=WORDS,
    default="",
    metavar="ROLE=W,...",
    help="Weights of roles, as in web=2,db=1; 1 for all others.",
)
@click.option(
    "--priorities",
    type=WORDS,
    default="",
    metavar="ROLE=N,...",
    help="Priorities of roles for the allocation module priority; 0 for all others.",
)
@click.option(
    "--preemption",
    is_flag=True,
    help="End preemptible tasks for roles below their guarantee and for higher priorities.",
)
@click.option(
    "--zk",
    type=ZK,
    metavar="URL",
    help="Be one of several masters: leadership and registry are at zk://HOST,HOST/PATH.",
)
@click.option(
    "--no-framework", is_flag=True, help="Start no batch framework; somebody else runs one."
)
@click.option(
    "--log-keep",
    type=DURATION,
    metavar="TIME",
    help="Have the batch framework keep the details of ended jobs for so long; 7d without it.",
)
@click.option("--quiet-start", is_flag=True, hidden=True, help="Do not write local.json.")
@parent_option
@click.option("--check", is_flag=True, help="Check options and configuration, then exit.")
@pass_globals
def command(found: Globals, /, check: bool, no_framework: bool, **options: Any) -> int | None:
    """Offer the agents' resources to frameworks.

    The first start makes a key for you, and your commands on this host find it by themselves.
    Everybody else is let in with `mesosctl keygen`. A batch framework is started with it, so that
    `mesosctl submit` works at once.

    With --preemption tasks that were submitted as --preemptible give way: the fewest and youngest
    whose end lets a waiting task start, with their grace, and only if it then fits. They are run
    again later. A framework's own tasks give way to those of a higher `submit --priority`, those of
    others to roles below their guarantee (`mesosctl quota`), and with --allocator priority to roles
    of a higher priority; no role is brought below its guarantee.

    With --zk several masters share a cluster: one leads, and another takes over when it is gone.
    They need the same keys, and the batch framework is then started on its own.
    """
    from mesosctl.plugins.allocators import make_allocator
    from mesosctl.runtime.master_process import MasterOptions, run_master
    from mesosctl.runtime.zookeeper import require_kazoo

    chosen = MasterOptions(
        listen=options["listen"],
        advertise=options["advertise"] or "",
        work_dir=options["work_dir"],
        cluster=options["cluster"],
        allocator=options["allocator"],
        allocation_interval_s=options["allocation_interval"],
        offer_timeout_s=options["offer_timeout"],
        agent_timeout_s=options["agent_timeout"],
        with_framework=not no_framework,
        announce=not options["quiet_start"],
        zk=options["zk"],
        log_keep_s=options["log_keep"],
        roles=_roles(options["weights"], options["priorities"]),
        preemption=options["preemption"],
    )
    make_allocator(chosen.allocator)
    if chosen.zk is not None:
        require_kazoo()
    if check:
        found.console.note("the options and the configuration are in order")
        return 0
    return run_master(chosen)


def _roles(weights: tuple[str, ...], priorities: tuple[str, ...]) -> dict[str, Any]:
    """Settings of roles from `web=2` and the like. Raises UsageError for what cannot be meant."""
    from mesosctl.core.master import RoleSettings

    weight_of = dict(_assignment(word, "--weights", "web=2.5") for word in weights)
    priority_of = dict(_assignment(word, "--priorities", "web=10") for word in priorities)
    roles = {}
    for role in (*weight_of, *priority_of):
        weight, priority = weight_of.get(role, 1.0), priority_of.get(role, 0.0)
        if not 0.001 <= weight <= 1e6:
            raise UsageError(f"--weights {role}={weight:g}: not a weight", "give 0.001 to 1000000")
        if priority != int(priority):
            raise UsageError(f"--priorities {role}={priority:g}", "give a whole number")
        roles[role] = RoleSettings(round(weight * 1000), int(priority))
    return roles


def _assignment(word: str, option: str, example: str) -> tuple[str, float]:
    from mesosctl.model.ids import is_role

    role, _, text = word.partition("=")
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not is_role(role) or not -1e6 <= number <= 1e6:
        raise UsageError(f"{option} {word}: not ROLE=NUMBER", f"write {example}")
    return role, number
