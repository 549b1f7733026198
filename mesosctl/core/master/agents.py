"""Agents at the master: admission, what they bring along, their updates, their absence."""

from __future__ import annotations

from dataclasses import replace

from mesosctl.core.machine import Effect, Log, Now
from mesosctl.core.master import draining, registry, volume_steps
from mesosctl.core.master.frameworks import recover_framework
from mesosctl.core.master.maintenance import finish_gone, gone_refusal
from mesosctl.core.master.newest import is_late
from mesosctl.core.master.offering import rescind
from mesosctl.core.master.pruning import forget_surplus
from mesosctl.core.master.registry import AgentEntry, Mode
from mesosctl.core.master.reserving import held_by
from mesosctl.core.master.state import AgentRecord, MasterState, TaskRecord
from mesosctl.core.master.unreachable import left, returned
from mesosctl.core.session import heartbeat_of
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.tasks import TERMINAL, Reason, StatusUpdate, TaskState
from mesosctl.model.volumes import total_of
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    AgentRegistered,
    KeyAdmitted,
    RegisterAgent,
    ReturnLanes,
    ShutdownFramework,
    StatusUpdates,
)
from mesosctl.protocol.messages.framework import Admitted
from mesosctl.protocol.messages.session import Refusal


def on_register(state: MasterState, peer: str, message: RegisterAgent, now: Now) -> list[Effect]:
    """Admit an agent, or take it back, with the tasks it has."""
    key = state.sessions.key(peer)
    if peer in state.agent_of_peer:
        text = f"this session is that of agent {state.agent_of_peer[peer]} already"
        return state.send(peer, Refusal(state.sessions.answered(peer), "invalid", text))
    agent_id = message.agent.agent_id or AgentId("A" + state.new_id()[-10:])
    known = state.registry.get(agent_id)
    if known is not None and known.key != key:
        refusal = Refusal(
            state.sessions.answered(peer),
            "not-permitted",
            f"agent {agent_id} was admitted with another key",
            "start it with the key it had, or with an empty work directory",
        )
        return state.send(peer, refusal)
    if known is not None and known.mode is Mode.GONE:
        text = f"agent {known.name} ({agent_id}) is back and was declared gone: refused"
        return [Log("warning", text), *state.send(peer, gone_refusal(state, peer, known))]
    incarnation = (message.life, message.opening)
    agent = state.agents.get(agent_id)
    if agent is not None and is_late(agent, incarnation):
        # Its list of tasks is older than what is known: taken for the truth, it would end tasks
        # that run.
        text = f"agent {message.agent.name} ({agent_id}) has registered anew since: ignored"
        return [Log("info", text), *state.sessions.reset(peer, "replaced")]
    effects: list[Effect] = []
    entry = replace(known or AgentEntry(key), name=message.agent.name)
    if entry != known:
        state.registry[agent_id] = entry
        effects += [registry.put(agent_id, entry), *forget_surplus(state)]
    effects += volume_steps.reconcile(state, agent_id, message.volumes)
    entry, own = state.registry[agent_id], message.agent.total
    total = total_of(own, entry.reserved, entry.volumes, held_by(message.tasks))
    info = replace(message.agent, agent_id=agent_id, total=total)
    if agent is None:
        agent = state.agents[agent_id] = AgentRecord(info, key, own)
    elif agent.peer:
        state.agent_of_peer.pop(agent.peer, None)
        effects += state.sessions.reset(agent.peer, "replaced")
    effects += rescind(state, list(agent.offers))
    agent.info, agent.own, agent.peer, agent.registered_wall = info, own, peer, now.wall
    agent.incarnation, agent.is_present = incarnation, False
    state.agent_of_peer[peer] = agent_id
    state.filters.drop_agent(agent_id)
    state.wheres.forget_agent(agent_id)
    state.show_agent(agent_id)
    # All that the registry knows, not only those that are back after a start of this master.
    known_agents = len(state.registry)
    heartbeat_s = heartbeat_of(known_agents)
    state.sessions.slow_down(peer, heartbeat_s)
    effects += state.send(peer, AgentRegistered(agent_id, heartbeat_s, known_agents))
    effects += volume_steps.order_again(state, agent_id)
    effects += _take_over(state, agent, message, now)
    effects += returned(state, agent)
    if state.mode(agent_id) is not Mode.IN_USE:
        effects += state.send(peer, ReturnLanes())
    effects += draining.agent_is_back(state, agent_id, now)
    effects.append(Log("info", f"agent {info.name} ({agent_id}) registered with {info.total}"))
    return effects


def _take_over(
    state: MasterState, agent: AgentRecord, message: RegisterAgent, now: Now
) -> list[Effect]:
    """Make the task list of the agent ours: it knows, we only remember."""
    effects: list[Effect] = []
    frameworks = {info.framework_id: info for info in message.frameworks}
    reported = {(task.framework_id, task.task_id): task for task in message.tasks}
    for key, report in reported.items():
        framework_id = report.framework_id
        if framework_id not in state.frameworks:
            info = frameworks.get(framework_id, FrameworkInfo(framework_id, framework_id, ""))
            recover_framework(state, info, now)
        task = agent.tasks.get(key)
        if task is None:
            task = TaskRecord(
                report.task_id,
                framework_id,
                agent.info.agent_id,
                report.name,
                report.resources,
                report.state,
                lane=report.lane,
                inherited=True,
                revocable=report.revocable,
            )
            state.add_task(task)
        else:
            state.set_state(task, report.state)
    for key, task in list(agent.tasks.items()):
        if key not in reported:
            effects += _task_is_not_there(state, task, now)
    for framework_id in {**dict.fromkeys(frameworks), **dict.fromkeys(k for k, _ in reported)}:
        if framework_id in state.removed:
            effects += state.send(agent.peer, ShutdownFramework(framework_id))
    return effects


def _task_is_not_there(state: MasterState, task: TaskRecord, now: Now) -> list[Effect]:
    """The agent came back without this task: its launch never arrived, or its state is gone.

    An inherited one had ended and its end was acknowledged, the agent forgets nothing else: what it
    was listed in came late. Its framework knows how it ended, and must not hear otherwise.
    """
    effects: list[Effect] = []
    if task.inherited:
        state.set_state(task, TaskState.GONE)
    elif task.state not in TERMINAL:
        never_started = task.state is TaskState.STAGING
        ended = TaskState.DROPPED if never_started else TaskState.GONE
        update = StatusUpdate(
            task.framework_id,
            task.task_id,
            task.agent_id,
            ended,
            reason=Reason.RECONCILED,
            message="the agent came back without it",
            at=now.wall,
        )
        state.set_state(task, ended)
        framework = state.frameworks[task.framework_id]
        effects += state.send(framework.peer, StatusUpdates((update,)))
    state.forget_task(task)
    return effects


def on_updates(state: MasterState, peer: str, message: StatusUpdates, now: Now) -> list[Effect]:
    """Pass updates on to their frameworks and free what their tasks do not use any more."""
    agent = state.agents[state.agent_of_peer[peer]]
    passed: dict[FrameworkId, list[StatusUpdate]] = {}
    unclaimed: list[Ack] = []
    for update in message.updates:
        if update.agent_id != agent.info.agent_id:
            text = f"agent {agent.info.name} spoke for agent {update.agent_id}: ignored"
            return [Log("warning", text)]
        task = agent.tasks.get((update.framework_id, update.task_id))
        if task is None or update.framework_id in state.removed:
            # Nobody is left to acknowledge it, and the agent must be able to forget.
            unclaimed.append(Ack(update.framework_id, update.task_id, update.agent_id, update.uuid))
            if task is not None:
                state.set_state(task, update.state)
                if update.is_terminal:
                    state.forget_task(task)
            continue
        task.update = update
        newest = update.state
        if message.latest:
            newest = message.latest.get(f"{update.framework_id}/{update.task_id}", newest)
        state.set_state(task, newest)
        passed.setdefault(update.framework_id, []).append(update)
    effects: list[Effect] = []
    for framework_id, updates in passed.items():
        effects += state.send(state.frameworks[framework_id].peer, StatusUpdates(tuple(updates)))
    if unclaimed:
        effects += state.send(peer, Acknowledge(tuple(unclaimed)))
    return effects


def on_key_admitted(state: MasterState, peer: str, message: KeyAdmitted, now: Now) -> list[Effect]:
    """The agent let a key in: tell the framework where the streams are read."""
    asked = state.admissions.pop(message.request, None)
    if asked is None or asked[2] != state.agent_of_peer[peer]:
        return []
    framework_id, request, agent_id = asked
    framework = state.frameworks.get(framework_id)
    info = state.agents[agent_id].info
    if framework is None:
        return []
    answer = Admitted(request, info.address, info.public_key, message.problem)
    return state.send(framework.peer, answer)


def on_agent_away(state: MasterState, agent_id: AgentId, since: float, now: Now) -> list[Effect]:
    """The agent's session ended: nothing is offered of it, its tasks stay what they are.

    `since`: when it was last certain to be there, in monotonic seconds.
    """
    agent = state.agents[agent_id]
    state.agent_of_peer.pop(agent.peer, None)
    agent.peer = ""
    state.show_agent(agent_id)
    left(state, agent, since)
    volumes_told = volume_steps.agent_away(state, agent_id)
    unanswered = [key for key, asked in state.admissions.items() if asked[2] == agent_id]
    effects: list[Effect] = volumes_told
    for key in unanswered:
        framework_id, request, _ = state.admissions.pop(key)
        framework = state.frameworks.get(framework_id)
        problem = f"agent {agent.info.name} does not answer"
        if framework is not None:
            effects += state.send(framework.peer, Admitted(request, problem=problem))
    if state.mode(agent_id) is Mode.GONE:
        return [*effects, *finish_gone(state, agent_id, now)]
    return [
        *effects,
        *rescind(state, list(agent.offers)),
        Log("warning", f"agent {agent.info.name} ({agent_id}) does not answer"),
    ]
