"""The books of an allocator: who holds what on which agent, and what is free.

Owns frameworks, roles and agents with their charges. Policies read it; only the methods of the
allocator's interface change it.

Rules:
- An agent's free resources are its total without all charges on it. They are computed anew, not
  added up, because an agent may come back smaller than what runs on it.
- A role holds the sum of its frameworks, active or not. A charge may come before its framework (a
  master that restarted hears of tasks first) and outlive it.
`check` recomputes every sum.
"""

from __future__ import annotations

import math

from mesosctl.allocation.base import Client
from mesosctl.errors import require
from mesosctl.model.resources import EMPTY, Resources


class Account:
    """What one framework or one role holds: thousandths by name, and how often it was charged."""

    __slots__ = ("charges", "quantities")

    def __init__(self) -> None:
        self.quantities: dict[str, int] = {}
        self.charges = 0

    def add(self, quantities: dict[str, int], sign: int = 1) -> None:
        """Add thousandths by name, or take them away with `sign` -1."""
        for name, amount in quantities.items():
            left = self.quantities.get(name, 0) + sign * amount
            if left:
                self.quantities[name] = left
            else:
                self.quantities.pop(name, None)

    def copy(self) -> Account:
        """An account that changes by itself."""
        twin = Account()
        twin.quantities = dict(self.quantities)
        twin.charges = self.charges
        return twin


class Member:
    """An entered framework: what was last said of it."""

    __slots__ = ("active", "client", "count", "task")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.active = True
        self.task: Resources | None = None
        self.count: int | None = None


class _Agent:
    __slots__ = ("charges", "free", "total")

    def __init__(self, total: Resources) -> None:
        self.total = total
        self.free = total
        self.charges: dict[str, Resources] = {}

    def settle(self) -> None:
        free = self.total
        for resources in self.charges.values():
            free = free.without(resources)
        self.free = free


class _Role:
    __slots__ = ("account", "members", "priority", "weight_milli")

    def __init__(self) -> None:
        self.account = Account()
        self.members = 0
        self.weight_milli = 1000
        self.priority = 0


class Ledger:
    """The books, with the part of the allocator's interface that only keeps them."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._accounts: dict[str, Account] = {}
        self._roles: dict[str, _Role] = {}
        self._agents: dict[str, _Agent] = {}
        self._total: dict[str, int] = {}
        self._scale: dict[str, int] | None = None

    # --- frameworks -------------------------------------------------------------------------------

    def add_framework(self, client: Client) -> None:
        """See Allocator."""
        require(client.weight_milli >= 1, f"role {client.role} has no positive weight")
        member = self._members.get(client.framework)
        if member is None:
            member = self._members[client.framework] = Member(client)
            self._join(client)
        elif member.client.role != client.role:
            self._leave(member.client)
            self._join(client)
        member.client = client
        role = self._roles[client.role]
        role.weight_milli = client.weight_milli
        role.priority = client.priority

    def remove_framework(self, framework: str) -> None:
        """See Allocator."""
        member = self._members.pop(framework, None)
        if member is not None:
            self._leave(member.client)
            if not self._account(framework).quantities:
                del self._accounts[framework]

    def set_active(self, framework: str, active: bool) -> None:
        """See Allocator."""
        member = self._members.get(framework)
        if member is not None:
            member.active = active

    def set_demand(self, framework: str, task: Resources | None, count: int | None) -> None:
        """See Allocator."""
        member = self._members.get(framework)
        if member is not None:
            member.task = task
            member.count = count

    def _join(self, client: Client) -> None:
        role = self._roles.setdefault(client.role, _Role())
        account = self._account(client.framework)
        role.members += 1
        role.account.add(account.quantities)
        role.account.charges += account.charges

    def _leave(self, client: Client) -> None:
        role = self._roles[client.role]
        account = self._account(client.framework)
        role.members -= 1
        role.account.add(account.quantities, -1)
        role.account.charges -= account.charges
        if role.members == 0:
            del self._roles[client.role]

    def _account(self, framework: str) -> Account:
        account = self._accounts.get(framework)
        if account is None:
            account = self._accounts[framework] = Account()
        return account

    # --- agents -----------------------------------------------------------------------------------

    def add_agent(self, agent: str, total: Resources) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        if state is None:
            self._agents[agent] = _Agent(total)
        else:
            self._count_total(state.total, -1)
            state.total = total
            state.settle()
        self._count_total(total, 1)

    def remove_agent(self, agent: str) -> None:
        """See Allocator."""
        state = self._agents.pop(agent, None)
        if state is not None:
            self._count_total(state.total, -1)
            for framework, resources in state.charges.items():
                self._book(framework, resources, -1)

    def _count_total(self, total: Resources, sign: int) -> None:
        for name, amount in total.quantities().items():
            self._total[name] = self._total.get(name, 0) + sign * amount
        self._scale = None

    # --- charges ----------------------------------------------------------------------------------

    def charge(self, framework: str, agent: str, resources: Resources) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        require(state is not None, f"a charge on the unknown agent {agent}")
        if state is None or not resources:
            return
        state.charges[framework] = state.charges.get(framework, EMPTY) + resources
        state.free = state.free.without(resources)
        self._book(framework, resources, 1)
        self._account(framework).charges += 1
        member = self._members.get(framework)
        if member is not None:
            self._roles[member.client.role].account.charges += 1

    def release(self, framework: str, agent: str, resources: Resources) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        if state is None or not resources:
            return
        held = state.charges.get(framework, EMPTY)
        require(held.contains(resources), f"{framework} gives back more than it has on {agent}")
        left = held - resources
        if left:
            state.charges[framework] = left
        else:
            del state.charges[framework]
        state.settle()
        self._book(framework, resources, -1)

    def _book(self, framework: str, resources: Resources, sign: int) -> None:
        quantities = resources.quantities()
        self._account(framework).add(quantities, sign)
        member = self._members.get(framework)
        if member is not None:
            self._roles[member.client.role].account.add(quantities, sign)
        elif not self._accounts[framework].quantities:
            # Nobody will ask for the account of one who neither is here nor holds anything.
            del self._accounts[framework]

    # --- what policies read -----------------------------------------------------------------------

    def active_members(self) -> list[Member]:
        """Frameworks that may be granted something now, in the order of their names."""
        members = [m for m in self._members.values() if m.active and m.count != 0]
        return sorted(members, key=lambda member: member.client.framework)

    def free(self, agent: str) -> Resources:
        """What nobody holds on an agent; nothing for an unknown one."""
        state = self._agents.get(agent)
        return EMPTY if state is None else state.free

    def account(self, framework: str) -> Account:
        """A copy of the account of a framework."""
        account = self._accounts.get(framework)
        return Account() if account is None else account.copy()

    def role_account(self, role: str) -> Account:
        """A copy of the account of a role that has frameworks."""
        return self._roles[role].account.copy()

    def weight_milli(self, role: str) -> int:
        """The weight of a role that has frameworks."""
        return self._roles[role].weight_milli

    def priority(self, role: str) -> int:
        """The priority of a role that has frameworks."""
        return self._roles[role].priority

    def scale(self) -> dict[str, int]:
        """By name, the factor that turns thousandths into shares of one common denominator.

        Shares of different resources compare as integers then, exactly.
        """
        if self._scale is None:
            totals = {name: amount for name, amount in self._total.items() if amount > 0}
            common = math.lcm(*totals.values())
            self._scale = {name: common // amount for name, amount in totals.items()}
        return self._scale

    def check(self) -> None:
        """Recompute every sum from the charges. Raises InvariantBroken where one is wrong."""
        held: dict[str, Account] = {}
        total: dict[str, int] = {}
        for agent, state in self._agents.items():
            free = state.total
            for framework, resources in state.charges.items():
                free = free.without(resources)
                held.setdefault(framework, Account()).add(resources.quantities())
            require(free == state.free, f"the free resources of {agent} are wrong")
            for name, amount in state.total.quantities().items():
                total[name] = total.get(name, 0) + amount
        require(total == {n: a for n, a in self._total.items() if a}, "the cluster total is wrong")
        roles: dict[str, Account] = {name: Account() for name in self._roles}
        for framework, account in self._accounts.items():
            mine = held.pop(framework, Account())
            require(mine.quantities == account.quantities, f"the sum of {framework} is wrong")
            member = self._members.get(framework)
            if member is not None:
                roles[member.client.role].add(mine.quantities)
        lost = [framework for framework, account in held.items() if account.quantities]
        require(not lost, "a framework holds something and has no account")
        for name, role in self._roles.items():
            require(roles[name].quantities == role.account.quantities, f"role {name} is wrong")


def dominant(quantities: dict[str, int], scale: dict[str, int]) -> int:
    """The dominant share over a common denominator: the largest share of any one resource.

    Names of which the cluster has nothing do not count (Ghodsi et al., "Dominant Resource
    Fairness", NSDI 2011).
    """
    return max((amount * scale.get(name, 0) for name, amount in quantities.items()), default=0)
