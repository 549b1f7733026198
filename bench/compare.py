"""Ours beside other tools, on the same work: `python bench/compare.py [--tasks N] [--rounds N]`.

The work: N × /bin/true on two slots, and one `true` from the call of a command to its end. Ours
runs it under limits by cgroups (as far as this host has them) and under the posix isolators,
accounting and durable records always on; the others start bare processes:

- HyperQueue (from PyPI, into a virtual environment of its own): server, a worker of two cores and a
  client, in memory;
- GNU parallel -j2 and xargs -P2, where they are installed;
- a loop of posix_spawn and waitpid in Python, one on each of two cores: what the kernel can do.

One round runs each of them once, and a ratio is taken within a round, so that what else the machine
does falls on both. Told are medians over the rounds; the first round fills caches and is not
counted. What is missing is said.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from common import ROOT, STOP_S, Cluster, tell, timed

SLOTS = 2
TRUE = "/bin/true"
OURS = ("mesosctl with cgroups", "mesosctl with posix")
# What the project has promised itself, as (ours, other, ratio).
AIMS = (("hyperqueue", 2.5), ("xargs", 0.7), ("posix_spawn", 0.4))

SPAWN_LOOP = """
import os, sys
core, count = int(sys.argv[1]), int(sys.argv[2])
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[core % len(cores)]})
for _ in range(count):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
"""
BOTH_CORES = """
import subprocess, sys
program, slots, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
shares = [count // slots + (at < count % slots) for at in range(slots)]
loops = [
    subprocess.Popen([sys.executable, "-S", "-c", program, str(at), str(share)])
    for at, share in enumerate(shares)
]
sys.exit(max(loop.wait() for loop in loops))
"""
HYPERQUEUE_SERVER = """
import sys
from hyperqueue import LocalCluster
from hyperqueue.cluster import WorkerConfig
with LocalCluster(sys.argv[1], WorkerConfig(cores=int(sys.argv[2]))):
    print("ready", flush=True)
    sys.stdin.read()
"""
HYPERQUEUE_CLIENT = """
import sys
from hyperqueue import Client, Job
from hyperqueue import client as ui
ui.create_progress_callback = lambda: lambda *_: None
client, job = Client(sys.argv[1]), Job()
for _ in range(int(sys.argv[2])):
    job.program([sys.argv[3]], stdout=None, stderr=None)
sys.exit(0 if client.wait_for_jobs([client.submit(job)]) else 1)
"""

Command = Callable[[int], Sequence[str]]


class HyperQueue:
    """A HyperQueue server with one worker, as a context manager. Raises RuntimeError."""

    def __init__(self, environment: Path) -> None:
        self._environment = environment
        self._base = Path(tempfile.mkdtemp(prefix="mesosctl-bench-hq-"))
        self._server: subprocess.Popen[str] | None = None

    @property
    def _python(self) -> str:
        return str(self._environment / "bin" / "python")

    def __enter__(self) -> Command:
        try:
            self._install()
            self._server = subprocess.Popen(
                [self._python, "-c", HYPERQUEUE_SERVER, str(self._base), str(SLOTS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            # What it says of itself comes first.
            lines = iter(self._server.stdout or ())
            if not any(line.strip() == "ready" for line in lines):
                raise RuntimeError("its server does not start")
        except BaseException:
            self.__exit__()
            raise
        words = (self._python, "-c", HYPERQUEUE_CLIENT, str(self._base))
        return lambda tasks: [*words, str(tasks), TRUE]

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            try:
                self._server.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        shutil.rmtree(self._base, ignore_errors=True)

    def _install(self) -> None:
        if not Path(self._python).exists():
            timed([sys.executable, "-m", "venv", str(self._environment)])
        try:
            timed([self._python, "-c", "import hyperqueue"])
        except RuntimeError:
            pip = [self._python, "-m", "pip", "--disable-pip-version-check"]
            timed([*pip, "install", "-q", "hyperqueue"])


def installed_tools() -> tuple[dict[str, Command], dict[str, str]]:
    """What this host has of the tools that need no server, and why not of those it has not."""
    loop = (sys.executable, "-S", "-c", BOTH_CORES, SPAWN_LOOP, str(SLOTS))
    found: dict[str, Command] = {"posix_spawn": lambda tasks: [*loop, str(tasks)]}
    missing: dict[str, str] = {}
    lines = {
        "xargs": f"seq {{}} | xargs -P{SLOTS} -n1 {TRUE}",
        "parallel": f"seq {{}} | parallel -j{SLOTS} -N0 {TRUE}",
    }
    for name, line in lines.items():
        if shutil.which(name) is None:
            missing[name] = "not installed"
        else:
            found[name] = lambda tasks, line=line: ["/bin/sh", "-c", line.format(tasks)]  # type: ignore[misc]
    return found, missing


def ours(cluster: Cluster) -> tuple[Command, Command]:
    """Our commands: for many tasks, and for a single one."""
    size = ("-c", "1", "-m", "16M")
    quiet = ("-o", "none", "-e", "none")

    def many(tasks: int) -> Sequence[str]:
        words = ("submit", "--parsable", "-a", f"0-{tasks - 1}", *size, *quiet, "-W", "--", TRUE)
        return [*cluster.command, *words]

    return many, lambda _: [*cluster.command, "run", *size, "--", TRUE]


def rounds_of(
    commands: Mapping[str, Sequence[str]], rounds: int, environments: Mapping[str, dict[str, str]]
) -> dict[str, list[float]]:
    """Seconds of each command in each round but the first, which fills caches."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, words in commands.items():
            taken = timed(words, environments.get(name))
            if number:
                seconds[name].append(taken)
    return seconds


def ratio(mine: Sequence[float], other: Sequence[float]) -> float:
    """How many times as quick mine is: the median over the rounds of other's seconds by mine."""
    return statistics.median(theirs / own for own, theirs in zip(mine, other, strict=True))


def compared(seconds: Mapping[str, Sequence[float]], tasks: int) -> dict[str, object]:
    """Rates and ratios of ours to each of the others."""
    rates = {name: round(tasks / statistics.median(taken), 1) for name, taken in seconds.items()}
    ratios = {
        mine: {
            other: round(ratio(seconds[mine], taken), 3)
            for other, taken in seconds.items()
            if other not in OURS
        }
        for mine in OURS
        if mine in seconds
    }
    return {"tasks": tasks, "per_s": rates, "ratios": ratios}


def verdicts(ratios: Mapping[str, float]) -> dict[str, str]:
    """Each aim, and how far we are from it."""
    told = {}
    for other, aim in AIMS:
        if other in ratios:
            met = "met" if ratios[other] >= aim else "missed"
            told[other] = f"{met}: {ratios[other]:g}, the aim is {aim:g}"
        else:
            told[other] = "not measured"
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Beside other tools, on the same work.")
    parser.add_argument("--tasks", type=int, default=1000, help="of each run")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians are told")
    parser.add_argument("--without", action="append", default=[], help="leave out a competitor")
    parser.add_argument(
        "--environment",
        type=Path,
        default=ROOT / "build" / "bench-venv",
        help="where HyperQueue is installed, or installed into",
    )
    options = parser.parse_args()
    found, missing = installed_tools()
    with ExitStack() as stack:
        if "hyperqueue" not in options.without:
            try:
                found["hyperqueue"] = stack.enter_context(HyperQueue(options.environment))
            except (RuntimeError, OSError) as error:
                missing["hyperqueue"] = str(error).strip().splitlines()[-1]
        for name in options.without:
            found.pop(name, None)
            missing[name] = "left out"
        kinds = {OURS[0]: (), OURS[1]: ("--isolation", "posix/cpu,posix/mem")}
        many, single, environments, isolation = {}, {}, {}, {}
        for name, words in kinds.items():
            cluster = stack.enter_context(Cluster(f"cpus:{SLOTS};mem:4096", agent_options=words))
            isolation[name] = cluster.isolation()
            many[name], single[name] = ours(cluster)
            environments[name] = cluster.environment
        many, single = {**many, **found}, {**single, **found}
        bulk = rounds_of(
            {k: v(options.tasks) for k, v in many.items()}, options.rounds, environments
        )
        alone = rounds_of({k: v(1) for k, v in single.items()}, options.rounds, environments)
    figures = compared(bulk, options.tasks)
    mine = {other: ratio(bulk[OURS[0]], taken) for other, taken in bulk.items()}
    milliseconds = {name: round(statistics.median(s) * 1000, 1) for name, s in alone.items()}
    tell(
        "compare",
        {
            "rounds": options.rounds,
            "isolation": isolation,
            **figures,
            "aims": verdicts({name: round(value, 3) for name, value in mine.items()}),
            "single_ms": milliseconds,
            "missing": missing,
        },
    )


if __name__ == "__main__":
    main()
