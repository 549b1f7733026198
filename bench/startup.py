"""What the command line costs before it does anything: `python bench/startup.py [--rounds N]`.

`--version` and `--help` as processes, against `python -c 'import click'` in the same rounds, and
for every command the time and the number of modules that its import adds to that of click.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from common import ROOT, alternating, installed, plain_environment, summary, tell

HEAVY = ("zmq", "msgpack", "psutil", "tabulate", "asyncio", "platformdirs", "sqlite3")
IMPORT = """
import sys, time, click
before, began = len(sys.modules), time.perf_counter()
import importlib
importlib.import_module(sys.argv[1])
taken = time.perf_counter() - began
heavy = [name for name in sys.argv[2].split(",") if name in sys.modules]
print(taken, len(sys.modules) - before, ",".join(heavy))
"""


def import_cost(module: str, rounds: int, environment: dict[str, str]) -> dict[str, object]:
    """Median milliseconds beyond click, modules added, and the heavy ones among them."""
    seconds, words = [], [""]
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, module, ",".join(HEAVY)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        words = done.stdout.rstrip("\n").split(" ")
        seconds.append(float(words[0]))
    heavy = [name for name in words[2].split(",") if name]
    median_ms = round(statistics.median(seconds) * 1000, 2)
    return {"median_ms": median_ms, "modules": int(words[1]), "heavy": heavy}


def main() -> None:
    """Measure and print."""
    from mesosctl.cli.group import COMMANDS

    parser = argparse.ArgumentParser(description="Cost of starting the command line.")
    parser.add_argument("--rounds", type=int, default=21, help="runs of each process")
    parser.add_argument("--import-rounds", type=int, default=5, help="imports of each command")
    options = parser.parse_args()
    environment = {**plain_environment(), "MESOSCTL_CONFIG": os.devnull}
    command = installed()
    commands: dict[str, Sequence[str]] = {
        "python": [sys.executable, "-c", "pass"],
        "import_click": [sys.executable, "-c", "import click"],
        "version": [*command, "--version"],
        "help": [*command, "--help"],
    }
    seconds = alternating(commands, options.rounds, environment)
    figures: dict[str, object] = {name: summary(taken) for name, taken in seconds.items()}
    click = statistics.median(seconds["import_click"])
    beyond = {
        name: round((statistics.median(seconds[name]) - click) * 1000, 2)
        for name in ("version", "help")
    }
    imports = {
        name: import_cost(f"mesosctl.cli.commands.{name}", options.import_rounds, environment)
        for name in COMMANDS
        if (ROOT / "mesosctl" / "cli" / "commands" / f"{name}.py").exists()
    }
    tell(
        "startup",
        {
            "rounds": options.rounds,
            **figures,
            "beyond_import_click_ms": beyond,
            "ratio_to_import_click": round(statistics.median(seconds["version"]) / click, 2),
            "imports": imports,
        },
    )


if __name__ == "__main__":
    main()
