"""bench/compare.py: its arithmetic, and that it measures what is here and says what is not."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("compare_bench", BENCH / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_ratio_is_taken_within_each_round(compare: ModuleType) -> None:
    """A machine that is twice as slow for one round must not look like a tool that is."""
    assert compare.ratio([1.0, 2.0, 1.0], [3.0, 6.0, 2.0]) == 3.0
    with pytest.raises(ValueError, match="shorter"):
        compare.ratio([1.0, 2.0], [1.0])


def test_rates_and_ratios_of_ours_to_each_other_tool(compare: ModuleType) -> None:
    """The table that is published has to be the right way round: more than 1 is quicker."""
    ours, posix = compare.OURS
    seconds = {ours: [2.0, 2.0], posix: [1.0, 1.0], "xargs": [1.0, 1.0], "hyperqueue": [8.0, 4.0]}
    told = compare.compared(seconds, 1000)
    assert told["per_s"] == {ours: 500.0, posix: 1000.0, "xargs": 1000.0, "hyperqueue": 166.7}
    assert told["ratios"] == {
        ours: {"xargs": 0.5, "hyperqueue": 3.0},
        posix: {"xargs": 1.0, "hyperqueue": 6.0},
    }


def test_an_aim_is_met_missed_or_not_measured(compare: ModuleType) -> None:
    """What could not be measured must not look like what was met."""
    told = compare.verdicts({"hyperqueue": 2.5, "xargs": 0.69})
    assert told["hyperqueue"].startswith("met: 2.5")
    assert told["xargs"].startswith("missed: 0.69")
    assert told["posix_spawn"] == "not measured"


def test_one_round_measures_what_is_here_and_says_what_is_not() -> None:
    """A benchmark that nobody runs between two releases is broken when it is needed."""
    words = ("--tasks", "4", "--rounds", "1", "--without", "hyperqueue", "--without", "parallel")
    done = subprocess.run(
        [sys.executable, str(BENCH / "compare.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert figures["missing"]["hyperqueue"] == "left out"
    measured = {"mesosctl with cgroups", "mesosctl with posix", "posix_spawn"}
    measured |= {"xargs"} if shutil.which("xargs") else set()
    assert set(figures["per_s"]) == measured
    assert set(figures["single_ms"]) == measured
    assert all(rate > 0 for rate in figures["per_s"].values())
