"""Random clusters: every single piece is held against an order and a free space kept apart."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesosctl.allocation import drf
from mesosctl.allocation.base import Client, Grant, RoleTerms, is_offerable
from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.filling import Round
from mesosctl.allocation.priority import PriorityAllocator
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.testing.allocators import AllocatorWorld

NODES = (
    "cpus:8;mem:8G;ports:[31000-31009]",
    "cpus:3;mem:16G",
    "cpus:2;mem:2G;cpus(eng):4;mem(eng):4G",
    "cpus:1;mem:1G;cpus(eng/web):2;mem(ops):2G",
)
TASKS = (
    None,
    Resources.parse("cpus:1;mem:1G"),
    Resources.parse("cpus:2;mem:512"),
    Resources.parse("cpus:3;mem:4G"),
)
EVERYTHING = Resources.parse(
    "cpus:99;mem:99G;cpus(eng):99;mem(eng):99G;cpus(eng/web):99;mem(ops):99G;ports:[1-65535]"
)
ROLES = ("*", "eng", "eng/web", "eng/db", "ops", "ops/night/late")
Key = tuple[tuple[int, Fraction, int, str], ...]


@dataclass
class Scene:
    """A cluster: who wants what, what is where, who refuses what, who holds what already."""

    agents: dict[str, Resources]
    clients: dict[str, Client]
    terms: dict[str, RoleTerms]
    refused: dict[tuple[str, str], Resources]
    held: list[tuple[str, str, Resources]]
    by_priority: bool

    def refuses(self, framework: str, agent: str, resources: Resources) -> bool:
        """Filters by containment; a constraint is a filter of everything."""
        return self.refused.get((framework, agent), EMPTY).contains(resources)

    def build(self, agents: list[str], frameworks: list[str]) -> DrfAllocator:
        """The allocator of this scene, told of everything in this order."""
        made = PriorityAllocator() if self.by_priority else DrfAllocator()
        for framework in frameworks[::2]:
            made.set_framework(self.clients[framework])
        for agent in agents:
            made.set_agent(agent, self.agents[agent])
        for role in sorted(self.terms):
            made.set_role(role, self.terms[role])
        for framework in frameworks[1::2]:
            made.set_framework(self.clients[framework])
        for framework, agent, resources in self.held:
            made.charge(framework, agent, resources)
        return made


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Up to five agents and five frameworks."""
    agents = {
        f"a{n}": Resources.parse(text)
        for n, text in enumerate(draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=5)))
    }
    clients = {
        f"f{n}": Client(f"f{n}", role, active, task, count, priority)
        for n, (role, active, task, count, priority) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(ROLES),
                        st.sampled_from([True] * 5 + [False]),
                        st.sampled_from(TASKS),
                        st.sampled_from([None, None, None, 4]),
                        st.integers(0, 1),
                    ),
                    min_size=2,
                    max_size=6,
                )
            )
        )
    }
    terms = st.builds(RoleTerms, st.sampled_from([500, 1000, 2000]), st.integers(0, 1))
    pairs = st.tuples(st.sampled_from(sorted(clients)), st.sampled_from(sorted(agents)))
    small = st.sampled_from(["cpus:1;mem:1G", "cpus:2;mem:64", "cpus:99;mem:99G;cpus(eng):99"])
    held = []
    left = dict(agents)
    for framework, agent in draw(st.lists(pairs, max_size=4)):
        part = Resources.parse("cpus:1;mem:512")
        if left[agent].contains(part):
            left[agent] = left[agent] - part
            held.append((framework, agent, part))
    return Scene(
        agents,
        clients,
        draw(st.dictionaries(st.sampled_from(ROLES), terms, min_size=1, max_size=4)),
        draw(st.dictionaries(pairs, small.map(Resources.parse), max_size=6)),
        held,
        draw(st.booleans()),
    )


class Referee:
    """What should be true of every piece, from sums of its own and by the definition."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.free = dict(scene.agents)
        self.grants: dict[tuple[str, str], Resources] = {}
        self.pieces: dict[str, int] = {}
        self.charges = [(framework, resources) for framework, _agent, resources in scene.held]
        self.excluded: dict[tuple[str, str], None] = {}
        for _framework, agent, resources in scene.held:
            self.free[agent] = self.free[agent] - resources

    def key(self, framework: str) -> Key:
        """Its place in the order: level by level priority, share over weight, charges, name."""
        total = Resources.sum_scalars(self.scene.agents.values()).quantities()
        client = self.scene.clients[framework]
        parts = client.role.split("/")
        found = []
        prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for prefix in prefixes:
            terms = self.scene.terms.get(prefix, RoleTerms())
            below = [
                resources
                for name, resources in self.charges
                if (self.scene.clients[name].role + "/").startswith(prefix + "/")
            ]
            name = prefix.rpartition("/")[2]
            found.append(self._entry(terms.priority, terms.weight_milli, below, total, name))
        own = [r for name, r in self.charges if self.scene.clients[name].role == client.role]
        found.append(self._entry(0, 1000, own, total, "."))
        mine = [resources for name, resources in self.charges if name == framework]
        found.append(self._entry(client.priority, 1000, mine, total, framework))
        return tuple(found)

    def _entry(
        self, priority: int, weight: int, held: list[Resources], total: object, name: str
    ) -> tuple[int, Fraction, int, str]:
        assert isinstance(total, dict)
        sums = Resources.sum_scalars(held).quantities()
        share = max((Fraction(sums[n], total[n]) for n in sums if n in total), default=Fraction(0))
        rank = -priority if self.scene.by_priority else 0
        return rank, share * 1000 / weight, len(held), name

    def could_use(self, framework: str, agent: str) -> bool:
        """Whether a willing framework has a task for what is free there, or any use."""
        client = self.scene.clients[framework]
        pair = (framework, agent)
        if not client.active or pair in self.excluded:
            return False
        usable = self.free[agent].allocatable_to(client.role)
        have = self.grants.get(pair, EMPTY)
        task = client.task
        if task is None:
            good = is_offerable(usable)
        else:
            left = client.count is None or self.pieces.get(framework, 0) < client.count
            piece = usable.take(task) if left else None
            good = piece is not None and not self.scene.refuses(*pair, have + piece)
        return good and not self.scene.refuses(*pair, have + usable)

    def granted(self, framework: str, agent: str, piece: Resources, tasks: int) -> None:
        """Hold a piece against the rules, then count it."""
        mine = self.key(framework)
        for other in self.scene.clients:
            if other != framework and self.could_use(other, agent):
                assert self.key(other) > mine, f"{other} was passed over on {agent}"
        assert self.free[agent].allocatable_to(self.scene.clients[framework].role).contains(piece)
        pair = (framework, agent)
        self.free[agent] = self.free[agent] - piece
        self.grants[pair] = self.grants.get(pair, EMPTY) + piece
        self.charges.append((framework, piece))
        self.pieces[framework] = self.pieces.get(framework, 0) + tasks


def check_grants(scene: Scene, grants: list[Grant]) -> None:
    """Never too much, never to whom it may not go."""
    left = dict(scene.agents)
    for _framework, agent, resources in scene.held:
        left[agent] = left[agent] - resources
    for framework, role, agent, resources in grants:
        client = scene.clients[framework]
        assert client.active and client.count != 0 and client.role == role
        assert not scene.refuses(framework, agent, resources)
        assert left[agent].allocatable_to(role).contains(resources)
        left[agent] = left[agent] - resources


@settings(max_examples=100)
@given(scenes())
def test_every_piece_goes_to_the_first_who_can_use_it(scene: Scene) -> None:
    """Grant by grant, with constraints: nobody who was before, willing and fit was passed over."""
    # A filter may refuse a part where it did not refuse the whole; here refusals are constraints.
    scene.refused = dict.fromkeys(scene.refused, EVERYTHING)
    referee = Referee(scene)

    class Watched(Round):
        def _grant(self, contender, at, piece, tasks):  # type: ignore[no-untyped-def]
            referee.granted(contender.name, self._spots[at].agent, piece, tasks)
            super()._grant(contender, at, piece, tasks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drf, "Round", Watched)
        grants = scene.build(sorted(scene.agents), sorted(scene.clients)).allocate(scene.refuses)
    check_grants(scene, grants)
    # What no task fits into may still have been given away; nothing else may be left.
    for grant in grants:
        pair = (grant.framework, grant.agent)
        more = grant.resources - referee.grants.get(pair, EMPTY)
        referee.free[grant.agent] = referee.free[grant.agent] - more
    for framework in scene.clients:
        for agent in scene.agents:
            assert not referee.could_use(framework, agent), f"{framework} could use {agent}"


@given(scenes())
def test_filters_are_honoured_to_the_letter(scene: Scene) -> None:
    """A refused part is not granted, although the whole was not refused; and it ends."""
    allocator = scene.build(sorted(scene.agents), sorted(scene.clients))
    grants = allocator.allocate(scene.refuses)
    check_grants(scene, grants)
    allocator.check()


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_telling_does_not_matter(scene: Scene, order: random.Random) -> None:
    """A master that restarts learns of agents and frameworks in another order."""
    agents, frameworks = sorted(scene.agents), sorted(scene.clients)
    expected = scene.build(agents, frameworks).allocate(scene.refuses)
    order.shuffle(agents)
    order.shuffle(frameworks)
    assert scene.build(agents, frameworks).allocate(scene.refuses) == expected


@given(st.integers(0, 10**6), st.booleans())
def test_nothing_usable_stays_free_after_any_history(seed: int, by_priority: bool) -> None:
    """What was looked at before and did not change is not looked at again: nothing is missed."""
    world = AllocatorWorld(PriorityAllocator() if by_priority else DrfAllocator(), seed)
    for _ in range(40):
        world.step()
        world.settle()
        assert world.usable() == []
