"""Which tasks of one agent have to end so that another one fits: the fewest, then the youngest.

Pure: whoever asks says what is coming free anyway, and which tasks may be taken at all.

Rules:
- As few as possible. Among as many: those of the lowest level, then the youngest; of two choices
  the one whose worst task (by level, then age) is less worth counts.
- Of a role with a guarantee only what it holds beyond it.
- Nothing at all if all of them together would not make it fit.
To find the fewest is a covering problem in several resources: exact by branch and bound, since the
tasks of an agent are of few sizes. A search that takes more than SEARCH_STEPS_MAX steps ends with
the best choice that is known by then, of which no task can be left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mesosctl.model.resources import EMPTY, Resources

SEARCH_STEPS_MAX = 3_000

# How much worse it is to take a task: its level, then its age.
Worth = tuple[tuple[int, int], int]
# What roles of the top hold beyond their guarantees, in thousandths by name.
Spares = Mapping[str, Mapping[str, int]]


class Candidate(NamedTuple):
    """A task that may be revoked.

    `level`: those of lower ones go first. `age`: the youngest has the least. `top`: the top of its
    role, whose guarantee is kept; empty for a task of those for whom it would be revoked.
    """

    framework: str
    task: str
    resources: Resources
    level: tuple[int, int] = (0, 0)
    age: int = 0
    top: str = ""

    @property
    def worth(self) -> Worth:
        """What choices are compared by."""
        return self.level, self.age


def cost(chosen: Iterable[Candidate]) -> list[Worth]:
    """How dear a choice is among those of as many tasks: its worst task first."""
    return sorted((one.worth for one in chosen), reverse=True)


def fewest(
    free: Resources,
    need: Resources,
    role: str,
    candidates: Sequence[Candidate],
    spares: Spares | None = None,
    most: int | None = None,
) -> tuple[Candidate, ...] | None:
    """The tasks to revoke so that `need` fits into what is free for `role`; none if it fits now.

    None when it cannot be made to fit, or not with `most` tasks at the most.
    """
    if free.allocatable_to(role).take(need) is not None:
        return ()
    return _Search(free, need, role, candidates, spares or {}).run(most)


class _Group:
    """Tasks that are alike but for their age, the youngest first."""

    __slots__ = ("amounts", "first", "members", "plain")

    def __init__(self, first: Candidate, amounts: tuple[int, ...]) -> None:
        self.first = first
        self.amounts = amounts
        self.members = [first]
        # What counts against the guarantee of its role.
        self.plain = first.resources.unreserved().quantities()


class _Search:
    """One search; make it, `run` it once."""

    def __init__(
        self,
        free: Resources,
        need: Resources,
        role: str,
        candidates: Sequence[Candidate],
        spares: Spares,
    ) -> None:
        self._free, self._need, self._role = free, need, role
        have = free.allocatable_to(role).quantities()
        wanted = need.quantities()
        self._names = [name for name, amount in wanted.items() if have.get(name, 0) < amount]
        self._lack = tuple([wanted[name] - have.get(name, 0) for name in self._names])
        # A port that is taken, or a reservation, no amount tells of.
        self._is_exact = need.is_plain_scalar()
        self._others = [name for name in need.names() if name not in wanted]
        self._spares = {top: dict(names) for top, names in spares.items()}
        self._groups = self._grouped(candidates)
        self._most = [self._suffix(at) for at in range(len(self._groups))]
        self._chosen: list[Candidate] = []
        self._best: tuple[list[Worth], tuple[Candidate, ...]] | None = None
        self._steps = 0

    def _grouped(self, candidates: Sequence[Candidate]) -> list[_Group]:
        groups: dict[tuple[Resources, tuple[int, int], str], _Group] = {}
        for one in sorted(candidates, key=lambda one: (one.worth, one.framework, one.task)):
            usable = one.resources.allocatable_to(self._role)
            held = usable.quantities()
            amounts = tuple([held.get(name, 0) for name in self._names])
            if not any(amounts) and not any(name in usable.names() for name in self._others):
                continue
            key = one.resources, one.level, one.top
            if key in groups:
                groups[key].members.append(one)
            else:
                groups[key] = _Group(one, amounts)
        return list(groups.values())

    def _suffix(self, at: int) -> list[list[int]]:
        """By name, how much the first 0, 1, 2, … best tasks of the groups from `at` on free."""
        sums = []
        for place in range(len(self._names)):
            amounts = sorted(
                (group.amounts[place] for group in self._groups[at:] for _ in group.members),
                reverse=True,
            )
            total, found = 0, [0]
            for amount in amounts:
                total += amount
                found.append(total)
            sums.append(found)
        return sums

    def run(self, most: int | None) -> tuple[Candidate, ...] | None:
        """The choice; see `fewest`."""
        known = sum(len(group.members) for group in self._groups)
        last = known if most is None else min(known, most)
        for count in range(self._least(), last + 1):
            self._extend(0, count, self._lack)
            if self._best is not None:
                return self._best[1]
            if self._steps > SEARCH_STEPS_MAX:
                found = self._plain_choice()
                return found if found is None or len(found) <= last else None
        return None

    def _least(self) -> int:
        """With fewer tasks than that it cannot fit; more than there are if it never does."""
        least = 1
        for sums, amount in zip(self._most[0] if self._most else (), self._lack, strict=False):
            least = max(least, bisect_left(sums, amount))
        return least

    def _extend(self, at: int, left: int, lack: tuple[int, ...]) -> None:
        """Try every way to choose `left` more tasks of the groups from `at` on."""
        self._steps += 1
        worst = max((one.worth for one in self._chosen), default=None)
        if self._best is not None and worst is not None and worst > self._best[0][0]:
            return
        if not left:
            if all(amount <= 0 for amount in lack) and (self._is_exact or self._fits(self._chosen)):
                found = cost(self._chosen)
                if self._best is None or found < self._best[0]:
                    self._best = found, tuple(self._chosen)
            return
        if at == len(self._groups) or self._steps > SEARCH_STEPS_MAX:
            return
        for place, amount in enumerate(lack):
            sums = self._most[at][place]
            if sums[min(left, len(sums) - 1)] < amount:
                return
        group = self._groups[at]
        for count in range(min(left, self._allowed(group)), -1, -1):
            rest = tuple(
                [lacking - count * has for lacking, has in zip(lack, group.amounts, strict=True)]
            )
            self._take(group, count, 1)
            self._extend(at + 1, left - count, rest)
            self._take(group, count, -1)

    def _allowed(self, group: _Group) -> int:
        """How many of a group may be taken besides what is chosen."""
        many = len(group.members)
        spare = self._spares.get(group.first.top)
        for name, amount in group.plain.items() if spare is not None else ():
            if spare is not None and name in spare:
                many = min(many, max(0, spare[name]) // amount)
        return many

    def _take(self, group: _Group, count: int, sign: int) -> None:
        if sign > 0:
            self._chosen += group.members[:count]
        elif count:
            del self._chosen[-count:]
        spare = self._spares.get(group.first.top)
        if spare is not None:
            for name, amount in group.plain.items():
                if name in spare:
                    spare[name] -= sign * count * amount

    def _fits(self, chosen: Iterable[Candidate]) -> bool:
        free = sum((one.resources for one in chosen), self._free)
        return free.allocatable_to(self._role).take(self._need) is not None

    def _plain_choice(self) -> tuple[Candidate, ...] | None:
        """In order until it fits, without those that it would fit without."""
        taken: list[Candidate] = []
        for group in self._groups:
            many = self._allowed(group)
            self._take(group, many, 1)
            taken += group.members[:many]
        if not self._fits(taken):
            return None
        for one in sorted(taken, key=lambda one: one.worth, reverse=True):
            rest = [other for other in taken if other is not one]
            if self._fits(rest):
                taken = rest
        return tuple(taken)


def freed(chosen: Iterable[Candidate]) -> Resources:
    """What these give back together."""
    return sum((one.resources for one in chosen), EMPTY)
