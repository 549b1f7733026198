"""How many tasks a second go through the whole chain: `python bench/throughput.py [--tasks N]`.

N × /bin/true as one job array: submit, framework, master, agent, executor, under CPU, memory and
process limits. Compared with the floor: posix_spawn of the same program, two at a time, by xargs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from datetime import datetime

from common import Cluster, cpu_s, tell

SHARE_OF_A_CPU = 0.25


def one_job(cluster: Cluster, tasks: int) -> tuple[float, float]:
    """Seconds from the call of `submit -W` to its end, and from acceptance to the last end."""
    size = ["-c", str(SHARE_OF_A_CPU), "-m", "16M", "-o", "none", "-e", "none"]
    began = time.perf_counter()
    words = ["submit", "--parsable", "-a", f"0-{tasks - 1}", *size, "-W", "--", "/bin/true"]
    job_id = cluster.run(*words).strip()
    whole = time.perf_counter() - began
    (job,) = json.loads(cluster.run("jobs", job_id, "--all", "-o", "json"))["jobs"]
    if job["state"] != "ok":
        raise RuntimeError(f"the job is {job['state']}")
    inner = datetime.fromisoformat(job["ended"]) - datetime.fromisoformat(job["submitted"])
    return whole, inner.total_seconds()


def floor(tasks: int) -> float:
    """Seconds that xargs takes for as many /bin/true, two at a time, without any limit."""
    numbers = "\n".join(map(str, range(tasks)))
    began = time.perf_counter()
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=numbers, text=True, check=True)
    return time.perf_counter() - began


def cpu_of_daemons(cluster: Cluster) -> dict[str, float]:
    """CPU seconds of each role's processes so far; those of the tasks are not among them."""
    return {role: sum(map(cpu_s, pids)) for role, pids in cluster.pids().items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Tasks a second, end to end.")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of each job")
    parser.add_argument("--rounds", type=int, default=3, help="jobs, of which the median is told")
    parser.add_argument("--cpus", type=float, default=os.cpu_count() or 1, help="of the agent")
    options = parser.parse_args()
    rates, inner_rates, floors = [], [], []
    costs: dict[str, float] = {}
    with Cluster(f"cpus:{options.cpus:g};mem:4096") as cluster:
        one_job(cluster, 50)
        isolation = cluster.isolation()
        before = cpu_of_daemons(cluster)
        for _ in range(options.rounds):
            whole, inner = one_job(cluster, options.tasks)
            rates.append(options.tasks / whole)
            inner_rates.append(options.tasks / inner)
            floors.append(options.tasks / floor(options.tasks))
        for role, used in cpu_of_daemons(cluster).items():
            done = options.tasks * options.rounds
            costs[role] = round((used - before[role]) * 1000 / done, 3)
    rate, bare = statistics.median(rates), statistics.median(floors)
    tell(
        "throughput",
        {
            "tasks": options.tasks,
            "rounds": options.rounds,
            "slots": int(options.cpus / SHARE_OF_A_CPU),
            "isolation": isolation,
            "tasks_per_s": round(rate, 1),
            "tasks_per_s_without_the_command": round(statistics.median(inner_rates), 1),
            "xargs_per_s": round(bare, 1),
            "ratio_to_xargs": round(rate / bare, 3),
            "cpu_ms_per_task": costs,
            "cpu_ms_per_task_of_all": round(sum(costs.values()), 3),
        },
    )


if __name__ == "__main__":
    main()
