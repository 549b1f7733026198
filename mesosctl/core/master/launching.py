"""Acceptance: offers become tasks, or a reason why not, task by task; operations go first.

Rules: the named offers are used up whatever follows. A task that is not valid gets ERROR, one that
only came too late gets DROPPED; the others go on. What is left over is refused for `refuse_s`. Of a
lane the first task that is launched takes from the offers, the others must be of its size.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from mesosctl.core.machine import Effect, Now
from mesosctl.core.master import reserving
from mesosctl.core.master.offering import refuse, take_back
from mesosctl.core.master.state import FrameworkRecord, MasterState, TaskRecord
from mesosctl.limits import KILL_GRACE_MAX_S, LEASE_MAX_S, LEASE_MIN_S
from mesosctl.model.cluster import Offer
from mesosctl.model.ids import is_ident
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Reason, StatusUpdate, TaskInfo, TaskState
from mesosctl.model.volumes import mounts_problem
from mesosctl.protocol.messages.agent import LaunchTasks, StatusUpdates
from mesosctl.protocol.messages.framework import Accept, Decline


def on_accept(state: MasterState, peer: str, message: Accept, now: Now) -> list[Effect]:
    """Do the operations with what is offered, then launch what it carries."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    framework.silent_s = 0.0
    offers, problem = _take_offers(state, framework, message)
    if problem:
        updates = [
            _verdict(framework, task, TaskState.DROPPED, Reason.INVALID_OFFERS, problem, now)
            for task in message.tasks
        ]
        effects = reserving.refuse_all(state, framework, message.operations, problem)
        return effects + (state.send(peer, StatusUpdates(tuple(updates))) if updates else [])
    remaining = Resources()
    for offer in offers:
        remaining = remaining + offer.resources
    effects = []
    if message.operations:
        remaining, effects = reserving.operate(
            state, framework, offers[0], message.operations, remaining
        )
    launched, refused, remaining = _launch(state, framework, offers[0], message, remaining, now)
    if offers:
        refuse(state, offers[0], remaining, message.refuse_s, now)
    if launched:
        agent_peer = state.agents[launched[0].agent_id].peer
        effects += state.send(agent_peer, LaunchTasks(framework.info, tuple(launched)))
    if refused:
        effects += state.send(peer, StatusUpdates(tuple(refused)))
    return effects


def _launch(
    state: MasterState,
    framework: FrameworkRecord,
    offer: Offer,
    message: Accept,
    remaining: Resources,
    now: Now,
) -> tuple[list[TaskInfo], list[StatusUpdate], Resources]:
    """Charge what can be launched; that, the verdicts on the others, and what is left."""
    launched: list[TaskInfo] = []
    lanes: dict[str, tuple[Resources, Resources]] = {}
    refused: list[StatusUpdate] = []
    size = framework.task_size
    anonymous = command = before = None
    for asked in message.tasks:
        # A command without a user runs as the framework's; from here on it is always written out.
        task = asked
        if not task.command.user:
            if command is None or task.command is not anonymous:
                anonymous = task.command
                command = replace(anonymous, user=framework.info.user)
            task = replace(task, command=command)
        follows = bool(task.lane) and task.lane in lanes
        room = lanes[task.lane][1] if follows else remaining
        if follows and asked.resources == lanes[task.lane][0]:
            if room is not asked.resources:
                task = replace(task, resources=room)
        elif not room.is_plain():
            # Plain amounts are served from what is reserved first, which others could not use.
            task = replace(task, resources=room.take(asked.resources) or asked.resources)
        if follows and before is not None and _is_like(asked, before):
            reason, problem = Reason.TASK_INVALID, _id_problem(framework, task)
        else:
            reason, problem = _problem(framework, task, offer, room, follows)
        if problem:
            refused.append(_verdict(framework, task, TaskState.ERROR, reason, problem, now))
            continue
        if not follows:
            remaining = remaining - task.resources
        if task.lane:
            lanes[task.lane] = asked.resources, task.resources
        state.add_task(
            TaskRecord(
                task.task_id,
                framework.info.framework_id,
                task.agent_id,
                task.name,
                task.resources,
                TaskState.STAGING,
                lane=task.lane,
                revocable=task.revocable,
            )
        )
        launched.append(task)
        size, before = asked.resources, asked
    if launched:
        state.clearings.launched(framework.info.framework_id)
    if launched and not framework.states_demand and size != framework.task_size:
        # Without it several endless frameworks would throw whole agents to and fro.
        framework.task_size = size
        state.show_framework(framework)
    return launched, refused, remaining


def on_decline(state: MasterState, peer: str, message: Decline, now: Now) -> list[Effect]:
    """Take offers back and honour the refusal."""
    framework = state.frameworks[state.framework_of_peer[peer]]
    framework.silent_s = 0.0
    for offer_id in message.offer_ids:
        outstanding = state.offers.get(offer_id)
        if outstanding and outstanding.offer.framework_id == framework.info.framework_id:
            offer = outstanding.offer
            state.clearings.declined(offer, now)
            take_back(state, offer_id)
            refuse(state, offer, offer.resources, message.refuse_s, now)
    return []


def _take_offers(
    state: MasterState, framework: FrameworkRecord, message: Accept
) -> tuple[list[Offer], str]:
    """Use up the named offers that are this framework's; the problem when not all will do."""
    offers: list[Offer] = []
    problem = "" if message.offer_ids else "no offer was named"
    for offer_id in message.offer_ids:
        outstanding = state.offers.get(offer_id)
        if outstanding is None or outstanding.offer.framework_id != framework.info.framework_id:
            problem = problem or f"offer {offer_id} is not outstanding"
            continue
        take_back(state, offer_id)
        offers.append(outstanding.offer)
    if len({(offer.agent_id, offer.role) for offer in offers}) > 1:
        problem = problem or "the offers are of different agents or roles"
    return offers, problem


# What is looked at of a task to see whether it can be launched, but for its id.
_DECISIVE = attrgetter(
    *("lane", "agent_id", "grace_s", "time_limit_s", "lease_s"),
    *("is_executor", "executor", "whole_cores", "volumes"),
)


def _is_like(task: TaskInfo, before: TaskInfo) -> bool:
    """Whether a task can be launched behind one that could, going by all but its id."""
    return (
        task.command is before.command
        and task.resources is before.resources
        and _DECISIVE(task) == _DECISIVE(before)
    )


def _id_problem(framework: FrameworkRecord, task: TaskInfo) -> str:
    if not task.task_id:
        return "a task needs an id"
    return f"task id {task.task_id} is in use" if task.task_id in framework.tasks else ""


def _problem(
    framework: FrameworkRecord, task: TaskInfo, offer: Offer, room: Resources, follows: bool
) -> tuple[Reason, str]:
    """Why this task cannot be launched on this offer; empty when it can.

    `room` is what is left, or what its lane holds when it follows another task in that.
    """
    problem = _id_problem(framework, task)
    if problem:
        return Reason.TASK_INVALID, problem
    if task.agent_id != offer.agent_id:
        return Reason.TASK_INVALID, f"the offer is of agent {offer.agent_id}, not {task.agent_id}"
    if task.resources.is_empty():
        return Reason.TASK_INVALID, "a task needs resources"
    if follows and task.resources != room:
        return Reason.TASK_INVALID, f"its lane holds {room}, not {task.resources}"
    if task.lane and not follows and (task.agent_id, task.lane) in framework.lanes:
        return Reason.TASK_INVALID, f"lane {task.lane[:40]} is in use"
    if not room.contains(task.resources):
        return Reason.TASK_INVALID, f"{task.resources} is more than the offered {room}"
    if not 0 <= task.grace_s <= KILL_GRACE_MAX_S:
        return Reason.TASK_INVALID, f"the grace must be between 0 and {KILL_GRACE_MAX_S:g} s"
    if task.time_limit_s is not None and task.time_limit_s <= 0:
        return Reason.TASK_INVALID, "the time limit must be positive"
    if task.lease_s is not None and not LEASE_MIN_S <= task.lease_s <= LEASE_MAX_S:
        return Reason.TASK_INVALID, f"the lease must be {LEASE_MIN_S:g} s at the least"
    if not task.command.argv and task.command.script is None and not task.executor:
        return Reason.TASK_INVALID, "a task needs a command"
    if task.executor or task.is_executor:
        problem = _executor_problem(task)
        if problem:
            return Reason.TASK_INVALID, problem
    if task.volumes or not task.resources.is_plain():
        problem = mounts_problem(task.volumes, task.resources)
        if problem:
            return Reason.TASK_INVALID, problem
    principal = framework.principal
    if principal is None or not principal.may_run_as(task.command.user):
        return Reason.NOT_PERMITTED, f"this framework may not run as user {task.command.user!r}"
    return Reason.NONE, ""


def _executor_problem(task: TaskInfo) -> str:
    """Why a task cannot be an executor, or be handed to one; empty when it can."""
    if task.executor and task.is_executor:
        return "an executor cannot be handed to another"
    if task.executor and not is_ident(task.executor):
        return "its executor has no proper id"
    if task.lane or task.lease_s is not None:
        # Its executor could not be made to keep either without ending its other tasks.
        return "an executor and its tasks have neither lane nor lease"
    if task.is_executor and task.whole_cores:
        return "an executor has a share of the CPUs, which grows with its tasks"
    return ""


def _verdict(
    framework: FrameworkRecord,
    task: TaskInfo,
    state: TaskState,
    reason: Reason,
    text: str,
    now: Now,
) -> StatusUpdate:
    return StatusUpdate(
        framework.info.framework_id,
        task.task_id,
        task.agent_id,
        state,
        reason=reason,
        message=text[:500],
        at=now.wall,
    )
