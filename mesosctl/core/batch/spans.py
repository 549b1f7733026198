"""Array indices and the positions of tasks: the n-th task of a job has position n.

Rules: the ranges of a job are ascending and do not overlap, so that positions and indices have the
same order and a range of indices is a range of positions. A hundred thousand tasks are one tuple.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

Range = tuple[int, int, int]
INDEX_MAX = 2**31 - 1


def normal(ranges: Sequence[Range]) -> tuple[Range, ...]:
    """The same indices, each once, as ascending ranges (first, last, step) that do not overlap."""
    trimmed = [(first, first + (last - first) // step * step, step) for first, last, step in ranges]
    trimmed.sort()
    if all(left[1] < right[0] for left, right in pairwise(trimmed)):
        return tuple(trimmed)
    indices = sorted(
        {index for first, last, step in trimmed for index in range(first, last + 1, step)}
    )
    return tuple(_runs(indices))


def _runs(indices: Sequence[int]) -> Iterable[Range]:
    start = 0
    while start < len(indices):
        if start + 1 == len(indices):
            yield indices[start], indices[start], 1
            return
        step = indices[start + 1] - indices[start]
        end = start + 1
        while end + 1 < len(indices) and indices[end + 1] - indices[end] == step:
            end += 1
        if end == start + 1 and step > 1:
            # Two neighbours are no progression: the second may begin a longer one.
            end = start
            step = 1
        yield indices[start], indices[end], step
        start = end + 1


class Spans:
    """The indices of a job's tasks, looked up in both directions."""

    __slots__ = ("_firsts", "_ranges", "_starts", "count")

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = tuple(ranges)
        self._firsts = [first for first, _, _ in ranges]
        self._starts: list[int] = []
        total = 0
        for first, last, step in ranges:
            self._starts.append(total)
            total += (last - first) // step + 1
        self.count = total

    @property
    def first(self) -> int:
        """The lowest index."""
        return self._ranges[0][0]

    @property
    def last(self) -> int:
        """The highest index."""
        return self._ranges[-1][1]

    def index(self, position: int) -> int:
        """The index of the task at `position`, which must exist."""
        if len(self._ranges) == 1:
            first, _, step = self._ranges[0]
            return first + position * step
        number = bisect_right(self._starts, position) - 1
        first, _, step = self._ranges[number]
        return first + (position - self._starts[number]) * step

    def not_below(self, index: int) -> int:
        """The first position whose index is at least `index`; `count` when there is none."""
        number = bisect_right(self._firsts, index) - 1
        if number < 0:
            return 0
        first, last, step = self._ranges[number]
        into = -(-(index - first) // step)
        return self._starts[number] + min(into, (last - first) // step + 1)

    def position(self, index: int) -> int | None:
        """The position of `index`, None when the job has no such task."""
        position = self.not_below(index)
        if position < self.count and self.index(position) == index:
            return position
        return None

    def within(self, first: int, last: int) -> tuple[int, int] | None:
        """The first and the last position with an index in first..last; None when there is none."""
        low = self.not_below(first)
        high = self.not_below(last + 1) - 1
        return (low, high) if low <= high else None


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Closed ranges of positions, ascending and joined where they touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def gaps(first: int, last: int, taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of first..last is in none of the ascending ranges `taken`."""
    free = []
    at = first
    for low, high in taken:
        if high < at:
            continue
        if low > last:
            break
        if low > at:
            free.append((at, low - 1))
        at = high + 1
    if at <= last:
        free.append((at, last))
    return free
