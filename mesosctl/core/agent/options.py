"""What the operator of an agent chose, as far as its machine has to know."""

from __future__ import annotations

from dataclasses import dataclass

from mesosctl.limits import LOG_KEEP_S


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What its operator chose. `cleanup`: end what an earlier run left, then this process.

    `ends_tasks`: when it is told to stop, its tasks end with it instead of going on. `log_keep_s`:
    how long the sandbox of a task is kept after its end.
    """

    root_tasks: bool = True
    cleanup: bool = False
    ends_tasks: bool = False
    log_keep_s: float = LOG_KEEP_S
