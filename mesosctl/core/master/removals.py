"""How many agents may be counted as unreachable at once: what unreachable.py spends."""

from __future__ import annotations

from mesosctl.limits import UNREACHABLE_BURST, UNREACHABLE_EVERY_S
from mesosctl.model.records import dataclass


@dataclass(slots=True)
class Removals:
    """How many agents may be counted as unreachable now: a bucket of tokens, full at first.

    It holds `tokens` at `filled_at` monotonic seconds, gets one more every `every_s` seconds, and
    never holds more than `burst`. `is_told`: the operator knows that agents wait for tokens.
    """

    burst: int = UNREACHABLE_BURST
    every_s: float = UNREACHABLE_EVERY_S
    tokens: float = UNREACHABLE_BURST
    filled_at: float = 0.0
    is_told: bool = False

    def take(self, mono: float) -> bool:
        """Take a token; False when there is none."""
        gained = (mono - self.filled_at) / self.every_s
        self.tokens = min(float(self.burst), self.tokens + max(0.0, gained))
        self.filled_at = mono
        # What was divided and multiplied again may miss a whole one by a hair.
        if self.tokens < 1 - 1e-9:
            return False
        self.tokens -= 1
        return True

    def ready_at(self) -> float:
        """When there is a token, in monotonic seconds; in the past when there is one already."""
        return self.filled_at + (1 - self.tokens) * self.every_s
