"""The command tree as the generators of man pages and completions see it.

Rules: every command is imported, so what is generated is what runs; a command whose module is
missing is an error unless the caller asks to leave it out. The order is that of the help.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
# The sources beside this file are meant, not a mesosctl that happens to be installed.
sys.path.insert(0, str(ROOT))

from mesosctl.cli.group import COMMANDS, root_group  # noqa: E402 - needs the path above
from mesosctl.cli.options import GLOBAL_OPTIONS  # noqa: E402 - needs the path above


@dataclass(frozen=True, slots=True)
class Node:
    """One command: its words after `mesosctl`, its one line, its own options and its verbs."""

    words: tuple[str, ...]
    summary: str
    command: click.Command
    ctx: click.Context
    verbs: tuple[Node, ...] = ()

    @property
    def name(self) -> str:
        """The name of its man page: mesosctl-config."""
        return "-".join(("mesosctl", *self.words[:1]))

    @property
    def options(self) -> list[click.Option]:
        """Its own options, not the global ones."""
        return [param for param in self.command.params if isinstance(param, click.Option)]

    @property
    def arguments(self) -> list[click.Argument]:
        """Its arguments, in order."""
        return [param for param in self.command.params if isinstance(param, click.Argument)]

    def walk(self) -> Iterator[Node]:
        """Itself and then its verbs."""
        yield self
        for verb in self.verbs:
            yield from verb.walk()


def exists(name: str) -> bool:
    """Whether the module of a command is there."""
    return importlib.util.find_spec(f"mesosctl.cli.commands.{name}") is not None


def nodes(skip_missing: bool = False) -> list[Node]:
    """All commands. Raises ModuleNotFoundError for one that is not there."""
    # What a help text says must not depend on who generates it.
    for variable in [name for name in os.environ if name.startswith("MESOSCTL_")]:
        del os.environ[variable]
    root = root_group()
    ctx = click.Context(root, info_name="mesosctl")
    found = []
    for name, entry in COMMANDS.items():
        if skip_missing and not exists(name):
            continue
        command = root.get_command(ctx, name)
        if command is None:
            raise ModuleNotFoundError(f"no command {name}")
        found.append(_node((name,), entry.help, command, ctx))
    return found


def _node(
    words: tuple[str, ...], summary: str, command: click.Command, parent: click.Context
) -> Node:
    ctx = click.Context(command, info_name=words[-1], parent=parent)
    verbs: list[Node] = []
    if isinstance(command, click.Group):
        for verb, inner in command.commands.items():
            first = (inner.help or "").strip().partition("\n")[0]
            verbs.append(_node((*words, verb), first, inner, ctx))
    return Node(words, summary, command, ctx, tuple(verbs))


def global_options() -> list[click.Option]:
    """The options that every command has."""
    return list(GLOBAL_OPTIONS)


def names_of(option: click.Option) -> list[str]:
    """All spellings of an option, the short ones first."""
    return sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))


def takes_value(option: click.Option) -> bool:
    """Whether a value follows the option."""
    return not (option.is_flag or option.count)


def metavar_of(param: click.Parameter, ctx: click.Context) -> str:
    """How the value of an option or argument is written."""
    if param.metavar:
        return param.metavar
    if isinstance(param, click.Argument):
        return (param.name or "").upper()
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    return param.type.name.upper()


def compare(files: dict[Path, str], stale: list[Path]) -> list[str]:
    """One line for each file that is not as it should be, or should not be."""
    faults = []
    for path, text in files.items():
        if not path.is_file():
            faults.append(f"{path.relative_to(ROOT)}: is not there")
        elif path.read_text(encoding="utf-8") != text:
            faults.append(f"{path.relative_to(ROOT)}: is not as the commands say")
    faults += [f"{path.relative_to(ROOT)}: belongs to no command" for path in stale]
    return faults


def write_or_check(files: dict[Path, str], stale: list[Path], check: bool) -> int:
    """Write the files and remove the stale ones, or only compare. Returns the exit code."""
    if check:
        faults = compare(files, stale)
        for fault in faults:
            print(fault)
        if faults:
            print("run `make man` to write them anew")
        return 1 if faults else 0
    for path in stale:
        path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0
