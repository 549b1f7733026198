"""The flow of bytes into one task's standard input: what was accepted, what the task has taken.

Rules: offsets count from the first byte of the stream. What comes twice is taken once, what leaves
a gap is not taken at all, and never more than a window waits here; in each of these cases the
sender is told how far we are and sends again from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesosctl.limits import STREAM_WINDOW_BYTES


@dataclass(slots=True)
class StdinFlow:
    """Everything below `accepted` is here or written, everything below `taken` is written."""

    taken: int = 0
    accepted: int = 0
    ended: bool = False
    closed: bool = False
    started: bool = False
    early: list[tuple[bytes, bool]] = field(default_factory=list)

    def accept(self, offset: int, data: bytes, eof: bool) -> tuple[bytes, bool] | None:
        """The part that is new, and whether the stream ends with it; None when nothing is new."""
        known = self.accepted - offset
        if known < 0 or self.ended or self.closed or (known > len(data)):
            return None
        room = STREAM_WINDOW_BYTES - (self.accepted - self.taken)
        fresh = data[known : known + room]
        ends = eof and known + len(fresh) == len(data)
        if not fresh and not ends:
            return None
        self.accepted += len(fresh)
        self.ended = ends
        if not self.started:
            self.early.append((fresh, ends))
        return fresh, ends

    def start(self) -> list[tuple[bytes, bool]]:
        """The task runs: what came before it did."""
        self.started = True
        early, self.early = self.early, []
        return early
