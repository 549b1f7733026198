"""Configuration files and contexts, and the answer to: where is the master, which key opens it?

    current-context = "prod"
    [context.prod]
    master = "tcp://10.0.0.1:5050"
    key = "prod.key"                    (relative to the file)
    [master] [agent] [framework] [submit]   defaults for the options of these commands

Rules: /etc/mesosctl/config.toml is read first, then the user's file, whose values win; --config and
MESOSCTL_CONFIG name one file that replaces both. The command line wins over the environment, the
environment over every file. A file that cannot be meant is an error that names it and the line; a
key that nobody knows is a warning with the nearest known one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.group import TABLES, nearest
from mesosctl.cli.params import parse_masters, shown
from mesosctl.errors import MesosctlError, NotFound, Unreachable, UsageError
from mesosctl.model.records import dataclass

if TYPE_CHECKING:
    from mesosctl.cli.options import Globals

FILE_NAME = "config.toml"
FILE_BYTES_MAX = 1024 * 1024
RUNTIME_BYTES_MAX = 64 * 1024
SYSTEM_DIR = Path("/etc/mesosctl")
CURRENT = "current-context"
CONTEXT_KEYS = ("master", "key")
_REPAIR = "correct the file, or name another with --config"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a file: its dotted name, the value, and the file it stands in."""

    name: str
    value: Any
    file: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """All files together: values by dotted name (`submit.cpus`), the later file's winning."""

    files: tuple[Path, ...] = ()
    values: Mapping[str, Setting] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def table(self, name: str) -> dict[str, Setting]:
        """The settings of one table by their last word."""
        prefix = f"{name}."
        return {
            key.removeprefix(prefix): setting
            for key, setting in self.values.items()
            if key.startswith(prefix)
        }

    @property
    def contexts(self) -> list[str]:
        """The names of all contexts, sorted."""
        names = {key.split(".")[1]: None for key in self.values if key.startswith("context.")}
        return sorted(names)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the master listens (tcp://HOST:PORT, several separated by commas), and the key file.

    `source` says in a few words who named the master.
    """

    master: str
    key_file: str
    source: str = ""


# --- files ----------------------------------------------------------------------------------------


def user_file() -> Path:
    """The configuration file of this user (root: of the system). It need not exist."""
    from mesosctl.storage.locations import config_dir

    return config_dir() / FILE_NAME


def load(named: str | None) -> Settings:
    """Read the file that was named, which must exist, or else those that do. Raises UsageError."""
    if named is not None:
        return combine([read_file(Path(named).expanduser(), must_exist=True)])
    paths = dict.fromkeys((SYSTEM_DIR / FILE_NAME, user_file()))
    return combine([read_file(path) for path in paths])


def read_file(path: Path, must_exist: bool = False) -> list[Setting]:
    """The settings of one file, checked. Raises UsageError. Missing is empty if it may be."""
    text = read_text(path, must_exist)
    return list(_settings_of(path, parse(path, text)))


def read_text(path: Path, must_exist: bool = False) -> str:
    """The text of a configuration file; "" for one that need not exist. Raises UsageError."""
    try:
        # A FIFO in the place of the file must not make every command hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise UsageError(f"{path}: there is no such file", _REPAIR) from None
        return ""
    except PermissionError:
        if must_exist or path.parent != SYSTEM_DIR:
            raise UsageError(f"{path}: you may not read it", _REPAIR) from None
        return ""
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {_why(error)}", _REPAIR) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and str(path) != os.devnull:
        os.close(descriptor)
        what = "is a directory" if stat.S_ISDIR(mode) else "is not a regular file"
        raise UsageError(f"{path} {what}", _REPAIR)
    with open(descriptor, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path} is larger than 1 MiB", _REPAIR)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}: line {line} is not UTF-8", _REPAIR) from None


def parse(path: Path, text: str) -> dict[str, Any]:
    """The TOML of `text`. Raises UsageError, which names the line."""
    if not text.strip(" \t\n"):
        # Most have no such file, and what reads TOML takes a while to load.
        return {}
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: invalid TOML: {error}", _REPAIR) from None
    except RecursionError:
        raise UsageError(f"{path}: invalid TOML: nested too deeply", _REPAIR) from None


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _settings_of(path: Path, table: Mapping[str, Any]) -> Iterator[Setting]:
    """Every value of a file by dotted name. Raises UsageError for what has a wrong type."""
    for name, value in table.items():
        if name == "context":
            if not isinstance(value, dict):
                raise _wrong(path, name, "a table: write [context.NAME]")
            for context, content in value.items():
                if "." in context or not context or not context.isprintable():
                    raise _wrong(path, name, f"without the name {shown(context)}: use a-z 0-9 - _")
                if not isinstance(content, dict):
                    raise _wrong(path, f"context.{context}", "a table")
                for key, text in content.items():
                    if not isinstance(text, str):
                        raise _wrong(path, f"context.{context}.{key}", "a text in quotes")
                    yield Setting(f"context.{context}.{key}", text, path)
        elif name == CURRENT:
            if not isinstance(value, str):
                raise _wrong(path, name, "a text in quotes")
            yield Setting(name, value, path)
        elif name in TABLES:
            if not isinstance(value, dict):
                raise _wrong(path, name, f"a table: write [{name}]")
            for key, content in value.items():
                if not _is_plain(content):
                    raise _wrong(path, f"{name}.{key}", "a text, number, true, false or a list")
                yield Setting(f"{name}.{key}", content, path)
        else:
            yield Setting(name, value, path)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float)


def _wrong(path: Path, name: str, wanted: str) -> UsageError:
    return UsageError(f"{path}: {name} has to be {wanted}", _REPAIR)


def combine(files: list[list[Setting]]) -> Settings:
    """Settings of several files, later ones winning, with warnings about unknown names."""
    values = {setting.name: setting for settings in files for setting in settings}
    paths = dict.fromkeys(setting.file for settings in files for setting in settings)
    warnings = []
    for setting in values.values():
        words = setting.name.split(".")
        if words[0] == "context" and words[2] not in CONTEXT_KEYS:
            warnings.append(unknown(setting, words[2], CONTEXT_KEYS))
        elif words[0] not in ("context", CURRENT, *TABLES):
            warnings.append(unknown(setting, words[0], (CURRENT, "context", *TABLES)))
    return Settings(tuple(paths), values, tuple(warnings))


def unknown(setting: Setting, word: str, known: tuple[str, ...]) -> str:
    """A warning about a name that means nothing here."""
    guess = nearest(word, known)
    tip = f"did you mean {guess}?" if guess else f"known are {', '.join(known)}"
    return f"{setting.file}: {setting.name} is not known; {tip}"


# --- defaults of commands -------------------------------------------------------------------------


def options_by_name(command: click.Command) -> dict[str, click.Option]:
    """The options that a command's table may hold, by their long names without dashes."""
    from mesosctl.cli.options import GLOBAL_OPTIONS

    shared = [option for option in GLOBAL_OPTIONS if option.name in CONTEXT_KEYS]
    own = [param for param in command.params if isinstance(param, click.Option)]
    return {
        name.removeprefix("--"): option
        for option in (*shared, *own)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }


def defaults_for(command: click.Command, settings: Settings, warnings: list[str]) -> dict[str, Any]:
    """Defaults of a command from its table, by parameter; unknown keys are added to `warnings`."""
    table = settings.table(command.name or "")
    known = options_by_name(command) if table else {}
    defaults: dict[str, Any] = {}
    for key, setting in table.items():
        option = known.get(key.replace("_", "-"))
        if option is None or option.name is None:
            warnings.append(unknown(setting, key, tuple(known)))
            continue
        value = setting.value
        if isinstance(value, list) and not (option.multiple or option.nargs != 1):
            raise _wrong(setting.file, setting.name, "one value, not a list")
        if option.multiple and not isinstance(value, list):
            value = [value]
        if option.is_flag and not option.count and not isinstance(value, bool):
            raise _wrong(setting.file, setting.name, "true or false")
        if option.name == "key":
            value = str(setting.file.parent / Path(value).expanduser())
        defaults[option.name] = value
    return defaults


# --- the master -----------------------------------------------------------------------------------


def locate(found: Globals) -> Endpoint:
    """Where the master is: option, environment, context, or the one started on this host.

    A key file names its master, so --key alone is enough. Raises Unreachable when nobody knows.
    """
    master, key, source = found.named("master"), found.named("key"), "--master"
    if key and not master:
        master, source = _master_of(key), f"key file {key}"
    if not (master and key):
        context = _context(found)
        # A context's key is for the context's master, not for one that was named by hand.
        if context is not None and (not master or not context.master or master == context.master):
            source = source if master else context.source
            master, key = master or context.master, key or context.key_file
    if key and not master:
        master, source = _master_of(key), f"key file {key}"
        if not master:
            raise Unreachable(f"{key} does not say where its master is", "give --master")
    if not (master and key):
        local = runtime_endpoint()
        if local is not None and (not master or master == local.master):
            source = source if master else local.source
            master, key = master or local.master, key or local.key_file
    if not master:
        raise Unreachable(
            "no master is known", "start one with `mesosctl master`, or give --master"
        )
    if not key:
        raise Unreachable(f"no key is known for the master at {master}", "give --key FILE")
    return Endpoint(master, key, source)


def _master_of(key_file: str) -> str:
    from mesosctl.storage.keys import load_key

    return load_key(Path(key_file)).master


def _context(found: Globals) -> Endpoint | None:
    """The context that was named, or the current one. Raises NotFound, UsageError."""
    settings = found.settings
    current = settings.values.get(CURRENT)
    name = found.context or (current.value if current is not None else "")
    if not name:
        return None
    table = settings.table(f"context.{name}")
    if not table:
        names = settings.contexts
        guess = nearest(name, names)
        known = (
            f"there are {', '.join(names)}" if names else "there is none, see man mesosctl-config"
        )
        raise NotFound(f"no context {shown(name)}", f"did you mean {guess}?" if guess else known)
    master = key = ""
    if "master" in table:
        try:
            master = parse_masters(table["master"].value)
        except UsageError as error:
            file = table["master"].file
            raise UsageError(
                f"{file}: context.{name}.master: {error.message}", error.hint
            ) from None
    if "key" in table:
        key = str(table["key"].file.parent / Path(table["key"].value).expanduser())
    return Endpoint(master, key, f"context {name}")


def runtime_endpoint() -> Endpoint | None:
    """The master that the same user started on this host (`local.json`), or None."""
    import json

    from mesosctl.storage.locations import runtime_dir

    try:
        path = runtime_dir() / "local.json"
        with open(path, encoding="utf-8") as file:
            content = json.loads(file.read(RUNTIME_BYTES_MAX))
        master, key = content["master"], content["key"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, MesosctlError):
        # Absent, half written, or in a directory that is not ours: then it tells nothing.
        return None
    if not isinstance(master, str) or not isinstance(key, str):
        return None
    try:
        return Endpoint(parse_masters(master), key, str(path))
    except UsageError:
        return None
