"""A process of the simulated cluster: its machine while it is up, its disk always.

Rules: a node runs the passes that the real loop runs: events in, one commit, then the other effects
in order. It can be killed or stopped between any two of these steps; killed, it starts again from
its disk. A commit
that fails ends it before anything of the pass leaves. While it is paused it takes nothing;
afterwards it takes all that waited in one pass. Its clocks are its own: the one on the wall may be
set, the monotonic one stands still while the host sleeps.
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
    Now,
    Open,
    Put,
    Received,
    Send,
    Started,
    Stop,
    Tick,
)
from mesosctl.errors import require
from mesosctl.sim.disk import Disk, DiskFailed, Row

if TYPE_CHECKING:
    from mesosctl.sim.wire import Connection
    from mesosctl.sim.world import World

CHECK_EVERY = 5
# What is made durable before the rest of a pass is carried out.
KEPT = (Put, Delete)
# For how long a process is stopped in the middle of a pass: less and more than a leader may be.
PAUSE_S = (1.0, 6.0, 20.0)


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
        self.disk = Disk()
        self.machine: Machine | None = None
        self.life = 0
        self.routes: dict[str, tuple[Node, str]] = {}
        self.links: dict[str, Connection] = {}
        self.peers: dict[str, Connection] = {}
        self.deeds: dict[type[Effect], Callable[[Any], None]] = {}
        # By link: called before it is opened, where it does not always lead to the same place.
        self.seeks: dict[str, Callable[[], None]] = {}
        # Asked before a pass and after its commit; whoever answers no has ended this life.
        self.gate: Callable[[], bool] = lambda: True
        # How it ends when its disk fails.
        self.gives_up: Callable[[], None] = self.crash
        self.restarts = True
        # Exit codes that are no fault, with what is done about them before it is started again.
        self.stops_with: dict[int, Callable[[], object]] = {}
        self.mortal = True
        self.check_every = CHECK_EVERY
        self._passes = 0
        self._tick_at: float | None = None
        self._paused = False
        self._backlog: list[Event] = []
        # What is left of a pass in which the process was stopped.
        self._rest: tuple[list[Effect | None], list[Effect]] | None = None
        # How far its clock on the wall is wrong, and for how long its host slept.
        self.wall_off_s = 0.0
        self.slept_s = 0.0
        self._limps = False
        self._sleeps_since_s: float | None = None

    def row(self, table: str, key: str) -> Row | None:
        """One record of the disk; None when it is not there."""
        return self.disk.row(table, key)

    def tables(self) -> dict[str, dict[str, Row]]:
        """What the disk holds, decoded."""
        return self.disk.tables()

    @property
    def now(self) -> Now:
        """The present by the clocks of this node."""
        now = self.world.now
        if self.wall_off_s or self.slept_s:
            return now._replace(mono=now.mono - self.slept_s, wall=now.wall + self.wall_off_s)
        return now

    @property
    def is_paused(self) -> bool:
        """Whether it takes nothing just now."""
        return self._paused

    # --- life and death ---------------------------------------------------------------------------
    def start(self) -> None:
        """Begin a life from what the disk holds."""
        if self.machine is not None:
            return
        self.life += 1
        self._tick_at = None
        self.world.note(self.name, "start", str(self.life))
        self.disk.open()
        if self._limps and self.world.faults.strokes:
            # A disk that failed is seldom the last trouble of its host.
            self.world.later(self.world.random.uniform(0.02, 2.0), self.cut_power)
        self._limps = False
        self.machine = self.make(self)
        self._pass([Started()])
        if self.machine is not None:
            for judge in self.world.judges:
                judge.began(self)
            self.world.wire.node_started(self)

    def kill(self) -> None:
        """End this life without a word, as SIGKILL does."""
        if self.machine is None:
            return
        self.world.note(self.name, "ends", str(self.life))
        self.machine = None
        self._paused = False
        self._sleeps_since_s = None
        self._backlog.clear()
        self._rest = None
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

    def cut_power(self) -> None:
        """Be killed together with everything that was not synced."""
        if self.machine is not None:
            self.world.struck("power cut", self.name)
            self.disk.cut_power()
            self.crash()

    def pause(self, lasts_s: float, why: str = "pause", *, sleeps: bool = False) -> None:
        """Take nothing for a while; with `sleeps` its monotonic clock stands still meanwhile."""
        if self.machine is None or self._paused:
            return
        if why:
            self.world.struck(why, self.name, f"{lasts_s:g} s")
        self._paused = True
        self._sleeps_since_s = self.world.now.mono if sleeps else None
        life = self.life
        self.world.later(lasts_s, lambda: self.resume() if self.life == life else None)

    def resume(self) -> None:
        """Take all that waited, in one pass."""
        if self._paused:
            self._paused = False
            if self._sleeps_since_s is not None:
                self.slept_s += self.world.now.mono - self._sleeps_since_s
                self._sleeps_since_s = None
            if len(self._backlog) > 1:
                self.world.note(self.name, "takes", f"{len(self._backlog)} at once")
            machine, rest, self._rest = self.machine, self._rest, None
            if rest is not None and machine is not None:
                self._go_on(machine, *rest)
                if self.machine is not machine:
                    return
            events, self._backlog = self._backlog, []
            # Whatever was due meanwhile is looked at in this pass.
            self._tick_at = self.now.mono
            self._pass(events)

    # --- passes -----------------------------------------------------------------------------------
    def take(self, event: Event) -> None:
        """One pass for one event. A node that is down takes nothing."""
        if self._paused:
            self._backlog.append(event)
        elif self.machine is None:
            return
        elif self.mortal and self.world.chance(self.world.faults.hiccup):
            self.pause(self.world.random.uniform(0.001, 0.2), "")
            self._backlog.append(event)
        else:
            self._pass([event])

    def _pass(self, events: Iterable[Event]) -> None:
        machine, world = self.machine, self.world
        if machine is None or not self.gate():
            return
        now = self.now
        effects: list[Effect] = []
        for event in events:
            answer = machine.handle(event, now)
            if isinstance(event, Received):
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
        kept: list[Effect] = [one for one in effects if isinstance(one, KEPT)]
        steps: list[Effect | None] = [None] if kept else []
        steps += [effect for effect in effects if not isinstance(effect, KEPT)]
        self._go_on(machine, steps, kept)

    def _go_on(self, machine: Machine, steps: list[Effect | None], kept: list[Effect]) -> None:
        killed_at = self._kill_point(len(steps))
        stopped_at = self._stop_point(len(steps))
        for number, step in enumerate(steps):
            if number == killed_at:
                self.crash()
                return
            if number == stopped_at:
                self._rest = (steps[number:], kept)
                self.pause(self.world.random.choice(PAUSE_S), "stopped in a pass")
                return
            if step is None:
                if not self._commit(kept):
                    return
                for judge in self.world.judges:
                    judge.committed(self, kept)
                if not self.gate():
                    return
            else:
                self._carry_out(step)
            if self.machine is not machine:
                return
        self._plan_tick()

    def _stop_point(self, steps: int) -> int | None:
        """Before which of its steps the node is stopped in this pass, to go on with it later."""
        faults = self.world.faults
        if not steps or not faults.stall_in_pass:
            return None
        touched = self.name.startswith(faults.stalled_nodes)
        if not touched or not self.world.chance(faults.stall_in_pass):
            return None
        return self.world.random.randrange(steps)

    def _kill_point(self, steps: int) -> int | None:
        """Before which of its steps the node is killed in this pass; None: it lives on."""
        faults = self.world.faults
        if not steps or not faults.kill_at_pass or not self.mortal:
            return None
        touched = self.name.startswith(faults.touched_nodes)
        if not touched or not self.world.chance(faults.kill_at_pass):
            return None
        return self.world.random.randrange(steps)

    def _commit(self, kept: Iterable[Effect]) -> bool:
        """Make them durable; False when the disk would not, which ended the process."""
        broken = self.disk.problem == "broken"
        try:
            if broken and self.world.chance(0.5):
                # It failed while it synced: what was written is there all the same.
                self.disk.problem = ""
                self.disk.write(kept)
                self.disk.fail_sync()
                self._limps = True
                raise DiskFailed("broken")
            self.disk.write(kept)
            self.disk.sync()
        except DiskFailed as error:
            if broken:
                self.disk.problem = ""
            self._fail_stop(str(error))
            return False
        return True

    def _fail_stop(self, why: str) -> None:
        self.world.struck(f"disk {why}", self.name)
        for judge in self.world.judges:
            judge.failed(self)
        self.gives_up()

    def _carry_out(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Send(peer=peer, envelope=envelope):
                for judge in world.judges:
                    judge.sends(self)
                world.wire.send(self, peer, envelope)
            case Open(link=link):
                if link in self.seeks:
                    self.seeks[link]()
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
        return deadline is not None and deadline <= self.now.mono

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

        delay_s = deadline - self.now.mono
        # A little late rather than early, as sums of floats are not exact.
        self.world.later(delay_s + 1e-6 if delay_s > 0 else 0.0, tick)
