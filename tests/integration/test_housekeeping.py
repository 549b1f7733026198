"""What real processes leave behind, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.runtime.removal import GRAVE
from tests.integration.conftest import ClusterEnv, until

pytestmark = pytest.mark.integration


def sandboxes(env: ClusterEnv, agent: str = "a1") -> list[Path]:
    """The sandboxes of an agent, without the grave."""
    found = (env.base / agent / "sandboxes").glob("[A-Za-z]*/*")
    return sorted(path for path in found if path.is_dir())


def test_a_removed_sandbox_is_told_and_its_job_is_not_forgotten(env: ClusterEnv) -> None:
    """Output is kept for its retention; who comes later is told so, by text and exit code."""
    env.master()
    env.agent("cpus:4;mem:2G", "--log-keep", "2s")
    env.wait_for_framework()
    env.ok("submit", "--wait", "--", "sh", "-c", "echo early")
    running = env.ok("submit", "--parsable", "--", "sh", "-c", "echo late; sleep 600").strip()
    until(lambda: len(sandboxes(env)) == 1, "the sandbox of the ended task is removed")
    late = env.run("logs", "1")
    assert late.returncode == 4
    assert "removed after its retention of 2s" in late.stderr
    # A task that runs longer than the retention keeps its own.
    env.ok("submit", "--wait", "--", "true")
    until(lambda: len(sandboxes(env)) == 1, "a younger one is removed, too")
    assert env.ok("logs", running) == "late\n"
    env.ok("kill", running, "--grace", "0s")
    assert env.json("jobs", "-a")["jobs"][0]["state"] == "ok"


def test_an_agent_killed_in_a_removal_goes_on_with_it(env: ClusterEnv) -> None:
    """Nothing of it is left, and nothing of it is seen in between."""
    env.master()
    agent = env.agent("cpus:4;mem:2G", "--log-keep", "2s")
    env.wait_for_framework()
    many = "i=0; while [ $i -lt 200 ]; do mkdir d$i; touch d$i/a d$i/b d$i/c; i=$((i+1)); done"
    env.ok("submit", "--wait", "--sandbox", "--", "sh", "-c", many)
    grave = env.base / "a1" / "sandboxes" / GRAVE
    until(lambda: grave.is_dir() and any(grave.iterdir()), "the removal begins", look_s=0.001)
    agent.kill_nine()
    assert sandboxes(env) == []
    agent.restart()
    until(lambda: not any(grave.iterdir()), "the removal is finished")
    assert "Traceback" not in agent.text()


@pytest.fixture
def small_disk(env: ClusterEnv) -> Iterator[Path]:
    """A file system of 16 MiB below the cluster's directory."""
    place = env.base / "a1"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=711", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    yield place
    for part in env.agents:
        part.stop()
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_disk_that_fills_up_costs_the_oldest_sandboxes_first(
    env: ClusterEnv, small_disk: Path
) -> None:
    """Long before their retention is over, and no more than is needed."""
    env.master()
    agent = env.agent("cpus:4;mem:2G", "--log-keep", "10m", "--ends-tasks")
    env.wait_for_framework()
    fill = ["sh", "-c", "head -c 4000000 /dev/zero > big"]
    for _ in range(3):
        env.ok("submit", "--wait", "--sandbox", "--", *fill)
    before = sandboxes(env)
    assert len(before) == 3
    # Nearly full now: 12 of 16 MiB are 75 %, and this makes it 95 %.
    (small_disk / "other").write_bytes(b"x" * 3_300_000)
    until(lambda: len(sandboxes(env)) < 3, "a sandbox is removed for want of room", 120)
    left = sandboxes(env)
    assert left and left == before[-len(left) :]
    assert "% full" in agent.text()


def test_a_task_that_never_stops_writing_stays_at_its_limit(env: ClusterEnv) -> None:
    """While somebody follows it; its end is told, and so is what is missing."""
    env.start()
    # About 40 MiB a second, so that the follower falls behind and this host does not.
    text = "while :; do yes x | head -c 4000000; sleep 0.1; done"
    env.ok("submit", "--log-max", "1M", "--sandbox", "--", "sh", "-c", text)
    follower = env.popen("logs", "-f", "1", stdout=subprocess.DEVNULL)

    def stream() -> os.stat_result | None:
        found = [one / "stdout" for one in sandboxes(env)]
        return found[0].stat() if found and found[0].exists() else None

    def has_grown() -> bool:
        found = stream()
        return found is not None and found.st_size > 60_000_000

    until(has_grown, "the task has written 60 MB")
    until(lambda: (s := stream()) and s.st_blocks * 512 <= 1 << 20, "it is held at 1 MiB")
    env.ok("kill", "1", "--grace", "0s")
    _, told = follower.communicate(timeout=60)
    assert follower.returncode == 0, told
    last = stream()
    assert last is not None and last.st_blocks * 512 <= 1 << 20
    shown = env.run("logs", "1")
    assert shown.returncode == 0 and "bytes dropped (limit 1M)" in shown.stderr
    assert set(shown.stdout) == {"x", "\n"}
    ran = env.run("run", "--log-max", "64K", "--sandbox", "--", "sh", "-c", "yes | head -c 500000")
    assert ran.returncode == 0 and set(ran.stdout) == {"y", "\n"}


def test_a_job_fades_after_its_time_and_still_answers(env: ClusterEnv) -> None:
    """Listings, waiting and logs say what there is to say."""
    master = env.master("--log-keep", "2s")
    env.agent("cpus:4;mem:2G")
    env.wait_for_framework()
    env.run("submit", "--wait", "-a", "0-4", "--", "sh", "-c", "exit 3")

    def note() -> str:
        found: str = env.json("jobs", "-a")["jobs"][0]["note"]
        return found

    until(note, "only the summary is left")
    assert "details removed after 2s" in env.ok("status", "1")
    for words in (("logs", "1"), ("logs", "-f", "1"), ("tasks", "1")):
        late = env.run(*words)
        assert late.returncode == 4, words
        assert "details removed after 2s" in late.stderr, words
    assert env.run("wait", "1").returncode == 3
    assert master.process.poll() is None


@pytest.mark.root
@pytest.mark.cgroup
def test_cgroups_that_nobody_owns_are_gone_after_a_restart(env: ClusterEnv) -> None:
    """With the processes in them; the agent before was killed before it could."""
    env.start()
    agent = env.agents[0]
    env.ok("submit", "--wait", "--", "true")
    found = Path("/sys/fs/cgroup").glob(f"**/{env.cgroup_root}/*")
    # A cpuset takes nobody before it has CPUs, and is only for tasks with whole cores.
    tops = [path for path in found if path.is_dir() and "cpuset" not in path.parts]
    if not tops:
        pytest.skip("the agent fell back to posix isolation")
    agent.kill_nine()
    orphans = [top / "Fgone" / "7.0.1" for top in tops]
    for orphan in orphans:
        orphan.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as lost:
        for orphan in orphans:
            (orphan / "cgroup.procs").write_text(str(lost.pid))
        agent.restart()
        until(lambda: lost.poll() is not None, "the process in it is ended")
    until(lambda: not any(one.parent.exists() for one in orphans), "the directories are gone")
    assert "containers without a task are ended" in agent.text()
