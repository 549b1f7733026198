"""The lease guard: ends tasks whose lease has run out although their executor cannot.

    python -m mesosctl.runtime.lease_guard --isolation SPEC --cgroup-root NAME --agent-id ID

An executor ends such tasks itself. It starts a guard with its first task that has a lease, for the
case that it is killed or stopped at the same time as the agent. The guard is told on its stdin, a
line of JSON each: {"guard": CONTAINER, "lease_s": S, "renewed_at": T}, {"renewed_at": T} and
{"unguard": CONTAINER}; times are those of CLOCK_BOOTTIME. Rules: it knows nothing else and answers
nothing; when its stdin ends it stays for as long as anything it guards is alive.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mesosctl.errors import MesosctlError
from mesosctl.isolation import Isolation
from mesosctl.limits import KILL_AGAIN_S
from mesosctl.plugins.isolators import open_isolation

# Without its executor, it looks this often whether there is anything left to guard: the agent,
# where there is one, ends the tasks of a dead executor at once.
LOOK_S = 2.0
# Between two looks at the clock: poll() is timed by one that stands still in a suspended host.
NAP_MAX_S = 1.0
READ_BYTES = 64 * 1024


class Guard:
    """What is guarded: by container, how long its lease is. Call `tick` again and again."""

    def __init__(self, open_it: Callable[[], Isolation]) -> None:
        self.leases: dict[str, float] = {}
        self.renewed_at = 0.0
        self._open = open_it
        self._isolation: Isolation | None = None
        self._received = b""

    def receive(self, data: bytes) -> None:
        """Take in what came on stdin; lines may come in pieces."""
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        self.renewed_at = max(self.renewed_at, float(told.get("renewed_at", 0.0)))
        if "guard" in told:
            self.leases[str(told["guard"])] = float(told["lease_s"])
        if "unguard" in told:
            self.leases.pop(str(told["unguard"]), None)

    def due(self) -> float | None:
        """When the next lease runs out; None when nothing is guarded."""
        shortest = min(self.leases.values(), default=None)
        return None if shortest is None else self.renewed_at + shortest

    def tick(self, boot: float, is_alone: bool) -> None:
        """End what has no lease at this time. `is_alone`: also forget what is not there."""
        overdue = [
            name for name, lease_s in self.leases.items() if self.renewed_at + lease_s <= boot
        ]
        if not overdue and not is_alone:
            return
        if self._isolation is None:
            self._isolation = self._open()
        isolation = self._isolation
        # Its executor made them, so they have to be found before they can be ended.
        isolation.recover()
        for container in overdue:
            if not isolation.is_empty(container):
                isolation.kill(container)
        if is_alone:
            self.leases = {
                name: lease_s
                for name, lease_s in self.leases.items()
                if not isolation.is_empty(name)
            }


def run(guard: Guard, source: int) -> None:
    """Guard until there is nothing left to guard. Raises ValueError for what is no message."""
    os.set_blocking(source, False)
    poll = select.poll()
    poll.register(source, select.POLLIN)
    is_alone = False
    while not is_alone or guard.leases:
        # First the time, then the news: if we were stopped, what was renewed meanwhile counts.
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        is_alone = is_alone or _drain(guard, source)
        guard.tick(boot, is_alone)
        nap_s = _nap_s(guard, boot, is_alone)
        if is_alone:
            time.sleep(nap_s)
        else:
            poll.poll(nap_s * 1000)


def _drain(guard: Guard, source: int) -> bool:
    """Take in everything that was told; whether that was the end of it."""
    while True:
        try:
            data = os.read(source, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            return True
        guard.receive(data)


def _nap_s(guard: Guard, boot: float, is_alone: bool) -> float:
    due = guard.due()
    if due is None:
        return 0.0 if is_alone else 3600.0
    if due <= boot:
        return KILL_AGAIN_S
    return min(LOOK_S if is_alone else NAP_MAX_S, due - boot)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the guard; the exit code."""
    parser = argparse.ArgumentParser(prog="mesosctl-lease-guard", description=__doc__)
    parser.add_argument("--isolation", required=True)
    parser.add_argument("--cgroup-root", required=True)
    parser.add_argument("--agent-id", required=True)
    options = parser.parse_args(arguments)

    def open_it() -> Isolation:
        root, agent_id = options.cgroup_root, options.agent_id
        return open_isolation(options.isolation, root=root, agent_id=agent_id)

    try:
        run(Guard(open_it), 0)
    except (MesosctlError, OSError, ValueError) as error:
        print(f"lease guard {os.getpid()}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
