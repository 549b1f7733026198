"""The isolation of one agent: who holds the processes of a container, and who limits what.

Owns the interface that executors use. Rules: the holder comes first, also when a container is
removed, because that it can be is the proof that nothing is inside; isolators beside it (posix
ones, plug-ins) are called in their order when it is made and in reverse when it is removed. What
a task asks for and nobody handles refuses it. One thread calls, and no call waits.

A plug-in is other people's code in a process that holds tasks: what it raises refuses the task
that is being prepared, and is otherwise told once and passed over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from mesosctl.errors import LimitUnavailable, MesosctlError
from mesosctl.isolation.base import (
    Additions,
    Isolator,
    JoinPlan,
    Limits,
    Reaped,
    Usage,
    Violation,
    check_name,
)

# What to add to --isolation for a task that asks for something.
_ANSWERS = {
    "disk": "disk/du",
    "gpus": "gpu/devices",
    "ports": "network/ports",
    "cores": "cgroups/cpuset",
    "rlimits": "posix/rlimits",
    "private-tmp": "namespaces/tmp",
    "private-pids": "namespaces/pid",
}


class Holder(Protocol):
    """Knows which processes are in a container and can end all of them."""

    sample_interval_s: float | None

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Create the container inside its limits."""

    def spare(self, pid: int) -> None:
        """Never count or signal this launcher; replaces the one named before."""

    def started(self, container: str, pid: int) -> None:
        """`pid` leads the container's session."""

    def update(self, container: str, limits: Limits) -> None:
        """Write other limits."""

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

    def release(self, container: str, *, is_left: bool = False) -> bool:
        """As cleanup; what is empty may be kept for the next task instead."""

    def tidy(self) -> bool:
        """Remove what was kept and not wanted since the last call; whether anything is kept."""

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
    often `sample` wants to be called (None: never). `warn` is told what a plug-in did wrong.
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
        self.warn: Callable[[str], None] = _to_stderr
        self._told: dict[str, None] = {}
        self._handled = frozenset(word for isolator in isolators for word in isolator.handles)
        self._prepare = self._having("prepare")
        self._isolate = self._having("isolate")
        self._watch = self._having("watch")
        self._usage = self._having("usage")
        self._reaped = self._having("reaped")
        self._cleanup = self._having("cleanup")[::-1]
        # Figures that wait4 told, until the container is gone.
        self._reports: dict[str, Reaped] = {}
        wanted = [holder.sample_interval_s, *[i.sample_interval_s for i in isolators]]
        self.sample_interval_s = min((s for s in wanted if s is not None), default=None)

    def _having(self, method: str) -> tuple[Isolator, ...]:
        """The isolators that do something there: the others cost a task nothing."""
        empty = getattr(Isolator, method)
        return tuple(i for i in self._isolators if getattr(type(i), method) is not empty)

    def prepare(self, container: str, limits: Limits) -> JoinPlan:
        """Create the container inside its limits.

        Raises LimitUnavailable when any limit cannot be applied; nothing is left behind then.
        """
        check_name(container)
        for word in limits.requests():
            if word not in self._handled:
                raise _nobody(word)
        plan = self._holder.prepare(container, limits)
        try:
            for isolator in self._prepare:
                try:
                    added = isolator.prepare(container, limits)
                except MesosctlError:
                    raise
                except Exception as error:
                    raise LimitUnavailable(
                        f"the isolator {isolator.name} failed: {type(error).__name__}: {error}",
                        "mend it, or leave it out of --isolation",
                    ) from error
                if added is not None:
                    plan = _joined(plan, added)
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
        for isolator in self._isolate:
            self._guarded(isolator, "isolate", container, pid)

    def reaped(
        self,
        container: str,
        user_s: float,
        system_s: float,
        peak_bytes: int,
        io_read_bytes: int = 0,
        io_write_bytes: int = 0,
        switches: int = 0,
    ) -> None:
        """What wait4 told about the first process: all that posix knows of a very short task."""
        told = Reaped(user_s, system_s, peak_bytes, io_read_bytes, io_write_bytes, switches)
        self._reports[container] = told
        for isolator in self._reaped:
            self._guarded(isolator, "reaped", container, told)

    def update(self, container: str, limits: Limits) -> None:
        """Give a container that runs other limits. Raises LimitUnavailable.

        The isolators in their order; what an earlier one has changed stays changed then.
        """
        for word in limits.requests():
            if word not in self._handled:
                raise _nobody(word)
        self._holder.update(check_name(container), limits)
        for isolator in self._having("update"):
            isolator.update(container, limits)

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
        for isolator in self._watch:
            violations += self._guarded(isolator, "watch") or []
        return violations

    def usage(self, container: str) -> Usage:
        """What the container has used; zeros where nothing measured or it is gone."""
        usage = self._holder.usage(check_name(container))
        told = self._reports.get(container)
        if told is not None:
            usage = replace(
                usage,
                io_read_bytes=max(usage.io_read_bytes, told.io_read_bytes),
                io_write_bytes=max(usage.io_write_bytes, told.io_write_bytes),
                switches=told.switches,
            )
        for isolator in self._usage:
            usage = self._guarded(isolator, "usage", container, usage) or usage
        return usage

    def watch_fd(self, container: str) -> int | None:
        """A descriptor that becomes readable when the kernel kills for want of memory.

        It may also become readable when the container is removed; `usage` tells. None where the
        kernel has nothing of the kind. It stays ours: `cleanup` closes it.
        """
        return self._holder.watch_fd(check_name(container))

    def cleanup(self, container: str) -> bool:
        """Remove the container. False: still busy, call again; unknown is harmless and True."""
        return self._given_back(container, self._holder.cleanup(check_name(container)))

    def release(self, container: str, *, is_left: bool = False) -> bool:
        """As `cleanup`, but what holds the container may keep it, empty, for the next task.

        `is_left`: somebody has seen, after its first process had ended, that nothing is inside.
        """
        is_free = self._holder.release(check_name(container), is_left=is_left)
        return self._given_back(container, is_free)

    def tidy(self) -> bool:
        """Remove what `release` kept and nobody wanted since; whether anything is still kept."""
        return self._holder.tidy()

    def _given_back(self, container: str, is_free: bool) -> bool:
        if not is_free:
            return False
        self._reports.pop(container, None)
        done = True
        for isolator in self._cleanup:
            try:
                isolator.cleanup(container)
            except LimitUnavailable:
                done = False
            except Exception as error:
                self._complain(isolator, "cleanup", error)
        return done

    def recover(self) -> tuple[str, ...]:
        """The containers of this agent that exist, whoever made them.

        What isolators hold for containers that are gone is given back. They are asked first: a
        container is there before anything is held for it, so one that is not there now is gone.
        """
        held = [(i, self._guarded(i, "recover") or ()) for i in self._having("recover")]
        found = self._holder.recover()
        for isolator, containers in reversed(held):
            for container in containers:
                if container not in found:
                    self._guarded(isolator, "cleanup", container)
        return found

    def retire(self, framework: str) -> None:
        """Remove what is kept for a framework as a whole, if it has no container any more."""
        self._holder.retire(framework)

    def prune(self, spared: Sequence[str]) -> None:
        """As `retire`, for every framework but those in `spared`."""
        self._holder.prune(spared)

    def close_root(self, remove: bool) -> None:
        """Close descriptors; `remove`: also the agent's directories as far as they are empty."""
        for isolator in self._having("close"):
            self._guarded(isolator, "close", remove)
        self._holder.close(remove)

    def _guarded(self, isolator: Isolator, method: str, *words: object) -> Any:
        """Call a method; None, told once, when it raises anything."""
        try:
            return getattr(isolator, method)(*words)
        except Exception as error:
            self._complain(isolator, method, error)
            return None

    def _complain(self, isolator: Isolator, method: str, error: Exception) -> None:
        key = f"{isolator.name}.{method}"
        if key not in self._told:
            self._told[key] = None
            self.warn(f"the isolator {isolator.name} failed in {method}: {error!r}; told once")


def _joined(plan: JoinPlan, added: Additions) -> JoinPlan:
    """What is joined last is left first."""
    return JoinPlan(
        (*plan.files, *added.join) if added.join else plan.files,
        (*added.home, *plan.home) if added.home else plan.home,
        plan.by if not added.join or plan.by != "none" else "thread",
        {**(plan.env or {}), **added.env} if added.env else plan.env,
        {**(plan.helper or {}), **added.helper} if added.helper else plan.helper,
    )


def _nobody(word: str) -> LimitUnavailable:
    what = word.replace("private-", "a private ").replace("pids", "pid namespace")
    return LimitUnavailable(
        f"no isolator of this agent handles {what.replace(' tmp', ' /tmp')}",
        f"start the agent with {_ANSWERS.get(word, word)} in its --isolation",
    )


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
