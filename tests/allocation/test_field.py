"""Agents in order, and how few of them an allocation looks at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesosctl.allocation.agents import MOVED_SHARE, Agent, OpenAgents
from mesosctl.allocation.base import Client
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.field import Field
from mesosctl.allocation.filling import Round
from mesosctl.model.resources import EMPTY, Resources

TASK = Resources.scalars(cpus=1, mem=64)
NAMES = [f"S{number}" for number in range(3 * MOVED_SHARE)]
steps = st.lists(st.tuples(st.booleans(), st.sampled_from(NAMES)), max_size=2 * MOVED_SHARE)


@given(st.lists(steps, min_size=1, max_size=6), st.booleans())
def test_agents_stay_in_the_order_of_their_names(changes: list, full: bool) -> None:
    """Whatever opened and closed, and however much at once: the result depends on no history."""
    known, agents = set(NAMES if full else []), OpenAgents()
    for name in sorted(known, reverse=True):
        agents.put(Agent(name, TASK, offered=True))
    for some in changes:
        for is_open, name in some:
            if is_open:
                known.add(name)
                agents.put(Agent(name, TASK, offered=True))
            else:
                known.discard(name)
                agents.drop(name)
        first = sorted(known)[::7]
        assert list(agents.after(first)) == first + sorted(known - set(first))
        assert list(agents.after(first[:1])) == first[:1] + sorted(known - set(first[:1]))
        assert agents.roomy() == sorted(known)
        assert list(agents.after([])) == sorted(known) == list(agents.after(sorted(known)))
    assert sorted(agents) == sorted(known) and len(agents) == len(known)


def test_one_task_more_does_not_look_at_every_agent() -> None:
    """A cluster of thousands would pay for each of its agents whenever any task ends."""
    allocator = DrfAllocator()
    for name in NAMES:
        allocator.set_agent(name, Resources.scalars(cpus=8, mem=1024))
    for name in ("one", "two", "three"):
        allocator.set_framework(Client(name, "role", task=TASK))
    # Whom they are shown to wants none of them: from here on only changes are looked at.
    assert allocator.allocate(lambda *_: True) == []
    allocator.set_framework(Client("one", "role", task=TASK, count=1))
    allocator.settle_total()
    allocator.tree.refresh()
    turn = Round(allocator, lambda *_: False)
    [grant] = turn.run()
    assert (grant.framework, grant.agent) == ("one", "S0")
    assert turn.looked_at == 1


def test_agents_without_room_are_closed_when_somebody_comes_to_them() -> None:
    """They are passed over from then on, and come back when something is given back."""
    agents = OpenAgents()
    for name in NAMES:
        agents.put(Agent(name, TASK if name == "S1" else EMPTY, offered=True))
    field = Field(agents, NAMES, {"cpus": 1000})
    assert field.meet(0) is None
    assert field.meet(1) is field.spots[1]
    assert field.find(0) == 1
    assert list(field.spots) == [0, 1]
    field.spots[1].free = EMPTY
    field.close_if_full(1)
    assert (field.find(0), list(field.next)) == (2, [0, 1])
    field.spots[0].free = TASK
    field.reopen()
    assert (field.find(0), field.find(1), list(field.next)) == (0, 2, [1])
    assert not field.is_closed


def test_agents_without_cpus_are_skipped() -> None:
    """A cluster fills from its first agents on: the full ones must not be asked each time."""
    allocator = DrfAllocator()
    for name in NAMES:
        allocator.set_agent(name, Resources.scalars(cpus=1, mem=1024))
    for name in ("one", "two", "three"):
        allocator.set_framework(Client(name, "role", task=TASK))
    # From here on nothing has changed but what is charged and who wants something.
    assert allocator.allocate(lambda *_: True) == []
    full = sorted(NAMES)[:-2]
    for name in full:
        allocator.charge("two", name, Resources.scalars(cpus=1, mem=64))
    allocator.set_framework(Client("one", "role", task=TASK, count=2))
    allocator.settle_total()
    allocator.tree.refresh()
    turn = Round(allocator, lambda *_: False)
    assert [grant.agent for grant in turn.run()] == sorted(NAMES)[-2:]
    # The first of them, from which it skips, and the two.
    assert turn.looked_at == 3
    allocator.check()


@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES), max_size=3), st.data())
def test_places_without_room_are_skipped_to_the_next_with_some(
    full: set[str], changed: set[str], data: st.DataObject
) -> None:
    """Nobody with room may be passed over, wherever one stands in the order."""
    agents, rest = OpenAgents(), Resources.scalars(mem=64)
    for name in NAMES:
        agents.put(Agent(name, rest if name in full else TASK, offered=True))
    names = agents.after(sorted(changed))
    field = Field(agents, names, TASK.quantities())
    at = data.draw(st.integers(0, len(NAMES) - 1))
    after = [place for place in range(at + 1, len(NAMES)) if names[place] not in full]
    skipped = field.skip(at)
    assert at < skipped <= (after[0] if after else len(NAMES))
    if at >= len(changed):
        assert skipped == (after[0] if after else len(NAMES))
