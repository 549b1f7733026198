"""What happened in a simulated cluster: when each job ran, who used how much when.

Rules: it is told by the agents, who know when a task runs. A task waits from its job's arrival to
its first start. Times are seconds of the simulated clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from mesosctl.model.records import dataclass
from mesosctl.model.resources import Resources

Amounts = dict[str, int]


@dataclass(slots=True)
class JobRun:
    """One job of a group, the `number`th: how far it is."""

    group: int
    number: int
    arrived_s: float
    tasks: int
    ended: int = 0
    ended_s: float | None = None
    # By index: how long each started task has waited.
    waits_s: dict[int, float] = field(default_factory=dict)

    @property
    def took_s(self) -> float | None:
        """From its arrival to the end of its last task."""
        return None if self.ended_s is None else self.ended_s - self.arrived_s


class Steps:
    """Amounts of resources over time, as the moments at which they changed."""

    def __init__(self) -> None:
        self.now: Amounts = {}
        self.steps: list[tuple[float, Amounts]] = []

    def change(self, at_s: float, resources: Resources, sign: int) -> None:
        """From now on there is so much more (`sign` 1) or less (-1) of them."""
        now = dict(self.now)
        for name, amount in resources.quantities().items():
            now[name] = now.get(name, 0) + sign * amount
        self.now = now
        if self.steps and self.steps[-1][0] == at_s:
            self.steps.pop()
        self.steps.append((at_s, now))

    def integrals(self, edges: list[float]) -> list[dict[str, float]]:
        """Between each two neighbours of `edges` (ascending): amount times seconds, by name."""
        sums: list[dict[str, float]] = [{} for _ in edges[1:]]
        place = 0
        for number, (at_s, amounts) in enumerate(self.steps):
            until = self.steps[number + 1][0] if number + 1 < len(self.steps) else edges[-1]
            while place < len(sums) and edges[place + 1] <= at_s:
                place += 1
            spot = place
            while spot < len(sums) and edges[spot] < until:
                seconds = min(until, edges[spot + 1]) - max(at_s, edges[spot])
                for name, amount in amounts.items() if seconds > 0 else ():
                    sums[spot][name] = sums[spot].get(name, 0.0) + amount * seconds
                spot += 1
        return sums


@dataclass(slots=True)
class FrameworkRun:
    """What one framework has running, and the most that it had at once."""

    used: Steps = field(default_factory=Steps)
    running: int = 0
    most: int = 0


class Recorder:
    """See the module. `ended` is called with each job whose last task has ended."""

    def __init__(self, clock: Callable[[], float], frameworks: list[str]) -> None:
        self.clock = clock
        self.runs: dict[tuple[int, int], JobRun] = {}
        self.frameworks = {name: FrameworkRun() for name in frameworks}
        self.capacity = Steps()
        self.ended: Callable[[JobRun], None] = lambda run: None
        self.open = 0
        self.running = 0
        self.changed_s = 0.0
        self.story: list[tuple[float, str]] = []

    def tell(self, text: str) -> None:
        """Enter a line into the story."""
        self.story.append((self.clock(), text))

    def arrive(self, run: JobRun) -> None:
        """A job arrives."""
        self.runs[run.group, run.number] = run
        self.open += 1
        self.changed_s = self.clock()

    def add_agent(self, resources: Resources) -> None:
        """The cluster has grown."""
        self.capacity.change(self.clock(), resources, 1)

    def start(self, framework: str, run: JobRun, index: int, resources: Resources) -> None:
        """A task runs."""
        now_s, whose = self.clock(), self.frameworks[framework]
        run.waits_s.setdefault(index, now_s - run.arrived_s)
        whose.used.change(now_s, resources, 1)
        whose.running += 1
        whose.most = max(whose.most, whose.running)
        self.running += 1
        self.changed_s = now_s

    def stop(self, framework: str, run: JobRun, resources: Resources, finished: bool) -> None:
        """A task runs no more; unless it has `finished`, it will be started again."""
        now_s, whose = self.clock(), self.frameworks[framework]
        whose.used.change(now_s, resources, -1)
        whose.running -= 1
        self.running -= 1
        self.changed_s = now_s
        if finished:
            run.ended += 1
        if run.ended == run.tasks:
            run.ended_s = now_s
            self.open -= 1
            self.ended(run)
