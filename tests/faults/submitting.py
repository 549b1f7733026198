"""Clients of a cluster in trouble: they submit until they are told an id, and ask what came of it.

Rules: every submission has an id of its own and is repeated under it until it is acknowledged, or
never will be. A refusal that passes (`unavailable`) is a reason to ask again. No more jobs are
under way than a cluster without faults works off in a few seconds.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mesosctl.errors import MesosctlError
from mesosctl.model.jobs import JobSpec, TaskView
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import (
    JobAccepted,
    Jobs,
    ListJobs,
    ListTasks,
    SubmitJob,
    Tasks,
)
from mesosctl.protocol.messages.session import Refusal
from mesosctl.runtime.client import Ask, Client, Hub
from mesosctl.runtime.ids import new_id
from mesosctl.storage.keys import KeyFile
from tests.faults.judging import Order

LOOK_S = 0.5
AGAIN_S = 0.5
MEMORY_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Door:
    """Where a batch framework is reached, and the keys for it."""

    name: str
    role: str
    address: str
    public_key: str
    key: KeyFile


@dataclass(slots=True)
class _Open:
    order: Order
    message: SubmitJob
    ask: Ask
    asked_at: float


class Submitter(threading.Thread):
    """Submits `rate` jobs a second at a framework, until it is told to stop.

    While it is held up it gets behind, and catches up later; `under_way` are not done at the most.
    """

    def __init__(
        self, door: Door, script: Path, files: Path, seed: int, rate: float, under_way: int
    ) -> None:
        super().__init__(name=f"submitter of {door.name}", daemon=True)
        self.door = door
        self.accepted: dict[str, Order] = {}
        self.unsure: list[Order] = []
        self.problems: list[str] = []
        self.stop = threading.Event()
        self._chance = random.Random(f"{seed} {door.name}")
        self._script = script
        self._files = files
        self._rate = rate
        self._began = time.monotonic()
        self._under_way = under_way
        self._ordered = 0
        self._backlog = 0
        self._open: list[_Open] = []

    def run(self) -> None:
        """Submit; then wait for the last acknowledgements."""
        self._began = time.monotonic()
        try:
            with Hub() as hub:
                client = connect(hub, self.door)
                listing, look_at = client.ask(ListJobs()), 0.0
                while self._open or not self.stop.is_set():
                    hub.pump(0.05)
                    now = time.monotonic()
                    self._take(client, now)
                    if listing.replies:
                        reply = listing.replies.popleft()
                        self._backlog = (
                            len(reply.jobs) if isinstance(reply, Jobs) else self._backlog
                        )
                        client.end(listing)
                        look_at = now + LOOK_S
                    if look_at and now >= look_at:
                        listing, look_at = client.ask(ListJobs()), 0.0
                    while not self.stop.is_set() and self._may_send(now):
                        self._order(client, now)
        except Exception as error:
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")

    def _may_send(self, now: float) -> bool:
        if self._ordered >= (now - self._began) * self._rate:
            return False
        return self._backlog + len(self._open) < self._under_way and len(self._open) < 20

    def _order(self, client: Client, now: float) -> None:
        self._ordered += 1
        self._backlog += 1
        order = self._next()
        words = [order.name, f"{order.seconds:.2f}", str(order.exit_code)]
        spec = JobSpec(
            order.name,
            (str(self._script), str(self._files), *words),
            role=self.door.role,
            cpus_milli=250,
            mem_bytes=MEMORY_BYTES,
            once=order.once,
            restartable=order.restartable,
            stdout="none",
            stderr="none",
        )
        message = SubmitJob(new_id(), spec)
        self._open.append(_Open(order, message, client.ask(message), now))

    def _next(self) -> Order:
        chance = self._chance
        kind = chance.random()
        return Order(
            f"{self.door.name}-{self._ordered:05d}",
            chance.choice((0.0, 0.1, 0.1, 0.3, 1.0, 3.0)),
            chance.choice((0, 0, 0, 0, 3)),
            once=kind < 0.1,
            restartable=0.1 <= kind < 0.2,
        )

    def _take(self, client: Client, now: float) -> None:
        still: list[_Open] = []
        for one in self._open:
            if not one.ask.replies:
                still.append(one)
                continue
            reply = one.ask.replies[0]
            if isinstance(reply, JobAccepted):
                client.end(one.ask)
                self.accepted[reply.job_id] = one.order
            elif not isinstance(reply, Refusal) or reply.code != "unavailable":
                client.end(one.ask)
                self.problems.append(f"{one.order.name} was refused: {reply}")
            elif now >= one.asked_at + AGAIN_S:
                client.end(one.ask)
                one.ask, one.asked_at = client.ask(one.message), now
                still.append(one)
            else:
                still.append(one)
        self._open = still


def connect(hub: Hub, door: Door) -> Client:
    """A conversation with a framework."""
    return hub.connect(door.address, door.key.pair, door.public_key, name=door.name)


def all_tasks(door: Door, jobs: int) -> list[TaskView]:
    """Every task of the jobs 1 to `jobs`, whatever its state. Raises MesosctlError."""
    found: list[TaskView] = []
    with Hub() as hub:
        client, after = connect(hub, door), ""
        while jobs:
            reply = client.request(ListTasks((f"1-{jobs}",), after=after))
            if not isinstance(reply, Tasks):
                raise AssertionError(f"not a list of tasks: {reply}")
            found += reply.tasks
            after = reply.next
            if not after:
                break
    return found


def unfinished(door: Door) -> int:
    """How many jobs have not ended; -1 when nobody answers."""
    with Hub() as hub:
        try:
            reply: Message = connect(hub, door).request(ListJobs(), 5.0)
        except MesosctlError:
            return -1
    return len(reply.jobs) if isinstance(reply, Jobs) else -1
