"""A witness beside the database: at least so many commits were acknowledged, and what they made.

A log of any kind cannot tell that its own end is missing: a write-ahead log that was cut, or whose
last pages are zeros, looks like one that ended there. So after each commit its number and the
digest of all records are written here, in place and without waiting for the disk.

Rules: it is written after the commit is on disk, so it never claims more than there is; a power cut
may leave an older one, which claims less. It is always one sector, so it is never half new.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Self

from mesosctl.errors import Refused, StorageFailed
from mesosctl.model.records import dataclass

FILE_NAME = "state.mark"
# What an operator writes into it to have a state opened as it is.
ANY = "any"
_TITLE = "mesosctl-mark"
_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """After commit number `commits` the digest of all records was `digest`."""

    commits: int = 0
    digest: int = 0


class Mark:
    """The open file of a mark; made by `open`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, claim: Claim) -> Self:
        """Open the mark for writing, made if need be, with `claim` in it, durably.

        Raises Refused when the disk does not take it.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(descriptor, _line(claim), 0)
                os.ftruncate(descriptor, _LINE_BYTES)
                os.fsync(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        except OSError as error:
            raise Refused(
                f"{path}: cannot be written: {error.strerror}", "check the disk and its space"
            ) from None
        return cls(path, descriptor)

    def tell(self, claim: Claim) -> None:
        """Put `claim` in the place of the one before. Raises StorageFailed."""
        try:
            written = os.pwrite(self._descriptor, _line(claim), 0)
        except OSError as error:
            raise StorageFailed(
                f"{self._path} did not keep what it was given: {error.strerror}", "check the disk"
            ) from None
        if written != _LINE_BYTES:
            raise StorageFailed(
                f"{self._path} took {written} of {_LINE_BYTES} bytes", "check the disk"
            )

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_mark(path: Path) -> Claim | None:
    """What the mark claims; None when its owner wrote `any` into it.

    Raises Refused when it is missing, damaged or cannot be read.
    """
    restore = (
        f"restore the whole directory from a backup; to open {path.parent} as it is, whatever may"
        f" be missing: echo {ANY} > {path}"
    )
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Refused(f"{path} is missing, so nobody knows what else is", restore) from None
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror}", restore) from None
    if data.strip() == ANY.encode("ascii"):
        return None
    body, _, checksum = data.rstrip(b"\n").rpartition(b" ")
    words = body.split()
    if (
        len(data) != _LINE_BYTES
        or checksum != _checksum(body)
        or len(words) != 3
        or words[0] != _TITLE.encode("ascii")
    ):
        raise Refused(f"{path} is damaged", restore)
    return Claim(int(words[1], 16), int(words[2], 16))


def _line(claim: Claim) -> bytes:
    body = f"{_TITLE} {claim.commits:016x} {claim.digest:016x}".ljust(_LINE_BYTES - 10).encode(
        "ascii"
    )
    return body + b" " + _checksum(body) + b"\n"


def _checksum(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x}".encode("ascii")
