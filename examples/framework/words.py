"""A framework with an executor of its own: one a agent, which every task there is handed to.

Each line of stdin is a task. One that begins with `!` is a command, which the executor starts in a
container of its own; of any other it counts the words. Prints a line for each task that ends.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mesosctl import api

EACH = api.Resources.parse("cpus:0.1;mem:32M")
ITSELF = api.Resources.parse("cpus:0.1;mem:64M")
EXECUTOR = api.Command((sys.executable, str(Path(__file__).with_name("executor.py").resolve())))
LOST = (api.TaskState.GONE, api.TaskState.DROPPED)


class Words(api.Scheduler):
    """Sees that there is an executor wherever it has a task."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.waiting = deque(lines)
        self.running: dict[api.TaskId, str] = {}
        # The executor of each agent; it is a task, whose end we are told like that of any other.
        self.executors: dict[str, api.TaskId] = {}
        self.started = 0

    @property
    def demand(self) -> api.Demand:
        """The first task on an agent brings the executor along."""
        return api.Demand(ITSELF + EACH, len(self.waiting))

    def registered(self, driver: api.Driver, framework_id: api.FrameworkId) -> None:
        """Ask for the state of what runs: after an absence of the master it may have ended."""
        driver.reconcile()

    def offers(self, driver: api.Driver, offers: Sequence[api.Offer]) -> None:
        """Fill each offer with tasks, after an executor where there is none."""
        for offer in offers:
            free, tasks = offer.resources, []
            lacks = bool(self.waiting) and offer.agent_id not in self.executors
            if lacks and free.take(ITSELF + EACH) and (part := free.take(ITSELF)):
                free = free - part
                task = self.task(offer, part, EXECUTOR)
                self.executors[offer.agent_id] = task.task_id
                tasks.append(replace(task, is_executor=True))
            executor = self.executors.get(offer.agent_id)
            while executor and self.waiting and (part := free.take(EACH)) is not None:
                free, line = free - part, self.waiting.popleft()
                words = () if line[:1] != "!" else ("/bin/sh", "-c", line[1:])
                task = self.task(offer, part, api.Command(words))
                self.running[task.task_id] = line
                data = None if words else line.encode()
                tasks.append(replace(task, executor=executor, data=data))
            driver.accept([offer], tasks)
        if not self.waiting:
            driver.suppress()

    def task(self, offer: api.Offer, part: api.Resources, command: api.Command) -> api.TaskInfo:
        """A task under a new id."""
        self.started += 1
        task_id = api.TaskId(f"words.{self.started}")
        return api.TaskInfo(task_id, task_id, offer.agent_id, part, command)

    def status(self, driver: api.Driver, update: api.StatusUpdate) -> None:
        """A task took a step, or an executor ended: then another is started with the next task."""
        if not update.is_terminal:
            return
        if self.executors.get(update.agent_id) == update.task_id:
            del self.executors[update.agent_id]
        line = self.running.pop(update.task_id, None)
        if line is not None and update.state in LOST:
            self.waiting.append(line)
            driver.revive(self.demand)
        elif line is not None:
            print(f"{update.state}: {update.message or update.exit_code}: {line}", flush=True)
        if not self.running and not self.waiting:
            driver.teardown()


if __name__ == "__main__":
    scheduler = Words(sys.stdin.read().splitlines())
    where, key = os.environ["MESOSCTL_MASTER"], os.environ["MESOSCTL_KEY"]
    if scheduler.waiting:
        sys.exit(
            api.Driver(
                scheduler, name="words", master=where, key=key, demand=scheduler.demand
            ).run()
        )
