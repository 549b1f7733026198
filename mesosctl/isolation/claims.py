"""Things of which an agent has a few and a task gets some for itself, such as GPUs.

Owns who has which, as one symbolic link for each: its name is the thing, its target the container.
Making a link is atomic and fails where there is one, so executors need no other way to agree; and
links outlive them, so that an agent can give back what the tasks of a killed executor had.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from mesosctl.errors import LimitUnavailable

# A container that nobody lists may just not have been started yet, where processes alone tell.
SETTLED_S = 60.0


class Claims:
    """The things of one kind below `directory`, which is made when it is needed.

    `what` is what people call one of them.
    """

    def __init__(self, directory: str, what: str) -> None:
        self._directory = directory
        self._what = what

    def take(self, container: str, things: Iterable[str], count: int) -> tuple[str, ...]:
        """Claim `count` of these, the first that are free. Raises LimitUnavailable: none then."""
        taken: list[str] = []
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            for thing in things:
                if len(taken) == count:
                    break
                try:
                    os.symlink(container, f"{self._directory}/{thing}")
                    taken.append(thing)
                except FileExistsError:
                    continue
        except OSError as error:
            self._drop(taken)
            text = f"cannot claim a {self._what} in {self._directory}: {error.strerror}"
            raise LimitUnavailable(text, "make it writable for the agent") from error
        if len(taken) < count:
            self._drop(taken)
            raise LimitUnavailable(
                f"only {len(taken)} of {count} {self._what}s are free",
                "give the agent no more of them in --resources than there are",
            )
        return tuple(taken)

    def give_back(self, container: str) -> None:
        """Drop the claims of a container; harmless without any."""
        self._drop([thing for thing, owner in self._claimed() if owner == container])

    def of(self, container: str) -> tuple[str, ...]:
        """What a container has, sorted."""
        return tuple(sorted(thing for thing, owner in self._claimed() if owner == container))

    def settled(self) -> tuple[str, ...]:
        """The containers whose claims are older than SETTLED_S, each once."""
        before = time.time() - SETTLED_S
        found: dict[str, None] = {}
        for thing, owner in self._claimed():
            try:
                if os.lstat(f"{self._directory}/{thing}").st_mtime <= before:
                    found[owner] = None
            except FileNotFoundError:
                continue
        return tuple(found)

    def _claimed(self) -> list[tuple[str, str]]:
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return []
        found: list[tuple[str, str]] = []
        for name in names:
            try:
                found.append((name, os.readlink(f"{self._directory}/{name}")))
            except OSError:
                continue
        return found

    def _drop(self, things: Iterable[str]) -> None:
        for thing in things:
            try:
                os.unlink(f"{self._directory}/{thing}")
            except FileNotFoundError:
                continue
