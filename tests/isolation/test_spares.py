"""Which empty containers may be used once more, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.isolation.base import Limits, Usage
from mesosctl.isolation.spares import KEPT_MAX, Spares

LIMITS = Limits(cpus_milli=1000, mem_bytes=64 << 20, pids=64)
# Half of what a quota of one CPU allows in a period is 50 ms.
USED = Usage(0.001, 0.0, 1 << 20, 64 << 20, 0)


def end(spares: Spares, container: str, used: Usage = USED) -> bool:
    """The task in it has ended and it is empty; whether it is kept."""
    spares.told(container, used)
    kept = spares.may_keep(container)
    if kept:
        spares.keep(container)
    return kept


def test_the_next_of_the_same_limits_gets_it() -> None:
    """Only of the same framework and the same limits, and only once."""
    spares = Spares()
    assert spares.take("f/1", LIMITS) is None
    assert end(spares, "f/1")
    assert spares.take("g/1", LIMITS) is None
    assert spares.take("f/2", replace(LIMITS, mem_bytes=32 << 20)) is None
    assert spares.take("f/3", LIMITS) == "f/1"
    assert spares.take("f/4", LIMITS) is None


@pytest.mark.parametrize(
    "used",
    [
        replace(USED, oom_kills=1),
        replace(USED, mem_limit_bytes=65 << 20),
        replace(USED, mem_limit_bytes=None),
        replace(USED, cpu_user_s=0.051),
    ],
)
def test_what_would_mark_the_next_task_is_not_kept(used: Usage) -> None:
    """OOM kills cannot be counted off, limits may have been changed, and quotas be used up."""
    spares = Spares()
    spares.take("f/1", LIMITS)
    assert not end(spares, "f/1", used)


def test_what_was_killed_or_never_measured_is_not_kept() -> None:
    """A kill changes limits; without figures nobody knows what it has used."""
    spares = Spares()
    spares.take("f/1", LIMITS)
    assert not spares.may_keep("f/1")
    spares.told("f/1", USED)
    spares.spoil("f/1")
    assert not spares.may_keep("f/1")


def test_all_its_tasks_together_stay_below_its_quota() -> None:
    """Else the launcher would be stopped inside, and could not serve anybody."""
    spares = Spares()
    spares.take("f/0", LIMITS)
    used = replace(USED, cpu_user_s=0.02)
    assert end(spares, "f/0", used)
    assert spares.take("f/1", LIMITS) == "f/0"
    assert end(spares, "f/1", used)
    assert spares.take("f/2", LIMITS) == "f/1"
    assert not end(spares, "f/2", used)


def test_what_nobody_wants_is_given_up() -> None:
    """At the second look; at the end of everything at once. And there are never too many."""
    spares = Spares()
    for number in range(KEPT_MAX + 1):
        spares.take(f"f/{number}", LIMITS)
    assert sum(end(spares, f"f/{number}") for number in range(KEPT_MAX + 1)) == KEPT_MAX
    assert spares.stale() == []
    taken = spares.take("f/new", LIMITS)
    assert end(spares, "f/new")
    assert taken not in spares.stale()
    assert spares.stale() == ["f/new"]
    assert not spares
    spares.take("f/a", LIMITS)
    end(spares, "f/a")
    assert spares.stale(everything=True) == ["f/a"]
    assert spares.take("f/b", LIMITS) is None
