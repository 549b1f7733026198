"""A master that does not lead says where to go, and nothing else."""

from __future__ import annotations

import pytest

from mesosctl.core.machine import Aim, Close, Log, Now, PeerLost, Received, Send, Signalled, Stop
from mesosctl.core.master.standby import LeaderIs, StandbyMachine
from mesosctl.core.session import ClientSession
from mesosctl.limits import NO_LEADER_MAX_S, RECONNECT_FIRST_S
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.query import DescribeMaster, Done
from mesosctl.protocol.messages.session import Bye, Ping, Reset

NOW = Now(0.0, 1e9)
LEADER = LeaderIs("tcp://h2:5050", "c", 7)


def session() -> ClientSession:
    """A connecting side that has seen epoch 9, so that every standby's word is an older one."""
    made = ClientSession("master", DescribeMaster, lambda now: [], lambda: "80000000" * 2)
    made.cluster, made.epoch = "c", 9
    return made


def answer(machine: StandbyMachine, one: ClientSession) -> Envelope:
    """What the standby says to a session that is opened."""
    opened = next(effect for effect in one.start(NOW) if isinstance(effect, Send))
    [sent] = machine.handle(Received("m:1", "key", opened.envelope), NOW)
    assert isinstance(sent, Send) and sent.peer == "m:1"
    return sent.envelope


@pytest.mark.parametrize("message", [Ping(), DescribeMaster(), Done(1)])
def test_everything_is_answered_with_where_the_leader_is(message: object) -> None:
    """Also what belongs to a session that another life of this process had."""
    machine = StandbyMachine(LEADER)
    envelope = Envelope("c", 6, "s", 12, message)  # type: ignore[arg-type]
    [sent] = machine.handle(Received("m:1", "key", envelope), NOW)
    assert isinstance(sent, Send)
    assert (sent.envelope.cluster, sent.envelope.epoch, sent.envelope.session) == ("c", 7, "s")
    reset = sent.envelope.message
    assert isinstance(reset, Reset) and (reset.code, reset.leader) == ("not-leader", LEADER.address)


def test_a_goodbye_is_not_answered() -> None:
    """There is nobody left to hear it."""
    assert StandbyMachine().handle(Received("m:1", "k", Envelope("", 0, "s", 2, Bye())), NOW) == []


def test_the_connecting_side_goes_to_the_leader_at_once() -> None:
    """Whatever epoch the standby is in: what it leads to is checked as if it had been given."""
    one = session()
    message, effects = one.receive(answer(StandbyMachine(LEADER), one), NOW)
    assert message is None and effects[:2] == [Aim("master", LEADER.address), Close("master")]
    due = one.deadline()
    assert due is not None and due <= RECONNECT_FIRST_S
    assert one.epoch == 9


def test_while_nobody_leads_the_connecting_side_asks_again_soon() -> None:
    """Its back-off must not grow over the seconds that an election takes."""
    one, machine = session(), StandbyMachine(LeaderIs("", "c", 7))
    at = 0.0
    for _ in range(8):
        now = Now(at, 1e9)
        opened = next(effect for effect in one.start(now) if isinstance(effect, Send))
        [sent] = machine.handle(Received("m:1", "key", opened.envelope), now)
        assert isinstance(sent, Send)
        assert one.receive(sent.envelope, now)[1] == [Close("master")]
        due = one.deadline()
        assert due is not None and at < due <= at + NO_LEADER_MAX_S
        at = due


def test_a_link_that_moved_is_opened_without_a_pause() -> None:
    """Whoever watches the election knows that the new leader is there."""
    one = session()
    one.start(NOW)
    for _ in range(6):
        one.lose(NOW)
        one.start(NOW)
    one.lose(NOW)
    later = one.deadline()
    assert later is not None and later > RECONNECT_FIRST_S
    assert one.lose(NOW, moved=True) == []
    assert one.deadline() == NOW.mono
    one.end()
    assert one.lose(NOW, moved=True) == [] and one.deadline() is None


def test_a_change_of_leader_is_told_once() -> None:
    """The log names who leads; what is known already is no news."""
    machine = StandbyMachine()
    [log] = machine.handle(LEADER, NOW)
    assert isinstance(log, Log) and "tcp://h2:5050" in log.text and "7" in log.text
    assert machine.handle(LEADER, NOW) == []
    assert machine.handle(PeerLost("m:1"), NOW) == []
    assert machine.handle(Signalled(15), NOW) == [Stop(0, "asked to stop")]
    assert machine.handle(Signalled(1), NOW) == []
