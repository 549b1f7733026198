"""A framework's scheduler in Python: subclass Scheduler, hand it to a Driver, run it.

Rules:
- Callbacks run one at a time in the thread that called `run`; they must not block for long, or the
  master takes the framework for dead (three heartbeats of 5 s).
- An update is acknowledged when its callback has returned: keep first what you must not forget.
- An offer that is not answered is rescinded after a while and its agent withheld, so decline what
  you do not use.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from pathlib import Path

from mesosctl.core.driver import (
    AgentMoved,
    Disconnected,
    DriverEvent,
    FrameworkDriver,
    InverseOffersArrived,
    InverseOffersRescinded,
    OffersArrived,
    OffersRescinded,
    OperationsDone,
    Registered,
    StatusArrived,
    StopAsked,
    SubscriptionFailed,
)
from mesosctl.core.machine import (
    Effect,
    Event,
    Now,
    PeerLost,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.limits import FAILOVER_TIMEOUT_S, REFUSE_S
from mesosctl.model.cluster import Demand, FrameworkInfo, Offer, Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.tasks import StatusUpdate, TaskInfo
from mesosctl.protocol.messages.agent import TaskKill
from mesosctl.protocol.messages.framework import Operation, OperationResult
from mesosctl.protocol.messages.maintenance import InverseOffer
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.masters import link_to_master
from mesosctl.storage.keys import load_key

LINK = "master"


class Scheduler:
    """What a framework does. Every method may be left as it is: it does nothing."""

    def registered(self, driver: Driver, framework_id: FrameworkId) -> None:
        """The master knows the framework: for the first time, or again after an absence.

        This is the moment to `driver.reconcile` whatever is believed to run.
        """

    def disconnected(self, driver: Driver) -> None:
        """The master does not answer. All offers are void; tasks go on."""

    def offers(self, driver: Driver, offers: Sequence[Offer]) -> None:
        """Resources to accept or decline."""
        driver.decline(offers)

    def rescinded(self, driver: Driver, offer_ids: Sequence[OfferId]) -> None:
        """These offers are void."""

    def status(self, driver: Driver, update: StatusUpdate) -> None:
        """A task took a step; it is acknowledged when this returns."""

    def operated(self, driver: Driver, results: Sequence[OperationResult]) -> None:
        """What became of operations; not told again if the connection is lost before it is heard.

        Offers show what is reserved and which volumes there are, whatever was heard.
        """

    def agent_moved(self, driver: Driver, agent_id: AgentId, name: str, state: str) -> None:
        """An agent that runs our tasks became `unreachable`, `registered` or `gone`.

        Tasks on an agent that an operator declared gone are over; `status` tells of each.
        """

    def inverse_offers(self, driver: Driver, offers: Sequence[InverseOffer]) -> None:
        """Agents that run our tasks are to be emptied by an operator.

        What is left there `deadline_s` seconds from now is ended, with the reason `Drained`; None
        means that it may finish. Nothing new is offered there. Tell the operator with
        `driver.answer_inverse` whether it will be empty in time; it is only shown.
        """

    def inverse_rescinded(self, driver: Driver, offer_ids: Sequence[OfferId]) -> None:
        """These agents stay after all, or are asked back anew on other terms."""

    def failed(self, driver: Driver, code: str, message: str) -> None:
        """The master refuses the framework, or has removed it; `run` ends with 5."""

    def interrupted(self, driver: Driver, signum: int) -> None:
        """The process was sent a signal; by default the framework leaves and its tasks go on."""
        driver.stop()


class Driver:
    """A framework's connection to a master.

    `master` is an address like `tcp://127.0.0.1:5050`, several of them with commas between, or
    `zk://HOST,HOST/PATH` (needs the extra `zk`); `key` is the path of a key file. `user` is whom
    tasks run as (default: whoever runs this). `framework_id`: the id of an earlier run to come back
    under. Raises Refused for a bad key file, UsageError for a bad address.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        name: str,
        master: str,
        key: str | Path,
        user: str = "",
        role: str = "*",
        failover_timeout_s: float = FAILOVER_TIMEOUT_S,
        framework_id: str = "",
        demand: Demand | None = None,
        suppressed: bool = False,
    ) -> None:
        held = load_key(Path(key))
        info = FrameworkInfo(
            FrameworkId(framework_id),
            name,
            user or getpass.getuser(),
            role,
            failover_timeout_s,
        )
        self._machine = _Machine(self, scheduler, info, demand, suppressed)
        self._loop = Loop(self._machine, role=name)
        link_to_master(self._loop, LINK, master, held)

    @property
    def framework_id(self) -> FrameworkId:
        """The id that the master gave; empty before `registered`."""
        return self._machine.driver.framework_id

    def run(self) -> int:
        """Run until `stop`, `teardown` or a refusal; 0, or the exit code of what went wrong."""
        return self._loop.run()

    def every(self, interval_s: float, deed: Callable[[], None]) -> None:
        """Call `deed` every `interval_s` seconds while `run` runs."""

        def fire() -> Sequence[Event]:
            deed()
            return (Tick(),)

        self._loop.every(interval_s, fire)

    def accept(
        self,
        offers: Sequence[Offer],
        tasks: Sequence[TaskInfo],
        refuse_s: float = REFUSE_S,
        operations: Sequence[Operation] = (),
    ) -> None:
        """Launch tasks on offers of one agent; the rest is refused for `refuse_s` seconds.

        `operations` go first: they reserve what is offered for the framework's role or for one
        below it, or give it back; they create volumes of reserved disk, and destroy those that are
        offered, which takes until the agent has done it. What became of them is told to
        `Scheduler.operated`.
        """
        ids = [offer.offer_id for offer in offers]
        self._machine.do(self._machine.driver.accept(ids, tasks, refuse_s, operations))

    def decline(self, offers: Sequence[Offer], refuse_s: float = REFUSE_S) -> None:
        """Give offers back; what they hold is not offered again for `refuse_s` seconds."""
        ids = [offer.offer_id for offer in offers]
        self._machine.do(self._machine.driver.decline(ids, refuse_s))

    def answer_inverse(
        self, accepted: Sequence[InverseOffer] = (), declined: Sequence[InverseOffer] = ()
    ) -> None:
        """Tell operators that agents will be left in time, or will not."""
        yes = [offer.inverse_offer_id for offer in accepted]
        no = [offer.inverse_offer_id for offer in declined]
        self._machine.do(self._machine.driver.answer_inverse(yes, no))

    def revive(self, demand: Demand | None = None, where: Sequence[Where] = ()) -> None:
        """Want offers (again) at once, whatever was declined; `demand` says how much.

        `where`: only of agents that one of these accepts, as in `Where("rack==r1 && ssd")`; with
        none, of every agent. It takes the place of what was said before.
        """
        self._machine.do(self._machine.driver.revive(demand, tuple(where)))

    def state_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Say what waits, the first one first: a master that preempts may make room for it.

        To be said again after every `registered` and every launch; till then nothing is done.
        """
        self._machine.do(self._machine.driver.state_waiting(waiting))

    def suppress(self) -> None:
        """Want no offers until `revive`."""
        self._machine.do(self._machine.driver.suppress())

    def kill(
        self,
        task_id: str,
        agent_id: str = "",
        *,
        grace_s: float | None = None,
        signum: int | None = None,
    ) -> None:
        """End a task (TERM, grace, KILL), or with `signum` only send it that signal."""
        kill = TaskKill(TaskId(task_id), agent_id, grace_s, signum)
        self._machine.do(self._machine.driver.kill((kill,)))

    def reconcile(self, tasks: Sequence[tuple[TaskId, AgentId]] | None = None) -> None:
        """Ask for the state of tasks, or of all that the master knows; answers come as `status`."""
        driver = self._machine.driver
        self._machine.do(driver.reconcile_all() if tasks is None else driver.reconcile(tasks))

    def teardown(self) -> None:
        """End the framework with all its tasks, and `run`."""
        self._machine.do([*self._machine.driver.teardown(), Stop(0)])

    def stop(self) -> None:
        """Leave: `run` ends, tasks go on until the failover timeout."""
        self._machine.do([*self._machine.driver.end(), Stop(0)])


class _Machine:
    """The loop's view of a scheduler: callbacks collect the effects they ask for."""

    def __init__(
        self,
        owner: Driver,
        scheduler: Scheduler,
        info: FrameworkInfo,
        demand: Demand | None,
        suppressed: bool,
    ) -> None:
        self.driver = FrameworkDriver(info, new_id, link=LINK, demand=demand, suppressed=suppressed)
        self._owner = owner
        self._scheduler = scheduler
        self._asked: list[Effect] = []

    def do(self, effects: Sequence[Effect]) -> None:
        """Have these carried out at the end of the present event."""
        self._asked.extend(effects)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event, calling the scheduler for what it means."""
        events: list[DriverEvent] = []
        effects: list[Effect] = []
        match event:
            case Started():
                effects = self.driver.start(now)
            case Received():
                events, effects = self.driver.receive(event, now)
            case PeerLost(moved=moved):
                events, effects = self.driver.lost(now, moved)
            case Tick():
                events, effects = self.driver.tick(now)
            case Signalled(signum=signum):
                self._scheduler.interrupted(self._owner, signum)
            case _:
                pass
        for told in events:
            self._tell(told)
        asked, self._asked = self._asked, []
        return [*effects, *asked]

    def _tell(self, event: DriverEvent) -> None:
        owner, scheduler = self._owner, self._scheduler
        match event:
            case Registered(framework_id=framework_id):
                scheduler.registered(owner, framework_id)
            case Disconnected():
                scheduler.disconnected(owner)
            case OffersArrived(offers=offers):
                scheduler.offers(owner, offers)
            case OffersRescinded(offer_ids=offer_ids):
                scheduler.rescinded(owner, offer_ids)
            case StatusArrived(updates=updates):
                for update in updates:
                    scheduler.status(owner, update)
                self.do(self.driver.acknowledge(updates))
            case AgentMoved(agent_id=agent_id, name=name, state=state):
                scheduler.agent_moved(owner, agent_id, name, state)
            case OperationsDone(results=results):
                scheduler.operated(owner, results)
            case InverseOffersArrived(offers=asked):
                scheduler.inverse_offers(owner, asked)
            case InverseOffersRescinded(inverse_offer_ids=void):
                scheduler.inverse_rescinded(owner, void)
            case SubscriptionFailed(code=code, message=message):
                scheduler.failed(owner, code, message)
                self.do([Stop(5, message)])
            case StopAsked():
                owner.stop()
            case _:
                pass

    def settle(self, now: Now) -> list[Effect]:
        """What timers asked for between events."""
        asked, self._asked = self._asked, []
        return asked

    def deadline(self) -> float | None:
        """The driver's next timer."""
        return self.driver.deadline()

    def check(self) -> None:
        """Nothing here is kept twice."""
