"""Where commands are served: their sessions, their keys, their requests and watches.

Rules: a request is carried out only once its key is known; until then it waits, not longer than
the master is given for its verdict. A key that is refused loses its sessions.
"""

from __future__ import annotations

from mesosctl.core.batch.clients import Caller, Clients
from mesosctl.core.batch.fitting import Fitting
from mesosctl.core.batch.keys import HeldRequest, KeyBook, KeyDecided
from mesosctl.core.batch.locating import Locator
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.updates import Outbox
from mesosctl.core.batch.watching import Watches
from mesosctl.core.driver import FrameworkDriver
from mesosctl.core.machine import Close, Effect, NewId, Now, Received
from mesosctl.core.session import ServerSessions
from mesosctl.errors import PeerError
from mesosctl.model.cluster import Principal
from mesosctl.protocol.messages.batch import ListJobs, ListTasks, LocateLogs, SubmitJob
from mesosctl.protocol.messages.explain import ExplainTasks, Fits
from mesosctl.protocol.messages.query import WhoIs
from mesosctl.protocol.messages.session import Bye


class Counter:
    """The batch framework's side of every conversation with a command."""

    def __init__(
        self,
        driver: FrameworkDriver,
        queue: Queue,
        outbox: Outbox,
        outlook: Outlook,
        role: str,
        cluster: str,
        new_id: NewId,
    ) -> None:
        self.driver = driver
        self.sessions = ServerSessions(cluster, 0)
        self.keys = KeyBook()
        send = self.sessions.send
        self.watches = Watches(queue, send)
        self.clients = Clients(queue, outbox, self.watches, outlook, role, send)
        self.locator = Locator(queue, new_id, send)
        self.fitting = Fitting(queue, outlook, self.watches, new_id)
        self._outlook = outlook

    def receive(self, event: Received, now: Now) -> list[Effect]:
        """Take an envelope from a command."""
        message, effects = self.sessions.receive(event, now)
        if event.peer not in self.sessions:
            self.watches.drop(event.peer)
        if message is None or isinstance(message, Bye):
            return effects
        seq = self.sessions.answered(event.peer)
        return [*effects, *self._request(HeldRequest(event.peer, seq, message), now)]

    def _request(self, request: HeldRequest, now: Now, is_answered: bool = False) -> list[Effect]:
        """Carry a request out, or hold it until the master has said what it is to tell.

        `is_answered`: it has waited for that already.
        """
        if request.peer not in self.sessions:
            return []
        key = self.sessions.key(request.peer)
        principal = self.keys.find(key, now, self.driver.is_registered)
        try:
            if isinstance(principal, bool):
                if self.keys.hold(key, request, now):
                    return []
                raise PeerError("unavailable", "too many requests wait for the master's verdict")
            if not _is_allowed(principal) or principal is None:
                raise PeerError("not-permitted", "this key may not use the batch framework")
            caller = Caller(request.peer, request.seq, key, principal)
            held = None if is_answered else self._ask_first(caller, request, now)
            if held is not None:
                return held
            if isinstance(request.message, LocateLogs):
                return self.locator.locate(caller, request.message, self.driver, self._outlook, now)
            return self.clients.handle(caller, request.message, now)
        except PeerError as error:
            return self.clients.refuse(request.peer, request.seq, error)

    def _ask_first(self, caller: Caller, request: HeldRequest, now: Now) -> list[Effect] | None:
        """What is to be asked of the master before an answer tells reasons; None: nothing."""
        match request.message:
            case ListJobs() | ListTasks():
                jobs = self.fitting.waiting()
            case ExplainTasks():
                jobs = self.clients.waiting_of(caller, request.message)
            case SubmitJob(dry_run=True):
                jobs = [self.clients.drafted(caller, request.message, now)]
            case _:
                return None
        return self.fitting.hold(jobs, request, self.driver, now)

    def fits_answered(self, message: Fits, now: Now) -> list[Effect]:
        """The master said how what waits would fit."""
        effects: list[Effect] = []
        for request in self.fitting.answered(message.request, message.fits, now):
            effects += self._request(request, now, is_answered=True)
        return effects

    def drop(self, peer: str) -> None:
        """The connection of a command is gone."""
        self.sessions.drop(peer)
        self.watches.drop(peer)

    def key_asked(self, key: str, now: Now) -> list[Effect]:
        """A connection with this key waits for a verdict."""
        principal = self.keys.find(key, now, self.driver.is_registered)
        if isinstance(principal, bool):
            self.keys.decide(key, now)
            return []
        return [KeyDecided(key, _is_allowed(principal))]

    def key_answered(self, key: str, principal: Principal | None, now: Now) -> list[Effect]:
        """The master said who a key is."""
        is_asked, held = self.keys.answer(key, principal, now)
        allowed = _is_allowed(principal)
        effects: list[Effect] = [KeyDecided(key, allowed)] if is_asked else []
        for request in held:
            effects += self._request(request, now)
        if not allowed:
            for peer in self.sessions.peers():
                if self.sessions.key(peer) == key:
                    effects += [*self.sessions.reset(peer, "replaced"), Close(peer)]
                    self.watches.drop(peer)
        return effects

    def questions(self, now: Now) -> list[Effect]:
        """What is to be asked of the master about keys, and what waits; it must be connected."""
        effects: list[Effect] = []
        for key in self.keys.to_ask:
            effects += self.driver.ask(WhoIs(key))
        self.keys.to_ask.clear()
        return [*effects, *self.fitting.refresh(self.driver, now)]

    def expire(self, now: Now) -> list[Effect]:
        """Give up on silent sessions and on questions that were not answered."""
        effects: list[Effect] = []
        for peer, _ in self.sessions.expire(now):
            self.watches.drop(peer)
            effects.append(Close(peer))
        live = [self.sessions.key(peer) for peer in self.sessions.peers()]
        for held in self.keys.expire(live, now, self.driver.is_registered):
            # A connection that waits for the verdict ends without one, and is tried again.
            error = PeerError("unavailable", "the master does not say who this key is")
            for request in held:
                effects += self.clients.refuse(request.peer, request.seq, error)
        for request in self.fitting.expire(now):
            effects += self._request(request, now, is_answered=True)
        return [*effects, *self.locator.expire(now)]

    def deadline(self) -> float | None:
        """When `expire`, or a push to the watchers, is due."""
        times = [
            self.sessions.deadline(),
            self.keys.deadline(),
            self.locator.deadline(),
            self.fitting.deadline(),
            self.watches.deadline(),
        ]
        return min((time for time in times if time is not None), default=None)


def _is_allowed(principal: Principal | None) -> bool:
    return principal is not None and principal.may_be("client")
