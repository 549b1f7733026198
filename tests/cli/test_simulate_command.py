"""`mesosctl simulate`: the file, its errors, and what is printed."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from mesosctl.cli.main import run
from mesosctl.cli.scenariofile import load
from mesosctl.sim.scenario.plan import Span, Spread

SMALL = """
name = "small"
seed = 3
[[agents]]
count = 2
resources = "cpus:2;mem:4G"
[[frameworks]]
name = "one"
[[frameworks]]
name = "two"
role = "eng/two"
[roles."eng/two"]
weight = 2
[[jobs]]
framework = "one"
tasks = 8
lasts = "10s"
[[jobs]]
framework = "two"
lasts = { from = "5s", to = "6s" }
[static]
one = 1
two = 1
"""


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESOSCTL_CONFIG", os.devnull)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_the_report_names_frameworks_jobs_course_and_gain(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads all of it in one page."""
    assert run(["simulate", str(small)]) == 0
    out = capsys.readouterr().out
    assert "small: cpus:4;mem:8192, allocator drf, seed 3" in out
    assert "makespan" in out and "median" in out and "p95" in out
    assert "SHARE ENG/TWO" in out
    assert "static partitions (one 1, two 1 agents)" in out
    # 8 tasks of 10 s: 40 s on 2 CPUs, and 20 to 26 s on 4 that another uses for 6 s.
    assert "shared, the jobs of one are 1." in out


def test_json_has_the_same_and_is_repeated_to_the_last_byte(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs compare two runs; nothing of the time that the run took may be in it."""
    assert run(["simulate", str(small), "-o", "json"]) == 0
    first = capsys.readouterr().out
    assert run(["simulate", str(small), "--json"]) == 0
    assert capsys.readouterr().out == first
    told = json.loads(first)["simulate"]
    assert {row["framework"]: row["tasks"] for row in told["frameworks"]} == {"one": 8, "two": 1}
    assert len(told["course"]) == 60
    assert told["static"]["rows"][0]["speedup"] > 1.4
    assert run(["simulate", str(small), "--seed", "4", "--json"]) == 0
    assert capsys.readouterr().out != first


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tasks = 8", 'tasks = "many"', ["jobs[1].tasks", "many", "whole number from 1"]),
        ("tasks = 8", "taks = 8", ["taks", "jobs[1]", "did you mean tasks?"]),
        ('lasts = "10s"', 'lasts = "fast"', ["jobs[1].lasts", "fast", "90s, 5m"]),
        ('lasts = "10s"', "lasts = { mean = 3 }", ["jobs[1].lasts", "mean", "exponential"]),
        ('lasts = "10s"', "", ["jobs[1] has no 'lasts'"]),
        ('framework = "one"', "", ["jobs[1] has no 'framework'"]),
        ('framework = "one"', 'framework = "three"', ["framework", "three", "one, two"]),
        ('resources = "cpus:2;mem:4G"', 'resources = "cpus:x"', ["agents[1].resources", "cpus"]),
        ("weight = 2", 'weight = "heavy"', ["roles.eng/two.weight", "heavy", "2 or 0.5"]),
        ("weight = 2", 'limit = "cpus:1"', ["roles.eng/two.limit", "give it to eng"]),
        ("tasks = 8", 'constraint = "rack="', ["jobs[1].constraint", "rack"]),
        ("one = 1\n", "one = 2\n", ["static", "3 agents are given away, there are 2"]),
        ("one = 1\n", "", ["static has no 'one'"]),
        ('name = "two"', 'name = "one"', ["two frameworks one"]),
        ("count = 2", "count = 0", ["agents[1].count", "'0'", "from 1 to 50000"]),
        ("seed = 3", 'seed = "x"', ["seed", "'x'"]),
        ("seed = 3", 'allocator = "best"', ["best", "drf"]),
        ("seed = 3", "launch = 3", ["launch", "'3'", "3s or 3m"]),
        ("seed = 3", 'trace = "gone.csv"', ["gone.csv", "No such file"]),
    ],
)
def test_a_bad_file_is_one_line_that_names_key_and_value(
    small: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    """Which key, which value, what is allowed; never a traceback, and nothing is simulated."""
    assert old in SMALL
    small.write_text(SMALL.replace(old, new, 1))
    assert run(["simulate", str(small)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_a_file_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for one that is empty, or no TOML."""
    path = tmp_path / "x.toml"
    assert run(["simulate", str(path)]) == 2
    assert "there is no such file" in capsys.readouterr().err
    path.write_text("")
    assert run(["simulate", str(path)]) == 2
    assert "there are no [[agents]]" in capsys.readouterr().err
    path.write_text("seed = = 1")
    assert run(["simulate", str(path)]) == 2
    assert "invalid TOML" in capsys.readouterr().err


def test_a_trace_adds_jobs(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows with one name are one line of the report; bare numbers are seconds."""
    trace = small.parent / "jobs.csv"
    trace.write_text(
        "at,lasts,framework,name,tasks,mem\n0,10,one,t,2,1G\n2.5,1m,two,u,,\n0,5,one,t,1,\n"
    )
    small.write_text(SMALL.replace("seed = 3", 'trace = "jobs.csv"'))
    jobs = load(small).jobs[2:]
    assert [(one.at_s, one.lasts.one_s, one.framework, one.tasks) for one in jobs] == [
        (0.0, 10.0, "one", 2),
        (2.5, 60.0, "two", 1),
        (0.0, 5.0, "one", 1),
    ]
    assert run(["simulate", str(small), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["simulate"]["jobs"]
    assert [(row["job"], row["jobs"], row["tasks"]) for row in rows[2:]] == [
        ("t", 2, 3),
        ("u", 1, 1),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at,lasts,framework\n0,soon,one\n", ["line 2", "lasts", "soon"]),
        ("at\n0\n", ["line 1", "'lasts'"]),
        ("at,lasts,colour\n", ["line 1", "colour", "columns are at"]),
        ("at,lasts,framework\n0,1,three\n", ["line 2", "framework", "three", "one, two"]),
        ("at,lasts\n0,1\n", ["line 2", "names no framework"]),
        ("at,lasts,framework,tasks\n0,1,one,-1\n", ["line 2", "tasks", "-1"]),
        ("at,lasts\n0\n", ["line 2 has 1 cells and not 2"]),
    ],
)
def test_a_bad_trace_names_line_and_column(
    small: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]
) -> None:
    """A trace is long: without the line nobody finds what is wrong in it."""
    (small.parent / "jobs.csv").write_text(text)
    small.write_text(SMALL.replace("seed = 3", 'trace = "jobs.csv"'))
    assert run(["simulate", str(small)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_spans_are_read_in_every_form(small: Path) -> None:
    """Each form of the page is one of the plan's."""
    for text, span in (
        ('"30s"', Span(30.0)),
        ('{ mean = "30s", sd = "10s" }', Span(30.0, 10.0, Spread.NORMAL)),
        ('{ from = "10s", to = "50s" }', Span(10.0, 50.0, Spread.UNIFORM)),
        ('{ exponential = "30s" }', Span(30.0, 0.0, Spread.EXPONENTIAL)),
    ):
        small.write_text(SMALL.replace('"10s"', text, 1))
        assert load(small).jobs[0].lasts == span


def test_what_cannot_be_started_is_told_with_exit_code_1(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are there all the same; the warning says why they are not whole."""
    small.write_text(SMALL.replace("tasks = 8", "cpus = 3").partition("[static]")[0])
    assert run(["simulate", str(small)]) == 1
    captured = capsys.readouterr()
    assert "no agent is large enough for a task of job1: it needs cpus:3;mem:512" in captured.err
    assert "1 of 2 tasks were left" in captured.err
    assert "makespan" in captured.out


def test_a_plot_is_refused_before_anything_is_simulated(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name, or because what draws it is not installed."""
    assert run(["simulate", str(small), "--plot", "x.doc"]) == 2
    assert "no such kind of picture" in capsys.readouterr().err
    if find_spec("matplotlib") is None:
        assert run(["simulate", str(small), "--plot", "x.png"]) == 2
        assert "pip install 'mesosctl[plot]'" in capsys.readouterr().err


def test_a_plot_is_a_picture(small: Path) -> None:
    """Roles' shares over time; it needs the extra `plot`."""
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    picture = small.parent / "x.png"
    assert run(["simulate", str(small), "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
