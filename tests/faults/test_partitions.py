"""Lines between real processes that are held, cut, half-open, slow or flapping, and what follows.

Shorter partitions than the timeout are to be noticed by nobody; longer ones make an agent
unreachable, and its tasks go on. The proxy stands between master and agent, master and framework,
or framework and client.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.faults.judging import Notes, read_notes, write_script
from tests.faults.proxy import BOTH, DOWN, UP, Proxy
from tests.integration.conftest import ClusterEnv, Part, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
# Three heartbeats; what is held for longer than that is noticed.
TIMEOUT_S = 15.0
# Twice the timeout and what a busy machine adds.
NOTICED_S = 60.0


def lasts(seconds: float) -> None:
    """Let a fault last: how long is what the test is about, there is nothing to wait for."""
    threading.Event().wait(seconds)


class Lines:
    """A cluster with a proxy in each of its lines."""

    def __init__(self, env: ClusterEnv) -> None:
        self.env = env
        self.proxies: list[Proxy] = []
        self.master = env.master("--no-framework", "--quiet-start")
        self.to_agent = self._proxy(env.address)
        self.to_framework = self._proxy(env.address)
        self.to_clients = self._proxy("tcp://127.0.0.1:1")
        self.agent = env.agent("cpus:4;mem:1G", "--master", self.to_agent.address, name="a1")
        self.framework = self._framework()
        self.script = write_script(env.base)

    def _proxy(self, target: str) -> Proxy:
        proxy = Proxy(target)
        self.proxies.append(proxy)
        return proxy

    def _framework(self) -> Part:
        place = self.env.base / "batch" / "address"
        words = ["framework", "--master", self.to_framework.address]
        words += ["--advertise", self.to_clients.address, "--work-dir", str(place.parent)]
        part = self.env.part("batch", *words)
        until(lambda: place.exists() and place.read_text().endswith("\n"), "the framework listens")
        self.to_clients.aim(place.read_text().strip())
        self.env.wait_for_framework()
        return part

    def words(self, name: str, seconds: float) -> list[str]:
        """What to submit: one task that notes what it does."""
        size = ["--parsable", "-c", "0.5", "-m", "32M", "-n", name, "-o", "none", "-e", "none"]
        return [*size, "--", str(self.script), str(self.env.files), name, str(seconds), "0"]

    def submit(self, name: str, seconds: float) -> str:
        """Submit such a task; the job's id."""
        return self.env.ok("submit", *self.words(name, seconds)).strip()

    def notes(self, name: str) -> Notes:
        """What a task noted so far."""
        return read_notes(self.env.files).get(name, Notes())

    def runs(self, name: str) -> None:
        """Wait until a task has begun."""
        until(lambda: self.notes(name).starts, f"{name} runs")

    def task(self, job: str) -> dict[str, Any]:
        """The only task of a job, as it is listed."""
        return self.env.tasks(job)[0]

    def ends_well(self, job: str, name: str) -> None:
        """Wait for the job: one attempt, from start to end, and nothing beside it."""
        self.env.ok("wait", job)
        task = self.task(job)
        assert (task["state"], task["attempt"]) == ("ok", 1)
        notes = self.notes(name)
        assert (list(notes.starts), list(notes.ends), notes.overlaps) == ([1], [1], [])
        assert len(notes.starts[1]) == 1

    def agent_state(self) -> str:
        """How the master sees the agent."""
        listed = self.env.try_json("agents")
        return str(listed["agents"][0]["state"]) if listed else ""

    def heal(self) -> None:
        """Make the lines whole, so that everybody can say goodbye."""
        for proxy in self.proxies:
            proxy.resume()
        until(lambda: self.agent_state() == "registered", "the agent is back at the end")

    def close(self) -> None:
        """End the proxies."""
        for proxy in self.proxies:
            proxy.close()


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Master, agent and batch framework with a proxy between each of them."""
    env = ClusterEnv()
    try:
        made = Lines(env)
        yield made
        made.heal()
    finally:
        # Only after the cluster has said goodbye through them.
        env.close()
    made.close()


WAYS = pytest.mark.parametrize("ways", [BOTH, (UP,), (DOWN,)], ids=["both", "up", "down"])
EACH = pytest.mark.parametrize("line", ["to_agent", "to_framework", "to_clients"])


@EACH
def test_a_short_partition_is_noticed_by_nobody(lines: Lines, line: str) -> None:
    """A few seconds of silence are no reason to touch anything."""
    job = lines.submit("short", 5)
    lines.runs("short")
    waiting = lines.env.popen("wait", job)
    proxy: Proxy = getattr(lines, line)
    accepted = proxy.accepted
    proxy.hold()
    lasts(3.0)
    proxy.resume()
    lines.env.finish(waiting)
    lines.ends_well(job, "short")
    if line != "to_clients":
        assert proxy.accepted == accepted, "the session was not kept"
    assert "Unreachable" not in lines.framework.text()


@EACH
def test_a_cut_line_is_made_again(lines: Lines, line: str) -> None:
    """A reset in the middle of everything: what was under way is said again."""
    job = lines.submit("cut", 3)
    lines.runs("cut")
    waiting = lines.env.popen("wait", job)
    proxy: Proxy = getattr(lines, line)
    for _ in range(3):
        proxy.cut()
        lasts(0.5)
        proxy.resume()
        lasts(0.5)
    lines.env.finish(waiting)
    lines.ends_well(job, "cut")


def test_a_framework_that_cannot_ask_who_somebody_is_turns_nobody_away(lines: Lines) -> None:
    """It is started again while its master is away: a command that waits does so until both are."""
    waiting = lines.env.popen("submit", "-W", *lines.words("kept", 20))
    assert waiting.stdout is not None
    job = waiting.stdout.readline().strip()
    lines.runs("kept")
    lines.to_framework.cut()
    lines.framework.kill_nine()
    lines.framework.restart()
    # Longer than it waits for the master's verdict on a key.
    lasts(8.0)
    assert waiting.poll() is None, waiting.communicate()
    lines.to_framework.resume()
    lines.env.finish(waiting)
    lines.ends_well(job, "kept")


@pytest.mark.slow
@WAYS
def test_a_long_partition_of_an_agent_costs_no_task(lines: Lines, ways: tuple[str, ...]) -> None:
    """Its tasks go on and are told to be unreachable; a line that works one way is no line."""
    env = lines.env
    long, short = lines.submit("long", 75), lines.submit("brief", 8)
    lines.runs("long")
    lines.runs("brief")
    began = time.monotonic()
    lines.to_agent.hold(*ways)
    until(lambda: lines.agent_state() != "registered", "the silence is noticed", NOTICED_S)
    assert time.monotonic() - began >= TIMEOUT_S / 3
    until(lambda: lines.task(long)["reason"] == "Unreachable", "it is told", NOTICED_S)
    # Nothing is launched there meanwhile, and the task that ended there has an end already.
    waits = lines.submit("waits", 0)
    until(lambda: lines.notes("brief").ends, "tasks go on")
    assert lines.task(waits)["state"] == "pending"
    lines.to_agent.resume()
    until(lambda: lines.agent_state() == "registered", "the agent is back", NOTICED_S)
    until(lambda: lines.task(long)["reason"] != "Unreachable", "that is told, too", NOTICED_S)
    for job, name in ((short, "brief"), (waits, "waits"), (long, "long")):
        lines.ends_well(job, name)
    assert len(env.json("agents")["agents"]) == 1


@pytest.mark.slow
def test_a_framework_that_was_cut_off_learns_what_happened(lines: Lines) -> None:
    """Its tasks end meanwhile; nobody else acknowledges that, and nothing is run again."""
    names = [f"t{number}" for number in range(4)]
    jobs = [lines.submit(name, 5) for name in names]
    for name in names:
        lines.runs(name)
    lines.to_framework.hold()
    until(lambda: all(lines.notes(name).ends for name in names), "all end", NOTICED_S)
    lasts(TIMEOUT_S + 5)
    # The master sends nobody to one that it has lost.
    assert lines.env.run("tasks", jobs[0]).returncode == 3
    lines.to_framework.resume()
    lines.env.wait_for_framework()
    for job, name in zip(jobs, names, strict=True):
        lines.ends_well(job, name)


@pytest.mark.slow
def test_a_flapping_line_makes_nothing_grow(lines: Lines) -> None:
    """Two seconds up, two down, fifteen times: one agent, one attempt, no descriptors left over."""
    job = lines.submit("flap", 70)
    lines.runs("flap")
    process = psutil.Process(lines.master.pid)

    def flap(times: int) -> None:
        for _ in range(times):
            lines.to_agent.cut()
            lasts(2.0)
            lines.to_agent.resume()
            lasts(2.0)

    flap(3)
    before = (process.num_fds(), process.memory_info().rss)
    flap(12)
    until(lambda: lines.agent_state() == "registered", "the agent is back", NOTICED_S)
    assert process.num_fds() <= before[0] + 5
    assert process.memory_info().rss <= before[1] + (8 << 20)
    assert len(lines.env.json("agents")["agents"]) == 1
    lines.ends_well(job, "flap")


@pytest.mark.slow
def test_a_half_open_connection_is_found_out(lines: Lines) -> None:
    """The master is told of the end at once, the agent by nobody: its heartbeats tell it."""
    job = lines.submit("half", 60)
    lines.runs("half")
    lines.to_agent.half_open()
    until(lambda: lines.agent_state() != "registered", "the master knows", 10.0)
    warning = "does not answer"
    until(lambda: warning in lines.agent.text(), "the agent knows, too", NOTICED_S)
    lines.to_agent.resume()
    until(lambda: lines.agent_state() == "registered", "the agent is back", NOTICED_S)
    lines.ends_well(job, "half")


@pytest.mark.slow
def test_a_slow_reader_holds_nobody_else_up(lines: Lines) -> None:
    """A framework that takes 1,000 bytes a second: the master serves all others meanwhile."""
    env = lines.env
    lines.to_framework.throttle(1_000)
    script = [str(lines.script), str(env.files)]
    size = ["--parsable", "-c", "0.25", "-m", "16M", "-o", "none", "-e", "none"]
    wrap = " ".join([*script, '"slow-$MESOS_ARRAY_INDEX"', "0", "0"])
    job = env.ok("submit", *size, "-a", "0-99", "--wrap", wrap).strip()
    slowest = 0.0
    for _ in range(10):
        began = time.monotonic()
        assert env.ok("run", "-c", "0.5", "-m", "16M", "--", "echo", "hello") == "hello\n"
        slowest = max(slowest, time.monotonic() - began)
    # Not a matter of speed, but of being served at all while another one is not.
    assert slowest < 30.0
    lines.to_framework.resume()
    env.ok("wait", job)
    noted = read_notes(env.files)
    assert len(noted) == 100
    # An offer may be over before its acceptance came through; what never started has a number, too.
    assert all(len(notes.starts) == len(notes.ends) == 1 for notes in noted.values())
    assert not any(notes.overlaps for notes in noted.values())
