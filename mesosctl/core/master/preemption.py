"""Preemption: which tasks are revoked for whom, and when. Off unless the operator turned it on.

Rules:
- Only for what a framework says that waits (StateWaiting), and has waited for PREEMPT_AFTER_S, and
  what neither is free nor comes free anyway would serve. Of the agents with tasks that may be
  revoked, PREEMPT_SCAN at once, that is chosen on which fewest have to go.
- A framework's own tasks give way to waiting ones of a higher priority; those of others as
  allocation/entitlement.py says. Never, while agents have yet to come back to a new master: what
  roles hold is not known then.
- Offers of the agent that such others hold are rescinded, before any task is counted in, and so are
  the framework's own: what they hold comes again with the rest.
- Only tasks on agents that answer; of a lane only one that is left alone: lanes are short.
- A look costs little however large the cluster is: agents are put in the order of a bound on how
  many have to go there, and exactly looked at in that order, PREEMPT_SEARCHES at once.
What is revoked is told KILLED, or DROPPED if it had not started, with the reason Preempted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from itertools import islice

from mesosctl.allocation.entitlement import Entitlement, spares
from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.preempting import Candidate, Worth, cost, fewest
from mesosctl.allocation.quota import cut
from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master.clearing import Clearing, Kind, Press, kind_of
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.state import AgentRecord, FrameworkRecord, MasterState, TaskRecord
from mesosctl.core.master.wheres import problem_of
from mesosctl.limits import (
    KILL_GRACE_S,
    PREEMPT_AFTER_S,
    PREEMPT_HOLD_S,
    PREEMPT_IDLE_LOOK_S,
    PREEMPT_LOOK_S,
    PREEMPT_LOOKS,
    PREEMPT_LOTS,
    PREEMPT_SCAN,
    PREEMPT_SEARCHES,
    WAITING_MAX,
)
from mesosctl.model.cluster import Waiting
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.model.records import dataclass
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.tasks import TERMINAL, Reason, TaskState
from mesosctl.model.values import top_of
from mesosctl.protocol.messages.agent import KillTasks, TaskKill
from mesosctl.protocol.messages.framework import StateWaiting
from mesosctl.protocol.messages.session import Refusal

OWN = 1
# After everybody who may be revoked.
LAST = (OWN + 1, 0)


def on_state_waiting(
    state: MasterState, peer: str, message: StateWaiting, now: Now
) -> list[Effect]:
    """Remember what a framework waits for; a master that does not preempt has no use for it."""
    problem = problem_of(tuple([one.where for one in message.waiting if one.where]))
    if len(message.waiting) > WAITING_MAX:
        problem = f"more than {WAITING_MAX} kinds of tasks are stated"
    if problem:
        return state.send(peer, Refusal(state.sessions.answered(peer), "invalid", problem[:500]))
    if state.clearings.is_on:
        state.clearings.state_waiting(state.framework_of_peer[peer], message.waiting, now)
    return []


@dataclass(slots=True)
class _Choice:
    """What would have to go on one agent."""

    agent_id: AgentId
    victims: tuple[Candidate, ...]
    # Offers of others that count as free, and how long what is on its way out may take.
    offers: tuple[OfferId, ...]
    grace_s: float

    @property
    def worth(self) -> tuple[int, list[Worth], AgentId]:
        return len(self.victims), cost(self.victims), self.agent_id


@dataclass(slots=True)
class _Search:
    """For whom agents are looked at."""

    framework: FrameworkRecord
    kind: Kind
    claim: Entitlement | None
    spares: dict[str, dict[str, int]]
    levels: dict[FrameworkId, tuple[int, int] | None] = field(default_factory=dict)

    @property
    def framework_id(self) -> FrameworkId:
        return self.framework.info.framework_id


def look(state: MasterState, now: Now) -> list[Effect]:
    """Revoke what is to be revoked now."""
    clearings = state.clearings
    if not clearings.presses and not clearings.by_agent:
        return []
    clearings.prepare(state, now)
    if now.mono < clearings.look_at or not clearings.presses or not clearings.revocable:
        return []
    clearings.look_at = now.mono + PREEMPT_LOOK_S
    if state.limits_wait_until is not None:
        return []
    effects: list[Effect] = []
    for framework, press in list(islice(_in_turn(state, now), PREEMPT_LOOKS)):
        found = []
        for waiting in press.waiting:
            if now.mono >= press.since[kind_of(waiting)] + PREEMPT_AFTER_S:
                found += _serve(state, framework, waiting, now)
        effects += found
        press.vain = 0 if found else press.vain + 1
        if not found:
            press.idle_until = now.mono + PREEMPT_IDLE_LOOK_S
    return effects


def _in_turn(state: MasterState, now: Now) -> Iterable[tuple[FrameworkRecord, Press]]:
    """Those for whom something may be revoked, those first whose turn it is."""
    presses, allocator = state.clearings.presses, state.allocator
    order = allocator.order() if isinstance(allocator, Ledger) else presses
    for name in order:
        press = presses.get(FrameworkId(name))
        framework = state.frameworks.get(FrameworkId(name))
        if press is None or framework is None or now.mono < press.due_at:
            continue
        if framework.peer and not framework.suppressed:
            yield framework, press


def _serve(
    state: MasterState, framework: FrameworkRecord, waiting: Waiting, now: Now
) -> list[Effect]:
    """Make room for the tasks of one kind, as many as neither offers nor clearings are for."""
    kind = kind_of(waiting)
    offers = [state.offers[offer_id].offer.resources for offer_id in framework.offers]
    left = waiting.count - sum(offer.count_fitting(waiting.task) for offer in offers)
    left -= state.clearings.lots(framework.info.framework_id).count(kind)
    effects: list[Effect] = []
    for _ in range(min(left, PREEMPT_LOTS)):
        chosen = _choose(state, _search(state, framework, kind), now)
        if chosen is None:
            break
        effects += _begin(state, framework, kind, chosen, now)
    return effects


def _search(state: MasterState, framework: FrameworkRecord, kind: Kind) -> _Search:
    allocator, role = state.allocator, framework.info.role
    if not isinstance(allocator, Ledger):
        return _Search(framework, kind, None, {})
    promised: dict[str, int] = {}
    left = spares(allocator)
    for kept in state.clearings.by_agent.values():
        other = state.frameworks.get(kept.framework_id)
        if other is not None and top_of(other.info.role) == top_of(role):
            for task, _, _ in kept.lots:
                _add(promised, task, 1)
        for framework_id, task_id in kept.victims if left else ():
            owner = state.frameworks.get(framework_id)
            known = None if owner is None else owner.tasks.get(task_id)
            if owner is not None and known is not None and known.holds_resources:
                _add(left.get(top_of(owner.info.role)), known.resources.unreserved(), -1)
    need = kind[0].quantities()
    claim = Entitlement(allocator, framework.info.framework_id, role, need, promised)
    return _Search(framework, kind, claim, left)


def _add(sums: dict[str, int] | None, resources: Resources, sign: int) -> None:
    for name, amount in resources.quantities().items() if sums is not None else ():
        if sums is not None:
            sums[name] = sums.get(name, 0) + sign * amount


# --- choosing -------------------------------------------------------------------------------------
def _choose(state: MasterState, search: _Search, now: Now) -> _Choice | None:
    """The agent on which fewest have to go; None if there is none, or it fits as it is."""
    if search.claim is not None and search.claim.is_barred:
        return None
    press = state.clearings.presses[search.framework_id]
    order = _promising(state, search, now)
    start = press.vain * PREEMPT_SEARCHES % len(order) if order else 0
    best: _Choice | None = None
    for least, _, agent_id in [*order[start:], *order[:start]][:PREEMPT_SEARCHES]:
        if best is not None and _is_no_better(state, search, agent_id, least, best):
            continue
        most = None if best is None else len(best.victims)
        found = _on_agent(state, search, state.agents[agent_id], most)
        if found is None:
            continue
        if not found.victims and not found.offers and not found.grace_s:
            # It is free: the next allocation gives it, or something else keeps it off.
            return None
        if best is None or found.worth < best.worth:
            best = found
    return best


def _promising(state: MasterState, search: _Search, now: Now) -> list[tuple[int, int, AgentId]]:
    """Agents by how many have to go there at the least, then those with the youngest tasks."""
    found = []
    need = search.kind[0].quantities()
    for agent_id in state.clearings.next_agents(PREEMPT_SCAN):
        agent, pool = state.agents[agent_id], state.clearings.revocable[agent_id]
        if not _is_for(state, search, agent, now):
            continue
        least: int | None = 0
        ends = agent.offers or any(t.state is TaskState.KILLING for t in agent.tasks.values())
        if not ends and agent_id not in state.clearings.by_agent:
            # Nothing comes free by itself.
            least = pool.least(state.free(agent).quantities(), need)
        if least is not None:
            found.append((least, -pool.youngest, agent_id))
    return sorted(found)


def _is_no_better(
    state: MasterState, search: _Search, agent_id: AgentId, least: int, best: _Choice
) -> bool:
    """Whether no choice on this agent could be better, told without looking for one."""
    count = len(best.victims)
    if least < count or not count:
        return least > count
    # As many at the least: the best of those that are there, if just they would do.
    tasks = state.clearings.revocable[agent_id].tasks.values()
    if len(tasks) < count:
        return True
    mine, entered = search.framework_id, state.clearings.entered
    worths = []
    for number, task in tasks:
        level = (0, 0) if task.revocable is None else (OWN, task.revocable.priority)
        if task.framework_id != mine:
            level = _level(state, search, task.framework_id) or LAST
        worths.append((level, entered - number))
    return least > count or sorted(worths)[count - 1] >= cost(best.victims)[0]


def _is_for(state: MasterState, search: _Search, agent: AgentRecord, now: Now) -> bool:
    """Whether the framework would take the agent if there were room."""
    agent_id, (task, _, where) = agent.info.agent_id, search.kind
    framework_id = search.framework_id
    clearing = state.clearings.by_agent.get(agent_id)
    gathering = state.gatherings.by_agent.get(agent_id)
    kept = [one.framework_id for one in (clearing, gathering) if one is not None]
    if not state.is_offerable(agent_id) or any(one != framework_id for one in kept):
        return False
    if agent.info.total.allocatable_to(search.framework.info.role).take(task) is None:
        return False
    if state.wheres.excludes(framework_id, agent.info):
        return False
    if not where.accepts(state.wheres.place(agent.info)):
        return False
    return not state.filters.blocks(framework_id, agent_id, task, now.mono)


def _level(
    state: MasterState, search: _Search, framework_id: FrameworkId
) -> tuple[int, int] | None:
    if framework_id not in search.levels:
        other = state.frameworks.get(framework_id)
        found = None
        if search.claim is not None and other is not None and framework_id != search.framework_id:
            found = search.claim.level(framework_id, other.info.role)
        search.levels[framework_id] = found
    return search.levels[framework_id]


def _on_agent(
    state: MasterState, search: _Search, agent: AgentRecord, most: int | None
) -> _Choice | None:
    """The fewest tasks of one agent that would have to go; None if it cannot be done."""
    agent_id, (task, priority, _) = agent.info.agent_id, search.kind
    role, claim = search.framework.info.role, search.claim
    kept = state.clearings.by_agent.get(agent_id)
    pool = state.clearings.revocable[agent_id].tasks
    coming, mine, grace_s = EMPTY, EMPTY, 0.0
    candidates = []
    for key, one in agent.tasks.items():
        if not one.holds_resources or _is_shared(state, one):
            continue
        owner = state.frameworks[one.framework_id].info.role
        if one.state is TaskState.KILLING or (kept is not None and key in kept.victims):
            coming = coming + one.resources
            mine = mine + one.resources if top_of(owner) == top_of(role) else mine
            grace_s = max(grace_s, KILL_GRACE_S, one.revocable.grace_s if one.revocable else 0.0)
            continue
        if one.revocable is None:
            continue
        if one.framework_id == search.framework_id:
            level = (OWN, one.revocable.priority)
            top, may = "", one.revocable.priority < priority
        else:
            found = _level(state, search, one.framework_id)
            level, top, may = found or (0, 0), top_of(owner), found is not None
        if may:
            age = state.clearings.entered - pool[key][0]
            candidates.append(Candidate(*key, one.resources, level, age, top))
    offers = [
        offer_id
        for offer_id in agent.offers
        if offer_id in search.framework.offers
        or _level(state, search, state.offers[offer_id].offer.framework_id) is not None
    ]
    for offer_id in offers:
        coming = coming + state.offers[offer_id].offer.resources
    free = state.free(agent) + coming
    for lot in kept.lots if kept is not None else ():
        part = free.allocatable_to(role).take(lot[0])
        if part is None:
            return None
        free = free - part
    if claim is not None and claim.room is not None:
        back = (mine if claim.is_at_limit else coming).unreserved().quantities()
        free = cut(free, {name: left + back.get(name, 0) for name, left in claim.room.items()})
    victims = fewest(free, task, role, candidates, search.spares, most)
    if victims is None:
        return None
    return _Choice(agent_id, victims, tuple(offers), grace_s)


def _is_shared(state: MasterState, task: TaskRecord) -> bool:
    """Whether others of its lane hold what it holds."""
    if not task.lane:
        return False
    lane = state.frameworks[task.framework_id].lanes.get((task.agent_id, task.lane))
    return lane is None or lane.open > 1


# --- doing it -------------------------------------------------------------------------------------
def _begin(
    state: MasterState, framework: FrameworkRecord, kind: Kind, chosen: _Choice, now: Now
) -> list[Effect]:
    agent_id, name = chosen.agent_id, framework.info.name
    framework_id, role = framework.info.framework_id, framework.info.role
    kept = state.clearings.by_agent.setdefault(agent_id, Clearing(framework_id, now.mono))
    kept.lots.append(kind)
    grace_s = chosen.grace_s
    kills: dict[FrameworkId, list[TaskKill]] = {}
    for one in chosen.victims:
        key = FrameworkId(one.framework), one.task
        task = state.frameworks[key[0]].tasks[key[1]]  # type: ignore[index]
        kept.victims[task.framework_id, task.task_id] = None
        grace_s = max(grace_s, task.revocable.grace_s if task.revocable else 0.0)
        text = f"for a task of priority {kind[1]}"
        if task.framework_id != framework_id:
            text = f"for role {role} (framework {name})"
        kill = TaskKill(task.task_id, agent_id, reason=Reason.PREEMPTED, text=text)
        kills.setdefault(task.framework_id, []).append(kill)
    kept.until = max(kept.until, now.mono + grace_s + PREEMPT_HOLD_S)
    effects: list[Effect] = list(rescind(state, chosen.offers))
    for owner, some in kills.items():
        effects += state.send_to_agent(agent_id, KillTasks(owner, tuple(some)))
    agent, count = state.agents[agent_id].info.name, len(chosen.victims)
    text = f"agent {agent} ({agent_id}): {count} tasks are preempted for framework {name}"
    return [*effects, Log("info", f"{text}, role {role}, which waits for {kind[0]}")]


def ending(state: MasterState, agent_id: AgentId) -> int:
    """How many tasks that were revoked on an agent have yet to end."""
    kept = state.clearings.by_agent.get(agent_id)
    tasks = state.agents[agent_id].tasks
    known = [tasks.get(key) for key in kept.victims] if kept is not None else []
    return sum(1 for task in known if task is not None and task.state not in TERMINAL)
