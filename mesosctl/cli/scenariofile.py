"""The file of `mesosctl simulate`, as docs/scenarios.md describes it, and its trace.

Rules: everything is checked before anything is simulated. An error is one line that names the file,
the table, the key and the value, and says what is allowed. A key that nobody knows is an error: in
a file that is an experiment a slip must not pass for a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mesosctl.cli.group import nearest
from mesosctl.cli.params import parse_cpus, parse_duration, parse_name, parse_size, shown
from mesosctl.cli.scenariotrace import read_trace
from mesosctl.cli.settings import parse, read_text
from mesosctl.core.master.registry import RoleEntry
from mesosctl.errors import UsageError
from mesosctl.limits import MEM_BYTES_MIN, TASK_CPUS_MILLI, TASK_MEM_BYTES
from mesosctl.model.attributes import Attributes
from mesosctl.model.constraints import parse_constraint
from mesosctl.model.ids import is_role
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.sim.scenario.plan import (
    AgentGroup,
    FrameworkPlan,
    JobGroup,
    Scenario,
    Span,
    Spread,
)

Value = TypeVar("Value")
AGENTS_MAX = 50_000
TASKS_MAX = 1_000_000
COUNT_MAX = 1_000_000
SEED_MAX = 2**53
_MISSING: Any = object()
_SPAN_HINT = (
    'write "30s", or { mean = "30s", sd = "10s" }, { from = "10s", to = "50s" }'
    ' or { exponential = "30s" }'
)
_REPAIR = "docs/scenarios.md describes the file"


class Table:
    """One table of the file, whose keys are taken one by one; `end` refuses what is left."""

    def __init__(self, file: str, where: str, content: Any) -> None:
        self._file = file
        self.where = where
        if not isinstance(content, dict):
            raise UsageError(f"{file}: {where}: {shown(str(content))} is no table", _REPAIR)
        self._left = dict(content)
        self._known: list[str] = []

    def take(self, key: str, read: Callable[[Any], Value], default: Value = _MISSING) -> Value:
        """The value of a key as `read` makes it. Raises UsageError, also when it is missing."""
        self._known.append(key)
        if key not in self._left:
            if default is _MISSING:
                raise UsageError(f"{self._file}: {self.where} has no {key!r}", _REPAIR)
            return default
        value = self._left.pop(key)
        try:
            return read(value)
        except UsageError as error:
            raise self.wrong(key, error.message, error.hint) from None

    def wrong(self, key: str, message: str, hint: str) -> UsageError:
        """The error for a value."""
        place = f"{self.where}.{key}" if self.where else key
        return UsageError(f"{self._file}: {place}: {message}", hint or _REPAIR)

    def end(self) -> None:
        """Refuse keys that nobody took."""
        for key in self._left:
            guess = nearest(key, self._known)
            hint = f"did you mean {guess}?" if guess else f"there are {', '.join(self._known)}"
            place = f" in {self.where}" if self.where else ""
            raise UsageError(f"{self._file}: there is no key {shown(key)}{place}", hint)


# --- values ---------------------------------------------------------------------------------------
def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 200 or not value.isprintable():
        raise UsageError(f"{shown(str(value))} is not a name", "write a text in quotes")
    return value


def _name(value: Any) -> str:
    return parse_name(_text(value))


def _role(value: Any) -> str:
    if not is_role(_text(value)):
        raise UsageError(f"{shown(value)} is not a role", "write words with slashes: eng/backend")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{shown(str(value))} is neither true nor false", "write true or false")
    return value


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise UsageError(
                f"{shown(str(value))} is not a number from {least} to {most}",
                f"write a whole number from {least} to {most}",
            )
        return value

    return read


def _weight(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0.001 <= value <= 1_000_000:
        raise UsageError(f"{shown(str(value))} is not a weight", "write a number such as 2 or 0.5")
    return round(float(value) * 1000)


def _cpus(value: Any) -> int:
    is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
    return parse_cpus(str(value) if is_number else "")


def _size(value: Any) -> int:
    return parse_size(str(value), MEM_BYTES_MIN)


def _time(value: Any) -> float:
    return parse_duration(str(value), zero=True)


def _positive(value: Any) -> float:
    return parse_duration(str(value))


def _resources(value: Any) -> Resources:
    if not isinstance(value, str):
        raise UsageError(f"{shown(str(value))} is no text", "write cpus:4;mem:16G")
    return Resources.parse(value)


def _amounts(value: Any) -> dict[str, int]:
    return dict(_resources(value).quantities())


def _constraint(value: Any) -> str:
    parse_constraint(_text(value))
    return str(value)


def _attributes(value: Any) -> dict[str, str]:
    return Attributes.parse(_text(value)).to_wire()


def _span(value: Any) -> Span:
    if isinstance(value, str):
        return Span(parse_duration(value, zero=True))
    keys = set(value) if isinstance(value, dict) else set()
    if keys == {"mean", "sd"}:
        return Span(_positive(value["mean"]), _time(value["sd"]), Spread.NORMAL)
    if keys == {"from", "to"}:
        low, high = _time(value["from"]), _positive(value["to"])
        if low <= high:
            return Span(low, high, Spread.UNIFORM)
    if keys == {"exponential"}:
        return Span(_positive(value["exponential"]), 0.0, Spread.EXPONENTIAL)
    raise UsageError(f"{shown(str(value))} is no span of time", _SPAN_HINT)


def _every(value: Any) -> Span | str:
    return "previous" if value == "previous" else _span(value)


# --- tables ---------------------------------------------------------------------------------------
def _list(table: Table, key: str) -> list[Any]:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise UsageError(f"{shown(str(value))} is no list of tables", f"write [[{key}]]")
        return value

    return table.take(key, read, [])


def _map(table: Table, key: str) -> Mapping[str, Any]:
    def read(value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise UsageError(f"{shown(str(value))} is no table", f"write [{key}]")
        return value

    return table.take(key, read, {})


def _agents(file: str, number: int, content: Any) -> AgentGroup:
    table = Table(file, f"agents[{number}]", content)
    group = AgentGroup(
        table.take("name", _name, "agent" if number == 1 else f"agent{number}-"),
        table.take("count", _whole(1, AGENTS_MAX), 1),
        table.take("resources", _resources),
        table.take("attributes", _attributes, {}),
        table.take("at", _time, 0.0),
    )
    table.end()
    return group


def _framework(file: str, number: int, content: Any) -> FrameworkPlan:
    table = Table(file, f"frameworks[{number}]", content)
    name = table.take("name", _name)
    plan = FrameworkPlan(name, table.take("role", _role, name))
    table.end()
    return plan


def _job(file: str, number: int, content: Any, frameworks: list[str]) -> JobGroup:
    table = Table(file, f"jobs[{number}]", content)
    first = frameworks[0] if len(frameworks) == 1 else _MISSING
    every = table.take("every", _every, None)
    group = JobGroup(
        name=table.take("name", _name, f"job{number}"),
        framework=table.take("framework", _one_of(frameworks, "framework"), first),
        count=table.take("count", _whole(1, COUNT_MAX), 1),
        tasks=table.take("tasks", _whole(1, TASKS_MAX), 1),
        cpus_milli=table.take("cpus", _cpus, TASK_CPUS_MILLI),
        mem_bytes=table.take("mem", _size, TASK_MEM_BYTES),
        lasts=table.take("lasts", _span),
        at_s=table.take("at", _time, 0.0),
        every=every if isinstance(every, Span) else None,
        in_turn=every == "previous",
        priority=table.take("priority", _whole(-1_000_000, 1_000_000), 0),
        max_running=table.take("max-running", _whole(1, TASKS_MAX), None),
        more=table.take("resources", _resources, EMPTY),
        constraint=table.take("constraint", _constraint, ""),
        spread=table.take("spread", _flag, False),
    )
    table.end()
    return group


def _one_of(names: list[str], what: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in names:
            raise UsageError(
                f"{shown(str(value))} is no {what} of this file", f"there are {', '.join(names)}"
            )
        return str(value)

    return read


def _roles(table: Table, file: str) -> dict[str, RoleEntry]:
    roles = {}
    for name, content in _map(table, "roles").items():
        one = Table(file, f"roles.{name}", content)
        roles[_role(name)] = entry = RoleEntry(
            one.take("weight", _weight, 1000),
            one.take("priority", _whole(-1_000_000, 1_000_000), 0),
            one.take("limit", _amounts, None),
            one.take("guarantee", _amounts, None),
        )
        if "/" in name and (entry.limit or entry.guarantee):
            top = name.partition("/")[0]
            raise one.wrong("limit", "quota is of a role of the top", f"give it to {top}")
        one.end()
    return roles


def _static(table: Table, file: str, frameworks: list[str], agents: int) -> dict[str, int]:
    content = _map(table, "static")
    if not content:
        return {}
    own = Table(file, "static", content)
    static = {name: own.take(name, _whole(1, AGENTS_MAX)) for name in frameworks}
    own.end()
    if sum(static.values()) > agents:
        raise UsageError(
            f"{file}: static: {sum(static.values())} agents are given away, there are {agents}",
            "give each framework a part of them",
        )
    return static


def load(path: Path, seed: int | None = None) -> Scenario:
    """The scenario of a file; `seed` takes the place of its own. Raises UsageError."""
    try:
        content = parse(path, read_text(path, must_exist=True))
    except UsageError as error:
        raise UsageError(error.message, _REPAIR) from None
    file = str(path)
    table = Table(file, "", content)
    agents = [_agents(file, n, one) for n, one in enumerate(_list(table, "agents"), 1)]
    frameworks = [_framework(file, n, one) for n, one in enumerate(_list(table, "frameworks"), 1)]
    names = [one.name for one in frameworks]
    _check_names(file, "framework", names)
    jobs = [_job(file, n, one, names) for n, one in enumerate(_list(table, "jobs"), 1)]
    trace = table.take("trace", _text, "")
    if trace:
        jobs += read_trace(path.parent / trace, names)
    scenario = Scenario(
        name=table.take("name", _text, path.stem),
        agents=tuple(agents),
        frameworks=tuple(frameworks),
        jobs=tuple(jobs),
        roles=_roles(table, file),
        allocator=table.take("allocator", _text, "drf"),
        seed=table.take("seed", _whole(0, SEED_MAX), 0) if seed is None else seed,
        launch_s=table.take("launch", _time, 0.02),
        until_s=table.take("until", _positive, None),
        static=_static(table, file, names, sum(group.count for group in agents)),
        events=table.take("events", _flag, False),
    )
    if seed is not None:
        table.take("seed", _whole(0, SEED_MAX), 0)
    table.end()
    _check(file, scenario)
    return scenario


def _check(file: str, scenario: Scenario) -> None:
    """What no single value shows. Raises UsageError."""
    for kind, found in (
        ("[[agents]]", scenario.agents),
        ("[[frameworks]]", scenario.frameworks),
        ("[[jobs]] and no trace", scenario.jobs),
    ):
        if not found:
            raise UsageError(f"{file}: there are no {kind}", _REPAIR)
    agents = [name for group in scenario.agents for name in group.names()]
    _check_names(file, "agent", agents)
    sizes = [(len(agents), AGENTS_MAX, "agents")]
    sizes.append((sum(job.count * job.tasks for job in scenario.jobs), TASKS_MAX, "tasks"))
    for size, most, what in sizes:
        if size > most:
            raise UsageError(f"{file}: {size} {what} are too many", f"at most {most}")


def _check_names(file: str, kind: str, names: list[str]) -> None:
    """Raise UsageError for a name that is there twice."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{file}: there are two {kind}s {twice}", "give each its own name")
