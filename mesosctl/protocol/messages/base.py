"""What all messages share: a word on the wire, and the table from that word to the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

KINDS: dict[str, type[Message]] = {}


class Message:
    """A message value. `kind` is its word on the wire."""

    __slots__ = ()
    kind: ClassVar[str] = ""


M = TypeVar("M", bound=type[Message])


def message(kind: str) -> Callable[[M], M]:
    """Class decorator: enter the class under its word. A word used twice is our own mistake."""

    def enter(cls: M) -> M:
        if kind in KINDS and KINDS[kind].__qualname__ != cls.__qualname__:
            raise ValueError(f"message kind {kind} is taken by {KINDS[kind].__name__}")
        cls.kind = kind
        KINDS[kind] = cls
        return cls

    return enter
