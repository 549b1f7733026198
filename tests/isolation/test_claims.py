"""Claims: what one container has no other gets, whichever process asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.claims import SETTLED_S, Claims


def test_two_processes_never_get_the_same(tmp_path: Path) -> None:
    """Each framework has an executor of its own on an agent; the files are all they share."""
    one, other = Claims(f"{tmp_path}/gpu", "GPU"), Claims(f"{tmp_path}/gpu", "GPU")
    assert one.take("f/a", "0123", 2) == ("0", "1")
    assert other.take("g/b", "0123", 1) == ("2",)
    assert other.of("f/a") == ("0", "1")
    with pytest.raises(LimitUnavailable, match="only 1 of 2 GPUs"):
        one.take("f/c", "0123", 2)
    assert one.take("f/d", "0123", 1) == ("3",), "a failed claim kept something"
    other.give_back("f/a")
    other.give_back("f/a")
    assert one.take("f/c", "0123", 2) == ("0", "1")


def test_only_old_claims_are_settled(tmp_path: Path) -> None:
    """A task that is being started is in no list of processes yet, and must keep what it has."""
    claims = Claims(str(tmp_path), "GPU")
    claims.take("f/a", "01", 2)
    assert claims.settled() == ()
    past = os.lstat(tmp_path / "0").st_mtime - SETTLED_S - 1
    os.utime(tmp_path / "0", (past, past), follow_symlinks=False)
    assert claims.settled() == ("f/a",)
