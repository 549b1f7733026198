"""Who is told of changes, and when.

Rules: the first Changed of a watch tells the present and comes at once; later ones tell what
changed since, not more often than every WATCH_SPACING_S, but the end at once. A present of more
than PRESENT_TASKS_MAX tasks leaves out those that were never attempted: the jobs count them. Many
items go in several messages; the last of them says whether it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field

from mesosctl.core.batch.outlook import Outlook
from mesosctl.core.batch.queue import Place, Queue, Touched
from mesosctl.core.batch.selectors import Selection, each, is_in
from mesosctl.core.batch.views import job_view, outcome, task_view
from mesosctl.core.machine import Effect, Now
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.batch import Changed

# As often as one sees that something has moved. Each time costs both sides a wake-up and a message.
WATCH_SPACING_S = 0.2
PRESENT_TASKS_MAX = 5_000
CHUNK_ITEMS = 1_000
WATCHES_PER_PEER_MAX = 100

SendTo = Callable[[str, Message], list[Effect]]


@dataclass(slots=True)
class Watcher:
    """One watch: what it selected, which of it is still to end, what it has not been told."""

    peer: str
    re: int
    selection: Selection
    tasks: bool
    left: dict[int, None]
    jobs_dirty: dict[int, None]
    tasks_dirty: dict[Place, None] = field(default_factory=dict)
    next_at: float = 0.0
    codes: dict[int, int] = field(default_factory=dict)


class Watches:
    """All watches, found by the jobs they want to hear of."""

    def __init__(self, queue: Queue, send: SendTo) -> None:
        self._queue = queue
        self._send = send
        self._by_job: dict[int, dict[tuple[str, int], Watcher]] = {}
        self._by_peer: dict[str, dict[int, Watcher]] = {}
        self._dirty: dict[tuple[str, int], Watcher] = {}

    def is_watched(self, number: int) -> bool:
        """Whether somebody is told of this job's changes."""
        return number in self._by_job

    def jobs(self) -> Iterable[int]:
        """The jobs that somebody is told of."""
        return self._by_job

    def may_add(self, peer: str) -> bool:
        """Whether this peer may have one more watch."""
        return len(self._by_peer.get(peer, ())) < WATCHES_PER_PEER_MAX

    def add(self, peer: str, re: int, selection: Selection, tasks: bool) -> None:
        """Begin a watch; its first message goes out when the pass ends."""
        watcher = Watcher(
            peer, re, selection, tasks, dict.fromkeys(selection), dict.fromkeys(selection)
        )
        if tasks:
            watcher.tasks_dirty = dict.fromkeys(self._present(selection))
        self._by_peer.setdefault(peer, {})[re] = watcher
        for number in selection:
            self._by_job.setdefault(number, {})[peer, re] = watcher
        self._dirty[peer, re] = watcher

    def _present(self, selection: Selection) -> list[Place]:
        number_of_tasks = sum(
            last - first + 1 for ranges in selection.values() for first, last in ranges
        )
        places = []
        for number, ranges in selection.items():
            if self._queue.jobs[number].faded:
                continue
            records = self._queue.jobs[number].tasks
            if number_of_tasks <= PRESENT_TASKS_MAX:
                places += [(number, position) for position in each(ranges)]
            else:
                places += [(number, at) for at in records if is_in(at, ranges)]
        return places

    def drop(self, peer: str) -> None:
        """Forget the watches of a peer that is gone."""
        for watcher in list(self._by_peer.get(peer, {}).values()):
            self._remove(watcher)

    def _remove(self, watcher: Watcher) -> None:
        name = (watcher.peer, watcher.re)
        self._dirty.pop(name, None)
        for number in watcher.selection:
            watchers = self._by_job.get(number, {})
            watchers.pop(name, None)
            if not watchers:
                self._by_job.pop(number, None)
        own = self._by_peer.get(watcher.peer, {})
        own.pop(watcher.re, None)
        if not own:
            self._by_peer.pop(watcher.peer, None)

    def note(self, touched: Touched) -> None:
        """Remember what changed for those who want to hear of it."""
        if not self._by_job:
            return
        for number in touched.jobs:
            for name, watcher in self._by_job.get(number, {}).items():
                watcher.jobs_dirty[number] = None
                self._dirty[name] = watcher
        for number, position in touched.tasks:
            for watcher in self._by_job.get(number, {}).values():
                if watcher.tasks and is_in(position, watcher.selection[number]):
                    watcher.tasks_dirty[number, position] = None
        for number, first, last in touched.cancels:
            for watcher in self._by_job.get(number, {}).values():
                if watcher.tasks:
                    for position in range(first, last + 1):
                        if is_in(position, watcher.selection[number]):
                            watcher.tasks_dirty[number, position] = None

    def push(self, outlook: Outlook, now: Now) -> list[Effect]:
        """Tell everyone for whom it is time."""
        effects: list[Effect] = []
        for watcher in list(self._dirty.values()):
            self._update_left(watcher)
            if not watcher.left or now.mono >= watcher.next_at:
                effects += self._push_one(watcher, outlook, now)
        return effects

    def _update_left(self, watcher: Watcher) -> None:
        for number in watcher.jobs_dirty:
            if number in watcher.left:
                over, code = outcome(self._queue.jobs[number], watcher.selection[number])
                watcher.codes[number] = code
                if over:
                    del watcher.left[number]

    def _push_one(self, watcher: Watcher, outlook: Outlook, now: Now) -> list[Effect]:
        jobs, text = self._queue.jobs, self._queue.faded_text
        done = not watcher.left
        numbers = sorted(watcher.jobs_dirty)
        places = sorted(watcher.tasks_dirty)
        code = max(watcher.codes.values(), default=0)
        effects: list[Effect] = []
        chunks = max(1, -(-max(len(places), len(numbers)) // CHUNK_ITEMS))
        for chunk in range(chunks):
            part = slice(chunk * CHUNK_ITEMS, (chunk + 1) * CHUNK_ITEMS)
            changed = Changed(
                watcher.re,
                tuple([job_view(jobs[number], outlook, text) for number in numbers[part]]),
                tuple([task_view(jobs[number], at, outlook) for number, at in places[part]]),
                done and chunk + 1 == chunks,
                code,
            )
            effects += self._send(watcher.peer, changed)
        watcher.jobs_dirty.clear()
        watcher.tasks_dirty.clear()
        watcher.next_at = now.mono + WATCH_SPACING_S
        self._dirty.pop((watcher.peer, watcher.re), None)
        if done:
            self._remove(watcher)
        return effects

    def deadline(self) -> float | None:
        """When `push` has something to tell that it held back."""
        return min((watcher.next_at for watcher in self._dirty.values()), default=None)
