"""Tells the supervisor that started us when we are ready and when we stop: sd_notify(3).

Rules: only a daemon that calls `ready` ever says anything, and only to whom NOTIFY_SOCKET names;
the name is taken out of the environment, so that no child speaks for us. A supervisor that does
not listen is no reason to fail.
"""

from __future__ import annotations

import os
import socket

_addresses: list[str] = []
_told: list[bool] = []


def claim() -> None:
    """Take the name out of the environment, before there are children."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if address[:1] in ("/", "@"):
        # A name that begins with @ is an abstract one.
        _addresses[:] = ["\0" + address[1:] if address[0] == "@" else address]


def ready() -> None:
    """We serve from now on, and heed signals. Said once, however often it is called."""
    claim()
    if _addresses and not _told:
        _told.append(True)
        _tell(b"READY=1")


def stopping() -> None:
    """We begin to stop; nothing is said if we never were ready."""
    _tell(b"STOPPING=1")
    _addresses.clear()
    _told.clear()


def _tell(text: bytes) -> None:
    for address in _addresses:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(text, address)
            except OSError:
                continue
