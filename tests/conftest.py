"""What every test shares: Hypothesis profiles, and skips for what a machine does not have.

Markers are declared in pyproject.toml (strict: a misspelt one is an error). A test marked `root` or
`cgroup` is skipped, with the reason named, where this machine cannot run it; nothing else is
skipped here.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a busy 2-core machine a slow example says nothing about the code, so there is no deadline.
# `ci` is the same run every time; `dev` looks for new examples; `nightly` looks for longer.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@cache
def _why_no_cgroups() -> str | None:
    """Say why this process cannot make cgroups, or None if it can."""
    probed = []
    for root in ("memory", "unified", "."):
        parent = Path("/sys/fs/cgroup", root)
        if not (parent / "cgroup.procs").exists():
            continue
        probed.append(str(parent))
        child = parent / f"mesosctl-probe-{os.getpid()}-test"
        try:
            child.mkdir()
            child.rmdir()
        except OSError:
            continue
        return None
    return f"no right to make cgroups in {', '.join(probed) or '/sys/fs/cgroup (none mounted)'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root or cgroups where there are none, with the reason."""
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        if item.get_closest_marker("cgroup") and (reason := _why_no_cgroups()):
            item.add_marker(pytest.mark.skip(reason=reason))
