"""Choosing isolators: what is named is used or refused; only `auto` falls back, with a reason."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mesosctl.errors import LimitUnavailable, UsageError
from mesosctl.isolation import (
    Isolation,
    Isolator,
    Limits,
    Reaped,
    Usage,
    Violation,
    open_isolation,
)
from mesosctl.isolation.choose import BESIDE, parse_spec

if TYPE_CHECKING:
    from tests.isolation.conftest import FakeKernel


class Recorder(Isolator):
    """A plug-in that records its calls and refuses more than 9 CPUs."""

    name = "site/gpu"
    not_enforced = ("gpu memory is not limited",)
    sample_interval_s = 3.0

    def __init__(self) -> None:
        self.calls: list[str] = []

    def prepare(self, container: str, limits: Limits) -> None:
        self.calls.append(f"prepare {container}")
        if limits.cpus_milli > 9000:
            raise LimitUnavailable("too many")

    def isolate(self, container: str, pid: int) -> None:
        self.calls.append(f"isolate {container} {pid}")

    def reaped(self, container: str, told: Reaped) -> None:
        self.calls.append(f"reaped {container}")

    def watch(self) -> list[Violation]:
        return [Violation("f/t", "gpu", 2, 1)]

    def usage(self, container: str, so_far: Usage) -> Usage:
        return Usage(7.0, so_far.cpu_system_s, 0, so_far.mem_limit_bytes, 0)

    def cleanup(self, container: str) -> None:
        self.calls.append(f"cleanup {container}")


def held_by(isolation: Isolation) -> tuple[str, ...]:
    """Who holds containers and limits CPUs, memory and processes."""
    return tuple(name for name in isolation.names if name not in BESIDE)


def without_cgroups(spec: str, **more: object) -> Isolation:
    """Open on a host that mounts no cgroups."""
    return open_isolation(spec, agent_id="a1", mountinfo="", own_cgroup="", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("", "auto"),
        ("cgroup/cpu", "cgroups/cpu"),
        ("auto,posix/cpu", "auto"),
        ("posix/cpu,posix/cpu", "once"),
        ("posix,posix/mem", "once"),
        ("cgroups/cpu,posix/cpu", "one of them"),
    ],
)
def test_specs_that_cannot_be_meant(spec: str, hint: str) -> None:
    """A wrong word in an option must not start an agent with other limits."""
    with pytest.raises(UsageError) as caught:
        parse_spec(spec, {})
    assert hint in caught.value.hint


def test_aliases_and_order() -> None:
    """Short names stand for all isolators of their kind, in the order given."""
    assert parse_spec("posix/mem, cgroups/cpu", {}) == ("posix/mem", "cgroups/cpu")
    assert parse_spec("cgroups", {}) == ("cgroups/cpu", "cgroups/mem", "cgroups/pids")
    assert parse_spec("auto", {}) == ("auto",)
    assert parse_spec("auto,site/gpu", {"site/gpu": 1}) == ("auto", "site/gpu")


def test_auto_falls_back_and_says_why() -> None:
    """Who starts an agent must see that tasks are not held by the kernel, and the reason."""
    isolation = without_cgroups("auto")
    assert held_by(isolation) == ("posix/cpu", "posix/mem")
    assert isolation.fell_back[0] == "no cgroup file system is mounted"
    text = " ".join(isolation.not_enforced)
    assert "cpu limits are not enforced" in text and "number of processes" in text
    assert isolation.sample_interval_s == 0.1
    beside = [name for name in isolation.names if name in BESIDE]
    assert beside[:3] == ["disk/du", "network/ports", "posix/rlimits"]
    assert "the controller cpuset is not mounted" in isolation.fell_back


def test_named_cgroups_are_refused_where_there_are_none() -> None:
    """No silent fallback: the operator asked for a limit."""
    with pytest.raises(LimitUnavailable, match="cgroups/mem"):
        without_cgroups("posix/cpu,cgroups/mem")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_root_that_cannot_be_written(v1: FakeKernel, code: int) -> None:
    """An ordinary user meets this: auto falls back with the path, a named isolator is refused."""
    v1.refused[f"{v1.base}/memory/mesosctl"] = code
    isolation = v1.open("auto")
    assert held_by(isolation) == ("posix/cpu", "posix/mem")
    assert any(f"{v1.base}/memory/mesosctl" in why for why in isolation.fell_back)
    with pytest.raises(LimitUnavailable, match="memory/mesosctl"):
        v1.open("cgroups/mem")


def test_auto_mixes_where_one_controller_is_missing(fake: FakeKernel) -> None:
    """A host without the cpu controller still gets its memory limits from the kernel."""
    fake.mount("memory", "cgroup", "memory", {"memory.limit_in_bytes": "0\n"})
    fake.own = "1:memory:/\n"
    isolation = fake.open("auto")
    assert held_by(isolation) == ("cgroups/mem", "posix/cpu")
    assert sum("controller" in why for why in isolation.fell_back) >= 2
    assert any("fork bomb" in sentence for sentence in isolation.not_enforced)


def test_a_plug_in_takes_part(v1: FakeKernel) -> None:
    """It is prepared after the holder, adds to the usage, and is cleaned up with the container."""
    plugin = Recorder()
    isolation = v1.open("cgroups,site/gpu", plugins={"site/gpu": lambda: plugin})
    isolation.prepare("f/t", Limits(1000, None, 10))
    isolation.started("f/t", 77)
    isolation.reaped("f/t", 1.0, 2.0, 3)
    assert isolation.usage("f/t").cpu_user_s == 7.0
    assert isolation.sample() == [Violation("f/t", "gpu", 2, 1)]
    assert isolation.sample_interval_s == 3.0
    assert "gpu memory is not limited" in isolation.not_enforced
    assert isolation.cleanup("f/t")
    assert plugin.calls == ["prepare f/t", "isolate f/t 77", "reaped f/t", "cleanup f/t"]


def test_a_plug_in_that_refuses_undoes_the_container(v1: FakeKernel) -> None:
    """All limits or no task."""
    isolation = v1.open("cgroups,site/gpu", plugins={"site/gpu": Recorder})
    with pytest.raises(LimitUnavailable, match="too many"):
        isolation.prepare("f/t", Limits(10_000, None, 10))
    assert isolation.recover() == ()
