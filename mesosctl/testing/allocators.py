"""The contract of allocators as a suite: what every policy must keep, whatever it prefers.

Derive a class in a test file and say how to make one:

    class TestMine(AllocatorContract):
        def make(self) -> Allocator:
            return MyAllocator()

pytest collects the methods; without pytest, `run_contract(MyAllocator)` calls all of them. What is
tested holds for any policy: shares, priorities and the size of grants are not looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mesosctl.allocation.base import Allocator, Client, Grant, is_offerable
from mesosctl.model.resources import EMPTY, Resources

_NODE = "cpus:8;mem:16384;ports:[31000-31099]"
_WALK_STEPS = 150


class AllocatorWorld:
    """An allocator beside a naive model of the same cluster, driven at random from a seed."""

    def __init__(self, allocator: Allocator, seed: int) -> None:
        self.allocator = allocator
        self.random = random.Random(seed)  # noqa: S311 - a test wants the same walk again
        self.totals: dict[str, Resources] = {}
        self.held: dict[tuple[str, str], list[Resources]] = {}
        self.roles: dict[str, str] = {}
        self.active: dict[str, bool] = {}
        self.refused: dict[tuple[str, str], Resources] = {}

    def free(self, agent: str) -> Resources:
        """What the model says is free on an agent."""
        left = self.totals[agent]
        for (_framework, place), bags in self.held.items():
            for bag in bags if place == agent else ():
                left = left - bag
        return left

    def refuses(self, framework: str, agent: str, resources: Resources) -> bool:
        """The containment rule of filters."""
        return self.refused.get((framework, agent), EMPTY).contains(resources)

    def step(self) -> None:
        """One random change, or a pass of allocation whose grants are checked and charged."""
        actions = [self._framework, self._agent, self._release, self._refuse, self._demand]
        self.random.choice([*actions, self._allocate, self._allocate, self._allocate])()

    def _framework(self) -> None:
        name = f"f{self.random.randrange(4)}"
        if name in self.roles and self.random.random() < 0.3:
            self.active[name] = self.random.random() < 0.5
            self.allocator.set_active(name, self.active[name])
            return
        if name not in self.roles:
            self.active[name] = True
        role = self.random.choice(["*", "ads", "batch"])
        self.roles[name] = role
        weight, priority = {"*": (1000, 0), "ads": (2000, 5), "batch": (500, 0)}[role]
        self.allocator.add_framework(Client(name, role, weight, priority))

    def _agent(self) -> None:
        name = f"a{self.random.randrange(3)}"
        if name in self.totals:
            if self.random.random() < 0.3:
                del self.totals[name]
                self.held = {pair: bags for pair, bags in self.held.items() if pair[1] != name}
                self.allocator.remove_agent(name)
            return
        text = self.random.choice([_NODE, "cpus:2;mem:4096", _NODE + ";cpus(ads):2;mem(ads):512"])
        self.totals[name] = Resources.parse(text)
        self.allocator.add_agent(name, self.totals[name])

    def _release(self) -> None:
        pairs = [pair for pair, bags in self.held.items() if bags]
        if pairs:
            framework, agent = self.random.choice(pairs)
            bags = self.held[framework, agent]
            bag = bags.pop(self.random.randrange(len(bags)))
            self.allocator.release(framework, agent, bag)

    def _refuse(self) -> None:
        framework, agent = f"f{self.random.randrange(4)}", f"a{self.random.randrange(3)}"
        cpus = self.random.randrange(10)
        self.refused[framework, agent] = Resources.scalars(cpus=cpus, mem=cpus * 2048)

    def _demand(self) -> None:
        sizes = [None, Resources.scalars(cpus=1, mem=512), Resources.scalars(cpus=3, mem=64)]
        count = self.random.choice([None, 0, 1, 5])
        name = f"f{self.random.randrange(4)}"
        self.allocator.set_demand(name, self.random.choice(sizes), count)

    def _allocate(self) -> None:
        names = sorted(self.totals)
        candidates = [name for name in names if self.random.random() < 0.8]
        grants = self.allocator.allocate(candidates, self.refuses)
        self.check(grants, candidates)
        for grant in grants:
            self.held.setdefault((grant.framework, grant.agent), []).append(grant.resources)
            self.allocator.charge(grant.framework, grant.agent, grant.resources)

    def check(self, grants: list[Grant], candidates: list[str]) -> None:
        """Hold grants against the model. Raises AssertionError."""
        granted: dict[tuple[str, str], None] = {}
        left = {name: self.free(name) for name in candidates}
        for grant in grants:
            pair = (grant.framework, grant.agent)
            assert pair not in granted, f"two grants for {pair}"
            granted[pair] = None
            assert grant.agent in left, f"{grant.agent} is no candidate"
            assert self.active.get(grant.framework), f"{grant.framework} is not active"
            assert grant.role == self.roles[grant.framework], "a grant for a foreign role"
            assert is_offerable(grant.resources), f"{grant.resources} is less than an offer"
            assert not self.refuses(*pair, grant.resources), f"{pair} refused this"
            usable = left[grant.agent].allocatable_to(grant.role)
            assert usable.contains(grant.resources), f"{grant.resources} is not free"
            left[grant.agent] = left[grant.agent] - grant.resources

    def check_books(self) -> None:
        """A newcomer that competes with nobody must get exactly what the model has as free."""
        for framework in self.roles:
            self.allocator.set_active(framework, False)
        self.allocator.add_framework(Client("newcomer", "*"))
        grants = self.allocator.allocate(sorted(self.totals), _nobody)
        free = {name: self.free(name).unreserved() for name in sorted(self.totals)}
        expected = {name: bag for name, bag in free.items() if is_offerable(bag)}
        assert {grant.agent: grant.resources for grant in grants} == expected, "books differ"


def _nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


class AllocatorContract:
    """Derive, define `make`, and let pytest collect it."""

    def make(self) -> Allocator:
        """A new, empty allocator of the kind under test."""
        raise NotImplementedError

    def test_a_lone_framework_gets_all_that_is_free(self) -> None:
        """Nothing may lie idle while the only framework refuses nothing."""
        allocator = self.make()
        allocator.add_agent("a", Resources.parse(_NODE))
        allocator.add_framework(Client("f", "*"))
        grants = allocator.allocate(["a"], _nobody)
        assert grants == [Grant("f", "*", "a", Resources.parse(_NODE))]

    def test_allocate_charges_nothing(self) -> None:
        """The caller may fail to send an offer; then nothing may be lost."""
        allocator = self.make()
        allocator.add_agent("a", Resources.parse(_NODE))
        allocator.add_framework(Client("f", "*"))
        assert allocator.allocate(["a"], _nobody) == allocator.allocate(["a"], _nobody)

    def test_nothing_without_anyone_to_take_it(self) -> None:
        """No framework, or none that is active, gets no grants."""
        allocator = self.make()
        allocator.add_agent("a", Resources.parse(_NODE))
        assert allocator.allocate(["a"], _nobody) == []
        allocator.add_framework(Client("f", "*"))
        allocator.set_active("f", False)
        assert allocator.allocate(["a"], _nobody) == []
        allocator.set_active("f", True)
        assert allocator.allocate(["a"], _nobody)

    def test_charges_survive_their_framework_and_precede_it(self) -> None:
        """A task runs on when its framework is gone; its resources are not free."""
        allocator = self.make()
        allocator.add_agent("a", Resources.parse("cpus:2;mem:1024"))
        allocator.charge("gone", "a", Resources.parse("cpus:1;mem:1024"))
        allocator.add_framework(Client("gone", "*"))
        allocator.remove_framework("gone")
        allocator.add_framework(Client("f", "*"))
        assert allocator.allocate(["a"], _nobody)[0].resources == Resources.scalars(cpus=1)
        allocator.release("gone", "a", Resources.parse("cpus:1;mem:1024"))
        found = allocator.allocate(["a"], _nobody)[0].resources
        assert found == Resources.parse("cpus:2;mem:1024")

    def test_an_agent_that_shrank_gives_nothing_until_it_is_below_its_total(self) -> None:
        """An agent may come back with less than what runs on it."""
        allocator = self.make()
        allocator.add_agent("a", Resources.scalars(cpus=4))
        allocator.add_framework(Client("f", "*"))
        allocator.charge("f", "a", Resources.scalars(cpus=3))
        allocator.add_agent("a", Resources.scalars(cpus=2))
        assert allocator.allocate(["a"], _nobody) == []
        allocator.release("f", "a", Resources.scalars(cpus=2))
        assert allocator.allocate(["a"], _nobody)[0].resources == Resources.scalars(cpus=1)

    def test_a_removed_agent_takes_its_charges_along(self) -> None:
        """Ends of tasks of a dead agent arrive late and must not disturb its successor."""
        allocator = self.make()
        allocator.add_agent("a", Resources.scalars(cpus=2))
        allocator.add_framework(Client("f", "*"))
        allocator.charge("f", "a", Resources.scalars(cpus=2))
        allocator.remove_agent("a")
        allocator.release("f", "a", Resources.scalars(cpus=2))
        assert allocator.allocate(["a"], _nobody) == []
        allocator.add_agent("a", Resources.scalars(cpus=2))
        assert allocator.allocate(["a"], _nobody)[0].resources == Resources.scalars(cpus=2)

    def test_refused_resources_go_to_the_others(self) -> None:
        """A filter keeps an agent from one framework, not from all."""
        allocator = self.make()
        allocator.add_agent("a", Resources.scalars(cpus=2))
        allocator.add_framework(Client("f", "*"))
        allocator.add_framework(Client("g", "*"))
        grants = allocator.allocate(["a"], lambda framework, _agent, _r: framework == "f")
        assert grants == [Grant("g", "*", "a", Resources.scalars(cpus=2))]

    def test_random_walks_keep_the_rules(self) -> None:
        """Never more than is free, never to whom it may not go, whatever happened before."""
        for seed in range(20):
            world = AllocatorWorld(self.make(), seed)
            for _ in range(_WALK_STEPS):
                world.step()
            world.check_books()

    def test_the_same_calls_give_the_same_grants(self) -> None:
        """Runs must be repeatable: no clock, no randomness, no order of a hash seed."""
        for seed in range(5):
            one, other = AllocatorWorld(self.make(), seed), AllocatorWorld(self.make(), seed)
            for _ in range(_WALK_STEPS):
                one.step()
                other.step()
            assert one.held == other.held


def run_contract(make: Callable[[], Allocator]) -> list[str]:
    """Call every test of the contract; the names of those that ran. Raises AssertionError."""
    contract = AllocatorContract()
    contract.make = make  # type: ignore[method-assign]
    names = [name for name in dir(contract) if name.startswith("test_")]
    for name in names:
        getattr(contract, name)()
    return names
