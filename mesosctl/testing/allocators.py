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
from dataclasses import replace

from mesosctl.allocation.base import Allocator, Client, Grant, RoleTerms, is_offerable
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
        self.offered: dict[str, bool] = {}
        self.clients: dict[str, Client] = {}
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
        changes = [self._framework, self._role, self._agent, self._release, self._refuse]
        self.random.choice([*changes, self._demand, *[self._allocate] * 3])()

    def _framework(self) -> None:
        name = f"f{self.random.randrange(4)}"
        choice = self.random.random()
        if name in self.clients and choice < 0.1:
            del self.clients[name]
            self.allocator.remove_framework(name)
            return
        client = self.clients.get(name, Client(name, "*"))
        if choice < 0.4:
            client = replace(client, active=self.random.random() < 0.5)
        else:
            role = self.random.choice(["*", "ads", "ads/video", "batch"])
            client = replace(client, role=role, priority=self.random.randrange(2))
        self._set(client)

    def _set(self, client: Client) -> None:
        self.clients[client.framework] = client
        self.allocator.set_framework(client)

    def _role(self) -> None:
        terms = RoleTerms(self.random.choice([500, 1000, 3000]), self.random.randrange(3))
        self.allocator.set_role(self.random.choice(["ads", "ads/video", "batch"]), terms)

    def _agent(self) -> None:
        name = f"a{self.random.randrange(3)}"
        if name in self.totals:
            if self.random.random() < 0.3:
                del self.totals[name]
                self.held = {pair: bags for pair, bags in self.held.items() if pair[1] != name}
                self.allocator.remove_agent(name)
                return
        else:
            reserved = _NODE + ";cpus(ads):2;mem(ads):512;cpus(ads/video):1"
            text = self.random.choice([_NODE, "cpus:2;mem:4096", reserved])
            self.totals[name] = Resources.parse(text)
        self.offered[name] = self.random.random() < 0.8
        self.allocator.set_agent(name, self.totals[name], self.offered[name])

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
        # Less may be refused than before, so whoever decides has to be told to look again.
        if agent in self.totals:
            self.allocator.set_agent(agent, self.totals[agent], self.offered[agent])

    def _demand(self) -> None:
        sizes = [None, Resources.scalars(cpus=1, mem=512), Resources.scalars(cpus=3, mem=64)]
        name = f"f{self.random.randrange(4)}"
        client = self.clients.get(name)
        if client is not None:
            count = self.random.choice([None, 0, 1, 5])
            self._set(replace(client, task=self.random.choice(sizes), count=count))

    def _allocate(self) -> None:
        grants = self.allocator.allocate(self.refuses)
        self.check(grants)
        for grant in grants:
            # What could not be sent is not charged.
            if self.random.random() < 0.9:
                self.held.setdefault((grant.framework, grant.agent), []).append(grant.resources)
                self.allocator.charge(grant.framework, grant.agent, grant.resources)

    def settle(self) -> None:
        """A pass of allocation of which everything is charged."""
        grants = self.allocator.allocate(self.refuses)
        self.check(grants)
        for grant in grants:
            self.held.setdefault((grant.framework, grant.agent), []).append(grant.resources)
            self.allocator.charge(grant.framework, grant.agent, grant.resources)

    def usable(self) -> list[tuple[str, str]]:
        """Frameworks that would take something of an agent that is free; none after `settle`.

        Those that stated a count are left out, because they may have had all they asked for.
        """
        found = []
        for name, client in self.clients.items():
            if not client.active or client.count is not None:
                continue
            for agent in [agent for agent in self.totals if self.offered[agent]]:
                free = self.free(agent).allocatable_to(client.role)
                wanted = free if client.task is None else free.take(client.task)
                willing = wanted is not None and is_offerable(wanted)
                refused = self.refuses(name, agent, free) or self.refuses(
                    name, agent, wanted or free
                )
                if willing and not refused:
                    found.append((name, agent))
        return found

    def check(self, grants: list[Grant]) -> None:
        """Hold grants against the model. Raises AssertionError."""
        granted: dict[tuple[str, str], None] = {}
        left = {name: self.free(name) for name in self.totals if self.offered[name]}
        for grant in grants:
            pair = (grant.framework, grant.agent)
            assert pair not in granted, f"two grants for {pair}"
            granted[pair] = None
            assert grant.agent in left, f"{grant.agent} is not offered"
            client = self.clients.get(grant.framework)
            assert client is not None, f"{grant.framework} was removed"
            assert client.active and client.count != 0, f"{grant.framework} is not active"
            assert grant.role == client.role, "a grant for a foreign role"
            assert is_offerable(grant.resources), f"{grant.resources} is less than an offer"
            assert not self.refuses(*pair, grant.resources), f"{pair} refused this"
            usable = left[grant.agent].allocatable_to(grant.role)
            assert usable.contains(grant.resources), f"{grant.resources} is not free"
            left[grant.agent] = left[grant.agent] - grant.resources

    def check_books(self) -> None:
        """A newcomer that competes with nobody must get exactly what the model has as free."""
        for client in list(self.clients.values()):
            self._set(replace(client, active=False))
        self.allocator.set_framework(Client("newcomer", "*"))
        grants = self.allocator.allocate(_nobody)
        free = {name: self.free(name).unreserved() for name in self.totals if self.offered[name]}
        expected = {name: bag for name, bag in free.items() if is_offerable(bag)}
        assert {grant.agent: grant.resources for grant in grants} == expected, "books differ"


def _nobody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return False


def _everybody(_framework: str, _agent: str, _resources: Resources) -> bool:
    return True


class AllocatorContract:
    """Derive, define `make`, and let pytest collect it."""

    def make(self) -> Allocator:
        """A new, empty allocator of the kind under test."""
        raise NotImplementedError

    def test_a_lone_framework_gets_all_that_is_free(self) -> None:
        """Nothing may lie idle while the only framework refuses nothing."""
        allocator = self.make()
        allocator.set_agent("a", Resources.parse(_NODE))
        allocator.set_framework(Client("f", "*"))
        grants = allocator.allocate(_nobody)
        assert grants == [Grant("f", "*", "a", Resources.parse(_NODE))]

    def test_allocate_charges_nothing(self) -> None:
        """The caller may fail to send an offer; then nothing may be lost."""
        allocator = self.make()
        allocator.set_agent("a", Resources.parse(_NODE))
        allocator.set_framework(Client("f", "*"))
        assert allocator.allocate(_nobody) == allocator.allocate(_nobody)

    def test_nothing_without_anyone_to_take_it(self) -> None:
        """No framework, or none that is active, gets no grants."""
        allocator = self.make()
        allocator.set_agent("a", Resources.parse(_NODE))
        assert allocator.allocate(_nobody) == []
        allocator.set_framework(Client("f", "*"))
        allocator.set_framework(Client("f", "*", active=False))
        assert allocator.allocate(_nobody) == []
        allocator.set_framework(Client("f", "*"))
        assert allocator.allocate(_nobody)

    def test_charges_survive_their_framework_and_precede_it(self) -> None:
        """A task runs on when its framework is gone; its resources are not free."""
        allocator = self.make()
        allocator.set_agent("a", Resources.parse("cpus:2;mem:1024"))
        allocator.charge("gone", "a", Resources.parse("cpus:1;mem:1024"))
        allocator.set_framework(Client("gone", "*"))
        allocator.remove_framework("gone")
        allocator.set_framework(Client("f", "*"))
        assert allocator.allocate(_nobody)[0].resources == Resources.scalars(cpus=1)
        allocator.release("gone", "a", Resources.parse("cpus:1;mem:1024"))
        found = allocator.allocate(_nobody)[0].resources
        assert found == Resources.parse("cpus:2;mem:1024")

    def test_an_agent_that_shrank_gives_nothing_until_it_is_below_its_total(self) -> None:
        """An agent may come back with less than what runs on it."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=4))
        allocator.set_framework(Client("f", "*"))
        allocator.charge("f", "a", Resources.scalars(cpus=3))
        allocator.set_agent("a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody) == []
        allocator.release("f", "a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody)[0].resources == Resources.scalars(cpus=1)

    def test_a_removed_agent_takes_its_charges_along(self) -> None:
        """Ends of tasks of a dead agent arrive late and must not disturb its successor."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=2))
        allocator.set_framework(Client("f", "*"))
        allocator.charge("f", "a", Resources.scalars(cpus=2))
        allocator.remove_agent("a")
        allocator.release("f", "a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody) == []
        allocator.set_agent("a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody)[0].resources == Resources.scalars(cpus=2)

    def test_refused_resources_go_to_the_others(self) -> None:
        """A filter keeps an agent from one framework, not from all."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=2))
        allocator.set_framework(Client("f", "*"))
        allocator.set_framework(Client("g", "*"))
        grants = allocator.allocate(lambda framework, _agent, _r: framework == "f")
        assert grants == [Grant("g", "*", "a", Resources.scalars(cpus=2))]

    def test_an_agent_that_is_not_offered_is_granted_to_nobody(self) -> None:
        """An agent that drains or is away takes no new work until it is offered again."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=2), offered=False)
        allocator.set_framework(Client("f", "*"))
        assert allocator.allocate(_nobody) == []
        allocator.set_agent("a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody) == [Grant("f", "*", "a", Resources.scalars(cpus=2))]

    def test_a_refusal_that_ended_is_asked_again(self) -> None:
        """Setting the agent, or the framework, puts them before each other anew."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=2))
        allocator.set_framework(Client("f", "*"))
        assert allocator.allocate(_everybody) == []
        allocator.set_agent("a", Resources.scalars(cpus=2))
        assert len(allocator.allocate(_nobody)) == 1
        assert allocator.allocate(_everybody) == []
        allocator.set_framework(Client("f", "*"))
        assert len(allocator.allocate(_nobody)) == 1

    def test_what_is_released_is_offered_to_those_who_waited(self) -> None:
        """Nobody has to say anything again for what becomes free later."""
        allocator = self.make()
        allocator.set_agent("a", Resources.scalars(cpus=2))
        allocator.set_framework(Client("f", "*"))
        allocator.charge("g", "a", Resources.scalars(cpus=2))
        assert allocator.allocate(_nobody) == []
        allocator.release("g", "a", Resources.scalars(cpus=1))
        assert allocator.allocate(_nobody) == [Grant("f", "*", "a", Resources.scalars(cpus=1))]

    def test_a_declined_agent_does_not_end_the_search(self) -> None:
        """One task waits; whatever is refused for it, every agent is offered in the end."""
        allocator = self.make()
        task = Resources.scalars(cpus=1)
        for agent in ("a", "b", "c"):
            allocator.set_agent(agent, task)
        # Somebody else is there, or one framework alone may be offered everything at once.
        allocator.set_framework(Client("other", "*"))
        allocator.set_framework(Client("f", "*", task=task, count=1))
        refused: dict[str, None] = {}

        def refuses(framework: str, agent: str, _resources: Resources) -> bool:
            return framework == "other" or agent in refused

        for _ in range(10):
            grants = allocator.allocate(refuses)
            for grant in grants:
                allocator.charge("f", grant.agent, grant.resources)
            for grant in grants:
                allocator.release("f", grant.agent, grant.resources)
                refused[grant.agent] = None
        assert sorted(refused) == ["a", "b", "c"]

    def test_reserved_resources_go_to_their_role_and_below(self) -> None:
        """What is reserved to `eng` is of use to `eng/backend`, and to nobody beside or above."""
        for role, cpus in (("eng", 3), ("eng/backend", 7), ("eng/web", 3), ("ops", 1), ("*", 1)):
            allocator = self.make()
            text = "cpus:1;cpus(eng):2;cpus(eng/backend):4"
            allocator.set_agent("a", Resources.parse(text))
            allocator.set_framework(Client("f", role))
            (grant,) = allocator.allocate(_nobody)
            assert grant.resources.cpus_milli == cpus * 1000, (role, grant)

    def test_random_walks_keep_the_rules(self) -> None:
        """Never more than is free, never to whom it may not go, whatever happened before."""
        for seed in range(20):
            world = AllocatorWorld(self.make(), seed)
            for _ in range(_WALK_STEPS):
                world.step()
            world.settle()
            assert world.usable() == [], "what somebody could use stays free"
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
