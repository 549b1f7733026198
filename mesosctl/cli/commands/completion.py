"""`mesosctl completion SHELL`: the packaged completion script, printed or installed for this user.

The scripts are static (tools/completions.py writes them), so completing an option starts no Python.
The wheel puts them where the shells of a system-wide installation look; `--install` puts one where
the user's own shell does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.errors import NotFound, Refused

# The script's name in the source tree, and where below share/ and a user's home it belongs.
_SOURCE = {"bash": "mesosctl.bash", "zsh": "_mesosctl", "fish": "mesosctl.fish"}
_SHARED = {
    "bash": "bash-completion/completions/mesosctl",
    "zsh": "zsh/site-functions/_mesosctl",
    "fish": "fish/vendor_completions.d/mesosctl.fish",
}


@cli_command("completion")
@click.argument("shell", type=click.Choice(tuple(_SOURCE)))
@click.option("--install", is_flag=True, help="Write it where this user's shell finds it.")
@pass_globals
def command(found: Globals, shell: str, install: bool) -> None:
    """Print or install the completions of a shell.

    \b
    For this shell only:
      source <(mesosctl completion bash)
      mesosctl completion fish | source
    For good: add --install.
    """
    script = script_of(shell)
    if not install:
        found.console.out(script, end="")
        return
    target = target_of(shell)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(script, encoding="utf-8")
    except OSError as error:
        raise Refused(
            f"{target}: cannot be written: {error.strerror}",
            f"use `mesosctl completion {shell} > FILE`",
        ) from None
    found.console.out(str(target))
    if shell == "zsh":
        found.console.note(f"add this to ~/.zshrc, before compinit: fpath=({target.parent} $fpath)")
    else:
        found.console.note(f"start a new {shell} to use it")


def script_of(shell: str) -> str:
    """The packaged script. Raises NotFound when the installation has lost it."""
    tree = Path(__file__).resolve().parents[3] / "completions" / _SOURCE[shell]
    for path in (tree, Path(sys.prefix, "share", _SHARED[shell]), *_installed(shell)):
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            continue
    raise NotFound(f"the {shell} completions are not installed", "install mesosctl again")


def _installed(shell: str) -> list[Path]:
    """Where this installation says it put the script (pip's --user, --prefix and --target)."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        recorded = files("mesosctl") or []
    except PackageNotFoundError:
        return []
    return [Path(str(file.locate())) for file in recorded if str(file).endswith(_SHARED[shell])]


def target_of(shell: str) -> Path:
    """Where this user's shell looks for the script. Raises Refused without a home directory."""
    variable, below = ("XDG_CONFIG_HOME", ".config")
    if shell != "fish":
        variable, below = ("XDG_DATA_HOME", ".local/share")
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise Refused("there is no home directory", f"set HOME or {variable}")
        base = os.path.join(home, below)
    name = "fish/completions/mesosctl.fish" if shell == "fish" else _SHARED[shell]
    return Path(base, name)
