"""The manual pages: as the commands say, valid for groff, complete, and their small Markdown."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """tools/manpages.py as a module."""
    spec = importlib.util.spec_from_file_location("manpages", ROOT / "tools/manpages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tool: ModuleType) -> dict[Path, str]:
    """Every page as it is generated now."""
    made: dict[Path, str] = tool.pages()
    return made


def test_the_pages_are_as_the_commands_say() -> None:
    """Whoever changes an option runs `make man`; otherwise the pages lie."""
    command = [sys.executable, str(ROOT / "tools/manpages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_groff_has_nothing_to_complain_about(pages: dict[Path, str]) -> None:
    """A warning of groff is a line that some reader sees garbled."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    for path, text in pages.items():
        command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path.name
        assert "NAME" in done.stdout and "SEE ALSO" in done.stdout, path.name


def test_every_command_has_a_page_with_all_its_options(
    tool: ModuleType, pages: dict[Path, str]
) -> None:
    """Not only are the files as generated: what is generated is complete."""
    main = pages[ROOT / "man/man1/mesosctl.1"]
    for top in tool.clitree.nodes():
        text = pages[ROOT / f"man/man1/{top.name}.1"].replace("\\-", "-")
        assert "\\fB" + top.name.replace("-", "\\-") in main
        for node in top.walk():
            assert f"mesosctl {' '.join(node.words)}" in text
            for option in (*node.options, *tool.clitree.global_options()):
                assert option.help and option.help.endswith((".", ").")), (node.words, option.name)
                for name in tool.clitree.names_of(option):
                    assert f"\\fB{name}\\fR" in text, (node.words, name)


def test_every_command_has_examples(tool: ModuleType, pages: dict[Path, str]) -> None:
    """People read the examples first; each names the command that it is about."""
    for node in tool.clitree.nodes():
        text = pages[ROOT / f"man/man1/{node.name}.1"]
        examples = text.partition(".SH EXAMPLES")[2]
        assert re.search(rf"mesosctl {node.words[0]}\b", examples), node.words


def test_sources_without_a_page_are_noticed(tool: ModuleType) -> None:
    """A source that belongs to no command would never be read."""
    known = ["mesosctl", *(node.words[0] for node in tool.clitree.nodes())]
    sources = sorted(path.name.removesuffix(".md") for path in tool.SOURCE.glob("*.md"))
    assert [name for name in sources if not name.endswith(".5")] == sorted(known)


def test_the_markdown_becomes_roff(tool: ModuleType) -> None:
    """Headings, paragraphs, code, lists and terms; roff's own characters are taken literally."""
    rows = tool.from_markdown(
        "## FILES\n\nOne `--two`\nthree.\n\n    a\\b 'c'\n    .d\n\n"
        "- x\n- y\n  z\n\nterm\n:   what\n"
    )
    assert rows == [
        ".SH FILES",
        ".PP",
        "One \\fB\\-\\-two\\fR three.",
        ".PP",
        ".in +4n",
        ".nf",
        "a\\eb \\(aqc\\(aq",
        "\\&.d",
        ".fi",
        ".in",
        ".IP \\(bu 2",
        "x",
        ".IP \\(bu 2",
        "y z",
        ".TP",
        "term",
        "what",
    ]
    assert tool.line(".br") == "\\&.br"
    assert tool.line("'quoted'").startswith("\\&")
    assert tool.plain("é–…") == "\\[u00E9]\\(en..."


def test_markdown_that_is_not_understood_is_an_error(tool: ModuleType) -> None:
    """Half a format silently dropped would be missing from a page."""
    with pytest.raises(ValueError, match="what is this"):
        tool.from_markdown("### too deep\n")


def test_what_is_no_longer_made_is_removed(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of a command that is gone must not stay in the wheel."""
    monkeypatch.setattr(tool, "MAN", tmp_path)
    monkeypatch.setattr(tool.clitree, "ROOT", tmp_path)
    (tmp_path / "man1").mkdir()
    old, new = tmp_path / "man1/old.1", tmp_path / "man1/new.1"
    old.write_text("x")
    stale = tool.stale({new: "y"})
    assert tool.clitree.compare({new: "y"}, stale) == [
        "man1/new.1: is not there",
        "man1/old.1: belongs to no command",
    ]
    assert tool.clitree.write_or_check({new: "y"}, stale, check=False) == 0
    assert new.read_text() == "y" and not old.exists()
    new.write_text("z")
    assert tool.clitree.write_or_check({new: "y"}, [], check=True) == 1
