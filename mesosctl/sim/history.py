"""What the kernels of all simulated hosts saw: which task ran where and when, and how it ended.

Rules: it is written by hosts only, and it is what the judges believe.
"""

from __future__ import annotations

from collections.abc import Callable

from mesosctl.model.records import dataclass


@dataclass(slots=True)
class Run:
    """One start of one task, as the kernel saw it. Times in seconds of the world.

    `task_id` is that of the task behind that of its framework and a slash.
    """

    task_id: str
    host: str
    started_s: float
    ended_s: float | None = None
    exit_code: int | None = None
    signum: int | None = None
    # Beyond which limit it was seen to go, by the kernel or by whoever looked.
    exceeded: str = ""

    @property
    def name(self) -> str:
        """The task without the number of its attempt."""
        return self.task_id.rpartition(".")[0]

    @property
    def attempt(self) -> int:
        """Which attempt of its task it is."""
        return int(self.task_id.rpartition(".")[2])


class History:
    """All runs in the order of their starts, and by the id of their attempt."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.watchers: list[Callable[[Run], None]] = []
        self._by_id: dict[str, list[Run]] = {}

    def __len__(self) -> int:
        return len(self.runs)

    def of(self, task_id: str) -> list[Run]:
        """The runs of one attempt: at most one, if all is well."""
        return self._by_id.get(task_id, [])

    def begin(self, run: Run) -> None:
        """A task was started."""
        self.runs.append(run)
        self._by_id.setdefault(run.task_id, []).append(run)
        for watcher in self.watchers:
            watcher(run)
