"""What the operator of an agent chose, as far as its machine has to know."""

from __future__ import annotations

from dataclasses import field

from mesosctl.core.agent.records import Origin
from mesosctl.limits import LOG_KEEP_S, LOG_MAX_BYTES
from mesosctl.model.records import dataclass
from mesosctl.model.tasks import Command


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What its operator chose. `cleanup`: end what an earlier run left, then this process.

    `ends_tasks`: when it is told to stop, its tasks end with it instead of going on. `log_keep_s`:
    how long the sandbox of a task is kept after its end. `log_max_bytes`: what each stream in a
    sandbox may occupy. `origin`: whose agent it is. `anew`: after a cleanup it begins anew, for
    what an earlier run left is of another cluster.
    """

    root_tasks: bool = True
    cleanup: bool = False
    ends_tasks: bool = False
    log_keep_s: float = LOG_KEEP_S
    log_max_bytes: int = LOG_MAX_BYTES
    origin: Origin = field(default_factory=Origin)
    anew: bool = False

    def limit_of(self, command: Command) -> int:
        """What each stream of a task may occupy, in bytes: the smaller of both limits."""
        own = command.log_max_bytes
        return min(own, self.log_max_bytes) if own > 0 else self.log_max_bytes
