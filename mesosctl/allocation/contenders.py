"""Who takes part in one allocation: frameworks on their walk over the agents (field.py).

Rules: these live as long as one Round (filling.py), which alone changes them.
"""

from __future__ import annotations

from mesosctl.allocation.ledger import stated_task
from mesosctl.allocation.tree import Node
from mesosctl.model.resources import EMPTY


class Contender:
    """An active framework within one allocation.

    It walks over the spots [0, span), from `start` to the end and then from 0 to `start`; what is
    free only shrinks meanwhile, so a spot that was passed stays passed.
    """

    __slots__ = (
        "at",
        "end",
        "excluded",
        "is_noted",
        "is_plain",
        "is_whole",
        "leaf",
        "left",
        "looked_at",
        "name",
        "quantities",
        "role",
        "span",
        "start",
        "task",
    )

    def __init__(self, leaf: Node, role: str, span: int, start: int) -> None:
        client = leaf.client
        self.leaf = leaf
        self.name = leaf.name
        self.role = role
        self.task = stated_task(client)
        self.quantities = self.task.quantities() if self.task is not None else EMPTY.quantities()
        self.is_plain = self.task is not None and self.task.is_plain_scalar()
        self.left = None if self.task is None or client is None else client.count
        # Whether agents go to it whole, as many as its tasks need.
        self.is_whole = False
        self.span = span
        self.start = start
        self.excluded: dict[int, None] = {}
        # Whether what it held before the round is noted.
        self.is_noted = False
        self.rewind()

    def rewind(self) -> None:
        """Begin the walk again."""
        self.at = self.start
        self.end = self.span
        self.looked_at = -1
