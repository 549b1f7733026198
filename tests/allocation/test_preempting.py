"""Which tasks are revoked: compared with every choice there is."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation import preempting
from mesosctl.allocation.preempting import Candidate, cost, fewest
from mesosctl.model.resources import EMPTY, Resources

R = Resources.parse


def candidate(number: int, text: str, **more: object) -> Candidate:
    """A task that is the younger, the lower its number."""
    return Candidate("f", f"t{number}", R(text), age=number, **more)  # type: ignore[arg-type]


def names(chosen: tuple[Candidate, ...] | None) -> list[str] | None:
    """Their tasks, in order."""
    return None if chosen is None else sorted(one.task for one in chosen)


def test_takes_the_fewest_not_the_smallest() -> None:
    """One task of 4 goes rather than two of 2 that are younger."""
    tasks = [candidate(1, "cpus:2"), candidate(2, "cpus:2"), candidate(3, "cpus:4")]
    assert names(fewest(EMPTY, R("cpus:4"), "a", tasks)) == ["t3"]
    assert names(fewest(R("cpus:2"), R("cpus:4"), "a", tasks)) == ["t1"]


def test_takes_the_youngest_among_equals() -> None:
    """Of four alike the two that were started last."""
    tasks = [candidate(number, "cpus:1;mem:64") for number in (7, 3, 9, 5)]
    assert names(fewest(EMPTY, R("cpus:2"), "a", tasks)) == ["t3", "t5"]


def test_a_lower_level_goes_before_a_younger_task() -> None:
    """What nobody minds most is spared."""
    tasks = [candidate(1, "cpus:1", level=(1, 5)), candidate(9, "cpus:1", level=(1, 0))]
    assert names(fewest(EMPTY, R("cpus:1"), "a", tasks)) == ["t9"]


def test_takes_none_when_it_fits_and_none_when_it_never_does() -> None:
    """An empty choice says that it fits; None that all of them together would not do."""
    tasks = [candidate(1, "cpus:2;mem:64"), candidate(2, "cpus:2;mem:64")]
    assert fewest(R("cpus:1"), R("cpus:1"), "a", tasks) == ()
    assert fewest(R("cpus:1"), R("cpus:6"), "a", tasks) is None
    assert fewest(R("cpus:1"), R("cpus:1;mem:129"), "a", tasks) is None
    assert fewest(EMPTY, R("cpus:4"), "a", tasks, most=1) is None


def test_needs_of_several_resources_are_met_together() -> None:
    """One holds the memory and another the CPUs: a task that holds neither much is spared."""
    tasks = [candidate(1, "cpus:1;mem:100"), candidate(2, "cpus:4"), candidate(3, "mem:800")]
    assert names(fewest(EMPTY, R("cpus:4;mem:800"), "a", tasks)) == ["t2", "t3"]


def test_ports_and_reservations_count_as_what_they_are() -> None:
    """The one that holds the port goes; what is reserved to others is of no use."""
    tasks = [
        candidate(1, "cpus:1;ports:[5-5]"),
        candidate(2, "cpus:1;ports:[7-7]"),
        candidate(3, "cpus(b):4"),
    ]
    assert names(fewest(R("cpus:4"), R("cpus:1;ports:[7-7]"), "a", tasks)) == ["t2"]
    assert fewest(EMPTY, R("cpus:4"), "a", tasks) is None
    assert names(fewest(EMPTY, R("cpus:4"), "b", tasks)) == ["t3"]


def test_a_guarantee_is_left_to_its_role() -> None:
    """A role gives no more than it holds beyond its guarantee, whoever is younger."""
    tasks = [candidate(n, "cpus:1", top="x" if n < 4 else "y") for n in range(1, 8)]
    spares = {"x": {"cpus": 1000}}
    assert names(fewest(EMPTY, R("cpus:3"), "a", tasks, spares)) == ["t1", "t4", "t5"]
    assert names(fewest(EMPTY, R("cpus:2"), "a", tasks[:3], spares)) is None
    assert spares == {"x": {"cpus": 1000}}


SIZES = ["cpus:1", "cpus:2", "mem:64", "cpus:1;mem:64", "cpus:1;mem:128", "cpus(b):1", "seats:{s}"]
NEEDS = ["cpus:3", "cpus:2;mem:128", "cpus:1;mem:64", "mem:192", "cpus:1;seats:{s}", "cpus:9"]
MANY = st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 2), st.booleans()), max_size=8)


def is_choice(free: Resources, need: Resources, chosen: tuple[Candidate, ...], left: int) -> bool:
    """Whether a choice would do, from the definition."""
    taken = sum(one.resources.scalar("cpus") for one in chosen if one.top == "x")
    plain = sum((one.resources for one in chosen), free).allocatable_to("a")
    reserved = sum(one.resources.reserved_to("b").scalar("cpus") for one in chosen if one.top)
    return plain.take(need) is not None and taken - reserved <= left


@given(
    MANY, st.sampled_from(NEEDS), st.sampled_from(["cpus:1", "mem:64", "disk:1"]), st.integers(0, 4)
)
def test_no_choice_is_better(
    tasks: list[tuple[str, int, bool]], needed: str, free_text: str, spare: int
) -> None:
    """Of all choices that would do none has fewer tasks, nor as many that are less worth."""
    found = [
        candidate(number, text, level=(0, level), top="x" if kept else "")
        for number, (text, level, kept) in enumerate(tasks)
    ]
    free, need, left = R(free_text), R(needed), spare * 1000
    chosen = fewest(free, need, "a", found, {"x": {"cpus": left}})
    choices = [
        some
        for count in range(len(found) + 1)
        for some in combinations(found, count)
        if is_choice(free, need, some, left)
    ]
    best = min(choices, key=lambda some: (len(some), cost(some)), default=None)
    assert (chosen is None) == (best is None)
    if chosen is not None and best is not None:
        assert is_choice(free, need, chosen, left)
        assert (len(chosen), cost(chosen)) == (len(best), cost(best))


def test_a_search_that_takes_too_long_still_takes_nobody_in_vain(monkeypatch: object) -> None:
    """Without enough steps for the best choice, no task of the choice can be left out."""
    monkeypatch.setattr(preempting, "SEARCH_STEPS_MAX", 2)  # type: ignore[attr-defined]
    tasks = [candidate(number, f"cpus:{1 + number % 7};mem:{number}") for number in range(1, 40)]
    chosen = fewest(EMPTY, R("cpus:31;mem:64"), "a", tasks)
    assert chosen is not None
    whole = sum((one.resources for one in chosen), EMPTY)
    assert whole.take(R("cpus:31;mem:64")) is not None
    for one in chosen:
        assert (whole - one.resources).take(R("cpus:31;mem:64")) is None
