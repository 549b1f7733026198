"""Weighted lots over the tree of roles and the frameworks within a role: the policy `random`.

Whose turn it is, is drawn anew for every piece: among siblings each with the chance of its weight
over the sum of the weights of those that can use something. Nothing is held against anybody: who
holds most may win again, and only in the long run do weights decide the shares. Quota, guarantees,
reservations and filters hold as in `drf`; priorities of roles do not count.

How it is drawn: everybody waits for a time that is exponentially distributed with its weight as the
rate, and the shortest wait goes first; who won waits for one more. Since such times have no memory
each next piece goes to everyone with the chance of its weight, whoever won before.

Rules: this module has no chance of its own; it is given a source of it, so that the same source and
the same calls give the same grants.
Source: the random sorter of Apache Mesos; Efraimidis and Spirakis, "Weighted random sampling with a
reservoir", Information Processing Letters 97, 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import log

from mesosctl.allocation.drf import DrfAllocator
from mesosctl.allocation.tree import Node, Rank, RoleTree

# A number from 0 up to 1, which is never reached, all equally likely.
Draw = Callable[[], float]


class LotTree(RoleTree):
    """The tree in the order of how long everybody waits; what is held has no part in it."""

    by_lot = True

    def __init__(self, excluded: frozenset[str], draw: Draw) -> None:
        super().__init__(excluded, by_priority=False)
        self._draw = draw
        self._waits: dict[Node, float] = {}

    def begin_round(self) -> None:
        """Draw anew for all who are active; what is known of others is forgotten."""
        self.refresh()
        self._waits.clear()
        self._shuffle(self.root)

    def _shuffle(self, node: Node) -> None:
        for _, child in node.order:
            child.rank = self._rank(child)
            self._shuffle(child)
        node.order = sorted((child.rank, child) for _, child in node.order)

    def _rank(self, node: Node) -> Rank:
        if node not in self._waits:
            self._waits[node] = self._wait(node)
        return 0, self._waits[node], node.charges, node.name

    def _wait(self, node: Node) -> float:
        return -log(1.0 - self._draw()) * 1000 / node.terms.weight_milli

    def _grow(self, leaf: Node, quantities: Mapping[str, int], charges: int) -> None:
        """Add to what a framework holds: it won, and waits for one more turn."""
        node: Node | None = leaf
        while node is not None and node is not self.root:
            node.add(quantities)
            node.charges += charges
            parent, old = node.parent, node.rank
            if parent is not None and len(parent.order) > 1:
                self._waits[node] = old[1] + self._wait(node)
                node.rank = self._rank(node)
                self._sink(parent, node, old)
            node = parent


class RandomAllocator(DrfAllocator):
    """The policy `random` (see Allocator for the methods)."""

    def __init__(self, draw: Draw, excluded: Iterable[str] = ()) -> None:
        super().__init__(excluded)
        self.tree = LotTree(frozenset(excluded), draw)
