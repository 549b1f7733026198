"""Constraints: which agents a task may run on, as in `rack==r1 && (ssd || cores>=8)`.

    expression   and { "||" and }
    and          not { "&&" not }
    not          "!" not | "(" expression ")" | comparison
    comparison   NAME [ ("==" | "!=" | "<" | "<=" | ">" | ">=") VALUE ]

Owns the text, its parser and its evaluation against one agent. Pure.

Rules:
- A name alone holds when the agent has that attribute and its value is not `false`, `no` or 0.
- What an agent does not have equals nothing: `rack==r1` is false and `rack!=r1` true there.
- `<` and the like compare numbers, and hold for nothing else. A number equals ranges that hold it.
- The name `agent` is the agent's own: it equals its name and its id, whatever its attributes say.
- A value with blanks or operators in it is put in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from mesosctl.errors import UsageError, require
from mesosctl.model import values as v
from mesosctl.model.attributes import Attributes, AttributeValue, format_attribute, parse_attribute
from mesosctl.model.ids import AgentId
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass

CONSTRAINT_CHARS_MAX = 4_000
# Beyond these nobody reads it, and evaluating it would take the stack.
_DEPTH_MAX = 40
_TERMS_MAX = 200
AGENT = "agent"
_TOKEN = pattern(r'\s*(?:(&&|\|\||==|!=|<=|>=|[<>!()])|"([^"]*)"|([^\s&|=!<>()"]+)|(\S))')
_FALSE = ("false", "no", 0)
_HINT = "write as in 'rack==r1 && (ssd || cores>=8)'"
_ORDERS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda held, asked: held < asked,
    "<=": lambda held, asked: held <= asked,
    ">": lambda held, asked: held > asked,
    ">=": lambda held, asked: held >= asked,
}


class Place(NamedTuple):
    """An agent as constraints see it."""

    agent_id: str
    name: str
    attributes: Mapping[str, AttributeValue]


def place_of(agent_id: str, name: str, attributes: Mapping[str, str]) -> Place:
    """An agent from what it says of itself; attributes that are none count as not there."""
    try:
        return Place(agent_id, name, Attributes.from_wire(attributes))
    except ValueError:
        return Place(agent_id, name, {})


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. An empty `operator` asks whether the name is set."""

    name: str
    operator: str
    value: AttributeValue | None
    text: str

    def holds(self, place: Place) -> bool:
        """Whether it is true of this agent."""
        if self.name == AGENT:
            is_it = self.text in (place.name, place.agent_id)
            return is_it == (self.operator != "!=")
        held = place.attributes.get(self.name)
        if not self.operator:
            return held is not None and held not in _FALSE
        if self.operator == "==":
            return _equals(held, self.value)
        if self.operator == "!=":
            return not _equals(held, self.value)
        is_number = isinstance(held, int) and isinstance(self.value, int)
        return is_number and _ORDERS[self.operator](held, self.value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{quoted(self.text)}" if self.operator else self.name

    def found(self, place: Place) -> str:
        """What the agent has instead, for people: `rack is r2`."""
        if self.name == AGENT:
            return f"it is {place.name}"
        held = place.attributes.get(self.name)
        return f"no {self.name}" if held is None else f"{self.name} is {format_attribute(held)}"


@dataclass(frozen=True, slots=True)
class Joint:
    """Expressions joined by `&&` or `||`, or one that is negated (`!`)."""

    operator: str
    parts: tuple[Term | Joint, ...]

    def holds(self, place: Place) -> bool:
        """Whether it is true of this agent."""
        if self.operator == "!":
            return not self.parts[0].holds(place)
        if self.operator == "&&":
            return all(part.holds(place) for part in self.parts)
        return any(part.holds(place) for part in self.parts)

    def __str__(self) -> str:
        if self.operator == "!":
            return f"!{_wrapped(self.parts[0])}"
        return f" {self.operator} ".join(_wrapped(part) for part in self.parts)


Expression = Term | Joint


def _wrapped(part: Expression) -> str:
    is_plain = isinstance(part, Term) or part.operator == "!"
    return str(part) if is_plain else f"({part})"


def _equals(held: AttributeValue | None, asked: AttributeValue | None) -> bool:
    if isinstance(held, tuple) and isinstance(asked, int):
        number, rest = divmod(asked, v.MILLI)
        return not rest and v.contains(held, ((number, number),))
    return held == asked


def quoted(text: str) -> str:
    """A value as an expression holds it."""
    return text if re.fullmatch(r'[^\s&|=!<>()"]+', text) else f'"{text}"'


@lru_cache(maxsize=4096)
def parse_constraint(text: str) -> Expression:
    """Read an expression. Raises UsageError, which names the character that is wrong."""
    return _Parser(text).whole()


def misses(expression: Expression, place: Place) -> str:
    """What of an expression an agent does not fulfil: `rack==r1 (rack is r2)`; empty if nothing."""
    if expression.holds(place):
        return ""
    if isinstance(expression, Term):
        return f"{expression} ({expression.found(place)})"
    if expression.operator == "&&":
        return ", ".join(misses(part, place) for part in expression.parts if not part.holds(place))
    return str(expression)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        if not text.strip():
            raise UsageError("the constraint is empty", _HINT)
        if len(text) > CONSTRAINT_CHARS_MAX:
            raise UsageError(f"the constraint is over {CONSTRAINT_CHARS_MAX} characters", _HINT)
        # (kind, text, position): kind is the operator itself, `word`, `quoted` or `end`.
        self._tokens: list[tuple[str, str, int]] = []
        self._at = self._depth = self._terms = 0
        at = 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            require(match is not None, "a character is no token")
            if match is None:
                break
            operator, quote, word, bad = match.groups()
            begin = match.end() - len(match.group().lstrip())
            if bad is not None:
                raise self._wrong_character(bad, begin)
            kind = operator or ("word" if word is not None else "quoted")
            self._tokens.append((kind, operator or word or quote or "", begin))
            at = match.end()
        self._tokens.append(("end", "", end))

    def _wrong_character(self, char: str, at: int) -> UsageError:
        meant = {"=": "==", "&": "&&", "|": "||", '"': "a second quote"}.get(char)
        hint = f"did you mean {meant}?" if meant else _HINT
        return self._wrong(f"{char!r} does not belong there", at, hint)

    def _wrong(self, what: str, at: int, hint: str = _HINT) -> UsageError:
        shown = v.shown(self._text.strip())
        return UsageError(f"{shown}: character {at + 1}: {what}", hint)

    def _next(self) -> tuple[str, str, int]:
        return self._tokens[self._at]

    def _take(self, kind: str) -> bool:
        if self._next()[0] != kind:
            return False
        self._at += 1
        return True

    def whole(self) -> Expression:
        found = self._any()
        kind, text, at = self._next()
        if kind == "word":
            meant = {"and": "&&", "or": "||"}.get(text.lower())
            hint = f"did you mean {meant}?" if meant else _HINT
            raise self._wrong(f"{text!r} follows without && or ||", at, hint)
        if kind != "end":
            raise self._wrong(f"{text!r} does not belong there", at)
        return found

    def _any(self) -> Expression:
        return self._joined("||", self._all)

    def _all(self) -> Expression:
        return self._joined("&&", self._single)

    def _joined(self, operator: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self._take(operator):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Joint(operator, tuple(parts))

    def _single(self) -> Expression:
        kind, text, at = self._next()
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._wrong("it is nested too deeply", at)
        if self._take("!"):
            found: Expression = Joint("!", (self._single(),))
        elif self._take("("):
            found = self._any()
            if not self._take(")"):
                raise self._wrong("a ) is missing", self._next()[2])
        elif kind == "word":
            found = self._term()
        elif kind == "end":
            raise self._wrong("something is missing at the end", at)
        else:
            raise self._wrong(f"{text!r} where a name belongs", at)
        self._depth -= 1
        return found

    def _term(self) -> Term:
        _, name, at = self._next()
        self._at += 1
        self._terms += 1
        if self._terms > _TERMS_MAX:
            raise self._wrong(f"more than {_TERMS_MAX} comparisons", at)
        if not v.is_name(name):
            raise self._wrong(f"{name!r} is no name of an attribute", at)
        operator = self._next()[0]
        if operator not in ("==", "!=", *_ORDERS):
            if name == AGENT:
                raise self._wrong("which agent?", at, "write as in agent==node7")
            return Term(name, "", None, "")
        self._at += 1
        kind, text, at = self._next()
        if kind not in ("word", "quoted") or not text:
            raise self._wrong(f"a value is missing after {operator}", at)
        self._at += 1
        return self._compared(name, operator, text, at)

    def _compared(self, name: str, operator: str, text: str, at: int) -> Term:
        if name == AGENT:
            if operator not in ("==", "!="):
                raise self._wrong(f"{operator} does not compare agents", at, "write == or !=")
            return Term(name, operator, None, text)
        try:
            value = parse_attribute(name, text)
        except UsageError as error:
            raise self._wrong(error.message, at) from None
        if operator in _ORDERS and not isinstance(value, int):
            raise self._wrong(f"{operator} compares numbers, and {v.shown(text)} is none", at)
        return Term(name, operator, value, text)


def combined(constraint: str, on: tuple[str, ...], not_on: tuple[str, ...]) -> str:
    """One expression of a constraint, agents of which one is meant, and agents that are not."""
    parts: list[Expression] = [parse_constraint(constraint)] if constraint else []
    named = [Term(AGENT, "==", None, agent) for agent in on]
    if named:
        parts.append(named[0] if len(named) == 1 else Joint("||", tuple(named)))
    parts += [Term(AGENT, "!=", None, agent) for agent in not_on]
    if not parts:
        return ""
    return str(parts[0] if len(parts) == 1 else Joint("&&", tuple(parts)))


@dataclass(frozen=True, slots=True)
class Where:
    """On which agents a task may run: where `constraint` holds (empty: on all), not on `not_on`."""

    constraint: str = ""
    not_on: tuple[AgentId, ...] = ()

    def accepts(self, place: Place) -> bool:
        """Whether a task may run on this agent. Raises UsageError for what is no constraint."""
        if place.agent_id in self.not_on:
            return False
        return not self.constraint or parse_constraint(self.constraint).holds(place)


ANYWHERE = Where()
