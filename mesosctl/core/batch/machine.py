"""The batch framework: takes jobs from commands, starts their tasks on offers, follows them.

Rules:
- A job is on disk before its acceptance is told, an attempt before it is launched, an update before
  it is acknowledged: all of them are written at the end of the pass that also sends the rest.
- After every subscription it asks for the state of each attempt that may run, and again until it
  is answered. It never concludes anything from silence.
- A kill is repeated until the task has ended, across restarts of anyone.
- It wants offers exactly while something could be started.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from mesosctl.core.batch.counter import Counter
from mesosctl.core.batch.fading import Fading
from mesosctl.core.batch.keeping import Keeping
from mesosctl.core.batch.keys import KeyAsked
from mesosctl.core.batch.launch import task_info
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.placing import Agents, place, refusal_s
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import META, META_KEY, Tables
from mesosctl.core.batch.updates import Outbox, Updates
from mesosctl.core.batch.wishing import Wishing
from mesosctl.core.driver import (
    AdmissionAnswered,
    AgentMoved,
    AgentsHeldBack,
    Answered,
    DriverEvent,
    FrameworkDriver,
    Incarnation,
    InverseOffersArrived,
    InverseOffersRescinded,
    OffersArrived,
    Registered,
    StatusArrived,
    StopAsked,
    SubscriptionFailed,
)
from mesosctl.core.machine import (
    Effect,
    Event,
    Log,
    NewId,
    Now,
    PeerLost,
    Put,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.limits import LOG_KEEP_S, REFUSE_S
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.tasks import Reason
from mesosctl.protocol.messages.agent import TaskKill
from mesosctl.protocol.messages.explain import Fits
from mesosctl.protocol.messages.query import PrincipalIs

LINK = "master"
# Kills that were not heeded and questions that were not answered are repeated this often.
REPEAT_S = 5.0
# Items of one message to the master.
BATCH_ITEMS = 1_000
# A removed framework's tasks are being ended by their agents: this and their grace is waited.
REMOVED_MARGIN_S = 5.0
OUSTED_AGAIN_S = 60.0  # Thrown out twice within this, it believes that there is another one.
REFUSED_EXIT = 5
# The end of a terminal is no end of a daemon.
SIGHUP = 1


class BatchMachine:
    """See the module's rules. `tables` are the records of the store, table by table."""

    def __init__(
        self,
        info: FrameworkInfo,
        tables: Tables,
        new_id: NewId,
        *,
        master: str = "",
        filter_s: float = REFUSE_S,
        log_keep_s: float = LOG_KEEP_S,
    ) -> None:
        meta = tables.get(META, {}).get(META_KEY, {})
        self.cluster = str(meta.get("cluster", ""))
        self._epoch = int(meta.get("epoch", 0))
        self._info = replace(info, framework_id=FrameworkId(str(meta.get("framework_id", ""))))
        self._incarnation = Incarnation(int(meta.get("life", 0)) + 1)
        self._new_id = new_id
        self._master = master
        self._filter_s = filter_s
        self.queue = Queue()
        self.queue.load(tables)
        self.queue.next_number = max(self.queue.next_number, int(meta.get("next_job", 1)))
        self.agents = Agents()
        self._keeping = Keeping(self.agents.seen, self.agents.withheld)
        self.outlook = Outlook(self.agents, self.queue)
        self._outbox = Outbox()
        self.updates = Updates(self.queue, self._outbox)
        self.wishing = Wishing(self.queue)
        self.driver = self._new_driver()
        self.counter = Counter(
            self.driver, self.queue, self._outbox, self.outlook, info.role, self.cluster, new_id
        )
        self.fading = Fading(self.queue, self.counter.watches.is_watched, log_keep_s)
        self._repeat_at: float | None = None
        self._meta_dirty = bool(self._info.framework_id)
        self._stopping = False
        self._ousted_at = -math.inf

    def _new_driver(self) -> FrameworkDriver:
        return FrameworkDriver(
            self._info,
            self._new_id,
            link=LINK,
            suppressed=not self.wishing.told.is_wanted,
            demand=self.wishing.told.demand,
            where=self.wishing.told.where,
            epoch=self._epoch,
            incarnation=self._incarnation,
        )

    def listen_at(self, address: str, public_key: str) -> None:
        """Tell, before the first event, where commands reach this framework."""
        self._info = replace(self._info, address=address, public_key=public_key)
        self.driver = self.counter.driver = self._new_driver()

    # --- events -----------------------------------------------------------------------------------
    def handle(self, event: Event, now: Now) -> Sequence[Effect]:
        """Take one event; answer what is to be done, in order."""
        if self._stopping:
            return []
        self._look(now)
        match event:
            case Started():
                jobs, live = len(self.queue.jobs), len(self.queue.live)
                text = f"batch framework starts with {jobs} jobs, {live} attempts under way"
                return [Log("info", text), *self.driver.start(now)]
            case Received(peer=peer) if peer == LINK:
                self._learn_cluster(event.envelope.cluster)
                effects = self._driven(self.driver.receive(event, now), now)
                self._learn_epoch()
                return effects
            case Received():
                return self.counter.receive(event, now)
            case PeerLost(peer=peer, moved=moved) if peer == LINK:
                return self._driven(self.driver.lost(now, moved), now)
            case PeerLost(peer=peer):
                self.counter.drop(peer)
                return []
            case KeyAsked(key=key):
                return self.counter.key_asked(key, now)
            case Tick():
                return self._tick(now)
            case Signalled(signum=signum) if signum != SIGHUP:
                return self._stop("told to by a signal")
            case _:
                return []

    def _look(self, now: Now) -> None:
        self.outlook.is_registered = self.driver.is_registered
        self.outlook.now, self.outlook.wall = now.mono, now.wall
        self.outlook.drained = None

    def _learn_cluster(self, cluster: str) -> None:
        if cluster and cluster != self.cluster:
            self.cluster = self.counter.sessions.cluster = cluster
            self._meta_dirty = True

    def _learn_epoch(self) -> None:
        # Kept, so that a master that was deposed is not believed after a restart of ours either.
        if self.driver.epoch > self._epoch:
            self._epoch = self.driver.epoch
            self._meta_dirty = True

    def _driven(self, outcome: tuple[list[DriverEvent], list[Effect]], now: Now) -> list[Effect]:
        events, effects = outcome
        for event in events:
            effects += self._told_by_master(event, now)
        return effects

    def _told_by_master(self, event: DriverEvent, now: Now) -> list[Effect]:
        match event:
            case Registered(framework_id=framework_id, first=first):
                # What runs in our name and is on no list of ours (a queue that was restored from
                # its backup, say) nobody else would ever end.
                strays = self.driver.reconcile_all() if first else []
                return [*self._registered(framework_id, now), *strays]
            case StatusArrived(updates=updates):
                self.updates.take(updates, self.driver.framework_id, now)
                return []
            case OffersArrived(offers=offers):
                for offer in offers:
                    self.agents.note(offer, self.queue)
                return []
            case AgentMoved(agent_id=agent_id, state=state):
                if state == "gone":
                    self.agents.forget(agent_id)
                ask = self.updates.on_agent(agent_id, state, now)
                kills = [] if state == "unreachable" else self._kills_on(agent_id)
                self._outbox.kills += kills
                return self._reconcile(ask)
            case AgentsHeldBack(agents=agents):
                self.agents.hold_back(agents)
                return []
            case InverseOffersArrived(offers=asked):
                # We place nothing there anyway, and what is ended at the deadline runs elsewhere.
                self._touch_on(self.agents.ask_back(asked))
                return self.driver.answer_inverse([one.inverse_offer_id for one in asked])
            case InverseOffersRescinded(inverse_offer_ids=void):
                self._touch_on(self.agents.keep(void))
                return []
            case AdmissionAnswered(
                request=request, address=address, public_key=key, problem=problem
            ):
                return self.counter.locator.answered(request, address, key, problem)
            case Answered(message=PrincipalIs(key=key, principal=principal)):
                return self.counter.key_answered(key, principal, now)
            case Answered(message=Fits() as fits):
                return self.counter.fits_answered(fits, now)
            case SubscriptionFailed(code=code, message=text):
                return self._subscription_failed(code, text, now)
            case StopAsked():
                return self._stop("the master that started it stops")
            case _:
                return []

    def _kills_on(self, agent_id: AgentId) -> list[TaskKill]:
        return [kill for kill in self.updates.kills_due() if kill.agent_id == agent_id]

    def _registered(self, framework_id: FrameworkId, now: Now) -> list[Effect]:
        if framework_id != self._info.framework_id:
            self._info = replace(self._info, framework_id=framework_id)
            self._meta_dirty = True
        self.wishing.pressed = ()
        self.outlook.wanted_since = now.mono if self.wishing.told.is_wanted else None
        # The master tells anew of all that hold.
        self.agents.withheld.clear()
        self._touch_on(self.agents.keep(list(self.agents.asked_back)))
        self.counter.keys.asked_again()
        self.updates.forget_leases()
        self._outbox.kills += self.updates.kills_due()
        self._repeat_at = now.mono + REPEAT_S
        log = Log("info", f"subscribed as {framework_id}")
        return [log, *self._reconcile(self.updates.expect_all())]

    def _touch_on(self, agents: Collection[AgentId]) -> None:
        """Have watchers told of tasks on these agents, of which something new is to be said."""
        for job, task in self.queue.live_tasks() if agents else ():
            if task.agent_id in agents:
                self.queue.touch(job, task)

    def _reconcile(self, refs: Sequence[tuple[TaskId, AgentId]]) -> list[Effect]:
        parts = [refs[at : at + BATCH_ITEMS] for at in range(0, len(refs), BATCH_ITEMS)]
        return [effect for part in parts for effect in self.driver.reconcile(part)]

    def _subscription_failed(self, code: str, text: str, now: Now) -> list[Effect]:
        if code == "failed-over" and now.mono >= self._ousted_at + OUSTED_AGAIN_S:
            self._ousted_at = now.mono
            self.driver = self.counter.driver = self._new_driver()
            return [Log("warning", f"{text}; subscribing again"), *self.driver.start(now)]
        if code != "removed":
            self._stopping = True
            return [Stop(REFUSED_EXIT, f"the master refuses this framework ({code}): {text}")]
        # The master says that the agents end what it ran under that id, which it never takes back.
        for wire_id in list(self.queue.stale):
            self.queue.bury(wire_id)
        for job, task in list(self.queue.live_tasks()):
            wait_s = job.spec.grace_s + REMOVED_MARGIN_S
            self.updates.gone(job, task, Reason.FRAMEWORK_REMOVED, text, now, wait_s)
        self.updates.unanswered.clear()
        self._info = replace(self._info, framework_id=FrameworkId(""))
        self._meta_dirty = True
        self.wishing = Wishing(self.queue)
        self.driver = self.counter.driver = self._new_driver()
        return [Log("warning", f"{text}; subscribing anew"), *self.driver.start(now)]

    def _stop(self, why: str) -> list[Effect]:
        self._stopping = True
        return [*self.driver.end(), Stop(0, f"batch framework stops: {why}")]

    # --- time -------------------------------------------------------------------------------------
    def _tick(self, now: Now) -> list[Effect]:
        effects = self._driven(self.driver.tick(now), now)
        effects += self.counter.expire(now)
        self.queue.due(now)
        if self._repeat_at is not None and now.mono >= self._repeat_at:
            self._outbox.kills += self.updates.kills_due()
            effects += self._reconcile(self.updates.open_questions())
            self._repeat_at = now.mono + REPEAT_S
        return effects

    def deadline(self) -> float | None:
        """When a Tick is wanted, in monotonic seconds."""
        times = [
            self.driver.deadline(),
            self.counter.deadline(),
            self.queue.deadline(),
            self.fading.deadline(),
            self._repeat_at if self._has_open_ends() else None,
        ]
        return min((time for time in times if time is not None), default=None)

    def _has_open_ends(self) -> bool:
        return bool(self.updates.unanswered or self.queue.killing or self.queue.stale)

    # --- the end of a pass ------------------------------------------------------------------------
    def settle(self, now: Now) -> Sequence[Effect]:
        """Place tasks, tell the master and the watchers, and have everything written before."""
        if self._repeat_at is None or (now.mono >= self._repeat_at and not self._has_open_ends()):
            self._repeat_at = now.mono + REPEAT_S
        self._look(now)
        sends: list[Effect] = []
        if not self._stopping:
            self.updates.end_leases(self.driver.vouched, now)
            sends += self._use_offers(now)
            is_new = bool(self.counter.clients.new_jobs)
            sends += self.wishing.state(self.driver, self.outlook, is_new, now)
            sends += self.wishing.press(self.driver)
        sends += self._mail(now)
        sends += [] if self._stopping else self.counter.fitting.look(self.driver, now)
        touched = self.queue.take_touched()
        puts = self.queue.puts(touched, self.counter.clients.new_jobs)
        self.fading.note(touched, now)
        if self.counter.clients.new_jobs or self._meta_dirty:
            puts.append(self._meta())
        self.counter.clients.new_jobs.clear()
        self.counter.watches.note(touched)
        sends += self.counter.watches.push(self.outlook, now)
        # Last: a job of this pass is told and written as what it was.
        return [*puts, *self.fading.settle(now), *sends]

    def _meta(self) -> Put:
        self._meta_dirty = False
        value = {
            "framework_id": self._info.framework_id,
            "cluster": self.cluster,
            "next_job": self.queue.next_number,
            "epoch": self._epoch,
            "life": self._incarnation.life,
        }
        return Put(META, META_KEY, value)

    def _use_offers(self, now: Now) -> list[Effect]:
        if not self.driver.offers or not self.driver.is_registered:
            return []
        effects: list[Effect] = []
        framework_id = self.driver.framework_id
        for slot in place(self.queue, self.driver.offers.values(), now.mono, self._keeping):
            offer_ids = (slot.offer.offer_id,)
            if slot.placed:
                tasks = [
                    task_info(job, task, framework_id, self._master) for job, task in slot.placed
                ]
                refuse_s = refusal_s(slot, self._filter_s)
                effects += self.driver.accept(offer_ids, tasks, refuse_s)
                self.wishing.has_launched = True
            else:
                effects += self.driver.decline(offer_ids, self._filter_s)
        return effects

    def _mail(self, now: Now) -> list[Effect]:
        acks, kills, logs = self._outbox.acks, self._outbox.kills, self._outbox.logs
        self._outbox.acks, self._outbox.kills, self._outbox.logs = [], [], []
        effects = logs
        for start in range(0, len(acks), BATCH_ITEMS):
            effects += self.driver.acknowledge(acks[start : start + BATCH_ITEMS])
        unique = list({(kill.task_id, kill.signum): kill for kill in kills}.values())
        for start in range(0, len(unique), BATCH_ITEMS):
            effects += self.driver.kill(unique[start : start + BATCH_ITEMS])
        if self.driver.is_registered and not self._stopping:
            effects += self.counter.questions(now)
        return effects

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        self.queue.check()
        self.fading.check()
