"""The command line from its first word to its exit code: parsing, errors, streams, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import click
import pytest

from mesosctl.cli import group
from mesosctl.cli.group import COMMANDS, Command, Entry, after_double_dash, cli_command, root_group
from mesosctl.cli.main import run
from mesosctl.cli.options import GLOBAL_OPTIONS, Globals, pass_globals
from mesosctl.cli.params import CPUS, DURATION
from mesosctl.errors import InvariantBroken, NotFound, Refused, Unreachable, UsageError

SLOW_TO_IMPORT = ("zmq", "psutil", "tabulate", "asyncio", "msgpack", "sqlite3", "subprocess")

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MESOSCTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MESOSCTL_CONFIG", os.devnull)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a command of the test's own into the group."""

    def put(command: Command) -> None:
        assert command.name is not None
        module = ModuleType(f"mesosctl.cli.commands.{command.name}")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, command.name, Entry("For a test.", "tools"))

    return put


def failing(error: BaseException, name: str = "fails", **attributes: Any) -> Command:
    """A command that raises."""

    @cli_command(name, **attributes)
    @click.option("-W", "--wait", is_flag=True)
    def command(wait: bool) -> None:
        """For a test."""
        raise error

    return command


def mesosctl(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own."""
    command = [sys.executable, "-m", "mesosctl", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )


# --- start-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["help"], ["jbos"], []])
def test_the_first_answer_needs_no_slow_import(args: list[str]) -> None:
    """Start-up time is a feature; what is imported decides it, and can be asserted."""
    # What was there before us (coverage, say, brings its own) is not ours.
    program = (
        "import sys; before = set(sys.modules); "
        "from mesosctl.cli.main import run; run(sys.argv[1:]); "
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=True
    )
    modules = done.stderr.splitlines()[-1].split()
    assert "click" in modules
    assert not [name for name in SLOW_TO_IMPORT if name in modules]
    loaded = [name for name in modules if name.startswith("mesosctl.cli.commands.")]
    assert loaded == (["mesosctl.cli.commands.help"] if args == ["help"] else [])


def test_the_help_of_the_group_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The list is a table of its own; nobody may be missing from it."""
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out and entry.help in out for name, entry in COMMANDS.items())
    assert all(entry.section in group.SECTIONS for entry in COMMANDS.values())


@pytest.mark.parametrize("args", [["--version"], ["-V"], ["version", "--version"]])
def test_the_version(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is a global option, so it stands before or after a command."""
    from mesosctl import __version__

    assert run(args) == 0
    assert capsys.readouterr().out == f"mesosctl {__version__}\n"


# --- unknown words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([""], "no such command ''"),
        (["  "], "no such command '  '"),
        (["jbos"], "did you mean jobs?"),
        (["--versoin"], "did you mean --version?"),
        (["version", "--jsno"], "version: no such option '--jsno'; did you mean --json?"),
        (["version", "-x"], "no such option '-x'; see mesosctl version --help"),
        (["version", "extra"], "unexpected extra argument (extra)"),
        (["--color", "pink", "version"], "--color: 'pink' is not one of"),
        (["--request-timeout", "5", "version"], "--request-timeout: '5' has no unit"),
        (["version", "--master", "h:0"], "--master: 'h:0': ports are 1 to 65535"),
        (["config", "shwo"], "config: no such command 'shwo'; did you mean show?"),
        (["completion"], "completion: SHELL is missing"),
        (["--master"], "option '--master' requires an argument"),
        (["no\x1b[31m\nsuch"], "no such command"),
    ],
)
def test_usage_errors(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be meant is answered in one line that says what to try, and with exit code 2."""
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("mesosctl: ")
    assert words in captured.err
    assert captured.err.strip().isprintable()


@pytest.mark.parametrize("args", [[], ["-v"], ["config"]])
def test_no_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types nothing is shown how it goes, on stderr, and no success is reported."""
    assert run(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: mesosctl")
    assert "no command given; see mesosctl" in captured.err


# --- global options -------------------------------------------------------------------------------


def test_global_options_stand_before_and_after_the_command(install: Install) -> None:
    """`mesosctl --utc x` is `mesosctl x --utc`; the last word wins, and -v adds up."""
    seen: list[Globals] = []

    @cli_command("spies")
    @pass_globals
    def command(found: Globals) -> None:
        """For a test."""
        seen.append(found)

    install(command)
    assert run(["--utc", "-v", "--master", "a", "spies", "-v", "--master", "b", "-q"]) == 0
    assert run(["spies", "--request-timeout", "1m", "-C", "prod"]) == 0
    first, second = seen
    assert (first.utc, first.verbose, first.master, first.quiet) == (True, 2, "tcp://b:5050", True)
    assert (second.request_timeout, second.context, second.utc) == (60.0, "prod", False)
    assert second.request_timeout != Globals().request_timeout


def test_the_environment_is_weaker_than_the_command_line(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MESOSCTL_MASTER is a default, also where the option stood before the command."""
    seen: list[tuple[str | None, int]] = []

    @cli_command("spies")
    @click.option("--cpus", type=CPUS, default="1")
    @pass_globals
    def command(found: Globals, cpus: int) -> None:
        """For a test."""
        seen.append((found.master, cpus))

    install(command)
    monkeypatch.setenv("MESOSCTL_MASTER", "env")
    monkeypatch.setenv("MESOSCTL_SPIES_CPUS", "2.5")
    assert run(["spies"]) == 0
    assert run(["--master", "line", "spies", "--cpus", "3"]) == 0
    monkeypatch.setenv("MESOSCTL_SPIES_MASTER", "env2")
    assert run(["spies"]) == 0
    assert run(["--master", "line", "spies"]) == 0
    assert seen == [
        ("tcp://env:5050", 2500),
        ("tcp://line:5050", 3000),
        ("tcp://env2:5050", 2500),
        ("tcp://line:5050", 2500),
    ]


def test_a_bad_value_of_the_environment_is_said_to_be_from_there(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody finds a fault on a command line where it is not."""

    @cli_command("spies")
    @click.option("--grace", type=DURATION)
    def command(grace: float) -> None:
        """For a test."""

    install(command)
    monkeypatch.setenv("MESOSCTL_SPIES_GRACE", "soon")
    assert run(["spies"]) == 2
    assert "--grace (from the environment): 'soon' is not a duration" in capsys.readouterr().err


# --- the task's own words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words", "dashed"),
    [
        (["-n", "2", "ls", "-n", "3", "--help"], ("ls", "-n", "3", "--help"), False),
        (["--", "ls", "--", "-x"], ("ls", "--", "-x"), True),
        (["ls", "--", "-x"], ("ls", "--", "-x"), False),
        (["-n", "2", "--", "--help"], ("--help",), True),
        (["--"], (), True),
        ([], (), False),
        (["-"], ("-",), False),
        (["\udcff"], ("\udcff",), False),
    ],
)
def test_parsing_ends_at_the_first_argument(
    install: Install, args: list[str], words: tuple[str, ...], dashed: bool
) -> None:
    """Everything behind the first word belongs to the task, and `--` is told from its absence."""
    seen: list[tuple[tuple[str, ...], bool]] = []

    @cli_command("takes", ends_at_argument=True)
    @click.option("-n", type=int)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def command(ctx: click.Context, n: int | None, words: tuple[str, ...]) -> None:
        """For a test."""
        seen.append((words, after_double_dash(ctx)))

    install(command)
    assert run(["takes", *args]) == 0
    assert seen == [(words, dashed)]


# --- exit codes -----------------------------------------------------------------------------------

ERRORS = [
    (UsageError("a", "b"), 2, 2),
    (Unreachable("a", "b"), 3, 125),
    (NotFound("a", "b"), 4, 125),
    (Refused("a", "b"), 5, 125),
    (click.UsageError("a"), 2, 2),
    (FileNotFoundError(2, "No such file", "x"), 1, 125),
    (OSError(28, "No space left on device"), 1, 125),
    (KeyboardInterrupt(), 130, 130),
    (click.Abort(), 130, 130),
]


@pytest.mark.parametrize(("error", "plain", "passing"), ERRORS, ids=range(len(ERRORS)))
def test_exit_codes(install: Install, error: Exception, plain: int, passing: int) -> None:
    """Our own failures never look like a task's code in a command that passes one on."""
    install(failing(error))
    install(failing(error, "passes", passes_task_code=True))
    install(failing(error, "may-pass", passes_task_code=lambda params: bool(params["wait"])))
    assert run(["fails"]) == plain
    assert run(["passes"]) == passing
    assert run(["may-pass"]) == plain
    assert run(["may-pass", "-W"]) == passing


def test_what_a_command_returns_is_the_exit_code(install: Install) -> None:
    """A task's 3 is passed as it is: only our own errors are mapped."""

    @cli_command("returns", passes_task_code=True)
    @click.argument("code", type=int)
    def command(code: int) -> int:
        """For a test."""
        return code

    install(command)
    assert [run(["returns", str(code)]) for code in (0, 1, 3, 70, 255)] == [0, 1, 3, 70, 255]


def test_errors_are_one_line_without_control_characters(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that a stranger chose must not steer the terminal of whoever lists it."""
    install(failing(NotFound("no job '\x1b[2J\nroot# \u202e'", "see mesosctl jobs")))
    assert run(["fails"]) == 4
    err = capsys.readouterr().err
    assert err == "mesosctl: no job '\\x1b[2J\\nroot# \\u202e'; see mesosctl jobs\n"


@pytest.mark.parametrize("error", [InvariantBroken("two offers"), ZeroDivisionError("x")])
def test_only_our_own_faults_show_a_traceback(
    install: Install, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault of ours has to be reported with its place; exit code 70 says whose it is."""
    install(failing(error))
    assert run(["fails"]) == 70
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith(f"mesosctl: internal error: {type(error).__name__}: ")


def test_twice_verbose_shows_where_an_error_came_from(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks for the reason may see all of it."""
    install(failing(Refused("no")))
    assert run(["-vv", "fails"]) == 5
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("mesosctl: no\n")


# --- streams and surroundings ---------------------------------------------------------------------


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $M is the program."""
    environment = {**os.environ, "M": f"{sys.executable} -m mesosctl", **variables}
    command = ["bash", "-c", line]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_stdout_that_takes_nothing_is_a_write_error(redirection: str) -> None:
    """A list that was never written must not look like an empty one."""
    done = shell(f"$M --help {redirection}")
    assert done.returncode == 1
    assert done.stderr.startswith("mesosctl: write error: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`mesosctl … | head` ends quietly, like every other program."""
    done = shell("set -o pipefail; { $M help; $M help; $M help states; } | true; echo $?")
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""


def test_a_broken_pipe_of_something_else_is_not_hidden(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the reader of our own output may go away without a word."""
    install(failing(BrokenPipeError(32, "Broken pipe")))
    assert run(["fails"]) == 1
    assert capsys.readouterr().err == "mesosctl: Broken pipe\n"


def test_errors_go_nowhere_when_stderr_is_closed() -> None:
    """The exit code is all that is left then, and it is still right."""
    done = shell("$M --hlp 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_nothing_of_the_usual_surroundings_is_needed() -> None:
    """Cron, containers and CI have no HOME, no USER, no TERM and no locale."""
    bare = {"PATH": os.environ["PATH"], "LANG": "C", "MESOSCTL_CONFIG": os.devnull}
    for name in ("PYTHONPATH", "COVERAGE_PROCESS_START", "COVERAGE_FILE"):
        if name in os.environ:
            bare[name] = os.environ[name]
    for args in (["--help"], ["help", "states"], ["config", "show"], ["version", "--json"]):
        done = mesosctl(*args, env=bare)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
    assert json.loads(done.stdout)["schema"] == 1


def test_invalid_utf8_on_the_command_line_is_shown_escaped() -> None:
    """A file name need not be UTF-8, and no message may fall over it."""
    command: list[str | bytes] = [sys.executable, "-m", "mesosctl", b"jo\xffbs"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == b"mesosctl: no such command 'jo\\udcffbs'; did you mean jobs?\n"


# --- the tree -------------------------------------------------------------------------------------


def test_no_command_declares_a_global_option_again() -> None:
    """A second --master would take the value away from where the others look for it."""
    root = root_group()
    ctx = click.Context(root, info_name="mesosctl")
    shared = {option.name for option in GLOBAL_OPTIONS}
    for name in COMMANDS:
        command = root.get_command(ctx, name)
        assert command is not None
        assert command.name == name
        assert not [param.name for param in command.params if param.name in shared], name


def test_every_command_says_what_the_list_says() -> None:
    """The one line of the list and the first line of the help are the same sentence."""
    root = root_group()
    ctx = click.Context(root, info_name="mesosctl")
    for name, entry in COMMANDS.items():
        command = root.get_command(ctx, name)
        assert command is not None
        assert (command.help or "").strip().splitlines()[0] == entry.help, name


def test_a_short_option_is_compared_with_no_long_one(
    monkeypatch: pytest.MonkeyPatch, install: Install
) -> None:
    """That took longer than everything else that a command does with its words."""
    compared: list[str] = []
    monkeypatch.setattr(
        "difflib.get_close_matches", lambda word, *_, **__: compared.append(word) or []
    )
    taken: list[dict[str, object]] = []
    options = [
        click.Option(["-m", "--mem"]),
        click.Option(["-y"], is_flag=True),
        click.Option(["-w"], is_flag=True),
    ]
    command = Command("try", params=options, callback=lambda **got: taken.append(got))
    install(command)
    for words in (["-m", "1"], ["-m1"], ["-yw"], ["--mem=2"], ["-m=3"]):
        assert run(["try", *words]) == 0
    assert [(got["mem"], got["y"], got["w"]) for got in taken] == [
        ("1", False, False),
        ("1", False, False),
        (None, True, True),
        ("2", False, False),
        ("=3", False, False),
    ]
    assert compared == []
    assert run(["try", "-x"]) == 2
    assert run(["try", "--men", "1"]) == 2
    assert "--men" in compared
