"""`mesosctl local`: a whole cluster for one command, and nothing of it afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def local(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `mesosctl local` with these words, everything it writes below `tmp_path`."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MESOSCTL_")}
    variables |= {"TMPDIR": str(tmp_path), "MESOSCTL_CONFIG": "/dev/null", "M": sys.executable}
    return subprocess.run(
        [sys.executable, "-m", "mesosctl", "local", *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=variables,
    )


def test_the_command_finds_the_cluster_and_its_code_is_passed_on(tmp_path: Path) -> None:
    """A script that submits jobs needs no set-up, and leaves nothing behind."""
    script = (
        '"$M" -m mesosctl run -- echo found it; '
        '"$M" -m mesosctl submit -W -q -- sh -c "exit 9"; echo "job $?"; exit 3'
    )
    done = local(tmp_path, "--agents", "2", "--isolation", "posix", "--", "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == ["found it", "1", "job 9"]
    assert list(tmp_path.glob("mesosctl-*")) == []


def test_a_command_that_is_not_there_says_so(tmp_path: Path) -> None:
    """127 as in a shell, one line, and the cluster is taken down all the same."""
    done = local(tmp_path, "--isolation", "posix", "--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert "no-such-command-anywhere: not found" in done.stderr
    assert list(tmp_path.glob("mesosctl-*")) == []
