"""Log lines of the loop: levels, escaping, a stderr that is gone, and commits that were slow."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest

from mesosctl.core.machine import Delete, Effect, Event, Now, Put, Stop
from mesosctl.runtime import loop as loop_module
from mesosctl.runtime.logs import Logger, printable
from mesosctl.runtime.loop import Loop


def test_a_line_has_time_level_role_and_text() -> None:
    """What is below the level is left out."""
    stream = io.StringIO()
    log = Logger("agent", "warning", stream)
    log("info", "not this")
    log("error", "this")
    assert re.fullmatch(r"\d\d:\d\d:\d\d error agent this\n", stream.getvalue())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü → ok", "plain äöü → ok"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J\x9b\x00", "\\x1b[2J\\x9b\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("bad \udcff byte", "bad \\xff byte"),
    ],
)
def test_nothing_foreign_reaches_the_terminal_raw(text: str, shown: str) -> None:
    """Names and reasons are chosen by others."""
    assert printable(text) == shown


def test_a_log_that_is_gone_stops_nobody() -> None:
    """`mesosctl master 2>&1 | head` must not end the master."""
    tries: list[str] = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tries.append(text)
            raise BrokenPipeError

    stream = Gone()
    Logger("agent", stream=stream)("error", "nobody reads this")
    closed = io.StringIO()
    closed.close()
    Logger("agent", stream=closed)("error", "nor this")
    assert len(tries) == 1


def test_a_slow_commit_is_logged_and_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that begins to fail is seen before it does."""
    monkeypatch.setattr(loop_module, "SLOW_COMMIT_S", -1.0)

    class Machine:
        def handle(self, event: Event, now: Now) -> Sequence[Effect]:
            return [Put("t", "k", {}), Stop(0)]

        def settle(self, now: Now) -> Sequence[Effect]:
            return ()

        def deadline(self) -> float | None:
            return None

        def check(self) -> None:
            return

    class Store:
        def apply(self, operations: Sequence[Put | Delete]) -> None:
            assert operations == [Put("t", "k", {})]

    loop = Loop(Machine(), store=Store())
    assert loop.run() == 0
    assert (loop.counters.commits, loop.counters.slow_commits) == (1, 1)
    assert "for one commit" in capsys.readouterr().err
