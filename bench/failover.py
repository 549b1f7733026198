"""How long it takes until all is well again: `python bench/failover.py [--part NAME]`.

`master`: a master with 100 emulated agents (emulated.py) and 1,000 running tasks of the batch
framework is killed with -9 and started again, at once and after a while. It is offering again when
a framework that had an offer of every agent has one of every agent again. No task may be touched.
`agent`: an agent with 50 running tasks is killed and started again while some of them end. All are
taken back when the master lists it as registered, for it registers only with its tasks. Every task
must end with its own exit code, in its first attempt.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from common import Cluster, tell

from mesosctl.api import Demand, Driver, Offer, Resources, Scheduler
from mesosctl.protocol.messages.query import Agents, ListAgents
from mesosctl.runtime.client import Client, Hub
from mesosctl.storage.keys import load_key

PATIENCE_S = 60.0
LOOK_S = 0.01
EXIT_CODES = 7


class Failed(RuntimeError):
    """What must not happen did."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Recovery of a master and of an agent.")
    parser.add_argument("--part", choices=["master", "agent", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--away", type=float, default=20, help="seconds of the long absence")
    parser.add_argument("--own-tasks", type=int, default=50, help="tasks of the agent that dies")
    options = parser.parse_args()
    figures: dict[str, Any] = {"rounds": options.rounds}
    if options.part != "agent":
        figures["master"] = restart_master(
            options.agents, options.tasks, options.rounds, options.away
        )
    if options.part != "master":
        figures["agent"] = restart_agent(options.own_tasks, options.rounds)
    tell("failover", figures)


def until(look: Callable[[], Any], what: str) -> Any:
    """The first true value of `look`. Raises Failed."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(LOOK_S)
    return found


def states(cluster: Cluster, job: str) -> list[dict[str, Any]]:
    """The tasks of a job."""
    listed: list[dict[str, Any]] = json.loads(cluster.run("tasks", job, "-o", "json"))["tasks"]
    return listed


# --- the master -----------------------------------------------------------------------------------


class Watcher(Scheduler):
    """A framework that keeps every offer, and notes when it had one of each agent."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.complete = threading.Event()
        self.first_at = self.complete_at = 0.0
        self._held: set[str] = set()

    def disconnected(self, driver: Driver) -> None:
        """All offers are void."""
        self._held.clear()
        self.first_at = 0.0

    def offers(self, driver: Driver, offers: Sequence[Offer]) -> None:
        """Keep them."""
        self.first_at = self.first_at or time.monotonic()
        self._held.update(offer.agent_id for offer in offers)
        if len(self._held) == self.agents:
            self.complete_at = time.monotonic()
            self.complete.set()

    def rescinded(self, driver: Driver, offer_ids: Sequence[str]) -> None:
        """They come back by themselves."""


def restart_master(agents: int, tasks: int, rounds: int, away_s: float) -> dict[str, Any]:
    """Kill and start a master again; seconds until it is offering again."""
    with Cluster("", "--offer-timeout", "10m") as cluster, tempfile.TemporaryFile("w+") as output:
        crowd = _crowd(cluster, agents, output)
        try:
            job = cluster.run("submit", "-a", f"0-{tasks - 1}", "-m", "32M", "--", "sleep", "9999")
            job = job.strip()
            running = {"running": tasks}
            until(lambda: _counts(cluster, job) == running, "all tasks run")
            watcher = _watch(cluster, agents)
            figures = {
                "killed_and_started": _rounds(cluster, watcher, rounds, 0.0),
                "away": {"away_s": away_s, **_rounds(cluster, watcher, 1, away_s)},
            }
            until(lambda: _counts(cluster, job) == running, "the framework is back")
            if any(task["attempt"] != 1 for task in states(cluster, job)):
                raise Failed("a task was started again")
        finally:
            crowd.terminate()
            crowd.wait()
        output.seek(0)
        launches, kills, _ = output.read().split("\n")[1].rpartition(": ")[2].split()
        if (int(launches), int(kills)) != (tasks, 0):
            raise Failed(f"{launches} launches and {kills} kills of {tasks} tasks")
    return {"agents": agents, "tasks": tasks, "touched": 0, **figures}


def _crowd(cluster: Cluster, agents: int, output: IO[str]) -> subprocess.Popen[bytes]:
    key = str(cluster.base / "master" / "bench.key")
    program = str(Path(__file__).parent / "emulated.py")
    words = [sys.executable, program, "--count", str(agents), "--key", key]
    process = subprocess.Popen(words, env=cluster.environment, stdout=output)
    text = f"{agents} emulated agents register"
    until(lambda: _registered(cluster) == agents, text)
    return process


def _registered(cluster: Cluster) -> int:
    listed = json.loads(cluster.run("agents", "-o", "json"))["agents"]
    return sum(agent["state"] == "registered" for agent in listed)


def _counts(cluster: Cluster, job: str) -> dict[str, int]:
    try:
        listed = json.loads(cluster.run("jobs", job, "-o", "json"))["jobs"]
    except RuntimeError:
        # Nobody answers yet.
        return {}
    counts: dict[str, int] = listed[0]["counts"]
    return {state: count for state, count in counts.items() if count}


def _watch(cluster: Cluster, agents: int) -> Watcher:
    watcher = Watcher(agents)
    key = cluster.base / "master" / "bench.key"
    demand = Demand(Resources.parse("cpus:1;mem:32"), agents)
    driver = Driver(watcher, name="watcher", master=load_key(key).master, key=key, demand=demand)
    threading.Thread(target=driver.run, daemon=True).start()
    if not watcher.complete.wait(PATIENCE_S):
        raise Failed("there was no offer of every agent at first")
    return watcher


def _rounds(cluster: Cluster, watcher: Watcher, rounds: int, away_s: float) -> dict[str, float]:
    first, complete = [], []
    for _ in range(rounds):
        cluster.kill("master")
        until(lambda: watcher.first_at == 0.0, "the framework has noticed")
        watcher.complete.clear()
        time.sleep(away_s)
        began = time.monotonic()
        cluster.again("master")
        if not watcher.complete.wait(PATIENCE_S):
            raise Failed(f"no offer of every agent within {PATIENCE_S:g} s")
        first.append(watcher.first_at - began)
        complete.append(watcher.complete_at - began)
        # A master that has just begun is no fair start.
        until(lambda: _counts_anything(cluster), "the batch framework is back")
    return {
        "first_offer_s": round(statistics.median(first), 2),
        "all_offered_s": round(statistics.median(complete), 2),
        "all_offered_worst_s": round(max(complete), 2),
    }


def _counts_anything(cluster: Cluster) -> bool:
    try:
        return bool(cluster.run("jobs"))
    except RuntimeError:
        return False


# --- the agent ------------------------------------------------------------------------------------


def restart_agent(tasks: int, rounds: int) -> dict[str, Any]:
    """Kill and start an agent with running tasks; seconds until all are taken back."""
    taken: list[float] = []
    with Cluster(f"cpus:{tasks};mem:8192") as cluster, Hub() as hub:
        key = load_key(cluster.base / "master" / "bench.key")
        client = hub.connect(key.master, key.pair, key.server_key)
        for _ in range(rounds):
            taken.append(_restart_agent(cluster, client, tasks))
    return {
        "tasks": tasks,
        "adopted_s": round(statistics.median(taken), 2),
        "adopted_worst_s": round(max(taken), 2),
        "wrong_exit_codes": 0,
    }


def _restart_agent(cluster: Cluster, client: Client, tasks: int) -> float:
    # Some end while there is no agent, some before, some afterwards.
    wrap = f"sleep $((4 + MESOS_ARRAY_INDEX % 3 * 2)); exit $((MESOS_ARRAY_INDEX % {EXIT_CODES}))"
    size = ["-c", "1", "-m", "32M", "-a", f"0-{tasks - 1}", "-o", "none", "-e", "none"]
    job = cluster.run("submit", *size, "--wrap", wrap).strip()
    until(lambda: _counts(cluster, job) == {"running": tasks}, "all tasks run")
    cluster.kill("agent")
    until(lambda: not _is_registered(client), "the master has noticed")
    time.sleep(3.0)
    began = time.monotonic()
    cluster.again("agent")
    until(lambda: _is_registered(client), "the agent is back")
    taken = time.monotonic() - began
    until(lambda: not {"running", "staging"} & set(_counts(cluster, job)), "all tasks end")
    for task in states(cluster, job):
        if (task["attempt"], task["exit_code"]) != (1, task["index"] % EXIT_CODES):
            raise Failed(f"not as it should have ended: {task}")
    return taken


def _is_registered(client: Client) -> bool:
    reply = client.request(ListAgents())
    if not isinstance(reply, Agents):
        raise Failed(f"an answer that was not expected: {reply}")
    return any(agent.state == "registered" for agent in reply.agents)


if __name__ == "__main__":
    main()
