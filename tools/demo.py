"""A cluster on this machine runs a batch of shell jobs under limits: `make demo`.

Needs nothing but an installed mesosctl and works as root and as an ordinary user, in under a
minute. Everything is below one temporary directory; at the end, and on Ctrl-C, every process is
stopped and that directory is removed, with the cgroups that the agents made.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

COUNT_PRIMES = """\
#!/bin/sh
# Counts the primes in one of many ranges of 40,000 numbers: the task's index says which.
awk -v task="$MESOS_ARRAY_INDEX" 'BEGIN {
    first = task * 40000
    for (n = first; n < first + 40000; n++) {
        prime = n > 1
        for (d = 2; d * d <= n; d++) if (n % d == 0) { prime = 0; break }
        primes += prime
    }
    print primes " primes from " first " on"
}'
"""
GREEDY = """\
#!/bin/sh
# Doubles what it holds in memory, again and again, whatever it was given.
awk 'BEGIN {
    held = "0123456789abcdef"
    for (;;) {
        held = held held
        if (length(held) < 1048576) continue
        print "holding " length(held) / 1048576 " MiB"; fflush()
        system("sleep 0.3")
    }
}'
"""
ARRAY = "0-23"
READY_S = 30.0
STOP_S = 10.0
LOOK_S = 0.05
CGROUPS = Path("/sys/fs/cgroup")


class DemoError(Exception):
    """Something did not go as the demo tells; its text says what."""


def mesosctl() -> list[str]:
    """The command that was installed beside this Python, or the module of this checkout."""
    beside = Path(sys.executable).parent / "mesosctl"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "mesosctl"]


class Demo:
    """The cluster of the demo: its directory, its environment, its daemons."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="mesosctl-demo-"))
        self.cgroup_root = self.base.name
        self.daemons: list[tuple[subprocess.Popen[bytes], list[str]]] = []
        self.agents: list[list[str]] = []
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.system_runtime = Path("/run/mesosctl")
        self.had_runtime = self.system_runtime.exists()
        kept = {name: text for name, text in os.environ.items() if not name.startswith("MESOSCTL_")}
        for name in ("run", "config", "state"):
            (self.base / name).mkdir(mode=0o700)
        # Nothing of the user's own set-up takes part, and nothing is written into it.
        self.environment = {
            **kept,
            "MESOSCTL_CONFIG": os.devnull,
            "XDG_RUNTIME_DIR": str(self.base / "run"),
            "XDG_CONFIG_HOME": str(self.base / "config"),
            "XDG_STATE_HOME": str(self.base / "state"),
        }

    # --- telling ----------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """A sentence between two steps."""
        print(f"\n# {text}" if not self.colour else f"\n\033[36m# {text}\033[0m", flush=True)

    def prompt(self, line: str) -> None:
        """A command as one would type it."""
        print(f"$ {line}" if not self.colour else f"\033[1m$ {line}\033[0m", flush=True)

    # --- doing ------------------------------------------------------------------------------------

    def shown(self, words: tuple[str, ...]) -> str:
        """The command line of `mesosctl` with these words, quoted where a shell needs it."""
        quoted = [f"'{word}'" if any(c in word for c in " ;'()$") else word for word in words]
        return " ".join(["mesosctl", *quoted]).replace(str(self.base), "$D").replace("'$D", "$D")

    def run(self, *words: str) -> int:
        """Show a command, run it in the foreground, and return its exit code."""
        self.prompt(self.shown(words))
        return subprocess.run(
            [*mesosctl(), *words], env=self.environment, cwd=self.base, check=False
        ).returncode

    def ask(self, *words: str) -> str | None:
        """What a command prints, without showing it; None when it fails."""
        done = subprocess.run(
            [*mesosctl(), *words],
            env=self.environment,
            cwd=self.base,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    def start(self, log_name: str, *words: str) -> subprocess.Popen[bytes]:
        """Show a daemon's command and start it in the background."""
        self.prompt(f"{self.shown(words)} &")
        with (self.base / f"{log_name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*mesosctl(), *words],
                env=self.environment,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for this script: it stops the daemons in their order.
                start_new_session=True,
            )
        self.daemons.append((process, list(words)))
        return process

    def until(self, look: Callable[[], object], what: str) -> None:
        """Wait until `look` finds something. Raises DemoError, with what the daemons logged."""
        end = time.monotonic() + READY_S
        while not look():
            ended = [words for process, words in self.daemons if process.poll() is not None]
            if ended or time.monotonic() > end:
                why = f"{self.shown(tuple(ended[0]))} ended" if ended else f"{what}: it takes long"
                raise DemoError(f"{why}\n{self.logs()}")
            time.sleep(LOOK_S)

    def logs(self) -> str:
        """The last lines of every log."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-8:])
            for path in sorted(self.base.glob("*.log"))
        )

    # --- the end ----------------------------------------------------------------------------------

    def clean_up(self) -> list[str]:
        """Stop everything and remove what was made; what could not be, for people to read."""
        # Agents first, so that a run of each can end what tasks and executors there still are.
        for process, words in reversed(self.daemons):
            _stop(process)
            if words[0] == "agent":
                self._clean_agent(words)
        for pid in self._processes():
            _signal(pid, signal.SIGKILL)
        end = time.monotonic() + STOP_S
        while self._processes() and time.monotonic() < end:
            time.sleep(LOOK_S)
        left = [f"process {pid}" for pid in self._processes()]
        left += self._remove_cgroups()
        if not self.had_runtime and self.system_runtime.is_dir():
            try:
                self.system_runtime.rmdir()
            except OSError:
                # Somebody else has begun to use it meanwhile.
                pass
        shutil.rmtree(self.base, ignore_errors=True)
        return left + ([str(self.base)] if self.base.exists() else [])

    def _clean_agent(self, words: list[str]) -> None:
        try:
            subprocess.run(
                [*mesosctl(), *words, "--recover", "cleanup"],
                env=self.environment,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=STOP_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            # What it did not end is ended by force.
            return

    def _processes(self) -> list[int]:
        """Processes that have our directory in their environment or their words."""
        mark = os.fsencode(self.base)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if any(mark in (entry / part).read_bytes() for part in ("environ", "cmdline")):
                    found.append(int(entry.name))
            except OSError:
                # It has ended, or belongs to somebody else.
                continue
        return found

    def _remove_cgroups(self) -> list[str]:
        left = []
        for top in (CGROUPS / self.cgroup_root, *CGROUPS.glob(f"*/{self.cgroup_root}")):
            for path in sorted((top, *top.glob("**")), reverse=True):
                try:
                    if path.is_dir():
                        path.rmdir()
                except OSError as error:
                    left.append(f"{path}: {error.strerror}")
        return left


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except OSError:
        # It has ended by itself.
        pass


def start_cluster(demo: Demo) -> None:
    """One master and two agents that share this machine."""
    demo.say(f"Everything is below D={demo.base} and goes away at the end.")
    demo.say("A master. It makes a key for you, and starts the batch framework as its child.")
    key = demo.base / "master" / "demo.key"
    work = str(demo.base / "master")
    listen = ("--listen", "tcp://127.0.0.1:0")
    demo.start("master", "master", "--cluster", "demo", *listen, "--work-dir", work)
    demo.until(key.exists, "the master starts")
    # Its port is a free one, so that the demo never meets a real cluster; the key file tells it.
    demo.prompt("export MESOSCTL_KEY=$D/master/demo.key")
    demo.environment["MESOSCTL_KEY"] = str(key)

    demo.say("Two agents share this machine: each offers the master half of its CPUs.")
    cpus = max(1.0, (os.cpu_count() or 1) / 2)
    for name in ("east", "west"):
        words = ("--name", name, "--resources", f"cpus:{cpus:g};mem:512", *_place(demo, name))
        demo.start(name, "agent", *words)
    demo.until(lambda: _registered(demo) == 2, "the agents register")
    demo.until(lambda: demo.ask("jobs") is not None, "the batch framework starts")
    demo.run("agents")


def _place(demo: Demo, name: str) -> tuple[str, ...]:
    return ("--work-dir", str(demo.base / name), "--cgroup-root", demo.cgroup_root)


def _registered(demo: Demo) -> int:
    text = demo.ask("agents", "-o", "json")
    agents = json.loads(text)["agents"] if text else []
    return sum(agent["state"] == "registered" for agent in agents)


def run_jobs(demo: Demo) -> None:
    """A job array with progress, a task above its memory limit, logs. Raises DemoError."""
    (demo.base / "count-primes.sh").write_text(COUNT_PRIMES)
    (demo.base / "greedy.sh").write_text(GREEDY)
    demo.say("A shell script, to be run 24 times, each with a quarter of a CPU and 32 MiB.")
    demo.prompt("cat count-primes.sh")
    print(COUNT_PRIMES.rstrip())
    limits = ("-c", "0.25", "-m", "32M")
    code = demo.run("submit", "-a", ARRAY, *limits, "-W", "--progress", "count-primes.sh")
    if code != 0:
        raise DemoError(f"the job ended with {code}\n{demo.logs()}")
    demo.say("Where each task ran, what it used, how it ended.")
    demo.run("tasks", "1")
    demo.say("The log of one of them.")
    demo.run("logs", "1.7")

    demo.say("A script that takes more memory than it was given. Its limit is 64 MiB.")
    code = demo.run("submit", "-m", "64M", "-W", "greedy.sh")
    print(f"(exit code {code})")
    if code != 137:
        raise DemoError(f"a memory limit should end a task with 137, not {code}\n{demo.logs()}")
    demo.run("tasks", "2")
    demo.run("logs", "2")

    demo.say("In the foreground: the command's own streams and exit code, on some agent.")
    demo.run("run", "--", "sh", "-c", 'echo "hello from $MESOS_AGENT"; exit 7')
    print("(its exit code is 7)")
    demo.run("jobs", "--all")


def main() -> int:
    """Run the demo; 0, 1 when something went wrong, 130 after Ctrl-C."""
    began = time.monotonic()
    demo = Demo()
    # Ending it by TERM (a closing terminal, `timeout`) has to leave as little as Ctrl-C.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    code = 0
    try:
        start_cluster(demo)
        run_jobs(demo)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; cleaning up", file=sys.stderr)
        code = 130
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        if not code:
            demo.say("That is all; now everything is stopped and removed.")
        left = demo.clean_up()
    if left:
        print("demo: left behind: " + ", ".join(left), file=sys.stderr)
        return code or 1
    if not code:
        print(f"Done in {time.monotonic() - began:.0f} s, nothing left behind.")
        print("Next: the five-minute tour in README.md, or: .venv/bin/mesosctl local")
    return code


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
