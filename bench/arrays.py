"""What large arrays cost: `python bench/arrays.py [--tasks N] [--jobs J]`.

How long an array of 100,000 tasks takes to be accepted, and how many bytes of the framework's
memory each of its tasks takes while it waits. Then the same work once as one job of N tasks and
once as J jobs that have N tasks together, alternating: many jobs have to be as quick as one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from common import Cluster, tell
from submission import accepted, connect

from mesosctl.model.jobs import JobSpec
from mesosctl.protocol.messages.batch import Changed, SubmitJob, Watch
from mesosctl.runtime.client import Client, Hub
from mesosctl.runtime.ids import new_id

LARGE = 100_000
# So many of them, so that what one task takes is more than what any allocation is rounded to.
LARGE_JOBS = 20
WARM_UP_JOBS = 5
WAIT_S = 1800.0
MIB = 1 << 20


def spec(tasks: int, cpus_milli: int) -> JobSpec:
    """An array of tasks that do nothing."""
    return JobSpec(
        "array",
        ("/bin/true",),
        user="",
        cpus_milli=cpus_milli,
        mem_bytes=16 * MIB,
        indices=((0, tasks - 1, 1),),
        is_array=True,
        cwd="/",
        stdout="none",
        stderr="none",
        submit_dir="/",
    )


def memory_bytes(pid: int) -> int:
    """Anonymous memory of a process: what it has allocated and not given back."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this kernel does not tell the memory of a process")


def waiting(cluster: Cluster, hub: Hub) -> dict[str, float]:
    """Acceptance of large arrays that nothing can start, and their memory."""
    client = connect(cluster, hub)
    (framework,) = cluster.pids()["framework"]
    # Larger than any agent.
    large = spec(LARGE, 10**9)
    for _ in range(WARM_UP_JOBS):
        accepted(client.request(SubmitJob(new_id(), large)))
    by_command = cluster.timed("submit", "-a", f"0-{LARGE - 1}", "-c", "900000", "--", "true")
    before = memory_bytes(framework)
    seconds = []
    for _ in range(LARGE_JOBS):
        began = time.perf_counter()
        accepted(client.request(SubmitJob(new_id(), large)))
        seconds.append(time.perf_counter() - began)
    grown = memory_bytes(framework) - before
    return {
        "tasks": LARGE,
        "jobs": LARGE_JOBS,
        "accepted_s": round(max(seconds), 4),
        "accepted_by_command_s": round(by_command, 3),
        "bytes_per_queued_task": round(grown / (LARGE * LARGE_JOBS), 4),
    }


def run(client: Client, hub: Hub, jobs: int, tasks: int, cpus_milli: int) -> float:
    """Seconds from the first submission of `jobs` arrays to the end of all their tasks."""
    began = time.perf_counter()
    asks = [client.ask(SubmitJob(new_id(), spec(tasks // jobs, cpus_milli))) for _ in range(jobs)]
    ids = []
    for ask in asks:
        while not ask.replies:
            hub.pump(WAIT_S)
        client.end(ask)
        ids.append(accepted(ask.replies[0]))
    for push in client.pushes(Watch(tuple(ids)), WAIT_S):
        if isinstance(push, Changed) and push.done:
            if push.exit_code:
                raise RuntimeError(f"a task ended with {push.exit_code}")
            break
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of large arrays.")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of a round")
    parser.add_argument("--jobs", type=int, default=20, help="jobs that they are divided into")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=float, default=os.cpu_count() or 1, help="of the agent")
    options = parser.parse_args()
    with Cluster("") as cluster, Hub() as hub:
        at_rest = waiting(cluster, hub)
    one: list[float] = []
    many: list[float] = []
    with Cluster(f"cpus:{options.cpus:g};mem:4096") as cluster, Hub() as hub:
        client = connect(cluster, hub)
        run(client, hub, 1, 200, 250)
        for _ in range(options.rounds):
            one.append(run(client, hub, 1, options.tasks, 250))
            many.append(run(client, hub, options.jobs, options.tasks, 250))
    tell(
        "arrays",
        {
            "waiting": at_rest,
            "tasks": options.tasks,
            "rounds": options.rounds,
            "one_job_tasks_per_s": round(options.tasks / statistics.median(one), 1),
            "jobs": options.jobs,
            "many_jobs_tasks_per_s": round(options.tasks / statistics.median(many), 1),
            "many_to_one": round(statistics.median(one) / statistics.median(many), 3),
        },
    )


if __name__ == "__main__":
    main()
