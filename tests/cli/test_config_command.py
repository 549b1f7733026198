"""`mesosctl config`: what it shows, what it refuses, and that it changes one line and no more."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.cli import configfile, settings
from mesosctl.cli.configfile import edited, toml_value, typed_value
from mesosctl.cli.group import TABLES, cli_command
from mesosctl.cli.main import run
from mesosctl.cli.params import CPUS, MEMORY
from mesosctl.storage import locations


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's configuration file, which is not there yet; and small commands for the tables."""
    for name in [name for name in os.environ if name.startswith("MESOSCTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "SYSTEM_DIR", tmp_path / "etc")
    monkeypatch.setattr(locations, "config_dir", lambda: tmp_path / "user")
    for table in TABLES:

        @cli_command(table)
        @click.option("-c", "--cpus", type=CPUS)
        @click.option("--mem", type=MEMORY)
        @click.option("-E", "--env", multiple=True)
        def command(**_: object) -> None:
            """For a test."""

        module = ModuleType(f"mesosctl.cli.commands.{table}")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return tmp_path / "user" / "config.toml"


def config(*args: str) -> int:
    """Run `mesosctl config` in this process."""
    return run(["config", *args])


def test_set_makes_a_file_that_get_reads(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first value makes file and directory, private to the user."""
    assert config("set", "submit.cpus", "2") == 0
    assert config("set", "submit.mem", "2G") == 0
    assert config("set", "submit.env", '["A=1", "B"]') == 0
    assert tomllib.loads(file.read_text()) == {
        "submit": {"cpus": 2, "mem": "2G", "env": ["A=1", "B"]}
    }
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    capsys.readouterr()
    assert config("get", "submit.mem") == 0
    assert config("get", "submit.env") == 0
    assert capsys.readouterr().out == '2G\n["A=1", "B"]\n'


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("submit.cpus", "0", "'0' is less than can be given"),
        ("submit.mem", "512", "did you mean 512M?"),
        ("submit.cpu", "1", "did you mean cpus?"),
        ("submit.cpus", "[1]", "has to be one value"),
        ("sumbit.cpus", "1", "is not a setting"),
        ("cpus", "1", "is not a setting"),
        ("context.a.master", "h:0", "ports are 1 to 65535"),
        ("context.a.mastr", "h", "is not a setting"),
        ("context..master", "h", "is not a setting"),
    ],
)
def test_set_refuses_what_a_command_would_refuse(
    file: Path, name: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value is found when it is written, not by the next command."""
    assert config("set", name, value) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert not file.exists()


def test_set_keeps_comments_order_and_everything_else(file: Path) -> None:
    """The file belongs to its owner, who has written more in it than values."""
    file.parent.mkdir()
    file.write_text(
        "# mine\n"
        "current-context = 'a' # now\n"
        "\n"
        "[context.a]\n"
        "master = 'a'\n"
        "\n"
        "[submit] # jobs\n"
        'cpus = 1   # one "#1"\n'
        "env = ['A=#1'] # two\n"
    )
    file.chmod(0o640)
    assert config("set", "submit.cpus", "4") == 0
    assert config("set", "submit.env", '["B=2"]') == 0
    assert config("set", "context.a.key", "/k") == 0
    assert config("set", "context.b.master", "b") == 0
    assert config("use", "b") == 0
    assert file.read_text() == (
        "# mine\n"
        'current-context = "b" # now\n'
        "\n"
        "[context.a]\n"
        "master = 'a'\n"
        'key = "/k"\n'
        "\n"
        "[submit] # jobs\n"
        'cpus = 4   # one "#1"\n'
        'env = ["B=2"] # two\n'
        "\n"
        "[context.b]\n"
        'master = "tcp://b:5050"\n'
    )
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "text",
    ["submit = { cpus = 1 }\n", "[submit]\nenv = [\n  'A=1',\n]\n", "submit.env = ['A']\n"],
)
def test_set_leaves_alone_what_it_cannot_change_safely(
    file: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """TOML can be written in many ways; rather no change than a wrong one."""
    file.parent.mkdir()
    file.write_text(text)
    assert config("set", "submit.env", '["B"]') == 5
    assert "edit it by hand" in capsys.readouterr().err
    assert file.read_text() == text
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_a_relative_key_is_where_one_is_when_it_is_typed(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the command line a path starts at the current directory, so that is what is written."""
    monkeypatch.chdir(tmp_path)
    assert config("set", "context.a.key", "a.key") == 0
    assert tomllib.loads(file.read_text())["context"]["a"]["key"] == str(tmp_path / "a.key")


def test_a_link_to_the_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    """People keep such files in a repository and link to them."""
    file.parent.mkdir()
    real = tmp_path / "dotfiles.toml"
    real.write_text("")
    file.symlink_to(real)
    assert config("set", "submit.cpus", "2") == 0
    assert file.is_symlink() and real.read_text() == "[submit]\ncpus = 2\n"


def test_a_directory_that_cannot_be_written_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file stands in for a directory here, as even root may not write below one."""
    file.parent.write_text("")
    assert config("set", "submit.cpus", "2") == 5
    assert "cannot be written" in capsys.readouterr().err


def test_use_needs_a_context_that_is_there(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest one is named."""
    assert config("set", "context.prod.master", "a") == 0
    assert config("use", "prdo") == 4
    assert "no context 'prdo'; did you mean prod?" in capsys.readouterr().err
    assert "current-context" not in file.read_text()


def test_contexts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As every listing, also for programs; -C shows which one would be used."""
    for name in ("b", "a"):
        assert config("set", f"context.{name}.master", name) == 0
    assert config("use", "a") == 0
    capsys.readouterr()
    assert config("contexts", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["current"]) for one in found["contexts"]] == [
        ("a", True),
        ("b", False),
    ]
    assert run(["-C", "b", "config", "contexts", "-o", "csv", "--fields", "name,current"]) == 0
    assert capsys.readouterr().out == "name,current\na,False\nb,True\n"


def test_show_says_where_values_come_from(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files and environment together, as commands see them."""
    assert config("set", "submit.cpus", "2") == 0
    monkeypatch.setenv("MESOSCTL_OUTPUT", "json")
    capsys.readouterr()
    assert config("show", "--sources") == 0
    assert capsys.readouterr().out == (
        f'submit.cpus = 2  # {file}\nMESOSCTL_OUTPUT = "json"  # environment\n'
    )
    assert config("show", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"][0] == {"name": "submit.cpus", "value": 2, "source": str(file)}


def test_path_and_get(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that is not set is not found, which a script can tell from an empty one."""
    assert config("path") == 0
    assert run(["--config", "/x.toml", "config", "path"]) == 0
    assert capsys.readouterr().out == f"{file}\n/x.toml\n"
    assert config("get", "submit.cpus") == 4
    assert "'submit.cpus' is not set" in capsys.readouterr().err


def test_check_finds_every_fault(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a fault, all at once, and an exit code for scripts."""
    assert config("check") == 0
    file.parent.mkdir()
    file.write_text(
        "current-context = 'x'\ncolour = 1\n[submit]\ncpus = 0\ncpu = 1\n[agent]\nmem = 1\n"
        "[context.a]\nmaster = 'h:0'\n[context.b]\nmastr = 'h'\n"
    )
    capsys.readouterr()
    assert config("check") == 1
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 8
    for words in ("colour is not known", "submit.cpus: '0' is less", "submit.cpu is not known"):
        assert words in out
    for words in ("agent.mem: '1' has no unit", "ports are 1 to", "mastr is not known"):
        assert words in out
    assert "context b has neither" in out and "no context 'x'" in out


def test_a_file_that_is_no_toml_is_a_usage_error(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a file is also never overwritten."""
    file.parent.mkdir()
    file.write_text("[[[")
    assert config("check") == 2
    assert config("set", "submit.cpus", "2") == 2
    assert capsys.readouterr().err.count("invalid TOML") == 2
    assert file.read_text() == "[[["


PLAIN: Any = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=20))


@given(st.one_of(PLAIN, st.lists(PLAIN, max_size=4)))
def test_values_survive_being_written(value: Any) -> None:
    """Whatever a value holds, the file says exactly that, in one line."""
    text = toml_value(value)
    assert "\n" not in text
    assert tomllib.loads(f"x = {text}")["x"] == value


def test_words_become_values_as_in_toml() -> None:
    """What is no value is text, so that nobody has to quote twice."""
    words = ["2", "2.5", "true", '["a"]', "2G", "a b", "1979-05-27", "{a=1}", "1\nb=2", ""]
    values = [2, 2.5, True, ["a"], "2G", "a b", "1979-05-27", "{a=1}", "1\nb=2", ""]
    assert [typed_value(word) for word in words] == values


@given(
    st.lists(st.sampled_from(["[submit]", "cpus = 1", "# c", "", "[x]", "mem = '1G' # d"])),
    st.sampled_from(["cpus", "mem", "new"]),
)
def test_an_edit_either_says_exactly_the_new_thing_or_nothing(lines: list[str], key: str) -> None:
    """The check after the edit is what makes editing lines safe."""
    before = configfile.parse_quietly("\n".join(lines))
    after = edited("\n".join(lines), ["submit", key], "v")
    if before is not None and after is not None:
        wanted = {**before, "submit": {**before.get("submit", {}), key: "v"}}
        assert configfile.parse_quietly(after) == wanted
