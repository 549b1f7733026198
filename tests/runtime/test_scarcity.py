"""Shortages are told for what they are."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mesosctl.errors import MesosctlError
from mesosctl.runtime import scarcity


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """A process with all the descriptors it may have."""
    # What earlier tests left to the collector must not give a descriptor back in the middle.
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    taken: list[int] = []
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


# A process of its own: threads and callbacks that other tests left would close something here.
LOOK_WITHOUT_DESCRIPTORS = """
import os, resource
from mesosctl.runtime import scarcity
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.dup(0)
except OSError:
    pass
try:
    print(scarcity.find_user("root"))
except Exception as error:
    print(type(error).__name__, error.errno)
"""


def test_a_shortage_of_descriptors_is_told_once(few_descriptors: None) -> None:
    """A daemon that lets nobody in any more has to say why; not in each of its passes."""
    told: list[str] = []
    watch = scarcity.DescriptorWatch(0, lambda level, text: told.append(f"{level} {text}"))
    watch.look()
    watch.look()
    assert len(told) == 1 and told[0].startswith("error") and "LimitNOFILE" in told[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft + 20, hard))
    watch.look()
    watch.look()
    assert told[1:] == ["info there are file descriptors again"]


def test_a_user_is_not_missing_because_a_descriptor_is() -> None:
    """The task would fail for good, with a lie."""
    program = [sys.executable, "-c", LOOK_WITHOUT_DESCRIPTORS]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", str(errno.EMFILE)]


def test_a_user_that_does_not_exist_is_not_found() -> None:
    """That is the other answer."""
    assert scarcity.find_user("root").pw_uid == 0
    with pytest.raises(KeyError):
        scarcity.find_user("nobody-of-this-name")


def test_without_threads_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq would abort with the name of a file of its own."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(MesosctlError, match="ulimit -u"):
        scarcity.make_context()


def test_the_limit_of_descriptors_is_raised_to_what_is_allowed() -> None:
    """The usual 1,024 is less than a master has agents."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        scarcity.raise_descriptor_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1] and soft == min(hard, scarcity.DESCRIPTORS_MAX)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
