"""The ZAP handler alone: questions as libzmq puts them, answers as it expects them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq
from zmq.utils import z85

from mesosctl.runtime import zap
from mesosctl.runtime.zap import ENDPOINT, UNDECIDED_MAX, UNDECIDED_S, ZapHandler

RAW_KEY = bytes(range(32))
KEY = z85.encode(RAW_KEY).decode("ascii")


class Asker:
    """Asks as a server socket would, and reads the answer."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.handler = ZapHandler(self.context)
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(ENDPOINT)

    def ask(
        self, *, domain: bytes = b"d", mechanism: bytes = b"CURVE", rest: object = None
    ) -> None:
        credentials = [RAW_KEY] if rest is None else list(rest)  # type: ignore[call-overload]
        head = [b"", b"1.0", b"17", domain, b"127.0.0.1", b"", mechanism]
        self.socket.send_multipart([*head, *credentials])
        poller = zmq.Poller()
        for socket in self.handler.sockets:
            poller.register(socket, zmq.POLLIN)
        poller.poll(1000)
        self.handler.answer()

    def answer(self) -> tuple[bytes, bytes] | None:
        """Status and user id of the answer; None: there is none yet."""
        if not self.socket.poll(20):
            return None
        frames = self.socket.recv_multipart()
        assert frames[:3] == [b"", b"1.0", b"17"]
        assert len(frames) == 7
        return frames[3], frames[5]

    def close(self) -> None:
        self.handler.close()
        self.context.destroy(linger=0)


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker()
    yield made
    made.close()


def test_an_authorized_key_becomes_the_user_id(asker: Asker) -> None:
    """Messages are attributed by this word."""
    asker.handler.set_authority("d", lambda key: key == KEY)
    asker.ask()
    assert asker.answer() == (b"200", KEY.encode("ascii"))


@pytest.mark.parametrize(
    "question",
    [
        {"domain": b"other"},
        {"domain": b"\xff\xfe"},
        {"mechanism": b"NULL", "rest": ()},
        {"mechanism": b"PLAIN", "rest": (b"user", b"password")},
        {"rest": ()},
        {"rest": (b"short",)},
        {"rest": (RAW_KEY, RAW_KEY)},
    ],
)
def test_everything_else_is_refused(asker: Asker, question: dict[str, object]) -> None:
    """Only CURVE is let in, and only where an authority says so."""
    asker.handler.set_authority("d", lambda key: True)
    asker.ask(**question)  # type: ignore[arg-type]
    assert asker.answer() == (b"400", b"")
    assert asker.handler.refused == 1


def test_an_authority_that_says_no_is_obeyed(asker: Asker) -> None:
    """A key that is not on the list stays outside."""
    asker.handler.set_authority("d", lambda key: False)
    asker.ask()
    assert asker.answer() == (b"400", b"")


@pytest.mark.parametrize("allowed", [True, False])
def test_an_undecided_connection_waits_for_the_decision(asker: Asker, allowed: bool) -> None:
    """A framework first has to ask the master who a key is."""
    asker.handler.set_authority("d", lambda key: None)
    asker.ask()
    assert asker.answer() is None
    asker.handler.resolve("another key", not allowed)
    asker.handler.resolve(KEY, not allowed, "another domain")
    assert asker.answer() is None
    asker.handler.resolve(KEY, allowed, "d")
    answer = asker.answer()
    assert answer is not None and answer[0] == (b"200" if allowed else b"400")
    assert asker.handler.deadline() is None


def test_an_undecided_connection_is_sent_away_in_the_end(asker: Asker) -> None:
    """It must not be held open for ever; 300 says that it may be another time, 400 never would."""
    asker.handler.set_authority("d", lambda key: None)
    asker.ask()
    due = asker.handler.deadline()
    assert due is not None
    asker.handler.expire(due - UNDECIDED_S / 2)
    assert asker.answer() is None
    asker.handler.expire(due)
    assert asker.answer() == (b"300", b"")


def test_the_undecided_are_bounded(asker: Asker) -> None:
    """Connecting without end must not fill the memory of a server."""
    asker.handler.set_authority("d", lambda key: None)
    for _ in range(UNDECIDED_MAX):
        asker.ask()
    assert asker.answer() is None
    asker.ask()
    assert asker.answer() == (b"300", b"")


def test_what_is_no_question_is_ignored(asker: Asker) -> None:
    """Nobody but libzmq can ask; a strange question must not stop the handler all the same."""
    asker.handler.set_authority("d", lambda key: True)
    asker.socket.send_multipart([b"", b"2.0", b"17"])
    asker.ask()
    assert asker.answer() == (b"200", KEY.encode("ascii"))


def test_a_socket_is_relieved_when_it_was_asked_often(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection keeps 10 kB with whom it asked, until that socket is closed."""
    monkeypatch.setattr(zap, "QUESTIONS_MAX", 40)
    asker.handler.set_authority("d", lambda key: True)
    opened: list[zmq.Socket[bytes]] = []
    closed: list[zmq.Socket[bytes]] = []
    asker.handler.on_open, asker.handler.on_close = opened.append, closed.append
    first = asker.handler.socket
    for _ in range(40):
        asker.ask()
        assert asker.answer() == (b"200", KEY.encode("ascii"))
    assert opened == [asker.handler.socket] != [first]
    # Whoever had reached the first one is answered by it, ...
    asker.ask()
    assert asker.answer() == (b"200", KEY.encode("ascii"))
    due = asker.handler.deadline()
    assert due is not None and not closed
    asker.handler.expire(due)
    assert closed == [first] and first.closed
    # What was freed is given back, once.
    freed = asker.handler.deadline()
    assert freed is not None
    asker.handler.expire(freed)
    assert asker.handler.deadline() is None
    # ... and whoever comes now by the second.
    asker.socket.close()
    asker.socket = asker.context.socket(zmq.DEALER)
    asker.socket.connect(ENDPOINT)
    asker.ask()
    assert asker.answer() == (b"200", KEY.encode("ascii"))


def test_a_relieved_socket_stays_for_the_undecided(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their answer can only leave through the socket that they asked."""
    monkeypatch.setattr(zap, "QUESTIONS_MAX", 40)
    asker.handler.set_authority("d", lambda key: None)
    first = asker.handler.socket
    for _ in range(40):
        asker.ask()
    assert asker.handler.socket is not first
    due = asker.handler.deadline()
    assert due is not None
    asker.handler.expire(due)
    assert not first.closed
    asker.handler.resolve(KEY, True)
    answer = asker.answer()
    assert answer is not None and answer[0] == b"200"
    last = asker.handler.deadline()
    assert last is not None
    asker.handler.expire(last)
    assert first.closed


def test_a_socket_is_relieved_when_nobody_comes(asker: Asker) -> None:
    """Then nobody can come between it and its successor."""
    asker.handler.set_authority("d", lambda key: True)
    first = asker.handler.socket
    for _ in range(zap.QUESTIONS_FEW):
        asker.ask()
        assert asker.answer() is not None
    assert asker.handler.deadline() is None
    asker.ask()
    assert asker.answer() is not None
    quiet = asker.handler.deadline()
    assert quiet is not None
    asker.handler.expire(quiet - 0.1)
    assert asker.handler.sockets == (first,)
    asker.handler.expire(quiet)
    assert asker.handler.socket is not first and first in asker.handler.sockets
