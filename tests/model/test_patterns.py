"""Patterns behave as compiled ones do, and are compiled when they are used."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys

import pytest

from mesosctl.model.patterns import pattern


def test_a_pattern_does_what_a_compiled_one_does() -> None:
    """With its flags, from the first use on."""
    lazy = pattern(r"([a-c]+)-x", re.IGNORECASE)
    for text in ("ABC-x", "abd-x", ""):
        found, expected = lazy.fullmatch(text), re.fullmatch(r"([a-c]+)-x", text, re.IGNORECASE)
        assert (found and found[1]) == (expected and expected[1])
    assert [m[0] for m in lazy.finditer("a-x b-X")] == ["a-x", "b-X"]
    assert lazy.sub("", "1a-x2") == "12"


def test_a_mistake_is_one_at_the_first_use() -> None:
    """What compiling would have raised; and it can be copied before, as any value."""
    broken = pattern("(")
    copy.copy(broken)
    with pytest.raises(re.error):
        broken.match("")


def test_commands_load_neither_parser_nor_compressors() -> None:
    """What a submission does not use it does not wait for."""
    code = """
import sys, mesosctl.cli.commands.submit, mesosctl.cli.ask, mesosctl.runtime.client
print(sorted({"shutil", "bz2", "lzma", "tomllib", "difflib", "sqlite3"} & sys.modules.keys()))
"""
    # What measures coverage would load some of them itself.
    plain = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
