"""Persistent volumes on an agent's disk: made, lent to tasks, closed again, removed.

    volumes/roles/<role>/<id>    a slash in a role is written as a blank, which no role has

Rules:
- Everything is reached by descriptors, part by part, and no link is followed: a volume is its
  user's while it is lent, and what is in it may be anything.
- A volume that no task uses can be entered by the agent alone, where it is root. While it is lent
  it is one user's: that of the task. What is in it keeps its owners.
- A task finds a volume by a link in its sandbox. Where nothing else keeps one user's tasks apart,
  it is the way that is hidden from others, not a wall: docs/decisions/volumes.md.
- What is removed goes into a grave beside the roles first, and is told when it is empty.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import Event
from mesosctl.model.ids import is_role
from mesosctl.model.volumes import Volume, VolumePlace, is_volume_id, path_problem
from mesosctl.runtime.beneath import open_beneath
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.removal import Grave

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ROLES = "roles"
Begin = Callable[[Callable[[], Event]], None]


class NoVolume(Exception):
    """Why a task cannot have a volume, in one line."""


class VolumeDeeds:
    """Carries out what is wanted with the volumes below `directory`, which is made if need be.

    `begin` has a slow job done beside the loop, by one thread. `close` in the end.
    """

    def __init__(self, loop: Loop, directory: Path, begin: Begin) -> None:
        self._loop = loop
        self._begin = begin
        self._path = directory
        # Made when there is a first volume.
        self._fd: int | None = None
        loop.on_effect(deeds.MakeVolume, self._make)
        loop.on_effect(deeds.RemoveVolume, self._remove)
        loop.on_effect(deeds.CloseVolumes, self._close_all)

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)

    # --- made and removed -------------------------------------------------------------------------
    def _make(self, effect: deeds.MakeVolume) -> None:
        volume = effect.volume
        try:
            grave = self._make_directory(volume)
        except OSError as error:
            self._loop.post(deeds.VolumeMade(volume, _said(error)))
            return
        if grave is None:
            self._loop.post(deeds.VolumeMade(volume))
        else:
            self._begin(lambda: self._bury(volume, grave, deeds.VolumeMade(volume)))

    def _make_directory(self, volume: Volume) -> Grave | None:
        """What lay there before is in the grave that is returned."""
        if not _is_sane(volume):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        grave = None
        top = self._open_top()
        roles = _passable(top, ROLES)
        try:
            role = _passable(roles, role_name(volume.role))
            try:
                if _exists(role, volume.volume_id):
                    # Of an earlier try, or of an agent that had another id: nobody's by now.
                    grave = Grave(top)
                    grave.take(_place(volume))
                os.mkdir(volume.volume_id, 0o700, dir_fd=role)
                # It is told as made: it has to be there after a loss of power as well.
                os.fsync(role)
            finally:
                os.close(role)
            os.fsync(roles)
        finally:
            os.close(roles)
        return grave

    def _remove(self, effect: deeds.RemoveVolume) -> None:
        """Out of everybody's reach in the loop; the time that its data take is the thread's."""
        volume = effect.volume
        if not _is_sane(volume):
            self._loop.post(deeds.VolumeRemoved(volume, os.strerror(errno.EINVAL)))
            return
        try:
            top = self._open_top()
            grave = Grave(top)
        except OSError as error:
            self._loop.post(deeds.VolumeRemoved(volume, _said(error)))
            return
        try:
            grave.take(_place(volume))
        except FileNotFoundError:
            pass
        except OSError as error:
            grave.close()
            self._loop.post(deeds.VolumeRemoved(volume, _said(error)))
            return
        self._begin(lambda: self._bury(volume, grave, deeds.VolumeRemoved(volume)))

    def _bury(self, volume: Volume, grave: Grave, event: Event) -> Event:
        """Remove what is in the grave; in the thread. `event` is what is told then."""
        try:
            stuck = grave.empty()
        except OSError as error:
            stuck = [("", _said(error))]
        finally:
            grave.close()
        for name, why in stuck:
            text = f"volume {volume}: something that was in it cannot be removed: {name}: {why}"
            self._loop.log("warning", text)
        return event

    # --- lent and closed --------------------------------------------------------------------------
    def lend(self, sandbox: int, places: tuple[VolumePlace, ...], uid: int, gid: int) -> None:
        """Make these volumes the user's, and links in the open sandbox that lead to them.

        Raises NoVolume, OSError.
        """
        for place in places:
            name = role_name(place.role)
            problem = path_problem(place.path)
            if problem:
                raise NoVolume(problem)
            try:
                volume = self._open(f"{ROLES}/{name}/{place.volume_id}")
            except OSError as error:
                text = f"volume {place.volume_id} of role {place.role} cannot be entered"
                raise NoVolume(f"{text}: {_said(error)}") from None
            try:
                _give(volume, uid, gid)
            finally:
                os.close(volume)
            _link(sandbox, place.path, f"{self._path}/{ROLES}/{name}/{place.volume_id}", uid, gid)

    def _close_all(self, effect: deeds.CloseVolumes) -> None:
        for volume in effect.volumes:
            try:
                descriptor = self._open(_place(volume))
            except OSError as error:
                self._loop.log("warning", f"volume {volume}: {_said(error)}")
                continue
            try:
                _give(descriptor, os.geteuid(), os.getegid())
            except OSError as error:
                self._loop.log("warning", f"volume {volume}: {_said(error)}")
            finally:
                os.close(descriptor)

    # --- ways -------------------------------------------------------------------------------------
    def _open_top(self) -> int:
        if self._fd is None:
            self._path.mkdir(exist_ok=True)
            self._fd = os.open(self._path, _DIRECTORY)
            _set_passable(self._fd)
        return self._fd

    def _open(self, path: str) -> int:
        return open_beneath(self._open_top(), path, os.O_DIRECTORY)


def missing(directory: Path, volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
    """Those of these volumes whose directory is not there."""
    found = []
    try:
        top = os.open(directory, _DIRECTORY)
    except OSError:
        return volumes
    try:
        for volume in volumes:
            try:
                os.close(open_beneath(top, _place(volume), os.O_DIRECTORY))
            except OSError:
                found.append(volume)
    finally:
        os.close(top)
    return tuple(found)


def role_name(role: str) -> str:
    """A role as the name of a directory."""
    return role.replace("/", " ")


def _is_sane(volume: Volume) -> bool:
    """Whether its names are such that a path can be made of them."""
    return is_volume_id(volume.volume_id) and is_role(volume.role)


def _place(volume: Volume) -> str:
    return f"{ROLES}/{role_name(volume.role)}/{volume.volume_id}"


def _passable(parent: int, name: str) -> int:
    """A directory that users can pass through and not list, opened and made if need be."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    _set_passable(descriptor)
    return descriptor


def _set_passable(descriptor: int) -> None:
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
        os.fchmod(descriptor, mode)


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _give(descriptor: int, uid: int, gid: int) -> None:
    """Make an open directory this user's alone; what is in it stays whose it is."""
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.fchmod(descriptor, 0o700)


def _link(sandbox: int, path: str, target: str, uid: int, gid: int) -> None:
    """A link in the sandbox; the directories on its way are made, the user's. Raises NoVolume."""
    *parents, name = path.split("/")
    at = os.dup(sandbox)
    try:
        for part in parents:
            try:
                os.mkdir(part, 0o700, dir_fd=at)
            except FileExistsError:
                pass
            below = os.open(part, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
            _give(at, uid, gid)
        try:
            os.symlink(target, name, dir_fd=at)
        except FileExistsError:
            # Made before, when the task was not handed on.
            if _target(at, name) != target:
                raise NoVolume(f"there is something at {path} in the sandbox") from None
    finally:
        os.close(at)


def _target(parent: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return ""


def _said(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
