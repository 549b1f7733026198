"""The spawner's end of its socket: orders and what is said about them in, reports out.

Owns the frames, the queue of orders and those that are held because they follow another. Like
spawner.py it imports the standard library and its siblings only. Rules: nothing here blocks; a
report is in the socket or kept, and `clear` says which.

Messages, both ways: a length of 4 bytes, big-endian, then words as `pack` writes them (JSON took
two to three times as long, and its module is memory in each spawner). The words of orders are
those of spawner_orders.encode; an order whose stdin is "fd" carries one descriptor. Two words are
about an order that is held: "begin" puts it behind the orders that came before, "recall" ends it
unless its turn has come. What changes in either file must change in the other.
"""

import os
import socket
import struct
import time
from collections import deque

TYPE_CHECKING = False  # The name that type checkers know, without importing typing at each start.
if TYPE_CHECKING:
    from typing import Any

    Order = dict[str, Any]
HEADER = struct.Struct(">I")
FRAME_LIMIT_BYTES = 16 * 1024 * 1024
# Less than what malloc asks the kernel for each time, and gives back with each order.
READ_BYTES = 64 * 1024


def pack(words: "list[str]") -> bytes:
    """The frame of words: how many, how many characters each has, and all of them in UTF-8."""
    count = len(words)
    lengths = struct.pack(f">{count + 1}I", count, *map(len, words))
    body = lengths + "".join(words).encode("utf-8", "surrogatepass")
    return HEADER.pack(len(body)) + body


def unpack(body: bytes) -> "list[str]":
    """The words of a frame without its header."""
    (count,) = HEADER.unpack_from(body)
    lengths = struct.unpack_from(f">{count}I", body, HEADER.size)
    text = str(body[HEADER.size * (count + 1) :], "utf-8", "surrogatepass")
    words, at = [], 0
    for length in lengths:
        words.append(text[at : at + length])
        at += length
    return words


def order_of(words: "list[str]") -> "Order":
    """What spawner_orders.encode made words of."""
    groups, join, home, argv = map(int, words[13:17])
    cuts = [17]
    for count in (groups, join, home, argv):
        cuts.append(cuts[-1] + count)
    rest = words[cuts[-1] :]
    names = len(rest) // 2
    return {
        "id": words[0],
        "by": words[1],
        "cwd": words[2],
        "fallback_cwd": words[3] or None,
        "uid": int(words[4]) if words[4] else None,
        "gid": int(words[5]) if words[5] else None,
        "umask": int(words[6]),
        "append": "a" in words[7],
        "path_is_script": "s" in words[7],
        "as_helper": "h" in words[7],
        "stdin": words[8],
        "stdout": words[9],
        "stderr": words[10],
        "after": words[11],
        "due": float(words[12]) if words[12] else None,
        "groups": [int(word) for word in words[17 : cuts[1]]],
        "join": words[cuts[1] : cuts[2]],
        "home": words[cuts[2] : cuts[3]],
        "argv": words[cuts[3] : cuts[4]],
        "env": dict(zip(rest[:names], rest[names:], strict=True)),
    }


class Channel:
    """The socket to the executor: orders and descriptors in, reports out, never blocking."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._unsent = bytearray()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self.orders: deque[tuple[Order, int | None]] = deque()
        # What follows another order, by that one's id; and whom each of them follows.
        self._held: dict[str, tuple[Order, int | None]] = {}
        self._follows: dict[str, str] = {}
        stream.setblocking(False)

    @property
    def clear(self) -> bool:
        """Whether every report is in the socket, where the executor finds it if we die."""
        return not self._unsent

    def report(self, *reports: "list[str]") -> None:
        """Send reports in one go, or keep what the socket does not take now."""
        for words in reports:
            self._unsent += pack(words)
        self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as the socket takes it; EOFError when nobody is there."""
        try:
            while self._unsent:
                del self._unsent[: self._stream.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            raise EOFError from error

    def receive(self) -> None:
        """Take in one read of orders; EOFError when the executor is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._stream, READ_BYTES, 8)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors.extend(descriptors)
        self._received += data
        while len(self._received) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._received)
            if length > FRAME_LIMIT_BYTES:
                raise ValueError(f"an order of {length} bytes")
            end = HEADER.size + length
            if len(self._received) < end:
                break
            words = unpack(bytes(self._received[HEADER.size : end]))
            del self._received[:end]
            if len(words) == 2:
                self._take_in(*words)
                continue
            order = order_of(words)
            # Descriptors arrive in the order of the orders they belong to, at the latest with
            # their last byte.
            carried = self._descriptors.popleft() if order["stdin"] == "fd" else None
            if order["after"]:
                self._held[order["after"]] = order, carried
                self._follows[order["id"]] = order["after"]
            else:
                self.orders.append((order, carried))

    def _take_in(self, word: str, name: str) -> None:
        """Do what is said about an order that is held; its turn may have come meanwhile."""
        held = self.let_go(self._follows.get(name, ""))
        if held is None:
            return
        if word == "begin":
            self.orders.append(held)
            return
        if held[1] is not None:
            os.close(held[1])
        self.report(["recalled", name])

    def let_go(self, ended: str) -> "tuple[Order, int | None] | None":
        """What follows this one is not held any more."""
        held = self._held.pop(ended, None)
        if held is not None:
            del self._follows[held[0]["id"]]
        return held

    def follower(self, ended: str) -> "tuple[Order, int | None] | None":
        """What may follow one that has ended, as far as the time is concerned."""
        held = self._held.get(ended)
        due = None if held is None else held[0]["due"]
        return None if due is not None and time.monotonic() >= due else held
