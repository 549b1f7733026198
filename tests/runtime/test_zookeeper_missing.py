"""Without the extra `zk`: every way to it ends in one line that says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mesosctl.errors import Refused
from mesosctl.model.masters import parse_zk
from mesosctl.runtime.seats import check_place
from mesosctl.runtime.zk_watch import find_leader

PLACE = parse_zk("zk://127.0.0.1:1/p")


@pytest.fixture
def no_kazoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it was never installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "kazoo"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    monkeypatch.setitem(sys.modules, "kazoo.client", None)


@pytest.mark.usefixtures("no_kazoo")
def test_masters_and_commands_say_what_to_install(tmp_path: Path) -> None:
    """No traceback, and no key is made on the way."""
    with pytest.raises(Refused, match=r"pip install 'mesosctl\[zk\]'"):
        check_place(PLACE, tmp_path, "tcp://127.0.0.1:0", "")
    with pytest.raises(Refused, match="kazoo"):
        find_leader(PLACE, 1)
    assert list(tmp_path.iterdir()) == []


def test_kazoo_is_imported_only_where_it_is_needed() -> None:
    """A command, or a master without --zk, starts without it."""
    names = "mesosctl.runtime.master_process, mesosctl.cli.ask"
    script = f"import sys, {names}; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "'mesosctl.runtime.seats'" in done.stdout and "kazoo" not in done.stdout
