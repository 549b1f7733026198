"""Why a task is where it is, for people and programs.

Rules: there is always at least one reason. The first one is what listings show. Texts are one line
each, with the numbers in them; the numbers themselves are in `fit` and in the task.
"""

from __future__ import annotations

from mesosctl.model.fit import Fit, Need
from mesosctl.model.jobs import TaskView
from mesosctl.model.records import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason: a stable word, and a sentence."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """From `at` on, in wall seconds, a task waited for this; or then this befell its attempt."""

    at: float
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """One task, and how many of its job are in the same state for the same reason (`alike`).

    `verdict`, of one that waits: `now`, `idle` or `never` (see model.fit); empty: nobody knows.
    `jobs_before` and `tasks_before` are served first. `fit` is what the master says of `need`; None
    when it was not asked or does not answer. `advice`: what would help. `history`: the last changes
    of its reason, oldest first.
    """

    task: TaskView
    causes: tuple[Cause, ...]
    alike: int = 1
    verdict: str = ""
    advice: str = ""
    jobs_before: int = 0
    tasks_before: int = 0
    need: Need | None = None
    fit: Fit | None = None
    time_limit_s: float | None = None
    history: tuple[Change, ...] = ()
