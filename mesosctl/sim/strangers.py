"""Schedulers of other people on the public driver, and not good ones: they hoard, err and meddle.

Rules: what a stranger does is drawn from the seed, one deed after the other. Whatever it does must
hurt nobody else. When the cluster heals it either ends itself or stays and goes on hoarding.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from mesosctl.core.driver import (
    DriverEvent,
    FrameworkDriver,
    OffersArrived,
    Registered,
    StatusArrived,
    SubscriptionFailed,
)
from mesosctl.core.machine import Effect, Event, NewId, Now, PeerLost, Put, Received, Started, Tick
from mesosctl.model.cluster import Demand, FrameworkInfo, Offer, Waiting
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskState
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    KillTasks,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import Accept, Decline, Subscribe
from mesosctl.protocol.messages.query import TeardownFramework

LINK = "master"
DEED_S = (0.2, 4.0)
REFUSALS_S = (-1.0, 0.0, 0.001, 5.0, 3600.0, 1e9)
SIZES = ("cpus:1;mem:256", "cpus:2;mem:512", "cpus:0.1;mem:32", "cpus:64;mem:1048576")


class Prey(NamedTuple):
    """A task of somebody else, and an offer that is not the stranger's (empty: none is out)."""

    framework_id: FrameworkId
    task_id: TaskId
    agent_id: AgentId
    uuid: str
    offer_id: OfferId
    # Whether the master of this epoch knows whose the framework is.
    is_known: bool


@dataclass(frozen=True, slots=True)
class Character:
    """What a stranger is like: which deeds it does, and whether it stays after healing."""

    deeds: tuple[str, ...]
    failover_timeout_s: float
    stays: bool


class Stranger:
    """See the module. `prey` finds something of somebody else; `is_healed`: time to behave."""

    def __init__(
        self,
        name: str,
        framework_id: FrameworkId,
        character: Character,
        chance: random.Random,
        new_id: NewId,
        prey: Callable[[], Prey | None],
        is_healed: Callable[[], bool],
        role: str = "*",
    ) -> None:
        self._info = FrameworkInfo(framework_id, name, "me", role, character.failover_timeout_s)
        self._character = character
        self._chance = chance
        self._new_id = new_id
        self._prey = prey
        self._is_healed = is_healed
        self._driver = self._new_driver()
        self._live: dict[TaskId, AgentId] = {}
        # The latest executor of its own on each agent, which may have ended.
        self._guests: dict[AgentId, TaskId] = {}
        self._unacked: dict[str, StatusUpdate] = {}
        self._old_offers: list[Offer] = []
        self._next_s: float | None = None
        self._wants: list[Effect] = []
        self.is_over = False

    def _new_driver(self) -> FrameworkDriver:
        demand = (
            Demand(Resources.parse(SIZES[0]), 3) if "demands" in self._character.deeds else None
        )
        return FrameworkDriver(self._info, self._new_id, link=LINK, demand=demand)

    @property
    def offers(self) -> tuple[OfferId, ...]:
        """The offers that it believes to hold."""
        return tuple(self._driver.offers)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Started():
                self._next_s = now.mono
                return self._driver.start(now)
            case Received():
                events, effects = self._driver.receive(event, now)
            case PeerLost(moved=moved):
                events, effects = self._driver.lost(now, moved)
            case Tick():
                events, effects = self._driver.tick(now)
            case _:
                return []
        for told in events:
            effects += self._told(told, now)
        return effects

    def _told(self, event: DriverEvent, now: Now) -> list[Effect]:
        match event:
            case Registered(framework_id=framework_id):
                self._info = replace(self._info, framework_id=framework_id)
                return [Put("meta", "stranger", {"framework_id": framework_id})]
            case OffersArrived(offers=offers):
                self._old_offers = [*self._old_offers, *offers][-20:]
            case StatusArrived(updates=updates):
                for update in updates:
                    if update.uuid:
                        self._unacked[update.uuid] = update
                    if update.is_terminal:
                        self._live.pop(update.task_id, None)
            case SubscriptionFailed(code=code):
                if code == "removed":
                    self._info = replace(self._info, framework_id=FrameworkId(""))
                    self._live.clear()
                    self._unacked.clear()
                # Thrown out, for good reason or not: it does not give up.
                self._driver = self._new_driver()
                return [] if self.is_over else self._driver.start(now)
            case _:
                pass
        return []

    def settle(self, now: Now) -> list[Effect]:
        """Do the next deed, if it is time for one."""
        if self.is_over or self._next_s is None or now.mono < self._next_s:
            return []
        self._next_s = now.mono + self._chance.uniform(*DEED_S)
        if not self._driver.is_registered:
            return []
        if self._is_healed():
            return self._behave()
        deed = self._chance.choice(self._character.deeds)
        effects: list[Effect] = getattr(self, f"_{deed}")()
        return effects

    def _behave(self) -> list[Effect]:
        if not self._character.stays:
            self.is_over = True
            return self._driver.teardown()
        kills = [TaskKill(task_id, agent_id) for task_id, agent_id in self._live.items()]
        calm = self._driver.state_waiting([])
        return [*calm, *self._acknowledges(), *self._driver.kill(kills[:1])]

    # --- deeds of a fool --------------------------------------------------------------------------
    def _hoards(self) -> list[Effect]:
        return []

    def _demands(self) -> list[Effect]:
        size = Resources.parse(self._chance.choice(SIZES))
        return self._driver.revive(Demand(size, self._chance.choice([0, 1, 1000])))

    def _presses(self) -> list[Effect]:
        """Have others preempted, for tasks that it may never launch."""
        size = Resources.parse(self._chance.choice(SIZES))
        count, priority = self._chance.choice([1, 3]), self._chance.choice([0, 9])
        return self._driver.state_waiting([Waiting(size, count, priority)])

    def _wavers(self) -> list[Effect]:
        return self._driver.suppress() if self._chance.random() < 0.5 else self._driver.revive()

    def _declines(self) -> list[Effect]:
        offers = list(self._driver.offers)
        return self._driver.decline(offers, self._chance.choice(REFUSALS_S)) if offers else []

    def _acknowledges(self) -> list[Effect]:
        updates = list(self._unacked.values())
        self._unacked.clear()
        return self._driver.acknowledge(updates)

    def _kills(self) -> list[Effect]:
        kills = [TaskKill(task_id, agent_id) for task_id, agent_id in self._live.items()]
        return self._driver.kill(kills)

    def _launches(self) -> list[Effect]:
        offers = list(self._driver.offers.values())
        return self._launch(self._chance.choice(offers)) if offers else []

    def _launches_late(self) -> list[Effect]:
        """Use an offer that was used, declined or rescinded."""
        return self._launch(self._chance.choice(self._old_offers)) if self._old_offers else []

    def _launches_again(self) -> list[Effect]:
        """Use the id of a task that is under way, on the agent where it is."""
        here = [o for o in self._driver.offers.values() if o.agent_id in self._live.values()]
        if not here:
            return []
        offer = self._chance.choice(here)
        known = next(task for task, agent in self._live.items() if agent == offer.agent_id)
        return self._launch(offer, known)

    def _launch(self, offer: Offer, task_id: TaskId | None = None) -> list[Effect]:
        wire = task_id or TaskId(f"s{self._new_id()[-8:]}.0.1")
        size = Resources.parse(self._chance.choice(SIZES))
        task = TaskInfo(wire, "work", offer.agent_id, size, Command(argv=("work",)), grace_s=1.0)
        if "presses" in self._character.deeds:
            task = replace(task, preemptible=True, priority=len(self._live) % 3)
        self._live[wire] = offer.agent_id
        return self._driver.accept((offer.offer_id,), (task,), self._chance.choice(REFUSALS_S))

    def _launches_lanes(self) -> list[Effect]:
        """Fill an offer with a lane, some of it too large, or add to one that is there."""
        offers = list(self._driver.offers.values())
        if not offers:
            return []
        offer, lane = self._chance.choice(offers), self._chance.choice(["lane", self._new_id()])
        tasks = []
        for number in range(6):
            size = Resources.parse(self._chance.choice([SIZES[0]] * 3 + [SIZES[1]]))
            wire = TaskId(f"s{self._new_id()[-8:]}.{number}.1")
            command = Command(argv=("work",))
            tasks.append(
                TaskInfo(wire, "work", offer.agent_id, size, command, grace_s=1.0, lane=lane)
            )
            self._live[wire] = offer.agent_id
        return self._driver.accept((offer.offer_id,), tasks, 0.0)

    def _launches_guests(self) -> list[Effect]:
        """An executor of its own and tasks for it; or only tasks, for one that may be there."""
        offers = list(self._driver.offers.values())
        if not offers:
            return []
        offer, small = self._chance.choice(offers), Resources.parse(SIZES[2])
        tasks, command = [], Command(argv=("work",))
        if offer.agent_id not in self._guests or self._chance.random() < 0.3:
            self._guests[offer.agent_id] = TaskId(f"s{self._new_id()[-8:]}.0.1")
            own = self._guests[offer.agent_id]
            info = TaskInfo(own, "own", offer.agent_id, small, command, grace_s=1.0)
            tasks.append(replace(info, is_executor=True))
        for number in range(3):
            wire = TaskId(f"s{self._new_id()[-8:]}.{number}.1")
            info = TaskInfo(wire, "work", offer.agent_id, small, command, grace_s=1.0)
            limit_s = self._chance.choice([None, None, 2.0])
            executor = self._guests[offer.agent_id]
            tasks.append(replace(info, executor=executor, time_limit_s=limit_s))
        self._live |= {task.task_id: offer.agent_id for task in tasks}
        return self._driver.accept((offer.offer_id,), tasks, 0.0)

    # --- deeds of a villain: each beyond its rights -----------------------------------------------
    def _meddles(self) -> list[Effect]:
        prey = self._prey()
        return [] if prey is None else self._driver.ask(self._chance.choice(self._crimes(prey)))

    def _crimes(self, prey: Prey) -> list[Message]:
        owner, task_id, agent_id = prey.framework_id, prey.task_id, prey.agent_id
        mine = self._driver.framework_id
        ended = StatusUpdate(owner, task_id, agent_id, TaskState.FINISHED, uuid=prey.uuid, at=0.0)
        crimes: list[Message] = [
            Acknowledge((Ack(owner, task_id, agent_id, prey.uuid),)),
            Acknowledge((Ack(mine, task_id, agent_id, prey.uuid),)),
            KillTasks(owner, (TaskKill(task_id, agent_id),)),
            KillTasks(mine, (TaskKill(task_id, agent_id),)),
            StatusUpdates((ended,)),
            Subscribe(FrameworkInfo(mine, "root", "root")),
            TeardownFramework(owner),
        ]
        if prey.is_known:
            crimes.append(Subscribe(FrameworkInfo(owner, "thief", "me")))
        if prey.offer_id:
            loot, size = TaskId("loot.0.1"), Resources.parse(SIZES[2])
            task = TaskInfo(loot, "work", agent_id, size, Command(argv=("work",)))
            crimes += [Accept((prey.offer_id,), (task,), 0.0), Decline((prey.offer_id,), 3600.0)]
        return crimes

    def deadline(self) -> float | None:
        """The driver's next timer, or the next deed."""
        if self.is_over:
            return None
        times = [self._driver.deadline(), self._next_s]
        return min((at for at in times if at is not None), default=None)

    def check(self) -> None:
        """Nothing is kept twice."""
