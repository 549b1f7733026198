"""Configuration files, contexts, and how a command finds the master and the key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest
from click.core import ParameterSource

from mesosctl.cli import settings
from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals
from mesosctl.cli.params import CPUS, MEMORY
from mesosctl.cli.settings import Endpoint, combine, defaults_for, load, read_file
from mesosctl.errors import NotFound, Refused, Unreachable, UsageError
from mesosctl.storage import locations
from mesosctl.storage.keys import KeyFile, make_keypair, save_key


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for every file, none of which is there yet."""
    for name in [name for name in os.environ if name.startswith("MESOSCTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "SYSTEM_DIR", tmp_path / "etc")
    monkeypatch.setattr(locations, "config_dir", lambda: tmp_path / "user")
    monkeypatch.setattr(locations, "runtime_dir", lambda: tmp_path / "run")
    for name in ("etc", "user", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


def write(path: Path, text: str) -> Path:
    """Write a file and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


# --- files ----------------------------------------------------------------------------------------


def test_the_users_file_wins_over_the_systems(home: Path) -> None:
    """An administrator sets defaults, and everybody may have their own."""
    write(home / "etc/config.toml", "[submit]\ncpus = 1\nmem = '1G'\n")
    write(home / "user/config.toml", "[submit]\ncpus = 2\n")
    found = load(None)
    assert {name: entry.value for name, entry in found.values.items()} == {
        "submit.cpus": 2,
        "submit.mem": "1G",
    }
    assert found.values["submit.mem"].file == home / "etc/config.toml"
    assert found.warnings == ()


def test_no_file_at_all_is_no_error() -> None:
    """Nothing has to be set up before the first command."""
    assert load(None).values == {}


def test_a_file_that_is_named_replaces_both_and_must_exist(home: Path) -> None:
    """Whoever names a file means that one."""
    write(home / "user/config.toml", "[submit]\ncpus = 2\n")
    named = write(home / "mine.toml", "[submit]\ncpus = 3\n")
    assert load(str(named)).values["submit.cpus"].value == 3
    with pytest.raises(UsageError, match="there is no such file"):
        load(str(home / "none.toml"))
    assert load(os.devnull).values == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = \n", "invalid TOML: .*line 1"),
        ("[submit]\na = 1\n[submit]\nb = 2\n", "invalid TOML: .*line 3"),
        ("a = " + "[" * 5000, "invalid TOML"),
        ("submit = 1", "submit has to be a table: write \\[submit\\]"),
        ("context = 1", "context has to be a table"),
        ("[context]\nprod = 1", "context.prod has to be a table"),
        ("[context.prod]\nmaster = 1", "context.prod.master has to be a text"),
        ("[context.'a.b']\nmaster = 'x'", "without the name"),
        ("current-context = 1", "current-context has to be a text"),
        ("[submit]\nwhen = 2020-01-01", "submit.when has to be a text, number"),
        ("[submit]\nx = {a = 1}", "submit.x has to be a text, number"),
        ("[submit]\nx = [[1]]", "submit.x has to be a text, number"),
    ],
)
def test_files_that_cannot_be_meant(home: Path, text: str, words: str) -> None:
    """The message names the file and the place, and nothing is run on half a configuration."""
    path = write(home / "bad.toml", text)
    with pytest.raises(UsageError, match=words) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert "correct the file" in caught.value.hint


def test_what_is_no_readable_file_is_refused(home: Path) -> None:
    """A directory, a pipe, a huge file and bytes that are no text neither hang nor crash."""
    with pytest.raises(UsageError, match="is a directory"):
        read_file(home)
    os.mkfifo(home / "pipe")
    with pytest.raises(UsageError, match="is not a regular file"):
        read_file(home / "pipe")
    write(home / "huge", "#" * (settings.FILE_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        read_file(home / "huge")
    (home / "bytes").write_bytes(b"# ok\n# \xff\n")
    with pytest.raises(UsageError, match="line 2 is not UTF-8"):
        read_file(home / "bytes")
    with pytest.raises(UsageError, match="cannot be read"):
        read_file(Path("/nul\0byte"))


def test_unknown_names_are_warnings_with_the_nearest_known_one(home: Path) -> None:
    """A slip of the finger must not be silent, and a newer file must not stop an older program."""
    path = write(
        home / "c.toml", "curent-context = 'a'\n[context.a]\nmastr = 'h'\n[sumbit]\nx = 1\n"
    )
    warnings = combine([read_file(path)]).warnings
    assert warnings == (
        f"{path}: curent-context is not known; did you mean current-context?",
        f"{path}: context.a.mastr is not known; did you mean master?",
        f"{path}: sumbit is not known; did you mean submit?",
    )


# --- defaults -------------------------------------------------------------------------------------


@cli_command("submit")
@click.option("-c", "--cpus", type=CPUS, default="1")
@click.option("--mem", "memory", type=MEMORY)
@click.option("-E", "--env", multiple=True)
@click.option("--hold", is_flag=True)
@click.option("--max-running", type=int)
def submit(**_: object) -> None:
    """For a test."""


def defaults(home: Path, text: str, warnings: list[str] | None = None) -> dict[str, object]:
    """What a table makes of the defaults of `submit`."""
    found = combine([read_file(write(home / "c.toml", f"[submit]\n{text}"))])
    return defaults_for(submit, found, warnings if warnings is not None else [])


def test_a_table_gives_defaults_by_the_long_names_of_options(home: Path) -> None:
    """The names in the file are those of the command line, whatever the program calls them."""
    text = "cpus = 2\nmem = '1G'\nenv = ['A=1', 'B=2']\nhold = true\nmax-running = 3\n"
    assert defaults(home, text) == {
        "cpus": 2,
        "memory": "1G",
        "env": ["A=1", "B=2"],
        "hold": True,
        "max_running": 3,
    }
    assert defaults(home, "env = 'A=1'\nmax_running = 3") == {"env": ["A=1"], "max_running": 3}


def test_a_value_of_the_wrong_kind_is_refused(home: Path) -> None:
    """A list for one value or a text for a flag is a slip that would do something else."""
    with pytest.raises(UsageError, match=r"submit\.cpus has to be one value, not a list"):
        defaults(home, "cpus = [1, 2]")
    with pytest.raises(UsageError, match=r"submit\.hold has to be true or false"):
        defaults(home, "hold = 'yes'")


def test_an_unknown_option_is_a_warning(home: Path) -> None:
    """The nearest option is named."""
    warnings: list[str] = []
    assert defaults(home, "cpu = 1\nutc = true", warnings) == {}
    assert "submit.cpu is not known; did you mean cpus?" in warnings[0]
    assert "submit.utc is not known" in warnings[1]


# --- the master -----------------------------------------------------------------------------------


def found_by(config: str | None = None, **options: str) -> Endpoint:
    """Where the master is for a command line with these global options."""
    return Globals(config=config, **options).locate()  # type: ignore[arg-type]


def local(home: Path, content: object) -> None:
    """Write local.json."""
    text = content if isinstance(content, str) else json.dumps(content)
    write(home / "run/local.json", text)


def test_options_say_where_the_master_is(home: Path) -> None:
    """With both options given, nothing else is looked at, not even a broken file."""
    write(home / "user/config.toml", "broken")
    assert found_by(master="tcp://a:1", key="k") == Endpoint("tcp://a:1", "k", "--master")


def test_a_context_says_where_the_master_is(home: Path) -> None:
    """The current one, or the one that is named; its key lies beside the file."""
    text = (
        "current-context = 'a'\n[context.a]\nmaster = 'a'\nkey = 'a.key'\n"
        "[context.b]\nmaster = 'b:1'\nkey = '/b.key'\n"
    )
    write(home / "user/config.toml", text)
    assert found_by() == Endpoint("tcp://a:5050", str(home / "user/a.key"), "context a")
    assert found_by(context="b") == Endpoint("tcp://b:1", "/b.key", "context b")
    with pytest.raises(NotFound, match="no context 'c'"):
        found_by(context="c")


def test_a_context_on_the_command_line_wins_over_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MESOSCTL_MASTER is set in every shell of `mesosctl local`; -C still means the context."""
    write(home / "user/config.toml", "[context.a]\nmaster='a'\nkey='/a.key'\n")
    found = Globals()
    found.take("master", "tcp://env:1", ParameterSource.ENVIRONMENT)
    found.take("key", "/env.key", ParameterSource.ENVIRONMENT)
    assert found.locate().master == "tcp://env:1"
    found.take("context", "a", ParameterSource.COMMANDLINE)
    assert found.locate() == Endpoint("tcp://a:5050", "/a.key", "context a")


def test_a_contexts_key_is_not_shown_to_another_master(home: Path) -> None:
    """A master that was named by hand gets the key that was named by hand, or none."""
    write(home / "user/config.toml", "current-context='a'\n[context.a]\nmaster='a'\nkey='a.key'\n")
    assert found_by(master="tcp://a:5050").key_file == str(home / "user/a.key")
    with pytest.raises(Unreachable, match="no key is known for the master at tcp://b:1"):
        found_by(master="tcp://b:1")


def test_a_context_with_a_bad_address_names_the_file(home: Path) -> None:
    """The fault is in the file, so the message is about the file."""
    path = write(home / "user/config.toml", "[context.a]\nmaster = 'h:0'\n")
    with pytest.raises(UsageError, match=rf"{path}: context.a.master: 'h:0': ports are"):
        found_by(context="a")


def test_the_master_on_this_host_is_found(home: Path) -> None:
    """Whoever starts a master can use it at once, without any option."""
    local(home, {"master": "tcp://127.0.0.1:5050", "key": "/path/to.key", "pid": 1})
    assert found_by() == Endpoint(
        "tcp://127.0.0.1:5050", "/path/to.key", str(home / "run/local.json")
    )
    assert found_by(master="tcp://127.0.0.1:5050").key_file == "/path/to.key"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100000,
        {"master": "tcp://h"},
        {"master": 1, "key": "k"},
        {"master": "h:0", "key": "k"},
        {"key": "k"},
    ],
    ids=range(9),
)
def test_a_damaged_runtime_file_tells_nothing(home: Path, content: object) -> None:
    """A master may be killed while it writes; then there is no master known, and no traceback."""
    local(home, content)
    with pytest.raises(Unreachable, match="no master is known; start one with `mesosctl master`"):
        found_by()


def test_a_runtime_directory_of_somebody_else_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else's /tmp directory must not lead a command to somebody else's master."""

    def refuse() -> Path:
        raise Refused("belongs to user 1")

    monkeypatch.setattr(locations, "runtime_dir", refuse)
    with pytest.raises(Unreachable, match="no master is known"):
        found_by()


def test_a_key_file_names_its_master(home: Path) -> None:
    """One file is all that has to be copied to another host."""
    pair, server = make_keypair(), make_keypair()
    save_key(home / "n.key", KeyFile("n", "client", pair, server.public, "tcp://m:1"))
    save_key(home / "bare.key", KeyFile("n", "client", pair, server.public))
    path = str(home / "n.key")
    assert found_by(key=path) == Endpoint("tcp://m:1", path, f"key file {path}")
    write(home / "user/config.toml", "current-context = 'a'\n[context.a]\nmaster = 'a'\n")
    assert found_by(key=str(home / "bare.key")).master == "tcp://a:5050"
    (home / "user/config.toml").unlink()
    with pytest.raises(Unreachable, match="does not say where its master is; give --master"):
        found_by(key=str(home / "bare.key"))
    with pytest.raises(Refused, match="there is no such key file"):
        found_by(key=str(home / "none.key"))


def test_warnings_are_said_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning belongs on stderr, one line, and not again with every look at the settings."""
    path = write(home / "c.toml", "colour = 1\n")
    found = Globals(config=str(path), master="tcp://a:1")
    for _ in range(2):
        with pytest.raises(Unreachable):
            found.locate()
        found.show_warnings()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("colour is not known") == 1
