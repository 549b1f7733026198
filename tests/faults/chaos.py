"""A cluster of real processes in trouble: `python -m tests.faults.chaos --seconds 60 --seed N`.

One master, five agents and two batch frameworks of different roles, with a proxy in each line.
Processes of every kind are killed, stopped and cut off, at random but as the seed says; whoever was
killed is started again. Then everything heals, and the verdict is taken (judging.py): every
acknowledged job has ended as it should, no two attempts of it overlapped, nobody died by himself,
nothing is left. The figures are printed as JSON; after a failure also the seed, what was done when,
and where the logs and notes were kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesosctl.errors import MesosctlError
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.runtime.client import Hub
from tests.faults.judging import judge, read_notes, write_script
from tests.faults.proxy import BOTH, DOWN, UP, Proxy
from tests.faults.submitting import Door, Submitter, all_tasks, unfinished
from tests.integration.conftest import ClusterEnv, Part, command_of, parent_of, started_at, until

AGENTS = 5
FRAMEWORKS = (("batch", "alpha"), ("batch2", "beta"))
RESOURCES = "cpus:4;mem:1G"
# Between two faults, on average; several last at the same time.
PAUSE_S = 1.5
RESTART_MAX_S = 1.0
# Longer than the others, so that an agent becomes unreachable, too.
LONG_S = (16.0, 24.0)
SHORT_S = (0.2, 6.0)
HEAL_LIMIT_S = 30.0
UNDER_WAY = 100


@dataclass(slots=True)
class Report:
    """What a run came to. `healed_s`: from the healing to the end of the last job."""

    seed: int
    seconds: float
    jobs: int = 0
    attempts: int = 0
    unreachable_lost: int = 0
    healed_s: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    kept: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "jobs": self.jobs,
            "attempts": self.attempts,
            "lost_with_once": self.unreachable_lost,
            "all_terminal_after_healing_s": round(self.healed_s, 1),
            "faults": self.faults,
            "load": round(os.getloadavg()[0], 1),
            "problems": self.problems,
        }


class Trouble(threading.Thread):
    """Does one thing after the other to a cluster, and undoes it after its time."""

    def __init__(self, chaos: Chaos, seed: int) -> None:
        super().__init__(name="trouble", daemon=True)
        self.story: list[str] = []
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.stop = threading.Event()
        self._chaos = chaos
        self._chance = random.Random(f"trouble {seed}")
        self._began = time.monotonic()
        self._undo: list[tuple[float, str, Callable[[], None]]] = []

    def run(self) -> None:
        """Until it is stopped; then undo what still lasts."""
        try:
            while not self.stop.wait(self._chance.expovariate(1 / PAUSE_S)):
                self._undo_due(time.monotonic())
                self._one()
        except Exception as error:
            self.errors.append(f"the trouble maker failed: {type(error).__name__}: {error}")
        self._undo_due(float("inf"))

    def _undo_due(self, now: float) -> None:
        for entry in [entry for entry in self._undo if entry[0] <= now]:
            self._undo.remove(entry)
            self._note(f"undone: {entry[1]}")
            entry[2]()

    def _note(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:8.2f} {text}")

    def _lasting(self, what: str, undo: Callable[[], None]) -> None:
        is_long = self._chance.random() < 0.15
        lasts_s = self._chance.uniform(*(LONG_S if is_long else SHORT_S))
        self._note(f"{what} for {lasts_s:.1f} s")
        self._undo.append((time.monotonic() + lasts_s, what, undo))

    def _one(self) -> None:
        kind = self._chance.choices(
            ("kill", "stop", "cut", "hold", "half-open", "slow"), (30, 20, 20, 15, 5, 10)
        )[0]
        self.counts[kind] += 1
        if kind in ("kill", "stop"):
            self._to_process(kind)
            return
        name = self._chance.choice(sorted(self._chaos.proxies))
        proxy = self._chaos.proxies[name]
        if kind == "cut":
            proxy.cut()
        elif kind == "hold":
            ways = self._chance.choice((BOTH, (UP,), (DOWN,)))
            kind = f"hold {' and '.join(ways)}"
            proxy.hold(*ways)
        elif kind == "half-open":
            proxy.half_open()
        elif self._chance.random() < 0.5:
            proxy.delay(self._chance.uniform(0.1, 1.0))
        else:
            proxy.throttle(20_000)
        self._lasting(f"{kind} {name}", proxy.resume)

    def _to_process(self, kind: str) -> None:
        groups = ("master", "framework", "agent", "executor", "spawner")
        group = self._chance.choices(groups, (15, 25, 30, 15, 15))[0]
        pids = self._chaos.pids(group)
        if not pids:
            return
        pid = self._chance.choice(pids)
        born = started_at(pid)
        if kind == "kill":
            self._note(f"kill -9 {group} {pid}")
            _signal(pid, born, signal.SIGKILL)
            return
        _signal(pid, born, signal.SIGSTOP)
        self._lasting(f"stop {group} {pid}", lambda: _signal(pid, born, signal.SIGCONT))


def _signal(pid: int, born: str, signum: int) -> None:
    """Send a signal to the process that was born then, if it is still there."""
    try:
        if born and started_at(pid) == born:
            os.kill(pid, signum)
    except ProcessLookupError:
        return


class Chaos:
    """The cluster, its proxies, and who starts again what was killed."""

    def __init__(self, seed: int) -> None:
        self.env = ClusterEnv()
        self.proxies: dict[str, Proxy] = {}
        self.frameworks: list[Part] = []
        self.deaths: list[str] = []
        self.restarts = 0
        self._chance = random.Random(f"supervisor {seed}")
        self._is_over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def start(self) -> list[Door]:
        """Start everything, through proxies; the doors of the frameworks."""
        env = self.env
        env.master("--no-framework", "--quiet-start")
        for number in range(AGENTS):
            proxy = self._proxy(f"agent-{number}", env.address)
            env.agent(RESOURCES, "--master", proxy.address, name=f"a{number}")
        doors = [self._framework(name, role) for name, role in FRAMEWORKS]
        self._supervisor.start()
        return doors

    def _proxy(self, name: str, target: str) -> Proxy:
        proxy = self.proxies[name] = Proxy(target)
        return proxy

    def _framework(self, name: str, role: str) -> Door:
        env = self.env
        master = self._proxy(name, env.address)
        clients = self._proxy(f"{name}-clients", "tcp://127.0.0.1:1")
        words = ["framework", "--name", name, "-R", role, "--master", master.address]
        words += ["--advertise", clients.address, "--work-dir", str(env.base / name)]
        self.frameworks.append(env.part(name, *words))
        place = env.base / name / "address"
        until(lambda: place.exists() and place.read_text().endswith("\n"), f"{name} listens")
        clients.aim(place.read_text().strip())
        words += ["--listen", place.read_text().strip()]
        self.frameworks[-1].words = words
        found = until(lambda: self._find(name), f"{name} is found")
        return Door(name, role, clients.address, found.public_key, env.key)

    def _find(self, name: str) -> FrameworkFound | None:
        key = self.env.key
        with Hub() as hub:
            try:
                client = hub.connect(self.env.address, key.pair, key.server_key)
                reply = client.request(FindFramework(name), 2.0)
            except MesosctlError:
                return None
        return reply if isinstance(reply, FrameworkFound) else None

    def pids(self, group: str) -> list[int]:
        """The processes of a kind, ascending."""
        match group:
            case "master":
                return [self.env.parts[0].pid]
            case "framework":
                return sorted(part.pid for part in self.frameworks)
            case "agent":
                return sorted(part.pid for part in self.env.agents)
        executors = self.env.executor_pids()
        if group == "executor":
            return executors
        return sorted(
            pid
            for pid in self.env.processes()
            if parent_of(pid) in executors and any("spawner" in word for word in command_of(pid))
        )

    def _supervise(self) -> None:
        """Start again whatever ended, after a while; note whoever was not killed by us."""
        due: dict[str, float] = {}
        while not self._is_over.wait(0.05):
            now = time.monotonic()
            for part in self.env.parts:
                code = part.process.poll()
                if code is None:
                    continue
                if part.name not in due:
                    due[part.name] = now + self._chance.uniform(0.0, RESTART_MAX_S)
                    if code != -signal.SIGKILL:
                        self.deaths.append(f"{part.name} ended by itself with {code}")
                if now >= due[part.name]:
                    del due[part.name]
                    self.restarts += 1
                    part.restart()

    def heal(self) -> None:
        """All lines are whole again, and whoever was killed is back."""
        for proxy in self.proxies.values():
            proxy.resume()
        until(
            lambda: all(part.process.poll() is None for part in self.env.parts),
            "all were restarted",
        )

    def end(self) -> list[str]:
        """Stop everything; what was left behind, or did not stop."""
        self._is_over.set()
        if self._supervisor.ident is not None:
            self._supervisor.join()
        try:
            self.env.close()
        except AssertionError as error:
            return [f"at the end: {str(error)[:2000]}"]
        finally:
            for proxy in self.proxies.values():
                proxy.close()
        return []

    def keep(self, seed: int) -> Path:
        """Copy logs and notes to where they outlive the cluster."""
        kept = Path(tempfile.mkdtemp(prefix=f"mesosctl-chaos-{seed}-"))
        shutil.copytree(self.env.files, kept / "files", dirs_exist_ok=True)
        for path in [*self.env.base.glob("*.log"), *self.env.base.glob("*/executors.log")]:
            shutil.copy(path, kept / f"{path.parent.name}-{path.name}")
        for path in self.env.base.glob("*/state.db*"):
            shutil.copy(path, kept / f"{path.parent.name}-{path.name}")
        return kept


def run(seed: int, seconds: float, jobs: int, limit_s: float = HEAL_LIMIT_S) -> Report:
    """A whole run. `limit_s`: how long after healing everything has to have ended."""
    report = Report(seed, seconds)
    chaos = Chaos(seed)
    trouble = Trouble(chaos, seed)
    try:
        doors = chaos.start()
        script = write_script(chaos.env.base)
        rate = jobs / seconds / len(doors)
        submitters = [
            Submitter(door, script, chaos.env.files, seed, rate, UNDER_WAY) for door in doors
        ]
        for thread in (*submitters, trouble):
            thread.start()
        if trouble.stop.wait(seconds):
            raise AssertionError("the trouble maker ended before its time")
        trouble.stop.set()
        trouble.join()
        _judge(chaos, submitters, report, limit_s)
    except (AssertionError, MesosctlError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    finally:
        trouble.stop.set()
        if trouble.ident is not None:
            trouble.join()
        report.problems += trouble.errors
        report.faults = {**trouble.counts, "restarts": chaos.restarts}
        report.problems += _tracebacks(chaos)
        if report.problems:
            report.kept = str(chaos.keep(seed))
            (Path(report.kept) / "story").write_text("\n".join(trouble.story) + "\n")
        problems = chaos.end()
        if problems and not report.kept:
            report.kept = "nowhere: it was found when all was over"
        report.problems += problems
    return report


def _judge(chaos: Chaos, submitters: list[Submitter], report: Report, limit_s: float) -> None:
    healed_at = time.monotonic()
    chaos.heal()
    for one in submitters:
        one.stop.set()
    for one in submitters:
        one.join(limit_s)
        if one.is_alive():
            report.problems.append(f"{one.name}: not every submission was answered")
    until(
        lambda: all(unfinished(one.door) == 0 for one in submitters), "all jobs end", limit_s, 0.2
    )
    report.healed_s = time.monotonic() - healed_at
    notes = read_notes(chaos.env.files)
    report.attempts = sum(len(noted.starts) for noted in notes.values())
    orders, answers = [], {}
    for one in submitters:
        report.problems += one.problems
        numbers = [int(job_id) for job_id in one.accepted]
        for task in all_tasks(one.door, max(numbers, default=0)):
            answers[task.name] = task
        orders += list(one.accepted.values())
    report.jobs = len(orders)
    report.unreachable_lost = sum(task.state == "lost" for task in answers.values())
    report.problems += chaos.deaths
    report.problems += list(judge(orders, notes, answers))[:50]


def _tracebacks(chaos: Chaos) -> list[str]:
    paths = [*chaos.env.base.glob("*.log"), *chaos.env.base.glob("*/executors.log")]
    return [
        f"a traceback in {path}"
        for path in paths
        if "Traceback" in path.read_text("utf-8", "replace")
    ]


def main() -> int:
    """Run, print, and say where to look after a failure."""
    parser = argparse.ArgumentParser(description="A cluster of real processes in trouble.")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=1_000, help="spread over that time")
    parser.add_argument("--limit", type=float, default=HEAL_LIMIT_S, help="from healing to the end")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    report = run(seed, options.seconds, options.jobs, options.limit)
    print(json.dumps(report.plain(), indent=2), flush=True)
    if report.kept:
        story = Path(report.kept) / "story"
        if story.exists():
            print(story.read_text(), file=sys.stderr)
        print(f"seed {seed} failed; logs and notes: {report.kept}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
