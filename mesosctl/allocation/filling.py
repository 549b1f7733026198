"""One allocation: progressive filling of free resources, lowest weighted dominant share first.

Rules:
- The framework that is first in the tree's order takes the next piece: one task if it stated a
  size (no more pieces than its stated count), the whole of an agent if it did not. A framework that
  is active alone gets agents whole, as many as hold the tasks it stated. So of two
  frameworks with equal tasks and endless queues none gets ahead by more than one task, however much
  became free, and nobody is passed over on an agent that its task would have fitted on.
- What fits nobody's task goes to the lowest share if that puts it ahead by no more than one task.
  Ranges and sets cost no share: those left over on an agent go to the
  lowest share that was granted something there.
- A role gets nothing beyond its limit, nor of what is kept for guarantees of others: a task that
  would cross that does not fit, and an agent that goes whole goes as far (see rooms.py). Roles
  below their guarantees get what they lack first.
- What a framework refuses is asked of the final grant too: a piece of an agent may be refused where
  the whole was not. Such a grant is taken back and its framework sits out on that agent.
- Agents that did not change are shown only to frameworks that did (see ledger.py); one that no walk
  comes to costs nothing. Everyone begins on other agents, or each agent would go in crumbs to all.
  An agent that has nothing left for anybody is not met again; when none is left it is over.
The books are charged while it runs, because the order follows from them, and put back at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesosctl.allocation.base import Grant, Refuses, is_offerable
from mesosctl.allocation.contenders import Contender
from mesosctl.allocation.field import Field, Spot
from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.rooms import Rooms
from mesosctl.allocation.tree import Node, Snapshot
from mesosctl.model.resources import EMPTY, Resources


class Round:
    """The state of one allocation; make it, `run` it once."""

    def __init__(self, ledger: Ledger, refuses: Refuses) -> None:
        self._ledger = ledger
        self._tree = ledger.tree
        self._refuses = refuses
        self._active = len(ledger.active)
        fresh = sorted(ledger.changed_agents)
        self._fresh = len(fresh)
        names = ledger.open.after(fresh) if ledger.changed_frameworks else fresh
        self._field = Field(ledger.open, names, ledger.least_need())
        self._spots = self._field.spots
        self._contenders: dict[str, Contender] = {}
        self._journal: dict[Node, Snapshot] = {}
        self._rooms = Rooms(ledger.quota, ledger.spare)
        self._is_bounded = bool(self._rooms)
        self._moved: list[Node] = []

    def run(self) -> list[Grant]:
        """Divide, put the books back, and say who is to get what."""
        try:
            while True:
                if self._is_bounded and self._rooms.owes:
                    # Those below their guarantees choose first, or what is kept would be crumbs.
                    self._rooms.enter(first=True)
                    self._contest()
                    self._rooms.enter(first=False)
                self._contest()
                if not self._take_back_refused():
                    break
            self._give_rests()
            granted = self._field.granted()
            self._give_without_share(granted)
        finally:
            self._reset_walks()
            self._tree.restore(self._journal)
        self._settle(granted)
        roles = {name: contender.role for name, contender in self._contenders.items()}
        # As Grant(...) does, without its detour: a full round makes tens of thousands.
        new = tuple.__new__
        return [
            new(Grant, (framework, roles[framework], spot.agent, resources))
            for spot in granted
            for framework, resources in spot.grants.items()
        ]

    @property
    def looked_at(self) -> int:
        """How many agents it came to so far."""
        return len(self._spots)

    def _settle(self, granted: list[Spot]) -> None:
        """Note what the next allocation has to look at again."""
        ledger = self._ledger
        # What was granted and is not charged after all has to come again.
        ledger.changed_agents = {spot.agent: None for spot in granted}
        ledger.changed_frameworks = {}
        ledger.quota.surplus_left = self._rooms.surplus
        for contender in self._contenders.values():
            if contender.left == 0:
                ledger.sated[contender.name] = None

    # --- the order --------------------------------------------------------------------------------

    def _first(self) -> Node | None:
        """The framework whose turn it is."""
        node = self._tree.root
        while node.client is None:
            if node.at >= len(node.order):
                return None
            node = node.order[node.at][1]
        return node

    def _retire(self, leaf: Node) -> None:
        """The framework whose turn it is finds nothing more; nor do roles with none but such."""
        node = leaf.parent
        while node is not None:
            node.at += 1
            self._moved.append(node)
            if node.at < len(node.order):
                return
            node = node.parent

    def _reset_walks(self) -> None:
        for node in self._moved:
            node.at = 0
        self._moved.clear()
        for contender in self._contenders.values():
            contender.rewind()

    def _contender(self, leaf: Node) -> Contender:
        found = self._contenders.get(leaf.name)
        if found is None:
            is_changed = leaf.name in self._ledger.changed_frameworks
            span = len(self._field) if is_changed else self._fresh
            start = len(self._contenders) * span // self._active
            role = "" if leaf.client is None else leaf.client.role
            found = Contender(leaf, role, span, start)
            if self._active == 1:
                # Nobody else wants anything: agents go whole, so that it can place what comes next.
                found.is_whole = found.task is not None
            self._contenders[leaf.name] = found
        return found

    # --- granting ---------------------------------------------------------------------------------

    def _contest(self) -> None:
        """Give the next piece to the first in order until no piece fits."""
        left, contenders = self._active, self._contenders
        closed, size = self._field.next, len(self._field)
        while len(closed) < size:
            leaf = self._first()
            if leaf is None:
                break
            contender = contenders.get(leaf.name) or self._contender(leaf)
            found = self._next_piece(contender, left == 1)
            if found is None:
                self._retire(leaf)
                left -= 1
            else:
                self._grant(contender, *found)
        self._reset_walks()

    def _grant(self, contender: Contender, at: int, piece: Resources, tasks: int) -> None:
        spot = self._spots[at]
        is_task = tasks == 1 and not contender.is_whole
        self._charge(contender, contender.quantities if is_task else piece.quantities(), 1, 1)
        self._consume(contender, piece, 1)
        if contender.left is not None:
            contender.left -= tasks
        grants = spot.grants
        have = grants.get(contender.name)
        grants[contender.name] = piece if have is None else have + piece
        if piece is spot.free:
            spot.sure = not have and len(grants) == 1
            spot.free = EMPTY
            self._field.close(at)
            return
        spot.free = spot.free - piece
        self._field.close_if_full(at)

    def _charge(
        self, contender: Contender, quantities: Mapping[str, int], sign: int, charges: int
    ) -> None:
        if not contender.is_noted:
            contender.is_noted = True
            node = contender.leaf
            while node.parent is not None and node not in self._journal:
                self._journal[node] = (dict(node.quantities), node.charges)
                node = node.parent
        self._tree.book(contender.leaf, quantities, sign, charges)

    def _consume(self, contender: Contender, piece: Resources, sign: int) -> None:
        if self._is_bounded:
            self._rooms.consume(contender.role, piece.unreserved().quantities(), sign)

    def _usable(self, contender: Contender, spot: Spot) -> Resources:
        """What the contender's role may use of what is left, as far as quota allows."""
        usable = spot.free if spot.plain else spot.free.allocatable_to(contender.role)
        return self._rooms.cut(contender.role, usable) if self._is_bounded else usable

    def _is_blocked(self, contender: Contender) -> bool:
        needs = None if contender.task is None else contender.quantities
        return self._rooms.blocks(contender.role, needs)

    def _next_piece(self, contender: Contender, alone: bool) -> tuple[int, Resources, int] | None:
        """The next place that has a piece for the contender, the piece, and how many tasks it is.

        A piece of a contender that stated no size is of 0 tasks.
        """
        field = self._field
        while contender.left != 0 and not (self._is_bounded and self._is_blocked(contender)):
            at = contender.at
            if at in field.next:
                at = field.find(at)
            if at >= contender.end:
                if contender.end == contender.start or not contender.start:
                    return None
                contender.at, contender.end = 0, contender.start
                continue
            contender.at = at
            spot = self._spots.get(at) or field.meet(at)
            if spot is None:
                contender.at = field.skip(at)
                continue
            piece = self._piece(contender, at, spot, alone)
            if piece is not None:
                return at, *piece
            contender.at = at + 1
        return None

    def _piece(
        self, contender: Contender, at: int, spot: Spot, alone: bool
    ) -> tuple[Resources, int] | None:
        is_free = spot.plain and not self._is_bounded
        usable = spot.free if is_free else self._usable(contender, spot)
        task = contender.task
        if task is None:
            # What nobody has a part of yet is enough for an offer, or it were not open.
            is_good = (not spot.grants and usable is spot.free) or is_offerable(usable)
            return (usable, 0) if is_good and self._wants(contender, at, usable) else None
        count = 1
        if alone:
            # Nobody else is left to take turns with: all pieces of this agent at once.
            count = usable.count_fitting(task)
            count = count if contender.left is None else min(count, contender.left)
        if contender.is_whole:
            return (usable, count) if count and self._wants(contender, at, usable) else None
        if alone:
            piece = usable.take(task.times(count)) if count else None
        elif spot.plain and contender.is_plain:
            piece = task if usable.contains(task) else None
        else:
            piece = usable.take(task)
        if piece is None or not self._wants(contender, at, usable):
            return None
        return piece, count

    def _wants(self, contender: Contender, at: int, usable: Resources) -> bool:
        """Whether the contender may be offered all that it could use of the agent.

        Asked once on each visit: what is granted in the end is asked again.
        """
        if contender.looked_at == at:
            return True
        if at in contender.excluded:
            return False
        spot = self._spots[at]
        have = spot.grants.get(contender.name) if spot.grants else None
        if self._refuses(contender.name, spot.agent, usable if have is None else have + usable):
            return False
        contender.looked_at = at
        return True

    def _take_back_refused(self) -> bool:
        """Take back the grants that are refused as they are now; whether there was any."""
        found = False
        unsure = [at for at, spot in self._spots.items() if spot.grants and not spot.sure]
        for at in sorted(unsure):
            spot = self._spots[at]
            for name, resources in list(spot.grants.items()):
                if self._refuses(name, spot.agent, resources):
                    self._take_back(self._contenders[name], at)
                    found = True
        if found:
            self._field.reopen()
        return found

    def _take_back(self, contender: Contender, at: int) -> None:
        spot = self._spots[at]
        resources = spot.grants.pop(contender.name)
        contender.excluded[at] = None
        spot.free = spot.free + resources
        self._charge(contender, resources.quantities(), -1, 0)
        self._consume(contender, resources, -1)
        if contender.left is not None and contender.task is not None:
            contender.left += resources.count_fitting(contender.task)

    # --- what is left -----------------------------------------------------------------------------

    def _give_rests(self) -> None:
        """Hand out what fits nobody's task; where much is left most have all they asked for."""
        for first, end in ((0, self._fresh), (self._fresh, len(self._field))):
            order: list[Node] | None = None
            for at in range(first, end):
                if at not in self._spots:
                    self._field.meet(at)
                if not is_offerable(self._spots[at].free):
                    continue
                if end == 1:
                    self._give_rest(at, self._tree.leaves())
                    continue
                if order is None:
                    order = self._unsated(end == self._fresh)
                if not order:
                    break
                if self._give_rest(at, order):
                    order.sort(key=self._tree.place)

    def _unsated(self, is_fresh: bool) -> list[Node]:
        """Those to whom an agent is shown and who may have more, in order."""
        shown = self._ledger.active if is_fresh else self._ledger.changed_frameworks
        leaves = [leaf for leaf in self._tree.leaves() if leaf.name in shown]
        return [leaf for leaf in leaves if self._contender(leaf).left != 0]

    def _give_rest(self, at: int, leaves: Iterable[Node]) -> bool:
        """Whether somebody got what is left of this agent."""
        lowest, usable = self._lowest_who_wants(at, leaves)
        if lowest and self._is_one_task(lowest, usable):
            spot = self._spots[at]
            spot.grants[lowest.name] = spot.grants.get(lowest.name, EMPTY) + usable
            spot.free = spot.free - usable
            self._charge(lowest, usable.quantities(), 1, 1)
            self._consume(lowest, usable, 1)
            return True
        return False

    def _lowest_who_wants(
        self, at: int, leaves: Iterable[Node]
    ) -> tuple[Contender | None, Resources]:
        spot = self._spots[at]
        for leaf in leaves:
            contender = self._contender(leaf)
            if contender.left == 0:
                continue
            usable = self._usable(contender, spot)
            contender.looked_at = -1
            if is_offerable(usable) and self._wants(contender, at, usable):
                return contender, usable
        return None, EMPTY

    def _is_one_task(self, contender: Contender, resources: Resources) -> bool:
        """Whether the resources raise the share by no more than one task of the contender."""
        if contender.task is None:
            return True
        share = self._tree.share
        return share(resources.quantities()) <= share(contender.quantities)

    def _give_without_share(self, granted: list[Spot]) -> None:
        for spot in granted:
            if spot.free is EMPTY:
                continue
            rest = spot.free.without_scalars()
            if not rest:
                continue
            holders = [self._contenders[name] for name in spot.grants]
            lowest = min(holders, key=lambda c: self._tree.place(c.leaf))
            part = rest.allocatable_to(lowest.role)
            wanted = spot.grants[lowest.name] + part
            if part and not self._refuses(lowest.name, spot.agent, wanted):
                spot.grants[lowest.name] = wanted
                spot.free = spot.free - part
