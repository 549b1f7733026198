"""Sessions: losses are noticed, old messages are not believed, silence ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from mesosctl.core.machine import Close, Effect, Now, Open, Received, Send
from mesosctl.core.session import ClientSession, ServerSessions, heartbeat_of
from mesosctl.limits import (
    HEARTBEAT_MAX_S,
    HEARTBEAT_S,
    HEARTBEATS_MISSED_MAX,
    LEASE_MIN_S,
    RECONNECT_EACH_S,
    RECONNECT_MAX_S,
)
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.query import DescribeMaster, Done
from mesosctl.protocol.messages.session import Bye, Ping, Pong, Reset

SILENCE_S = HEARTBEAT_S * HEARTBEATS_MISSED_MAX


def at(seconds: float) -> Now:
    return Now(seconds, 1e9 + seconds)


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):016x}"


def client(losses: list[Now] | None = None) -> ClientSession:
    def lost(now: Now) -> list[Effect]:
        if losses is not None:
            losses.append(now)
        return []

    return ClientSession("master", DescribeMaster, lost, ids())


def sent(effects: Iterable[Effect]) -> list[Envelope]:
    """The envelopes of these effects, after a round trip through the codec."""
    return [decode(encode(effect.envelope)) for effect in effects if isinstance(effect, Send)]


def arrive(server: ServerSessions, envelope: Envelope, now: Now, peer: str = "p") -> Received:
    return Received(peer, "key", envelope)


def deliver(
    server: ServerSessions, effects: Iterable[Effect], now: Now, peer: str = "p"
) -> list[tuple[Message | None, list[Effect]]]:
    return [server.receive(Received(peer, "key", envelope), now) for envelope in sent(effects)]


def test_a_session_opens_and_numbers_both_ways() -> None:
    """The first message opens it; replies are placed by their own numbers."""
    one, server = client(), ServerSessions("c", 4)
    opened = one.start(at(0))
    assert opened[0] == Open("master")
    assert deliver(server, opened, at(0)) == [(DescribeMaster(), [])]
    for number in (1, 2, 3):
        [envelope] = sent(server.send("p", Done(number)))
        assert (envelope.seq, envelope.cluster, envelope.epoch) == (number, "c", 4)
        assert one.receive(envelope, at(0)) == (Done(number), [])
    assert (one.cluster, one.epoch) == ("c", 4)


def test_a_lost_message_to_the_server_ends_the_session() -> None:
    """ZeroMQ drops without a word: the gap is what tells."""
    one, server = client(), ServerSessions("c", 1)
    deliver(server, one.start(at(0)), at(0))
    one.send(DescribeMaster())
    [(message, answer)] = deliver(server, one.send(DescribeMaster()), at(0))
    assert message is None
    assert [envelope.message for envelope in sent(answer)] == [Reset("gap")]
    assert "p" not in server


def test_a_lost_message_to_the_client_ends_the_session() -> None:
    """The same in the other direction, and the owner is told."""
    losses: list[Now] = []
    one, server = client(losses), ServerSessions("c", 1)
    deliver(server, one.start(at(0)), at(0))
    server.send("p", Done(1))
    [second] = sent(server.send("p", Done(2)))
    message, effects = one.receive(second, at(1))
    assert message is None
    assert effects == [Close("master")]
    assert losses == [at(1)]
    assert not one.is_open


def test_a_reset_leads_to_a_new_session_after_a_pause() -> None:
    """Everybody reconnects after a restart of the master: at different moments, and not at once."""
    one, server = client(), ServerSessions("c", 1)
    [hello] = sent(one.start(at(0)))
    [(_, _)] = deliver(server, [Send("master", hello)], at(0))
    [reset] = sent(server.reset("p", "replaced"))
    assert one.receive(reset, at(1)) == (None, [Close("master")])
    due = one.deadline()
    assert due is not None
    assert 1 < due < 3
    assert one.tick(at(due - 0.01)) == []
    again = one.tick(at(due))
    assert again[0] == Open("master")
    [hello_again] = sent(again)
    assert hello_again.session != hello.session
    assert hello_again.seq == 1


def longest_pause(agents: int) -> float:
    """The longest wait for the next session when nobody answers for a long time."""
    one = client()
    one.start(at(0))
    one.confirm(at(0), agents)
    longest, time = 0.0, 0.0
    for _ in range(20):
        time += SILENCE_S
        one.lose(at(time))
        due = one.deadline()
        assert due is not None
        longest = max(longest, due - time)
        opened = one.tick(at(due))
        assert Open("master", one.spread_s) in opened
        time = due
    return longest


def test_the_pause_before_a_session_grows_with_the_cluster_only() -> None:
    """A small cluster waits a second for a master that was away for long, a large one is spread."""
    assert longest_pause(100) < 1.0
    window_s = 10_000 * RECONNECT_EACH_S
    assert RECONNECT_MAX_S < window_s / 2 <= longest_pause(10_000) <= window_s * 2


def test_messages_of_an_older_session_are_not_believed() -> None:
    """A master that died left a LAUNCH in the queue: nobody may act on it now."""
    one = client()
    [hello] = sent(one.start(at(0)))
    one.lose(at(1))
    due = one.deadline()
    assert due is not None
    one.tick(at(due))
    stale = Envelope("c", 1, hello.session, 1, Done(1))
    assert one.receive(stale, at(due)) == (None, [])
    assert one.is_open


def test_a_lower_epoch_is_ignored() -> None:
    """A deposed master that wakes up changes nothing."""
    one = client()
    [hello] = sent(one.start(at(0)))
    assert one.receive(Envelope("c", 5, hello.session, 1, Done(1)), at(0))[0] == Done(1)
    assert one.receive(Envelope("c", 4, hello.session, 2, Done(2)), at(0)) == (None, [])


def test_what_cannot_be_placed_is_answered_with_reset() -> None:
    """The peer learns that it has to introduce itself again."""
    cases = [
        (Envelope("c", 1, "s", 2, DescribeMaster()), "unknown-session"),
        (Envelope("other", 1, "s", 1, DescribeMaster()), "wrong-cluster"),
        (Envelope("c", 2, "s", 1, DescribeMaster()), "stale-epoch"),
    ]
    for envelope, code in cases:
        server = ServerSessions("c", 1)
        message, effects = server.receive(Received("p", "key", envelope), at(0))
        assert message is None
        assert [e.message for e in sent(effects)] == [Reset(code)]
        assert len(server) == 0


def test_a_session_belongs_to_the_key_that_opened_it() -> None:
    """A connection that took over another's name does not take over its rights."""
    server = ServerSessions("c", 1)
    hello = Envelope("c", 1, "s", 1, DescribeMaster())
    server.receive(Received("p", "key", hello), at(0))
    next_one = Envelope("c", 1, "s", 2, DescribeMaster())
    message, _ = server.receive(Received("p", "other key", next_one), at(0))
    assert message is None
    assert "p" not in server


def test_pings_keep_a_session_and_silence_ends_it_on_both_sides() -> None:
    """A hung peer answers no pings, whatever its I/O thread does."""
    losses: list[Now] = []
    one, server = client(losses), ServerSessions("c", 1)
    deliver(server, one.start(at(0)), at(0))
    time_s = 0.0
    for _ in range(10):
        due = one.deadline()
        assert due is not None
        time_s = due
        [(message, answer)] = deliver(server, one.tick(at(time_s)), at(time_s))
        assert message is None
        [pong] = sent(answer)
        assert pong.message == Pong()
        assert one.receive(pong, at(time_s)) == (None, [])
    assert server.expire(at(time_s + SILENCE_S - 0.1)) == []
    assert server.expire(at(time_s + SILENCE_S)) == [("p", time_s)]
    one.tick(at(time_s + HEARTBEAT_S))
    assert losses == []
    assert Close("master") in one.tick(at(time_s + SILENCE_S))
    assert losses == [at(time_s + SILENCE_S)]


def test_the_silent_are_found_among_the_lively() -> None:
    """Sessions are kept in the order in which they were heard."""
    server = ServerSessions("c", 1)
    for peer in ("a", "b", "c"):
        hello = Envelope("", 0, peer, 1, DescribeMaster())
        server.receive(Received(peer, "key", hello), at(0))
    more = Envelope("", 0, "a", 2, DescribeMaster())
    server.receive(Received("a", "key", more), at(5))
    assert server.deadline() == SILENCE_S
    assert server.expire(at(SILENCE_S)) == [("b", 0.0), ("c", 0.0)]
    assert server.peers() == ("a",)


def test_goodbye_is_the_last_word() -> None:
    """A side that leaves on purpose does not come back, and the other need not wait."""
    one, server = client(), ServerSessions("c", 1)
    deliver(server, one.start(at(0)), at(0))
    assert deliver(server, one.end(), at(1)) == [(Bye(), [Close("p")])]
    assert len(server) == 0
    assert one.deadline() is None
    assert one.tick(at(100)) == []


def test_heartbeats_are_rarer_in_a_large_cluster() -> None:
    """Ten thousand pings a second would drown a master; one in three minutes would hide a death."""
    assert [heartbeat_of(agents) for agents in (0, 1, 1_000, 1_001)] == [5.0] * 4
    # 5 * sqrt(4) = 10; 5 * sqrt(16) = 20, which is above the limit.
    assert [heartbeat_of(agents) for agents in (4_000, 16_000, 50_000)] == [10.0, 15.0, 15.0]
    rates = [agents / heartbeat_of(agents) for agents in (1_000, 4_000, 8_000)]
    assert rates == [200, 400, 8_000 / 14]
    # A lease of the least length is renewed twice before it runs out.
    assert 2 * HEARTBEAT_MAX_S <= LEASE_MIN_S


def test_who_was_told_of_a_longer_heartbeat_is_expected_later() -> None:
    """Peers with different heartbeats share a server; each falls silent in its own time."""
    server = ServerSessions("c", 1)
    for peer in ("a", "b", "c"):
        hello = Envelope("", 0, peer, 1, DescribeMaster())
        server.receive(Received(peer, "key", hello), at(0))
    server.slow_down("a", 2 * HEARTBEAT_S)
    # Nobody is expected sooner than the server's own heartbeat says.
    server.slow_down("b", HEARTBEAT_S / 2)
    assert server.deadline() == SILENCE_S
    assert server.expire(at(SILENCE_S)) == [("c", 0.0), ("b", 0.0)]
    assert server.deadline() == 2 * SILENCE_S
    ping = Envelope("", 0, "a", 2, Ping())
    server.receive(Received("a", "key", ping), at(SILENCE_S + 1))
    assert server.expire(at(3 * SILENCE_S)) == []
    assert server.expire(at(3 * SILENCE_S + 1)) == [("a", SILENCE_S + 1)]
    assert (server.peers(), server.deadline()) == ((), None)


def test_a_session_that_has_to_be_quick_pings_as_in_a_small_cluster() -> None:
    """Leases are renewed by pings, and a lease may be shorter than three long heartbeats."""
    one = client()
    one.start(at(0))
    one.heartbeat_s = 15.0
    one.ping(at(0))
    assert one.deadline() == 15.0
    one.quicken(at(1))
    assert (one.heartbeat_s, one.deadline()) == (HEARTBEAT_S, 1 + HEARTBEAT_S)
    one.quicken(at(4))
    assert one.deadline() == 1 + HEARTBEAT_S
