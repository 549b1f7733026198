"""A process of the simulated cluster: its machine while it is up, its disk always.

Rules: a node runs the passes that the real loop runs: events in, one commit, then the other effects
in order. It can be killed between any two of these steps, and starts again from its disk. While it
is paused it takes nothing; afterwards it takes all that waited in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mesosctl.core.machine import (
    Close,
    Delete,
    Effect,
    Event,
    Log,
    Machine,
    Open,
    Put,
    Send,
    Started,
    Stop,
    Tick,
)
from mesosctl.errors import require
from mesosctl.protocol.codec import pack, unpack

if TYPE_CHECKING:
    from mesosctl.sim.wire import Connection
    from mesosctl.sim.world import World

Row = dict[str, Any]
CHECK_EVERY = 5


class Node:
    """One process. `make` builds the machine from the disk; `deeds` carry out its role's effects.

    `check_every`: its machine recounts itself in each so manieth pass; see Machine.check. Most of
    the time of a seed would go into it otherwise; what is wrong stays wrong for a few passes.
    """

    def __init__(
        self, world: World, name: str, make: Callable[[Node], Machine], key: str = ""
    ) -> None:
        self.world = world
        self.name = name
        self.make = make
        self.key = key
        self.disk: dict[str, dict[str, bytes]] = {}
        self.machine: Machine | None = None
        self.life = 0
        self.routes: dict[str, tuple[Node, str]] = {}
        self.links: dict[str, Connection] = {}
        self.peers: dict[str, Connection] = {}
        self.deeds: dict[type[Effect], Callable[[Any], None]] = {}
        self.restarts = True
        # Exit codes that are no fault, with what is done about them before it is started again.
        self.stops_with: dict[int, Callable[[], object]] = {}
        self.mortal = True
        self.check_every = CHECK_EVERY
        self._passes = 0
        self._tick_at: float | None = None
        self._paused = False
        self._backlog: list[Event] = []

    def row(self, table: str, key: str) -> Row | None:
        """One record of the disk; None when it is not there."""
        raw = self.disk.get(table, {}).get(key)
        return None if raw is None else unpack(raw)

    def tables(self) -> dict[str, dict[str, Row]]:
        """What the disk holds, decoded."""
        return {
            table: {key: unpack(value) for key, value in rows.items()}
            for table, rows in self.disk.items()
        }

    # --- life and death ---------------------------------------------------------------------------
    def start(self) -> None:
        """Begin a life from what the disk holds."""
        if self.machine is not None:
            return
        self.life += 1
        self._tick_at = None
        self.world.note(self.name, "start", str(self.life))
        self.machine = self.make(self)
        self.take(Started())
        if self.machine is not None:
            self.world.wire.node_started(self)

    def kill(self) -> None:
        """End this life without a word, as SIGKILL does."""
        if self.machine is None:
            return
        self.world.note(self.name, "ends", str(self.life))
        self.machine = None
        self._paused = False
        self._backlog.clear()
        self.links.clear()
        self.peers.clear()
        self.world.wire.node_died(self)
        for deed in self.world.died:
            deed(self)

    def crash(self) -> None:
        """Be killed, and started again later if anybody does that."""
        if self.machine is None:
            return
        role = "executor" if "/" in self.name else self.name.rstrip("0123456789")
        self.world.struck(f"kill {role}", self.name)
        self.kill()
        if self.restarts:
            self.world.later(
                self.world.random.uniform(0.05, self.world.faults.restart_max_s), self.start
            )

    def pause(self, lasts_s: float) -> None:
        """Take nothing for a while."""
        if self.machine is None or self._paused:
            return
        self.world.struck("pause", self.name, f"{lasts_s:g} s")
        self._paused = True
        life = self.life
        self.world.later(lasts_s, lambda: self.resume() if self.life == life else None)

    def resume(self) -> None:
        """Take all that waited, in one pass."""
        if self._paused:
            self._paused = False
            self.world.note(self.name, "resumes", str(len(self._backlog)))
            events, self._backlog = self._backlog, []
            self._pass(events)

    # --- passes -----------------------------------------------------------------------------------
    def take(self, event: Event) -> None:
        """One pass for one event. A node that is down takes nothing."""
        if self._paused:
            self._backlog.append(event)
        elif self.machine is not None:
            self._pass([event])

    def _pass(self, events: Iterable[Event]) -> None:
        machine, world = self.machine, self.world
        if machine is None:
            return
        now = world.now
        effects: list[Effect] = []
        for event in events:
            answer = machine.handle(event, now)
            for judge in world.judges:
                judge.saw(self, event, answer)
            effects += answer
        if self._tick_at is not None and self._tick_at <= now.mono:
            self._tick_at = None
            if self._is_due(machine):
                effects += machine.handle(Tick(), now)
        effects += machine.settle(now)
        self._passes += 1
        if self._passes % self.check_every == 0:
            machine.check()
        for judge in world.judges:
            judge.passed(self, effects)
        self._carry_out_all(machine, effects)

    def _carry_out_all(self, machine: Machine, effects: list[Effect]) -> None:
        kept = [effect for effect in effects if isinstance(effect, Put | Delete)]
        steps: list[Effect | None] = [None] if kept else []
        steps += [effect for effect in effects if not isinstance(effect, Put | Delete)]
        killed_at = self._kill_point(len(steps))
        for number, step in enumerate(steps):
            if number == killed_at:
                self.crash()
                return
            if step is None:
                self._commit(kept)
            else:
                self._carry_out(step)
            if self.machine is not machine:
                return
        self._plan_tick()

    def _kill_point(self, steps: int) -> int | None:
        """Before which of its steps the node is killed in this pass; None: it lives on."""
        faults = self.world.faults
        touched = self.mortal and self.name.startswith(faults.touched_nodes)
        if not steps or not touched or not self.world.chance(faults.kill_at_pass):
            return None
        return self.world.random.randrange(steps)

    def _commit(self, kept: Iterable[Effect]) -> None:
        for effect in kept:
            if isinstance(effect, Put):
                self.disk.setdefault(effect.table, {})[effect.key] = pack(effect.value)
            elif isinstance(effect, Delete):
                self.disk.get(effect.table, {}).pop(effect.key, None)

    def _carry_out(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Send(peer=peer, envelope=envelope):
                world.wire.send(self, peer, envelope)
            case Open(link=link):
                world.wire.open(self, link)
            case Close(peer=peer):
                world.wire.close(self, peer)
            case Log(level=level, text=text):
                if level in ("warning", "error"):
                    world.note(self.name, "says", text)
            case Stop(exit_code=code, text=text):
                expected = code == 0 or code in self.stops_with
                require(expected, f"I12: {self.name} stopped with {code}: {text}")
                world.note(self.name, "stops", text)
                self.kill()
                if code:
                    self.stops_with[code]()
                if self.restarts:
                    world.later(1.0, self.start)
            case _:
                self.deeds[type(effect)](effect)

    def _is_due(self, machine: Machine) -> bool:
        deadline = machine.deadline()
        return deadline is not None and deadline <= self.world.now.mono

    def _plan_tick(self) -> None:
        if self.machine is None:
            return
        deadline = self.machine.deadline()
        if deadline is None or (self._tick_at is not None and self._tick_at <= deadline):
            return
        self._tick_at = deadline
        life = self.life

        def tick() -> None:
            if self.life != life or self.machine is None or self._tick_at != deadline:
                return
            # A paused node looks at the time when it goes on.
            if self._paused:
                return
            self._tick_at = None
            if self._is_due(self.machine):
                self._pass([Tick()])
            else:
                self._plan_tick()

        self.world.later(max(0.0, deadline - self.world.now.mono), tick)
