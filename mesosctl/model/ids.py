"""Names of things: what each id names, who makes it, and which characters it may hold.

    AgentId      chosen by the agent (or made by the master for one that names none), kept by it
    FrameworkId  made by the master on first subscription, kept by the framework
    OfferId      made by the master, worthless after one use or a restart of the master
    TaskId       chosen by the framework, unique for the life of the framework: one per attempt
    ExecutorId   made by the agent

Rules: an id becomes a directory name, so it is a short ASCII word without slashes that does not
begin with a dot or a dash. Text that a person chose (names of jobs, reasons) is never an id.
"""

from __future__ import annotations

import re
from typing import NewType

AgentId = NewType("AgentId", str)
FrameworkId = NewType("FrameworkId", str)
OfferId = NewType("OfferId", str)
TaskId = NewType("TaskId", str)
ExecutorId = NewType("ExecutorId", str)

_IDENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


def is_ident(text: str) -> bool:
    """Whether `text` may be an id or a name: 1 to 128 of [A-Za-z0-9._-], no leading dot or dash."""
    return _IDENT.match(text) is not None


def check_ident(text: str) -> str:
    """`text` itself. Raises ValueError when it may not be an id."""
    if not is_ident(text):
        raise ValueError(f"not an id: {text[:40]!r}")
    return text


def is_role(text: str) -> bool:
    """Whether `text` names a role: `*`, or words of an id joined by single slashes."""
    return text == "*" or (len(text) <= 255 and all(is_ident(part) for part in text.split("/")))
