"""Frameworks are told of a drain: other people's schedulers by a hook, users of `run` in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mesosctl.api import Driver, InverseOffer, Scheduler
from mesosctl.api.driver import _Machine
from mesosctl.core.machine import Now, Received, Send, Started
from mesosctl.core.oneshot.events import Note
from mesosctl.model.cluster import FrameworkInfo
from mesosctl.model.ids import AgentId, FrameworkId, OfferId
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import Subscribed
from mesosctl.protocol.messages.maintenance import (
    AnswerInverseOffers,
    InverseOffers,
    RescindInverseOffers,
)
from tests.core.test_oneshot import Shell

NOW = Now(1.0, 1e9)
OFFER = InverseOffer(OfferId("I1"), AgentId("A1"), "node7", 600.0, 1e9 + 600, "kernel")


class Mover(Scheduler):
    """Leaves what it is asked to leave, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def inverse_offers(self, driver: Driver, offers: Sequence[InverseOffer]) -> None:
        self.told += offers
        self.machine.do(
            self.machine.driver.answer_inverse([one.inverse_offer_id for one in offers])
        )

    def inverse_rescinded(self, driver: Driver, offer_ids: Sequence[OfferId]) -> None:
        self.told += offer_ids

    machine: _Machine


def test_a_scheduler_is_asked_to_leave_and_may_answer() -> None:
    """The hook comes with the time it has; what it answers reaches the master."""
    mover = Mover()
    info = FrameworkInfo(FrameworkId(""), "mover", "me")
    machine = mover.machine = _Machine(None, mover, info, None, False)  # type: ignore[arg-type]
    [hello] = [one for one in machine.handle(Started(), NOW) if isinstance(one, Send)]
    sent: list[Message] = []
    messages = [
        Subscribed(FrameworkId("F1"), 5.0, "test"),
        InverseOffers((OFFER,)),
        RescindInverseOffers((OfferId("I1"),)),
    ]
    for number, message in enumerate(messages, start=1):
        envelope = Envelope("c", 1, hello.envelope.session, number, message)
        effects = machine.handle(Received("master", "", envelope), NOW)
        sent += [one.envelope.message for one in effects if isinstance(one, Send)]
    assert mover.told == [OFFER, OfferId("I1")]
    assert sent == [AnswerInverseOffers((OfferId("I1"),))]
    assert machine.driver.inverse_offers == {}


@pytest.mark.parametrize(
    ("deadline_s", "says"),
    [
        (600.0, "agent node7 is drained (kernel): the task is ended in 600 s"),
        (None, "agent node7 is drained (kernel); the task may finish"),
    ],
)
def test_run_says_that_its_agent_is_drained(deadline_s: float | None, says: str) -> None:
    """Whoever sits before it can decide what to do about it."""
    from dataclasses import replace

    shell = Shell()
    shell.launch()
    shell.did(Note)
    shell.tell("master", InverseOffers((replace(OFFER, deadline_s=deadline_s),)))
    assert [note.text for note in shell.did(Note)] == [says]
