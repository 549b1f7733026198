"""Isolators by name: `--isolation` of agents, with the plug-ins that it names.

Rules: an agent, its executors and their guards open the same names, each for itself. A plug-in is
made once for each of them and must derive from mesosctl.isolation.Isolator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mesosctl.errors import UsageError
from mesosctl.isolation import Isolation, Isolator, choose

ISOLATOR_GROUP = "mesosctl.isolators"
_WHAT = "isolator"


def plug_ins(spec: str) -> dict[str, Callable[[], Isolator]]:
    """What makes each isolator of `--isolation` that is not built in. Raises UsageError.

    Nothing is loaded, nor looked for, when there is none: every executor comes through here.
    """
    found: dict[str, Callable[[], Isolator]] = {}
    for word in spec.split(","):
        name = word.strip()
        if not name or name in choose.KNOWN:
            continue
        # Late: importlib.metadata takes longer to import than the rest of an executor's start.
        from mesosctl.plugins.loading import load

        factory = load(name, ISOLATOR_GROUP, _WHAT, choose.KNOWN)
        found[name] = partial(_make, factory, name)
    return found


def has_plug_ins(spec: str) -> bool:
    """Whether any name of `--isolation` is not one of ours."""
    return any(word.strip() not in choose.KNOWN for word in spec.split(","))


def open_isolation(spec: str, *, root: str, agent_id: str, state_dir: str = "") -> Isolation:
    """The isolation of an agent; as mesosctl.isolation.open_isolation, with plug-ins.

    Raises UsageError and LimitUnavailable.
    """
    return choose.open_isolation(
        spec, root=root, agent_id=agent_id, state_dir=state_dir, plugins=plug_ins(spec)
    )


def _make(factory: Callable[[], object], name: str) -> Isolator:
    from mesosctl.plugins.loading import make

    made = make(factory, name, _WHAT)
    if not isinstance(made, Isolator):
        raise UsageError(
            f"{name} is no isolator", "derive its class from mesosctl.isolation.Isolator"
        )
    return made
