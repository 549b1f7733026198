"""Several isolators together: their order, their refusals, and what a broken one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Additions, Isolator, JoinPlan, Limits, Usage, Violation
from mesosctl.isolation.base import PORTS

if TYPE_CHECKING:
    from tests.isolation.conftest import FakeKernel


class Noting(Isolator):
    """Notes into one list what is asked of it."""

    def __init__(self, name: str, calls: list[str], refuses: bool = False) -> None:
        self.name = name
        self._calls = calls
        self._refuses = refuses

    def prepare(self, container: str, limits: Limits) -> Additions:
        self._calls.append(f"prepare {self.name}")
        if self._refuses:
            raise LimitUnavailable("not today")
        join, home = (f"/join/{self.name}",), (f"/home/{self.name}",)
        return Additions({self.name: "1"}, join, home, {self.name: True})

    def update(self, container: str, limits: Limits) -> None:
        self._calls.append(f"update {self.name} {limits.pids}")

    def cleanup(self, container: str) -> None:
        self._calls.append(f"cleanup {self.name}")

    def recover(self) -> tuple[str, ...]:
        self._calls.append(f"recover {self.name}")
        return ("f/gone", "f/t")


class Broken(Isolator):
    """Raises everywhere what no isolator should."""

    name = "broken"
    handles: tuple[str, ...] = (PORTS,)

    def isolate(self, container: str, pid: int) -> None:
        raise ZeroDivisionError

    def watch(self) -> list[Violation]:
        raise OSError("gone")

    def usage(self, container: str, so_far: Usage) -> Usage:
        raise KeyError(container)

    def cleanup(self, container: str) -> None:
        raise ValueError


class Unready(Isolator):
    """Cannot prepare anything for a reason that it did not foresee."""

    name = "unready"

    def prepare(self, container: str, limits: Limits) -> None:
        raise FileNotFoundError("/dev/thing")


LIMITS = Limits(1000, None, 10)


def test_prepared_in_order_and_cleaned_up_in_reverse(v1: FakeKernel) -> None:
    """What a later one builds on an earlier one's deeds has to go first; so do joins and homes."""
    calls: list[str] = []
    plugins = {name: (lambda name=name: Noting(name, calls)) for name in ("b", "a")}
    isolation = v1.open("cgroups/pids,b,a", plugins=plugins)
    plan = isolation.prepare("f/t", LIMITS)
    pids = f"{v1.base}/pids/mesosctl/a1/f/t/tasks"
    assert plan == JoinPlan(
        files=(pids, "/join/b", "/join/a"),
        home=("/home/a", "/home/b", f"{v1.base}/pids/tasks"),
        by="thread",
        env={"b": "1", "a": "1"},
        helper={"b": True, "a": True},
    )
    isolation.update("f/t", Limits(1000, None, 20))
    assert v1.text("pids/mesosctl/a1/f/t/pids.max") == "20"
    assert isolation.cleanup("f/t")
    expected = ["prepare b", "prepare a", "update b 20", "update a 20", "cleanup a", "cleanup b"]
    assert calls == expected


def test_a_late_refusal_undoes_the_early_deeds(v1: FakeKernel) -> None:
    """All limits or no task: nothing may be held for one that never starts."""
    calls: list[str] = []
    plugins = {"b": lambda: Noting("b", calls), "a": lambda: Noting("a", calls, refuses=True)}
    isolation = v1.open("cgroups/pids,b,a", plugins=plugins)
    with pytest.raises(LimitUnavailable, match="not today"):
        isolation.prepare("f/t", LIMITS)
    assert calls == ["prepare b", "prepare a", "cleanup a", "cleanup b"]
    assert isolation.recover() == ()


def test_what_nobody_handles_refuses_the_task(v1: FakeKernel) -> None:
    """A task that asked for ports must not run without them; the hint says what is missing."""
    isolation = v1.open("cgroups")
    with pytest.raises(LimitUnavailable) as caught:
        isolation.prepare("f/t", Limits(1000, None, 10, ports=((31000, 31001),)))
    assert "network/ports" in caught.value.hint
    assert isolation.recover() == ()
    handling = v1.open("cgroups,broken", plugins={"broken": Broken})
    handling.prepare("f/t", Limits(1000, None, 10, ports=((31000, 31001),)))


def test_recovery_gives_back_what_belongs_to_no_container(v1: FakeKernel) -> None:
    """An executor was killed between the removal of a container and the rest of its cleanup."""
    calls: list[str] = []
    isolation = v1.open("cgroups/pids,b", plugins={"b": lambda: Noting("b", calls)})
    isolation.prepare("f/t", LIMITS)
    calls.clear()
    assert isolation.recover() == ("f/t",)
    assert calls == ["recover b", "cleanup b"]


def test_a_broken_plug_in_ends_nobody(v1: FakeKernel) -> None:
    """The process that calls it holds the tasks of a framework; each fault is told once."""
    isolation = v1.open("cgroups,broken", plugins={"broken": Broken})
    told: list[str] = []
    isolation.warn = told.append
    for name in ("f/t", "f/u"):
        isolation.prepare(name, LIMITS)
        isolation.started(name, 77)
        assert isolation.sample() == []
        assert isolation.usage(name).cpu_user_s == 0.0
        assert isolation.cleanup(name)
    assert [line.split(";")[0] for line in told] == [
        "the isolator broken failed in isolate: ZeroDivisionError()",
        "the isolator broken failed in watch: OSError('gone')",
        "the isolator broken failed in usage: KeyError('f/t')",
        "the isolator broken failed in cleanup: ValueError()",
    ]


def test_a_fault_in_prepare_refuses_the_task(v1: FakeKernel) -> None:
    """Nobody knows whether the limit holds then."""
    isolation = v1.open("cgroups,unready", plugins={"unready": Unready})
    with pytest.raises(LimitUnavailable, match="unready failed: FileNotFoundError: /dev/thing"):
        isolation.prepare("f/t", LIMITS)
    assert isolation.recover() == ()
