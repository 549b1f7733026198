"""Weighted dominant-resource fairness with the arithmetic written out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation.base import Client, Grant, RoleTerms
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.tree import RoleTree
from mesosctl.errors import InvariantBroken
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.testing.allocators import AllocatorWorld

GB = 1024
SLOT = Resources.scalars(cpus=1, mem=GB)


def nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def cluster(*texts: str) -> DrfAllocator:
    """Agents a0, a1, … with these resources."""
    allocator = DrfAllocator()
    for index, text in enumerate(texts):
        allocator.set_agent(f"a{index}", Resources.parse(text))
    return allocator


def enter(allocator: DrfAllocator, *clients: Client, task: Resources | None = None) -> None:
    """Enter frameworks with endless queues of equal tasks."""
    for client in clients:
        allocator.set_framework(replace(client, task=task))


def demand(allocator: DrfAllocator, name: str, task: Resources | None, count: int | None) -> None:
    """Let a framework state what it wants."""
    client = allocator.client(name)
    assert client is not None
    allocator.set_framework(replace(client, task=task, count=count))


def show(allocator: DrfAllocator, name: str, *, active: bool) -> None:
    """Let a framework suppress or revive."""
    client = allocator.client(name)
    assert client is not None
    allocator.set_framework(replace(client, active=active))


def by_framework(grants: list[Grant]) -> dict[str, Resources]:
    """All that each framework was granted (ports of several agents must differ)."""
    found: dict[str, Resources] = {}
    for grant in grants:
        found[grant.framework] = found.get(grant.framework, EMPTY) + grant.resources
    return found


def settle(allocator: DrfAllocator, grants: list[Grant]) -> None:
    for grant in grants:
        allocator.charge(grant.framework, grant.agent, grant.resources)


# --- the paper's example --------------------------------------------------------------------------


def test_the_papers_example_in_one_pass() -> None:
    """Ghodsi et al. 2011: 9 CPUs and 18 GB, tasks of <1 CPU, 4 GB> and <3 CPUs, 1 GB>."""
    allocator = cluster("cpus:9;mem:18G")
    enter(allocator, Client("A", "*"), task=Resources.parse("cpus:1;mem:4G"))
    enter(allocator, Client("B", "*"), task=Resources.parse("cpus:3;mem:1G"))
    # A's task is 4/18 = 2/9 of the memory, B's 3/9 = 1/3 of the CPUs. Lowest first, A on a tie:
    # A 2/9, B 3/9, A 4/9, B 6/9, A 6/9; then 0 CPUs and 18 - 12 - 2 = 4 GB are left. Both are at
    # 2/3; B was charged 2 times and A 3 times, so the rest is put before B: 4/18 is at most 1/3.
    assert by_framework(allocator.allocate(nobody)) == {
        "A": Resources.parse("cpus:3;mem:12G"),
        "B": Resources.parse("cpus:6;mem:6G"),
    }


def test_the_papers_example_one_task_at_a_time() -> None:
    """Without stated sizes the lowest is offered everything and takes one task of it."""
    allocator = cluster("cpus:9;mem:18G")
    tasks = {"A": Resources.parse("cpus:1;mem:4G"), "B": Resources.parse("cpus:3;mem:1G")}
    enter(allocator, Client("A", "*"), Client("B", "*"))
    order = ""

    def refuses(framework: str, _agent: str, resources: Resources) -> bool:
        return not resources.contains(tasks[framework])

    while grants := allocator.allocate(refuses):
        assert len(grants) == 1
        order += grants[0].framework
        allocator.charge(grants[0].framework, "a0", tasks[grants[0].framework])
    assert order == "ABABA"
    # 9 - 3 - 6 = 0 CPUs, 18 - 12 - 2 = 4 GB.
    assert allocator.free("a0") == Resources.parse("mem:4G")


# --- weights, roles, order ------------------------------------------------------------------------


def test_weights_two_to_one() -> None:
    """A role of weight 2 gets twice as much of 9 slots: 6/2 = 3/1."""
    allocator = cluster("cpus:9;mem:9G")
    allocator.set_role("gold", RoleTerms(2000))
    enter(allocator, Client("f", "gold"), Client("g", "tin"), task=SLOT)
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(6), "g": SLOT.times(3)}


def test_weights_below_one_and_changed_later() -> None:
    """Weights are thousandths: 0.5 against 1.5 is 1:3; a role follows what was said last."""
    allocator = cluster("cpus:8;mem:8G")
    enter(allocator, Client("f", "x"), Client("g", "y"), task=SLOT)
    allocator.set_role("x", RoleTerms(500))
    allocator.set_role("y", RoleTerms(1500))
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(2), "g": SLOT.times(6)}
    allocator.set_role("x", RoleTerms(1500))
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(4), "g": SLOT.times(4)}


def test_roles_share_first_then_their_frameworks() -> None:
    """A role with three frameworks gets no more than a role with one."""
    allocator = cluster("cpus:12;mem:12G")
    enter(allocator, *(Client(name, "many") for name in "abc"), Client("d", "one"), task=SLOT)
    found = by_framework(allocator.allocate(nobody))
    assert {name: bag.cpus_milli for name, bag in found.items()} == {
        "a": 2000,
        "b": 2000,
        "c": 2000,
        "d": 6000,
    }


def test_an_inactive_framework_is_skipped_but_counts_for_its_role() -> None:
    """What a suppressed framework of the role uses is used by the role."""
    allocator = cluster("cpus:8;mem:8G")
    enter(allocator, Client("f", "x"), Client("sleeper", "x"), Client("g", "y"), task=SLOT)
    allocator.charge("sleeper", "a0", SLOT.times(2))
    show(allocator, "sleeper", active=False)
    # x starts at 2/8, y at 0: y takes 2, then the 4 slots left alternate.
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(2), "g": SLOT.times(4)}


def test_a_framework_that_changes_its_role_takes_its_charges_along() -> None:
    """Both roles' shares must follow."""
    allocator = cluster("cpus:4;mem:4G")
    enter(allocator, Client("f", "x"), Client("g", "y"), task=SLOT)
    allocator.charge("f", "a0", SLOT.times(2))
    allocator.set_framework(Client("f", "z"))
    allocator.check()
    assert by_framework(allocator.allocate(nobody)) == {"g": SLOT.times(2)}


def test_ties_go_round() -> None:
    """Equal shares: who was charged less often comes first, then the name."""
    allocator = cluster("cpus:1;mem:1G")
    enter(allocator, Client("f", "*"), Client("g", "*"))
    order = ""
    for _ in range(4):
        grant = allocator.allocate(nobody)[0]
        order += grant.framework
        allocator.charge(grant.framework, "a0", grant.resources)
        allocator.release(grant.framework, "a0", grant.resources)
    assert order == "fgfg"


def test_shares_are_of_all_agents_not_of_the_candidates() -> None:
    """A disconnected agent's charges and total still count."""
    allocator = cluster("cpus:4;mem:4G", "cpus:4;mem:4G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)
    allocator.charge("f", "a0", SLOT.times(4))
    assert by_framework(allocator.allocate(nobody)) == {"g": SLOT.times(4)}


# --- the size of grants ---------------------------------------------------------------------------


def test_without_sizes_agents_go_whole_in_turn() -> None:
    """Coarse as in Mesos: two equal agents, two frameworks, one each, ports and all."""
    node = "cpus:4;mem:4G;ports:[1-9]"
    allocator = cluster(node, node)
    enter(allocator, Client("f", "*"), Client("g", "*"))
    assert allocator.allocate(nobody) == [
        Grant("f", "*", "a0", Resources.parse(node)),
        Grant("g", "*", "a1", Resources.parse(node)),
    ]


def test_a_stated_count_bounds_what_is_taken_from_others() -> None:
    """Three tasks wait, so three pieces; the other, endless one gets the rest."""
    allocator = cluster("cpus:10;mem:10G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)
    demand(allocator, "f", SLOT, 3)
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(3), "g": SLOT.times(7)}
    demand(allocator, "g", SLOT, 2)
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(3), "g": SLOT.times(2)}
    demand(allocator, "g", SLOT, 0)
    # Alone again: coarse.
    assert by_framework(allocator.allocate(nobody)) == {"f": SLOT.times(10)}


def test_an_agent_too_small_for_one_goes_to_the_other() -> None:
    """Who cannot use an agent does not compete for it."""
    allocator = cluster("cpus:2;mem:2G", "cpus:8;mem:8G")
    enter(allocator, Client("big", "*"), task=SLOT.times(4))
    enter(allocator, Client("small", "*"), task=SLOT)
    grants = allocator.allocate(nobody)
    # small has a0, 2/10, at once; on a1 big goes first (0 -> 4/10), small takes 2 -> 4/10, and
    # takes turns with big, of whose tasks none fits any more: small takes the last 2 as well.
    assert {(g.framework, g.agent): g.resources for g in grants} == {
        ("small", "a0"): SLOT.times(2),
        ("big", "a1"): SLOT.times(4),
        ("small", "a1"): SLOT.times(4),
    }


def test_what_fits_nobodys_task_is_still_offered() -> None:
    """The task behind the next one may be smaller; but nobody gets ahead by more than one task."""
    allocator = cluster("cpus:3;mem:64G", "cpus:5;mem:5G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT.times(4))
    grants = allocator.allocate(nobody)
    # f's task fits on a1 only (and g's does not any more): 4/8 of the CPUs. The rest of a1 is less
    # than a task and goes to g. The rest of a0 is 64 of 69 GB, more than the 4/8 of one task.
    assert grants == [
        Grant("f", "*", "a1", SLOT.times(4)),
        Grant("g", "*", "a1", SLOT),
    ]
    show(allocator, "f", active=False)
    # Alone, g gets a1 whole. a0 is of no use for the task that it stated.
    assert allocator.allocate(nobody) == [Grant("g", "*", "a1", SLOT.times(5))]


def test_one_alone_gets_as_many_agents_as_its_tasks_need() -> None:
    """12 tasks of one CPU, agents of 10: two of three, whole; all of them if it does not say."""
    allocator = cluster("cpus:10;mem:16G", "cpus:10;mem:16G", "cpus:10;mem:16G")
    whole = Resources.parse("cpus:10;mem:16G")
    enter(allocator, Client("f", "*"), task=SLOT)
    demand(allocator, "f", SLOT, 12)
    assert allocator.allocate(nobody) == [Grant("f", "*", f"a{n}", whole) for n in (0, 1)]
    # What it declines is not all there is.
    declined = Grant("f", "*", "a1", whole), Grant("f", "*", "a2", whole)
    demand(allocator, "f", SLOT, 12)
    assert allocator.allocate(lambda _f, agent, _r: agent == "a0") == list(declined)
    enter(allocator, Client("f", "*"))
    assert len(allocator.allocate(nobody)) == 3


def test_a_rest_does_not_go_to_one_because_its_rival_declined_it() -> None:
    """What is offered counts: held for a moment, 64 GB would give the rival every free CPU."""
    allocator = cluster("cpus:2;mem:64G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)

    def declined_by_f(framework: str, _agent: str, resources: Resources) -> bool:
        return framework == "f" and not resources.scalar("cpus")

    grants = allocator.allocate(nobody)
    assert by_framework(grants) == {"f": SLOT, "g": SLOT}
    settle(allocator, grants)
    # 62 of 64 GB would put g 31/32 ahead, and one task is 1/2.
    assert allocator.allocate(declined_by_f) == []


def test_ports_go_to_one_who_was_granted_something() -> None:
    """Ports cost no share and are of no use without a CPU."""
    allocator = cluster("cpus:2;mem:2G;ports:[1-9];ports(ads):[10-19]")
    enter(allocator, Client("f", "*"), Client("g", "ads"), task=SLOT)
    found = by_framework(allocator.allocate(nobody))
    # Equal shares and counts; the role * sorts before ads.
    assert found == {"f": SLOT + Resources.parse("ports:[1-9]"), "g": SLOT}


def test_reserved_resources_go_to_their_role_and_first() -> None:
    """What others cannot use is used before what they can."""
    allocator = cluster("cpus:2;mem:2G;cpus(ads):2;mem(ads):2G")
    enter(allocator, Client("f", "*"), Client("g", "ads"), task=SLOT)
    found = by_framework(allocator.allocate(nobody))
    assert found == {"f": SLOT.times(2), "g": Resources.parse("cpus(ads):2;mem(ads):2G")}


def test_a_tiny_task_says_nothing_about_offers() -> None:
    """A piece below the smallest offer would never be granted."""
    allocator = cluster("cpus:2;mem:2G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=Resources.parse("cpus:0.001;mem:1"))
    assert by_framework(allocator.allocate(nobody)) == {"f": SLOT.times(2)}


def test_crumbs_are_not_offered() -> None:
    """Less than 0.01 CPUs and less than 32 MiB stay where they are."""
    allocator = cluster("cpus:0.009;mem:31;disk:999", "cpus:0.01", "mem:32")
    enter(allocator, Client("f", "*"))
    assert [g.agent for g in allocator.allocate(nobody)] == [
        "a1",
        "a2",
    ]


# --- refusals -------------------------------------------------------------------------------------


def test_a_piece_may_be_refused_where_the_whole_was_not() -> None:
    """f declined 2 slots; 4 are free now, but its half of them is what it declined."""
    allocator = cluster("cpus:4;mem:4G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)

    def refuses(framework: str, _agent: str, resources: Resources) -> bool:
        return framework == "f" and SLOT.times(2).contains(resources)

    assert by_framework(allocator.allocate(refuses)) == {"g": SLOT.times(4)}


def test_a_grant_taken_back_returns_its_count() -> None:
    """What was refused on one agent is still wanted on another."""
    allocator = cluster("cpus:2;mem:2G", "cpus:2;mem:2G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)
    demand(allocator, "f", SLOT, 1)

    def refuses(framework: str, agent: str, resources: Resources) -> bool:
        return (framework, agent) == ("f", "a0") and SLOT.contains(resources)

    found = {(g.framework, g.agent): g.resources for g in allocator.allocate(refuses)}
    assert ("f", "a0") not in found
    assert found["g", "a0"] == SLOT.times(2)
    assert sum(bag.cpus_milli for bag in found.values()) == 4000


# --- the one-task bound ---------------------------------------------------------------------------


def run_waves(slots: list[int], waves: list[list[int]]) -> None:
    """f grabs the cluster alone, g arrives, tasks end in waves, everything granted is launched.

    A wave lists which of the running tasks end in the same pass (as positions, modulo).
    """
    allocator = cluster(*(f"cpus:{n};mem:{n}G" for n in slots))
    enter(allocator, Client("f", "*"), task=SLOT)
    running: list[tuple[str, str, int]] = []

    def launch(wave: int) -> None:
        grants = allocator.allocate(nobody)
        settle(allocator, grants)
        for grant in grants:
            count = grant.resources.count_fitting(SLOT)
            assert grant.resources == SLOT.times(count)
            running.extend([(grant.framework, grant.agent, wave)] * count)

    launch(0)
    assert len(running) == sum(slots)
    enter(allocator, Client("g", "*"), task=SLOT)
    for number, picks in enumerate(waves, start=1):
        for pick in picks:
            if running:
                framework, agent, _wave = running.pop(pick % len(running))
                allocator.release(framework, agent, SLOT)
        launch(number)
        assert len(running) == sum(slots)
        if not any(wave == 0 for _f, _a, wave in running):
            counts = {name: sum(f == name for f, _a, _w in running) for name in ("f", "g")}
            assert abs(counts["f"] - counts["g"]) <= 1, counts


def test_a_simultaneous_end_keeps_the_one_task_bound() -> None:
    """Coarse offers would give all 7 slots to g at once: 0 against 7 instead of 3 against 4."""
    run_waves([4, 3], [[0] * 7, [0] * 7, [1, 2, 3]])
    allocator = cluster("cpus:7;mem:7G")
    enter(allocator, Client("f", "*"), Client("g", "*"), task=SLOT)
    sizes = [grant.resources.cpus_milli for grant in allocator.allocate(nobody)]
    assert sorted(sizes) == [3000, 4000]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=25), max_size=12),
)
def test_the_one_task_bound_holds_for_any_waves(slots: list[int], waves: list[list[int]]) -> None:
    """Equal tasks, endless queues, any agents, any order of ends."""
    run_waves(slots, waves)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=4),
    st.integers(4, 40),
)
def test_dominant_shares_differ_by_one_task_at_the_most(
    shapes: list[tuple[int, int]], size: int
) -> None:
    """While every task still fits, progressive filling keeps shares within one largest task."""
    allocator = cluster(f"cpus:{size};mem:{size}G")
    tasks = {}
    for index, (cpus, mem) in enumerate(shapes):
        tasks[f"f{index}"] = Resources.scalars(cpus=cpus, mem=mem * GB)
        enter(allocator, Client(f"f{index}", "*"), task=tasks[f"f{index}"])
    grants = by_framework(allocator.allocate(nobody))
    counts = {name: grants.get(name, EMPTY).count_fitting(task) for name, task in tasks.items()}
    steps = {name: Fraction(max(s), size) for name, s in zip(tasks, shapes, strict=True)}
    shares = {name: counts[name] * steps[name] for name in tasks}
    free = Resources.scalars(cpus=size, mem=size * GB)
    for name, task in tasks.items():
        free = free.without(task.times(counts[name]))
    # Whoever could still have run a task is not behind anyone by more than that one's task.
    for name, task in tasks.items():
        if free.contains(task):
            assert all(shares[other] - shares[name] <= steps[other] for other in tasks)


# --- order and books ------------------------------------------------------------------------------


@given(st.permutations(["f", "g", "h"]), st.permutations(["a0", "a1", "a2"]))
def test_the_order_of_entering_does_not_matter(names: list[str], agents: list[str]) -> None:
    """A master that restarts learns of frameworks and agents in another order."""
    clients = {
        "f": Client("f", "x"),
        "g": Client("g", "y"),
        "h": Client("h", "y"),
    }

    def grants(names: list[str], agents: list[str]) -> list[Grant]:
        allocator = DrfAllocator()
        allocator.set_role("x", RoleTerms(2000))
        for index, agent in enumerate(agents):
            allocator.set_agent(agent, Resources.parse("cpus:5;mem:7G"))
            if index == 0:
                enter(allocator, *(clients[name] for name in names), task=SLOT)
        allocator.charge("g", "a1", SLOT)
        return allocator.allocate(nobody)

    assert grants(names, agents) == grants(["f", "g", "h"], ["a0", "a1", "a2"])


@given(st.integers(0, 10**6))
def test_books_balance_after_any_history(seed: int) -> None:
    """Every running sum is recomputed from the charges, after every step."""
    allocator = DrfAllocator()
    world = AllocatorWorld(allocator, seed)
    for _ in range(40):
        world.step()
        allocator.check()
    world.check_books()


def test_a_caller_that_contradicts_itself_is_stopped() -> None:
    """Going on with wrong books would hand out what is in use."""
    allocator = cluster("cpus:4;mem:4G")
    enter(allocator, Client("f", "*"))
    allocator.charge("f", "a0", SLOT)
    with pytest.raises(InvariantBroken):
        allocator.release("f", "a0", SLOT.times(2))
    with pytest.raises(InvariantBroken):
        allocator.release("g", "a0", SLOT)
    with pytest.raises(InvariantBroken):
        allocator.charge("f", "nowhere", SLOT)
    with pytest.raises(InvariantBroken):
        allocator.set_role("*", RoleTerms(weight_milli=0))


def test_check_finds_a_wrong_sum() -> None:
    """A check that never fails would say nothing."""
    allocator = cluster("cpus:4;mem:4G")
    enter(allocator, Client("f", "*"))
    allocator.charge("f", "a0", SLOT)
    allocator.check()
    allocator._agents["a0"].free = SLOT
    with pytest.raises(InvariantBroken, match="a0"):
        allocator.check()


def test_what_is_left_over_is_not_sorted_for_once_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a large cluster most is left over by frameworks that had all they asked for.

    30 frameworks want one task more of 300 agents: their order is asked for some times for each of
    them, not once for each pair (9,000 times).
    """
    allocator = DrfAllocator()
    for number in range(300):
        allocator.set_agent(f"a{number}", Resources.scalars(cpus=8, mem=4096))
    task = Resources.scalars(cpus=1, mem=64)
    for number in range(30):
        allocator.set_framework(Client(f"f{number}", f"r{number}", task=task, count=1))
    for grant in allocator.allocate(lambda *_: False):
        allocator.charge(grant.framework, grant.agent, grant.resources)
    asked = []
    place = RoleTree.place
    monkeypatch.setattr(
        RoleTree, "place", lambda self, leaf: asked.append(leaf) or place(self, leaf)
    )
    for number in range(30):
        allocator.set_framework(Client(f"f{number}", f"r{number}", task=task, count=1))
    grants = allocator.allocate(lambda *_: False)
    assert sorted(grant.framework for grant in grants) == sorted(f"f{n}" for n in range(30))
    assert len(asked) <= 300
