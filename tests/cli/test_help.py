"""`mesosctl help`, `mesosctl version` and the help of commands."""

from __future__ import annotations

import json
import os

import pytest

from mesosctl import __version__
from mesosctl.cli.group import COMMANDS
from mesosctl.cli.main import run
from mesosctl.cli.topics import TOPICS
from mesosctl.model.jobs import WORST_FIRST, BatchState


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESOSCTL_CONFIG", os.devnull)
    monkeypatch.delenv("COLUMNS", raising=False)


def test_help_alone_lists_commands_and_topics(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the same list as --help, and the topics that only help knows."""
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    assert run(["help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(listed)
    assert all(f"  {name}" in out for name in TOPICS)


def test_help_of_a_command_is_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`help config` is typed as often as `config --help`."""
    for name in ("config", "version", "completion"):
        assert run([name, "--help"]) == 0
        own = capsys.readouterr().out
        assert run(["help", name]) == 0
        assert capsys.readouterr().out == own
        assert own.startswith(f"Usage: mesosctl {name} ")


def test_every_topic_is_explained_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A topic is read in a terminal; nothing of it may be cut."""
    for name, topic in TOPICS.items():
        assert name not in COMMANDS
        assert run(["help", name]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{topic.title}\n")
        assert max(map(len, out.splitlines())) <= 80


def test_an_unknown_topic_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands and topics are both known to it."""
    for word, guess in (("sumbit", "submit"), ("state", "states"), ("exit-code", "exit-codes")):
        assert run(["help", word]) == 4
        assert f"did you mean {guess}?" in capsys.readouterr().err
    assert run(["help", "\x1b[2J"]) == 4
    assert "see mesosctl help" in capsys.readouterr().err


def test_the_states_are_those_of_the_model() -> None:
    """A state that users can see is explained, and no other."""
    terms, order = TOPICS["states"].paragraphs
    assert isinstance(terms, tuple) and isinstance(order, str)
    named = [name for name, _ in terms]
    assert sorted(named) == sorted(state for state in BatchState if state != BatchState.PARTIAL)
    assert ", ".join(WORST_FIRST) in order


def test_version_names_what_mesosctl_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    """A report of a fault needs these versions, readable for people and programs."""
    assert run(["version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"mesosctl {__version__}"
    assert run(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f"{name} {version}" for name, version in found["version"].items()] == lines
    assert {"pyzmq", "msgpack", "click"} <= found["version"].keys()


def test_the_help_of_a_command_has_its_options_and_the_global_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are listed apart, so that the few of the command are not lost among the many."""
    assert run(["config", "contexts", "-h"]) == 0
    out = capsys.readouterr().out
    own, _, shared = out.partition("Global options:")
    assert "--fields" in own and "--utc" not in own
    assert "--utc" in shared and "--version" in shared
