"""The judges: invariants over what is promised, what happened and what is left, each by its number.

I1 a job that was accepted is kept, once, and ends, and a kill that was taken is; I2 no two attempts
of a task overlap, one of `--once` starts once; I3 an end is never taken back; I4 nothing is given
out twice (the machines' own check() after a pass, and here the hosts); I5 what is told of an end is
what happened, and it is on disk before it is acknowledged; I7 a task that is told to have ended is
dead; I9 an offer is used once; I10 and I11 everything ends, in the company of fools, too; I12
nobody stops for want of sense, or speaks after its disk failed. I6 is in leaks.py, I8, I13 and I14
in rights.py, I17 in lanes.py, I18 in preemption.py, I19 in volumes.py, I15 and I16 compare whole
runs (seeds.py). A violation raises InvariantBroken with the number. What is sent is judged when its
pass ends, so against what is on disk by the time that it is sent. Only history and messages are
believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mesosctl.core.agent.records import PROGRESS, TASKS
from mesosctl.core.machine import Effect, Put, Received, Send
from mesosctl.errors import require
from mesosctl.model.constraints import parse_constraint, place_of
from mesosctl.model.jobs import ENDED, BatchState
from mesosctl.model.tasks import TERMINAL, Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import Acknowledge, LaunchTasks, RunTasks, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import JobAccepted, KillJobs, KillsBegun
from mesosctl.protocol.messages.framework import Accept
from mesosctl.sim.cluster import AGENT_TOTAL, Cluster
from mesosctl.sim.disk import Row
from mesosctl.sim.excess import REASONS
from mesosctl.sim.history import Run
from mesosctl.sim.node import KEPT, Node
from mesosctl.sim.plan import attributes_of

_ENDED_WORDS = frozenset(str(state) for state in ENDED)
_TERMINAL_WORDS = frozenset(str(state) for state in TERMINAL)
_ACTIVE_WORDS = ("staging", "running")


class Judges:
    """Watches a cluster pass by pass, and sums up at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._used_offers: dict[str, None] = {}
        self._ended: dict[str, str] = {}
        self._killed_jobs: dict[str, None] = {}
        # By whom and in which life: jobs whose kills are not on disk yet.
        self._kills_begun: list[tuple[Node, int, list[str]]] = []
        # By wire id: what the framework was told it ended as.
        self._over: dict[str, TaskState] = {}
        # By uuid: every terminal update that was ever sent.
        self._told: dict[str, StatusUpdate] = {}
        self._acked: dict[str, None] = {}
        self._last_run: dict[str, Run] = {}
        # The master passes on what it hears; strangers say what they like.
        self._who_may_lie = [*cluster.masters, *cluster.strangers]
        self._specs: dict[tuple[str, str], Row] = {}
        # Of each node whose disk failed: the life in which it did.
        self._failed: dict[str, int] = {}
        cluster.history.watchers.append(self.ran)
        cluster.world.judges.append(self)

    # --- what machines do -------------------------------------------------------------------------
    def saw(self, node: Node, event: Received, effects: Sequence[Effect]) -> None:
        """Judge one message."""
        message = event.envelope.message
        sent = [effect.envelope.message for effect in effects if isinstance(effect, Send)]
        if isinstance(message, Accept) and node in self.cluster.masters:
            self._offers_once(message, sent)
        elif isinstance(message, StatusUpdates) and node in self.cluster.batches:
            for update in message.updates:
                self._told_the_truth(node, update)
        elif isinstance(message, Acknowledge) and node in self.cluster.agents:
            for ack in message.acks:
                if ack.uuid in self._told:
                    self._acked[f"{ack.framework_id}/{ack.task_id}"] = None
        elif isinstance(message, KillJobs) and any(isinstance(one, KillsBegun) for one in sent):
            jobs = [f"{node.name}/{selector}" for selector in message.selectors]
            self._kills_begun.append((node, node.life, jobs))

    def passed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Judge the end of a pass."""
        if not effects:
            return
        kept = {
            (effect.table, effect.key): effect.value if isinstance(effect, Put) else None
            for effect in effects
            if isinstance(effect, KEPT)
        }
        if node in self.cluster.agents:
            self._forgets_only_what_is_acked(node, kept)
        for effect in effects:
            if isinstance(effect, Send):
                self._sent(node, effect.peer, effect.envelope.message, kept)

    def committed(self, node: Node, effects: Sequence[Effect]) -> None:
        """Judge what is on disk now."""
        for one, life, jobs in self._kills_begun:
            # A kill that was taken in a pass that never ended was not taken.
            if one is node and life == node.life:
                self._killed_jobs.update(dict.fromkeys(jobs))
        self._kills_begun = [kill for kill in self._kills_begun if kill[0] is not node]
        if node in self.cluster.batches:
            for effect in effects:
                if isinstance(effect, KEPT) and effect.table == "tasks":
                    row = effect.value if isinstance(effect, Put) else None
                    self._ends_stay(f"{node.name}/{effect.key}", row)

    def began(self, node: Node) -> None:
        """A life begins with a disk that works, or does not begin."""

    def failed(self, node: Node) -> None:
        """Note that this life of the node may not say anything any more."""
        self._failed[node.name] = node.life

    def sends(self, node: Node) -> None:
        """I12: who cannot keep says nothing."""
        silent = self._failed.get(node.name) == node.life
        require(not silent, f"I12: {node.name} speaks after its disk failed")

    def _sent(self, node: Node, peer: str, message: Message, kept: dict[Any, Any]) -> None:
        def then(table: str, key: str) -> Any:
            return kept[table, key] if (table, key) in kept else node.row(table, key)

        match message:
            case Accept() if node in self.cluster.batches:
                for task in message.tasks:
                    self._intends(node, task.task_id, task.agent_id, then)
            case JobAccepted(job_id=job_id):
                require(then("jobs", job_id) is not None, f"I1: job {job_id} is not on disk")
            case Acknowledge(acks=acks) if node in self.cluster.batches:
                for ack in acks:
                    self._knows(ack.uuid, then)
            case Acknowledge(acks=acks) if peer.startswith("x:"):
                for ack in acks:
                    self._keeps(ack.uuid, then)
            case RunTasks(framework_id=framework_id, launches=launches) if peer.startswith("x:"):
                for launch in launches:
                    row = then(TASKS, f"{framework_id}/{launch.task.task_id}")
                    known = row is not None and row.get("executor_id")
                    require(known, f"I2: {launch.task.task_id} is handed on and not on disk")
            case StatusUpdates(updates=updates) if node not in self._who_may_lie:
                for update in updates:
                    self._is_dead(update)
            case _:
                pass

    def _offers_once(self, message: Accept, sent: Sequence[Message]) -> None:
        if any(isinstance(one, LaunchTasks) for one in sent):
            for offer_id in message.offer_ids:
                require(offer_id not in self._used_offers, f"I9: offer {offer_id} was used twice")
                self._used_offers[offer_id] = None

    def _intends(self, node: Node, wire: str, agent_id: str, then: Any) -> None:
        """I1: whoever starts an attempt will know of it in its next life."""
        key, _, attempt = wire.rpartition(".")
        row = then("tasks", key)
        is_kept = (
            row is not None
            and row.get("attempt") == int(attempt)
            and row["state"] in _ACTIVE_WORDS
            and row.get("agent_id") == agent_id
        )
        require(is_kept, f"I1: {wire} is started and not on disk so: {row}")
        job = f"{node.name}/{key.partition('.')[0]}"
        require(job not in self._killed_jobs, f"I1: {wire} is started after job {job} was killed")
        spec = (then("jobs", key.partition(".")[0]) or {}).get("spec", {})
        where = spec.get("constraint", "")
        if where and row is not None:
            place = place_of(agent_id, row["agent"], attributes_of(row["agent"]))
            suits = parse_constraint(where).holds(place)
            require(suits, f"I1: {wire} is started on {row['agent']}, against {where}")

    def _knows(self, uuid: str, then: Any) -> None:
        """I5: an end that the framework acknowledges is on its disk."""
        update = self._told.get(uuid)
        if update is None:
            return
        key, _, attempt = update.task_id.rpartition(".")
        row = then("tasks", key)
        forgotten = row is None or (
            row.get("attempt") == int(attempt) and row["state"] in _ACTIVE_WORDS
        )
        text = f"I5: {update.task_id} {update.state} is acknowledged and not on disk: {row}"
        require(not forgotten, text)

    def _keeps(self, uuid: str, then: Any) -> None:
        """I5: an end that the agent acknowledges to an executor is on its disk."""
        update = self._told.get(uuid)
        if update is not None:
            container = f"{update.framework_id}/{update.task_id}"
            progress = then(PROGRESS, container)
            is_kept = progress is not None and progress["state"] in _TERMINAL_WORDS
            is_over = then(TASKS, container) is None
            text = f"I5: the end of {update.task_id} is taken from its executor and not on disk"
            require(is_kept or is_over, text)

    def _forgets_only_what_is_acked(self, node: Node, kept: dict[Any, Any]) -> None:
        for (table, key), row in kept.items():
            ours = self.cluster.batch_of(key.partition("/")[0]) is not None
            if table == TASKS and row is None and ours:
                require(key in self._acked, f"I5: {node.name} forgets {key}, never acknowledged")

    def _is_dead(self, update: StatusUpdate) -> None:
        """I7: who says that a task ended has made sure that nothing of it is alive."""
        if not update.is_terminal:
            return
        if update.uuid:
            self._told[update.uuid] = update
        container = f"{update.framework_id}/{update.task_id}"
        for host in self.cluster.hosts:
            held = host.containers.get(container)
            text = f"I7: {update.task_id} is told to be {update.state} and lives on {host.name}"
            require(held is None or held.is_empty, text)

    def _told_the_truth(self, node: Node, update: StatusUpdate) -> None:
        """I5: the framework is told what happened, and never something else later."""
        if not update.is_terminal:
            return
        self._is_dead(update)
        wire, state = f"{update.framework_id}/{update.task_id}", update.state
        if update.reason is Reason.AGENT_GONE:
            # The operator's word: what the host did not get on anybody's disk is lost with it.
            self._over.setdefault(wire, state)
            return
        waits = self._awaits(node, update.task_id)
        if not update.uuid and state is TaskState.DROPPED and not waits:
            # The master may say so of what was acknowledged and forgotten; nobody asked for more.
            return
        before = self._over.setdefault(wire, state)
        require(before is state, f"I5: {wire} was told to be {before} and then {state}")
        runs = self.cluster.history.of(wire)
        ends = [(run.exit_code, run.signum) for run in runs]
        text = f"I5: {wire} is told to be {state} {update.reason} and was {ends}"
        require(state is not TaskState.ERROR, f"I5: {wire} is refused: {update.message}")
        if state is TaskState.DROPPED:
            require(not runs, text)
        if state is TaskState.FINISHED:
            require(ends == [(0, None)], text)
        if state is TaskState.FAILED and update.reason is Reason.EXITED:
            require(ends == [(update.exit_code, None)], text)
        if state is TaskState.FAILED and runs:
            beyond, reason = runs[-1].exceeded, update.reason
            require(beyond in REASONS.get(reason, (beyond,)), f"{text}, and not beyond a limit")
            own = reason in (Reason.EXITED, Reason.SIGNALED)
            require(not (own and beyond == "oom"), f"{text}, for want of memory")

    def _awaits(self, node: Node, wire: str) -> bool:
        """Whether the framework, by its disk, waits for the end of this attempt."""
        key, _, attempt = wire.rpartition(".")
        row = node.row("tasks", key) or {}
        stale = [int(old[0]) for old in row.get("stale", ())]
        present = row.get("attempt") == int(attempt) and row["state"] in _ACTIVE_WORDS
        return present or int(attempt) in stale

    def _ends_stay(self, key: str, row: Row | None) -> None:
        require(row is not None, f"I1: task {key} is forgotten")
        state = str(row["state"]) if row else ""
        before = self._ended.get(key)
        require(before in (None, state), f"I3: task {key} was {before} and is {state}")
        if state in _ENDED_WORDS:
            self._ended[key] = state

    # --- what kernels do --------------------------------------------------------------------------
    def ran(self, run: Run) -> None:
        """Judge one start of a task."""
        wire = run.task_id
        require(wire not in self._over, f"I5: {wire} starts and was told to be over")
        require(len(self.cluster.history.of(wire)) == 1, f"I2: {wire} started twice")
        owner = self.cluster.batch_of(wire.partition("/")[0])
        if owner is not None:
            self._succeeds(owner, run)
        self._not_overcommitted(run)

    def _succeeds(self, owner: Node, run: Run) -> None:
        """I2: an attempt follows the one before, and not too early."""
        wire, spec = run.task_id, self._spec(owner, run)
        name = f"{owner.name}/{run.name.partition('/')[2]}"
        before = self._last_run.get(name)
        if before is not None:
            text = f"I2: {wire} started after {before.task_id}"
            require(before.attempt < run.attempt or bool(spec.get("restartable")), text)
            require(not spec.get("once"), f"{text}, and may only once")
            overlaps = before.ended_s is None and not spec.get("restartable")
            require(not overlaps, f"{text}, which runs")
        self._last_run[name] = run

    def _spec(self, owner: Node, run: Run) -> Row:
        job = run.name.partition("/")[2].partition(".")[0]
        known = self._specs.get((owner.name, job))
        if known is None:
            row = owner.row("jobs", job)
            require(row is not None, f"I1: {run.task_id} runs and its job is not on disk")
            known = self._specs[owner.name, job] = dict(row["spec"]) if row else {}
        return known

    def _not_overcommitted(self, run: Run) -> None:
        host = next(host for host in self.cluster.hosts if host.name == run.host)
        live = [held for held in host.containers.values() if held.alive]
        cpus = sum(held.cpus_milli for held in live)
        memory = sum(held.mem_bytes for held in live)
        require(cpus <= AGENT_TOTAL.cpus_milli, f"I4: {host.name} runs {cpus} mCPU")
        require(memory <= AGENT_TOTAL.mem_bytes, f"I4: {host.name} runs {memory} bytes")

    # --- the end ----------------------------------------------------------------------------------
    def verdict(self) -> None:
        """Judge what is left when everything should have ended."""
        cluster = self.cluster
        # A fool that stays must not keep the others from their ends.
        number = "I11" if any(one.stays for one in cluster.plan.strangers) else "I10"
        require(cluster.is_quiet(), f"{number}: something has not ended: {cluster.what_is_left()}")
        for index, node in enumerate(cluster.batches):
            self._kept_its_jobs(index, node)

    def _kept_its_jobs(self, number: int, node: Node) -> None:
        cluster, tables = self.cluster, node.tables()
        jobs, wishes = tables.get("jobs", {}), cluster.wishes(number)
        for wish in wishes:
            ids = cluster.accepted.get(wish.request_id, [])
            require(bool(ids), f"I1: {wish.request_id} was never accepted")
            require(len(set(ids)) == 1, f"I1: {wish.request_id} became jobs {ids}")
            require(ids[0] in jobs, f"I1: job {ids[0]} is not on disk")
        wanted = len(wishes)
        require(len(jobs) == wanted, f"I1: {wanted} jobs were asked for, {len(jobs)} are there")
        for key, row in tables.get("tasks", {}).items():
            self._recorded_what_happened(node, key, row)

    def _recorded_what_happened(self, node: Node, key: str, row: Row) -> None:
        """I5: the end on record is that of the last attempt."""
        wire = f"{self.cluster.framework_id(node)}/{key}.{row.get('attempt', 0)}"
        ends = [(run.exit_code, run.signum) for run in self.cluster.history.of(wire)]
        state = BatchState(str(row["state"]))
        text = f"I5: {wire} is on record as {state} {row.get('exit_code')} and was {ends}"
        if state is BatchState.OK:
            require(ends == [(0, None)], text)
        if state is BatchState.FAILED and row.get("reason") == str(Reason.EXITED):
            require(ends == [(row.get("exit_code"), None)], text)
