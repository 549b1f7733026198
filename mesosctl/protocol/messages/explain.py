"""Why tasks wait, and how they ended: asked of the batch framework, and by it of the master."""

from __future__ import annotations

from mesosctl.model.explanations import Explanation
from mesosctl.model.fit import Fit, Need
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message, message


@message("how-fits")
@dataclass(frozen=True, slots=True)
class HowFits(Message):
    """A framework asks what keeps tasks with these needs waiting. `request` names the question."""

    request: str
    needs: tuple[Need, ...]


@message("fits")
@dataclass(frozen=True, slots=True)
class Fits(Message):
    """Answer to HowFits, need by need in their order; the last ones may be left out."""

    re: int
    request: str
    fits: tuple[Fit, ...]


@message("explain-tasks")
@dataclass(frozen=True, slots=True)
class ExplainTasks(Message):
    """Why are these tasks where they are? Of a job without a task named: its first of each kind."""

    selectors: tuple[str, ...]


@message("explained")
@dataclass(frozen=True, slots=True)
class Explained(Message):
    """Answer to ExplainTasks. `left_out`: how many of the selected jobs are not explained."""

    re: int
    explanations: tuple[Explanation, ...]
    left_out: int = 0
