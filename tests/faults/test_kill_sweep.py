"""kill -9 at system calls of each process over a script of twenty jobs (see sweep.py).

MESOSCTL_SWEEP_SEED chooses other points, MESOSCTL_SWEEP_POINTS how many a process (0: all).
"""

from __future__ import annotations

import os
import random
import shutil

import pytest

from tests.faults.conftest import FaultEnv
from tests.faults.sweep import VICTIMS, Sweep, chosen

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace (apt install strace)"),
]
POINTS = 15
MANY = 10**6


def sweep(env: FaultEnv, victim: str, many: int) -> str:
    """Kill `victim` at so many points; the figures."""
    seed = int(os.environ.get("MESOSCTL_SWEEP_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed} (MESOSCTL_SWEEP_SEED)")
    sweep = Sweep(env, victim).start()
    try:
        counts = sweep.calm()
        print(f"{victim}: calls of the busiest thread in a calm run: {counts}")
        for point in chosen(counts, many, random.Random(seed)):
            print(f"{victim} survived {point} in {sweep.strike(point):.1f} s", flush=True)
        assert sweep.figures.killed > sweep.figures.rounds // 2
    finally:
        sweep.close()
        print(sweep.figures.text())
    return sweep.figures.text()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_at_system_calls(env: FaultEnv, victim: str) -> None:
    """Whatever it was about to keep, send or begin: every job ends once, and nothing is left."""
    sweep(env, victim, POINTS)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_at_every_system_call(env: FaultEnv, victim: str) -> None:
    """The same at every one of them: `make sweep`."""
    many = int(os.environ.get("MESOSCTL_SWEEP_POINTS") or 200)
    print(sweep(env, victim, many or MANY))
