"""The cluster of a scenario in a world of its own: one clock, one network, one loop.

Rules: master, allocation module and batch frameworks are the real machines, each message goes
through the real codec and takes its time. A process takes what has come together every millisecond,
as one does that is busy in between. Nothing goes wrong, so nothing is written to a disk, and nobody
gives signs of life. It ends with the last task, at `until`, or when nothing moves any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mesosctl.allocation.base import Allocator
from mesosctl.core.batch.keys import KeyDecided
from mesosctl.core.batch.machine import LINK as MASTER
from mesosctl.core.batch.machine import BatchMachine
from mesosctl.core.machine import Effect, Event, Machine
from mesosctl.core.master.machine import MasterMachine
from mesosctl.core.master.registry import ROLES
from mesosctl.model.cluster import AgentInfo, FrameworkInfo, Principal
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.jobs import JobSpec
from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskInfo
from mesosctl.protocol.schema import to_plain
from mesosctl.sim.disk import Disk
from mesosctl.sim.node import Node
from mesosctl.sim.scenario.agent import HEARTBEAT_S, ScenarioAgent
from mesosctl.sim.scenario.plan import AgentGroup, Scenario
from mesosctl.sim.scenario.recorder import JobRun, Recorder
from mesosctl.sim.scenario.story import Story
from mesosctl.sim.scenario.submitter import JobArrives, Submitter
from mesosctl.sim.visitor import LINK
from mesosctl.sim.world import World

USER = "sim"
PASS_S = 0.001
# Filters and timers are over after less: if nothing has moved for so long, nothing will.
STALLED_S = 600.0
FOREVER_S = 1e9

MakeAllocator = Callable[[str], Allocator]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one cluster fared. `stalled`: tasks were left of which none could be started."""

    scenario: Scenario
    record: Recorder
    first_s: float
    ended_s: float
    stalled: bool


class _World(World):
    """A world whose every step nobody wants to read."""

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Nothing is kept."""


class _NoDisk(Disk):
    def write(self, kept: Iterable[Effect]) -> None:
        """Nobody starts again, so nobody reads it."""


class _Process(Node):
    """A node that takes together what came while it was busy."""

    def __init__(self, world: World, name: str, make: Callable[[Node], Machine], key: str) -> None:
        super().__init__(world, name, make, key)
        self.disk = _NoDisk()
        # Its machine need not recount itself: that is for the seeds of the simulator to find.
        self.check_every = 1 << 60
        self._come: list[Event] = []

    def take(self, event: Event) -> None:
        """Take it with the next pass."""
        if not self._come:
            self.world.later(PASS_S, self._take_all)
        self._come.append(event)

    def _take_all(self) -> None:
        come, self._come = self._come, []
        self._pass(come)


class Simulation:
    """One cluster: the scenario, without the agents and frameworks that are not in `only`."""

    def __init__(
        self,
        scenario: Scenario,
        make_allocator: MakeAllocator,
        agents: Sequence[tuple[str, AgentGroup]],
        frameworks: Sequence[str],
    ) -> None:
        self.scenario = scenario
        self.world = _World(scenario.seed)
        self.record = Recorder(lambda: self.world.now.mono, list(frameworks))
        self._make_allocator = make_allocator
        self._by_id: dict[str, str] = {}
        self._to_arrive = 0
        self._agents = agents
        self._plans = [plan for plan in scenario.frameworks if plan.name in frameworks]
        self._master = self._process("master", self._make_master)
        self._submitters = {plan.name: self._framework(plan.name) for plan in self._plans}
        self.record.ended = self._job_ended
        if scenario.events:
            self.world.judges.append(Story(self.record))

    def run(self) -> Outcome:
        """Let it happen."""
        for node in list(self.world.nodes.values()):
            node.start()
        for number, (name, kind) in enumerate(self._agents):
            self._agent(number, name, kind)
        for group, plan in enumerate(self.scenario.jobs):
            if plan.framework in self._submitters:
                for number, at_s in enumerate(plan.arrivals(self.scenario.seed, group)):
                    self._arrives(group, number, at_s)
        last_s = max((group.at_s for _, group in self._agents), default=0.0)

        def done() -> bool:
            now_s = self.world.now.mono
            return not self._to_arrive and (not self.record.open or self._is_stalled(now_s, last_s))

        until_s = self.scenario.until_s
        self.world.run(FOREVER_S if until_s is None else until_s, done)
        stalled = bool(self.record.open) and until_s is None
        ends = [run.ended_s or self.world.now.mono for run in self.record.runs.values()]
        arrivals = [run.arrived_s for run in self.record.runs.values()]
        ended_s = max(ends, default=0.0) if not stalled else self.record.changed_s
        return Outcome(self.scenario, self.record, min(arrivals, default=0.0), ended_s, stalled)

    def _is_stalled(self, now_s: float, last_s: float) -> bool:
        still_since = max(self.record.changed_s, last_s)
        return not self.record.running and now_s > still_since + STALLED_S

    # --- processes --------------------------------------------------------------------------------
    def _process(self, name: str, make: Callable[[Node], Machine], key: str = "") -> _Process:
        node = _Process(self.world, name, make, key or name)
        self.world.nodes[name] = node
        return node

    def _make_master(self, node: Node) -> Machine:
        scenario = self.scenario
        keys = {plan.name: plan.role for plan in self._plans}
        principals = {
            f"{name}-key": Principal(name, f"{name}-key", ("framework", "client"), (USER,), (role,))
            for name, role in keys.items()
        }
        principals["agents"] = Principal("agents", "agents", ("agent",))
        machine = MasterMachine(
            cluster=self.world.new_id(),
            epoch=1,
            cluster_name=scenario.name,
            version="sim",
            allocator=self._make_allocator(scenario.allocator),
            allocator_name=scenario.allocator,
            new_id=self.world.new_id,
            principals=principals,
            role_options={},
            tables={ROLES: {role: to_plain(entry) for role, entry in scenario.roles.items()}},
        )
        machine.state.sessions.timeout_s = HEARTBEAT_S
        return machine

    def _framework(self, name: str) -> _Process:
        """A batch framework, and who submits to it; answers the latter."""
        role = next(plan.role for plan in self._plans if plan.name == name)

        def make(node: Node) -> Machine:
            info = FrameworkInfo(FrameworkId(""), name, USER, role, address="sim", public_key="sim")
            machine = BatchMachine(info, {}, self.world.new_id)
            # Its queue is asked nothing after the end, and a heartbeat is none of its clients'.
            machine.counter.sessions.timeout_s = HEARTBEAT_S
            return machine

        node = self._process(f"framework {name}", make, f"{name}-key")
        node.routes[MASTER] = (self._master, "master")
        node.deeds[KeyDecided] = lambda effect: None
        client = self._process(
            f"client {name}", lambda _: Submitter(self.world.new_id), f"{name}-key"
        )
        client.routes[LINK] = (node, "commands")
        return client

    def _agent(self, number: int, name: str, group: AgentGroup) -> None:
        info = AgentInfo(
            AgentId(f"A{number:06d}"), name, group.resources, dict(group.attributes), boot_id="sim"
        )

        def make(node: Node) -> Machine:
            return ScenarioAgent(info, self.world.new_id, self, self.scenario.launch_s)

        def join() -> None:
            node = self._process(f"agent {name}", make, "agents")
            node.routes[MASTER] = (self._master, "master")
            node.start()
            self.record.add_agent(group.resources)

        self.world.later(group.at_s, join)

    # --- jobs and tasks ---------------------------------------------------------------------------
    def _arrives(self, group: int, number: int, at_s: float) -> None:
        self._to_arrive += 1
        plan = self.scenario.jobs[group]

        def arrive() -> None:
            self._to_arrive -= 1
            self.record.arrive(JobRun(group, number, self.world.now.mono, plan.tasks))
            spec = JobSpec(
                plan.name,
                (str(group), str(number)),
                user=USER,
                cpus_milli=plan.cpus_milli,
                mem_bytes=plan.mem_bytes,
                more=plan.more,
                indices=((0, plan.tasks - 1, 1),),
                priority=plan.priority,
                max_running=plan.max_running,
                constraint=plan.constraint,
                spread=plan.spread,
            )
            request = f"{group}.{number}"
            self._submitters[plan.framework].take(JobArrives(self.world.now.mono, request, spec))

        self.world.later(max(0.0, at_s - self.world.now.mono), arrive)

    def _job_ended(self, run: JobRun) -> None:
        plan = self.scenario.jobs[run.group]
        if plan.in_turn and run.number + 1 < plan.count:
            self._arrives(run.group, run.number + 1, self.world.now.mono)

    def _run_of(self, info: TaskInfo) -> tuple[str, JobRun, int]:
        group, number = map(int, info.command.argv)
        index = int(info.task_id.split(".")[1])
        return self.scenario.jobs[group].framework, self.record.runs[group, number], index

    def lasts_s(self, info: TaskInfo) -> float:
        """See Tasks."""
        _, run, index = self._run_of(info)
        plan = self.scenario.jobs[run.group]
        return plan.lasts.draw(self.scenario.seed, "task", run.group, run.number, index)

    def began(self, framework_id: FrameworkId, info: TaskInfo) -> None:
        """See Tasks."""
        framework, run, index = self._run_of(info)
        self.record.start(framework, run, index, info.resources)
        if self.scenario.events:
            self.record.tell(f"task {info.task_id} of {framework} runs")

    def ended(self, framework_id: FrameworkId, info: TaskInfo, finished: bool) -> None:
        """See Tasks."""
        framework, run, _ = self._run_of(info)
        if self.scenario.events:
            how = "has finished" if finished else "was ended"
            self.record.tell(f"task {info.task_id} of {framework} {how}")
        self.record.stop(framework, run, info.resources, finished)


def run_shared(scenario: Scenario, make_allocator: MakeAllocator) -> Outcome:
    """Every framework on every agent: the scenario as it is."""
    names = [plan.name for plan in scenario.frameworks]
    return Simulation(scenario, make_allocator, _agents(scenario), names).run()


def run_static(scenario: Scenario, make_allocator: MakeAllocator) -> dict[str, Outcome]:
    """Each framework alone on agents of its own, in the order in which they stand in the file."""
    agents, outcomes = _agents(scenario), {}
    quiet = replace(scenario, events=False)
    for name, count in scenario.static.items():
        own, agents = agents[:count], agents[count:]
        outcomes[name] = Simulation(quiet, make_allocator, own, [name]).run()
    return outcomes


def _agents(scenario: Scenario) -> list[tuple[str, AgentGroup]]:
    return [(name, group) for group in scenario.agents for name in group.names()]


def misfits(scenario: Scenario) -> dict[str, Resources]:
    """Groups of jobs whose tasks fit on no agent, and what one of their tasks needs."""
    found = {}
    for job in scenario.jobs:
        needs = Resources.of(cpus_milli=job.cpus_milli, mem_bytes=job.mem_bytes) + job.more
        if not any(group.resources.contains(needs) for group in scenario.agents):
            found[job.name] = needs
    return found
