"""Values of options of jobs, read from their text.

Rules: what is wrong with a value is said in one line, before anything is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesosctl.cli.params import Parsed, shown
from mesosctl.errors import UsageError
from mesosctl.model.ids import is_role
from mesosctl.model.patterns import pattern

if TYPE_CHECKING:
    from mesosctl.model.resources import Resources

PATH_BYTES_MAX = 4096
AGENT_CHARS_MAX = 255
_USER = pattern(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,63}\$?")


def parse_role(text: str) -> str:
    """A role's name. Raises UsageError."""
    if not is_role(text):
        raise UsageError(f"{shown(text)} is not a role", "write letters, digits and . _ - /")
    return text


def parse_user(text: str) -> str:
    """A user's name. Raises UsageError."""
    if not _USER.fullmatch(text):
        raise UsageError(f"{shown(text)} is not a user's name", "write it as in /etc/passwd")
    return text


def parse_path(text: str) -> str:
    """A path that is opened on an agent. Raises UsageError."""
    if not text.strip():
        raise UsageError("the path is empty", "name a file, or none")
    if "\0" in text or len(text.encode("utf-8", "surrogateescape")) > PATH_BYTES_MAX:
        raise UsageError(f"{shown(text)} is no path", f"at most {PATH_BYTES_MAX} bytes")
    return text


def parse_more(text: str) -> Resources:
    """What a task needs beside CPUs and memory. Raises UsageError."""
    from mesosctl.model.resources import Resources

    found = Resources.parse(text)
    for name, option in (("cpus", "-c"), ("mem", "-m")):
        if name in found.names():
            raise UsageError(f"--resources names {name}", f"{option} is the option for it")
    if any("(" in key for key, _ in found.items()):
        raise UsageError("--resources names a role", "a task has no say in whose resources it gets")
    return found


def parse_ulimit(text: str) -> tuple[str, tuple[int, int]]:
    """NAME=SOFT[:HARD], numbers or `unlimited`, as (name, (soft, hard)). Raises UsageError."""
    import resource

    name, _, values = text.partition("=")
    if not hasattr(resource, f"RLIMIT_{name.upper()}"):
        raise UsageError(f"{shown(name)} is no limit of processes", "such as nofile or stack")
    soft, colon, hard = values.partition(":")
    limits = [-1 if word == "unlimited" else word for word in (soft, hard if colon else soft)]
    if not all(isinstance(word, int) or (word.isdecimal() and len(word) < 19) for word in limits):
        raise UsageError(f"{shown(values)} is no limit", "write NAME=SOFT or NAME=SOFT:HARD")
    return name.lower(), (int(limits[0]), int(limits[1]))


def parse_where(text: str) -> str:
    """A constraint. Raises UsageError, which names the character that is wrong."""
    from mesosctl.model.constraints import parse_constraint

    parse_constraint(text)
    return text


def parse_agent(text: str) -> str:
    """The name or id of an agent. Raises UsageError."""
    if not text or len(text) > AGENT_CHARS_MAX or not set(text).isdisjoint('"\n\0'):
        raise UsageError(f"{shown(text)} is no agent", "name one of `mesosctl agents`")
    return text


def parse_volume_id(text: str) -> str:
    """The id of a volume. Raises UsageError."""
    from mesosctl.model.volumes import is_volume_id

    if not is_volume_id(text):
        raise UsageError(f"{shown(text)} is no volume", "write letters, digits, - and _")
    return text


def parse_volume(text: str) -> tuple[str, str]:
    """ID:PATH of a volume and where a task finds it. Raises UsageError."""
    from mesosctl.model.volumes import path_problem

    name, colon, path = text.partition(":")
    parse_volume_id(name)
    problem = path_problem(path) if colon else "no path in the sandbox is named"
    if problem:
        raise UsageError(f"--volume {shown(text)}: {problem}", "write ID:PATH, as in data1:db")
    return name, path


ROLE = Parsed("ROLE", parse_role)
VOLUME_ID = Parsed("ID", parse_volume_id)
VOLUME = Parsed("ID:PATH", parse_volume)
MORE = Parsed("TEXT", parse_more)
ULIMIT = Parsed("NAME=SOFT[:HARD]", parse_ulimit)
USER = Parsed("USER", parse_user)
PATH = Parsed("FILE", parse_path)
WHERE = Parsed("TEXT", parse_where)
AGENT = Parsed("AGENT", parse_agent)
