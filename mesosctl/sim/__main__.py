"""`python -m mesosctl.sim --seeds N`: run seeds in parallel, tell the story of those that fail."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from mesosctl.sim.seeds import STORY_LINES, run_seed_as_planned, run_seeds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mesosctl.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds to run")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="processes (default: cores)")
    parser.add_argument("--story", type=int, metavar="SEED", help="run one seed, tell all of it")
    parser.add_argument("--faults", action="store_true", help="count the faults that struck")
    return parser.parse_args()


def main() -> int:
    """Run the seeds; 1 when an invariant was broken."""
    options = _options()
    if options.story is not None:
        outcome = run_seed_as_planned(options.story, story_lines=None)
        sys.stdout.write("\n".join(outcome.story) + "\n")
        sys.stdout.write(f"seed {outcome.seed}: {outcome.problem or 'every invariant held'}\n")
        return 1 if outcome.problem else 0
    failed: list[int] = []
    tally: Counter[str] = Counter()
    events = runs = 0
    longest_s = 0.0
    # This one clock is that of the person who waits.
    began = time.monotonic()  # noqa: TID251
    for outcome in run_seeds(options.first_seed, options.seeds, options.jobs):
        events += outcome.events
        runs += outcome.runs
        longest_s = max(longest_s, outcome.healed_s)
        tally.update(outcome.tally)
        if outcome.problem:
            failed.append(outcome.seed)
            lines = outcome.story[-STORY_LINES:]
            sys.stdout.write("\n".join([*lines, f"seed {outcome.seed}: {outcome.problem}"]) + "\n")
            sys.stdout.flush()
    took_s = time.monotonic() - began  # noqa: TID251
    sys.stdout.write(
        f"{options.seeds} seeds in {took_s:.1f} s ({took_s / max(1, options.seeds):.3f} s each), "
        f"{events} events, {runs} tasks; {longest_s:.0f} s at most from the last fault to the end\n"
    )
    if options.faults:
        sys.stdout.write("".join(f"{count:8} {what}\n" for what, count in sorted(tally.items())))
    sys.stdout.write(f"{len(failed)} failed{': ' if failed else ''}")
    sys.stdout.write(", ".join(str(seed) for seed in failed) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
