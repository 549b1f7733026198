"""Whether an agent may go on with what an earlier run of it left behind.

Rules: it is judged before anything is touched. After a reboot nothing runs any more that could miss
what is gone, and only the cluster counts. What may not go on is ended with --recover cleanup, which
needs no master: the ends are told when the agent is started again; if it then belongs to another
cluster, nobody there would want to hear of them, and it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.agent.records import (
    FRAMEWORKS,
    META,
    PROGRESS,
    TASKS,
    AgentRecords,
    Origin,
    TaskEntry,
)
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Delete, Effect
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.reservations import renamed
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TERMINAL
from mesosctl.model.volumes import without_volumes


def live_tasks(records: AgentRecords) -> list[TaskEntry]:
    """Tasks of an earlier run that have not ended as far as it knew."""
    found = []
    for entry in records.tasks:
        progress = records.progress.get(f"{entry.framework_id}/{entry.info.task_id}")
        if progress is None or progress.state not in TERMINAL:
            found.append(entry)
    return found


def is_foreign(records: AgentRecords, origin: Origin) -> bool:
    """Whether the records are of an agent of another cluster, by its master's key."""
    known = records.meta.origin.server_key
    return bool(known and origin.server_key) and known != origin.server_key


def misfit(records: AgentRecords, info: AgentInfo, origin: Origin) -> str:
    """Why the agent may not go on with these records as `info`; empty when it may.

    It may have grown, or shrunk to no less than what is in use, and be called otherwise.
    """
    meta = records.meta
    if is_foreign(records, origin):
        return f"agent {meta.name} belongs to a cluster whose master has another key"
    live = live_tasks(records)
    if not live or meta.boot_id != info.boot_id:
        return ""
    changes: list[str] = []
    # Tasks of one lane hold one task's resources together.
    held = _sum(
        {
            (entry.framework_id, entry.info.lane or entry.info.task_id): entry.info.resources
            for entry in live
        }.values()
    )
    # Roles aside: which part of the host is reserved to whom is for the master to know.
    if not renamed(info.total, "").contains(renamed(without_volumes(held), "")):
        changes.append(f"its tasks hold {held}, of {info.total} from now on")
    for name in sorted(meta.attributes):
        now = info.attributes.get(name)
        if now != meta.attributes[name]:
            is_now = "is gone" if now is None else f"is now {now}"
            changes.append(f"attribute {name} was {meta.attributes[name]}, {is_now}")
    if meta.origin.cgroup_root not in ("", origin.cgroup_root):
        changes.append(f"--cgroup-root was {meta.origin.cgroup_root}, is now {origin.cgroup_root}")
    what = f"{len(live)} tasks of an earlier run are known"
    return f"{what}, and {'; '.join(changes)}" if changes else ""


def other_isolation(records: AgentRecords, info: AgentInfo, names: tuple[str, ...]) -> str:
    """The isolation under which tasks of an earlier run were started, if it is another."""
    known = records.meta.isolation
    may_run = live_tasks(records) and records.meta.boot_id == info.boot_id
    # What stands beside them by now does them no harm.
    is_other = not set(known) <= set(names)
    return ",".join(known) if may_run and is_other else ""


def _sum(resources: Iterable[Resources]) -> Resources:
    total = Resources()
    for one in resources:
        total = total + one
    return total


def forget(tasks: Tasks) -> list[Effect]:
    """Forget everything about tasks and who the agent was: it begins anew."""
    effects: list[Effect] = [Delete(META, "agent")]
    for framework_id, framework in tasks.frameworks.items():
        effects.append(Delete(FRAMEWORKS, framework_id))
        for container in framework.tasks:
            effects += [Delete(TASKS, container), Delete(PROGRESS, container)]
    return effects
