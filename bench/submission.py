"""How quickly jobs are taken: `python bench/submission.py [--seconds S]`.

First one connection that is warm already, one submission after the other: what a person waits for.
Then many submissions at once over several connections: what the batch framework takes in when
submissions share commits. Every acknowledged id is looked for in the committed records afterwards.
The jobs are larger than the agent, so that nothing but their intake is measured.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import time
from collections import deque
from typing import Any

from common import Cluster, cpu_s, tell

from mesosctl.model.jobs import JobSpec
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import JobAccepted, SubmitJob
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.runtime.client import Ask, Client, Hub
from mesosctl.runtime.ids import new_id
from mesosctl.storage.keys import load_key

# About what a login session leaves in a job: 24 variables, 2 KiB.
ENVIRONMENT = {f"VARIABLE_{number}": "x" * 70 for number in range(24)}
SPEC = JobSpec(
    name="submitted",
    argv=("/bin/echo", "hello"),
    user="",
    cpus_milli=4000,
    env=ENVIRONMENT,
    cwd="/",
    submit_dir="/",
)
WARM_UP = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Latency and rate of submissions.")
    parser.add_argument("--single", type=int, default=300, help="submissions one after the other")
    parser.add_argument("--seconds", type=float, default=10, help="how long many come at once")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--outstanding", type=int, default=32, help="for each connection")
    options = parser.parse_args()
    with Cluster("cpus:1;mem:256") as cluster, Hub() as hub:
        clients = [connect(cluster, hub) for _ in range(options.connections)]
        single, ids = one_by_one(clients[0], options.single)
        framework = cluster.pids()["framework"][0]
        before_s = cpu_s(framework)
        more, took_s = at_once(hub, clients, options.outstanding, options.seconds)
        cpu = cpu_s(framework) - before_s
        ids += more
        missing = set(ids) - committed(cluster)
    if missing or len(set(ids)) != len(ids):
        raise RuntimeError(f"{len(missing)} acknowledged jobs are not on disk")
    figures = {
        "single": {
            "count": len(single),
            "median_ms": round(statistics.median(single) * 1000, 2),
            "p99_ms": round(statistics.quantiles(single, n=100)[98] * 1000, 2),
        },
        "at_once": {
            "connections": options.connections,
            "outstanding": options.outstanding * options.connections,
            "seconds": round(took_s, 2),
            "acknowledged": len(more),
            "acknowledged_per_s": round(len(more) / took_s, 1),
            "framework_cpu_ms_each": round(cpu * 1000 / len(more), 3),
        },
    }
    tell("submission", figures)


def connect(cluster: Cluster, hub: Hub) -> Client:
    """A warm connection to the batch framework."""
    key = load_key(cluster.base / "master" / "bench.key")
    with Hub() as asking:
        found = asking.connect(key.master, key.pair, key.server_key).request(FindFramework("batch"))
    if not isinstance(found, FrameworkFound):
        raise RuntimeError(f"an answer that was not expected: {found}")
    client = hub.connect(found.address, key.pair, found.public_key, name="the batch framework")
    for _ in range(WARM_UP):
        accepted(client.request(SubmitJob(new_id(), SPEC, dry_run=True)))
    return client


def accepted(reply: Message) -> str:
    """The id in the answer to a submission."""
    if not isinstance(reply, JobAccepted):
        raise RuntimeError(f"not accepted: {reply}")
    return reply.job_id


def one_by_one(client: Client, count: int) -> tuple[list[float], list[str]]:
    """Seconds of each of `count` submissions, and their ids."""
    seconds, ids = [], []
    for _ in range(count):
        began = time.perf_counter()
        ids.append(accepted(client.request(SubmitJob(new_id(), SPEC))))
        seconds.append(time.perf_counter() - began)
    return seconds, ids


def at_once(
    hub: Hub, clients: list[Client], outstanding: int, seconds: float
) -> tuple[list[str], float]:
    """Keep `outstanding` submissions under way for each client; all ids, and the seconds taken."""
    ids: list[str] = []
    began = time.perf_counter()
    until = began + seconds
    under_way: list[tuple[Client, deque[Ask]]] = [(client, deque()) for client in clients]
    for client, asks in under_way:
        asks.extend(client.ask(SubmitJob(new_id(), SPEC)) for _ in range(outstanding))
    while any(asks for _, asks in under_way):
        hub.pump(10.0)
        is_over = time.perf_counter() >= until
        for client, asks in under_way:
            while asks and asks[0].replies:
                ask = asks.popleft()
                client.end(ask)
                ids.append(accepted(ask.replies[0]))
                if not is_over:
                    asks.append(client.ask(SubmitJob(new_id(), SPEC)))
    return ids, time.perf_counter() - began


def committed(cluster: Cluster) -> set[str]:
    """The ids of all jobs that a reader of the database sees: committed ones."""
    path = cluster.base / "master" / "framework" / "state.db"
    connection: Any = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {str(key) for (key,) in connection.execute("SELECT key FROM t_jobs")}
    finally:
        connection.close()


if __name__ == "__main__":
    main()
