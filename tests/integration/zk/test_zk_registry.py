"""The registry in ZooKeeper: a store like the one on disk, and one that fences its writers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from mesosctl.core.machine import Delete, Put
from mesosctl.errors import StorageFailed
from mesosctl.model.masters import ZkPlace
from mesosctl.runtime.zk_election import CANDIDATES, Seat
from mesosctl.runtime.zk_store import EPOCH, REGISTRY, ZkStore
from mesosctl.runtime.zk_watch import LEADER
from mesosctl.runtime.zookeeper import Transaction, ZkSession
from mesosctl.storage.store import SqliteStore

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


class Store(Protocol):
    """What both of them are."""

    def load(self, table: str) -> dict[str, dict[str, Any]]: ...

    def apply(self, operations: list[Put | Delete]) -> None: ...


@dataclass
class Seats:
    """Seats at one place, closed at the end of the test."""

    place: ZkPlace
    taken: list[Seat]

    def take(self) -> Seat:
        """Lead, whoever else believes to."""
        session = ZkSession(self.place)
        session.start(20)
        mine = session.create_sequential(f"{CANDIDATES}/m-", b"")
        seat = Seat(session, mine, "c")
        self.taken.append(seat)
        seat.take()
        return seat


@pytest.fixture
def seats(place: ZkPlace) -> Iterator[Seats]:
    """No seat is taken yet."""
    made = Seats(place, [])
    yield made
    for seat in made.taken:
        seat.close()


@pytest.fixture(params=["sqlite", "zookeeper"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Opens the same store, again and again."""
    if request.param == "sqlite":
        return lambda: SqliteStore.open(tmp_path / "state", "master", 1)
    seats: Seats = request.getfixturevalue("seats")

    def again() -> Store:
        for seat in seats.taken:
            seat.close()
        return seats.take().store

    return again


VALUE = {"name": "x", "bytes": b"\xff", "list": [1, -(2**62), None, 1.5], "text": "\udcff"}
KEYS = [
    "",
    ".",
    "..",
    "a/b",
    "%",
    "%2E",
    "zookeeper",
    "\u00fc\u4e2d",
    "x" * 500,
    " ",
    "~",
]


def test_what_was_applied_is_there_after_opening_again(opened: Callable[[], Store]) -> None:
    """In order, whole, and without what was deleted."""
    store = opened()
    store.apply([Put("jobs", "b", VALUE), Put("jobs", "a", {}), Put("tasks", "b", {"n": 1})])
    store.apply([Delete("tasks", "b"), Delete("tasks", "never there"), Put("jobs", "c", {})])
    store.apply([])
    again = opened()
    assert again.load("jobs") == {"a": {}, "b": VALUE, "c": {}}
    assert list(again.load("jobs")) == ["a", "b", "c"]
    assert again.load("tasks") == {} and again.load("unheard_of") == {}
    again.apply([Put("jobs", "a", {"n": 2}), Delete("jobs", "b"), Put("tasks", "b", {})])
    third = opened()
    assert third.load("jobs") == {"a": {"n": 2}, "c": {}} and third.load("tasks") == {"b": {}}


def test_later_operations_of_a_pass_win(opened: Callable[[], Store]) -> None:
    """Whatever their order, and whether the record was there before or not."""
    store = opened()
    store.apply([Put("t", "x", {"n": 1}), Delete("t", "x"), Put("t", "x", {"n": 2})])
    store.apply([Put("t", "y", {}), Put("t", "x", {"n": 3}), Delete("t", "y"), Put("u", "z", {})])
    store.apply([Delete("t", "x"), Put("t", "x", {"n": 4}), Put("t", "w", {}), Delete("t", "w")])
    assert opened().load("t") == {"x": {"n": 4}}


def test_any_key_comes_back(opened: Callable[[], Store]) -> None:
    """Names of nodes have rules of their own, which no key has to know."""
    opened().apply([Put("t", key, {"key": key}) for key in KEYS])
    assert opened().load("t") == {key: {"key": key} for key in sorted(KEYS)}


def test_a_pass_is_kept_as_a_whole_or_not_at_all(opened: Callable[[], Store]) -> None:
    """And a store that failed once takes nothing more."""
    store = opened()
    store.apply([Put("t", "x", {"n": 1})])
    with pytest.raises(StorageFailed):
        store.apply([Put("t", "x", {"n": 2}), Put("t", "y", {"bad": object()})])
    with pytest.raises(StorageFailed):
        store.apply([Put("t", "z", {})])
    assert opened().load("t") == {"x": {"n": 1}}


def test_a_deposed_leader_writes_nothing(seats: Seats) -> None:
    """The successor has raised the epoch: not one byte of the older one's arrives."""
    old = seats.take()
    old.store.apply([Put("t", "x", {"n": 1})])
    new = seats.take()
    assert (old.epoch, new.epoch) == (1, 2)
    with pytest.raises(StorageFailed, match="BadVersion"):
        old.store.apply([Put("t", "x", {"n": 2}), Put("t", "y", {})])
    with pytest.raises(StorageFailed, match="before"):
        old.store.apply([Put("t", "z", {})])
    new.store.apply([Put("t", "w", {})])
    assert seats.take().store.load("t") == {"w": {}, "x": {"n": 1}}


def test_a_leader_whose_session_ended_writes_nothing(seats: Seats) -> None:
    """Also if nobody has taken over yet."""
    old = seats.take()
    old.session.close()
    with pytest.raises(StorageFailed):
        old.store.apply([Put("t", "x", {})])
    assert seats.take().store.load("t") == {}


def test_a_leader_that_is_late_does_not_even_try(seats: Seats) -> None:
    """The fence stands before the write, too."""
    old = seats.take()
    old.fence.lose("a test says so")
    with pytest.raises(StorageFailed, match="a test says so"):
        old.store.apply([Put("t", "x", {})])


def test_who_leads_is_told_only_by_who_does(seats: Seats) -> None:
    """A deposed one must not send everybody to itself."""
    old, new = seats.take(), seats.take()
    with pytest.raises(Exception, match="transaction"):
        old.announce("tcp://127.0.0.1:1", "k")
    assert new.session.get(LEADER) is None


def test_a_pass_larger_than_a_request_is_split(seats: Seats) -> None:
    """ZooKeeper takes 1 MiB at a time; a cluster that registers anew may need more in one pass."""
    seat = seats.take()
    puts = [Put("t", f"{number:05}", {"fill": "x" * 2_000}) for number in range(1_500)]
    seat.store.apply(list(puts))
    seat.store.apply([Delete("t", put.key) for put in puts[:700]])
    assert list(seats.take().store.load("t")) == [put.key for put in puts[700:]]
    with pytest.raises(StorageFailed, match="too many"):
        seats.taken[-1].store.apply([Put("t", "x", {"fill": "x" * 2_000_000})])


def test_ten_thousand_records_are_read_quickly(seats: Seats) -> None:
    """A new leader reads all of them before it offers anything. The figure is in the output."""
    writer = seats.take()
    for start in range(0, 10_000, 500):
        keys = [f"A{number:010x}" for number in range(start, start + 500)]
        writer.store.apply([Put("agents", key, {"key": "k" * 40, "name": key}) for key in keys])
    writer.close()
    began = time.monotonic()
    store = seats.take().store
    print(f"took over with {len(store.load('agents'))} records in {time.monotonic() - began:.2f} s")
    assert len(store.load("agents")) == 10_000


def test_a_damaged_record_is_named(seats: Seats) -> None:
    """It never means that the agent was not admitted."""
    seats.take().store.apply([Put("t", "x", {})])
    session = seats.taken[0].session
    session.commit(Transaction().set(f"{REGISTRY}/t/x", b"\xc1"), 5)
    with pytest.raises(StorageFailed, match="/registry/t/x is damaged"):
        ZkStore(session, 1, seats.taken[0].fence)
    assert session.get(EPOCH) == (b"1", 1)
