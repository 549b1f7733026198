"""Who is offered what becomes free before a framework, or instead of it, and by which rule.

Reads the books of a Ledger and changes nothing that anybody sees: sums that are kept for the next
allocation are settled now.
"""

from __future__ import annotations

from mesosctl.allocation.ledger import Ledger
from mesosctl.allocation.tree import Node
from mesosctl.model.fit import Footing, Rival
from mesosctl.model.resources import Resources

RIVALS_MAX = 5


def rivals(ledger: Ledger, framework: str) -> tuple[Rival, ...]:
    """Those before an active framework, the first ones first, each role or framework once.

    Where it is drawn who goes first that is all others that are active.
    """
    ledger.settle_total()
    ledger.tree.refresh()
    leaf = ledger.active.get(framework)
    if leaf is None:
        return ()
    found: dict[str, Rival] = {}
    path, by_lot = path_to(leaf), ledger.tree.by_lot
    for other in ledger.tree.leaves():
        if other is leaf and by_lot:
            continue
        if other is leaf or len(found) == RIVALS_MAX:
            break
        pair = parting(path_to(other), path)
        theirs, ours = (_footing(ledger, node) for node in pair)
        rule = "Lot" if by_lot else "Share" if pair[0].rank[0] == pair[1].rank[0] else "Priority"
        found.setdefault(theirs.name, Rival(rule, theirs, ours))
    return tuple(found.values())


def is_due(ledger: Ledger, framework: str, task: Resources, other: str) -> bool:
    """Whether a framework that got this as well would have no larger share than another has now.

    True in any case for one that holds nothing, or whose priority is higher.
    """
    ledger.settle_total()
    ledger.tree.refresh()
    leaf, rival = ledger.active.get(framework), ledger.active.get(other)
    if leaf is None or rival is None:
        return False
    if not leaf.quantities:
        return True
    ours, theirs = parting(path_to(leaf), path_to(rival))
    if ours.rank[0] != theirs.rank[0]:
        return ours.rank[0] < theirs.rank[0]
    grown = dict(ours.quantities)
    for name, amount in task.quantities().items():
        grown[name] = grown.get(name, 0) + amount
    share = ledger.tree.share
    return share(grown, ours.terms.weight_milli) <= share(
        theirs.quantities, theirs.terms.weight_milli
    )


def parting(path: list[Node], other: list[Node]) -> tuple[Node, Node]:
    """Where the ways to two frameworks part: the siblings that are compared."""
    return next(pair for pair in zip(path, other, strict=False) if pair[0] is not pair[1])


def path_to(leaf: Node) -> list[Node]:
    """The nodes from the top of the tree down to a framework."""
    nodes: list[Node] = []
    node: Node | None = leaf
    while node is not None and node.parent is not None:
        nodes.append(node)
        node = node.parent
    return nodes[::-1]


def _footing(ledger: Ledger, node: Node) -> Footing:
    share = ledger.tree.share
    by_name = {name: share({name: amount}) for name, amount in node.quantities.items()}
    dominant = max(by_name, key=lambda name: by_name[name], default="")
    client = node.client
    return Footing(
        node.path.removesuffix("/.") if client is None else node.name,
        int(1000 * by_name.get(dominant, 0.0)),
        dominant,
        node.terms.weight_milli,
        node.terms.priority if client is None else client.priority,
    )
