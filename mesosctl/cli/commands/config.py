"""`mesosctl config`: show, check and change the configuration (see settings.py).

Rules: `set` and `use` change one line of one file and keep the rest; a value that the command would
refuse is refused here already, before it is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mesosctl.cli import configfile, settings
from mesosctl.cli.group import ENVIRONMENT_PREFIX, TABLES, Command, Verbs, nearest, root_group
from mesosctl.cli.options import Globals, Output, json_option, output_options, pass_globals
from mesosctl.cli.output import Column, Listing, escaped
from mesosctl.cli.params import parse_masters, shown
from mesosctl.errors import MesosctlError, NotFound, UsageError


@click.group("config", cls=Verbs)
def command() -> None:
    """Show and change the configuration.

    Values have dotted names: submit.cpus, context.prod.master, current-context.
    """


def _target(found: Globals) -> Path:
    """The file that `set` and `use` change."""
    return Path(found.config).expanduser() if found.config else settings.user_file()


@command.command("show", cls=Command)
@click.option("--sources", is_flag=True, help="Say where each value comes from.")
@json_option
@pass_globals
def show(found: Globals, sources: bool, as_json: bool) -> None:
    """Show what is set, in files and in the environment.

    The environment wins over files, and the command line over both.
    """
    rows = _in_force(found)
    found.show_warnings()
    if as_json:
        items = [{"name": n, "value": v, "source": s} for n, (v, s) in rows.items()]
        found.console.json("config", items)
        return
    for name, (value, source) in rows.items():
        line = escaped(f"{name} = {configfile.toml_value(value)}")
        found.console.out(f"{line}  # {escaped(source)}" if sources else line)


def _in_force(found: Globals) -> dict[str, tuple[Any, str]]:
    rows = {name: (entry.value, str(entry.file)) for name, entry in found.settings.values.items()}
    prefix = f"{ENVIRONMENT_PREFIX}_"
    for variable in sorted(os.environ):
        if variable.startswith(prefix) and os.environ[variable]:
            rows[variable] = (os.environ[variable], "environment")
    return rows


@command.command("path", cls=Command)
@pass_globals
def path(found: Globals) -> None:
    """Print the path of the file that `set` changes."""
    found.console.out(escaped(str(_target(found))))


@command.command("get", cls=Command)
@click.argument("name")
@pass_globals
def get(found: Globals, name: str) -> None:
    """Print one value."""
    values = found.settings.values
    if name not in values:
        guess = nearest(name, values)
        raise NotFound(
            f"{shown(name)} is not set", f"did you mean {guess}?" if guess else "see config show"
        )
    value = values[name].value
    text = value if isinstance(value, str) else configfile.toml_value(value)
    found.console.out(escaped(text))


@command.command("set", cls=Command)
@click.argument("name")
@click.argument("value")
@pass_globals
def set_(found: Globals, name: str, value: str) -> None:
    """Set one value in the file.

    Numbers, true, false and ["lists"] are taken as in TOML, everything else as text.
    """
    words = name.split(".")
    typed = _checked(found, words, value)
    target = _target(found)
    configfile.set_value(target, words, typed)
    found.console.note(f"{target}: {name} = {configfile.toml_value(typed)}")


def _checked(found: Globals, words: list[str], text: str) -> Any:
    """The value as it will stand in the file. Raises UsageError when it cannot be meant."""
    match words:
        case [settings.CURRENT]:
            _known_context(found, text)
            return text
        case ["context", context, "master"] if context:
            return parse_masters(text)
        case ["context", context, "key"] if context:
            # In the file a relative path starts at the file; typed, it starts where one is.
            return os.path.abspath(os.path.expanduser(text))
        case [table, key] if table in TABLES:
            typed = configfile.typed_value(text)
            problems = _problems_of(table, {key: typed}, _target(found))
            if problems:
                raise UsageError(problems[0])
            return typed
        case _:
            raise UsageError(
                f"{shown('.'.join(words))} is not a setting",
                "write current-context, context.NAME.master, context.NAME.key or COMMAND.OPTION "
                f"(of {', '.join(TABLES)})",
            )


def _known_context(found: Globals, name: str) -> None:
    names = found.settings.contexts
    if name not in names:
        guess = nearest(name, names)
        tip = f"did you mean {guess}?" if guess else f"set context.{escaped(name)}.master first"
        raise NotFound(f"no context {shown(name)}", tip)


@command.command("use", cls=Command)
@click.argument("context", metavar="CONTEXT")
@pass_globals
def use(found: Globals, context: str) -> None:
    """Make a context the current one."""
    _known_context(found, context)
    configfile.set_value(_target(found), [settings.CURRENT], context)
    found.console.note(f"{_target(found)}: {settings.CURRENT} = {context}")


_CONTEXTS = (
    Column("name", "name"),
    Column("current", "current", kind="bool"),
    Column("master", "master"),
    Column("key", "key"),
    Column("file", "file", wide=True),
)


@command.command("contexts", cls=Command)
@output_options
@pass_globals
def contexts(found: Globals, output: Output) -> None:
    """List the contexts."""
    known = found.settings
    found.show_warnings()
    current = found.context or getattr(known.values.get(settings.CURRENT), "value", None)
    rows = []
    for name in known.contexts:
        table = known.table(f"context.{name}")
        row = {key: table[key].value if key in table else None for key in settings.CONTEXT_KEYS}
        file = str(next(iter(table.values())).file)
        rows.append({"name": name, "current": name == current, "file": file, **row})
    Listing("contexts", _CONTEXTS, rows).print(found.console, output)


@command.command("check", cls=Command)
@pass_globals
def check(found: Globals) -> int:
    """Check the files: names, values, and that the contexts are whole.

    Prints one line for each fault and exits with 1 if there is one.
    """
    known = found.settings
    problems = list(known.warnings)
    found.warnings.clear()
    for table in TABLES:
        for setting in known.table(table).values():
            key = setting.name.partition(".")[2]
            problems += _problems_of(table, {key: setting.value}, setting.file)
    for name in known.contexts:
        entries = known.table(f"context.{name}")
        if not any(key in entries for key in settings.CONTEXT_KEYS):
            problems.append(f"context {name} has neither master nor key")
        elif "master" in entries:
            try:
                parse_masters(entries["master"].value)
            except UsageError as error:
                problems.append(f"{entries['master'].file}: context.{name}.master: {error}")
    current = known.values.get(settings.CURRENT)
    if current is not None and current.value not in known.contexts:
        problems.append(f"{current.file}: {settings.CURRENT}: no context {shown(current.value)}")
    for problem in problems:
        found.console.out(escaped(problem))
    if not problems:
        found.console.note(f"{len(known.values)} settings, no fault")
    return 1 if problems else 0


def _problems_of(table: str, values: dict[str, Any], file: Path) -> list[str]:
    """What is wrong with values of a command's table, as that command itself would see it."""
    root = root_group()
    ctx = click.Context(root, info_name="mesosctl")
    named = root.get_command(ctx, table)
    if named is None:
        return [f"{file}: no command {table}"]
    entries = {
        f"{table}.{key}": settings.Setting(f"{table}.{key}", value, file)
        for key, value in values.items()
    }
    warnings: list[str] = []
    try:
        defaults = settings.defaults_for(named, settings.Settings((file,), entries), warnings)
    except MesosctlError as error:
        return [str(error)]
    inner = click.Context(named, info_name=table, parent=ctx)
    for option in settings.options_by_name(named).values():
        if option.name in defaults:
            try:
                option.type_cast_value(inner, defaults.pop(option.name))
            except click.BadParameter as error:
                warnings.append(f"{file}: {table}.{option.name}: {error.message}")
    return warnings
