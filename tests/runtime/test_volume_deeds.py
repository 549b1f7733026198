"""Volumes on a real disk: what is made, lent, closed and removed, against hostile contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.errors import UsageError
from mesosctl.model.volumes import Volume, VolumePlace
from mesosctl.runtime import probe
from mesosctl.runtime.janitor import Janitor
from mesosctl.runtime.volumes import NoVolume, VolumeDeeds, missing
from tests.runtime.test_janitor import FakeLoop

IS_ROOT = os.geteuid() == 0
DATA = Volume("data1", "eng/web", 1_024_000)
PLACE = VolumePlace("eng/web", "data1", "var/db")
UID = 12_345


class Host:
    """An agent's directories and the deeds on them."""

    def __init__(self, top: Path) -> None:
        self.top = top / "volumes"
        self.sandbox = top / "sandboxes" / "F1" / "t1"
        self.sandbox.mkdir(parents=True)
        self.loop = FakeLoop()
        self.janitor = Janitor(self.loop, top / "sandboxes", top / "log")  # type: ignore[arg-type]
        self.volumes = VolumeDeeds(self.loop, self.top, self.janitor.begin)  # type: ignore[arg-type]
        self.data = self.top / "roles" / "eng web" / "data1"

    def lend(self, place: VolumePlace = PLACE, uid: int | None = None) -> None:
        """What a sandbox is given."""
        opened = os.open(self.sandbox, os.O_RDONLY)
        try:
            self.volumes.lend(opened, (place,), os.geteuid() if uid is None else uid, os.getegid())
        finally:
            os.close(opened)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.janitor.close()
    made.volumes.close()


def test_a_volume_is_an_empty_directory_that_is_closed(host: Host) -> None:
    """A role with a slash is one directory; who is not the agent can pass, and not look around."""
    assert missing(host.top, (DATA,)) == (DATA,)
    assert host.loop.do(deeds.MakeVolume(DATA)) == deeds.VolumeMade(DATA)
    assert os.listdir(host.data) == []
    assert stat.S_IMODE(host.data.stat().st_mode) == 0o700
    passable = 0o711 if IS_ROOT else 0o700
    assert stat.S_IMODE(host.data.parent.stat().st_mode) == passable
    assert missing(host.top, (DATA,)) == ()


def test_a_task_finds_it_by_a_link_and_the_next_one_finds_what_it_left(host: Host) -> None:
    """Directories on the way are made; a sandbox that is made again may have the link already."""
    host.loop.do(deeds.MakeVolume(DATA))
    host.lend()
    (host.sandbox / "var" / "db" / "note").write_text("kept")
    host.lend()
    assert (host.data / "note").read_text() == "kept"
    host.sandbox = host.sandbox.parent / "t2"
    host.sandbox.mkdir()
    host.lend(VolumePlace("eng/web", "data1", "other"))
    assert (host.sandbox / "other" / "note").read_text() == "kept"


@pytest.mark.skipif(not IS_ROOT, reason="only root gives directories to others")
def test_it_is_the_users_while_it_is_lent_and_the_agents_afterwards(host: Host) -> None:
    """With what is on its way in the sandbox; a file in it keeps its owner."""
    host.loop.do(deeds.MakeVolume(DATA))
    host.lend(uid=UID)
    (host.data / "file").write_text("x")
    os.chown(host.data / "file", UID, UID)
    assert (host.data.stat().st_uid, stat.S_IMODE(host.data.stat().st_mode)) == (UID, 0o700)
    assert (host.sandbox / "var").stat().st_uid == UID
    os.chmod(host.data, 0o777)
    host.loop.deeds[deeds.CloseVolumes](deeds.CloseVolumes((DATA,)))  # type: ignore[operator]
    assert (host.data.stat().st_uid, stat.S_IMODE(host.data.stat().st_mode)) == (0, 0o700)
    assert (host.data / "file").stat().st_uid == UID


def test_a_removed_volume_is_gone_with_links_and_what_is_deep(host: Host, tmp_path: Path) -> None:
    """What its links lead to stays; told when nothing is left, and twice is as once."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    host.loop.do(deeds.MakeVolume(DATA))
    (host.data / "out").symlink_to(outside)
    (host.data / "a" / "b" / "c").mkdir(parents=True)
    (host.data / "a" / "b" / "file").write_text("x")
    for _ in range(2):
        assert host.loop.do(deeds.RemoveVolume(DATA)) == deeds.VolumeRemoved(DATA)
        assert not host.data.exists()
        assert os.listdir(host.top / "+removing") == []
    assert (outside / "precious").read_text() == "mine"


def test_what_lies_there_unknown_is_not_shown_to_anybody(host: Host) -> None:
    """A try that died before it was on record, or an agent that had another id."""
    host.loop.do(deeds.MakeVolume(DATA))
    (host.data / "old").write_text("somebody's")
    assert host.loop.do(deeds.MakeVolume(DATA)) == deeds.VolumeMade(DATA)
    assert os.listdir(host.data) == []
    assert os.listdir(host.top / "+removing") == []


def test_a_volume_that_is_a_link_by_now_is_neither_entered_nor_followed(
    host: Host, tmp_path: Path
) -> None:
    """Nobody but the agent can put it there; if somebody could, it leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    host.loop.do(deeds.MakeVolume(DATA))
    host.data.rmdir()
    host.data.symlink_to(outside)
    with pytest.raises(NoVolume, match="data1 of role eng/web cannot be entered"):
        host.lend()
    assert missing(host.top, (DATA,)) == (DATA,)
    host.loop.do(deeds.RemoveVolume(DATA))
    assert outside.is_dir()


def test_a_sandbox_in_which_something_is_in_the_way_is_refused(host: Host, tmp_path: Path) -> None:
    """A link on the way is not followed out of the sandbox, a file is not replaced."""
    host.loop.do(deeds.MakeVolume(DATA))
    (host.sandbox / "taken").write_text("mine")
    with pytest.raises(NoVolume, match="there is something at taken"):
        host.lend(VolumePlace("eng/web", "data1", "taken"))
    (host.sandbox / "way").symlink_to(tmp_path)
    with pytest.raises(OSError):
        host.lend(VolumePlace("eng/web", "data1", "way/db"))
    assert not (tmp_path / "db").exists()
    with pytest.raises(NoVolume, match="No such file"):
        host.lend(VolumePlace("ops", "data1", "x"))


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../outside"])
def test_no_name_leads_out_of_the_volumes(host: Host, tmp_path: Path, name: str) -> None:
    """A master lets none of these pass; an agent does not rely on that."""
    (tmp_path / "outside").mkdir()
    host.loop.do(deeds.MakeVolume(DATA))
    bad = Volume(name, "eng/web", 1)
    event = host.loop.do(deeds.MakeVolume(bad))
    assert isinstance(event, deeds.VolumeMade) and event.problem
    assert missing(host.top, (bad,)) == (bad,)
    for place in (VolumePlace("eng/web", name, "x"), VolumePlace("eng/web", "data1", "../x")):
        with pytest.raises(NoVolume):
            host.lend(place)
    event = host.loop.do(deeds.RemoveVolume(bad))
    assert isinstance(event, deeds.VolumeRemoved) and event.problem
    assert host.data.is_dir() and (tmp_path / "outside").is_dir()


def test_a_disk_that_does_not_take_it_is_told(host: Host, tmp_path: Path) -> None:
    """One line, and the agent goes on."""
    host.top.write_text("no directory")
    event = host.loop.do(deeds.MakeVolume(DATA))
    assert isinstance(event, deeds.VolumeMade) and event.problem
    event = host.loop.do(deeds.RemoveVolume(DATA))
    assert isinstance(event, deeds.VolumeRemoved) and event.problem


def test_an_agent_cannot_call_something_of_its_own_volumes() -> None:
    """The name is taken by those that the master makes."""
    with pytest.raises(UsageError, match="names volumes"):
        probe.total_resources("volumes:{a}", "", probe.Host(1000, 2**34, 2**34))
