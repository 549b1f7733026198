"""A minute of chaos on real processes; `make chaos` has more of it, and repeats a seed."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.chaos import run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]
SECONDS = 60.0
JOBS = 900


def test_nothing_is_lost_in_a_minute_of_chaos() -> None:
    """No job is lost, no two attempts overlap, all has ended soon after the healing."""
    seed = int(os.environ.get("MESOSCTL_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    report = run(seed, SECONDS, JOBS)
    told = f"seed {seed}; logs, notes and what was done when: {report.kept}"
    assert not report.problems, "\n".join([told, *report.problems])
    assert report.jobs > 20, f"hardly anything was submitted; {told}"
    assert sum(report.faults.values()) > 10, f"hardly anything was done to it; {told}"
