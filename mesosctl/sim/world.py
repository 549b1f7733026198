"""Time and chance of a simulated cluster, and the story of what happened.

Rules: one heap of things to come, ordered by time and then by the order in which they were planned;
all chance comes from the seed. Two runs of one seed have the same story, whatever the hash seed.
The processes are in node.py, the connections between them in wire.py.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from mesosctl.core.machine import Effect, Now, Received
from mesosctl.sim.faults import Faults
from mesosctl.sim.node import Node
from mesosctl.sim.wire import Wire

WALL_AT_START = 1_800_000_000.0
ASK_EVERY_S = 0.125


class Judge(Protocol):
    """Whoever watches the passes of nodes; raises InvariantBroken at what must not happen."""

    def saw(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """The machine of the node took a message and answered with effects."""
        ...

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """A pass ends with these effects; nothing of it is on disk or sent yet."""
        ...

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """These were made durable."""
        ...

    def began(self, node: Node) -> None:
        """The node has begun a life, and what it found out about the one before is on disk."""
        ...

    def sends(self, node: Node) -> None:
        """A message is about to leave the node."""
        ...

    def failed(self, node: Node) -> None:
        """The disk of the node refused a transaction."""
        ...


class World:
    """The clock, chance, and everything that is to come."""

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.seed = seed
        # Chance that can be repeated is the point here.
        self.random = random.Random(seed)  # noqa: S311
        self.faults = faults or Faults()
        self.clocks_jump = True
        self.nodes: dict[str, Node] = {}
        self.judges: list[Judge] = []
        self.story: list[str] = []
        self.tally: dict[str, int] = {}
        self.died: list[Callable[[Node], None]] = []
        # Counted beside a fault that strikes while it is so: see `struck`.
        self.is_busy: Callable[[], bool] = lambda: False
        self.wire = Wire(self)
        self._time_s = 0.0
        self._now = Now(0.0, WALL_AT_START)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0
        self._digest = hashlib.sha256()
        self._ids = random.Random(seed ^ 0x5EED)  # noqa: S311

    @property
    def now(self) -> Now:
        """The present of every node."""
        return self._now

    @property
    def digest(self) -> str:
        """A fingerprint of everything that happened."""
        return self._digest.hexdigest()

    def new_id(self) -> str:
        """A fresh id, from the seed."""
        return f"{self._ids.getrandbits(64):016x}"

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Ids that are drawn inside are none of the world's: trying something leaves no trace."""
        ids, self._ids = self._ids, random.Random(0)  # noqa: S311
        try:
            yield
        finally:
            self._ids = ids

    def note(self, who: str, what: str, detail: str = "") -> None:
        """Enter a line into the story."""
        line = f"{self._time_s:10.4f} {who} {what} {detail}"
        self._digest.update(line.encode())
        self.story.append(line)

    def struck(self, fault: str, who: str, detail: str = "") -> None:
        """Enter a fault into the story, and count it; once more if tasks are under way."""
        self.note(who, fault, detail)
        self.tally[fault] = self.tally.get(fault, 0) + 1
        if self.is_busy():
            busy = f"{fault} with tasks"
            self.tally[busy] = self.tally.get(busy, 0) + 1

    def later(self, delay_s: float, deed: Callable[[], None]) -> None:
        """Have `deed` happen after `delay_s` seconds."""
        self._planned += 1
        heapq.heappush(self._heap, (self._time_s + delay_s, self._planned, deed))

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen up to `until_s`, or until `done()`, which is asked now and then.

        It is asked at certain times, not after so many deeds: a timer that was put off is one deed
        more, and nothing else, and must not decide how a run ends.
        """
        ask_at_s = self._time_s
        while self._heap and self._heap[0][0] <= until_s:
            if self._heap[0][0] > ask_at_s:
                if done():
                    self._set_time(ask_at_s)
                    return
                ask_at_s = (self._heap[0][0] // ASK_EVERY_S + 1) * ASK_EVERY_S
            at_s, _, deed = heapq.heappop(self._heap)
            self._set_time(at_s)
            deed()
        self._set_time(max(self._time_s, until_s))

    def _set_time(self, at_s: float) -> None:
        if at_s != self._time_s:
            self._time_s = at_s
            self._now = Now(at_s, WALL_AT_START + at_s, at_s)

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return probability > 0 and self.random.random() < probability
