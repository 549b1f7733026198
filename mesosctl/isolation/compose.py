"""The isolation of one agent: who holds the processes of a container, and who limits what.

Owns the interface that executors use. Rules: the holder comes first when a container is made and
last when it is removed; isolators beside it (posix ones, plug-ins) are called in their order when
it is made and in reverse when it is removed. One thread calls, and no call waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesosctl.errors import MesosctlError
from mesosctl.isolation.base import Isolator, JoinPlan, Limits, Usage, Violation, check_name


class Holder(Protocol):
    """Knows which processes are in a container and can end all of them."""

    sample_interval_s: float | None

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Create the container inside its limits."""

    def spare(self, pid: int) -> None:
        """Never count or signal this launcher; replaces the one named before."""

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""

    def reaped(self, container: str, user_s: float, system_s: float, peak_bytes: int) -> None:
        """What wait4 told about the first process."""

    def pids(self, container: str) -> tuple[int, ...]:
        """The processes inside."""

    def is_empty(self, container: str) -> bool:
        """Whether nothing is inside."""

    def signal(self, container: str, signum: int) -> int:
        """Signal every process inside."""

    def kill(self, container: str) -> None:
        """SIGKILL everything inside."""

    def sample(self) -> list[Violation]:
        """Measure what nobody else remembers."""

    def usage(self, container: str) -> Usage:
        """What the container has used."""

    def watch_fd(self, container: str) -> int | None:
        """A descriptor readable after an OOM kill."""

    def cleanup(self, container: str) -> bool:
        """Remove the container unless something is inside."""

    def recover(self) -> tuple[str, ...]:
        """The containers that exist."""

    def retire(self, framework: str) -> None:
        """Remove what a framework without containers has left."""

    def prune(self, spared: Sequence[str]) -> None:
        """Remove what all other frameworks without containers have left."""

    def close(self, remove: bool) -> None:
        """Give back what is held open."""


class Isolation:
    """Limits and measures containers, one per task.

    `names` are the isolators in use, `not_enforced` says in plain sentences what they let a task
    do, `fell_back` why an automatic choice did not take a better one, `sample_interval_s` how
    often `sample` wants to be called (None: never).
    """

    def __init__(
        self,
        holder: Holder,
        isolators: Sequence[Isolator],
        *,
        names: Sequence[str],
        not_enforced: Sequence[str],
        fell_back: Sequence[str] = (),
    ) -> None:
        self._holder = holder
        self._isolators = tuple(isolators)
        self.names = tuple(names)
        self.not_enforced = tuple(not_enforced)
        self.fell_back = tuple(fell_back)
        wanted = [holder.sample_interval_s, *[i.sample_interval_s for i in isolators]]
        self.sample_interval_s = min((s for s in wanted if s is not None), default=None)

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Create the container inside its limits.

        Raises LimitUnavailable when any limit cannot be applied; nothing is left behind then.
        """
        check_name(container)
        plan = self._holder.prepare(container, limits)
        try:
            for isolator in self._isolators:
                isolator.prepare(container, limits)
        except MesosctlError:
            self.cleanup(container)
            raise
        return plan

    def spare(self, pid: int) -> None:
        """Never count or signal `pid`, the launcher; replaces the one named before it."""
        self._holder.spare(pid)

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""
        self._holder.started(container, pid)
        for isolator in self._isolators:
            isolator.started(container, pid)

    def reaped(self, container: str, user_s: float, system_s: float, peak_bytes: int) -> None:
        """What wait4 told about the first process: all that posix knows of a very short task."""
        self._holder.reaped(container, user_s, system_s, peak_bytes)
        for isolator in self._isolators:
            isolator.reaped(container, user_s, system_s, peak_bytes)

    def pids(self, container: str) -> tuple[int, ...]:
        """The processes inside, ascending; empty for an unknown container."""
        return self._holder.pids(check_name(container))

    def is_empty(self, container: str) -> bool:
        """Whether no process is inside, nor a launcher on its way through."""
        return self._holder.is_empty(check_name(container))

    def signal(self, container: str, signum: int) -> int:
        """Send a signal to every process inside; returns how many got it."""
        return self._holder.signal(check_name(container), signum)

    def kill(self, container: str) -> None:
        """SIGKILL everything inside, whatever it does. Does not wait: ask `is_empty` later."""
        self._holder.kill(check_name(container))

    def sample(self) -> list[Violation]:
        """Measure, remember peaks; returns the containers above a limit that no kernel keeps."""
        violations = self._holder.sample()
        for isolator in self._isolators:
            violations += isolator.sample()
        return violations

    def usage(self, container: str) -> Usage:
        """What the container has used; zeros where nothing measured or it is gone."""
        usage = self._holder.usage(check_name(container))
        for isolator in self._isolators:
            usage = isolator.usage(container, usage)
        return usage

    def watch_fd(self, container: str) -> int | None:
        """A descriptor that becomes readable when the kernel kills for want of memory.

        It may also become readable when the container is removed; `usage` tells. None where the
        kernel has nothing of the kind. It stays ours: `cleanup` closes it.
        """
        return self._holder.watch_fd(check_name(container))

    def cleanup(self, container: str) -> bool:
        """Remove the container. False: still busy, call again; unknown is harmless and True."""
        if not self._holder.cleanup(check_name(container)):
            return False
        for isolator in reversed(self._isolators):
            isolator.cleanup(container)
        return True

    def recover(self) -> tuple[str, ...]:
        """The containers of this agent that exist, whoever made them."""
        return self._holder.recover()

    def retire(self, framework: str) -> None:
        """Remove what is kept for a framework as a whole, if it has no container any more."""
        self._holder.retire(framework)

    def prune(self, spared: Sequence[str]) -> None:
        """As `retire`, for every framework but those in `spared`."""
        self._holder.prune(spared)

    def close_root(self, remove: bool) -> None:
        """Close descriptors; `remove`: also the agent's directories as far as they are empty."""
        self._holder.close(remove)
