"""Which processes belong to which container, without the kernel's help: reading /proc.

Owns the table of known processes. A process belongs to a container when it leads or is in the
session that was started for it, when its parent belongs, or when its environment carries the
container's token; once seen to belong, it belongs until it ends.

Rules: looking must be cheap, because it happens ten times a second. The last number of
/proc/loadavg is the id given most recently: while it stands still there are no new processes, and
only known ones are read. Otherwise one listing of /proc shows the new ones. A process that leaves
its session, empties its environment and loses its parent between two looks is not found.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import field

from mesosctl.isolation.base import AGENT_ENV, CONTAINER_ENV
from mesosctl.isolation.cgroupfs import read
from mesosctl.model.records import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# A process seen between fork and exec still shows its launcher's environment, so it is judged
# again at the next look before it counts as a stranger.
_LOOKS = 2
_UNSEEN = (0, 0)


@dataclass(slots=True)
class Stat:
    """What is used of /proc/<pid>/stat (proc(5)): ticks since boot, ticks used, pages."""

    alive: bool
    parent: int
    group: int
    session: int
    user_ticks: int
    system_ticks: int
    start_ticks: int
    rss_pages: int


@dataclass(slots=True)
class Group:
    """One container: its live processes by id, and the CPU ticks of those that have ended.

    It was known when the host was up for `known_ticks`: none of its processes is older.
    """

    members: dict[int, Stat] = field(default_factory=dict)
    sessions: dict[int, None] = field(default_factory=dict)
    ended_user_ticks: int = 0
    ended_system_ticks: int = 0
    known_ticks: int = 0


class ProcessTable:
    """The processes of the containers of one agent, as far as /proc shows them."""

    def __init__(self, agent_id: str, *, proc: str = "/proc") -> None:
        self._proc = proc
        self._agent = f"{AGENT_ENV}={agent_id}".encode()
        self.groups: dict[str, Group] = {}
        self._owner: dict[int, str] = {}
        self._session: dict[int, str] = {}
        # Strangers: how often they were judged, and when they began, in ticks since boot.
        self._looks: dict[int, tuple[int, int]] = {}
        self._last_pid = b""
        self._looked_at_s = -math.inf
        self.spared: frozenset[int] = frozenset((os.getpid(), 0, 1))

    def add(self, container: str) -> None:
        """Know a container from now on; harmless when known."""
        if container not in self.groups:
            # Cut to whole ticks, as the kernel does with what it tells of processes.
            ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)
            self.groups[container] = Group(known_ticks=ticks)

    def forget(self, container: str) -> None:
        """Know it no longer; harmless when unknown."""
        group = self.groups.pop(container, None)
        if group is not None:
            for pid in group.members:
                self._owner.pop(pid, None)
            for session in group.sessions:
                self._session.pop(session, None)

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the session of a known container."""
        group = self.groups.get(container)
        if group is None or pid in group.sessions:
            return
        group.sessions[pid] = None
        self._session[pid] = container
        stat = self.stat(pid)
        if stat is not None and stat.alive:
            self._join(container, pid, stat)
        # What it forked before we were told may have been taken for strangers. Those that are
        # older than it are not: judging all anew, for each task, was most of what it cost.
        ticks = group.known_ticks if stat is None else stat.start_ticks
        self._looks = {p: seen for p, seen in self._looks.items() if seen[1] < ticks}
        self._last_pid = b""
        self._looked_at_s = -math.inf

    def spare(self, pid: int) -> None:
        """Never take `pid` for a member: it launches them and may carry their token.

        Only the last one named: the id of an earlier launcher may be a task's process by now.
        """
        self.spared = frozenset((os.getpid(), 0, 1, pid))
        container = self._owner.pop(pid, None)
        if container is not None:
            del self.groups[container].members[pid]

    def look(self, *, thorough: bool = False, older_than_s: float = 0.0) -> None:
        """Bring every group up to date. `thorough` judges strangers anew.

        Does nothing when the last look is not older than `older_than_s`.
        """
        now_s = time.monotonic()
        if not self.groups or now_s - self._looked_at_s < older_than_s:
            return
        self._looked_at_s = now_s
        last_pid = self._newest()
        if thorough or last_pid != self._last_pid or not last_pid:
            self._last_pid = last_pid
            if thorough:
                self._looks.clear()
            self._find_new()
        for container, group in self.groups.items():
            for pid in list(group.members):
                self._update(container, group, pid)

    def stat(self, pid: int) -> Stat | None:
        """What /proc says about a process now; None when there is none."""
        try:
            data = read(f"{self._proc}/{pid}/stat")
            words = data[data.rindex(b")") + 2 :].split(None, 22)
            # A zombie whose other threads still run is not dead.
            dead = words[0] in (b"Z", b"X") and int(words[17]) <= 1
            return Stat(
                alive=not dead,
                parent=int(words[1]),
                group=int(words[2]),
                session=int(words[3]),
                user_ticks=int(words[11]),
                system_ticks=int(words[12]),
                start_ticks=int(words[19]),
                rss_pages=int(words[21]),
            )
        except (OSError, ValueError, IndexError):
            return None

    def proportional_bytes(self, pid: int) -> int | None:
        """Memory and swap with shared pages divided among their users; None: not readable."""
        try:
            data = read(f"{self._proc}/{pid}/smaps_rollup")
        except OSError:
            return None
        total_kib = 0
        for line in data.splitlines():
            if line.startswith((b"Pss:", b"SwapPss:")):
                total_kib += int(line.split()[1])
        return total_kib * 1024

    def launcher_peak_bytes(self) -> int:
        """The most memory that the present launcher ever had resident; 0 when it is gone."""
        for pid in self.spared - {os.getpid(), 0, 1}:
            try:
                data = read(f"{self._proc}/{pid}/status")
            except OSError:
                return 0
            _, found, rest = data.partition(b"\nVmHWM:")
            return int(rest.split(None, 1)[0]) * 1024 if found else 0
        return 0

    def carried(self) -> tuple[str, ...]:
        """The containers of this agent that any process carries the token of, sorted."""
        found: dict[str, None] = {}
        for pid in self._listed():
            container = self._token(pid)
            if container is not None:
                found[container] = None
        return tuple(sorted(found))

    def _newest(self) -> bytes:
        try:
            return read(f"{self._proc}/loadavg").rsplit(None, 1)[-1]
        except (OSError, IndexError):
            return b""

    def _listed(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())

    def _find_new(self) -> None:
        listed = self._listed()
        looks: dict[int, tuple[int, int]] = {}
        strangers: dict[int, Stat] = {}
        for pid in listed:
            if pid in self._owner or pid in self.spared:
                continue
            seen = self._looks.get(pid, _UNSEEN)
            if seen[0] >= _LOOKS:
                looks[pid] = seen
                continue
            stat = self.stat(pid)
            if stat is not None:
                looks[pid] = (seen[0] + 1, stat.start_ticks)
                if stat.alive:
                    strangers[pid] = stat
        # Ids that have ended are dropped here, so that a reused id is judged anew.
        self._looks = looks
        found = True
        while found and strangers:
            found = False
            for pid, stat in list(strangers.items()):
                # The environment is the dearest question, so it is asked once, after the others.
                container = self._owner.get(stat.parent) or self._session.get(stat.session)
                if container is not None:
                    self._join(container, pid, stat)
                    del strangers[pid]
                    found = True
            if found:
                continue
            for pid, stat in list(strangers.items()):
                container = self._token(pid)
                del strangers[pid]
                if container is not None and container in self.groups:
                    self._join(container, pid, stat)
                    found = True
                    break

    def _token(self, pid: int) -> str | None:
        try:
            entries = read(f"{self._proc}/{pid}/environ").split(b"\0")
        except OSError:
            return None
        if self._agent not in entries:
            return None
        prefix = CONTAINER_ENV.encode() + b"="
        for entry in entries:
            if entry.startswith(prefix):
                return entry[len(prefix) :].decode(errors="replace")
        return None

    def _join(self, container: str, pid: int, stat: Stat) -> None:
        if pid in self.spared:
            return
        self.groups[container].members[pid] = stat
        self._owner[pid] = container
        self._looks.pop(pid, None)

    def _update(self, container: str, group: Group, pid: int) -> None:
        stat = self.stat(pid)
        known = group.members[pid]
        if stat is not None and stat.alive and stat.start_ticks == known.start_ticks:
            group.members[pid] = stat
            return
        if stat is not None and stat.start_ticks == known.start_ticks:
            known = stat
        group.ended_user_ticks += known.user_ticks
        group.ended_system_ticks += known.system_ticks
        del group.members[pid]
        del self._owner[pid]
