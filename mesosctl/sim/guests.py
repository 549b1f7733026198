"""Executors of a stranger's own in the simulated world: programs in containers, not good ones.

Rules: one lives as long as its container's process; it may be killed at any step, lose its
connection, report late, lie about others, and keep what it was to end. What it does itself is not
in the history: nobody but it knows of that.
"""

from __future__ import annotations

from dataclasses import replace

from mesosctl.core.executor_guest import ID_ENV, PREFIX, TOKEN_ENV
from mesosctl.core.machine import Effect, Event, Now, PeerLost, Received, Started, Tick
from mesosctl.core.session import ClientSession
from mesosctl.model.ids import ExecutorId, FrameworkId, TaskId
from mesosctl.model.tasks import StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    ExecutorLaunch,
    ExecutorRegistered,
    ExecutorTask,
    KillTasks,
    RegisterExecutor,
    RunTasks,
    ShutdownExecutor,
    StartTask,
    StatusUpdates,
)
from mesosctl.protocol.messages.base import Message
from mesosctl.sim.node import Node
from mesosctl.sim.world import World

LINK = "agent"
LASTS_S = (0.05, 6.0)


class Program:
    """The program of an executor; it draws what it does from the world's chance."""

    def __init__(self, world: World, launch: ExecutorLaunch) -> None:
        self._world = world
        self._launch = launch
        self._session = ClientSession(LINK, self._hello, lambda now: [], world.new_id)
        # What it does itself, and when each ends.
        self._tasks: dict[TaskId, float] = {}
        self._unacked: dict[str, StatusUpdate] = {}
        self._late: list[Message] = []

    def _hello(self) -> Message:
        env = self._launch.env
        return RegisterExecutor(
            ExecutorId(env[ID_ENV]),
            1,
            tasks=tuple([ExecutorTask(name, TaskState.RUNNING) for name in self._tasks]),
            updates=tuple(self._unacked.values()),
            opening=self._session.openings,
            token=env[TOKEN_ENV],
        )

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Started():
                return self._session.start(now)
            case Received(envelope=envelope):
                message, effects = self._session.receive(envelope, now)
                return effects + (self._take(message, now) if message is not None else [])
            case PeerLost():
                return self._session.lose(now)
            case Tick():
                return self._session.tick(now)
            case _:
                return []

    def _take(self, message: Message, now: Now) -> list[Effect]:
        chance = self._world.random
        effects: list[Effect] = []
        match message:
            case ExecutorRegistered():
                self._session.confirm(now)
            case RunTasks(framework_id=framework_id, launches=launches):
                for launch in launches:
                    task_id = launch.task.task_id
                    if chance.random() < 0.4:
                        effects += self._session.send(StartTask(task_id))
                        continue
                    self._tasks[task_id] = now.mono + chance.uniform(*LASTS_S)
                    if chance.random() < 0.7:
                        effects += self._say(framework_id, task_id, TaskState.RUNNING)
                    if chance.random() < 0.1:
                        effects += self._say(framework_id, TaskId("else.0.1"), TaskState.FINISHED)
            case KillTasks(framework_id=framework_id, kills=kills):
                for kill in kills:
                    heeds = kill.task_id in self._tasks and chance.random() < 0.7
                    if heeds:
                        effects += self._end(framework_id, kill.task_id, TaskState.KILLED)
            case Acknowledge(acks=acks):
                for ack in acks:
                    self._unacked.pop(ack.uuid, None)
            case StatusUpdates(updates=updates):
                acks = tuple([Ack(u.framework_id, u.task_id, u.agent_id, u.uuid) for u in updates])
                effects += self._session.send(Acknowledge(acks))
            case ShutdownExecutor():
                effects += self._session.end() if chance.random() < 0.5 else []
            case _:
                pass
        return effects

    def _end(self, framework_id: FrameworkId, task_id: TaskId, state: TaskState) -> list[Effect]:
        del self._tasks[task_id]
        return self._say(framework_id, task_id, state)

    def _say(self, framework_id: FrameworkId, task_id: TaskId, state: TaskState) -> list[Effect]:
        agent_id = self._launch.task.agent_id
        said = StatusUpdate(framework_id, task_id, agent_id, state, uuid=self._world.new_id())
        self._unacked[said.uuid] = said
        return self._session.send(StatusUpdates((said,)))

    def settle(self, now: Now) -> list[Effect]:
        """End the tasks whose time has come."""
        framework_id = FrameworkId(self._launch.container.partition("/")[0])
        effects: list[Effect] = []
        for task_id in [name for name, at in self._tasks.items() if at <= now.mono]:
            ends = [TaskState.FINISHED, TaskState.FAILED, TaskState.DROPPED, TaskState.KILLED]
            effects += self._end(framework_id, task_id, self._world.random.choice(ends))
        return effects

    def deadline(self) -> float | None:
        """The session's next timer, or the next end of a task."""
        times = [self._session.deadline(), *self._tasks.values()]
        return min((at for at in times if at is not None), default=None)

    def check(self) -> None:
        """Nothing is kept twice."""


def start(world: World, place: str, executor: Node, launch: ExecutorLaunch) -> Node:
    """The process of a guest at the socket of `executor`; it is killed with its container."""
    name = f"{place}/guest-{launch.task.task_id}"
    known = replace(launch)
    node = Node(world, name, lambda _: Program(world, known))
    node.restarts = False
    node.routes[LINK] = (executor, PREFIX + launch.task.task_id)
    world.nodes[name] = node
    world.later(
        world.random.uniform(0.001, 2.0), lambda: node.start() if name in world.nodes else None
    )
    return node


def end(world: World, node: Node) -> None:
    """Its container's process has ended."""
    if world.nodes.pop(node.name, None) is not None:
        node.kill()
