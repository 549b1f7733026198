"""Frameworks at the master: subscription, failover, launches, acknowledgements, removal."""

from __future__ import annotations

import re
from dataclasses import replace

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import draining
from mesosctl.core.master.maintenance import gone_update, withheld_agents
from mesosctl.core.master.newest import is_overtaken, note
from mesosctl.core.master.offering import take_back
from mesosctl.core.master.registry import Mode
from mesosctl.core.master.state import (
    REMOVED_FRAMEWORKS_KEPT,
    FrameworkRecord,
    MasterState,
    TaskRecord,
)
from mesosctl.core.master.unreachable import is_unreachable, tell_of_missing
from mesosctl.core.master.wheres import problem_of
from mesosctl.limits import ADMISSION_S, HEARTBEAT_S, RECOVERED_FRAMEWORK_S
from mesosctl.model.cluster import Demand, FrameworkInfo, Principal
from mesosctl.model.digests import sha256_hex
from mesosctl.model.ids import AgentId, FrameworkId, is_ident, is_role
from mesosctl.model.tasks import TERMINAL, Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    AdmitKey,
    KillTasks,
    ShutdownFramework,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.framework import (
    Admit,
    Admitted,
    FrameworkError,
    Reconcile,
    Revive,
    Subscribe,
    Subscribed,
    Suppress,
    TaskRef,
    Teardown,
)
from mesosctl.protocol.messages.maintenance import AgentsWithheld
from mesosctl.protocol.messages.session import Refusal

TAKEN_OVER = "another process subscribed under this id"
# All tasks of a framework may be more than one frame holds.
UPDATES_PER_MESSAGE = 1_000
# Ids given by mesosctl 0.1.0 are shorter and name no owner.
_TAGGED = re.compile(r"F([0-9a-f]{8})[0-9a-f]{8}")


def on_subscribe(state: MasterState, peer: str, message: Subscribe, now: Now) -> list[Effect]:
    """Give a framework its id, or take it back under the one it has."""
    info = message.framework
    code, problem = _subscription_problem(state, peer, info)
    if not problem:
        code, problem = "invalid", problem_of(message.where)
    if problem:
        return state.send(peer, FrameworkError(code, problem))
    principal = state.principal(peer)
    framework_id = info.framework_id or state.framework_of_peer.get(peer, FrameworkId(""))
    framework_id = framework_id or _new_id(state, principal)
    info = replace(info, framework_id=framework_id, principal=principal.name if principal else "")
    effects: list[Effect] = []
    framework = state.frameworks.get(framework_id)
    if framework is not None and message.process in framework.outlived:
        return state.send(peer, FrameworkError("failed-over", TAKEN_OVER))
    if framework is not None and is_overtaken(framework, message):
        # Connections are read in turns: it has subscribed anew since, and must not be thrown out.
        return state.sessions.reset(peer, "replaced") if framework.peer != peer else []
    if framework is None:
        framework = FrameworkRecord(info, principal)
        state.frameworks[framework_id] = framework
    elif framework.peer and framework.peer != peer:
        # A newer incarnation takes over; the older one must not go on believing it is the one.
        effects += state.send(framework.peer, FrameworkError("failed-over", TAKEN_OVER))
        effects += _disconnect(state, framework)
    framework.info, framework.principal, framework.peer = info, principal, peer
    note(framework, message)
    framework.key = state.sessions.key(peer)
    framework.suppressed, framework.remove_at, framework.silent_s = message.suppressed, None, 0.0
    framework.subscribed_wall = now.wall
    state.framework_of_peer[peer] = framework_id
    _set_demand(state, framework, message.demand)
    state.wheres.say(framework_id, message.where)
    state.show_framework(framework)
    cluster, preempts = state.cluster_name, state.clearings.is_on
    effects += state.send(peer, Subscribed(framework_id, HEARTBEAT_S, cluster, preempts))
    withheld = withheld_agents(state)
    if withheld:
        effects += state.send(peer, AgentsWithheld(withheld))
        effects += draining.framework_is_here(state, framework, now)
    # What nobody acknowledged while it was away is told at once, not when the agent tries again.
    missed = tuple(task.update for task in framework.tasks.values() if task.update)
    if missed:
        effects += state.send(peer, StatusUpdates(missed))
    effects.append(Log("info", f"framework {info.name} ({framework_id}) subscribed"))
    return effects


def _new_id(state: MasterState, principal: Principal | None) -> FrameworkId:
    """A fresh id that tells whose it is: a restarted master has nobody else to ask.

    Framework ids are not in the registry. Without their owner in them, another key could take one
    between a restart of the master and the return of its framework, and its tasks with it.
    """
    return FrameworkId(f"F{_owner_tag(principal)}{state.new_id()[-8:]}")


def _owner_tag(principal: Principal | None) -> str:
    """The name behind a key in eight hexadecimal digits, alike for a later key of that name."""
    return sha256_hex((principal.name if principal else "").encode())[:8]


def _subscription_problem(state: MasterState, peer: str, info: FrameworkInfo) -> tuple[str, str]:
    principal = state.principal(peer)
    if principal is None or not principal.may_be("framework"):
        return "not-permitted", "this key may not act as a framework"
    if not is_ident(info.name):
        return "invalid", f"framework name {info.name[:40]!r} may hold only [A-Za-z0-9._-]"
    if not is_role(info.role):
        return "invalid", f"{info.role[:40]!r} is no role"
    if not principal.may_use_role(info.role):
        return "not-permitted", f"key {principal.name} may not use role {info.role}"
    if not principal.may_run_as(info.user):
        return "not-permitted", f"key {principal.name} may not run tasks as user {info.user!r}"
    if not 0 <= info.failover_timeout_s <= 365 * 86_400:
        return "invalid", "the failover timeout must be between 0 and 365 days"
    if info.framework_id in state.removed:
        return "removed", f"framework {info.framework_id} has been removed"
    known = state.frameworks.get(info.framework_id)
    is_another = known is not None and known.key not in ("", state.sessions.key(peer))
    is_tagged = _TAGGED.fullmatch(info.framework_id)
    if is_another or (is_tagged and is_tagged[1] != _owner_tag(principal)):
        return "not-permitted", f"framework {info.framework_id} belongs to another key"
    if (
        info.framework_id
        and state.framework_of_peer.get(peer, info.framework_id) != info.framework_id
    ):
        # Offers and updates go to a connection: two frameworks on one could not be told apart.
        text = f"this connection is framework {state.framework_of_peer[peer]}"
        return "invalid", f"{text}: {info.framework_id} needs a connection of its own"
    return "", ""


def recover_framework(state: MasterState, info: FrameworkInfo, now: Now) -> None:
    """Enter a framework that only its tasks on an agent tell of; it has time to come back."""
    framework = FrameworkRecord(info, None)
    state.frameworks[info.framework_id] = framework
    state.show_framework(framework)
    if info.framework_id not in state.removed:
        framework.remove_at = now.mono + max(info.failover_timeout_s, RECOVERED_FRAMEWORK_S)


def _disconnect(state: MasterState, framework: FrameworkRecord) -> list[Effect]:
    framework_id = framework.info.framework_id
    state.framework_of_peer.pop(framework.peer, None)
    framework.peer = ""
    state.show_framework(framework)
    state.filters.clear(framework_id)
    state.wheres.forget_framework(framework_id)
    state.clearings.forget_framework(framework_id)
    draining.forget_framework(state, framework_id)
    for offer_id in list(framework.offers):
        take_back(state, offer_id)
    return []


def on_framework_away(state: MasterState, framework_id: FrameworkId, now: Now) -> list[Effect]:
    """The framework's session ended: its offers come back, its tasks wait for the timeout."""
    framework = state.frameworks[framework_id]
    _disconnect(state, framework)
    timeout_s = framework.info.failover_timeout_s
    if timeout_s == 0:
        return remove_framework(state, framework, "it left", now)
    framework.remove_at = now.mono + timeout_s
    name = framework.info.name
    text = f"framework {name} ({framework_id}) left; kept for {timeout_s:g} s"
    return [Log("info", text)]


def remove_framework(
    state: MasterState, framework: FrameworkRecord, why: str, now: Now
) -> list[Effect]:
    """End a framework for good: its tasks are ended by their agents, its id is not used again."""
    framework_id = framework.info.framework_id
    effects: list[Effect] = []
    if framework.peer:
        text = f"framework {framework_id} has been removed: {why}"
        effects += state.send(framework.peer, FrameworkError("removed", text))
        _disconnect(state, framework)
    framework.remove_at = None
    state.removed[framework_id] = why
    while len(state.removed) > REMOVED_FRAMEWORKS_KEPT:
        del state.removed[next(iter(state.removed))]
    agents: dict[AgentId, None] = {task.agent_id: None for task in framework.tasks.values()}
    for agent_id in agents:
        effects += state.send(state.agents[agent_id].peer, ShutdownFramework(framework_id))
    # A task whose end was told already only waits for an acknowledgement that will not come.
    for task in list(framework.tasks.values()):
        if task.state in TERMINAL:
            if task.update is not None:
                update = task.update
                ack = Ack(framework_id, task.task_id, task.agent_id, update.uuid)
                effects += state.send(state.agents[task.agent_id].peer, Acknowledge((ack,)))
            state.forget_task(task)
    state.bury(framework)
    effects.append(Log("info", f"framework {framework.info.name} ({framework_id}): {why}"))
    return effects


def expire_frameworks(state: MasterState, now: Now) -> list[Effect]:
    """Remove frameworks that did not come back within their failover timeout."""
    effects: list[Effect] = []
    for framework in list(state.frameworks.values()):
        if framework.remove_at is not None and now.mono >= framework.remove_at:
            effects += remove_framework(state, framework, "its failover timeout is over", now)
    return effects


def deadline(state: MasterState) -> float | None:
    """When the next absent framework is removed."""
    return min(
        (f.remove_at for f in state.frameworks.values() if f.remove_at is not None), default=None
    )


def _set_demand(state: MasterState, framework: FrameworkRecord, demand: Demand | None) -> None:
    framework.states_demand = demand is not None
    framework.task_size = None if demand is None else demand.task
    framework.task_count = None if demand is None else demand.count
    state.gatherings.stated(framework.info.framework_id)


def on_revive(state: MasterState, peer: str, message: Revive, now: Now) -> list[Effect]:
    """Offers again, and every refusal forgotten."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    problem = problem_of(message.where)
    if problem:
        return state.send(peer, Refusal(state.sessions.answered(peer), "invalid", problem[:500]))
    framework.suppressed = False
    state.filters.clear(framework.info.framework_id)
    state.wheres.say(framework.info.framework_id, message.where)
    _set_demand(state, framework, message.demand)
    state.show_framework(framework)
    return []


def on_suppress(state: MasterState, peer: str, message: Suppress, now: Now) -> list[Effect]:
    """No offers until the framework revives."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    framework.suppressed = True
    state.show_framework(framework)
    return []


def on_kill(state: MasterState, peer: str, message: KillTasks, now: Now) -> list[Effect]:
    """Pass kills on to the agents; for a task that is not known, tell what is known of it."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    framework_id = framework.info.framework_id
    passed: dict[AgentId, list[TaskKill]] = {}
    effects: list[Effect] = []
    for kill in message.kills:
        task = framework.tasks.get(kill.task_id)
        if task is None:
            if kill.agent_id:
                unknown = _unknown_task(state, framework_id, kill.task_id, kill.agent_id, now)
                effects += state.send(peer, StatusUpdates((unknown,))) if unknown else []
        elif task.state not in TERMINAL:
            # Why a framework wants an end is no business of others; other reasons are not its own.
            asked = replace(kill, reason=Reason.KILL_REQUESTED, text="")
            passed.setdefault(task.agent_id, []).append(asked)
    for agent_id, kills in passed.items():
        # An agent that is away gets it when the framework repeats it after the agent's return.
        effects += state.send_to_agent(agent_id, KillTasks(framework_id, tuple(kills)))
    return effects


def on_acknowledge(state: MasterState, peer: str, message: Acknowledge, now: Now) -> list[Effect]:
    """Pass acknowledgements on, and forget tasks whose end was acknowledged."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    passed: dict[AgentId, list[Ack]] = {}
    for ack in message.acks:
        task = framework.tasks.get(ack.task_id)
        if task is None or ack.framework_id != framework.info.framework_id:
            continue
        passed.setdefault(task.agent_id, []).append(ack)
        if task.update is not None and task.update.uuid == ack.uuid:
            ended = task.update.is_terminal
            task.update = None
            if ended:
                state.forget_task(task)
    effects: list[Effect] = []
    for agent_id, acks in passed.items():
        effects += state.send_to_agent(agent_id, Acknowledge(tuple(acks)))
    return effects


def on_reconcile(state: MasterState, peer: str, message: Reconcile, now: Now) -> list[Effect]:
    """Tell what is known of the tasks, or of all; of what cannot be known yet, say nothing."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    framework_id = framework.info.framework_id
    updates: list[StatusUpdate] = []
    known = [TaskRef(task.task_id, task.agent_id) for task in framework.tasks.values()]
    for ref in message.tasks or known:
        task = framework.tasks.get(ref.task_id)
        if task is None:
            unknown = _unknown_task(state, framework_id, ref.task_id, ref.agent_id, now)
            updates += [unknown] if unknown else []
            continue
        if task.update is not None:
            updates.append(task.update)
        if task.update is None or is_unreachable(state, task.agent_id):
            updates += _as_known(state, task, now)
    effects: list[Effect] = []
    for start in range(0, len(updates), UPDATES_PER_MESSAGE):
        part = tuple(updates[start : start + UPDATES_PER_MESSAGE])
        effects += state.send(peer, StatusUpdates(part))
    return effects


def _as_known(state: MasterState, task: TaskRecord, now: Now) -> list[StatusUpdate]:
    """The state of a task; nothing while its agent is away and may be back at any moment."""
    known, reason = task.state, Reason.RECONCILED
    if is_unreachable(state, task.agent_id):
        known, reason = TaskState.UNREACHABLE, Reason.AGENT_UNREACHABLE
    elif not state.agents[task.agent_id].peer:
        return []
    if task.state in TERMINAL:
        return []
    framework_id, task_id = task.framework_id, task.task_id
    return [StatusUpdate(framework_id, task_id, task.agent_id, known, reason=reason, at=now.wall)]


def _unknown_task(
    state: MasterState, framework_id: FrameworkId, task_id: str, agent_id: str, now: Now
) -> StatusUpdate | None:
    """What is certain about a task that the master does not hold.

    Its agent registered here without it: then its launch never arrived, for an agent forgets a task
    only after the framework acknowledged its end. That its registration is not one that came late
    shows what it says afterwards. Its agent was declared gone: then it is over. Its agent is not
    back yet: nothing is certain, and after a while it is unreachable.
    """
    agent, reason = state.agents.get(AgentId(agent_id)), Reason.RECONCILED
    entry = state.registry.get(AgentId(agent_id))
    if agent is not None and agent.peer and not agent.is_present:
        return None
    if agent is not None and agent.peer:
        known, text = TaskState.DROPPED, "its agent never received it"
    elif entry is not None and entry.mode is Mode.GONE:
        return gone_update(framework_id, task_id, AgentId(agent_id), entry, now)
    elif agent_id in state.missing:
        known, text = TaskState.UNREACHABLE, "its agent has not come back to this master"
        reason = Reason.AGENT_UNREACHABLE
        tell_of_missing(state, AgentId(agent_id), framework_id)
    elif entry is not None:
        return None
    else:
        known, text = TaskState.UNKNOWN, "neither the task nor its agent is known"
    return StatusUpdate(
        framework_id,
        task_id,  # type: ignore[arg-type]
        AgentId(agent_id),
        known,
        reason=reason,
        message=text,
        at=now.wall,
    )


def on_teardown(state: MasterState, peer: str, message: Teardown, now: Now) -> list[Effect]:
    """The framework ends itself."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    _disconnect(state, framework)
    return remove_framework(state, framework, "it ended", now)


def on_admit(state: MasterState, peer: str, message: Admit, now: Now) -> list[Effect]:
    """Have an agent let a key at the streams of one of this framework's tasks."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    agent = state.agents.get(message.agent_id)
    if agent is None or not agent.peer:
        problem = f"agent {agent.info.name if agent else message.agent_id} does not answer"
        return state.send(peer, Admitted(message.request, problem=problem))
    framework_id = framework.info.framework_id
    request = state.new_id()
    state.admissions[request] = (framework_id, message.request, message.agent_id)
    admit = AdmitKey(request, framework_id, message.task_id, message.key, ADMISSION_S)
    return state.send(agent.peer, admit)
