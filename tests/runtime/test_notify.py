"""Words to the supervisor: what is said, to whom, and that a daemon does not depend on it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mesosctl.runtime import notify


def listening(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(5)
    return receiver


@pytest.mark.parametrize("is_abstract", [False, True])
def test_it_says_when_it_is_ready_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    """And never twice, nor through a child that inherits the environment."""
    name = f"@mesosctl-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with listening("\0" + name[1:] if is_abstract else name) as receiver:
        notify.ready()
        assert receiver.recv(100) == b"READY=1"
        assert "NOTIFY_SOCKET" not in os.environ
        notify.ready()
        notify.stopping()
        assert receiver.recv(100) == b"STOPPING=1"
        notify.stopping()
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


@pytest.mark.parametrize("name", [None, "", "relative", "/nowhere/at/all"])
def test_without_a_supervisor_nothing_happens(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that is started by hand, or whose supervisor is gone, works all the same."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify.ready()
    assert "NOTIFY_SOCKET" not in os.environ
    notify.stopping()
