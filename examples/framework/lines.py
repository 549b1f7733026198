"""A framework of one's own: every line of stdin is a shell command, and each becomes a task.

Prints a line for each task that ends; the exit code is how many failed, 100 at the most.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence

from mesosctl.api import (
    Command,
    Demand,
    Driver,
    FrameworkId,
    Offer,
    Resources,
    Scheduler,
    StatusUpdate,
    TaskId,
    TaskInfo,
    TaskState,
)

EACH = Resources.parse("cpus:0.5;mem:64M")
# The task did not fail, its agent did: it is started once more, under a new id.
LOST = (TaskState.GONE, TaskState.DROPPED)


class Lines(Scheduler):
    """Starts each line once, and again when it was lost."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.waiting = deque(enumerate(lines))
        self.running: dict[TaskId, tuple[int, str]] = {}
        self.failed = self.started = 0

    @property
    def demand(self) -> Demand:
        """What it could use: so many tasks of one size."""
        return Demand(EACH, len(self.waiting))

    def registered(self, driver: Driver, framework_id: FrameworkId) -> None:
        """Ask for the state of what runs: after an absence of the master it may have ended."""
        driver.reconcile()

    def offers(self, driver: Driver, offers: Sequence[Offer]) -> None:
        """Cut each offer into tasks; what is left of it goes back in the same step."""
        for offer in offers:
            free, tasks = offer.resources, []
            while self.waiting and (part := free.take(EACH)) is not None:
                free = free - part
                tasks.append(self.task(offer, part))
            driver.accept([offer], tasks)
        if not self.waiting:
            driver.suppress()

    def task(self, offer: Offer, part: Resources) -> TaskInfo:
        """The next line as a task."""
        number, line = self.waiting.popleft()
        self.started += 1
        task_id = TaskId(f"line{number}.{self.started}")
        self.running[task_id] = (number, line)
        command = Command(("/bin/sh", "-c", line), env={"LINE": str(number)})
        return TaskInfo(task_id, f"line{number}", offer.agent_id, part, command)

    def status(self, driver: Driver, update: StatusUpdate) -> None:
        """A task took a step."""
        if not update.is_terminal or update.task_id not in self.running:
            return
        number, line = self.running.pop(update.task_id)
        if update.state in LOST:
            self.waiting.append((number, line))
            driver.revive(self.demand)
            return
        self.failed += update.state is not TaskState.FINISHED
        print(f"{number} {update.state} {update.exit_code} {line}", flush=True)
        if not self.running and not self.waiting:
            driver.teardown()


if __name__ == "__main__":
    scheduler = Lines(sys.stdin.read().splitlines())
    where, key = os.environ["MESOSCTL_MASTER"], os.environ["MESOSCTL_KEY"]
    if scheduler.waiting:
        driver = Driver(scheduler, name="lines", master=where, key=key, demand=scheduler.demand)
        code = driver.run()
        sys.exit(code or min(scheduler.failed, 100))
