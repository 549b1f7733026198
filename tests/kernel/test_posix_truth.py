"""An executor without cgroups, an ordinary user's: what it enforces, what it says of the rest."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.isolation.posix import SAMPLE_MEM_S
from mesosctl.model.tasks import Reason, TaskState
from tests.integration.played_agent import MIB, ROOT, SLOWNESS, Agent, playing

# Root, because only root can become the ordinary user.
pytestmark = [pytest.mark.root, pytest.mark.integration]

USER = "nobody"
LIMIT_MIB = 64
BURST_MIB = 20
# It tells when it begins to use more than it may, and holds that until it is killed.
GROW = f"""
import time
block = bytearray({LIMIT_MIB // 2} << 20)
block[::4096] = b"x" * len(block[::4096])
time.sleep(0.3)
print(time.time(), flush=True)
more = bytearray({LIMIT_MIB} << 20)
more[::4096] = b"x" * len(more[::4096])
time.sleep(600.0 / 1)
"""
# More than its launcher's size and its limit, and gone before anybody looks.
BURST = (
    "import mmap, os; m = mmap.mmap(-1, {mib} << 20); m.write(bytes({mib} << 20)); os._exit({code})"
)


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An executor without cgroups, of a user who may make none.

    Where that user cannot reach this Python (below a closed home directory) it stays root's, and
    is only told to do without.
    """
    entry = pwd.getpwnam(USER)
    user: str | None = USER
    try:
        subprocess.run(
            [sys.executable, "-c", "import mesosctl.runtime.executor_process"],
            user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], cwd="/", check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        user = None
    with tempfile.TemporaryDirectory(prefix="mesosctl-posix-") as name:
        os.chmod(name, 0o755)
        with playing(Path(name), "posix", user) as made:
            yield made


def test_a_task_above_its_limit_is_killed_by_the_next_sample(agent: Agent) -> None:
    """With the peak that was found, and soon: here as often as not before it has grown fully."""
    late_s = []
    for number in range(5):
        name = f"grow-{number}"
        agent.run(agent.launch(name, sys.executable, "-I", "-S", "-c", GROW, mem=LIMIT_MIB))
        end = agent.end(name)
        assert (end.state, end.reason, end.signal) == (TaskState.FAILED, Reason.MEMORY_LIMIT, 9)
        assert end.message.startswith(f"memory limit exceeded: limit {LIMIT_MIB} MiB, peak ")
        assert end.usage is not None and end.usage.mem_peak_bytes > LIMIT_MIB * MIB
        late_s.append(end.at - float(agent.output(name)))
    late_s.sort()
    print(f"\nkilled within {late_s[2]:.3f} s (median), {late_s[-1]:.3f} s at the most")
    # To fill the memory, one interval, to kill and to drain; a busy host makes each of it longer.
    assert late_s[0] < (SAMPLE_MEM_S + 0.4) * SLOWNESS


def test_what_ends_between_two_samples_keeps_its_code_and_is_noted(agent: Agent) -> None:
    """It was not killed, so nothing else is claimed; but whoever set the limit is told."""
    noted = 0
    for number in range(30):
        name = f"burst-{number}"
        code = BURST.format(mib=2 * BURST_MIB, code=number)
        agent.run(agent.launch(name, sys.executable, "-I", "-S", "-c", code, mem=BURST_MIB))
        end = agent.end(name)
        assert end.usage is not None
        if end.reason is Reason.MEMORY_LIMIT:
            # A slow host: the sample came in time.
            continue
        noted += 1
        assert end.exit_code == number
        assert f"above limit {BURST_MIB} MiB, not enforced in time" in end.message
        assert end.usage.mem_peak_bytes > 2 * BURST_MIB * MIB
    assert noted > 0


def test_a_small_task_is_not_accused_of_its_launchers_size(agent: Agent) -> None:
    """The kernel's figure for a process includes what it was before its exec."""
    agent.run(*(agent.launch(f"small-{number}", "true", mem=4) for number in range(4)))
    for number in range(4):
        end = agent.end(f"small-{number}")
        assert (end.state, end.exit_code, end.message) == (TaskState.FINISHED, 0, "")
        assert end.usage is not None and end.usage.mem_peak_bytes <= 4 * MIB
