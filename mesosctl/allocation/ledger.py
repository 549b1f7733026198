"""The books of an allocator: who holds what on which agent, what is free, what has changed.

Owns frameworks, roles and agents with their charges. Policies read it; only the methods of the
allocator's interface change it.

Rules:
- An agent's free resources are its total without all charges on it. They are computed anew, not
  added up, because an agent may come back smaller than what runs on it.
- A role holds the sum of its frameworks, active or not. A charge may come before its framework (a
  master that restarted hears of tasks first) and outlive it.
- `changed_agents` and `changed_frameworks` are those to be looked at by the next allocation: every
  active framework on the former, the latter on every free agent. For all other pairs the answer of
  the last allocation holds.
`check` recomputes every sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mesosctl.allocation.agents import Agent, OpenAgents
from mesosctl.allocation.base import Client, RoleTerms, is_offerable
from mesosctl.allocation.quota import Quota, Standing
from mesosctl.allocation.rooms import Rooms
from mesosctl.allocation.tree import Node, RoleTree, is_wanting
from mesosctl.errors import require
from mesosctl.model.resources import EMPTY, Resources
from mesosctl.model.values import top_of

KINDS_KEPT = 1_000


class Ledger:
    """The books, with the part of the allocator's interface that only keeps them.

    `excluded` names resources that do not count for shares. With `by_priority` the priorities of
    roles and frameworks go before their shares.
    """

    def __init__(self, excluded: Iterable[str] = (), *, by_priority: bool = False) -> None:
        self.tree = RoleTree(frozenset(excluded), by_priority)
        self._leaves: dict[str, Node] = {}
        self._agents: dict[str, Agent] = {}
        self._kinds: dict[Resources, Resources] = {}
        self._total: dict[str, int] = {}
        self._total_changed = False
        self.quota = Quota()
        # Unreserved scalars that are free on open agents; kept while there are guarantees.
        self.spare: dict[str, int] = {}
        self._least_need: Mapping[str, int] | None = None
        self.open = OpenAgents()
        self.changed_agents: dict[str, None] = {}
        self.changed_frameworks: dict[str, None] = {}
        # Active frameworks, and those of them that had all they asked for when last looked at.
        self.active: dict[str, Node] = {}
        self.sated: dict[str, None] = {}

    # --- roles and frameworks ---------------------------------------------------------------------

    def set_role(self, role: str, terms: RoleTerms) -> None:
        """See Allocator."""
        self.tree.set_terms(role, terms)
        if terms.limit is not None or terms.guarantee or self.quota.is_counted(role):
            self.quota.set_terms(role, terms, list(self._charges_of(role)))
            # Whom another's guarantee held back may be free of it by now.
            for top in {role: None, **self.quota.capped}:
                self._look_again(top)
            self.spare = self._count_spare()

    def _charges_of(self, top: str) -> Iterator[tuple[str, Resources]]:
        for state in self._agents.values():
            for framework, resources in state.charges.items():
                client = self._leaf(framework).client
                if client is not None and top_of(client.role) == top:
                    yield client.role, resources

    def _count_spare(self) -> dict[str, int]:
        """What is free and unreserved on open agents; nothing while nobody has a guarantee."""
        spare: dict[str, int] = {}
        for state in self.open.values() if self.quota.has_guarantees else ():
            for name, amount in state.free.unreserved().quantities().items():
                spare[name] = spare.get(name, 0) + amount
        return {name: amount for name, amount in spare.items() if amount}

    def _count_free(self, state: Agent, sign: int) -> None:
        """Keep `spare` while an agent changes: without it before, with it afterwards."""
        if self.quota.has_guarantees and state.name in self.open:
            for name, amount in state.free.unreserved().quantities().items():
                left = self.spare.get(name, 0) + sign * amount
                if left:
                    self.spare[name] = left
                else:
                    self.spare.pop(name, None)

    def look_again_at_headroom(self) -> None:
        """Put every free agent before those that headroom held back, if there is less of it now."""
        quota = self.quota
        if not quota.has_guarantees or not quota.capped:
            return
        before, now = quota.surplus_left, Rooms(quota, self.spare).surplus
        if any(amount > max(0, before.get(name, 0)) for name, amount in now.items()):
            for role in quota.capped:
                self._look_again(role)

    def standing(self, role: str) -> Standing | None:
        """The quota of the top that a role belongs to; None where nothing bounds the role."""
        limit, guarantee = self.quota.terms_of(role)
        room = Rooms(self.quota, self.spare).of(role)
        if room is None and not guarantee:
            return None
        consumed = self.quota.consumed(role) if self.quota.is_counted(role) else {}
        return Standing(limit, guarantee, consumed, room or {})

    def order(self) -> list[str]:
        """The active frameworks, the one first whose turn it is."""
        self.settle_total()
        self.tree.refresh()
        return [leaf.name for leaf in self.tree.leaves()]

    def _look_again(self, top: str) -> None:
        """Put every free agent before the active frameworks of a role and below it."""
        for name, leaf in self.active.items():
            if leaf.client is not None and top_of(leaf.client.role) == top:
                self.changed_frameworks[name] = None

    def set_framework(self, client: Client) -> None:
        """See Allocator."""
        leaf = self._leaf(client.framework)
        self._deactivate(leaf)
        if leaf.client is not None and leaf.client.role != client.role:
            self._count_for_quota(leaf, -1)
            self.tree.leave(leaf)
        is_new = leaf.parent is None
        leaf.client = client
        if is_new:
            self.tree.join(leaf, client.role)
            self._count_for_quota(leaf, 1)
        if is_wanting(leaf):
            self.tree.activate(leaf)
            self.active[client.framework] = leaf
            self.changed_frameworks[client.framework] = None
        self._note_alone()

    def remove_framework(self, framework: str) -> None:
        """See Allocator."""
        leaf = self._leaves.get(framework)
        if leaf is None or leaf.client is None:
            return
        self._deactivate(leaf)
        self._count_for_quota(leaf, -1)
        self.tree.leave(leaf)
        leaf.client = None
        self._forget_if_empty(leaf)
        self._note_alone()

    def _note_alone(self) -> None:
        # What was withheld from the last one because of its rivals may be granted to it now.
        if len(self.active) == 1:
            self.changed_frameworks.update(dict.fromkeys(self.active))

    def _count_for_quota(self, leaf: Node, sign: int) -> None:
        if leaf.client is None or not self.quota.is_counted(leaf.client.role):
            return
        self._look_again(top_of(leaf.client.role))
        for state in self._agents.values():
            held = state.charges.get(leaf.name)
            if held is not None:
                self.quota.book(leaf.client.role, held, sign)

    def _deactivate(self, leaf: Node) -> None:
        self._least_need = None
        self.changed_frameworks.pop(leaf.name, None)
        self.sated.pop(leaf.name, None)
        if self.active.pop(leaf.name, None) is not None:
            self.tree.deactivate(leaf)

    def _leaf(self, framework: str) -> Node:
        leaf = self._leaves.get(framework)
        if leaf is None:
            leaf = self._leaves[framework] = Node(framework, framework)
        return leaf

    def _forget_if_empty(self, leaf: Node) -> None:
        # Nobody will ask for the account of one who neither is here nor holds anything.
        if leaf.client is None and not leaf.quantities:
            self._leaves.pop(leaf.name, None)

    # --- agents -----------------------------------------------------------------------------------

    def set_agent(self, agent: str, total: Resources, offered: bool = True) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        total = self._shared(total)
        if state is None:
            state = self._agents[agent] = Agent(agent, total, offered)
            self._count_total(total, 1)
        else:
            self._count_free(state, -1)
            if total != state.total:
                self._count_total(state.total, -1)
                self._count_total(total, 1)
                state.total = total
                state.plain = total.is_plain()
            state.offered = offered
            state.settle()
        self._look_at(state)
        self._count_free(state, 1)

    def _shared(self, total: Resources) -> Resources:
        """The same object for all agents of one kind: most clusters have few kinds of them.

        A round over thousands then reads one that is in the processor's cache.
        """
        if len(self._kinds) > KINDS_KEPT:
            self._kinds.clear()
        return self._kinds.setdefault(total, total)

    def remove_agent(self, agent: str) -> None:
        """See Allocator."""
        state = self._agents.pop(agent, None)
        if state is None:
            return
        self._count_total(state.total, -1)
        self._count_free(state, -1)
        self.open.drop(agent)
        self.changed_agents.pop(agent, None)
        for framework, resources in state.charges.items():
            self._book(framework, resources, -1)

    def _count_total(self, total: Resources, sign: int) -> None:
        for name, amount in total.quantities().items():
            self._total[name] = self._total.get(name, 0) + sign * amount
        if not total.is_plain():
            self.quota.reserve(total, sign)
            for role in [role for role in self.quota.capped if sign < 0]:
                self._look_again(role)
        self._total_changed = True

    def _look_at(self, state: Agent) -> None:
        """Put what is free on an agent before everyone at the next allocation."""
        if state.offered and is_offerable(state.free):
            self.open.put(state)
            self.changed_agents[state.name] = None
        else:
            self.open.drop(state.name)
            self.changed_agents.pop(state.name, None)

    # --- charges ----------------------------------------------------------------------------------

    def charge(self, framework: str, agent: str, resources: Resources) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        require(state is not None, f"a charge on the unknown agent {agent}")
        if state is None or not resources:
            return
        self._count_free(state, -1)
        state.charges[framework] = state.charges.get(framework, EMPTY) + resources
        state.free = state.free.without(resources)
        if state.name in self.open:
            if is_offerable(state.free):
                self.open.put(state)
            else:
                self.open.drop(agent)
                self.changed_agents.pop(agent, None)
        self._count_free(state, 1)
        self._book(framework, resources, 1, charges=1)

    def release(self, framework: str, agent: str, resources: Resources) -> None:
        """See Allocator."""
        state = self._agents.get(agent)
        if state is None or not resources:
            return
        held = state.charges.get(framework, EMPTY)
        require(held.contains(resources), f"{framework} gives back more than it has on {agent}")
        left = held - resources
        self._count_free(state, -1)
        if left:
            state.charges[framework] = left
        else:
            del state.charges[framework]
        state.settle()
        self._look_at(state)
        self._count_free(state, 1)
        self._book(framework, resources, -1)

    def _book(self, framework: str, resources: Resources, sign: int, charges: int = 0) -> None:
        leaf = self._leaf(framework)
        self.settle_total()
        self.tree.book(leaf, resources.quantities(), sign, charges)
        if leaf.client is not None and self.quota.is_counted(leaf.client.role):
            self.quota.book(leaf.client.role, resources, sign)
            top = top_of(leaf.client.role)
            if sign < 0 and top in self.quota.capped:
                del self.quota.capped[top]
                self._look_again(top)
        if sign < 0 and framework in self.sated:
            # It had asked for no more than it got; now it may want another agent instead.
            del self.sated[framework]
            self.changed_frameworks[framework] = None
        self._forget_if_empty(leaf)

    # --- what policies read -----------------------------------------------------------------------

    def settle_total(self) -> None:
        """Let the tree know what the cluster has by now."""
        if self._total_changed:
            self._total_changed = False
            self.tree.set_totals(self._total)

    def least_need(self) -> Mapping[str, int]:
        """What every next task of an active framework needs at the least, by name.

        An agent with less of any has no room for anybody. Empty if one of them stated no size.
        """
        if self._least_need is None:
            least: Mapping[str, int] | None = None
            for leaf in self.active.values():
                task = stated_task(leaf.client)
                need = (task or EMPTY).quantities()
                if least is None:
                    least = need
                else:
                    least = {n: min(a, need[n]) for n, a in least.items() if n in need}
            self._least_need = least or {}
        return self._least_need

    def free(self, agent: str) -> Resources:
        """What nobody holds on an agent; nothing for an unknown one."""
        state = self._agents.get(agent)
        return EMPTY if state is None else state.free

    def is_offered(self, agent: str) -> bool:
        """Whether what is free on the agent may be granted."""
        state = self._agents.get(agent)
        return state is not None and state.offered

    def node(self, framework: str) -> Node | None:
        """The place of a framework in the tree, active or not."""
        leaf = self._leaves.get(framework)
        return None if leaf is None or leaf.client is None else leaf

    def client(self, framework: str) -> Client | None:
        """What was last set of a framework."""
        leaf = self.node(framework)
        return None if leaf is None else leaf.client

    def charged(self, framework: str) -> dict[str, int]:
        """What a framework holds, in thousandths by name."""
        leaf = self._leaves.get(framework)
        return {} if leaf is None else dict(leaf.quantities)

    def check(self) -> None:
        """Recompute every sum from the charges. Raises InvariantBroken where one is wrong."""
        held: dict[str, Node] = {}
        total: dict[str, int] = {}
        for name, state in self._agents.items():
            free = state.total
            for framework, resources in state.charges.items():
                free = free.without(resources)
                held.setdefault(framework, Node(framework)).add(resources.quantities())
            require(free == state.free, f"the free resources of {name} are wrong")
            is_open = state.offered and is_offerable(free)
            require((name in self.open) == is_open, f"{name} is not open as it should be")
            require(not is_open or state.roomy == state.has_both, f"the room of {name} is wrong")
            for resource, amount in state.total.quantities().items():
                total[resource] = total.get(resource, 0) + amount
        require(total == {n: a for n, a in self._total.items() if a}, "the cluster total is wrong")
        for framework, leaf in self._leaves.items():
            mine = held.pop(framework, Node(framework))
            require(mine.quantities == leaf.quantities, f"the sum of {framework} is wrong")
            require((framework in self.active) == is_wanting(leaf), f"{framework} is not active")
        lost = [framework for framework, node in held.items() if node.quantities]
        require(not lost, "a framework holds something and has no account")
        require(all(a in self.open for a in self.changed_agents), "a closed agent is looked at")
        require(all(f in self.active for f in self.changed_frameworks), "an idle one is looked at")
        self.settle_total()
        self.tree.check()
        require(self.spare == self._count_spare(), "what is free for guarantees is wrong")
        for role in self.quota.counted():
            again = Quota()
            again.set_terms(role, RoleTerms(limit={}), self._charges_of(role))
            require(again.used(role) == self.quota.used(role), f"the quota of {role} is wrong")


def stated_task(client: Client | None) -> Resources | None:
    """The size of a framework's next task; None if it stated none.

    A task too small for an offer says nothing about how large an offer should be.
    """
    task = None if client is None else client.task
    return task if task and is_offerable(task) else None
