"""The proxy does to a connection what the tests of partitions say it does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import DOWN, UP, Proxy

# Long enough for what has to come, short enough to wait for what must not.
COMES_S = 10.0
NOTHING_S = 0.3


class Echo:
    """A server that sends everything back, and counts what it was sent."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.heard = 0
        self.ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(
                    target=self._serve, args=(self.listener.accept()[0],), daemon=True
                ).start()

    def _serve(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError), end:
            while data := end.recv(65_536):
                self.heard += len(data)
                end.sendall(data)
        self.ended.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server behind the proxy."""
    made = Echo()
    yield made
    made.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    """A proxy before it."""
    with Proxy(echo.address) as made:
        yield made


@pytest.fixture
def near(proxy: Proxy) -> Iterator[socket.socket]:
    """A connection through the proxy that has been used."""
    with connect(proxy) as made:
        assert exchange(made, b"hello") == b"hello"
        yield made


def connect(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=COMES_S)


def exchange(near: socket.socket, data: bytes) -> bytes:
    near.sendall(data)
    return near.recv(len(data))


def is_silent(near: socket.socket) -> bool:
    near.settimeout(NOTHING_S)
    try:
        near.recv(1)
    except TimeoutError:
        return True
    finally:
        near.settimeout(COMES_S)
    return False


def has_ended(near: socket.socket) -> bool:
    try:
        return near.recv(1) == b""
    except ConnectionResetError:
        return True


def is_turned_away(proxy: Proxy) -> bool:
    try:
        with connect(proxy) as other:
            return has_ended(other)
    except ConnectionResetError:
        # It was quicker than our side of the connection.
        return True


def test_what_was_held_comes_after_healing(proxy: Proxy, near: socket.socket) -> None:
    """A partition delays what TCP would resend; it does not lose it."""
    proxy.hold()
    near.sendall(b"held")
    assert is_silent(near)
    proxy.resume()
    assert near.recv(10) == b"held"


def test_one_way_may_be_held(proxy: Proxy, near: socket.socket, echo: Echo) -> None:
    """With only the way back held, the server hears us, and we do not hear it."""
    proxy.hold(DOWN)
    near.sendall(b"heard")
    assert is_silent(near)
    assert echo.heard == len(b"hello") + len(b"heard")
    proxy.hold(UP)
    assert near.recv(10) == b"heard"
    near.sendall(b"unheard")
    assert is_silent(near)
    assert echo.heard == len(b"hello") + len(b"heard")


def test_a_cut_ends_both_sides_and_turns_new_ones_away(
    proxy: Proxy, near: socket.socket, echo: Echo
) -> None:
    """That is what a killed process looks like to its peers."""
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        near.recv(1)
    assert echo.ended.wait(COMES_S)
    assert proxy.connections == 0
    assert is_turned_away(proxy)
    proxy.resume()
    with connect(proxy) as other:
        assert exchange(other, b"again") == b"again"


def test_half_open_tells_one_side_only(proxy: Proxy, near: socket.socket, echo: Echo) -> None:
    """A host that lost its power sends no goodbye; when it is back it knows of nothing."""
    proxy.half_open()
    assert echo.ended.wait(COMES_S)
    near.sendall(b"is anybody there?")
    assert is_silent(near)
    proxy.resume()
    assert has_ended(near)


def test_delay_and_throttle_keep_every_byte(proxy: Proxy, near: socket.socket) -> None:
    """Slow is not lossy, and the order stays."""
    proxy.delay(0.2)
    began = time.monotonic()
    assert exchange(near, b"late") == b"late"
    assert time.monotonic() - began >= 0.4
    proxy.resume()
    proxy.throttle(20_000)
    data = bytes(range(250)) * 40
    near.sendall(data)
    began, back = time.monotonic(), b""
    while len(back) < len(data):
        back += near.recv(len(data))
    assert back == data
    proxy.resume()
