"""Where files go, and which directories are not trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mesosctl.errors import Refused
from mesosctl.storage import locations
from mesosctl.storage.locations import private_dir, socket_path


def as_user(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Pretend to be an ordinary user with this home."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1234)
    for word in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(word, raising=False)
    monkeypatch.setenv("HOME", str(home))


def test_root_has_the_places_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons of the system keep to the file system hierarchy."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert locations.config_dir() == Path("/etc/mesosctl")
    assert locations.keys_dir() == Path("/etc/mesosctl/keys")
    assert locations.state_dir("agent") == Path("/var/lib/mesosctl/agent")


def test_users_have_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole cluster can be run without root."""
    as_user(monkeypatch, tmp_path)
    assert locations.config_dir() == tmp_path / ".config/mesosctl"
    assert locations.keys_dir() == tmp_path / ".config/mesosctl/keys"
    assert locations.state_dir("master") == tmp_path / ".local/state/mesosctl/master"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert locations.state_dir("master") == tmp_path / "elsewhere/mesosctl/master"


def test_sockets_live_in_the_runtime_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a session manager in its directory, without one under a name of our own."""
    made: list[Path] = []
    monkeypatch.setattr(locations, "private_dir", lambda path: made.append(path) or path)
    as_user(monkeypatch, tmp_path)
    uid = os.geteuid()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert locations.runtime_dir() == tmp_path / "mesosctl"
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "t"))
    for useless in ("relative/path", str(tmp_path / "not there"), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", useless)
        assert locations.runtime_dir() == tmp_path / "t" / f"mesosctl-{uid}"
    assert len(made) == 4


def test_a_private_directory_is_ours_alone(tmp_path: Path) -> None:
    """Made with its parents whatever the umask, and closed if it stood open for readers."""
    before = os.umask(0)
    try:
        made = private_dir(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert private_dir(made) == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Others may have put something in already."""
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(Refused, match="written by other users"):
        private_dir(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    """In a shared directory anyone can put a link in our place."""
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(Refused, match="not a directory"):
            private_dir(tmp_path / name)
    with pytest.raises(Refused, match="cannot be made"):
        private_dir(tmp_path / "file" / "below")


def test_a_directory_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could swap what is in it."""
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Refused, match="belongs to user"):
        private_dir(path)


def test_socket_paths_are_short_and_distinct(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; ids are longer than that."""
    one = socket_path(tmp_path, "agent", "x" * 300)
    assert one == socket_path(tmp_path, "agent", "x" * 300)
    assert one != socket_path(tmp_path, "agentx", "x" * 299)
    assert len(one.name) == 21
    with pytest.raises(Refused, match="too long"):
        socket_path(tmp_path / ("d" * 90), "agent")
