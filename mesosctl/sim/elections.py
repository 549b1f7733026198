"""Several masters in a simulated cluster: who stands, who leads, who is deposed, and I8 over it.

Rules: a master begins as a standby and a candidate, as runtime/seats.py has it. When it is the
lowest candidate and has raised the epoch it begins a life as the leader; when its fence, which is
the real one, does not hold any more that life ends without a word, and a standby begins. A paused
process asks nothing and hears nothing. How others find the leader is in masters.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesosctl.core.machine import Delete, Effect, Event, Put, Received, Send
from mesosctl.core.master import MasterMachine
from mesosctl.core.master.fence import Deposed, Fence
from mesosctl.core.master.standby import StandbyMachine
from mesosctl.errors import require
from mesosctl.limits import ZK_LOOK_S, ZK_PULSE_S, ZK_SESSION_S
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.session import Reset
from mesosctl.sim.disk import DiskFailed
from mesosctl.sim.node import Node
from mesosctl.sim.registry import TOLD_S, Answer, Registry, Session, SharedDisk

if TYPE_CHECKING:
    from mesosctl.sim.world import World

AGAIN_S = 0.2


@dataclass(slots=True, eq=False)
class Candidate:
    """One time of standing, and maybe of leading, of a process. `epoch`: 0 until it leads.

    `tries`: it has asked for the epoch to be raised, which it does once.
    """

    session: Session
    life: int
    fence: Fence
    epoch: int = 0
    tries: bool = False


class Elections:
    """Runs the masters `nodes` of a cluster at one registry, and judges them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.registry = Registry(world)
        self._nodes: dict[str, Node] = {}
        self._candidates: dict[str, Candidate] = {}
        self.registry.watchers.append(self._look_soon)
        world.judges.append(self)
        world.died.append(self._died)

    def add(self, node: Node) -> None:
        """This node is a master of the cluster."""
        first = next((other.disk for other in self._nodes.values()), None)
        node.disk = SharedDisk(lambda: self._may_write(node), first)
        node.gate = lambda: self._holds(node)
        node.gives_up = lambda: self._depose(node)
        self._nodes[node.name] = node

    def epoch(self, node: Node) -> int:
        """In which epoch this node leads; 0: it stands by."""
        candidate = self._candidates.get(node.name)
        return candidate.epoch if candidate is not None else 0

    # --- standing ---------------------------------------------------------------------------------
    def _stand(self, node: Node) -> None:
        """Begin a session, as soon as the registry can be reached."""
        life, registry = node.life, self.registry

        def begin() -> None:
            if node.machine is None or node.life != life or node.name in self._candidates:
                return
            if node.is_paused or not (registry.hears(node) and registry.reaches(node)):
                self._world.later(AGAIN_S, begin)
                return
            candidate = Candidate(registry.begin(node), life, self._fence())
            self._candidates[node.name] = candidate
            self._pulse(candidate)
            self._look(candidate)

        self._world.later(self._world.random.uniform(*TOLD_S), begin)

    def _is_over(self, candidate: Candidate) -> bool:
        return self._candidates.get(candidate.session.node.name) is not candidate

    def _ask(
        self, candidate: Candidate, deed: Callable[[], bool], then: Callable[[Answer], None]
    ) -> None:
        """Ask the registry; what follows waits while the process is paused, and dies with it."""
        node = candidate.session.node

        def told(answer: Answer) -> None:
            if self._is_over(candidate):
                return
            if node.is_paused:
                self._world.later(AGAIN_S, lambda: told(answer))
                return
            then(answer)

        self.registry.ask(candidate.session, deed, told)

    def _pulse(self, candidate: Candidate, wait_s: float = ZK_PULSE_S) -> None:
        """Show that it lives, and of a leader that it leads, again and again."""

        def beat() -> None:
            if self._is_over(candidate):
                return
            if candidate.session.node.is_paused:
                self._pulse(candidate, AGAIN_S)
                return
            try:
                begun = candidate.fence.begin()
            except Deposed:
                self._depose(candidate.session.node)
                return
            self._ask(candidate, proof, lambda answer: self._beaten(candidate, begun, answer))

        def proof() -> bool:
            return not candidate.epoch or self.registry.is_of(candidate.epoch)

        self._world.later(wait_s, beat)

    def _beaten(self, candidate: Candidate, begun: float, answer: Answer) -> None:
        if answer is Answer.DONE:
            candidate.fence.confirm(begun)
            self._pulse(candidate)
        elif answer is Answer.AWAY:
            self._pulse(candidate, AGAIN_S)
        else:
            candidate.fence.lose(answer)
            self._depose(candidate.session.node)

    def _look_soon(self) -> None:
        """Something changed: every candidate looks, and everybody who watches."""
        for candidate in list(self._candidates.values()):
            self._look(candidate, self._world.random.uniform(*TOLD_S), once=True)

    def _look(self, candidate: Candidate, wait_s: float = ZK_LOOK_S, *, once: bool = False) -> None:
        """See who leads, and whether it is time to lead."""
        registry, session = self.registry, candidate.session

        def look() -> None:
            if self._is_over(candidate) or candidate.tries:
                return
            if not session.node.is_paused:
                self._ask(candidate, lambda: True, seen)
            if not once:
                self._look(candidate)

        def seen(answer: Answer) -> None:
            if candidate.tries or answer is not Answer.DONE:
                return
            if registry.is_lowest(session):
                self._take_seat(candidate)
            else:
                session.node.take(registry.leader)

        self._world.later(wait_s, look)

    # --- leading ----------------------------------------------------------------------------------
    def _take_seat(self, candidate: Candidate) -> None:
        """Raise the epoch, and only then read what the leader before has left."""
        registry, session = self.registry, candidate.session
        candidate.tries, seen = True, registry.epoch
        fence = self._fence()
        begun = fence.begin()

        def answered(answer: Answer) -> None:
            if answer is not Answer.DONE:
                # Whatever came of it, this session has had its try.
                self._depose(session.node)
                return
            fence.confirm(begun)
            candidate.fence, candidate.epoch = fence, seen + 1
            # It is the same process: it does not lose its session with the life of its machine.
            candidate.life = session.node.life + 1
            session.node.kill()
            session.node.start()
            if not self._is_over(candidate):
                announce()

        def announce() -> None:
            self._world.struck("leader elected", session.node.name, f"epoch {candidate.epoch}")
            self._ask(candidate, lambda: registry.announce(session, candidate.epoch), announced)

        def announced(answer: Answer) -> None:
            if answer is not Answer.DONE:
                candidate.fence.lose("it could not say where it is")
                self._depose(session.node)

        self._ask(candidate, lambda: registry.raise_epoch(session, seen), answered)

    def _fence(self) -> Fence:
        return Fence(ZK_SESSION_S, lambda: self._world.now.boot)

    def _holds(self, node: Node) -> bool:
        """The gate of a loop: whether the node may go on; a leader that may not is deposed."""
        candidate = self._candidates.get(node.name)
        if candidate is None or not candidate.epoch:
            return True
        try:
            candidate.fence.check()
        except Deposed:
            self._depose(node)
            return False
        return True

    def _may_write(self, node: Node) -> bool:
        """See SharedDisk."""
        candidate = self._candidates.get(node.name)
        registry = self.registry
        if candidate is None or not registry.hears(node):
            raise DiskFailed("out of reach")
        try:
            begun = candidate.fence.begin()
        except Deposed:
            raise DiskFailed("lost") from None
        session = candidate.session
        if not session.alive or not registry.is_of(candidate.epoch):
            raise DiskFailed("taken over")
        session.heard = self._world.now.mono
        if not registry.reaches(node):
            return False
        candidate.fence.confirm(begun)
        return True

    def _depose(self, node: Node) -> None:
        """The seat is given up: the process stands by again, and stands again."""
        candidate = self._candidates.get(node.name)
        if candidate is not None:
            registry, session = self.registry, candidate.session
            if candidate.epoch:
                why = candidate.fence.lost or "the registry is not to be written"
                self._world.struck("leader deposed", node.name, why)
            if registry.hears(node):
                self._world.later(TOLD_S[0], lambda: registry.end(session))
        node.kill()
        self._world.later(AGAIN_S, node.start)

    def _died(self, node: Node) -> None:
        candidate = self._candidates.get(node.name)
        if candidate is not None and candidate.life == node.life:
            del self._candidates[node.name]

    # --- as a judge -------------------------------------------------------------------------------
    def _leads(self, node: Node, what: str) -> None:
        machine = node.machine
        if isinstance(machine, MasterMachine):
            mine, present = machine.state.sessions.epoch, self.registry.epoch
            text = f"I8: {node.name} {what} in epoch {mine}, and another leads in {present}"
            require(mine == present, text)

    def saw(self, node: Node, event: Event, effects: Sequence[Effect]) -> None:
        """Whoever has heard of a newer leader is told so by an older one, and nothing else."""
        if node.name not in self._nodes or not isinstance(event, Received):
            return
        machine, epoch = node.machine, event.envelope.epoch
        if isinstance(machine, MasterMachine) and epoch > machine.state.sessions.epoch:
            text = f"I8: {node.name} heeds one who knows of epoch {epoch}"
            require(all(_is_reset(effect) for effect in effects), text)

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Nobody acts whom another has taken over from; a standby only says that it is one."""
        if node.name not in self._nodes:
            return
        self._leads(node, "acts")
        if isinstance(node.machine, StandbyMachine):
            decided = [one for one in effects if isinstance(one, Put | Delete)]
            said = [one for one in effects if isinstance(one, Send) and not _is_reset(one)]
            require(not decided and not said, f"I8: {node.name} stands by and does {effects}")

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Nobody changes what another has read already."""
        if node.name in self._nodes:
            self._leads(node, "writes")

    def began(self, node: Node) -> None:
        """A standby stands for election; not a judge's business, but told to judges alone."""
        if node.name in self._nodes and node.name not in self._candidates:
            self._stand(node)

    def sends(self, node: Node) -> None:
        """See Judge."""

    def failed(self, node: Node) -> None:
        """See Judge."""


def _is_reset(effect: Effect) -> bool:
    return not isinstance(effect, Send) or isinstance(effect.envelope.message, Reset)
