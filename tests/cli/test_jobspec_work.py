"""What the words of a submission mean: commands, scripts, lines for the shell, environment."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from mesosctl.cli.environ import is_secret, is_session, task_environment
from mesosctl.cli.joboptions import JobOptions
from mesosctl.cli.jobspec import Many, make_job
from mesosctl.cli.params import parse_array
from mesosctl.cli.work import Work, read_work
from mesosctl.errors import UsageError
from mesosctl.limits import ENV_VALUE_BYTES_MAX, SCRIPT_BYTES_MAX


@pytest.fixture(autouse=True)
def _in_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_words_behind_the_dashes_are_exact() -> None:
    """No shell and no guess may touch what stands behind --, not even a script of that name."""
    Path("ls").write_text("echo no\n")
    assert read_work(["ls", "a b", "*"], True, None) == Work(("ls", "a b", "*"), name="ls")


def test_a_file_is_a_script_and_its_text_goes_along() -> None:
    """It need not be executable, and what is run is what it said at submission."""
    Path("train.sh").write_bytes(b"echo \xff\n")
    work = read_work(["train.sh", "--epochs", "20"], False, None)
    assert work.argv == ("--epochs", "20")
    assert (work.script, work.script_name, work.name) == (b"echo \xff\n", "train.sh", "train.sh")


def test_a_program_of_path_is_a_command() -> None:
    """`submit sleep 5` means what it says, as in every other tool."""
    assert read_work(["sleep", "5"], False, None).argv == ("sleep", "5")


def test_a_program_in_machine_code_is_not_copied() -> None:
    """The agent finds it by its path; its text as a script would be nonsense."""
    Path("a.out").write_bytes(b"\x7fELF\x02\x01")
    assert read_work(["./a.out", "x"], False, None).argv == (os.path.abspath("a.out"), "x")


def test_one_word_with_a_blank_is_a_line_for_the_shell() -> None:
    """What users of other tools type; a file of that name is still a script."""
    assert read_work(["echo a | wc"], False, None).argv == ("/bin/sh", "-c", "echo a | wc")
    assert read_work([], False, "echo $X").name == "echo"
    Path("my script").write_text("true\n")
    assert read_work(["my script"], False, None).script == b"true\n"


def test_names_in_the_sandbox_are_not_taken_twice() -> None:
    """A script called stdout must not be written over by its own output."""
    Path("stdout").write_text("true\n")
    Path("ä b.sh").write_text("true\n")
    assert read_work(["./stdout"], False, None).script_name == "script"
    assert read_work(["ä b.sh"], False, None).script_name == "_b.sh"


def test_a_script_comes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then stdin is spent, and nothing else may be read from it."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"echo 1\n")))
    work = read_work(["-", "x"], False, None)
    assert (work.script, work.argv, work.from_stdin) == (b"echo 1\n", ("x",), True)
    with pytest.raises(UsageError, match="the script and the lines"):
        make_job(work, JobOptions(), Many(each_line="-"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["./no.sh"], "there is no script './no.sh'"),
        (["no-such-program"], "neither a file here nor a command in PATH"),
        (["/tmp"], "no regular file"),
        ([""], "the command is empty"),
        (["  "], "the command is empty"),
        (["empty"], "is empty"),
        (["binary"], "is no text"),
        (["large"], "larger than 4 MiB"),
        (["sleep", "a\0b"], "NUL"),
        (["sleep", "x" * ENV_VALUE_BYTES_MAX], "longer than 128 KiB"),
        (["sleep", *["x" * 100_000] * 11], "the arguments have"),
        (["sleep", *["x"] * 10_001], "more than 10000 arguments"),
    ],
)
def test_words_that_mean_nothing(words: list[str], says: str) -> None:
    """A misspelt script must not become a job that fails on an agent an hour later."""
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"a\0b")
    Path("large").write_bytes(b"x" * (SCRIPT_BYTES_MAX + 1))
    with pytest.raises(UsageError, match=says) as caught:
        read_work(words, False, None)
    assert caught.value.hint


def test_session_variables_and_secrets_stay_here() -> None:
    """A job runs elsewhere, later, and its description is kept: neither belongs there."""
    here = {
        "PATH": "/bin",
        "VIRTUAL_ENV": "/venv",
        "SSH_AUTH_SOCK": "/tmp/x",
        "DISPLAY": ":0",
        "TERM": "xterm",
        "MESOSCTL_KEY": "k",
        "MESOS_JOB_ID": "3",
        "GITHUB_TOKEN": "t",
        "AWS_SECRET_ACCESS_KEY": "s",
        "DB_PASSWORD": "p",
        "MONKEY": "banana",
        "HOME": "/home/ann",
    }
    assert sorted(task_environment("default", (), here)) == [
        "HOME",
        "MONKEY",
        "PATH",
        "VIRTUAL_ENV",
    ]
    assert "GITHUB_TOKEN" in task_environment("all", (), here)
    assert "MESOS_JOB_ID" not in task_environment("all", (), here)
    assert sorted(task_environment("basic", (), here)) == ["HOME", "PATH"]
    assert task_environment("none", (("A", "1"),), here) == {"A": "1"}
    assert "HOME" not in task_environment("default", (), here, is_other_user=True)


def test_names_are_judged_by_their_words() -> None:
    """Too eager a rule breaks programs, too lazy a one leaks keys."""
    assert all(map(is_secret, ("API_KEY", "apikey", "X_AUTH", "AWS_ACCESS_KEY_ID", "npm_token")))
    assert not any(map(is_secret, ("KEYBOARD", "AUTHOR", "PASS_THROUGH", "MONKEY", "PATH")))
    assert is_session("XDG_SESSION_ID") and not is_session("XDG_DATA_HOME")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"A": "x" * ENV_VALUE_BYTES_MAX}, "variable A is longer than 128 KiB"),
        ({f"A{n}": "x" * 100_000 for n in range(11)}, "at most 1 MiB"),
        ({f"A{n}": "" for n in range(10_001)}, "more than 10000 variables"),
    ],
)
def test_too_much_environment_is_refused_here(env: dict[str, str], says: str) -> None:
    """Before it is sent, and with the way out."""
    with pytest.raises(UsageError, match=says) as caught:
        task_environment("default", (), env)
    assert "--env-base basic" in caught.value.hint


def test_directories_of_a_job(tmp_path: Path) -> None:
    """The present directory where the agent has it, another only if it is there, or the sandbox."""
    work = Work(("true",))
    job = make_job(work, JobOptions(), Many())
    assert (job.cwd, job.submit_dir, job.cwd_may_fall_back) == (str(tmp_path),) * 2 + (True,)
    job = make_job(work, JobOptions(chdir="sub/../x"), Many())
    assert (job.cwd, job.cwd_may_fall_back) == (str(tmp_path / "x"), False)
    job = make_job(work, JobOptions(sandbox=True), Many())
    assert (job.cwd, job.submit_dir) == ("", str(tmp_path))


def test_the_umask_of_the_submitter_is_kept() -> None:
    """Files of a task have the modes that they would have had here."""
    before = os.umask(0o027)
    try:
        assert make_job(Work(("true",)), JobOptions(), Many()).umask == 0o027
    finally:
        assert os.umask(before) == 0o027


def test_a_single_task_is_no_array() -> None:
    """It has no index to find in its environment; an array of one has."""
    assert not make_job(Work(("true",)), JobOptions(), Many()).is_array
    job = make_job(Work(("true",)), JobOptions(), Many(array=parse_array("5")))
    assert (job.is_array, job.indices) == (True, ((5, 5, 1),))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (b"a\nb\0c\n", "line 2 holds a NUL"),
        (b"a\n" * 3 + b"x" * 40_000, "line 4 has 40000 characters"),
        (b"\n" * 200_001, "holds 200001 lines"),
        (b"x" * 7_000_000, "larger than 6 MiB"),
    ],
)
def test_one_bad_line_submits_nothing(lines: bytes, says: str) -> None:
    """A list is taken whole or not at all, and the line that is wrong is named."""
    Path("list").write_bytes(lines)
    with pytest.raises(UsageError, match=says):
        make_job(Work(("true",)), JobOptions(), Many(each_line="list"))
    with pytest.raises(UsageError, match="No such file"):
        make_job(Work(("true",)), JobOptions(), Many(each_line="nowhere"))
