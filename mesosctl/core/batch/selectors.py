"""What a command's selectors name: `12`, `12.3`, `12.0-9`, `10-14`, `last`, `all`, `name:GLOB`.

Rules: a caller sees the jobs of users it may run as, an operator sees all; what is not seen does
not exist. `last`, `all` and `name:` mean the caller's own jobs. A selector that names nothing is an
error, except `all`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from mesosctl.core.batch.queue import Queue
from mesosctl.core.batch.records import Job
from mesosctl.core.batch.spans import merged
from mesosctl.errors import PeerError
from mesosctl.model.cluster import Principal

SELECTORS_MAX = 10_000
GLOB_CHARS_MAX = 200
_JOBS = re.compile(r"(\d{1,15})(?:-(\d{1,15}))?\Z", re.ASCII)
_TASKS = re.compile(r"(\d{1,15})\.(\d{1,10})(?:-(\d{1,10}))?\Z", re.ASCII)

Positions = list[tuple[int, int]]
Selection = dict[int, Positions]
"""Closed ranges of positions for each job, both ascending."""


def may_see(job: Job, principal: Principal) -> bool:
    """Whether a caller sees this job and may act on it."""
    return "operator" in principal.kinds or principal.may_run_as(job.spec.user)


def is_own(job: Job, principal: Principal) -> bool:
    """Whether this is one of the caller's own jobs."""
    if not may_see(job, principal):
        return False
    return job.owner == principal.name or job.spec.user in principal.users[:1]


def select(
    queue: Queue, principal: Principal, selectors: Sequence[str], *, ended: bool
) -> Selection:
    """What the selectors name. `ended`: `all` means ended jobs, too.

    Raises PeerError `not-found` or `invalid`, naming the first selector that is wrong.
    """
    if len(selectors) > SELECTORS_MAX:
        raise PeerError("invalid", f"more than {SELECTORS_MAX} selectors")
    found: dict[int, Positions] = {}
    for selector in selectors:
        for job, ranges in _one(queue, principal, selector, ended):
            found.setdefault(job.number, []).extend(ranges)
    return {number: merged(found[number]) for number in sorted(found)}


def _one(
    queue: Queue, principal: Principal, selector: str, ended: bool
) -> Iterator[tuple[Job, Positions]]:
    if selector in ("all", "last") or selector.startswith("name:"):
        yield from _own(queue, principal, selector, ended)
    elif match := _JOBS.match(selector):
        yield from _by_number(queue, principal, selector, match)
    elif match := _TASKS.match(selector):
        yield _by_index(queue, principal, selector, match)
    else:
        raise PeerError(
            "invalid", f"{selector[:60]!r} is no selector: say 12, 12.3, last, all or name:GLOB"
        )


def _own(
    queue: Queue, principal: Principal, selector: str, ended: bool
) -> Iterator[tuple[Job, Positions]]:
    if selector == "last":
        for job in reversed(queue.jobs.values()):
            if is_own(job, principal):
                yield job, whole(job)
                return
        raise PeerError("not-found", "there is no last job: none of yours is known")
    glob = selector[5:] if selector != "all" else "*"
    if len(glob) > GLOB_CHARS_MAX:
        raise PeerError("invalid", f"a pattern is over {GLOB_CHARS_MAX} characters")
    is_all = selector == "all"
    nothing = not is_all
    for job in queue.jobs.values():
        is_meant = (ended or not job.has_ended()) if is_all else fnmatchcase(job.spec.name, glob)
        if is_meant and is_own(job, principal):
            nothing = False
            yield job, whole(job)
    if nothing:
        raise PeerError("not-found", f"no job of yours is named {glob!r}")


def _by_number(
    queue: Queue, principal: Principal, selector: str, match: re.Match[str]
) -> Iterator[tuple[Job, Positions]]:
    first = int(match[1])
    last = min(int(match[2]), queue.next_number) if match[2] else first
    nothing = True
    for number in range(first, last + 1):
        job = queue.jobs.get(number)
        if job is not None and may_see(job, principal):
            nothing = False
            yield job, whole(job)
    if nothing:
        what = f"no jobs {selector}" if match[2] else f"no job {selector}"
        raise PeerError("not-found", what)


def _by_index(
    queue: Queue, principal: Principal, selector: str, match: re.Match[str]
) -> tuple[Job, Positions]:
    job = queue.jobs.get(int(match[1]))
    if job is None or not may_see(job, principal):
        raise PeerError("not-found", f"no job {match[1]}")
    if job.faded:
        raise PeerError("not-found", f"task {selector}: {queue.faded_text}")
    first = int(match[2])
    found = job.spans.within(first, int(match[3]) if match[3] else first)
    if found is None:
        raise PeerError("not-found", f"job {match[1]} has no task {selector}")
    return job, [found]


def whole(job: Job) -> Positions:
    """All positions of a job."""
    return [(0, job.count - 1)]


def is_whole(job: Job, positions: Positions) -> bool:
    """Whether these are all positions of the job."""
    return positions == [(0, job.count - 1)]


def is_in(position: int, positions: Positions) -> bool:
    """Whether a position is one of these."""
    return any(first <= position <= last for first, last in positions)


def each(positions: Positions) -> Iterator[int]:
    """Every single position."""
    for first, last in positions:
        yield from range(first, last + 1)
