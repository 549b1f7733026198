"""The one loop that runs every daemon: events in, one machine, effects out.

Rules:
- One pass: wait, gather a bounded batch of events, have the machine handle each and settle once,
  make every Put and Delete of the pass durable in one transaction, then carry out the other effects
  in order. So nothing is promised before it is on disk.
- What a peer sends can make it lose its connection, never stop the loop. What we get wrong
  ourselves (an exception in the machine or in a deed) stops the process with a traceback and exit
  code 70; storage that fails stops it with one line and exit code 1.
- A loop with a gate (a master among several) does nothing more once that raises: it is asked when
  events have come, before they are made durable, and again before anything is sent.
- No thread but the caller's: signals, timers, children and other descriptors come through the poll.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from mesosctl.core.machine import (
    Aim,
    Close,
    Delete,
    Effect,
    Event,
    Log,
    Machine,
    Now,
    Open,
    Put,
    Send,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.errors import InvariantBroken, MesosctlError
from mesosctl.model.records import dataclass
from mesosctl.runtime.endpoints import Context
from mesosctl.runtime.links import LinkSpec, LinkState
from mesosctl.runtime.logs import Logger
from mesosctl.runtime.network import Counters, Network
from mesosctl.runtime.polling import IN, OUT, Sources, Wakeup
from mesosctl.runtime.scarcity import LOOK_S, DescriptorWatch, is_shortage, raise_descriptor_limit
from mesosctl.runtime.sockets import ServerSpec
from mesosctl.runtime.zap import Authority

SLOW_COMMIT_S = 1.0
# What a full peer refused is offered to it again this often.
FLUSH_S = 0.01
# A process that stops gives its last messages so long to leave.
STOP_LINGER_S = 1.0
_WAIT_MAX_S = 3600.0
# Deeds answer with events, the machine with deeds: so often in one pass.
ROUNDS_MAX = 3

E = TypeVar("E", bound=Effect)


class Store(Protocol):
    """Where Put and Delete go."""

    def apply(self, operations: Sequence[Put | Delete]) -> None:
        """Make all of them durable, or none. Raises StorageFailed."""
        ...


@dataclass(slots=True)
class _Timer:
    interval_s: float | None
    due: float
    deed: Callable[[], Iterable[Event]]


def system_now() -> Now:
    """The time of this host."""
    return Now(time.monotonic(), time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


class Loop:
    """Runs `machine` until it stops; see the module's rules.

    Everything may also be called by deeds while the loop runs; `post` and `call` by other threads.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        role: str = "",
        store: Store | None = None,
        clock: Callable[[], Now] = system_now,
        log: Callable[[str, str], None] | None = None,
        gate: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine = machine
        self._gate = gate
        self._calls: deque[Callable[[], Iterable[Event]]] = deque()
        self._abandoned = False
        self.counters = Counters()
        self.log = log or Logger(role or "mesosctl")
        self._store = store
        self._clock = clock
        # Called once each: when signals are heeded, and before the last messages leave.
        self.on_ready: Callable[[], None] = lambda: None
        self.on_stop: Callable[[], None] = lambda: None
        self._exit_code: int | None = None
        # When the machine wants a Tick, as it said before the last wait.
        self._due: float | None = None
        self._timers: list[_Timer] = []
        self._sources = Sources()
        self._network = Network(self._sources, self.counters, self.log)
        self._wakeup = Wakeup()
        self._sources.add(self._wakeup.fileno(), self._take_signals)
        self._thread = threading.get_ident()
        self._deeds: dict[type[Effect], Callable[[Any], None]] = {
            Send: self._network.send,
            Open: self._network.open,
            Aim: self._network.aim,
            Close: self._network.close_peer,
            Log: lambda effect: self.log(effect.level, effect.text),
            Stop: self._stop,
        }

    # --- wiring -----------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The zmq context of all its sockets."""
        return self._network.context

    def bind(self, name: str, spec: ServerSpec) -> str:
        """Listen under `name` (no colon); the address it got. Raises Refused, UsageError.

        Its peers are called `<name>:<hex>`. TCP needs an `authority` for the domain of `spec`.
        """
        return self._network.bind(name, spec)

    def unbind(self, name: str) -> None:
        """Stop listening under `name`. Its peers are gone without another word."""
        self._network.unbind(name)

    def authority(self, domain: str, authority: Authority) -> None:
        """Have `authority` decide which public keys may connect to the sockets of `domain`."""
        self._network.authority(domain, authority)

    def resolve(self, key: str, allowed: bool, domain: str | None = None) -> None:
        """Decide about connections of `key` for which the authority answered None."""
        self._network.resolve(key, allowed, domain)

    def drop_key(self, key: str) -> None:
        """End every live connection of this key, on all sockets; each becomes PeerLost."""
        self._network.drop_key(key)

    def link(self, name: str, spec: LinkSpec) -> None:
        """Say where the link `name` leads. An open one goes on until the next Open(name)."""
        self._network.link(name, spec)

    def unlink(self, name: str) -> None:
        """Close the link `name` and forget where it led."""
        self._network.unlink(name)

    def on_refused(self, tell: Callable[[str, str], Iterable[Event]]) -> None:
        """Call `tell(link, why)` when a link's handshake is turned down (wrong key, wrong server).

        What it returns is posted. The link goes on trying; without this it is only logged.
        """
        self._network.refused = tell

    def on_effect(self, kind: type[E], deed: Callable[[E], None]) -> None:
        """Have `deed` carry out effects of exactly this class."""
        self._deeds[kind] = deed

    def watch_fd(
        self, fd: int, deed: Callable[[], Iterable[Event]], *, write: bool = False
    ) -> None:
        """Call `deed` in each pass in which `fd` can be read (or written), posting its events.

        It must not block, and has to read what is there, or it is called again at once.
        """
        flags = OUT if write else IN
        self._sources.add(fd, lambda: self._network.events.extend(deed()), flags)

    def unwatch_fd(self, fd: int) -> None:
        """Watch it no longer. Must be called before `fd` is closed; an unknown one is ignored."""
        self._sources.remove(fd)

    def every(self, interval_s: float, deed: Callable[[], Iterable[Event]]) -> None:
        """Call `deed` once an interval, beginning one interval from now, posting its events."""
        self._timers.append(_Timer(interval_s, time.monotonic() + interval_s, deed))

    def after(self, wait_s: float, deed: Callable[[], Iterable[Event]]) -> None:
        """Call `deed` once, `wait_s` from now, posting its events."""
        self._timers.append(_Timer(None, time.monotonic() + wait_s, deed))

    def post(self, event: Event) -> None:
        """Have the machine handle `event` in the next pass. Any thread may call this."""
        self._network.events.append(event)
        if threading.get_ident() != self._thread:
            self._wakeup.wake()

    def call(self, deed: Callable[[], Iterable[Event]]) -> None:
        """Call `deed` in the loop's own thread, posting its events. Any thread may call this."""
        self._calls.append(deed)
        self._wakeup.wake()

    def move(self, link: str, address: str) -> None:
        """Lead a link elsewhere from now on, without a pause; empty: nobody is to be found."""
        self._network.move(link, address)

    def abandon(self, exit_code: int = 0) -> None:
        """End after this pass with this code, dropping what waits to be sent."""
        self._exit_code = exit_code
        self._abandoned = True

    def state_of(self, link: str) -> LinkState:
        """How far the connection of this link came."""
        return self._network.state_of(link)

    # --- running ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Send Started, then pass after pass until a Stop or a failure; the exit code."""
        self._thread = threading.get_ident()
        self._network.events.appendleft(Started())
        linger_ms = 0
        raise_descriptor_limit()
        self.every(LOOK_S, DescriptorWatch(self._wakeup.fileno(), self.log).look)
        try:
            with self._wakeup.signals():
                self.on_ready()
                while self._exit_code is None:
                    self.run_pass()
            if not self._abandoned:
                self.on_stop()
                linger_ms = int(STOP_LINGER_S * 1000)
                self._flush_last()
        except MesosctlError as error:
            self._exit_code = error.exit_code
            if isinstance(error, InvariantBroken):
                sys.excepthook(*sys.exc_info())
            else:
                self.log("error", str(error))
        except Exception as error:
            if is_shortage(error):
                self._exit_code = MesosctlError.exit_code
                self.log("error", f"no file descriptor is left ({error}): raise the limit of them")
            else:
                # A mistake of ours: a half-alive daemon is worse than none.
                self._exit_code = InvariantBroken.exit_code
                sys.excepthook(*sys.exc_info())
        finally:
            self.close(linger_ms)
        return self._exit_code

    def run_pass(self, wait_max_s: float = _WAIT_MAX_S) -> None:
        """One pass, waiting for its first event until the next timer or `wait_max_s`."""
        self.counters.passes += 1
        network = self._network
        self._sources.poll(self._wait_s(wait_max_s))
        self._gate()
        network.take_leftovers()
        while self._calls:
            network.events.extend(self._calls.popleft()())
        self._take_timers()
        self._handle_events()
        # What deeds have posted needs no poll; but nobody may keep the loop from polling.
        for _ in range(ROUNDS_MAX):
            if not network.events or self._exit_code is not None:
                return
            self._gate()
            self._handle_events()

    def _handle_events(self) -> None:
        """Have the machine take all events and settle, then carry out what it wants."""
        network = self._network
        events = list(network.events)
        network.events.clear()
        network.begin_pass()
        now = self._clock()
        handle = self.machine.handle
        effects: list[Effect] = []
        for event in events:
            effects.extend(handle(event, now))
        # As it was when the wait for these events began: asking costs as much as many events, and
        # what they bring about is due in the next pass, which then does not wait.
        if self._due is not None and self._due <= now.mono:
            self._due = None
            effects.extend(handle(Tick(), now))
        effects.extend(self.machine.settle(now))
        self._carry_out(effects)

    def _wait_s(self, wait_s: float) -> float:
        self._due = self.machine.deadline()
        if self._network.events or self._network.is_unsettled or self._calls:
            return 0.0
        if self._network.is_waiting:
            wait_s = min(wait_s, FLUSH_S)
        if self._due is not None:
            wait_s = min(wait_s, self._due - self._clock().mono)
        mono = time.monotonic()
        for timer in self._timers:
            wait_s = min(wait_s, timer.due - mono)
        expiry = self._network.zap.deadline()
        if expiry is not None:
            wait_s = min(wait_s, expiry - mono)
        return max(0.0, wait_s)

    def _take_timers(self) -> None:
        mono = time.monotonic()
        for timer in list(self._timers):
            if timer.due <= mono:
                if timer.interval_s is None:
                    self._timers.remove(timer)
                else:
                    # Intervals that were missed are not made up for.
                    timer.due = mono + timer.interval_s
                self._network.events.extend(timer.deed())
        self._network.expire(mono)

    def _take_signals(self) -> None:
        self._network.events.extend(Signalled(number) for number in self._wakeup.take())

    def _carry_out(self, effects: list[Effect]) -> None:
        self._gate()
        kept = [effect for effect in effects if isinstance(effect, Put | Delete)]
        if kept:
            self._commit(kept)
            self._gate()
        for effect in effects:
            deed = self._deeds.get(type(effect))
            if deed is not None:
                deed(effect)
            elif not isinstance(effect, Put | Delete):
                raise InvariantBroken(f"nothing here carries out {type(effect).__name__}")
            if self._exit_code is not None:
                return

    def _commit(self, kept: list[Put | Delete]) -> None:
        if self._store is None:
            raise InvariantBroken("there is nothing to keep state in")
        began = time.monotonic()
        self._store.apply(kept)
        took_s = time.monotonic() - began
        self.counters.commits += 1
        if took_s > SLOW_COMMIT_S:
            self.counters.slow_commits += 1
            self.log("warning", f"the disk took {took_s:.1f} s for one commit")

    def _stop(self, effect: Stop) -> None:
        self._exit_code = effect.exit_code
        if effect.text:
            self.log("error" if effect.exit_code else "info", effect.text)

    def _flush_last(self) -> None:
        """Give what was said before Stop a last chance to leave."""
        until = time.monotonic() + STOP_LINGER_S
        while not self._network.flush() and time.monotonic() < until:
            time.sleep(FLUSH_S)

    def close(self, linger_ms: int = 0) -> None:
        """Close every socket; messages under way have `linger_ms` to leave. Idempotent."""
        self._network.close(linger_ms)
        self._wakeup.close()
