"""The completion scripts: as the commands say, valid for their shells, and useful in them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mesosctl.cli.commands import completion
from mesosctl.cli.main import run
from mesosctl.errors import NotFound, Refused

ROOT = Path(__file__).resolve().parents[2]
SHELLS = {"bash": "mesosctl.bash", "zsh": "_mesosctl", "fish": "mesosctl.fish"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/completions.py as a module."""
    spec = importlib.util.spec_from_file_location("completions", ROOT / "tools/completions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs(program: str) -> str:
    """The path of a shell; skips the test where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_the_scripts_are_as_the_commands_say() -> None:
    """Whoever changes an option runs `make man`; otherwise the completions lie."""
    command = [sys.executable, str(ROOT / "tools/completions.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_command_and_option_is_completed(tool: ModuleType) -> None:
    """Not only are the files as generated: what is generated is complete."""
    texts = {shell: (ROOT / "completions" / name).read_text() for shell, name in SHELLS.items()}
    for node in tool.every(tool.clitree.nodes()):
        for text in texts.values():
            assert node.words[-1] in text
        for option in tool.all_options(node):
            for name in tool.clitree.names_of(option):
                letter = name.lstrip("-")
                fish = f"-l {letter} " if name.startswith("--") else f"-s {letter} "
                assert fish in texts["fish"], (node.words, name)
                assert name in texts["bash"], (node.words, name)
                assert name in texts["zsh"], (node.words, name)


@pytest.mark.parametrize("shell", list(SHELLS))
def test_the_shells_can_read_the_scripts(shell: str) -> None:
    """A script that its shell cannot parse breaks the start of every terminal."""
    program = needs(shell)
    done = subprocess.run(
        [program, "-n", str(ROOT / "completions" / SHELLS[shell])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def bash_completes(*words: str) -> list[str]:
    """What bash would offer for the last of these words."""
    program = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_mesosctl 2>/dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    script = str(ROOT / "completions/mesosctl.bash")
    command = [needs("bash"), "-c", program, "bash", script, "mesosctl", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_and_choices() -> None:
    """The scripts are tried as bash calls them, including what `=` does to its words."""
    assert bash_completes("ver") == ["version"]
    assert bash_completes("--utc", "ver") == ["version"]
    assert bash_completes("--key", "config", "ver") == ["version"]
    assert bash_completes("config", "con") == ["contexts"]
    assert bash_completes("config", "contexts", "--fi") == ["--fields"]
    assert bash_completes("config", "contexts", "-o", "js") == ["json", "jsonl"]
    assert bash_completes("config", "contexts", "--output", "=", "js") == ["json", "jsonl"]
    formats = ["table", "wide", "json", "jsonl", "csv", "name"]
    assert bash_completes("config", "contexts", "--output", "=") == formats
    assert bash_completes("completion", "") == ["bash", "zsh", "fish"]
    assert bash_completes("--color", "n") == ["never"]
    assert bash_completes("help", "exi") == ["exit-codes"]
    assert bash_completes("config", "get", "") == []


def test_bash_leaves_the_tasks_own_words_alone() -> None:
    """Behind the task's command our options have no business."""
    assert bash_completes("submit", "--ar") == ["--array"]
    assert bash_completes("submit", "--", "ls", "--ar") == []
    assert bash_completes("submit", "ls", "--ar") == []


def test_fish_completes_commands_and_options() -> None:
    """fish is asked itself."""
    program = f'source "{ROOT}/completions/mesosctl.fish"; complete -C "$argv[1]"'

    def offers(line: str) -> list[str]:
        done = subprocess.run(
            [needs("fish"), "--no-config", "-c", program, line],
            capture_output=True,
            text=True,
            check=True,
        )
        return [row.split("\t")[0] for row in done.stdout.splitlines()]

    assert offers("mesosctl vers") == ["version"]
    assert offers("mesosctl config con") == ["contexts"]
    assert "--fields" in offers("mesosctl config contexts --f")
    assert "json" in offers("mesosctl config contexts -o ")


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", list(SHELLS))
def test_completion_prints_the_packaged_script(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`source <(mesosctl completion bash)` gets exactly the file of the package."""
    assert run(["completion", shell]) == 0
    assert capsys.readouterr().out == (ROOT / "completions" / SHELLS[shell]).read_text()


@pytest.mark.parametrize(
    ("shell", "below"),
    [
        ("bash", "data/bash-completion/completions/mesosctl"),
        ("zsh", "data/zsh/site-functions/_mesosctl"),
        ("fish", "config/fish/completions/mesosctl.fish"),
    ],
)
def test_completion_installs_for_the_user(
    shell: str,
    below: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The script lands where that shell looks, and its place is said."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run(["completion", shell, "--install"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / below}\n"
    assert ("fpath" in captured.err) is (shell == "zsh")
    assert (tmp_path / below).read_text() == completion.script_of(shell)


def test_without_a_home_there_is_no_place_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative path would put the script anywhere."""
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(Refused, match="there is no home directory"):
        completion.target_of("bash")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    assert run(["completion", "bash", "--install"]) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_a_lost_script_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation without its data files says so instead of printing nothing."""
    monkeypatch.setattr(completion, "__file__", str(tmp_path / "a/b/c/d.py"))
    monkeypatch.setattr(completion, "_installed", lambda shell: [])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(NotFound, match="the zsh completions are not installed"):
        completion.script_of("zsh")
