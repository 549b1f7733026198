"""An allocation module that serves frameworks in the order in which they came.

The interface and its rules are in mesosctl.allocation.base. What an operator sets
for roles (weights, priorities, quota) means nothing here; a module that others use would keep it.
Every pass looks at every pair of agent and framework, which is quick enough for hundreds of agents.
"""

from __future__ import annotations

from mesosctl.allocation.base import Client, Grant, Refuses, RoleTerms, is_offerable
from mesosctl.errors import InvariantBroken
from mesosctl.model.resources import EMPTY, Resources


class FirstCome:
    """See the module."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._agents: dict[str, tuple[Resources, bool]] = {}
        self._held: dict[str, dict[str, Resources]] = {}

    def set_role(self, role: str, terms: RoleTerms) -> None:
        """Roles mean nothing here."""

    def set_framework(self, client: Client) -> None:
        """One that is set again keeps its place in the queue."""
        self._clients[client.framework] = client

    def remove_framework(self, framework: str) -> None:
        """If it comes back, it is the last."""
        self._clients.pop(framework, None)

    def set_agent(self, agent: str, total: Resources, offered: bool = True) -> None:
        """What is charged on it stays charged."""
        self._agents[agent] = (total, offered)

    def remove_agent(self, agent: str) -> None:
        """Its charges go with it."""
        self._agents.pop(agent, None)
        self._held.pop(agent, None)

    def charge(self, framework: str, agent: str, resources: Resources) -> None:
        """The framework holds so much more there."""
        if agent not in self._agents:
            raise InvariantBroken(f"charged on {agent}, which is not there")
        held = self._held.setdefault(agent, {})
        held[framework] = held.get(framework, EMPTY) + resources

    def release(self, framework: str, agent: str, resources: Resources) -> None:
        """And so much less."""
        if agent not in self._agents:
            return
        held = self._held.get(agent, {}).get(framework, EMPTY)
        if not held.contains(resources):
            raise InvariantBroken(f"{framework} gives back {resources} of {held} on {agent}")
        self._held[agent][framework] = held - resources

    def allocate(self, refuses: Refuses) -> list[Grant]:
        """All that is free of each agent, to the first in the queue that has a use for it."""
        grants: list[Grant] = []
        for agent, (total, offered) in self._agents.items():
            free = total
            for held in self._held.get(agent, {}).values():
                free = free.without(held)
            for client in self._clients.values() if offered else ():
                part = free.allocatable_to(client.role)
                if not self._is_wanted(client, part) or refuses(client.framework, agent, part):
                    continue
                grants.append(Grant(client.framework, client.role, agent, part))
                free = free - part
        return grants

    def _is_wanted(self, client: Client, part: Resources) -> bool:
        if not client.active or client.count == 0 or not is_offerable(part):
            return False
        return client.task is None or part.take(client.task) is not None
