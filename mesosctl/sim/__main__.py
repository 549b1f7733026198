"""`python -m mesosctl.sim --seeds N`: run seeds, tell the story of those that fail."""

from __future__ import annotations

import argparse
import sys

from mesosctl.sim.seeds import run_seed


def main() -> int:
    """Run the seeds; 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m mesosctl.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds to run")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them")
    options = parser.parse_args()
    failed = events = runs = 0
    longest_s = 0.0
    tally: dict[str, int] = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        outcome = run_seed(seed)
        events += outcome.events
        runs += outcome.runs
        longest_s = max(longest_s, outcome.healed_s)
        for fault, count in outcome.tally.items():
            tally[fault] = tally.get(fault, 0) + count
        if outcome.problem:
            failed += 1
            sys.stdout.write("\n".join(outcome.story) + "\n")
            sys.stdout.write(f"seed {seed}: {outcome.problem}\n")
    sys.stdout.write(f"{options.seeds} seeds, {events} events, {runs} tasks, {failed} failed\n")
    sys.stdout.write(f"{longest_s:8.0f} seconds at most from the last fault to the end\n")
    sys.stdout.write("".join(f"{count:8} {fault}\n" for fault, count in sorted(tally.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
