"""The field tables of docs/protocol.md, made from the code: types and defaults, never meanings.

    python tools/protocol_tables.py            print every table
    python tools/protocol_tables.py --write    bring those of docs/protocol.md up to date

A section of the page is a heading of the third level that names a message kind or a structure; its
table begins with `| Field |`. What stands in the column of meanings is written by hand and kept.
Exits with 1 when a section is missing, or a field has no meaning yet. tests/docs holds the page to
the code with a reader of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from mesosctl.model.resources import Resources  # noqa: E402
from mesosctl.protocol.messages import KINDS  # noqa: E402

PAGE = ROOT / "docs" / "protocol.md"
HEAD = ("| Field | Type | Default | Meaning |", "|---|---|---|---|")
_WORDS = {str: "text", int: "integer", float: "number", bool: "boolean", bytes: "bytes"}
_HEADING = re.compile(r"^### (\S+)$")


def type_text(hint: typing.Any) -> str:
    """A type hint in the words of the page."""
    if hint in _WORDS:
        return _WORDS[hint]
    if hint is Resources:
        return "[resources](#resources-on-the-wire)"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if hasattr(hint, "__supertype__"):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", hint.__name__).lower()
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {type_text(arguments[0])}"
    if origin is tuple:
        return "list of exactly: " + ", ".join(type_text(argument) for argument in arguments)
    if origin is dict:
        return f"map from text to {type_text(arguments[1])}"
    if origin in (types.UnionType, typing.Union):
        [inner] = [argument for argument in arguments if argument is not type(None)]
        return f"{type_text(inner)} or nil"
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def default_text(field: dataclasses.Field[typing.Any]) -> str:
    """What an absent field stands for, or that it must be there."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case str():
            return f'`"{value}"`'
        case tuple() | dict():
            return f"`{json.dumps(value)}`"
        case Resources():
            return f"`{json.dumps(value.to_wire())}`"
        case int() | float():
            return str(value).removesuffix(".0")
        case _:
            raise TypeError(f"no words for the default {value!r}")


def rows(cls: type) -> list[tuple[str, str, str]]:
    """Name, type and default of every field, in order."""
    hints = typing.get_type_hints(cls)
    return [
        (field.name, type_text(hints[field.name]), default_text(field))
        for field in dataclasses.fields(cls)
    ]


def _inside(hint: typing.Any) -> Iterator[typing.Any]:
    arguments = typing.get_args(hint)
    if not arguments:
        yield hint
    for argument in arguments:
        yield from _inside(argument)


def structures() -> dict[str, type]:
    """The dataclasses that messages hold, by name, in the order of first use."""
    found: dict[str, type] = {}
    waiting: list[type] = list(KINDS.values())
    while waiting:
        for hint in typing.get_type_hints(waiting.pop(0)).values():
            for part in _inside(hint):
                if not (isinstance(part, type) and dataclasses.is_dataclass(part)):
                    continue
                if part.__name__ not in found:
                    found[part.__name__] = part
                    waiting.append(part)
    return found


def sections() -> dict[str, type]:
    """Every section that the page needs a field table in, by its heading."""
    return {**KINDS, **structures()}


def table(cls: type, meanings: dict[str, str]) -> list[str]:
    """The lines of a table; none for a class without fields."""
    made = [
        f"| `{name}` | {kind} | {default} | {meanings.get(name, '')} |"
        for name, kind, default in rows(cls)
    ]
    return [*HEAD, *made] if made else []


def rewritten(text: str) -> tuple[str, list[str]]:
    """The page with every table as the code says, and what is still missing in it."""
    wanted = sections()
    faults = []
    seen: dict[str, None] = {}
    out: list[str] = []
    lines = text.splitlines()
    position, current = 0, ""
    while position < len(lines):
        line = lines[position]
        position += 1
        if line.startswith("#"):
            heading = _HEADING.match(line)
            current = heading[1] if heading and heading[1] in wanted else ""
            seen[current] = None
        if not (current and line.startswith("| Field |")):
            out.append(line)
            continue
        meanings = {}
        while position < len(lines) and lines[position].startswith("|"):
            cells = [cell.strip() for cell in lines[position].strip().strip("|").split("|")]
            meanings[cells[0].strip("`")] = cells[-1]
            position += 1
        made = table(wanted[current], meanings)
        faults += [f"{current}: a row without a meaning: {row}" for row in made if "|  |" in row]
        out += made
        current = ""
    faults += [f"no section for {name}" for name in wanted if name not in seen]
    return "\n".join(out) + "\n", faults


def main() -> int:
    """Print or write the tables; the exit code."""
    parser = argparse.ArgumentParser(description="The field tables of docs/protocol.md.")
    parser.add_argument("--write", action="store_true", help="rewrite those of the page")
    if not parser.parse_args().write:
        for name, cls in sections().items():
            print("\n".join([f"### {name}", "", *(table(cls, {}) or ["No fields."]), ""]))
        return 0
    text, faults = rewritten(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
