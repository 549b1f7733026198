"""The judges: invariants over what happened and what is left, each by its number.

I1 a job that was accepted is kept, once, and ends; I2 no two attempts of a task overlap, one of
`--once` starts once; I3 an end is never taken back; I4 nothing is given out twice (the machines'
own check() after each pass, and here the hosts); I5 what is told of an end is what happened; I9 an
offer is used once. A violation raises InvariantBroken with the number.
"""

from __future__ import annotations

import itertools
from typing import Any

from mesosctl.core.machine import Effect, Event, Received, Send
from mesosctl.errors import require
from mesosctl.model.jobs import ENDED, BatchState
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.framework import Accept
from mesosctl.sim.cluster import AGENT_TOTAL, Cluster
from mesosctl.sim.hosts import Run
from mesosctl.sim.world import Node

_ENDED_WORDS = frozenset(str(state) for state in ENDED)


class Judges:
    """Watches a cluster pass by pass, and sums up at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._used_offers: dict[str, None] = {}
        self._ended: dict[str, str] = {}
        cluster.world.watchers.append(self.watch)

    def watch(self, node: Node, event: Event, effects: list[Effect]) -> None:
        """Judge one pass of one node."""
        if node is self.cluster.master:
            self._offers_once(event, effects)
        if node is self.cluster.framework:
            self._ends_stay(node)
        self._hosts_not_overcommitted()
        if len(self.cluster.history) != getattr(self, "_runs_seen", 0):
            self._runs_seen = len(self.cluster.history)
            self._never_two_at_once()

    def _offers_once(self, event: Event, effects: list[Effect]) -> None:
        if not isinstance(event, Received) or not isinstance(event.envelope.message, Accept):
            return
        launched = any(
            isinstance(effect, Send) and isinstance(effect.envelope.message, LaunchTasks)
            for effect in effects
        )
        if launched:
            for offer_id in event.envelope.message.offer_ids:
                require(offer_id not in self._used_offers, f"I9: offer {offer_id} was used twice")
                self._used_offers[offer_id] = None

    def _ends_stay(self, node: Node) -> None:
        for key, row in node.tables().get("tasks", {}).items():
            state = str(row["state"])
            before = self._ended.get(key)
            require(before in (None, state), f"I3: task {key} was {before} and is {state}")
            if state in _ENDED_WORDS:
                self._ended[key] = state

    def _hosts_not_overcommitted(self) -> None:
        for host in self.cluster.hosts:
            live = [held for held in host.containers.values() if held.alive]
            cpus = sum(held.cpus_milli for held in live)
            memory = sum(held.mem_bytes for held in live)
            require(cpus <= AGENT_TOTAL.cpus_milli, f"I4: {host.agent.name} runs {cpus} mCPU")
            require(memory <= AGENT_TOTAL.mem_bytes, f"I4: {host.agent.name} runs {memory} bytes")

    def _never_two_at_once(self) -> None:
        runs: dict[str, list[Run]] = {}
        for run in self.cluster.history:
            runs.setdefault(run.task_id.rpartition(".")[0], []).append(run)
        for name, starts in runs.items():
            attempts = [int(run.task_id.rpartition(".")[2]) for run in starts]
            require(attempts == sorted(set(attempts)), f"I2: {name} ran as attempts {attempts}")
            for before, after in itertools.pairwise(starts):
                require(
                    before.ended_s is not None and before.ended_s <= after.started_s,
                    f"I2: {after.task_id} began while {before.task_id} ran",
                )

    # --- the end ----------------------------------------------------------------------------------
    def verdict(self) -> None:
        """Judge what is left when everything should have ended."""
        cluster = self.cluster
        tables = cluster.framework.tables()
        jobs = tables.get("jobs", {})
        for wish in cluster.plan.wishes:
            ids = cluster.accepted.get(wish.request_id, [])
            require(bool(ids), f"I1: {wish.request_id} was never accepted")
            require(len(set(ids)) == 1, f"I1: {wish.request_id} became jobs {ids}")
            require(ids[0] in jobs, f"I1: job {ids[0]} is not on disk")
        wanted = len(cluster.plan.wishes)
        require(len(jobs) == wanted, f"I1: {wanted} jobs were asked for, {len(jobs)} are there")
        require(cluster.is_quiet(), "I1: something has not ended: " + self._what_is_left())
        self._once_starts_once()
        for key, row in tables.get("tasks", {}).items():
            self._told_what_happened(key, row)

    def _what_is_left(self) -> str:
        machine: Any = self.cluster.framework.machine
        jobs = ["framework is down"]
        if machine is not None:
            jobs = [job.id for job in machine.queue.jobs.values() if not job.has_ended()]
        held = [name for host in self.cluster.hosts for name in host.containers]
        return f"jobs {jobs}, containers {held}"

    def _once_starts_once(self) -> None:
        for wish in self.cluster.plan.wishes:
            if wish.job.once:
                job = self.cluster.accepted[wish.request_id][0]
                starts: dict[str, int] = {}
                for run in self.cluster.history:
                    name = run.task_id.rpartition(".")[0]
                    if name.split(".")[0] == job:
                        starts[name] = starts.get(name, 0) + 1
                twice = [name for name, count in starts.items() if count > 1]
                require(not twice, f"I2: {twice} of --once started more than once")

    def _told_what_happened(self, key: str, row: dict[str, Any]) -> None:
        """I5: the end on record is that of the last attempt."""
        job, _, position = key.partition(".")
        wire = f"{job}.{position}.{row.get('attempt', 0)}"
        runs = [run for run in self.cluster.history if run.task_id == wire]
        state = BatchState(str(row["state"]))
        if state is BatchState.OK:
            require(
                len(runs) == 1 and runs[0].exit_code == 0,
                f"I5: {wire} is told to be ok and was {runs}",
            )
        if state is BatchState.FAILED and row.get("reason") == "Exited":
            require(
                len(runs) == 1 and runs[0].exit_code == row.get("exit_code"),
                f"I5: {wire} is told to have failed with {row.get('exit_code')}, was {runs}",
            )
