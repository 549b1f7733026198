"""One allocation: progressive filling of free resources, lowest weighted dominant share first.

Rules:
- Contenders come in tiers; a tier gets what the tiers before it refuse or cannot use.
- An agent that only one contender of a tier can use goes to it whole, as in Apache Mesos.
- Where several can, the lowest share takes the next piece: one task if it stated a size (no more
  pieces than its stated count), the whole of an agent if it did not. So of two frameworks with
  equal tasks and endless queues none gets ahead by more than one task, however much became free.
- What fits nobody's task goes to the lowest share if that puts it ahead by no more than one task,
  or if it has no rival. Ranges and sets cost no share: those left over on an agent go to the
  lowest share that was granted something there.
- What a framework refuses is asked of the final grant too: a piece of an agent may be refused where
  the whole was not. Such a grant is taken back and its framework sits out on that agent.
The order is that of the Mesos DRF sorter: share over weight, number of charges, name; roles first,
then frameworks within the role.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence

from mesosctl.allocation.base import Grant, Refuses, is_offerable
from mesosctl.allocation.ledger import Account, Ledger, Member, dominant
from mesosctl.model.resources import EMPTY, Resources

Rank = tuple[int, int, str]


class _Role:
    """A role within one allocation; `factor` divides its share by its weight, in integers."""

    __slots__ = ("account", "factor", "name", "queue")

    def __init__(self, name: str, account: Account, factor: int) -> None:
        self.name = name
        self.account = account
        self.factor = factor
        self.queue: list[tuple[Rank, Contender]] = []


class Contender:
    """An active framework within one allocation."""

    __slots__ = ("account", "agents", "at", "framework", "left", "role", "task")

    def __init__(self, member: Member, account: Account, role: _Role) -> None:
        self.framework = member.client.framework
        self.role = role
        self.account = account
        # A task too small for an offer says nothing about how large an offer should be.
        self.task = member.task if member.task and is_offerable(member.task) else None
        self.left = member.count if self.task else None
        self.agents: list[str] = []
        self.at = 0


class Round:
    """The state of one allocation; make it, `fill` tier after tier, `finish`."""

    def __init__(self, ledger: Ledger, agents: Sequence[str], refuses: Refuses) -> None:
        self._ledger = ledger
        self._refuses = refuses
        self._scale = ledger.scale()
        frees = {agent: ledger.free(agent) for agent in agents}
        self._free = {agent: free for agent, free in frees.items() if is_offerable(free)}
        self._grants: dict[tuple[str, str], Resources] = {}
        # How many tasks of a stated count the grants serve, for taking them back.
        self._tasks: dict[tuple[str, str], int] = {}
        self._excluded: dict[tuple[str, str], None] = {}
        self._contenders: dict[str, Contender] = {}
        self._tiers: list[list[Contender]] = []

    @property
    def is_idle(self) -> bool:
        """Whether no candidate has anything worth an offer."""
        return not self._free

    # --- the order --------------------------------------------------------------------------------

    def enter(self, tiers: Iterable[list[Member]]) -> None:
        """Take in the contenders, the most important tier first."""
        members = [list(tier) for tier in tiers]
        names = dict.fromkeys(m.client.role for tier in members for m in tier)
        weights = {name: self._ledger.weight_milli(name) for name in names}
        common = math.lcm(*weights.values())
        roles = {
            name: _Role(name, self._ledger.role_account(name), common // weight)
            for name, weight in weights.items()
        }
        for tier in members:
            contenders = []
            for member in tier:
                account = self._ledger.account(member.client.framework)
                contender = Contender(member, account, roles[member.client.role])
                self._contenders[contender.framework] = contender
                contenders.append(contender)
            self._tiers.append(contenders)

    def _rank(self, contender: Contender) -> Rank:
        account = contender.account
        share = dominant(account.quantities, self._scale)
        return share, account.charges, contender.framework

    def _role_rank(self, role: _Role) -> Rank:
        share = dominant(role.account.quantities, self._scale) * role.factor
        return share, role.account.charges, role.name

    # --- granting ---------------------------------------------------------------------------------

    def _grant(self, contender: Contender, agent: str, resources: Resources) -> None:
        pair = (contender.framework, agent)
        self._grants[pair] = self._grants.get(pair, EMPTY) + resources
        self._free[agent] = self._free[agent] - resources
        quantities = resources.quantities()
        for account in (contender.account, contender.role.account):
            account.add(quantities)
            account.charges += 1
        if contender.left is not None and contender.task is not None:
            tasks = min(contender.left, resources.count_fitting(contender.task))
            contender.left -= tasks
            self._tasks[pair] = self._tasks.get(pair, 0) + tasks

    def _take_back(self, pair: tuple[str, str]) -> None:
        framework, agent = pair
        resources = self._grants.pop(pair)
        contender = self._contenders[framework]
        self._excluded[pair] = None
        self._free[agent] = self._free[agent] + resources
        for account in (contender.account, contender.role.account):
            account.add(resources.quantities(), -1)
        if contender.left is not None:
            contender.left += self._tasks.pop(pair, 0)

    def _usable(self, contender: Contender, agent: str) -> Resources:
        return self._free[agent].allocatable_to(contender.role.name)

    def _wants(self, contender: Contender, agent: str) -> bool:
        """Whether the contender may be offered all that it could use of the agent."""
        pair = (contender.framework, agent)
        if pair in self._excluded:
            return False
        usable = self._usable(contender, agent)
        if not is_offerable(usable):
            return False
        have = self._grants.get(pair)
        return not self._refuses(*pair, usable if have is None else have + usable)

    # --- filling ----------------------------------------------------------------------------------

    def fill(self) -> None:
        """Fill tier after tier."""
        for tier in self._tiers:
            while True:
                before = dict(self._grants)
                self._fill_once(tier)
                changed = [pair for pair, r in self._grants.items() if before.get(pair) != r]
                refused = [p for p in changed if self._refuses(*p, self._grants[p])]
                if not refused:
                    break
                for pair in refused:
                    self._take_back(pair)

    def _fill_once(self, tier: list[Contender]) -> None:
        for contender in tier:
            contender.agents = []
            contender.at = 0
        for agent, free in self._free.items():
            if not is_offerable(free):
                continue
            able = [c for c in tier if self._fits(c, agent) and self._wants(c, agent)]
            if len(able) == 1:
                self._grant(able[0], agent, self._usable(able[0], agent))
            else:
                for contender in able:
                    contender.agents.append(agent)
        rivals = [contender for contender in tier if contender.agents]
        for place, contender in enumerate(rivals):
            # Everyone begins on other agents, or each agent would go in crumbs to all of them.
            start = place * len(contender.agents) // len(rivals)
            contender.agents = contender.agents[start:] + contender.agents[:start]
        self._contest(rivals)

    def _fits(self, contender: Contender, agent: str) -> bool:
        task = contender.task
        return task is None or self._usable(contender, agent).count_fitting(task) > 0

    def _contest(self, contenders: list[Contender]) -> None:
        """Give the next piece to the lowest share until no piece fits."""
        roles: dict[str, _Role] = {}
        for contender in contenders:
            role = roles.setdefault(contender.role.name, contender.role)
            role.queue.append((self._rank(contender), contender))
        for role in roles.values():
            heapq.heapify(role.queue)
        queue = [(self._role_rank(role), role) for role in roles.values()]
        heapq.heapify(queue)
        # Ranks end in a name that occurs once, so the objects behind them are never compared.
        while queue:
            role = queue[0][1]
            contender = role.queue[0][1]
            alone = len(queue) == 1 and len(role.queue) == 1
            found = self._next_piece(contender, alone)
            if found is None:
                heapq.heappop(role.queue)
                if not role.queue:
                    heapq.heappop(queue)
                continue
            self._grant(contender, *found)
            heapq.heapreplace(role.queue, (self._rank(contender), contender))
            heapq.heapreplace(queue, (self._role_rank(role), role))

    def _next_piece(self, contender: Contender, alone: bool) -> tuple[str, Resources] | None:
        """The first agent that has a piece for the contender, with the piece.

        Free resources only shrink within a contest, so an agent that was passed stays passed.
        """
        while contender.at < len(contender.agents):
            agent = contender.agents[contender.at]
            piece = self._piece(contender, self._usable(contender, agent), alone)
            if piece is not None:
                return agent, piece
            contender.at += 1
        return None

    def _piece(self, contender: Contender, usable: Resources, alone: bool) -> Resources | None:
        task = contender.task
        if task is None:
            return usable if is_offerable(usable) else None
        if contender.left == 0:
            return None
        if not alone:
            return usable.take(task)
        # Nobody else is left to take turns with: all pieces of this agent at once.
        count = usable.count_fitting(task)
        if contender.left is not None:
            count = min(count, contender.left)
        return usable.take(task.times(count)) if count else None

    # --- what is left -----------------------------------------------------------------------------

    def finish(self) -> list[Grant]:
        """Hand out what fits nobody's task, and return all grants."""
        for agent, free in self._free.items():
            if is_offerable(free):
                self._give_rest(agent)
        self._give_without_share()
        return [
            Grant(framework, self._contenders[framework].role.name, agent, resources)
            for (framework, agent), resources in self._grants.items()
        ]

    def _lowest(self, contenders: list[Contender]) -> Contender:
        return min(contenders, key=lambda c: (self._role_rank(c.role), self._rank(c)))

    def _give_rest(self, agent: str) -> None:
        for tier in self._tiers:
            able = [c for c in tier if c.left != 0 and self._wants(c, agent)]
            if not able:
                continue
            lowest = self._lowest(able)
            usable = self._usable(lowest, agent)
            # One that refuses it for a moment is a rival all the same: what is offered counts, and
            # would leave to that rival all that becomes free meanwhile.
            is_alone = not any(c.left != 0 and c is not lowest for c in tier)
            if is_alone or self._is_one_task(lowest, usable):
                self._grant(lowest, agent, usable)
                return

    def _is_one_task(self, contender: Contender, resources: Resources) -> bool:
        """Whether the resources raise the share by no more than one task of the contender."""
        if contender.task is None:
            return True
        step = dominant(contender.task.quantities(), self._scale)
        return dominant(resources.quantities(), self._scale) <= step

    def _give_without_share(self) -> None:
        holders: dict[str, list[Contender]] = {}
        for framework, agent in self._grants:
            holders.setdefault(agent, []).append(self._contenders[framework])
        for agent, contenders in holders.items():
            rest = self._free[agent].without_scalars()
            if not rest:
                continue
            lowest = self._lowest(contenders)
            part = rest.allocatable_to(lowest.role.name)
            pair = (lowest.framework, agent)
            if part and not self._refuses(*pair, self._grants[pair] + part):
                self._grants[pair] = self._grants[pair] + part
                self._free[agent] = self._free[agent] - part
