"""The executor's side of leases: a clock that goes on in a suspended host, and the lease guard.

Rules: a timer on CLOCK_BOOTTIME wakes the loop, whose own timers stand still while the host is
suspended. The guard is started with the first lease; one that is gone, or does not take what it is
told, is replaced and told everything anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence

from mesosctl.core.executor_effects import GuardLease, RenewGuard, UnguardLease, WakeAt
from mesosctl.core.machine import Event, Tick
from mesosctl.runtime import rawcalls
from mesosctl.runtime.loop import Loop


class LeaseDeeds:
    """Carries out what the machine wants for leases, on `loop`.

    `options` are those of the guard's command line.
    """

    def __init__(self, loop: Loop, options: Sequence[str]) -> None:
        self._loop = loop
        self._options = tuple(options)
        self._leases: dict[str, float] = {}
        self._renewed_at = 0.0
        self._pipe = -1
        self._pid = 0
        self._pidfd = -1
        self._timer = -1

    def attach(self) -> None:
        """Join the loop."""
        self._loop.on_effect(GuardLease, self.carry_out)
        self._loop.on_effect(RenewGuard, self.carry_out)
        self._loop.on_effect(UnguardLease, self.carry_out)
        self._loop.on_effect(WakeAt, self.carry_out)

    def carry_out(self, effect: GuardLease | RenewGuard | UnguardLease | WakeAt) -> None:
        """Do what one of these effects wants."""
        match effect:
            case GuardLease():
                self._guard(effect)
            case RenewGuard(renewed_at=renewed_at):
                self._renewed_at = renewed_at
                self._tell({"renewed_at": renewed_at})
            case UnguardLease(container=container):
                self._leases.pop(container, None)
                self._tell({"unguard": container})
            case WakeAt(boot=boot):
                self._wake_at(boot)

    def close(self) -> None:
        """Let the guard go; it stays for as long as anything that it guards is alive."""
        if self._pipe >= 0:
            os.close(self._pipe)
            os.close(self._pidfd)
            self._pipe = -1

    @property
    def guard_pid(self) -> int:
        """The guard's process; 0 before the first lease."""
        return self._pid

    def _wake_at(self, boot: float) -> None:
        if self._timer < 0:
            self._timer = rawcalls.timerfd_boottime()
            self._loop.watch_fd(self._timer, self._woken)
        rawcalls.timerfd_set(self._timer, boot)

    def _woken(self) -> list[Event]:
        try:
            os.read(self._timer, 8)
        except BlockingIOError:
            return []
        return [Tick()]

    # --- the guard --------------------------------------------------------------------------------
    def _guard(self, effect: GuardLease) -> None:
        self._leases[effect.container] = effect.lease_s
        self._renewed_at = effect.renewed_at
        told = {"guard": effect.container, "lease_s": effect.lease_s}
        self._tell({**told, "renewed_at": effect.renewed_at})

    def _tell(self, told: dict[str, object]) -> None:
        """Tell the guard; one that cannot be told is replaced, and the new one knows it all."""
        try:
            if self._pipe < 0:
                raise BrokenPipeError
            os.write(self._pipe, _line(told))
        except OSError:
            self._replace()

    def _replace(self) -> None:
        if self._pipe >= 0:
            self._loop.log("warning", f"lease guard {self._pid} is gone or stopped: another one")
            os.close(self._pipe)
            self._pipe = -1
            # One that was only stopped would go on with leases that are not renewed any more.
            self._end_guard()
        if not self._leases:
            return
        try:
            self._start()
            for container, lease_s in self._leases.items():
                told = {"guard": container, "lease_s": lease_s, "renewed_at": self._renewed_at}
                os.write(self._pipe, _line(told))
        except OSError as error:
            # The executor goes on enforcing leases; it is tried again with the next renewal.
            self._loop.log("warning", f"no lease guard: {error.strerror}; this host is short of it")

    def _end_guard(self) -> None:
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(self._pidfd)

    def _start(self) -> None:
        theirs, self._pipe = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)
        try:
            self._pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "mesosctl.runtime.lease_guard", *self._options],
                dict(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
                setsigmask=(),
            )
            self._pidfd = os.pidfd_open(self._pid)
        finally:
            os.close(theirs)


def _line(told: dict[str, object]) -> bytes:
    """A message; shorter than what a pipe takes whole or not at all."""
    return json.dumps(told).encode("ascii") + b"\n"
