"""Changing one value of a configuration file, so that everything else stays as its owner wrote it.

Rules: only lines are replaced or added; comments and order survive. The outcome is read again and
has to hold exactly the old values and the new one, otherwise nothing is written. The file is
replaced as a whole, so that no reader ever sees half of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mesosctl.cli.settings import parse, read_text
from mesosctl.errors import Refused

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: Any) -> str:
    """A text, number, truth value or list of them in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return '"' + "".join(_toml_char(char) for char in value) + '"'
    return repr(value)


def _toml_char(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def typed_value(text: str) -> Any:
    """What a word of the command line means in the file: 2, true, ["a"]; anything else is text."""
    import tomllib

    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    value = table["value"]
    # A second line would be a second setting, and a date or a table is none of ours.
    is_one = len(table) == 1 and isinstance(value, bool | int | float | str | list)
    return value if is_one else text


def set_value(path: Path, words: list[str], value: Any) -> None:
    """Set one value (`words` are its dotted name) in the file. Raises Refused, UsageError."""
    path = Path(os.path.realpath(path))
    old = read_text(path)
    wanted = parse(path, old)
    table = wanted
    for word in words[:-1]:
        table = table.setdefault(word, {})
        if not isinstance(table, dict):
            raise _by_hand(path)
    table[words[-1]] = value
    new = edited(old, words, value)
    if new is None or parse_quietly(new) != wanted:
        raise _by_hand(path)
    write_file(path, new)


def _by_hand(path: Path) -> Refused:
    return Refused(f"{path} is written in a way that cannot be changed safely", "edit it by hand")


def parse_quietly(text: str) -> dict[str, Any] | None:
    """The TOML of `text`, or None."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def edited(text: str, words: list[str], value: Any) -> str | None:
    """`text` with the value set, or None where there is no single line for it."""
    if not all(_BARE_KEY.fullmatch(word) for word in words):
        return None
    lines = text.splitlines()
    header, key = ".".join(words[:-1]), words[-1]
    start, end = _section(lines, header)
    line = f"{key} = {toml_value(value)}"
    if start is None:
        lines += [*([""] if lines and lines[-1].strip() else []), f"[{header}]", line]
        return "\n".join(lines) + "\n"
    assignment = re.compile(rf"\s*{re.escape(key)}\s*=")
    for place in range(start, end):
        if assignment.match(lines[place]):
            lines[place] = line + _comment(lines[place])
            return "\n".join(lines) + "\n"
    while end > start and not lines[end - 1].strip():
        end -= 1
    if not header and end < len(lines) and lines[end].strip():
        line += "\n"
    lines.insert(end, line)
    return "\n".join(lines) + "\n"


def _section(lines: list[str], header: str) -> tuple[int | None, int]:
    """The lines of a table: the first after its header, and the one after its last. "" is the top.

    The first is None when there is no such table.
    """
    start: int | None = None if header else 0
    for place, line in enumerate(lines):
        if not line.lstrip().startswith("["):
            continue
        match = _HEADER.fullmatch(line)
        if start is not None:
            return start, place
        if match and match[1].replace(" ", "") == header:
            start = place + 1
    return start, len(lines)


def _comment(line: str) -> str:
    """The comment at the end of an assignment, with the blanks before it, or ""."""
    for place, char in enumerate(line):
        # The first # before which the line is whole; an earlier one stands in a text.
        if char == "#" and parse_quietly(line[:place]):
            before = line[:place]
            return before[len(before.rstrip()) :] + line[place:]
    return ""


def write_file(path: Path, text: str) -> None:
    """Replace a file at once and durably, keeping its mode (new: 0600). Raises Refused."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                os.fchmod(descriptor, mode)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(
            f"{path}: cannot be written: {error.strerror}", "name another file with --config"
        ) from None
