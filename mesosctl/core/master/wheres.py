"""Which agents frameworks want to be offered at all: what each said with `where`.

Rules: a framework that said nothing is offered every agent. An answer is kept until the framework
says something else or the agent registers anew, for it is asked for in every allocation; only pairs
that an allocation looks at are ever judged. An agent is judged by what it said when it registered.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesosctl.errors import UsageError, require
from mesosctl.limits import WHERES_MAX
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.constraints import Place, Where, parse_constraint, place_of
from mesosctl.model.ids import AgentId, FrameworkId


def problem_of(wheres: tuple[Where, ...]) -> str:
    """What is wrong with what a framework said; empty when nothing is."""
    if len(wheres) > WHERES_MAX:
        return f"more than {WHERES_MAX} places are named"
    try:
        for where in wheres:
            if where.constraint:
                parse_constraint(where.constraint)
    except UsageError as error:
        return f"constraint {error.message}"
    return ""


class Wheres:
    """What was said, framework by framework, and what was found out about agents by it."""

    def __init__(self) -> None:
        self._said: dict[FrameworkId, tuple[Where, ...]] = {}
        self._verdicts: dict[FrameworkId, dict[AgentId, bool]] = {}
        self._places: dict[AgentId, Place] = {}

    def said(self, framework_id: FrameworkId) -> tuple[Where, ...]:
        """What a framework said last; nothing if it takes every agent."""
        return self._said.get(framework_id, ())

    def say(self, framework_id: FrameworkId, wheres: tuple[Where, ...]) -> None:
        """A framework says where it wants to be; it must be without a problem."""
        if wheres == self.said(framework_id):
            return
        self.forget_framework(framework_id)
        if wheres:
            self._said[framework_id] = wheres
            self._verdicts[framework_id] = {}

    def forget_framework(self, framework_id: FrameworkId) -> None:
        """It went away, or takes every agent."""
        self._said.pop(framework_id, None)
        self._verdicts.pop(framework_id, None)

    def forget_agent(self, agent_id: AgentId) -> None:
        """It registers, and may not be what it was; or it is gone."""
        self._places.pop(agent_id, None)
        for verdicts in self._verdicts.values():
            verdicts.pop(agent_id, None)

    def place(self, info: AgentInfo) -> Place:
        """An agent as constraints see it."""
        found = self._places.get(info.agent_id)
        if found is None:
            found = place_of(info.agent_id, info.name, info.attributes)
            self._places[info.agent_id] = found
        return found

    def excludes(self, framework_id: FrameworkId, info: AgentInfo) -> bool:
        """Whether nothing of this agent is to be offered to the framework."""
        verdicts = self._verdicts.get(framework_id)
        if verdicts is None:
            return False
        verdict = verdicts.get(info.agent_id)
        if verdict is None:
            place = self.place(info)
            verdict = not any(where.accepts(place) for where in self._said[framework_id])
            verdicts[info.agent_id] = verdict
        return verdict

    def check(self, agents: Mapping[AgentId, AgentInfo]) -> None:
        """Judge every kept pair anew. Raises InvariantBroken where the answer differs."""
        for framework_id, verdicts in self._verdicts.items():
            for agent_id, verdict in verdicts.items():
                info = agents.get(agent_id)
                require(info is not None, f"agent {agent_id} is gone and still judged")
                if info is not None:
                    place = place_of(agent_id, info.name, info.attributes)
                    wanted = any(where.accepts(place) for where in self._said[framework_id])
                    require(verdict != wanted, f"{framework_id}: wrong verdict on {agent_id}")
