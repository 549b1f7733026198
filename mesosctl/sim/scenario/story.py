"""Offers and launches of a simulated master, one by one, for people who want to read along."""

from __future__ import annotations

from collections.abc import Sequence

from mesosctl.core.machine import Effect, Event, Received, Send
from mesosctl.core.master.machine import MasterMachine
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import OfferId
from mesosctl.protocol.messages.agent import LaunchTasks, RegisterAgent
from mesosctl.protocol.messages.framework import Decline, Offers, Rescind
from mesosctl.sim.node import Node
from mesosctl.sim.scenario.recorder import Recorder


class Story:
    """A judge (sim/world.py) that judges nothing and writes down what the master does."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._offers: dict[OfferId, Offer] = {}

    def saw(self, node: Node, event: Event, effects: Sequence[Effect]) -> None:
        """Agents come; frameworks decline."""
        if not isinstance(node.machine, MasterMachine) or not isinstance(event, Received):
            return
        match event.envelope.message:
            case RegisterAgent(agent=agent):
                self._record.tell(f"agent {agent.name} registers with {agent.total}")
            case Decline(offer_ids=offer_ids):
                self._end(node.machine, offer_ids, "declined")
            case _:
                pass

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """The master offers and launches."""
        machine = node.machine
        if not isinstance(machine, MasterMachine):
            return
        for effect in effects:
            match effect.envelope.message if isinstance(effect, Send) else None:
                case Offers(offers=offers):
                    for offer in offers:
                        self._offers[offer.offer_id] = offer
                        whose = machine.state.frameworks[offer.framework_id].info.name
                        what = f"{offer.resources} of {offer.agent_name}"
                        self._record.tell(f"{offer.offer_id}: {what} is offered to {whose}")
                case Rescind(offer_ids=offer_ids):
                    self._end(machine, offer_ids, "rescinded")
                case LaunchTasks(framework=framework, tasks=tasks):
                    where = machine.state.agents[tasks[0].agent_id].info.name
                    each = ", ".join(f"{task.task_id} ({task.resources})" for task in tasks)
                    self._record.tell(f"{framework.name} launches on {where}: {each}")
                case _:
                    pass

    def _end(self, machine: MasterMachine, offer_ids: Sequence[OfferId], how: str) -> None:
        for offer_id in offer_ids:
            offer = self._offers.pop(offer_id, None)
            if offer is not None:
                whose = machine.state.frameworks[offer.framework_id].info.name
                self._record.tell(f"{offer_id} to {whose} is {how}")

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Nothing is durable here."""

    def began(self, node: Node) -> None:
        """Told by itself."""

    def sends(self, node: Node) -> None:
        """Told by what is sent."""

    def failed(self, node: Node) -> None:
        """No disk fails here."""
