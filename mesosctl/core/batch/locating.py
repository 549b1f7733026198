"""Where the streams of tasks are read: each agent is asked to let the caller's key in.

Rules: only who sees a job gets at its streams. A request is answered when every agent answered, or
after LOCATE_ANSWER_S with a problem in the place of what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from mesosctl.core.batch.clients import Caller
from mesosctl.core.batch.launch import stream_path
from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import Job
from mesosctl.core.batch.selectors import each, select
from mesosctl.core.batch.views import task_view
from mesosctl.core.driver import FrameworkDriver
from mesosctl.core.machine import Effect, NewId, Now
from mesosctl.errors import PeerError
from mesosctl.model.ids import AgentId
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import LocateLogs, LogSource, LogSources

LOCATE_ANSWER_S = 5.0
SOURCES_MAX = 2_000
NO_ANSWER = "its agent does not answer"


@dataclass(slots=True)
class _Open:
    peer: str
    seq: int
    until: float
    sources: list[LogSource]
    missing: dict[str, int] = field(default_factory=dict)


class Locator:
    """Requests for streams that wait for agents."""

    def __init__(
        self,
        queue: Queue,
        new_id: NewId,
        send: Callable[[str, Message], list[Effect]],
    ) -> None:
        self._queue = queue
        self._new_id = new_id
        self._send = send
        self._requests: dict[str, _Open] = {}
        self._asked: dict[str, str] = {}

    def locate(
        self,
        caller: Caller,
        message: LocateLogs,
        driver: FrameworkDriver,
        outlook: Outlook,
        now: Now,
    ) -> list[Effect]:
        """Ask the agents, or answer at once where nothing is to be asked. Raises PeerError."""
        if not message.selectors:
            raise PeerError("invalid", "no task is named")
        selection = select(self._queue, caller.principal, message.selectors, ended=True)
        number_of_tasks = sum(
            last - first + 1 for ranges in selection.values() for first, last in ranges
        )
        if number_of_tasks > SOURCES_MAX:
            raise PeerError("invalid", f"that is more than {SOURCES_MAX} tasks; name fewer")
        request = _Open(caller.peer, caller.seq, now.mono + LOCATE_ANSWER_S, [])
        effects: list[Effect] = []
        for number, ranges in selection.items():
            job = self._queue.jobs[number]
            if job.faded:
                raise PeerError("not-found", f"job {number}: {self._queue.faded_text}")
            for position in each(ranges):
                effects += self._source(
                    request, job, position, message.attempt, caller.key, driver, outlook
                )
        if not request.missing:
            return [*effects, *self._answer(request)]
        name = self._new_id()
        self._requests[name] = request
        self._asked.update(dict.fromkeys(request.missing, name))
        return effects

    def _source(
        self,
        request: _Open,
        job: Job,
        position: int,
        attempt: int | None,
        key: str,
        driver: FrameworkDriver,
        outlook: Outlook,
    ) -> list[Effect]:
        view = task_view(job, position, outlook)
        source = LogSource(view, framework_id=driver.framework_id)
        agent_id, problem = _agent_of(job, position, attempt)
        if not problem and not driver.is_registered:
            problem = "the batch framework is not connected to the master"
        if problem:
            request.sources.append(replace(source, problem=problem))
            return []
        number = attempt if attempt is not None else view.attempt
        wire_id = job.wire_id(position, number)
        task, spec = job.tasks[position], job.spec
        source = replace(
            source,
            stdout=stream_path(spec.stdout, job, task),
            stderr=stream_path(spec.stderr, job, task),
            log_max_bytes=spec.log_max_bytes,
        )
        asked = self._new_id()
        request.missing[asked] = len(request.sources)
        request.sources.append(replace(source, wire_id=wire_id, problem=NO_ANSWER))
        return driver.admit(asked, wire_id, agent_id, key)

    def answered(self, asked: str, address: str, public_key: str, problem: str) -> list[Effect]:
        """An agent answered one of the questions."""
        request = self._requests.get(self._asked.pop(asked, ""))
        if request is None:
            return []
        at = request.missing.pop(asked)
        request.sources[at] = replace(
            request.sources[at], address=address, public_key=public_key, problem=problem
        )
        if request.missing:
            return []
        self._requests = {n: other for n, other in self._requests.items() if other is not request}
        return self._answer(request)

    def expire(self, now: Now) -> list[Effect]:
        """Answer requests that have waited long enough."""
        effects: list[Effect] = []
        for name, request in list(self._requests.items()):
            if now.mono >= request.until:
                del self._requests[name]
                for asked in request.missing:
                    self._asked.pop(asked, None)
                effects += self._answer(request)
        return effects

    def _answer(self, request: _Open) -> list[Effect]:
        return self._send(request.peer, LogSources(request.seq, tuple(request.sources)))

    def deadline(self) -> float | None:
        """When `expire` has something to do."""
        return min((request.until for request in self._requests.values()), default=None)


def _agent_of(job: Job, position: int, attempt: int | None) -> tuple[AgentId, str]:
    """The agent of an attempt (None: the latest), or why there is none."""
    task = job.tasks.get(position)
    if task is None or not task.attempt:
        return AgentId(""), "it has not been started"
    if attempt is None or attempt == task.attempt:
        return task.agent_id, ""
    for past in task.past:
        if past.number == attempt:
            return past.agent_id, ""
    return AgentId(""), f"it has had no attempt {attempt} that started"
