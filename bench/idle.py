"""What a cluster costs while nothing happens: `python bench/idle.py [--seconds S]`.

Memory (resident, and the share of it that is not also held by others) and CPU time of each daemon,
from the kernel's counters, over some seconds after a small job has warmed everything up.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from common import Cluster, cpu_s, tell

SETTLE_S = 3.0


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident and proportional memory."""
    found = {"Rss": 0, "Pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0])
    return round(found["Rss"] / 1024, 1), round(found["Pss"] / 1024, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of a cluster at rest.")
    # Less than EXECUTOR_IDLE_S, after which the executor that is looked at ends.
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to look")
    options = parser.parse_args()
    with Cluster("cpus:4;mem:4096") as cluster:
        cluster.run("submit", "-a", "0-9", "-m", "16M", "-W", "--", "true")
        # The updates of the last tasks and their acknowledgements are no rest yet.
        time.sleep(SETTLE_S)
        pids = cluster.pids()
        before = {pid: cpu_s(pid) for group in pids.values() for pid in group}
        began = time.monotonic()
        time.sleep(options.seconds)
        passed = time.monotonic() - began
        daemons = {}
        total = 0.0
        for role, group in pids.items():
            used = sum(cpu_s(pid) - before[pid] for pid in group) / passed * 100
            memory = [memory_mib(pid) for pid in group]
            total += used
            daemons[role] = {
                "processes": len(group),
                "cpu_percent": round(used, 3),
                "rss_mib": round(sum(rss for rss, _ in memory), 1),
                "pss_mib": round(sum(pss for _, pss in memory), 1),
            }
    tell(
        "idle",
        {
            "seconds": round(passed, 1),
            "cpu_percent": round(total, 3),
            "pss_mib": round(sum(each["pss_mib"] for each in daemons.values()), 1),
            "daemons": daemons,
        },
    )


if __name__ == "__main__":
    main()
