"""docs/protocol.md says what the code does: frames, fields, limits, states, who may send what.

The page is read here by a small reader of its own, so that a fault of tools/protocol_tables.py,
which writes the columns of types and defaults, is not repeated by its test.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import types
import typing
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest

from mesosctl import limits
from mesosctl.core.master.machine import DISPATCH
from mesosctl.model.jobs import BatchState, seen_as
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TERMINAL, TRANSITIONS, Reason, TaskState
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import PROTOCOL, PROTOCOL_VERSION, Envelope
from mesosctl.protocol.messages import KINDS
from mesosctl.protocol.messages.session import Ping
from mesosctl.protocol.schema import from_plain, to_plain

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
OF_EVERY_SESSION = ("ping", "pong", "reset", "bye", "refusal")
SIMPLE = {"text": str, "integer": int, "number": float, "boolean": bool, "bytes": bytes}

Row = list[str]


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def sections(text: str, level: int = 3) -> dict[str, str]:
    """The text below each heading of this level, up to the next heading of it or above."""
    mark = "#" * level
    pattern = rf"^{mark} (.+?)\n(.*?)(?=^#{{1,{level}}} |\Z)"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "a heading occurs twice"
    return dict(found)


def cells(line: str) -> Row:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[list[Row]]:
    """Every table in the text: its rows with the heading first, without the line of dashes."""
    groups: list[list[Row]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            groups.append([])
        elif not re.fullmatch(r"[|\-: ]+", line):
            groups[-1].append(cells(line))
    return [group for group in groups if group]


def table(text: str, *heading: str) -> list[Row]:
    """The rows of the one table with this heading."""
    [found] = [rows[1:] for rows in tables(text) if rows[0] == list(heading)]
    return found


def plain(cell: str) -> str:
    return cell.strip("`")


# --- what the code says ---------------------------------------------------------------------------
def parts(hint: object) -> list[object]:
    inner = typing.get_args(hint)
    return [part for argument in inner for part in parts(argument)] if inner else [hint]


def structures() -> dict[str, type]:
    """Every dataclass below a message."""
    found: dict[str, type] = {}
    waiting = list(KINDS.values())
    while waiting:
        for hint in typing.get_type_hints(waiting.pop()).values():
            for part in parts(hint):
                if dataclasses.is_dataclass(part) and isinstance(part, type):
                    if part.__name__ not in found:
                        waiting.append(part)
                    found[part.__name__] = part
    return found


def fits(words: str, hint: object) -> bool:
    """Whether the words of the page describe this type hint."""
    link = re.fullmatch(r"\[(\w+)\]\(#([\w-]+)\)", words)
    arguments, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        [inner] = [argument for argument in arguments if argument is not type(None)]
        return words.endswith(" or nil") and fits(words.removesuffix(" or nil"), inner)
    if origin is tuple and arguments[-1] is Ellipsis:
        return words.startswith("list of ") and fits(words.removeprefix("list of "), arguments[0])
    if origin is tuple:
        each = words.removeprefix("list of exactly: ").split(", ")
        return len(each) == len(arguments) and all(map(fits, each, arguments))
    if origin is dict:
        start = "map from text to "
        return words.startswith(start) and fits(words.removeprefix(start), arguments[1])
    if hasattr(hint, "__supertype__"):
        return words.replace(" ", "") == str(hint.__name__).lower()
    if hint is Resources:
        return link is not None and link[2] == "resources-on-the-wire"
    if isinstance(hint, type) and (issubclass(hint, StrEnum) or dataclasses.is_dataclass(hint)):
        return link is not None and (link[1], link[2]) == (hint.__name__, hint.__name__.lower())
    return SIMPLE.get(words) is hint


def default_of(field: dataclasses.Field[typing.Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def is_default(cell: str, field: dataclasses.Field[typing.Any]) -> bool:
    """Whether the cell says what an absent field stands for."""
    value = default_of(field)
    if value is dataclasses.MISSING:
        return cell == "required"
    known = {"nil": None, "true": True, "false": False, "`[]`": (), "`{}`": {}, '`["*"]`': ("*",)}
    if isinstance(value, Resources):
        return cell == "`{}`" and value.is_empty()
    if cell in known:
        return type(known[cell]) is type(value) and known[cell] == value
    if cell.startswith('`"'):
        return isinstance(value, str) and cell == f'`"{value}"`'
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and float(cell) == value


def field_faults(name: str, cls: type, text: str) -> list[str]:
    """What the section of a message or structure says of its fields that is not so."""
    found = [rows for rows in tables(text) if rows[0][:1] == ["Field"]]
    rows = found[0][1:] if found else []
    fields = dataclasses.fields(cls)
    if [plain(row[0]) for row in rows] != [field.name for field in fields]:
        return [f"{name}: has fields {[field.name for field in fields]}"]
    hints = typing.get_type_hints(cls)
    faults = [] if rows or "No fields." in text else [f"{name}: does not say that it has no fields"]
    for field, (_, kind, default, meaning) in zip(fields, rows, strict=True):
        where = f"{name}.{field.name}"
        if not fits(kind, hints[field.name]):
            faults.append(f"{where}: is a {hints[field.name]}, not {kind}")
        if not is_default(default, field):
            faults.append(f"{where}: has the default {default_of(field)!r}, not {default}")
        if not meaning:
            faults.append(f"{where}: has no meaning")
    return faults


# --- tests ----------------------------------------------------------------------------------------
def example() -> bytes:
    [block] = re.findall(r"^```hex\n(.*?)^```", page(), re.MULTILINE | re.DOTALL)
    words: list[str] = []
    for line in block.splitlines():
        words += itertools.takewhile(
            lambda word: re.fullmatch("[0-9a-f]{2}", word), line.strip().split()
        )
    return bytes.fromhex("".join(words))


def test_the_example_frame_is_what_the_codec_makes() -> None:
    """Who implements the other side starts by comparing bytes with this example."""
    envelope = Envelope("5f3a9c0e1b7d2846", 2, "90d4f1c2ab35e678", 3, Ping())
    assert example() == encode(envelope)
    assert decode(example()) == envelope
    assert PROTOCOL_VERSION == 1
    assert page().startswith(f"# The {PROTOCOL} protocol, version {PROTOCOL_VERSION}\n")


def test_the_written_out_subscription_is_valid() -> None:
    """The second example claims to be all that has to be sent."""
    [text] = re.findall(r'"subscribe",\s+(\{.*\})\]', page())
    framework = {"framework_id": "", "name": "probe", "user": "alice"}
    assert text == str({"framework": framework}).replace("'", '"')
    assert to_plain(from_plain(KINDS["subscribe"], {"framework": framework})) == {
        "framework": framework
    }


def test_every_message_has_a_section_with_its_fields() -> None:
    """A field that is not on the page does not exist for whoever implements the other side."""
    found = sections(page())
    faults = [f"no section for {kind}" for kind in KINDS if kind not in found]
    for kind, cls in KINDS.items():
        faults += field_faults(kind, cls, found.get(kind, ""))
    assert not faults, "\n".join(faults)


def test_every_structure_has_a_section_with_its_fields() -> None:
    """The same for what is inside messages."""
    found = sections(page())
    wanted = structures()
    faults = [f"no section for {name}" for name in wanted if name not in found]
    for name, cls in wanted.items():
        faults += field_faults(name, cls, found.get(name, ""))
    assert not faults, "\n".join(faults)


def test_the_page_has_no_sections_of_messages_that_do_not_exist() -> None:
    """What was removed from the code must not linger as a promise."""
    chapters = sections(page(), level=2)
    for title, text in chapters.items():
        if title.startswith("Messages ") or title == "Questions to the master":
            assert [name for name in sections(text) if name not in KINDS] == []
    assert sorted(sections(chapters["Structures"])) == sorted(structures())


def test_a_wrong_page_is_found_out() -> None:
    """The reader itself has to notice a renamed field, another type, another default."""
    found = sections(page())["accept"]
    for right, wrong in (
        ("`refuse_s`", "`refuse`"),
        ("| number |", "| integer |"),
        ("| number | required |", "| number | 5 |"),
        ("list of [TaskInfo]", "list of [TaskReport]"),
    ):
        assert right in found
        assert field_faults("accept", KINDS["accept"], found.replace(right, wrong))


def test_every_message_says_its_direction() -> None:
    """The arrows of the sections and the table of the master agree on what a master is sent."""
    to_master = {cls.kind for cls in DISPATCH}
    for kind in KINDS:
        first = sections(page())[kind].strip().splitlines()[0]
        direction = re.match(r"\*([^*]+ → [^*]+)\.\*", first)
        assert direction, f"{kind}: no direction"
        if kind not in OF_EVERY_SESSION:
            assert ("→ master" in direction[1]) == (kind in to_master), kind


def test_who_may_send_what_to_the_master() -> None:
    """The table of rights is the one that the master dispatches by."""
    rows = table(page(), "Message", "The sender has to be")
    said = {plain(kind): who for kind, who in rows}
    assert said == {cls.kind: who for cls, (who, _) in DISPATCH.items()}
    assert len(rows) == len(said)


def test_the_limits() -> None:
    """A limit on the page is a number that the code holds to."""
    rows = table(sections(page(), level=2)["Limits"], "Name", "Value", "Meaning")
    assert len(rows) > 10
    for name, value, _ in rows:
        assert float(value) == getattr(limits, plain(name)), name


def test_the_automaton_of_task_states() -> None:
    """Whoever handles updates relies on which states can follow."""
    rows = table(sections(page())["TaskState"], "From", "To", "Meaning")
    said = {
        TaskState(plain(state)): {TaskState(word) for word in re.findall(r"`(\w+)`", after)}
        for state, after, _ in rows
    }
    assert said == {state: set(after) for state, after in TRANSITIONS.items()}
    assert {state for state, after in said.items() if not after} == TERMINAL
    assert set(TaskState) - set(said) == {TaskState.UNKNOWN}


def test_the_reasons() -> None:
    """People script against these words, so each is explained."""
    rows = table(sections(page())["Reason"], "Word", "Meaning")
    said = [plain(word).replace("(empty)", "") for word, _ in rows]
    assert said == [str(reason) for reason in Reason]


def test_what_users_see_of_every_state() -> None:
    """The table from wire states to the words of the command line, for every reason."""
    text = sections(page())["BatchState"]
    rows = table(text, "State on the wire", "Reason", "Seen as")
    said = {(plain(state), plain(reason)): plain(seen) for state, reason, seen in rows}
    for state, reason in itertools.product(TaskState, Reason):
        expected = said.get((state, reason), said.get((state, "any")))
        assert expected == seen_as(state, reason), (state, reason)
    for state in BatchState:
        assert f"`{state}`" in text


@pytest.mark.parametrize("name", ["cpus", "mem", "ports", "zones"])
def test_the_examples_of_resources(name: str) -> None:
    """Each example of the wire form is read, and written in the same way."""
    rows = table(page(), "Name", "Value", "Example")
    examples = re.findall(r"`(\{.*?\})`", " ".join(row[2] for row in rows))
    [found] = [text for text in examples if f'"{name}"' in text]
    key, ranges, words, amount = re.fullmatch(
        r'\{"(\w+)": (?:(\[\[.*\]\])|(\[".*"\])|(\d+))\}', found
    ).groups()  # type: ignore[union-attr]
    value: object = int(amount) if amount else re.findall(r"\w+", words or "")
    if ranges:
        value = [list(map(int, part)) for part in re.findall(r"(\d+), (\d+)", ranges)]
    assert Resources.from_wire({key: value}).to_wire() == {key: value}
