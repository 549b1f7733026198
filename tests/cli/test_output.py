"""Listings in six formats, the console's colours and widths, and how single values look."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mesosctl.cli import output, values
from mesosctl.cli.options import Output
from mesosctl.cli.output import Column, Console, Listing, WriteFailed, escaped, json_text
from mesosctl.errors import UsageError

NASTY = "a\x1b[31m\n\r\t\x7f\x9b\u202e\u2028\udcff=1+1"
MOMENT = 1_700_000_000.25

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("state", "state", style=lambda state: "red" if state == "failed" else ""),
    Column("cpus", "cpus", kind="cpus"),
    Column("mem", "mem", kind="size"),
    Column("started", "started", kind="time", wide=True),
    Column("took", "took", kind="duration"),
    Column("up", "up", kind="bool", wide=True),
    Column("tags", "tags", kind="words", wide=True),
    Column("raw", "raw", hidden=True),
)
ROWS: list[dict[str, Any]] = [
    {
        "id": "1.0",
        "name": "build",
        "state": "ok",
        "cpus": 1500,
        "mem": 512 * 1024**2,
        "started": MOMENT,
        "took": 5400.0,
        "up": True,
        "tags": ["a", "b"],
        "raw": "x",
    },
    {"id": "1.10", "name": NASTY, "state": "failed", "cpus": 0, "mem": None, "tags": ()},
]
LISTING = Listing("tasks", COLUMNS, ROWS)


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def printed(capsys: pytest.CaptureFixture[str], listing: Listing = LISTING, **options: Any) -> str:
    """What a listing prints on stdout."""
    fields = options.pop("fields", ())
    form = options.pop("form", "table")
    listing.print(Console(**options), Output(form, fields))
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


# --- formats --------------------------------------------------------------------------------------


def test_json_is_one_object_with_the_list_under_the_commands_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Programs read this for years: UTC times, seconds, bytes, CPUs as numbers, null if none."""
    found = json.loads(printed(capsys, form="json"))
    assert list(found) == ["schema", "tasks"]
    assert found["schema"] == 1
    assert found["tasks"][0] == {
        "id": "1.0",
        "name": "build",
        "state": "ok",
        "cpus": 1.5,
        "mem": 512 * 1024**2,
        "started": "2023-11-14T22:13:20.250Z",
        "took": 5400.0,
        "up": True,
        "tags": ["a", "b"],
        "raw": "x",
    }
    assert found["tasks"][1]["mem"] is None
    assert found["tasks"][1]["name"] == NASTY


def test_jsonl_is_one_item_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream of items can be cut anywhere between lines."""
    lines = printed(capsys, form="jsonl").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["1.0", "1.10"]


def test_csv_has_a_header_and_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet gets numbers and UTC times, not what people read."""
    rows = list(csv.DictReader(io.StringIO(printed(capsys, form="csv"))))
    assert rows[0]["cpus"] == "1.5" and rows[0]["tags"] == "a;b"
    assert rows[0]["started"] == "2023-11-14T22:13:20.250Z"
    assert rows[1]["mem"] == ""


def test_name_prints_ids_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids go straight into xargs."""
    assert printed(capsys, form="name") == "1.0\n1.10\n"
    by_name = Listing("tasks", COLUMNS, ROWS[:1], id_key="name")
    assert printed(capsys, by_name, form="name") == "build\n"


def test_the_table_shows_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide columns are left out, numbers keep their form, nothing is a dash."""
    lines = printed(capsys).splitlines()
    assert lines[0].split() == ["ID", "NAME", "STATE", "CPUS", "MEM", "TOOK"]
    assert lines[1].split() == ["1.0", "build", "ok", "1.5", "512M", "1h30m"]
    assert lines[2].split()[-3:] == ["0", "-", "-"]


def test_wide_shows_more_and_in_utc_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """-o wide has all columns that a table may have."""
    lines = printed(capsys, form="wide", utc=True).splitlines()
    assert "STARTED" in lines[0] and "RAW" not in lines[0]
    assert "2023-11-14T22:13:20Z" in lines[1]
    assert lines[1].split()[-2:] == ["yes", "a,b"]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_fields_are_chosen_and_ordered(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--fields holds for every format, also for what a table normally hides."""
    out = printed(capsys, form=form, fields=("raw", "id"))
    assert "build" not in out
    assert out.lower().index("raw") < out.lower().index("id")


def test_an_unknown_field_is_refused() -> None:
    """A script with a misspelt field must not get an empty column."""
    with pytest.raises(UsageError, match="no field 'nme'; there are id, name, state"):
        LISTING.print(Console(), Output("csv", ("nme",)))


def test_an_empty_list_is_a_header_or_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to show is no error and no prose on stdout."""
    empty = Listing("tasks", COLUMNS[:2], [])
    assert printed(capsys, empty) == "ID  NAME\n"
    assert json.loads(printed(capsys, empty, form="json")) == {"schema": 1, "tasks": []}
    assert printed(capsys, empty, form="name") == ""


@pytest.mark.parametrize("form", ["table", "wide", "json", "jsonl", "csv"])
def test_no_format_lets_control_characters_through(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job's name must not steer the terminal, whatever format it is printed in."""
    out = printed(capsys, form=form)
    assert all(char.isprintable() or char == "\n" for char in out)
    assert len(out.splitlines()) == {"table": 3, "wide": 3, "json": 1, "jsonl": 2, "csv": 3}[form]
    assert "1b[31m" in out


def test_json_is_ascii_where_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """An escape that the encoding forces has to be JSON's own."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    text = json_text({"name": "é😀"})
    assert text.isascii()
    assert json.loads(text) == {"name": "é😀"}


def test_titles_and_cells_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """An id such as 1.10 is a word: it is neither rounded nor aligned at its dot."""
    rows = [{"id": "1.0", "n": 5}, {"id": "12.10", "n": 50}]
    listing = Listing("x", (Column("id", "id"), Column("n", "n", kind="number")), rows)
    assert printed(capsys, listing) == "ID      N\n1.0     5\n12.10  50\n"


# --- terminals ------------------------------------------------------------------------------------

_PROGRAM = """
import sys
sys.path.insert(0, {here!r})
from test_output import LISTING
from mesosctl.cli.options import Output
from mesosctl.cli.output import Console
LISTING.print(Console(), Output(sys.argv[1]))
"""


def on_a_terminal(form: str, **variables: str) -> str:
    """What a listing prints on a pseudo-terminal."""
    controller, terminal = pty.openpty()
    program = _PROGRAM.format(here=str(Path(__file__).parent))
    environment = {**os.environ, **variables}
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program, form], stdout=terminal, env=environment
        )
        os.close(terminal)
        chunks = []
        while True:
            try:
                chunk = os.read(controller, 4096)
            except OSError:
                # Linux answers EIO when the last writer of a terminal has gone.
                break
            if not chunk:
                break
            chunks.append(chunk)
        assert process.wait(timeout=60) == 0
    finally:
        os.close(controller)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_a_table_is_fitted_to_the_terminal() -> None:
    """A line that wraps is no table; what is cut says so."""
    text = on_a_terminal("table", COLUMNS="44", NO_COLOR="1")
    assert max(map(len, text.splitlines())) <= 44
    assert "…" in text and "\x1b" not in text


def test_a_terminal_gets_colour_and_indented_json() -> None:
    """People look at it, so it may be pretty."""
    assert "\x1b[31mfailed\x1b[0m" in on_a_terminal("table", COLUMNS="200")
    assert "\n  " in on_a_terminal("json")
    assert "\x1b" not in on_a_terminal("table", TERM="dumb")


def test_a_pipe_gets_everything_and_no_escapes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """COLUMNS is often exported; in a pipe it must cut nothing."""
    monkeypatch.setenv("COLUMNS", "20")
    out = printed(capsys)
    assert "…" not in out and "\x1b" not in out
    assert max(map(len, out.splitlines())) > 20


@pytest.mark.parametrize(
    ("color", "variables", "coloured"),
    [
        ("auto", {}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "0"}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_who_decides_about_colour(
    color: str,
    variables: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The option wins over NO_COLOR, that over FORCE_COLOR, that over the terminal."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[31m" in printed(capsys, color=color)) is coloured


def test_notes_go_to_stderr_and_q_silences_them(capsys: pytest.CaptureFixture[str]) -> None:
    """What is said beside the data never mixes with it."""
    Console().note("one\x1b")
    Console(quiet=True).note("two")
    Console(quiet=True).error_line("three")
    Console().warn("four")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "one\\x1b\nthree\nmesosctl: warning: four\n"


def test_bytes_pass_unchanged_and_in_order() -> None:
    """A task's output is not ours to decode."""
    program = (
        "from mesosctl.cli.output import Console\n"
        "c = Console(); c.out('a'); c.raw(b'\\xff\\x00\\n'); c.out('b'); c.flush()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"a\n\xff\x00\nb\n"


@pytest.mark.parametrize("way", ["out", "raw", "flush"])
def test_a_failed_write_is_an_error_of_ours(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way of writing says the same about a full disk."""
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        if way == "flush":
            full.buffer.write(b"x")
        ways = {
            "out": lambda: Console().out("x"),
            "raw": lambda: Console().raw(b"x"),
            "flush": Console().flush,
        }
        with pytest.raises(WriteFailed, match="write error: No space left on device"):
            ways[way]()
        # What is still buffered would fail again when the file is closed.
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), full.fileno())


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (0.35, "0.35s"),
        (3.2, "3.2s"),
        (9.99, "10s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (312, "5m12s"),
        (5400, "1h30m"),
        (7200, "2h"),
        (183600, "2d3h"),
        (-90, "-1m30s"),
    ],
)
def test_durations_for_people(seconds: float | None, text: str) -> None:
    """Two units are enough to know how long something took."""
    assert values.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0"),
        (900, "900B"),
        (1024, "1K"),
        (1536, "1.5K"),
        (512 * 1024**2, "512M"),
        (1024**2 - 1, "1M"),
        (1024**5, "1P"),
        (1024**6, "1024P"),
        (100 * 1024, "100K"),
    ],
)
def test_sizes_for_people(size: int | None, text: str) -> None:
    """Powers of 1024 with one letter, as they are typed."""
    assert values.size_text(size) == text


def test_times_carry_their_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local time without its zone is no time."""
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert values.time_text(MOMENT) == "2023-11-15T03:43:20+05:30"
        assert Console(utc=True).time(MOMENT) == "2023-11-14T22:13:20Z"
        assert values.time_text(None) == "-"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_escaped_text_is_printable_and_readable() -> None:
    """Only what would disturb is replaced."""
    assert escaped("é ü 漢") == "é ü 漢"
    assert escaped(NASTY).isprintable()


def test_a_stream_that_is_no_file_is_left_alone() -> None:
    """A test's stream or a closed one has no file descriptor to point elsewhere."""
    text = io.StringIO()
    output.silence(text)
    output.silence(None)
    assert text.write("x") == 1
    assert not output.is_abandoned(text, None)
