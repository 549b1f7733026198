"""The kernel of a simulated host: executor processes, containers, the tasks' processes in them.

Rules: processes belong to the host, not to who started them; they live on when their executor or
the agent is killed, until they end by themselves, somebody kills their container, or the host is
started anew. Sandboxes are on its disk and stay. Whatever a process did is written into the
history, which is what the judges believe.
"""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.core.agent.effects import (
    AllowKey,
    ContainersBusy,
    ContainersFound,
    ContainersGone,
    DiskMeasured,
    ExecutorExited,
    ExecutorStarted,
    FileRead,
    ForgetKey,
    KillContainers,
    KillExecutor,
    ListSandboxes,
    MakeSandbox,
    MarkEnded,
    MeasureDisk,
    OpenContainers,
    ReadFile,
    RemoveContainers,
    RemoveSandboxes,
    SandboxesListed,
    SandboxesRemoved,
    SandboxFailed,
    SandboxMade,
    StartExecutor,
    SweepContainers,
    WatchExecutor,
)
from mesosctl.core.executor import ExecutorMachine
from mesosctl.core.executor_effects import (
    Begin,
    ContainerBusy,
    Drain,
    FeedStdin,
    GuardLease,
    KillContainer,
    LaunchFailed,
    MainExited,
    Prepare,
    Recall,
    Remove,
    RemoveFailed,
    RenewGuard,
    Resize,
    ResizeFailed,
    Sample,
    SignalContainer,
    Spawn,
    TaskStarted,
    UnguardLease,
    WakeAt,
)
from mesosctl.core.machine import Event, Machine
from mesosctl.errors import require
from mesosctl.model.ids import AgentId, ExecutorId
from mesosctl.sim import excess, guests
from mesosctl.sim.containers import Behaviour, Container
from mesosctl.sim.history import History, Run
from mesosctl.sim.leases import Guards
from mesosctl.sim.node import Node
from mesosctl.sim.plan import CLOCKS_EVERY
from mesosctl.sim.turns import Turns
from mesosctl.sim.volumes import VolumeDisk
from mesosctl.sim.world import World

SIGKILL = excess.SIGKILL


class Host:
    """One machine with an agent. `behave` says what a task of this wire id does."""

    def __init__(
        self, world: World, agent: Node, history: History, behave: Callable[[str], Behaviour]
    ) -> None:
        self.world = world
        self.agent = agent
        self.history = history
        self.behave = behave
        self.containers: dict[str, Container] = {}
        self.executors: dict[ExecutorId, Node] = {}
        self.name = agent.name
        self.boots = 1
        # When each was made, or its task ended; on a disk that seems full now and then.
        self._sandboxes: dict[str, float] = {}
        self._pids: dict[str, int] = {}
        self._next_pid = 1000
        self._watched: dict[str, None] = {}
        self.volumes = VolumeDisk(world, agent, self._soon)
        self._leases = Guards(world, self.containers, self._signal)
        self._turns = Turns(world, self._begin, self._soon)
        world.died.append(self._died)
        agent.deeds.update(
            {
                OpenContainers: lambda effect: None,
                AllowKey: lambda effect: None,
                ForgetKey: lambda effect: None,
                StartExecutor: lambda effect: self.start_executor(effect.executor_id),
                WatchExecutor: self._watch,
                KillExecutor: lambda effect: self._kill_executor(effect.executor_id),
                MakeSandbox: self._make_sandbox,
                MarkEnded: self._mark_ended,
                MeasureDisk: self._measure_disk,
                ListSandboxes: self._list_sandboxes,
                RemoveSandboxes: self._remove_sandboxes,
                KillContainers: self._kill_containers,
                RemoveContainers: self._remove_containers,
                SweepContainers: lambda effect: self._soon(
                    agent, ContainersFound(tuple(self.containers), effect.is_routine)
                ),
                ReadFile: lambda effect: self._soon(
                    agent, FileRead(effect.token, effect.offset, b"", True)
                ),
            }
        )

    def _soon(self, node: Node, event: Event, delay_s: float = 0.001) -> None:
        """Tell a node of something, if it still lives the same life then."""
        life = node.life

        def tell() -> None:
            if node.life == life:
                node.take(event)

        self.world.later(delay_s, tell)

    def running(self) -> list[Node]:
        """The executors that are up."""
        return [node for node in self.executors.values() if node.machine is not None]

    def reboot(self) -> None:
        """The power is cut: nothing of what ran is there any more, what was synced is."""
        self.world.struck("reboot", self.agent.name)
        self.boots += 1
        self.agent.disk.cut_power()
        self.agent.crash()
        for node in self.running():
            node.kill()
        self.executors.clear()
        for held in self.containers.values():
            for run in list(held.alive):
                self._end(held, run)
        self.containers.clear()
        self._turns.clear()
        self._pids.clear()
        self._leases.clear()
        # The same numbers are given out again.
        self._next_pid = 1000

    def sleep(self, lasts_s: float) -> None:
        """The host is suspended: its processes do nothing, their monotonic clocks stand still."""
        for node in [self.agent, *self.running()]:
            node.pause(lasts_s, "suspend", sleeps=True)

    def _make_sandbox(self, effect: MakeSandbox) -> None:
        container = effect.container
        if effect.fresh and container in self._sandboxes:
            self._soon(self.agent, SandboxFailed(container, "used", "there is one already"))
            return
        self._sandboxes.setdefault(container, self.world.now.wall)
        self._soon(self.agent, SandboxMade(container, f"/sandboxes/{container}"))

    # --- housekeeping -----------------------------------------------------------------------------
    def _mark_ended(self, effect: MarkEnded) -> None:
        for container in effect.containers:
            if container in self._sandboxes:
                self._sandboxes[container] = self.world.now.wall

    def _measure_disk(self, effect: MeasureDisk) -> None:
        full = self.world.chance(0.3) and self.world.seed % CLOCKS_EVERY != 0
        used_milli = 1000 if full else 500
        self._soon(self.agent, DiskMeasured(used_milli))

    def _list_sandboxes(self, effect: ListSandboxes) -> None:
        found = sorted(
            (at, name) for name, at in self._sandboxes.items() if name not in effect.without
        )
        oldest = tuple(found[: effect.at_most])
        self._soon(self.agent, SandboxesListed(oldest, len(oldest) == len(found)), 0.05)

    def _remove_sandboxes(self, effect: RemoveSandboxes) -> None:
        for container in effect.containers:
            held = self.containers.get(container)
            require(held is None or not held.alive, f"the sandbox of {container} is in use")
            self._sandboxes.pop(container, None)
        self._soon(self.agent, SandboxesRemoved(len(effect.containers)), 0.05)

    # --- executors --------------------------------------------------------------------------------
    def start_executor(self, executor_id: ExecutorId) -> None:
        """A process of its own, which outlives the agent."""
        world = self.world

        def make(node: Node) -> Machine:
            ids = executor_id, AgentId(self.agent_id()), self._pids[executor_id]
            look_s = excess.SAMPLE_S if excess.has_excess(world.seed) else None
            return ExecutorMachine(*ids, world.new_id, sample_interval_s=look_s)

        node = Node(world, f"{self.agent.name}/{executor_id}", make)
        node.restarts = False
        node.routes["agent"] = (self.agent, "x")
        node.deeds = {
            Prepare: lambda effect: self._prepare(node, effect),
            Spawn: lambda effect: self._spawn(node, effect),
            Begin: self._turns.begin,
            Recall: lambda effect: self._turns.recall(node, effect),
            SignalContainer: lambda effect: self._signal(effect.container, effect.signum),
            KillContainer: lambda effect: self._signal(effect.container, SIGKILL),
            Drain: lambda effect: self._drain(node, effect.container),
            Remove: lambda effect: self._remove(node, effect),
            FeedStdin: lambda effect: None,
            GuardLease: lambda effect: self._leases.guard(node, effect),
            RenewGuard: lambda effect: self._leases.renew(node, effect.renewed_at),
            UnguardLease: lambda effect: self._leases.unguard(effect.container),
            WakeAt: lambda effect: None,
            Sample: lambda effect: self._sample(node),
            Resize: lambda effect: self._resize(node, effect),
        }
        self._next_pid += 1
        self._pids[executor_id] = self._next_pid
        self.executors[executor_id] = node
        self._watched[executor_id] = None
        world.nodes[node.name] = node
        self._soon(self.agent, ExecutorStarted(executor_id, self._next_pid, self._next_pid))

        def begin() -> None:
            if self.executors.get(executor_id) is node:
                node.start()

        world.later(0.05, begin)

    def agent_id(self) -> str:
        """The id that the agent has by now."""
        meta = self.agent.row("meta", "agent")
        return "" if meta is None else str(meta.get("agent_id", ""))

    def _watch(self, effect: WatchExecutor) -> None:
        self._watched[effect.executor_id] = None
        known = self._pids.get(effect.executor_id)
        node = self.executors.get(effect.executor_id)
        if known != effect.pid or node is None or (node.machine is None and node.life):
            self._watched.pop(effect.executor_id, None)
            self._soon(self.agent, ExecutorExited(effect.executor_id, "it is not there"))

    def _kill_executor(self, executor_id: ExecutorId) -> None:
        node = self.executors.get(executor_id)
        if node is not None and node.machine is None:
            self._died(node)
        elif node is not None:
            node.kill()

    def _died(self, node: Node) -> None:
        for executor_id, executor in list(self.executors.items()):
            if executor is node:
                del self.executors[executor_id]
                self._turns.forget(node)
                self.world.nodes.pop(node.name, None)
                if executor_id in self._watched:
                    del self._watched[executor_id]
                    self._soon(self.agent, ExecutorExited(executor_id, "it ended"))
        if node is self.agent:
            self._watched.clear()

    # --- containers -------------------------------------------------------------------------------
    def _prepare(self, node: Node, effect: Prepare) -> None:
        known = self.containers.get(effect.container)
        require(known is None or known.is_empty, f"I2: {effect.container} is started a second time")
        held = Container(node, effect.cpus_milli, effect.mem_bytes or 0)
        self.containers[effect.container] = held

    def _resize(self, node: Node, effect: Resize) -> None:
        held = self.containers.get(effect.container)
        if held is None or self.world.chance(0.2):
            self._soon(node, ResizeFailed(effect.container, "device or resource busy"))
            return
        held.cpus_milli, held.mem_bytes = effect.cpus_milli, effect.mem_bytes or 0

    def _spawn(self, node: Node, effect: Spawn) -> None:
        container = effect.launch.container
        if self.world.chance(0.01):
            self._soon(node, LaunchFailed(container, "spawner", "fork: try again later"))
        else:
            self._turns.order(node, effect)

    def _begin(self, node: Node, effect: Spawn) -> None:
        """The spawner may carry this out although its executor has died meanwhile."""
        container = effect.launch.container
        held = self.containers.get(container)
        if held is None:
            return
        behaviour = self.behave(container)
        run = Run(container, self.agent.name, self.world.now.mono)
        held.alive.append(run)
        held.exceeds = behaviour.exceeds
        if effect.launch.task.is_executor:
            held.guest = guests.start(self.world, self.agent.name, node, effect.launch)
        self.world.note(self.agent.name, "runs", container)
        self.history.begin(run)
        self._next_pid += 1
        self._soon(node, TaskStarted(container, self._next_pid))
        self.world.later(behaviour.lasts_s, lambda: self._exit(node, container, run, behaviour))

    def _exit(self, node: Node, container: str, run: Run, behaviour: Behaviour) -> None:
        """The task ends by itself, if nobody ended it before."""
        held = self.containers.get(container)
        if run.ended_s is not None or held is None:
            return
        held.children += behaviour.leaves_child
        if behaviour.exceeds == "oom":
            run.exceeded, held.oom_kills = "oom", 1
            self._end(held, run, signum=SIGKILL)
        else:
            self._end(held, run, exit_code=behaviour.exit_code)
        self._soon(node, MainExited(container, run.exit_code, run.signum))

    def _sample(self, node: Node) -> None:
        for event in excess.found(node, self.containers):
            self._soon(node, event)

    def _end(
        self, held: Container, run: Run, exit_code: int | None = None, signum: int | None = None
    ) -> None:
        run.ended_s, run.exit_code, run.signum = self.world.now.mono, exit_code, signum
        held.alive.remove(run)
        if held.guest is not None:
            guests.end(self.world, held.guest)
        self.world.note(self.agent.name, "ends", run.task_id)
        self._turns.ended(run.task_id, held)

    def _signal(self, container: str, signum: int) -> None:
        """A signal to everything in the container, which takes its time to die of it."""
        held = self.containers.get(container)
        if held is None:
            return
        delay_s = self.world.random.uniform(0.0005, 0.02)
        if signum == SIGKILL and held.children:
            self.world.later(delay_s, lambda: self._children_end(held))
        for run in held.alive:
            if signum == SIGKILL or not self.behave(run.task_id).stubborn:
                self._end_later(delay_s, container, held, run, signum)

    def _children_end(self, held: Container) -> None:
        held.children = 0

    def _end_later(
        self, delay_s: float, container: str, held: Container, run: Run, signum: int
    ) -> None:
        def end() -> None:
            if run.ended_s is None:
                self._end(held, run, signum=signum)
                # Only the executor that started it is its parent; a dead one is told nothing.
                self._soon(held.owner, MainExited(container, signum=signum))

        self.world.later(delay_s, end)

    def _drain(self, node: Node, container: str) -> None:
        held = self.containers.get(container)
        if held is not None and not held.is_empty:
            self._signal(container, SIGKILL)
            self._soon(node, ContainerBusy(container))
            return
        self._soon(node, excess.emptied(container, held))

    def _remove(self, node: Node, effect: Remove) -> None:
        held = self.containers.get(effect.container)
        if held is not None and (not held.is_empty or self.world.chance(0.05)):
            self._soon(node, RemoveFailed(effect.container, effect.tries))
            return
        self.containers.pop(effect.container, None)

    def _remove_containers(self, effect: RemoveContainers) -> None:
        for container in effect.containers:
            held = self.containers.get(container)
            if held is not None and held.is_empty:
                del self.containers[container]

    def _kill_containers(self, effect: KillContainers) -> None:
        gone, busy = [], []
        for container in effect.containers:
            held = self.containers.get(container)
            if held is not None and not held.is_empty:
                self._signal(container, SIGKILL)
                busy.append(container)
            else:
                self.containers.pop(container, None)
                gone.append(container)
        if gone:
            self._soon(self.agent, ContainersGone(tuple(gone)))
        if busy:
            self._soon(self.agent, ContainersBusy(tuple(busy)))
