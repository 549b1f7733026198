"""What isolation costs a task that only computes: `python bench/overhead.py [--rounds N]`.

The same work once by itself and once as a task under the limits of CPU, memory and processes, one
after the other in each round. What counts is CPU time that the work itself measures, so that
neither the start of a task nor other work on the machine is in it; the wall time is told beside.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from common import Cluster, tell

# The process' own clocks around a fixed amount of work; memory is touched too, as most work does.
WORK = """
import sys, time
turns = int(sys.argv[1])
wall, cpu = time.perf_counter(), time.process_time()
table = list(range(200_000))
total = 0
for turn in range(turns):
    for value in table:
        total += value ^ turn
print(time.process_time() - cpu, time.perf_counter() - wall)
"""
TURNS = 60


def figures(text: str) -> tuple[float, float]:
    """CPU and wall seconds that a run of WORK printed."""
    cpu, wall = text.split()[-2:]
    return float(cpu), float(wall)


def by_itself(work: list[str]) -> str:
    """What the work prints without a cluster. Raises CalledProcessError."""
    return subprocess.run(work, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Isolation of a task that computes.")
    parser.add_argument("--rounds", type=int, default=11, help="pairs of runs")
    parser.add_argument("--turns", type=int, default=TURNS, help="how much work a run is")
    options = parser.parse_args()
    work = [sys.executable, "-I", "-c", WORK, str(options.turns)]
    limits = ["-c", "1", "-m", "256M"]
    cpu: list[float] = []
    wall: list[float] = []
    bare_s: list[float] = []
    with Cluster("cpus:2;mem:2048") as cluster:
        isolation = cluster.isolation()
        for number in range(options.rounds + 1):
            pair = {}
            for is_held in (number % 2 == 0, number % 2 == 1):
                # Whoever is second finds the machine warmer.
                pair[is_held] = figures(
                    cluster.run("run", *limits, "--", *work) if is_held else by_itself(work)
                )
            bare, held = pair[False], pair[True]
            if number:
                # The first round fills caches.
                bare_s.append(bare[0])
                cpu.append(held[0] / bare[0] - 1)
                wall.append(held[1] / bare[1] - 1)
    tell(
        "overhead",
        {
            "rounds": options.rounds,
            "isolation": isolation,
            "bare_cpu_s": round(statistics.median(bare_s), 3),
            "cpu_percent": round(statistics.median(cpu) * 100, 2),
            "wall_percent": round(statistics.median(wall) * 100, 2),
            "cpu_percent_each": [round(each * 100, 2) for each in cpu],
        },
    )


if __name__ == "__main__":
    main()
