"""Every reason for waiting, made to happen by real processes and found with its numbers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mesosctl.model.explanations import Explanation
from mesosctl.protocol.messages.batch import Jobs, KillJobs, ListJobs, ListTasks, Tasks
from mesosctl.protocol.messages.explain import Explained, ExplainTasks
from mesosctl.protocol.messages.query import (
    Agents,
    FindFramework,
    FrameworkFound,
    ListAgents,
    ListOffers,
    OutstandingOffers,
)
from mesosctl.runtime.client import Hub
from tests.integration.conftest import ClusterEnv, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
GIB = 2**30
SMALL = ("-m", "64M")
# What was explained before there was an agent.
_EARLY: dict[str, Any] = {}


class Lines:
    """Conversations with the master and the batch framework: quicker than commands to ask often."""

    def __init__(self, env: ClusterEnv, hub: Hub) -> None:
        key = env.key
        self.master = hub.connect(env.address, key.pair, key.server_key, name="m", timeout_s=10.0)
        where = self.master.request(FindFramework("batch"))
        assert isinstance(where, FrameworkFound)
        self.batch = hub.connect(
            where.address, key.pair, where.public_key, name="b", timeout_s=10.0
        )

    def explain(self, job: str) -> Explanation:
        """The batch framework's explanation of a job's worst kind of tasks."""
        answer = self.batch.request(ExplainTasks((job,)))
        assert isinstance(answer, Explained), answer
        return answer.explanations[0]

    def states(self, job: str) -> list[str]:
        """The states of its tasks."""
        answer = self.batch.request(ListTasks((job,)))
        assert isinstance(answer, Tasks), answer
        return [str(task.state) for task in answer.tasks]

    def runs(self, job: str) -> None:
        """Wait until all its tasks run."""
        until(lambda: set(self.states(job)) == {"running"}, f"job {job} runs")

    def clear(self) -> None:
        """End everything, and wait until all agents are free."""
        self.batch.request(KillJobs(("all",), grace_s=0.0))
        until(lambda: not self._jobs(), "everything has ended")
        until(lambda: not self._tasks(), "all is free")

    def _jobs(self) -> int:
        answer = self.batch.request(ListJobs())
        assert isinstance(answer, Jobs), answer
        return len(answer.jobs)

    def _tasks(self) -> int:
        answer = self.master.request(ListAgents())
        assert isinstance(answer, Agents), answer
        return sum(agent.tasks for agent in answer.agents)

    def offers(self) -> int:
        """How many offers are outstanding."""
        answer = self.master.request(ListOffers())
        assert isinstance(answer, OutstandingOffers), answer
        return len(answer.offers)


_LINES: dict[ClusterEnv, Lines] = {}


@pytest.fixture(scope="module")
def crowd() -> Iterator[ClusterEnv]:
    """Three agents in two racks, one of them mostly reserved, and a batch framework of a role."""
    made = ClusterEnv()
    hub = Hub()
    try:
        made.master("--no-framework")
        framework(made)
        job = made.ok("submit", *SMALL, "--", "true").strip()
        _EARLY.update(explain(made, job))
        _EARLY["dry"] = made.run("submit", "--dry-run", "--json", "--", "true")
        made.agent("cpus:4;mem:2G", "--attributes", "rack:r1;ssd:true", name="a1")
        made.agent("cpus:2;mem:1G", "--attributes", "rack:r2", name="a2")
        reserved = "cpus:0.5;mem:256M;cpus(ads):8;mem(ads):4G"
        made.agent(reserved, "--attributes", "rack:r2", name="a3")
        _LINES[made] = Lines(made, hub)
        until(lambda: _LINES[made].states(job) == ["ok"], "it runs once there are agents")
        yield made
    finally:
        hub.close()
        made.close()


def framework(env: ClusterEnv) -> Any:
    """The batch framework, in the role batch."""
    words = ["framework", "--role", "batch", "--work-dir", str(env.base / "batch")]
    part = env.part("framework", *words, "--master", env.address, "--key", str(env.key_path))
    env.wait_for_framework()
    return part


@pytest.fixture
def calm(crowd: ClusterEnv) -> Iterator[ClusterEnv]:
    """The same, with nothing left of what a test has submitted."""
    yield crowd
    _LINES[crowd].clear()


def explain(env: ClusterEnv, selector: str) -> dict[str, Any]:
    """The first explanation of a job or task."""
    found: dict[str, Any] = env.json("explain", selector)["explain"][0]
    assert found["causes"] and found["reason"] == found["causes"][0]["reason"]
    return found


def waits_for(env: ClusterEnv, job: str, *reasons: str) -> dict[str, Any]:
    """Its explanation, once these are its first causes; listings say the same."""

    lines = _LINES[env]
    until(lambda: words(lines.explain(job))[: len(reasons)] == list(reasons), f"{job}: {reasons}")
    answer = lines.batch.request(ListJobs((job,)))
    assert isinstance(answer, Jobs) and answer.jobs[0].reason == reasons[0]
    return explain(env, job)


def words(found: Explanation) -> list[str]:
    """Its reasons, each once."""
    return list(dict.fromkeys(cause.reason for cause in found.causes))


def submit(env: ClusterEnv, *words: str, seconds: float = 300) -> str:
    """Submit a task that lasts."""
    return env.ok("submit", *words, "--", "sleep", str(seconds)).strip()


def started(env: ClusterEnv, *words: str) -> str:
    """A job all of whose tasks run."""
    job = submit(env, *words)
    _LINES[env].runs(job)
    return job


def group(found: dict[str, Any], reason: str | None) -> dict[str, Any]:
    """The agents that are kept off by this."""
    [one] = [one for one in found["groups"] if one["reason"] == reason]
    return dict(one)


def test_no_agents(crowd: ClusterEnv) -> None:
    """The first thing that somebody who tries it out sees."""
    assert (_EARLY["reason"], _EARLY["agents"], _EARLY["verdict"]) == ("NoAgents", 0, "never")
    assert "mesosctl agent" in _EARLY["advice"]
    assert _EARLY["dry"].returncode == 1
    assert json.loads(_EARLY["dry"].stdout)["submit"]["reason"] == "NoAgents"


def test_never_fits(calm: ClusterEnv) -> None:
    """Too much for every agent, with the most that there is; and the same before submission."""
    found = waits_for(calm, submit(calm, "-c", "1", "-m", "64G"), "NeverFits")
    assert found["verdict"] == "never"
    lacks = {lack["name"]: lack for one in found["groups"] for lack in one["lacks"]}
    assert lacks["mem"]["need"] == 64 * GIB and lacks["mem"]["most"] <= 2 * GIB
    assert "-m 2G fits a1" in found["advice"]
    dry = calm.run("submit", "--dry-run", "-m", "64G", "--", "true")
    assert (
        dry.returncode == 1 and "too small: mem (needs 64G; most there is 2G on a1)" in dry.stdout
    )
    assert len(calm.json("jobs")["jobs"]) == 1


def test_reserved_for_others(calm: ClusterEnv) -> None:
    """An agent that would be large enough if it were not somebody else's."""
    found = waits_for(calm, submit(calm, "-c", "6", *SMALL), "NeverFits")
    one = group(found, "Reserved")
    assert (one["names"], one["text"], one["lacks"][0]["most"]) == (["a3"], "ads", 0.5)
    assert "reserved for ads" in json.dumps(found["causes"])
    calm.ok("reserve", "a1", "cpus:2", "--role", "ads")
    job = submit(calm, "-c", "3", *SMALL)
    found = waits_for(calm, job, "NeverFits")
    assert group(found, "Reserved")["names"] == ["a1", "a3"]
    calm.ok("unreserve", "a1", "cpus:2", "--role", "ads")
    _LINES[calm].runs(job)


def test_constraint(calm: ClusterEnv) -> None:
    """No agent fulfils it, or only those that have no room."""
    found = waits_for(calm, submit(calm, "--constraint", "rack==r9 && ssd", *SMALL), "Constraint")
    assert found["verdict"] == "never" and found["constraint"] == "rack==r9 && ssd"
    assert {one["text"]: one["names"] for one in found["groups"]} == {
        "rack==r9 (rack is r1)": ["a1"],
        "rack==r9 (rack is r2), ssd (no ssd)": ["a2", "a3"],
    }
    found = waits_for(
        calm, submit(calm, "--on", "a2", "-c", "3", *SMALL), "NeverFits", "Constraint"
    )
    assert group(found, "NeverFits")["lacks"] == [
        {"name": "cpus", "need": 3.0, "most": 2.0, "agent": "a2"}
    ]
    assert (
        calm.ok("run", "--constraint", "ssd && rack!=r2", "--", "printenv", "MESOS_AGENT") == "a1\n"
    )
    refused = calm.run("submit", "--constraint", "rack=r1", "--", "true")
    assert refused.returncode == 2 and "character 5" in refused.stderr


def test_spread(calm: ClusterEnv) -> None:
    """One task on each agent; the others wait for one of these."""
    job = submit(calm, "--spread", "-a", "0-3", "-c", "0.1", *SMALL)
    until(lambda: len({t["agent"] for t in calm.tasks(job) if t["agent"]}) == 3, "on three agents")
    found = waits_for(calm, job, "Constraint")
    assert group(found, "Constraint")["text"] == "a task of the job is there"
    assert [t["state"] for t in calm.tasks(job)].count("running") == 3


def test_resources(calm: ClusterEnv) -> None:
    """What is in use, with what is free of it; who asks for less starts now."""
    started(calm, "--on", "a1", "-c", "3", *SMALL)
    found = waits_for(calm, submit(calm, "--on", "a1", "-c", "2", *SMALL), "Resources")
    assert (found["verdict"], found["fit_now"], found["fit_idle"]) == ("idle", 0, 1)
    assert group(found, "Resources")["lacks"] == [
        {"name": "cpus", "need": 2.0, "most": 1.0, "agent": "a1"}
    ]
    assert "-c 1 fits a1 now" in found["advice"]
    dry = json.loads(calm.ok("submit", "--dry-run", "--json", "-c", "3", *SMALL, "--", "true"))
    assert (dry["submit"]["verdict"], dry["submit"]["fits"]) == ("idle", True)


def test_offer_pending(calm: ClusterEnv) -> None:
    """It fits now: an offer is all that it would wait for."""
    done = calm.run("submit", "--dry-run", "--json", *SMALL, "--", "true")
    found = json.loads(done.stdout)["submit"]
    assert done.returncode == 0
    assert (found["reason"], found["verdict"], found["fit_now"]) == ("OfferPending", "now", 2)


def test_max_running(calm: ClusterEnv) -> None:
    """More agents would not help."""
    job = submit(calm, "-a", "0-4%1", "-c", "0.1", *SMALL)
    until(lambda: "running" in _LINES[calm].states(job), "one runs")
    found = waits_for(calm, job, "MaxRunning")
    assert found["alike"] == 4 and "--max-running" in found["advice"]


def test_draining(calm: ClusterEnv) -> None:
    """The one agent that would do is in maintenance, with its reason and the way back."""
    calm.ok("drain", "a1", "--reason", "kernel")
    job = submit(calm, "-c", "3", *SMALL)
    found = waits_for(calm, job, "Draining", "NeverFits")
    assert found["verdict"] == "idle" and "undrain a1" in found["advice"]
    assert group(found, "Draining")["text"] == "draining: kernel"
    calm.ok("undrain", "a1")
    _LINES[calm].runs(job)


def test_unreachable(calm: ClusterEnv) -> None:
    """The one agent that would do does not answer; back again, it is used."""
    agent = calm.agents[0]
    agent.kill_nine()
    job = submit(calm, "-c", "3", *SMALL)
    found = waits_for(calm, job, "Unreachable", "NeverFits")
    assert group(found, "Unreachable")["names"] == ["a1"]
    agent.restart()
    _LINES[calm].runs(job)


def test_quota(calm: ClusterEnv) -> None:
    """A limit of the role, with what is left of it."""
    started(calm, "-c", "1", *SMALL)
    calm.ok("quota", "set", "batch", "cpus:2")
    job = submit(calm, "-c", "1.5", *SMALL)
    found = waits_for(calm, job, "Quota")
    limit = {"role": "batch", "name": "cpus", "limit": 2.0, "room": 1.0, "need": 1.5}
    assert found["quota"] == [limit] and found["verdict"] == "idle"
    assert "an offer is to be expected" not in str(found["causes"])
    dry = calm.run("submit", "--dry-run", "-c", "3", *SMALL, "--", "true")
    assert dry.returncode == 1 and "its limit is 2" in dry.stdout
    calm.ok("quota", "unset", "batch")
    _LINES[calm].runs(job)


def test_share(calm: ClusterEnv) -> None:
    """Another role with a lower share waits as well: what becomes free is offered to it first."""
    started(calm, "--on", "a1", "-c", "4", *SMALL)
    job = submit(calm, "--on", "a1", "-c", "3", *SMALL)
    other = calm.popen("run", "-R", "web", "--on", "a1", "-c", "2", *SMALL, "--", "true")
    found = waits_for(calm, job, "Share", "Resources")
    [rival] = found["rivals"]
    assert (rival["theirs"]["name"], rival["ours"]["name"]) == ("web", "batch")
    assert rival["theirs"]["share"] == 0 and rival["ours"]["dominant"] == "cpus"
    # Of 14.5 CPUs, those that are reserved among them.
    assert rival["ours"]["share"] == int(1000 * 4 / 14.5) / 1000
    other.send_signal(signal.SIGINT)
    other.communicate()
    waits_for(calm, job, "Resources")


def test_ends(calm: ClusterEnv) -> None:
    """What codes, signals and limits mean, with the end of stderr where there is one."""
    script = "for n in $(seq 50); do echo line $n >&2; done; exit 3"
    failed = calm.ok("submit", *SMALL, "--", "sh", "-c", script).strip()
    missing = calm.ok("submit", *SMALL, "--", "no-such-command").strip()
    crashed = calm.ok("submit", *SMALL, "--", "sh", "-c", "kill -SEGV $$").strip()
    late = calm.ok("submit", *SMALL, "-t", "1s", "--", "sleep", "60").strip()
    killed = submit(calm, *SMALL)
    _LINES[calm].runs(killed)
    calm.ok("kill", killed, "--reason", "by mistake")
    calm.run("wait", failed, missing, crashed, late, killed)
    found = explain(calm, failed)
    assert (found["state"], found["exit_code"]) == ("failed", 3)
    assert found["stderr"] == [f"line {n}" for n in range(31, 51)]
    found = explain(calm, missing)
    assert found["exit_code"] == 127 and "not found" in found["causes"][0]["text"]
    assert "signal 11 (SEGV)" in explain(calm, crashed)["causes"][0]["text"]
    found = explain(calm, late)
    assert (found["state"], found["time_limit_s"]) == ("timeout", 1.0)
    assert "its time limit of 1s" in found["causes"][0]["text"]
    assert "by mistake" in json.dumps(explain(calm, killed)["causes"])
    printed = calm.ok("explain", failed).splitlines()
    assert printed[0].startswith(f"{failed}.0 'sh' failed") and printed[-1] == "    line 50"


def test_oom(calm: ClusterEnv) -> None:
    """The limit and the peak: how much more it would have needed is for the user to guess."""
    hungry = "x = bytearray(300 << 20); import time; time.sleep(60)"
    job = calm.ok("submit", "-m", "64M", "--", "python3", "-c", hungry).strip()
    calm.run("wait", job)
    found = explain(calm, job)
    assert (found["state"], found["mem_limit"]) == ("oom", 64 << 20)
    assert "limit of 64M, its peak was" in found["causes"][0]["text"]
    assert "-m 128M" in found["advice"] and found["mem_peak"] >= 60 << 20


# --- masters and frameworks in trouble ------------------------------------------------------------
@pytest.fixture
def stern(env: ClusterEnv) -> tuple[ClusterEnv, Any]:
    """A master that goes by priority and takes silence for a refusal soon, and its framework."""
    env.master("--no-framework", "--allocator", "priority", "--offer-timeout", "3s")
    part = framework(env)
    env.agent("cpus:2;mem:1G")
    return env, part


def test_priority_filter_delay_and_no_master(stern: tuple[ClusterEnv, Any]) -> None:
    """What happens to a framework: others go first, it is silent, its attempts are in vain."""
    env, part = stern
    with Hub() as hub:
        lines = _LINES[env] = Lines(env, hub)
        _priority(env, lines)
        _filtered(env, lines, part)
        _backoff(env, lines)
        _no_framework(env, lines)


def test_lot(env: ClusterEnv) -> None:
    """Where lots are drawn nobody is first: it is said with whom, and by which weights."""
    env.master("--no-framework", "--allocator", "random", "--weights", "web=3")
    framework(env)
    env.agent("cpus:2;mem:1G")
    with Hub() as hub:
        lines = _LINES[env] = Lines(env, hub)
        held = started(env, "-c", "2", *SMALL)
        job = submit(env, "-c", "2", *SMALL)
        other = env.popen("run", "-R", "web", "-c", "1", *SMALL, "--", "true")
        found = waits_for(env, job, "Lot", "Resources")
        [rival] = found["rivals"]
        assert [rival[whose]["name"] for whose in ("theirs", "ours")] == ["web", "batch"]
        assert [rival[whose]["weight"] for whose in ("theirs", "ours")] == [3, 1]
        assert "drawn by lot" in found["causes"][0]["text"]
        env.ok("kill", "-y", held, "--grace", "0s")
        # Whoever is drawn first, there is something for both in the end.
        env.finish(other)
        lines.runs(job)
        lines.clear()


def _priority(env: ClusterEnv, lines: Lines) -> None:
    env.ok("role", "set", "web", "--priority", "5")
    started(env, "-c", "2", *SMALL)
    job = submit(env, "-c", "2", *SMALL)
    other = env.popen("run", "-R", "web", "-c", "1", *SMALL, "--", "true")
    found = waits_for(env, job, "Priority", "Resources")
    assert [found["rivals"][0][whose]["priority"] for whose in ("theirs", "ours")] == [5, 0]
    other.send_signal(signal.SIGINT)
    other.communicate()
    assert [change.reason for change in lines.explain(job).history][-1] == "Priority"
    lines.clear()


def _filtered(env: ClusterEnv, lines: Lines, part: Any) -> None:
    """A framework that is stopped does not answer an offer, and is not made another one at once."""
    over = env.files / "over"
    waiting = f"until [ -e {over} ]; do sleep 0.05; done"
    env.ok("submit", "-c", "2", *SMALL, "--", "sh", "-c", waiting)
    job = submit(env, "-c", "2", *SMALL)
    waits_for(env, job, "Resources")
    os.kill(part.pid, signal.SIGSTOP)
    try:
        over.touch()
        until(lines.offers, "it is offered what the first one left")
        until(lambda: not lines.offers(), "the offer times out")
    finally:
        os.kill(part.pid, signal.SIGCONT)
    found = lines.explain(job)
    assert words(found) == ["Filtered"] and found.fit is not None and found.verdict == "now"
    [refused] = found.fit.groups
    assert refused.left_s is not None and 0 < refused.left_s <= 3.0
    lines.runs(job)
    lines.clear()


def _backoff(env: ClusterEnv, lines: Lines) -> None:
    """An agent that dies twice before it has read what it was given."""
    agent = env.agents[0]
    os.kill(agent.pid, signal.SIGSTOP)
    job = submit(env, "-c", "1", *SMALL)
    _die_unread(env, lines, job)
    until(lambda: lines.states(job) == ["pending"], "the first attempt never started")
    os.kill(agent.pid, signal.SIGSTOP)
    env.ok("undrain", "a1")
    _die_unread(env, lines, job)
    found = until(
        lambda: next((f for f in [lines.explain(job)] if words(f)[0] == "Backoff"), None),
        "its attempts were in vain",
    )
    assert found is not None and "never started" in found.causes[-1].text
    assert "tried again by itself" in found.advice
    env.ok("undrain", "a1")
    lines.runs(job)


def _die_unread(env: ClusterEnv, lines: Lines, job: str) -> None:
    """Have the stopped agent sent a task, and be killed; it comes back withheld."""
    until(lambda: lines.states(job) == ["staging"], "it is sent to the agent")
    env.ok("deactivate", "a1")
    env.agents[0].kill_nine()
    env.agents[0].restart()


def _no_framework(env: ClusterEnv, lines: Lines) -> None:
    """The master dies: who still talks to the framework is told; a command says what it can."""
    job = submit(env, "-c", "2", *SMALL)
    assert words(lines.explain(job))
    env.parts[0].kill_nine()
    found = until(
        lambda: next((f for f in [lines.explain(job)] if words(f) == ["NoFramework"]), None),
        "it notices",
    )
    assert found is not None and found.fit is None and found.verdict == ""
    done = env.run("--request-timeout", "1s", "explain", job)
    assert done.returncode == 3 and "nobody listens" in done.stderr
    env.parts[0].restart()
    env.wait_for_framework()
