"""Candidates, seats and watchers in ZooKeeper, without a master around them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mesosctl.core.master.standby import LeaderIs
from mesosctl.errors import Refused, Unreachable
from mesosctl.model.masters import ZkPlace
from mesosctl.runtime.zk_election import Contender, Identity
from mesosctl.runtime.zk_store import EPOCH
from mesosctl.runtime.zk_watch import CLUSTER, LeaderWatch, find_leader
from mesosctl.runtime.zookeeper import Transaction, ZkSession
from tests.integration.conftest import until
from tests.integration.zk.conftest import ZooKeeper, free_ports

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Candidate:
    """A contender and what it was told."""

    def __init__(self, place: ZkPlace, key: str = "k", cluster: str = "c1") -> None:
        self.told: list[LeaderIs] = []
        self.log: list[str] = []
        self.done = 0
        self.contender = Contender(
            place,
            Identity(key, "test", cluster),
            tell=self.told.append,
            done=self._done,
            log=lambda level, text: self.log.append(text),
        )
        self.contender.start()

    def _done(self) -> None:
        self.done += 1


@pytest.fixture
def candidates() -> Iterator[list[Candidate]]:
    """Closed at the end."""
    made: list[Candidate] = []
    yield made
    for one in made:
        one.contender.close()


def test_one_leads_and_the_next_follows_at_once(
    place: ZkPlace, candidates: list[Candidate]
) -> None:
    """The second hears of the first, and takes over with a higher epoch when that one leaves."""
    first = Candidate(place)
    candidates.append(first)
    until(lambda: first.done, "the first is elected")
    seat = first.contender.seat
    assert seat is not None and (seat.epoch, seat.cluster) == (1, "c1")
    second = Candidate(place, cluster="c2")
    candidates.append(second)
    until(lambda: second.told, "the second stands by")
    assert second.told == [LeaderIs("")]
    seat.announce("tcp://127.0.0.1:1", "k")
    until(lambda: LeaderIs("tcp://127.0.0.1:1", "c1", 1) in second.told, "it hears of the leader")
    assert not second.done and find_leader(place, 5) == "tcp://127.0.0.1:1"
    seat.close()
    until(lambda: second.done, "the second is elected")
    other = second.contender.seat
    assert other is not None and (other.epoch, other.cluster) == (2, "c1")
    assert seat.fence.lost and not other.fence.lost


def test_a_master_with_another_key_is_refused(place: ZkPlace, candidates: list[Candidate]) -> None:
    """Nobody could tell which of two keys to trust."""
    candidates.append(Candidate(place))
    until(lambda: candidates[0].done, "the first is elected")
    candidates.append(Candidate(place, key="another"))
    until(lambda: candidates[1].done, "the second is refused")
    problem = candidates[1].contender.problem
    assert isinstance(problem, Refused) and "authorized_keys.toml" in str(problem)


@pytest.mark.parametrize(
    ("path", "value"), [(CLUSTER, b"\xff"), (CLUSTER, b'{"form": 2}'), (EPOCH, b"x")]
)
def test_what_is_not_ours_is_left_alone(
    place: ZkPlace, candidates: list[Candidate], path: str, value: bytes
) -> None:
    """Foreign, newer or damaged: it never means that the cluster is empty."""
    session = ZkSession(place)
    session.start(20)
    if path != CLUSTER:
        cluster = json.dumps({"cluster": "c", "key": "k", "form": 1}).encode()
        session.commit(Transaction().create(CLUSTER, cluster), 5)
    session.commit(Transaction().create(path, value), 5)
    candidates.append(Candidate(place))
    until(lambda: candidates[0].done, "it is refused")
    assert isinstance(candidates[0].contender.problem, Refused)
    assert session.get(path) == (value, 0)
    session.close()


def test_a_leader_whose_session_is_taken_away_stops(
    place: ZkPlace, candidates: list[Candidate]
) -> None:
    """Its candidate's node is gone: the next pulse finds that out before the time is over."""
    one = Candidate(place)
    candidates.append(one)
    until(lambda: one.done, "it is elected")
    seat = one.contender.seat
    assert seat is not None
    woken: list[bool] = []
    seat.on_deposed(lambda: woken.append(True))
    other = ZkSession(place)
    other.start(20)
    [name] = other.children("/candidates")
    other.commit(Transaction().delete(f"/candidates/{name}"), 5)
    other.close()
    until(lambda: woken, "it is told")
    assert "taken over" in seat.fence.lost


def test_without_zookeeper_nobody_leads_and_a_command_is_told(
    candidates: list[Candidate],
) -> None:
    """It says which servers do not answer; a candidate goes on trying."""
    place = ZkPlace((f"127.0.0.1:{free_ports(1)[0]}",), "/p")
    with pytest.raises(Unreachable, match="does not answer"):
        find_leader(place, 1)
    candidates.append(Candidate(place))
    until(lambda: candidates[0].told, "it says that nobody leads")
    assert candidates[0].told[0] == LeaderIs("") and "does not answer" in candidates[0].log[0]


def test_a_place_without_a_leader_is_told(place: ZkPlace) -> None:
    """That is another mistake than a ZooKeeper that is away."""
    with pytest.raises(Unreachable, match="no master leads"):
        find_leader(place, 0.5)


@pytest.mark.slow
def test_a_watcher_outlives_zookeeper(own_zookeeper: ZooKeeper) -> None:
    """It keeps what it knew, and hears of the next leader when ZooKeeper is back."""
    place = ZkPlace((own_zookeeper.host,), "/p")
    told: list[str] = []
    watch = LeaderWatch(place, told.append, lambda level, text: None)
    watch.start()
    first = Candidate(place)
    until(lambda: first.done, "the first is elected")
    assert first.contender.seat is not None
    first.contender.seat.announce("tcp://127.0.0.1:1", "k")
    until(lambda: told[-1:] == ["tcp://127.0.0.1:1"], "it hears of the first")
    own_zookeeper.kill_nine()
    until(lambda: first.contender.seat and first.contender.seat.fence.lost, "the first stops")
    heard = list(told)
    own_zookeeper.restart()
    own_zookeeper.serving()
    first.contender.close()
    second = Candidate(place)
    until(lambda: second.done, "the second is elected")
    assert second.contender.seat is not None and second.contender.seat.epoch == 2
    assert told[: len(heard)] == heard == ["", "tcp://127.0.0.1:1"]
    second.contender.seat.announce("tcp://127.0.0.1:2", "k")
    until(lambda: told[-1] == "tcp://127.0.0.1:2", "it hears of the second")
    watch.close()
    second.contender.close()
