"""`mesosctl volume`: directories of agents that outlive the tasks of their role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.group import Command, Verbs
from mesosctl.cli.jobvalues import AGENT, ROLE, VOLUME_ID
from mesosctl.cli.options import Globals, Output, json_option, output_options, pass_globals
from mesosctl.cli.output import Column, Listing
from mesosctl.cli.params import Parsed
from mesosctl.errors import UsageError

if TYPE_CHECKING:
    from mesosctl.protocol.messages.base import Message
    from mesosctl.protocol.messages.volumes import VolumeView

COLUMNS = (
    Column("id", "id"),
    Column("role", "role"),
    Column("agent", "agent"),
    Column("disk", "disk", kind="size"),
    Column("state", "state"),
    Column("task", "task"),
    Column("framework", "framework", wide=True),
    Column("agent_id", "agent id", wide=True),
)


@click.group("volume", cls=Verbs)
def command() -> None:
    """Keep data of a role on an agent, beyond its tasks.

    A volume is a directory, made of disk that is reserved to its role. It is offered to that role
    and to those below it alone, and used by one task at a time, such as `mesosctl submit --volume`
    starts; what is in it is there for the next one, until the volume is destroyed.
    """


def parse_disk(text: str) -> int:
    """Thousandths of a MiB, from `disk:1G`. Raises UsageError."""
    from mesosctl.model.resources import Resources

    found = dict(Resources.parse(text).items())
    amount = found.pop("disk", None)
    if found or not isinstance(amount, int):
        raise UsageError(f"{text[:40]} is no size of a volume", "write disk:1G")
    return amount


@command.command("create", cls=Command)
@click.argument("agent", type=AGENT, metavar="AGENT")
@click.argument("volume_id", type=VOLUME_ID, metavar="ID")
@click.argument("disk", type=Parsed("SIZE", parse_disk), metavar="disk:SIZE")
@click.option("-R", "--role", type=ROLE, required=True, metavar="ROLE", help="Whose it is.")
@json_option
@pass_globals
def create(
    found: Globals, /, agent: str, volume_id: str, disk: int, role: str, as_json: bool
) -> None:
    """Make a volume on an agent.

    Its disk is taken out of what is reserved to ROLE there, by `mesosctl reserve` or by the agent's
    --resources; so much it stands for, and nothing ends a task that writes more. ID is a word
    of letters, digits, - and _ that ROLE, the roles above it and those below it do not use on that
    agent. Offers in the way are taken back; what tasks hold is not.

    It is answered when the agent has made it and has that on its disk.
    """
    from mesosctl.model.volumes import Volume
    from mesosctl.protocol.messages.volumes import CreateVolume
    from mesosctl.runtime.ids import new_id

    message = CreateVolume(new_id(), agent, Volume(volume_id, role, disk))
    _change(found, message, as_json, f"volume {volume_id} of role {role} is made")


@command.command("destroy", cls=Command)
@click.argument("agent", type=AGENT, metavar="AGENT")
@click.argument("volume_id", type=VOLUME_ID, metavar="ID")
@click.option("-R", "--role", type=ROLE, required=True, metavar="ROLE", help="Whose it is.")
@json_option
@pass_globals
def destroy(found: Globals, /, agent: str, volume_id: str, role: str, as_json: bool) -> None:
    """Remove a volume with all that is in it.

    A task that uses it is not ended: it is refused until that has ended. Its disk is reserved to
    ROLE as before. It is answered when nothing of the data is left.
    """
    from mesosctl.protocol.messages.volumes import DestroyVolume
    from mesosctl.runtime.ids import new_id

    message = DestroyVolume(new_id(), agent, role, volume_id)
    _change(found, message, as_json, f"volume {volume_id} of role {role} and its data are gone")


@command.command("list", cls=Command)
@click.argument("agents", nargs=-1, metavar="[AGENT...]")
@output_options
@pass_globals
def list_volumes(found: Globals, /, agents: tuple[str, ...], output: Output) -> None:
    """List volumes, those of agents that are away included.

    `ready`, with the task that uses it; `making` and `removing` until their agent has done it;
    `lost` when the agent is there and the data are not: unless their disk returns, only `destroy`
    is left.
    """
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.volumes import ListVolumes, Volumes

    with Cluster(found) as cluster:
        views = cluster.ask_master(ListVolumes(agents), Volumes).volumes
    Listing("volumes", COLUMNS, [_row(view) for view in views]).print(found.console, output)


def _change(found: Globals, message: Message, as_json: bool, done: str) -> None:
    from mesosctl.cli.ask import Cluster
    from mesosctl.protocol.messages.volumes import Volumes

    with Cluster(found) as cluster:
        views = cluster.ask_master(message, Volumes).volumes
    if as_json:
        listing = Listing("volumes", COLUMNS, [_row(view) for view in views])
        found.console.json("volumes", listing.items())
    else:
        found.console.note(done)


def _row(view: VolumeView) -> dict[str, Any]:
    return {
        "id": view.volume.volume_id,
        "role": view.volume.role,
        "agent": view.agent_name,
        "disk": view.volume.disk_milli * 1024**2 // 1000,
        "state": view.state,
        "task": view.task,
        "framework": view.framework,
        "agent_id": view.agent_id,
    }
