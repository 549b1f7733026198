"""Bytes to envelopes and back; the only user of msgpack.

Rules: decoding is hostile ground. A frame is measured before it is decoded, containers are bounded,
extension types and keys that occur twice are refused, and whatever is wrong with it becomes one
PeerError. Text is UTF-8 with surrogate escapes, so that argv and paths of any bytes survive.
"""

from __future__ import annotations

from typing import Any

import msgpack

from mesosctl.errors import PeerError
from mesosctl.limits import ARRAY_ITEMS_MAX, FRAME_BYTES_MAX, MAP_ITEMS_MAX
from mesosctl.protocol import messages, sharing
from mesosctl.protocol.envelope import PROTOCOL, PROTOCOL_VERSION, Envelope
from mesosctl.protocol.messages.base import KINDS
from mesosctl.protocol.schema import from_plain, to_plain

_HEADER_ITEMS = 8
_SESSION_CHARS_MAX = 64


def encode(envelope: Envelope) -> bytes:
    """The frame of an envelope."""
    message = envelope.message
    body = to_plain(message)
    sharing.leave_out(message.kind, body)
    return pack(
        [
            PROTOCOL,
            PROTOCOL_VERSION,
            envelope.cluster,
            envelope.epoch,
            envelope.session,
            envelope.seq,
            message.kind,
            body,
        ]
    )


def decode(frame: bytes, *, bytes_max: int = FRAME_BYTES_MAX) -> Envelope:
    """The envelope of a frame of at most `bytes_max` bytes. Raises PeerError for anything else."""
    if len(frame) > bytes_max:
        raise PeerError("too-large", f"frame of {len(frame)} bytes, at most {bytes_max}")
    parts = unpack(frame)
    if type(parts) is not list or len(parts) != _HEADER_ITEMS:
        raise PeerError("malformed", "not a mesosctl frame")
    protocol, version, cluster, epoch, session, seq, kind, body = parts
    if protocol != PROTOCOL:
        raise PeerError("malformed", "not a mesosctl frame")
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise PeerError(
            "wrong-version", f"protocol version {version!r:.20}, this is version {PROTOCOL_VERSION}"
        )
    if not (
        type(cluster) is str
        and len(cluster) <= _SESSION_CHARS_MAX
        and type(epoch) is int
        and 0 <= epoch < 2**63
        and type(session) is str
        and 0 < len(session) <= _SESSION_CHARS_MAX
        and type(seq) is int
        and 0 < seq < 2**63
        and type(kind) is str
    ):
        raise PeerError("malformed", "bad header")
    # Kinds that nothing here has imported yet are known nevertheless.
    known = KINDS.get(kind) or messages.KINDS.get(kind)
    if known is None:
        raise PeerError("unknown-kind", f"no message kind {kind[:40]!r}")
    sharing.fill_in(kind, body)
    try:
        return Envelope(cluster, epoch, session, seq, from_plain(known, body))
    except ValueError as error:
        raise PeerError("invalid", str(error)[:300]) from None


def pack(plain: Any) -> bytes:
    """Plain values as msgpack bytes."""
    packed: bytes = msgpack.packb(plain, use_bin_type=True, unicode_errors="surrogateescape")
    return packed


def unpack(data: bytes) -> Any:
    """The plain value in msgpack bytes. Raises PeerError for anything that is not one."""
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            unicode_errors="surrogateescape",
            strict_map_key=True,
            object_pairs_hook=_unique_pairs,
            ext_hook=_refuse_extension,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=MAP_ITEMS_MAX,
        )
    except Exception as error:
        raise PeerError("malformed", f"cannot be decoded: {type(error).__name__}") from None


def _unique_pairs(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key occurs twice")
    return made


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError("extension types are not part of the protocol")
