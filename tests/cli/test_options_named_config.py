"""A configuration file that was named has to be there, whatever the command does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesosctl.cli.main import run


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_named_file_that_is_missing_is_refused(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo in --config must not mean the defaults."""
    named = ["--config", str(tmp_path / "none.toml")]
    words = [*named, "jobs"] if place == "before" else ["jobs", *named]
    assert run(words) == 2
    assert "none.toml" in capsys.readouterr().err


def test_a_variable_keeps_its_name_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The name in the message is what the user has to look for."""
    assert run(["submit", "-E", "NOT_SET_ANYWHERE", "--", "true"]) == 2
    assert "NOT_SET_ANYWHERE is not" in capsys.readouterr().err
