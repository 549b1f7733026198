"""`mesosctl keygen`: one key file to hand over, one line in the master's list."""

from __future__ import annotations

from pathlib import Path

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.cli.params import NAME, WORDS
from mesosctl.errors import Refused, UsageError

KINDS = ("agent", "framework", "client", "operator")


@cli_command("keygen")
@click.argument("name", type=NAME)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    required=True,
    help="What the holder may be: an agent, a framework, a client that submits, an operator.",
)
@click.option(
    "--users",
    type=WORDS,
    default="",
    metavar="U,...",
    help="The users whose tasks the holder may run; * for all but root. None without it.",
)
@click.option(
    "--roles",
    type=WORDS,
    default="*",
    metavar="R,...",
    help="The roles it may use; * for all.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Where NAME.key is written; the present directory without it.",
)
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The work directory of the master, if it was started with one.",
)
@pass_globals
def command(
    found: Globals,
    /,
    name: str,
    kind: str,
    users: tuple[str, ...],
    roles: tuple[str, ...],
    directory: Path,
    work_dir: Path | None,
) -> int | None:
    """Make a key file for an agent, framework, user or operator.

    Run it on the master's host as whoever runs the master. It writes NAME.key, which is all that
    the other host or user needs (copy it, keep its mode), and a line in authorized_keys.toml, which
    a running master reads by itself. Deleting that line revokes the key and ends its connections.
    """
    from mesosctl.model.cluster import Principal
    from mesosctl.runtime.master_process import AUTHORIZED
    from mesosctl.storage.keys import (
        KeyFile,
        append_authorized,
        load_key,
        make_keypair,
        save_key,
    )
    from mesosctl.storage.locations import private_dir, state_dir

    if kind != "agent" and not users:
        raise UsageError(
            f"a key of kind {kind} without --users may run nothing", "give --users NAME"
        )
    state = work_dir or state_dir("master")
    server = state / "server.key"
    if not server.exists():
        raise Refused(
            f"{state} is not the work directory of a master",
            "start the master once first, or give --work-dir",
        )
    private_dir(state)
    master = found.master or _master_address(found)
    if not directory.is_dir():
        raise UsageError(f"--dir {directory} is not a directory", "make it first")
    pair = make_keypair()
    path = directory / f"{name}.key"
    save_key(path, KeyFile(name, kind, pair, load_key(server).pair.public, master))
    try:
        append_authorized(state / AUTHORIZED, Principal(name, pair.public, (kind,), users, roles))
    except BaseException:
        # A key file that nobody lets in would only mislead.
        path.unlink()
        raise
    found.console.out(str(path))
    found.console.note(f"copy {path} to where it is used; the master at {master} lets it in")
    return None


def _master_address(found: Globals) -> str:
    """The address that goes into the file: that of the master which this user's commands find."""
    master = found.locate().master
    if any(wildcard in master for wildcard in ("//0.0.0.0:", "//[::]:", "//*:")):
        raise UsageError(
            f"the master listens on {master}, which is no address to connect to",
            "give --master tcp://HOST:PORT, or start the master with --advertise",
        )
    return master
