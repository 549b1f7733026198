"""Agents that the registry forgets, so that it stays bounded however many come and go.

Rules: only beyond REGISTRY_AGENTS_MAX, the longest known first. Never one that this master has seen
since its start, nor one of which an operator decided something: an id that was declared gone is
refused for good, and an agent that is withheld stays withheld. One that is forgotten and returns
after all is admitted like a new one, with its tasks.
"""

from __future__ import annotations

from itertools import islice

from mesosctl.core.machine import Delete, Effect, Log
from mesosctl.core.master.registry import AGENTS, Mode
from mesosctl.core.master.state import MasterState
from mesosctl.limits import REGISTRY_AGENTS_MAX

# So many with one registration; more would hold up the others.
FORGOTTEN_AT_ONCE = 10


def forget_surplus(state: MasterState) -> list[Effect]:
    """Forget some of the agents that are too many."""
    surplus = min(len(state.registry) - REGISTRY_AGENTS_MAX, FORGOTTEN_AT_ONCE)
    if surplus <= 0:
        return []
    unseen = (
        agent_id
        for agent_id, entry in state.registry.items()
        if entry.mode is Mode.IN_USE
        and not entry.reserved
        and not entry.volumes
        and agent_id not in state.agents
        and agent_id not in state.absent
    )
    forgotten = list(islice(unseen, surplus))
    for agent_id in forgotten:
        del state.registry[agent_id]
        state.missing.pop(agent_id, None)
    effects: list[Effect] = [Delete(AGENTS, agent_id) for agent_id in forgotten]
    if forgotten:
        text = f"the registry holds more than {REGISTRY_AGENTS_MAX} agents"
        effects.append(Log("info", f"{text}: {len(forgotten)} of long ago are forgotten"))
    return effects
