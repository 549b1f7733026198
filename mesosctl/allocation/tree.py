"""The sorter: a tree of roles with frameworks as its leaves, kept in the order of Mesos' DRF.

The order among siblings: priority (higher first, if priorities count), dominant share over weight,
how often something was charged, name. A node holds what everything below it holds.

Rules:
- The frameworks of a role sit below a node `.` of it, of weight 1, beside the role's sub-roles.
- `order` lists the children that have an active framework below them, always sorted. So who is
  first is known without a search, and one charge moves one entry per level.
- A share is a correctly rounded quotient of integers: equal shares compare as equal.
- When the cluster's total changes every share does: `refresh` sorts anew, once for many changes.
Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011; the DRF sorter of Apache Mesos.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

from mesosctl.allocation.base import Client, RoleTerms
from mesosctl.errors import require

# Priority (negated), share over weight, number of charges, name. Names are unique among siblings.
Rank = tuple[int, float, int, str]
Snapshot = tuple[dict[str, int], int]


class Node:
    """A role, the frameworks of a role (`.`), or a framework (a leaf, with its `client`)."""

    __slots__ = (
        "at",
        "charges",
        "children",
        "client",
        "name",
        "order",
        "parent",
        "path",
        "quantities",
        "rank",
        "terms",
    )

    def __init__(self, name: str, path: str = "") -> None:
        self.name = name
        self.path = path
        self.parent: Node | None = None
        self.children: dict[str, Node] = {}
        self.order: list[tuple[Rank, Node]] = []
        # Children before this place are out of the running allocation (see filling.py).
        self.at = 0
        self.terms = RoleTerms()
        self.client: Client | None = None
        # Thousandths by name, and how often something was charged here or below.
        self.quantities: dict[str, int] = {}
        self.charges = 0
        self.rank: Rank = (0, 0.0, 0, name)

    def add(self, quantities: Mapping[str, int], sign: int = 1) -> None:
        """Add thousandths by name, or take them away with `sign` -1."""
        mine = self.quantities
        if sign > 0:
            for name, amount in quantities.items():
                mine[name] = mine[name] + amount if name in mine else amount
            return
        for name, amount in quantities.items():
            left = mine.get(name, 0) - amount
            if left:
                mine[name] = left
            else:
                mine.pop(name, None)


class RoleTree:
    """All roles and frameworks, in order."""

    # Whether the order is drawn instead (see lottery.py).
    by_lot = False

    def __init__(self, excluded: frozenset[str], by_priority: bool) -> None:
        self.root = Node("")
        self._excluded = excluded
        self._by_priority = by_priority
        self._terms: dict[str, RoleTerms] = {}
        self._totals: dict[str, int] = {}
        self._is_stale = False

    # --- the tree ---------------------------------------------------------------------------------

    def set_terms(self, role: str, terms: RoleTerms) -> None:
        """Set what the operator gave a role."""
        require(terms.weight_milli >= 1, f"role {role} has no positive weight")
        self._terms[role] = terms
        node = self.find(role)
        if node is not None:
            node.terms = terms
            self._move(node)

    def find(self, role: str) -> Node | None:
        """The node of a role that has a framework, itself or below it."""
        node: Node | None = self.root
        for part in role.split("/"):
            node = node.children.get(part) if node is not None else None
        return node

    def join(self, leaf: Node, role: str) -> None:
        """Hang a framework into its role, with all that it holds; not yet active."""
        node = self.root
        path = ""
        for part in (*role.split("/"), "."):
            path = f"{path}/{part}" if path else part
            child = node.children.get(part)
            if child is None:
                child = node.children[part] = Node(part, path)
                child.parent = node
                child.terms = self._terms.get(path, child.terms)
                child.rank = self._rank(child)
            node = child
        leaf.parent = node
        node.children[leaf.name] = leaf
        leaf.rank = self._rank(leaf)
        self._book_above(leaf, 1, leaf.charges)

    def leave(self, leaf: Node) -> None:
        """Take an inactive framework out, and the roles that are nobody's any more."""
        self._book_above(leaf, -1, 0)
        node = leaf.parent
        if node is None:
            return
        del node.children[leaf.name]
        leaf.parent = None
        while node.parent is not None and not node.children:
            del node.parent.children[node.name]
            node = node.parent

    def _book_above(self, leaf: Node, sign: int, charges: int) -> None:
        node = leaf.parent
        while node is not None and node.parent is not None:
            node.add(leaf.quantities, sign)
            node.charges += charges
            self._move(node)
            node = node.parent

    def activate(self, leaf: Node) -> None:
        """Let a framework take part, and its roles with it."""
        self.refresh()
        node: Node = leaf
        while node.parent is not None and not self._is_listed(node):
            order = node.parent.order
            was_active = bool(order)
            if len(order) == 1:
                only = order[0][1]
                only.rank = self._rank(only)
                order[0] = (only.rank, only)
            node.rank = self._rank(node)
            insort(order, (node.rank, node))
            if was_active:
                break
            node = node.parent

    def deactivate(self, leaf: Node) -> None:
        """Skip a framework from now on; what it holds counts on."""
        self.refresh()
        node: Node = leaf
        while node.parent is not None and self._is_listed(node):
            self._unlist(node.parent, node)
            if node.parent.order:
                break
            node = node.parent

    # --- what is held -----------------------------------------------------------------------------

    def book(self, leaf: Node, quantities: Mapping[str, int], sign: int, charges: int) -> None:
        """Add to what a framework holds, or take from it; `charges`: how many times at once."""
        if sign > 0 and not self._is_stale:
            self._grow(leaf, quantities, charges)
            return
        node: Node | None = leaf
        # Nobody competes with the root, so it keeps no sums.
        while node is not None and node is not self.root:
            node.add(quantities, sign)
            node.charges += charges
            parent = node.parent
            # An only child needs no rank; a round does this for every grant.
            if parent is not None and (len(parent.order) != 1 or parent.order[0][1] is not node):
                self._move(node)
            node = parent

    def _grow(self, leaf: Node, quantities: Mapping[str, int], charges: int) -> None:
        """Add to what a framework holds: a round does this for every grant.

        A share that grows is the larger of what it was and the shares of what was added.
        """
        totals, items = self._totals, quantities.items()
        node: Node | None = leaf
        while node is not None and node is not self.root:
            node.charges += charges
            parent, mine, rank = node.parent, node.quantities, node.rank
            if parent is None or len(parent.order) < 2:
                # An only child needs no rank.
                for name, amount in items:
                    mine[name] = mine[name] + amount if name in mine else amount
                node = parent
                continue
            share, weight_milli = rank[1], node.terms.weight_milli
            for name, amount in items:
                held = mine[name] = mine[name] + amount if name in mine else amount
                if name in totals:
                    if weight_milli == 1000:
                        part = held / totals[name]
                    else:
                        part = held * 1000 / (totals[name] * weight_milli)
                    if part > share:
                        share = part
            node.rank = rank[0], share, node.charges, rank[3]
            self._sink(parent, node, rank)
            node = parent

    def _sink(self, parent: Node, node: Node, old: Rank) -> None:
        """Give a node its place when it is behind where it was; nothing if it is not listed."""
        order, at = parent.order, parent.at
        # Whose turn it is in a round is who is charged next.
        if at >= len(order) or order[at][1] is not node:
            at = bisect_left(order, (old,))
            if at == len(order) or order[at][1] is not node:
                return
        entry = (node.rank, node)
        if at + 1 == len(order) or node.rank < order[at + 1][0]:
            order[at] = entry
        else:
            del order[at]
            insort(order, entry, at)

    def restore(self, journal: dict[Node, Snapshot]) -> None:
        """Put nodes back to what they held before."""
        for node, (quantities, charges) in journal.items():
            node.quantities = quantities
            node.charges = charges
            self._move(node)

    # --- the order --------------------------------------------------------------------------------

    def set_totals(self, totals: dict[str, int]) -> None:
        """What the cluster has; names that do not count, and those it has nothing of, left out."""
        self._totals = {n: a for n, a in totals.items() if a > 0 and n not in self._excluded}
        self._is_stale = True

    def refresh(self) -> None:
        """Sort everything anew if the total has changed."""
        if self._is_stale:
            self._is_stale = False
            self._sort(self.root)

    def begin_round(self) -> None:
        """Bring the order up to date for an allocation."""
        self.refresh()

    def _sort(self, node: Node) -> None:
        for child in node.children.values():
            child.rank = self._rank(child)
            self._sort(child)
        node.order = sorted((child.rank, child) for _, child in node.order)

    def leaves(self, node: Node | None = None) -> Iterator[Node]:
        """The active frameworks in order: siblings first, then inside. Change nothing meanwhile."""
        for _, child in (node or self.root).order:
            if child.client is not None:
                yield child
            else:
                yield from self.leaves(child)

    def place(self, leaf: Node) -> tuple[Rank, ...]:
        """A key that sorts frameworks of the whole tree into the order of `leaves`."""
        ranks = []
        node: Node | None = leaf
        while node is not None and node.parent is not None:
            ranks.append(node.rank)
            node = node.parent
        return tuple(reversed(ranks))

    def share(self, quantities: Mapping[str, int], weight_milli: int = 1000) -> float:
        """The dominant share over the weight: the largest share of any one resource."""
        largest = 0.0
        totals = self._totals
        if weight_milli == 1000:
            for name, amount in quantities.items():
                if name in totals and (share := amount / totals[name]) > largest:
                    largest = share
            return largest
        for name, amount in quantities.items():
            if name in totals:
                share = amount * 1000 / (totals[name] * weight_milli)
                if share > largest:
                    largest = share
        return largest

    def _rank(self, node: Node) -> Rank:
        terms = node.terms
        priority = 0
        if self._by_priority:
            priority = -(node.client.priority if node.client is not None else terms.priority)
        return priority, self.share(node.quantities, terms.weight_milli), node.charges, node.name

    def _is_listed(self, node: Node) -> bool:
        # A framework that leaves or joins is looked for once; ranks are those it was listed under.
        parent = node.parent
        if parent is None:
            return False
        at = bisect_left(parent.order, (node.rank,))
        return at < len(parent.order) and parent.order[at][1] is node

    def _unlist(self, parent: Node, node: Node) -> None:
        del parent.order[bisect_left(parent.order, (node.rank,))]

    def _move(self, node: Node) -> None:
        """Give a node the place among its siblings that its rank asks for now.

        An only child is first whatever its rank: it is ranked when it gets company (`activate`).
        """
        parent = node.parent
        if parent is None or self._is_stale:
            return
        order = parent.order
        if len(order) == 1 and order[0][1] is node:
            return
        old, node.rank = node.rank, self._rank(node)
        # Whose turn it is in a round is who is charged next.
        at = parent.at
        if at >= len(order) or order[at][1] is not node:
            at = bisect_left(order, (old,))
            if at == len(order) or order[at][1] is not node:
                return
        entry = (node.rank, node)
        is_before = at + 1 == len(order) or node.rank < order[at + 1][0]
        if is_before and (not at or order[at - 1][0] < node.rank):
            order[at] = entry
        else:
            del order[at]
            insort(order, entry)

    def check(self) -> None:
        """Recompute sums and orders of all nodes. Raises InvariantBroken where one is wrong."""
        self.refresh()
        self._check(self.root)

    def _check(self, node: Node) -> None:
        if node.client is not None:
            return
        held = Node("")
        for child in node.children.values():
            self._check(child)
            held.add(child.quantities)
            # Only among several listed ones does a rank matter.
            is_ranked = child.rank == self._rank(child) or not self._is_listed(child)
            require(is_ranked or len(node.order) == 1, f"the rank of {child.path} is wrong")
        is_right = held.quantities == node.quantities
        require(is_right or node.parent is None, f"role {node.path} is wrong")
        listed = [child for _, child in node.order]
        ranks = [rank for rank, _ in node.order]
        require(ranks == sorted(ranks), f"{node.path} is out of order")
        active = {id(c): None for c in node.children.values() if c.order or is_wanting(c)}
        require({id(c): None for c in listed} == active, f"{node.path} lists the wrong children")
        require(all(rank == c.rank for rank, c in node.order), f"{node.path} lists old ranks")


def is_wanting(node: Node) -> bool:
    """Whether this is a framework that may be granted something."""
    client = node.client
    return client is not None and client.active and client.count != 0
