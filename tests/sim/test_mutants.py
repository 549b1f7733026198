"""The judges are judged: each bug planted here must be found within so many seeds.

A bug that no seed finds shows that a fault or a judge is missing, not that the bug is harmless.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.agent import AgentMachine
from mesosctl.core.agent.executors import Executors
from mesosctl.core.agent.reaping import Reaper
from mesosctl.core.agent.task import Phase
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.batch import updates
from mesosctl.core.batch.clients import Clients
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import CANCELS
from mesosctl.core.batch.records import TASKS as BATCH_TASKS
from mesosctl.core.batch.updates import Updates
from mesosctl.core.executor_effects import ContainerEmptied
from mesosctl.core.executor_lives import TaskLives
from mesosctl.core.executor_updates import Updates as ExecutorUpdates
from mesosctl.core.machine import Now, Put
from mesosctl.core.master import agents, frameworks, launching
from mesosctl.core.master.machine import DISPATCH
from mesosctl.core.master.state import MasterState
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.model.tasks import TERMINAL, Reason, StatusUpdate, TaskState, Usage
from mesosctl.protocol.messages.framework import Reconcile
from tests.sim.planting import SEEDS_MAX, finding

Patch = pytest.MonkeyPatch
_NOWHERE = Now(0.0, 0.0)


def offer_stays(patch: Patch) -> None:
    """An offer is not removed when it is used."""

    def look(state: MasterState, offer_id: Any) -> Any:
        outstanding = state.offers.get(offer_id)
        return outstanding.offer if outstanding else None

    patch.setattr(launching, "take_back", look)


def _without(patch: Patch, drops: Callable[[Put], bool]) -> None:
    original = Queue.puts
    patch.setattr(Queue, "puts", lambda *given: [put for put in original(*given) if not drops(put)])


def intent_not_kept(patch: Patch) -> None:
    """The framework launches attempts that it never wrote down."""
    _without(patch, lambda put: put.table == BATCH_TASKS and put.value["state"] == "staging")


def intent_kept_late(patch: Patch) -> None:
    """The framework writes an attempt down one pass after it has launched it."""
    original = Queue.puts
    waiting: list[Any] = []

    def late(*given: Any) -> list[Any]:
        before = list(waiting)
        waiting[:] = [put for put in original(*given) if put.table == BATCH_TASKS]
        return [*before, *(put for put in original(*given) if put.table != BATCH_TASKS)]

    patch.setattr(Queue, "puts", late)


def end_not_kept(patch: Patch) -> None:
    """The framework acknowledges ends that it never wrote down."""
    _without(patch, lambda put: put.table == BATCH_TASKS and put.value["state"] in ("ok", "failed"))


def kill_not_kept(patch: Patch) -> None:
    """What was cancelled before it started is forgotten by a restart."""
    _without(patch, lambda put: put.table == CANCELS)


def agent_acks_without_put(patch: Patch) -> None:
    """The agent takes an end from its executor and does not write it down."""
    original = Tasks.take

    def take(self: Tasks, update: StatusUpdate) -> Any:
        original(self, update)
        return []

    patch.setattr(Tasks, "take", take)


def server_ignores_gaps(patch: Patch) -> None:
    """The binding side goes on as if nothing had been lost."""
    original = ServerSessions._problem

    def problem(self: ServerSessions, *given: Any) -> str:
        found = original(self, *given)
        return "" if found == "gap" else found

    patch.setattr(ServerSessions, "_problem", problem)


def client_ignores_gaps(patch: Patch) -> None:
    """The connecting side goes on as if nothing had been lost."""
    original = ClientSession.receive

    def receive(self: ClientSession, envelope: Any, now: Now) -> Any:
        if envelope.session == self._id:
            self._received = envelope.seq - 1
        return original(self, envelope, now)

    patch.setattr(ClientSession, "receive", receive)


def known_id_runs_again(patch: Patch) -> None:
    """Agent and executor both run a task id again that they know."""
    register = Executors.register

    def hand_on_again(self: Executors, peer: str, message: Any, now: Now) -> Any:
        effects = register(self, peer, message, now)
        for task in self._tasks.of(Phase.SENT):
            effects += self._tasks.take_back(task, now)
        return effects

    run = TaskLives.run

    def forget_first(self: TaskLives, launches: Any, now: Now) -> Any:
        for launch in launches:
            known = self._tasks.pop(launch.container, None)
            if known is not None:
                self._running -= known.phase.name == "RUNNING"
                self._starts._under_way -= known.phase.name == "ORDERED"
        return run(self, launches, now)

    patch.setattr(Executors, "register", hand_on_again)
    patch.setattr(TaskLives, "run", forget_first)


def receiver_not_kept(patch: Patch) -> None:
    """The agent does not write down which executor it tells of a task."""
    original = Tasks.sent

    def sent(self: Tasks, *given: Any) -> list[Any]:
        original(self, *given)
        return []

    patch.setattr(Tasks, "sent", sent)


def dropped_before_return(patch: Patch) -> None:
    """The master says DROPPED of a task whose agent has not come back."""
    original = frameworks._unknown_task

    def unknown(state: Any, framework_id: Any, task_id: Any, agent_id: Any, now: Now) -> Any:
        known = original(state, framework_id, task_id, agent_id, now)
        text = StatusUpdate(framework_id, task_id, agent_id, TaskState.DROPPED, at=now.wall)
        return known or replace(text, reason=Reason.RECONCILED)

    patch.setattr(frameworks, "_unknown_task", unknown)


def unknown_is_gone(patch: Patch) -> None:
    """The master says GONE of the tasks of an agent that only does not answer."""
    original = frameworks.on_reconcile

    def reconcile(state: Any, peer: str, message: Any, now: Now) -> Any:
        effects = []
        for effect in original(state, peer, message, now):
            told = effect.envelope.message
            updates = tuple(
                replace(one, state=TaskState.GONE) if one.state is TaskState.UNREACHABLE else one
                for one in told.updates
            )
            envelope = replace(effect.envelope, message=replace(told, updates=updates))
            effects.append(replace(effect, envelope=envelope))
        return effects

    patch.setitem(DISPATCH, Reconcile, ("framework", reconcile))


def returned_agent_not_compared(patch: Patch) -> None:
    """The master says nothing of tasks without which an agent came back."""
    original = agents._task_is_not_there

    def silent(state: MasterState, task: Any, now: Now) -> list[Any]:
        framework = state.frameworks[task.framework_id]
        # To send and then not to send would leave a gap, which the session would heal.
        peer, framework.peer = framework.peer, ""
        effects = original(state, task, now)
        framework.peer = peer
        return effects

    patch.setattr(agents, "_task_is_not_there", silent)


def once_runs_again(patch: Patch) -> None:
    """A task of `--once` that was lost is run again."""

    def gone(self: Updates, job: Any, task: Any, *said: Any) -> None:
        self.queue.requeue(job, task)

    patch.setattr(Updates, "gone", gone)


def unreachable_runs_again(patch: Patch) -> None:
    """A task whose agent does not answer is started elsewhere."""

    def unreachable(self: Updates, job: Any, task: Any, now: Now) -> None:
        self.queue.requeue(job, task)

    patch.setattr(Updates, "unreachable", unreachable)


def attempt_ignored(patch: Patch) -> None:
    """The end of an earlier attempt counts as the end of the present one."""
    original = Updates._find

    def find(self: Updates, task_id: Any) -> Any:
        found = original(self, task_id)
        return found and (found[0], found[1], found[1].attempt)

    patch.setattr(Updates, "_find", find)


def never_asks(patch: Patch) -> None:
    """The framework does not ask for its tasks after it has subscribed again."""
    patch.setattr(Updates, "expect_all", lambda self: [])


def released_twice(patch: Patch) -> None:
    """Each update of an ended task gives its resources back once more."""
    original = MasterState.set_state

    def set_state(self: MasterState, task: Any, state: TaskState) -> None:
        if task.state in TERMINAL:
            self.allocator.release(task.framework_id, task.agent_id, task.resources)
        original(self, task, state)

    patch.setattr(MasterState, "set_state", set_state)


def end_before_empty(patch: Patch) -> None:
    """The executor reports an end while something of the container is alive."""

    def busy(self: TaskLives, event: Any, now: Now) -> Any:
        return self.emptied(ContainerEmptied(event.container, Usage()), now)

    patch.setattr(TaskLives, "busy", busy)


def gone_before_empty(patch: Patch) -> None:
    """The agent reports GONE for the tasks of a dead executor without killing them first."""

    def kill(self: Reaper, containers: Any) -> list[Any]:
        effects: list[Any] = []
        for task in [self._tasks.get(name) for name in containers]:
            if task is not None and task.phase is Phase.DOOMED:
                effects += self._tasks.end(task, TaskState.GONE, *task.doom, _NOWHERE)
        return effects

    patch.setattr(Reaper, "kill", kill)


def forgotten_before_ack(patch: Patch) -> None:
    """The agent forgets a task when it has sent its end once."""
    original = Tasks.take

    def take(self: Tasks, update: StatusUpdate) -> Any:
        effects = original(self, update)
        task = self.get(f"{update.framework_id}/{update.task_id}")
        if effects and task is not None and task.phase is Phase.ENDED:
            self._farewells += task.updates
            effects += self._forget(task)
        return effects

    patch.setattr(Tasks, "take", take)


def never_resent(patch: Patch) -> None:
    """The agent sends each update once."""

    def tick(self: Tasks, now: Now) -> None:
        while self._retries and self._retries[0][0] <= now.mono:
            task = self.get(heapq.heappop(self._retries)[1])
            if task is not None:
                task.due = None

    patch.setattr(Tasks, "repeat", lambda self, tasks=None: None)
    patch.setattr(Tasks, "tick", tick)


def executor_keeps_no_updates(patch: Patch) -> None:
    """The executor does not tell again what the agent has not taken."""
    patch.setattr(ExecutorUpdates, "take_all", lambda self: ())


def second_job(patch: Patch) -> None:
    """A request that is repeated becomes a second job."""
    original = Clients._submit

    def submit(self: Clients, caller: Any, message: Any, now: Now) -> Any:
        self.queue.requests.pop((caller.principal.name, message.request_id), None)
        return original(self, caller, message, now)

    patch.setattr(Clients, "_submit", submit)


def id_from_master(patch: Patch) -> None:
    """An agent has no id before the master's first answer, which may be lost."""
    original = AgentMachine.__init__

    def init(self: AgentMachine, info: Any, *given: Any) -> None:
        original(self, replace(info, agent_id=""), *given)

    patch.setattr(AgentMachine, "__init__", init)


def lease_ends_early(patch: Patch) -> None:
    """The framework starts another attempt long before the lease of the first is over."""
    patch.setattr(updates, "LEASE_SLACK_SHARE", -1.0)
    patch.setattr(updates, "LEASE_SLACK_S", 0.0)


# Each with the first seed that finds it as plans are drawn today: it is tried before all others,
# so that the tests are quick.
MUTANTS = {
    lease_ends_early: 25,
    id_from_master: 52,
    offer_stays: 1,
    intent_not_kept: 1,
    intent_kept_late: 1,
    end_not_kept: 1,
    kill_not_kept: 17,
    agent_acks_without_put: 1,
    server_ignores_gaps: 2,
    client_ignores_gaps: 4,
    known_id_runs_again: 1,
    receiver_not_kept: 1,
    dropped_before_return: 6,
    unknown_is_gone: 8,
    returned_agent_not_compared: 8,
    once_runs_again: 15,
    unreachable_runs_again: 23,
    attempt_ignored: 5,
    never_asks: 1,
    released_twice: 1,
    end_before_empty: 1,
    gone_before_empty: 17,
    forgotten_before_ack: 1,
    never_resent: 1,
    executor_keeps_no_updates: 2,
    second_job: 18,
}


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_found(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """Judges that miss a bug that was planted would miss the same bug of ours."""
    plant(monkeypatch)
    seeds = [MUTANTS[plant], *range(1, SEEDS_MAX + 1)]
    assert finding(seeds), f"not found within {SEEDS_MAX} seeds: {plant.__doc__}"
