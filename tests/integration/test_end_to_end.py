"""What a user gets from a running cluster: jobs, their output, their limits, their exit codes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import CGROUPS, ClusterEnv, until

pytestmark = pytest.mark.integration
BUSY = "while :; do :; done"
# Grows for as long as it is let, in steps that a sampling isolator sees too.
HUNGRY = "import time\nx = []\nwhile len(x) < 50: x.append(bytearray(10 << 20)); time.sleep(0.02)\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[ClusterEnv]:
    """One cluster for the tests of this file that leave it as it was."""
    env = ClusterEnv()
    try:
        yield env.start()
    finally:
        env.close()


def test_every_task_of_an_array_is_ok(shared: ClusterEnv) -> None:
    """The main job: one line submits many tasks under limits; its exit code says how it went."""
    size = ["-a", "0-199", "-c", "0.5", "-m", "64M"]
    words = ["submit", "--parsable", *size, "-W", "--", "sh", "-c", "exit 0"]
    done = shared.run(*words, limit_s=100)
    assert done.returncode == 0, done.stderr
    tasks = shared.tasks(done.stdout.strip())
    assert [task["state"] for task in tasks] == ["ok"] * 200
    assert {task["exit_code"] for task in tasks} == {0}
    # One that its lane gave back before it began has an attempt more.
    assert {task["attempt"] for task in tasks} <= {1, 2, 3}
    assert {task["agent"] for task in tasks} == {"a1"}


def test_an_id_is_all_that_submit_prints(shared: ClusterEnv) -> None:
    """`id=$(mesosctl submit ...)` has to work, and a failed task is never 0."""
    job = shared.ok("submit", "--", "sh", "-c", "exit 3").strip()
    assert re.fullmatch(r"\d+", job)
    assert shared.run("wait", job).returncode == 3
    assert shared.tasks(job)[0]["state"] == "failed"


def test_run_passes_streams_and_exit_code(shared: ClusterEnv) -> None:
    """A foreground run behaves like the command itself: both streams apart, its own code."""
    done = shared.run("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_output_is_whole_and_in_order(shared: ClusterEnv) -> None:
    """A run ends after its output has come, however much there is."""
    assert shared.ok("run", "--", "seq", "200000").split() == [str(n) for n in range(1, 200001)]


def test_stdin_reaches_the_task(shared: ClusterEnv) -> None:
    """A run takes its place in a pipeline."""
    lines = "".join(f"{number}\n" for number in range(1, 100001))
    assert shared.ok("run", "-i", "-", "--", "wc", "-l", text=lines).strip() == "100000"
    assert shared.ok("run", "--", "wc", "-l", text=lines).strip() == "100000"


def test_exceeding_the_memory_limit_is_said(shared: ClusterEnv) -> None:
    """A task that its limit killed says so, with limit and peak: nobody has to guess."""
    done = shared.run("run", "-m", "64M", "--", "python3", "-c", HUNGRY)
    assert done.returncode == 137, done.stderr
    assert "memory limit" in done.stderr.lower()
    assert "64" in done.stderr and "peak" in done.stderr.lower()


@pytest.mark.cgroup
@pytest.mark.root
def test_one_great_allocation_is_an_oom(shared: ClusterEnv) -> None:
    """Under cgroups no moment is too short: the kernel counts every page."""
    done = shared.run("run", "-m", "64M", "--", "python3", "-c", "x=bytearray(500*2**20)")
    assert done.returncode == 137, done.stderr
    assert "memory limit" in done.stderr.lower()


def test_an_oom_of_a_job_is_its_state(shared: ClusterEnv) -> None:
    """In listings too the end is `oom`, with what was used."""
    job = shared.ok("submit", "-m", "48M", "--", "python3", "-c", HUNGRY).strip()
    assert shared.run("wait", job).returncode == 137
    (task,) = shared.tasks(job)
    assert (task["state"], task["exit_code"]) == ("oom", 137)


def test_a_line_is_a_task(shared: ClusterEnv) -> None:
    """Many small tasks from a pipe, and the log of any one of them."""
    lines = "".join(f"{number}\n" for number in range(1, 201))
    words = ["submit", "--parsable", "-c", "0.5", "-m", "32M", "--each-line", "-", "-W"]
    job = shared.ok(*words, "--", "echo", "{}", text=lines, limit_s=100).strip()
    assert len(shared.tasks(job)) == 200
    for index in (0, 77, 199):
        assert shared.ok("logs", f"{job}.{index}") == f"{index + 1}\n"


@pytest.mark.slow
def test_a_thousand_lines_are_a_thousand_tasks(shared: ClusterEnv) -> None:
    """The same at the size that the project promises."""
    lines = "".join(f"{number}\n" for number in range(1, 1001))
    words = ["submit", "--parsable", "-c", "0.5", "-m", "32M", "--each-line", "-", "-W"]
    job = shared.ok(*words, "--", "echo", "{}", text=lines, limit_s=110).strip()
    assert shared.ok("logs", f"{job}.617") == "618\n"


def test_what_cannot_start_has_the_shells_codes(shared: ClusterEnv) -> None:
    """126 and 127 are what scripts look for."""
    assert shared.run("run", "--", "/no/such/program").returncode == 127
    assert shared.run("run", "--", "/etc/passwd").returncode == 126


def test_a_time_limit_is_kept(shared: ClusterEnv) -> None:
    """`timeout` is a state of its own, and 124 its code."""
    job = shared.ok("submit", "-t", "1s", "--grace", "1s", "--", "sleep", "600").strip()
    assert shared.run("wait", job).returncode == 124
    assert shared.tasks(job)[0]["state"] == "timeout"


def test_a_kill_ends_running_and_waiting_tasks(shared: ClusterEnv) -> None:
    """A job is ended as a whole: what runs is killed, what waits never starts."""
    job = shared.ok("submit", "-a", "0-19", "-c", "2", "--", "sleep", "600").strip()
    until(
        lambda: sum(task["state"] == "running" for task in shared.tasks(job)) == 2, "two tasks run"
    )
    shared.ok("kill", job)
    assert shared.run("wait", job).returncode == 143
    states = [task["state"] for task in shared.tasks(job)]
    assert (states.count("killed"), states.count("cancelled")) == (2, 18)


def test_a_killed_run_takes_its_task_along(shared: ClusterEnv) -> None:
    """Nobody is left to read what the task of a dead foreground run writes."""
    told = shared.files / "here"
    process = shared.popen("run", "--", "sh", "-c", f"touch {told}; exec sleep 610")
    until(told.exists, "the task runs")
    process.kill()
    process.wait()
    assert until(lambda: not shared.named("610"), "the task is gone")


def _cpu_s(job: str) -> float:
    """CPU seconds that the kernel has counted in the container of a one-task job."""
    for pattern, unit in (("cpuacct/**/*cpuacct.usage", 1e9), ("**/cpu.stat", 1e6)):
        for path in CGROUPS.glob(pattern):
            if path.parent.name == f"{job}.0.1":
                words = re.search(r"\d+", path.read_text())
                assert words is not None
                return int(words[0]) / unit
    raise AssertionError(f"no container of job {job}")


@pytest.mark.cgroup
@pytest.mark.root
def test_a_busy_loop_gets_its_share_of_a_cpu(shared: ClusterEnv) -> None:
    """-c is a hard limit: half a CPU is half a CPU also on an idle machine."""
    job = shared.ok("submit", "-c", "0.5", "--", "sh", "-c", BUSY).strip()
    until(lambda: shared.tasks(job)[0]["state"] == "running", "the loop runs")
    until(lambda: _cpu_s(job) > 0.2, "the loop is busy")
    # Never more, in any window; as much, in the first one in which the machine is otherwise idle.
    share = 0.0
    for _ in range(4):
        used, began = _cpu_s(job), time.monotonic()
        until(lambda began=began: time.monotonic() - began >= 5, "five seconds have passed")
        share = (_cpu_s(job) - used) / (time.monotonic() - began)
        assert share < 0.55
        if share > 0.45:
            break
    shared.ok("kill", job)
    assert share == pytest.approx(0.5, abs=0.05)


def test_every_listing_speaks_json(shared: ClusterEnv) -> None:
    """Scripts read one object with a schema and the list under the command's own name."""
    (agent,) = shared.json("agents")["agents"]
    assert agent["name"] == "a1" and agent["state"] == "registered"
    names = [framework["name"] for framework in shared.json("frameworks")["frameworks"]]
    assert "batch" in names
    assert isinstance(shared.json("offers")["offers"], list)
    assert isinstance(shared.json("roles")["roles"], list)


def test_a_script_is_captured_when_it_is_submitted(shared: ClusterEnv, tmp_path: Path) -> None:
    """What is changed or deleted afterwards does not change the job."""
    script = tmp_path / "job.sh"
    script.write_text("echo first $1 $MESOS_ARRAY_INDEX\n")
    job = shared.ok("submit", "-a", "5", str(script), "word").strip()
    script.unlink()
    assert shared.run("wait", job).returncode == 0
    assert shared.ok("logs", f"{job}.5") == "first word 5\n"


def test_output_may_go_to_any_path(shared: ClusterEnv) -> None:
    """-o names a file as in Slurm, opened with the submitting user's rights."""
    job = shared.ok(
        "submit", "-o", str(shared.files / "o-%j-%a"), "-a", "3", "-W", "--", "echo", "x"
    ).strip()
    assert (shared.files / f"o-{job}-3").read_text() == "x\n"


def test_without_a_cluster_there_is_one_line() -> None:
    """Nobody needs a traceback to learn that no master runs."""
    env = ClusterEnv()
    try:
        env.variables["MESOSCTL_MASTER"] = "tcp://127.0.0.1:1"
        done = env.run("submit", "--", "true")
        assert done.returncode in (3, 4) and done.stdout == ""
        assert len(done.stderr.strip().splitlines()) <= 2
        assert "Traceback" not in done.stderr
    finally:
        env.close()
