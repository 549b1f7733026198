"""Thousands of agents in one process, for scale.py: `python bench/crowd.py --count N --key FILE`.

Each agent is the small machine of mesosctl.sim.scenario.agent behind a DEALER of its own, which
costs two descriptors; emulated.py has whole agents, of which a process holds fewer. With
`--connections N` all of them share so many, which only scale_master.py understands. A task is a
number of seconds, the second word of its command.

Prints a line of figures every second: agents registered, tasks that run, tasks started so far.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import select
import signal
import sys
from pathlib import Path

import zmq

from mesosctl.core.machine import Event, Now, PeerLost, Received, Send, Started, Tick
from mesosctl.limits import FRAME_BYTES_MAX, HEARTBEAT_S, RECONNECT_EACH_S
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import AgentId, FrameworkId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskInfo
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.runtime.ids import new_id
from mesosctl.runtime.loop import system_now
from mesosctl.sim.scenario.agent import ScenarioAgent
from mesosctl.storage.keys import KeyFile, load_key

# So many introductions are under way at once while all of them come for the first time.
AT_ONCE = 100
TOLD_EVERY_S = 1.0
LAUNCH_S = 0.01
DESCRIPTORS = 20_000


class Totals:
    """What the tasks of all agents together do; see Tasks."""

    def __init__(self) -> None:
        self.running = self.started = 0

    def lasts_s(self, info: TaskInfo) -> float:
        """As its command says."""
        return float(info.command.argv[1])

    def began(self, framework_id: FrameworkId, info: TaskInfo) -> None:
        """One more runs."""
        self.running += 1
        self.started += 1

    def ended(self, framework_id: FrameworkId, info: TaskInfo, finished: bool) -> None:
        """One less runs."""
        self.running -= 1


class Line:
    """One connection to the master, and the agents that speak along it, by their sessions."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], key: KeyFile, master: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.by_session: dict[str, int] = {}
        self.sessions: dict[int, str] = {}
        self.unsent: dict[int, bytes] = {}
        self.socket.routing_id = os.urandom(8)
        self.socket.linger = 0
        self.socket.immediate = True
        self.socket.handshake_ivl = 60_000
        self.socket.curve_serverkey = key.server_key.encode()
        self.socket.curve_publickey = key.pair.public.encode()
        self.socket.curve_secretkey = key.pair.secret.encode()
        self._master = master

    def connect(self, agents: int) -> None:
        """Begin to connect; when it is lost, it is made anew somewhen in the window of all."""
        # libzmq adds up to as much again.
        self.socket.reconnect_ivl = max(100, int(agents * RECONNECT_EACH_S * 500))
        self.socket.connect(self._master)

    def send(self, number: int, envelope: Envelope) -> bool:
        """Send; False when nobody is connected. What opens a session waits until somebody is."""
        before = self.sessions.get(number)
        if before != envelope.session:
            self.by_session.pop(before or "", None)
            self.by_session[envelope.session] = number
            self.sessions[number] = envelope.session
        frame = encode(envelope)
        self.unsent.pop(number, None)
        try:
            self.socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            if envelope.seq == 1:
                self.unsent[number] = frame
            return envelope.seq == 1
        return True

    def flush(self) -> bool:
        """Send what waited, once it can be; whether anything was."""
        sent = False
        while self.unsent:
            number, frame = next(iter(self.unsent.items()))
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                break
            sent = True
            del self.unsent[number]
        return sent


class Crowd:
    """All agents of this process, and the loop that they share."""

    def __init__(self, options: argparse.Namespace) -> None:
        key = load_key(options.key)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 100_000)
        self._every = options.count * options.processes
        self._lines = [
            Line(context, key, options.master or key.master)
            for _ in range(options.connections or options.count)
        ]
        self.totals = Totals()
        total = Resources.parse(options.resources)
        self._agents = [
            ScenarioAgent(
                AgentInfo(AgentId(f"A{number}"), f"n{number}", total, boot_id="crowd"),
                new_id,
                self.totals,
                LAUNCH_S,
                HEARTBEAT_S,
            )
            for number in range(options.first, options.first + options.count)
        ]
        self._poll = select.epoll()
        self._owners: dict[int, Line] = {}
        self._due: list[tuple[float, int]] = []
        self._due_of: dict[int, float] = {}
        self._begun = 0

    def run(self) -> None:
        """For ever; TERM ends it."""
        told_at = 0.0
        while True:
            self._begin_some()
            now = system_now()
            wait_s = min(self._due[0][0] - now.mono, 0.1) if self._due else 0.1
            for descriptor, _ in self._poll.poll(max(0.0, wait_s)):
                self._drain(self._owners[descriptor])
            now = system_now()
            while self._due and self._due[0][0] <= now.mono:
                due, number = heapq.heappop(self._due)
                if self._due_of.get(number) == due:
                    del self._due_of[number]
                    self._handle(number, Tick(), now)
                    self._drain(self._lines[number % len(self._lines)])
            if now.mono >= told_at:
                told_at = now.mono + TOLD_EVERY_S
                here = sum(agent.session.confirmed for agent in self._agents)
                print(f"{here} {self.totals.running} {self.totals.started}", flush=True)

    def _begin_some(self) -> None:
        if self._begun == len(self._agents):
            return
        here = sum(agent.session.confirmed for agent in self._agents[: self._begun])
        while self._begun < len(self._agents) and self._begun - here < AT_ONCE:
            number = self._begun
            self._begun += 1
            line = self._lines[number % len(self._lines)]
            if number < len(self._lines):
                line.connect(self._every)
                descriptor = int(line.socket.getsockopt(zmq.FD))
                self._owners[descriptor] = line
                self._poll.register(descriptor, select.EPOLLIN | select.EPOLLET)
            self._handle(number, Started(), system_now())
            self._drain(line)

    def _drain(self, line: Line) -> None:
        """Take all that has come.

        Its descriptor tells of changes only, and any call on the socket may take one in: so this
        follows whatever was sent, too.
        """
        now = system_now()
        while True:
            try:
                frame = line.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                if line.flush():
                    continue
                return
            envelope = decode(frame, bytes_max=FRAME_BYTES_MAX)
            number = line.by_session.get(envelope.session)
            if number is not None:
                self._handle(number, Received("master", "", envelope), now)

    def _handle(self, number: int, event: Event, now: Now) -> None:
        agent, line = self._agents[number], self._lines[number % len(self._lines)]
        events: list[Event] = [event]
        while events:
            effects = agent.handle(events.pop(), now)
            for effect in [*effects, *agent.settle(now)]:
                # Open and Close need nothing: libzmq connects anew by itself.
                if isinstance(effect, Send) and not line.send(number, effect.envelope):
                    events = [PeerLost("master")]
        due = agent.deadline()
        known = self._due_of.get(number)
        if due is not None and (known is None or due < known):
            self._due_of[number] = due
            heapq.heappush(self._due, (due, number))


def main() -> int:
    """Run the agents until they are told to stop."""
    parser = argparse.ArgumentParser(description="Very many small agents.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--processes", type=int, default=1, help="how many such crowds there are")
    parser.add_argument("--connections", type=int, default=0, help="shared ones; 0: one each")
    parser.add_argument("--resources", default="cpus:4;mem:4096")
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--master", default="", help="default: the address in the key file")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = min(DESCRIPTORS, hard) if hard > 0 else DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Crowd(options).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
