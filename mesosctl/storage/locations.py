"""Where files live, for root and for users, and how private directories are made.

Rules: a directory that holds keys, state or sockets belongs to us, is no symbolic link and can be
written by nobody else; one that is not like that is refused, never repaired behind the back of its
owner. Root has the system's places, everyone else those of the XDG base directory specification.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mesosctl.errors import Refused
from mesosctl.model.digests import sha256_hex

# sun_path of a Unix socket, without the closing NUL.
SOCKET_PATH_BYTES_MAX = 107
_OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY = 0o077


def config_dir() -> Path:
    """The directory of config.toml. It need not exist."""
    if os.geteuid() == 0:
        return Path("/etc/mesosctl")
    # Late, here and below: it brings in temporary files, and with them every kind of compression.
    import platformdirs

    return Path(platformdirs.user_config_dir("mesosctl"))


def keys_dir() -> Path:
    """The directory of key files. It need not exist."""
    return config_dir() / "keys"


def state_dir(role: str) -> Path:
    """The durable directory of a role (master, agent, framework). It need not exist."""
    if os.geteuid() == 0:
        return Path("/var/lib/mesosctl", role)
    import platformdirs

    return Path(platformdirs.user_state_dir("mesosctl"), role)


def runtime_dir() -> Path:
    """The directory for sockets and for what must not outlive a reboot; made private.

    Raises Refused when somebody else holds its place.
    """
    if os.geteuid() == 0:
        return private_dir(Path("/run/mesosctl"))
    xdg = os.environ.get("XDG_RUNTIME_DIR", "")
    if xdg and os.path.isabs(xdg) and os.access(xdg, os.W_OK | os.X_OK):
        return private_dir(Path(xdg, "mesosctl"))
    import tempfile

    return private_dir(Path(tempfile.gettempdir(), f"mesosctl-{os.geteuid()}"))


def private_dir(path: Path) -> Path:
    """Make `path` (and its parents) with mode 0700, or check that what is there is ours alone.

    Returns `path`. A directory of ours that others may read is closed to them. Raises Refused when
    it is a symbolic link, no directory, somebody else's, or can be written by group or others.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        found = path.lstat()
    except OSError as error:
        raise Refused(
            f"{path}: cannot be made: {error.strerror}", "name another directory"
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is not a directory", "remove it, or name another directory")
    if found.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to user {found.st_uid}, not to us", "name another directory")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise Refused(f"{path} can be written by other users", f"chmod 700 {path}")
    if found.st_mode & _OTHERS_MAY:
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
    return path


def socket_path(directory: Path, *parts: str) -> Path:
    """The path of a Unix socket in `directory`, named by a hash of `parts`.

    Raises Refused when it would be longer than the kernel takes (107 bytes).
    """
    digest = sha256_hex("\0".join(parts).encode("utf-8", "surrogateescape"))[:16]
    path = directory / f"{digest}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Refused(
            f"{directory} is too long for a socket in it",
            f"use a directory of at most {SOCKET_PATH_BYTES_MAX - 22} bytes",
        )
    return path
