"""Frameworks at the master: what comes late of one that counts its lives changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.driver import Incarnation, SubscriptionFailed
from mesosctl.core.machine import Received, Send
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.framework import FrameworkError, Subscribe, Subscribed
from mesosctl.protocol.messages.session import Reset
from tests.core.master.conftest import Scheduler


def answers(cluster: Any, peer: str, message: Subscribe) -> list[object]:
    """What this message causes, along a connection that nobody serves here."""
    envelope = Envelope("", 0, "late", 1, message)
    effects = cluster.master.handle(Received(peer, "op", envelope), cluster.now)
    cluster.master.check()
    return [one.envelope.message for one in effects if isinstance(one, Send)]


@pytest.mark.parametrize("late", [(1, 9), (2, 1), (2, 2)])
def test_a_late_subscription_throws_nobody_out(cluster: Any, late: tuple[int, int]) -> None:
    """Thrown out twice, the batch framework would believe that there is another one, and stop."""
    one = cluster.framework("one", incarnation=Incarnation(2, 1))
    assert answers(cluster, "late", Subscribe(one.driver.info, False, None, *late)) == [
        Reset("replaced")
    ]
    assert one.took(SubscriptionFailed) == []
    assert one.driver.is_registered


@pytest.mark.parametrize("next_one", [(2, 3), (3, 1), (0, 0)])
def test_a_later_subscription_takes_over(cluster: Any, next_one: tuple[int, int]) -> None:
    """A newer one, and one that does not count, is believed: it is how a framework fails over."""
    one = cluster.framework("one", incarnation=Incarnation(2, 1))
    told = answers(cluster, "next", Subscribe(one.driver.info, False, None, *next_one))
    assert [type(message) for message in told[:2]] == [FrameworkError, Subscribed]


def test_each_session_of_a_life_has_its_number(cluster: Any) -> None:
    """Also one of another driver of the same process: the count goes on."""
    counted = Incarnation(1)
    one = cluster.framework("one", incarnation=counted)
    cluster.cut(one)
    cluster.connect(one)
    assert counted.openings == 2
    framework = cluster.master.state.frameworks[one.driver.framework_id]
    assert framework.incarnation == (1, 2)


def test_a_framework_that_counts_no_lives_is_known_by_its_processes(cluster: Any) -> None:
    """What came late of the same process, or of one before it, throws nobody out."""
    first = cluster.framework("one")
    cluster.cut(first)
    cluster.connect(first)
    hello = cluster.master.state.frameworks[first.driver.framework_id]
    early = Subscribe(first.driver.info, opening=1, process=hello.process)
    assert answers(cluster, "late", early) == [Reset("replaced")]
    assert first.driver.is_registered
    second = Scheduler(cluster, first.driver.info)
    cluster.connect(second)
    [failed] = first.took(SubscriptionFailed)
    assert failed.code == "failed-over"
    [refusal] = answers(cluster, "ghost", replace(early, opening=7))
    assert isinstance(refusal, FrameworkError) and refusal.code == "failed-over"
    assert second.took(SubscriptionFailed) == [] and second.driver.is_registered
