"""kill -9 of each process of a cluster in the middle of a job: every task still ends as it should.

Each task holds a lock on a file of its own for as long as any process of it lives and notes start,
end and attempt there, so that two attempts at once, or one too many, show in the files whatever
the cluster itself says.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
SCRIPT = """
exec 9>>"$1/$MESOS_ARRAY_INDEX.lock"
flock -n 9 || echo "overlap $MESOS_ATTEMPT" >> "$1/$MESOS_ARRAY_INDEX.log"
echo "start $MESOS_ATTEMPT $(date +%s.%N)" >> "$1/$MESOS_ARRAY_INDEX.log"
sleep "$2"
echo "end $MESOS_ATTEMPT $(date +%s.%N)" >> "$1/$MESOS_ARRAY_INDEX.log"
"""
SLOTS = 8
PARTS = ("master", "agent", "framework", "executor", "spawner")
# So near to the kill a task may have ended without a report, or noted its start a little later
# than it was started.
NEAR_S = 1.0


@dataclass
class Lines:
    """What one task noted: times by attempt."""

    starts: dict[int, float]
    ends: dict[int, float]
    order: list[str]


def read(directory: Path) -> dict[int, Lines]:
    """What all tasks noted so far, by index."""
    found = {}
    for path in directory.glob("*.log"):
        lines = Lines({}, {}, [])
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) != 3:
                assert words[0] != "overlap", f"two attempts at once: {path.name}: {line}"
                continue
            times = lines.starts if words[0] == "start" else lines.ends
            times[int(words[1])] = float(words[2])
            lines.order.append(words[0])
        found[int(path.name.partition(".")[0])] = lines
    return found


def running(noted: dict[int, Lines]) -> list[int]:
    """Tasks with a start and no end."""
    return [index for index, lines in noted.items() if len(lines.starts) > len(lines.ends)]


def submit(cluster: ClusterEnv, count: int, seconds: float, *more: str) -> subprocess.Popen[str]:
    """Start a job and wait for its end in the background."""
    script = cluster.base / "task.sh"
    script.write_text(SCRIPT)
    size = ["-c", "0.5", "-m", "32M", "-a", f"0-{count - 1}"]
    words = ["submit", "--parsable", "-W", *size, *more]
    return cluster.popen(*words, str(script), str(cluster.files), str(seconds))


def in_the_middle(cluster: ClusterEnv, count: int) -> None:
    """Wait until a third has ended and every slot is taken."""

    def there() -> bool:
        noted = read(cluster.files)
        busy = len(running(noted))
        return busy >= SLOTS - 2 and len(noted) - busy >= count // 3

    until(there, "the job is in its middle", look_s=0.005)


def kill_one(cluster: ClusterEnv, part: str) -> float:
    """kill -9 of one process and a restart where nobody else sees to it; when it was."""
    found: dict[str, Callable[[], int]] = {
        "master": lambda: cluster.parts[0].pid,
        "agent": lambda: cluster.agents[0].pid,
        "framework": cluster.framework_pid,
        "executor": cluster.busy_executor,
        "spawner": cluster.busy_spawner,
    }
    pid = found[part]()
    os.kill(pid, signal.SIGKILL)
    at = time.time()
    if part in ("master", "agent"):
        killed = cluster.parts[0] if part == "master" else cluster.agents[0]
        killed.process.wait()
        killed.restart()
    return at


def check_files(noted: dict[int, Lines], count: int) -> None:
    """No two attempts of a task at once, none of them twice."""
    assert set(noted) <= set(range(count))
    for index, lines in noted.items():
        attempts = sorted(lines.starts)
        assert len(attempts) == lines.order.count("start"), f"task {index}: an attempt ran twice"
        for before, after in itertools.pairwise(attempts):
            ended = lines.ends.get(before)
            assert ended is None or ended <= lines.starts[after], f"task {index} overlaps"


def check_restarts(noted: dict[int, Lines], part: str, at: float) -> None:
    """A task was started again only if it ran under the executor when that was killed."""
    again = {index: lines for index, lines in noted.items() if len(lines.starts) > 1}
    if part != "executor":
        assert not again
        return
    assert 1 <= len(again) <= SLOTS
    for index, lines in again.items():
        first = min(lines.starts)
        assert lines.starts[first] <= at + NEAR_S, f"task {index} had not begun"
        assert lines.ends.get(first, at) >= at - NEAR_S, f"task {index} had ended"


def survive(cluster: ClusterEnv, part: str, count: int, seconds: float) -> None:
    """The whole story with one part."""
    job = submit(cluster, count, seconds)
    in_the_middle(cluster, count)
    at = kill_one(cluster, part)
    job_id = cluster.finish(job, 120).strip()
    tasks = cluster.tasks(job_id)
    assert [task["state"] for task in tasks] == ["ok"] * count
    noted = read(cluster.files)
    assert len(noted) == count
    check_files(noted, count)
    assert not running({i: n for i, n in noted.items() if len(n.starts) == 1})
    check_restarts(noted, part, at)
    attempts = {task["index"]: task["attempt"] for task in tasks}
    assert attempts == {index: max(lines.starts) for index, lines in noted.items()}


@pytest.mark.parametrize("part", PARTS)
def test_a_job_survives_kill_nine(cluster: ClusterEnv, part: str) -> None:
    """No single process may take a job with it, nor make one of its tasks run twice."""
    survive(cluster, part, 60, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_large_job_survives_kill_nine(cluster: ClusterEnv, part: str) -> None:
    """The same with as many tasks as the project promises."""
    survive(cluster, part, 200, 0.3)


@pytest.mark.parametrize("part", ["executor"])
def test_once_is_never_twice(cluster: ClusterEnv, part: str) -> None:
    """With --once a task whose end is unknown is lost, and says why, and is not started again."""
    count = 48
    job = submit(cluster, count, 0.3, "--once")
    in_the_middle(cluster, count)
    at = kill_one(cluster, part)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 125, err
    noted = read(cluster.files)
    check_files(noted, count)
    tasks = {task["index"]: task for task in cluster.tasks(out.strip())}
    lost = {index: task for index, task in tasks.items() if task["state"] == "lost"}
    assert 1 <= len(lost) <= SLOTS
    assert all(task["state"] == "ok" for index, task in tasks.items() if index not in lost)
    for index, task in lost.items():
        assert task["reason"] == "ExecutorTerminated" and "once" in task["message"]
        # One that was being launched may not have come so far as to note its start.
        assert index not in noted or noted[index].starts[1] <= at + NEAR_S
    assert set(range(count)) - set(noted) <= set(lost)
    assert all(len(lines.starts) == 1 for lines in noted.values())


@pytest.mark.parametrize("part", ["master", "agent", "framework", "spawner"])
@pytest.mark.slow
def test_once_survives_what_its_executor_survives(cluster: ClusterEnv, part: str) -> None:
    """--once gives up nothing where the executor lives on: it knows how each task ended."""
    count = 100
    job = submit(cluster, count, 0.3, "--once")
    in_the_middle(cluster, count)
    kill_one(cluster, part)
    job_id = cluster.finish(job, 120).strip()
    assert {task["state"] for task in cluster.tasks(job_id)} == {"ok"}
    noted = read(cluster.files)
    assert len(noted) == count
    check_files(noted, count)
    assert all(len(lines.starts) == 1 for lines in noted.values())
