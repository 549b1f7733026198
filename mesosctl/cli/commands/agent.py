"""`mesosctl agent`: the options of the agent's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, advertise_option, parent_option, pass_globals
from mesosctl.cli.params import DURATION, LISTEN, LOG_SIZE, NAME


@cli_command("agent")
@click.option("--name", type=NAME, metavar="HOST", help="The agent's name; the host's without it.")
@click.option(
    "--resources",
    default="",
    metavar="TEXT",
    help="What to offer, as in 'cpus:4;mem:8G'; what is not named is detected.",
)
@click.option(
    "--reserve",
    default="",
    metavar="TEXT",
    help="What to keep back for the host, as in 'cpus:1;mem:1G'.",
)
@click.option(
    "--attributes",
    default="",
    metavar="TEXT",
    help="What frameworks are told about the host, as in 'rack:r1;ssd:true'.",
)
@click.option(
    "--isolation",
    default="auto",
    show_default=True,
    metavar="LIST",
    help="How limits are enforced: auto, cgroups, posix, or single isolators and plug-ins with "
    "commas.",
)
@click.option(
    "--listen",
    type=LISTEN,
    default="tcp://127.0.0.1:0",
    show_default=True,
    metavar="ADDRESS",
    help="Where output of tasks is read; port 0 is any free one.",
)
@advertise_option
@click.option("--no-root-tasks", is_flag=True, help="Refuse tasks of root, whoever asks.")
@click.option(
    "--cgroup-root",
    type=NAME,
    default="mesosctl",
    show_default=True,
    metavar="NAME",
    help="The directory below each controller's mount that holds the tasks' cgroups.",
)
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where state and sandboxes are kept.",
)
@click.option(
    "--recover",
    type=click.Choice(("reconnect", "cleanup")),
    default="reconnect",
    show_default=True,
    help="Find the tasks of an earlier run again, or end them and exit; that needs no master.",
)
@click.option(
    "--log-keep",
    type=DURATION,
    default="7d",
    show_default=True,
    metavar="TIME",
    help="Remove sandboxes so long after their task's end, sooner when the disk fills up.",
)
@click.option(
    "--log-max",
    type=LOG_SIZE,
    default="64M",
    show_default=True,
    metavar="SIZE",
    help="What each output of a task may occupy in its sandbox; its oldest part goes first.",
)
@click.option("--check", is_flag=True, help="Print what the agent would offer, then exit.")
@click.option("--ends-tasks", is_flag=True, hidden=True, help="End tasks when it is stopped.")
@parent_option
@pass_globals
def command(found: Globals, /, **options: Any) -> int | None:
    """Run tasks on this host, under limits.

    The agent offers what the host has to the master's frameworks and runs their tasks, each in a
    sandbox of its own. Tasks outlive it: stop it, upgrade it, start it again, and it finds them.
    Beside a master of the same user it finds its way by itself; elsewhere give --key.
    """
    from mesosctl.runtime.agent_process import AgentSettings, run_agent

    master, key = found.master or "", found.key
    if not options["check"] and not (master and key):
        endpoint = found.locate()
        master, key = master or endpoint.master, key or endpoint.key_file
    return run_agent(
        AgentSettings(
            key=Path(key) if key else None,
            master=master,
            name=options["name"] or "",
            resources=options["resources"],
            reserve=options["reserve"],
            attributes=options["attributes"],
            isolation=options["isolation"],
            listen=options["listen"],
            advertise=options["advertise"] or "",
            root_tasks=not options["no_root_tasks"],
            cgroup_root=options["cgroup_root"],
            work_dir=options["work_dir"],
            recover=options["recover"],
            log_keep_s=options["log_keep"],
            log_max_bytes=options["log_max"],
            check=options["check"],
            ends_tasks=options["ends_tasks"],
            log_level="debug" if found.verbose else "info",
        )
    )
