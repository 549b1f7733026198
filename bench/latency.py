"""How long one small thing takes: `python bench/latency.py [--rounds N]`.

`run -- true`, `submit -W -- true`, and `submit -- true` alone, alternating with the start of a bare
Python, which is what each of them pays before its first line.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from common import Cluster, alternating, summary, tell

COMMANDS = {
    "run": ["run", "--", "true"],
    "submit_and_wait": ["submit", "-W", "--", "true"],
    "submit": ["submit", "--", "true"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Latency of single commands.")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each")
    options = parser.parse_args()
    with Cluster("cpus:4;mem:4096") as cluster:
        commands = {name: [*cluster.command, *words] for name, words in COMMANDS.items()}
        commands["python"] = [sys.executable, "-c", "pass"]
        commands["version"] = [*cluster.command, "--version"]
        seconds = alternating(commands, options.rounds, cluster.environment)
    bare = statistics.median(seconds["python"])
    figures = {name: summary(taken) for name, taken in seconds.items()}
    for name in COMMANDS:
        figures[name]["ratio_to_python"] = round(statistics.median(seconds[name]) / bare, 2)
    tell("latency", {"rounds": options.rounds, **figures})


if __name__ == "__main__":
    main()
