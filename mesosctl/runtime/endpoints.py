"""What both kinds of sockets share: addresses, bounds, the monitor of connections."""

from __future__ import annotations

import struct

import zmq

from mesosctl.errors import Refused, UsageError
from mesosctl.limits import FRAME_BYTES_MAX_BULK
from mesosctl.model.values import PORT_MAX
from mesosctl.runtime.ids import new_id

Context = zmq.Context[zmq.Socket[bytes]]
Socket = zmq.Socket[bytes]

# Messages that libzmq itself holds for one peer, in each direction.
HIGH_WATER = 1000
# Bytes that wait for one peer beyond that.
QUEUE_BYTES_MAX = 64 * 1024 * 1024
# A short limit makes a mass reconnect a storm that never ends (a handshake costs 2 ms of a core).
HANDSHAKE_MS = 30_000
KEEPALIVE_IDLE_S = 60
# As plain numbers: the flags are enumerations, whose arithmetic costs more than a small message.
NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE) | NOBLOCK
REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL) | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_EVENT = struct.Struct("=Hi")


def parse_address(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of `tcp://host:port`, `host:port` or `[v6]:port`. Raises UsageError."""
    rest = text.removeprefix("tcp://")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        colon, port_text = tail[:1], tail[1:]
    else:
        host, colon, port_text = rest.partition(":")
    if not colon and not port_text and default_port is not None:
        colon, port_text = ":", str(default_port)
    good = host and all(c.isascii() and (c.isalnum() or c in ".-:%_") for c in host)
    is_port = port_text.isascii() and port_text.isdigit() and int(port_text) <= PORT_MAX
    if not good or colon != ":" or not is_port:
        raise UsageError(f"not an address: {text[:80]!a}", "write tcp://HOST:PORT")
    return host, int(port_text)


def endpoint(address: str) -> tuple[str, bool]:
    """What libzmq is given for an address, and whether that needs IPv6. Raises UsageError."""
    if address.startswith("ipc://"):
        return address, False
    host, port = parse_address(address)
    return (f"tcp://[{host}]:{port}", True) if ":" in host else (f"tcp://{host}:{port}", False)


def prepare(socket: Socket, needs_ipv6: bool) -> None:
    """Set what all sockets have in common: bounds, and how long silence is borne."""
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = HIGH_WATER
    socket.maxmsgsize = FRAME_BYTES_MAX_BULK
    socket.handshake_ivl = HANDSHAKE_MS
    socket.ipv6 = needs_ipv6
    socket.tcp_keepalive = 1
    socket.tcp_keepalive_idle = KEEPALIVE_IDLE_S


class Monitor:
    """The events of one socket, in order and without a bound: a full one would stop libzmq."""

    def __init__(self, context: Context, watched: Socket, events: int) -> None:
        place = f"inproc://monitor-{new_id()}"
        watched.monitor(place, events)
        self.socket = context.socket(zmq.PAIR)
        self.socket.rcvhwm = 0
        self.socket.linger = 0
        self.socket.connect(place)

    def read(self) -> list[tuple[int, int]]:
        """Every (event, value) that has come."""
        found: list[tuple[int, int]] = []
        while True:
            try:
                body = self.socket.recv(NOBLOCK)
            except zmq.Again:
                return found
            self.socket.recv(NOBLOCK)
            event, value = _EVENT.unpack(body)
            found.append((event, value))


def resolved(place: str) -> str:
    """libzmq binds to numbers only: the first number that a host name stands for."""
    import socket as system_socket

    host, port = parse_address(place)
    try:
        found = system_socket.getaddrinfo(
            host,
            port,
            system_socket.AF_UNSPEC if ":" in host else system_socket.AF_INET,
            system_socket.SOCK_STREAM,
            flags=system_socket.AI_PASSIVE,
        )
    except OSError:
        raise Refused(
            f"cannot listen on {place}: no such host", "name an address of this host"
        ) from None
    number = str(found[0][4][0])
    return f"tcp://[{number}]:{port}" if ":" in number else f"tcp://{number}:{port}"
