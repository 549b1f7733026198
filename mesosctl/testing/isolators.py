"""The contract of isolators as a suite: what each must keep, whatever it limits.

Derive a class in a test file and say how to make one, and what a task asks of it:

    class TestMine(IsolatorContract):
        def make(self) -> Isolator:
            return MyIsolator()

        def limits(self) -> Limits:
            return replace(super().limits(), others={"licences": 1000})

pytest collects the methods; without pytest, `run_contract(TestMine)` calls all of them. Real
processes are started, in containers of an agent that nobody else has; everything is removed
afterwards. An isolator that this host cannot have is skipped, with the isolator's own reason.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import (
    AGENT_ENV,
    CONTAINER_ENV,
    Isolation,
    Isolator,
    JoinPlan,
    Limits,
    Usage,
    open_isolation,
)

MIB = 1 << 20
_WAIT_S = 30.0
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SLEEP = ["/bin/sleep", "600"]


def until(what: Callable[[], object]) -> None:
    """Wait until `what` is true. Raises AssertionError when it does not become so."""
    end_s = time.monotonic() + _WAIT_S
    while not what():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.002)


def launch(plan: JoinPlan, container: str, agent_id: str, argv: list[str]) -> int:
    """Start a program inside a prepared container, as a launcher does; its process id."""
    env = {"PATH": "/usr/bin:/bin", CONTAINER_ENV: container, AGENT_ENV: agent_id}
    env.update(plan.env or {})
    pids: list[int] = []

    def spawn() -> None:
        own = b"%d" % (threading.get_native_id() if plan.by == "thread" else os.getpid())
        for path in plan.files:
            _write(path, own)
        try:
            pids.append(os.posix_spawn(argv[0], argv, env, setsid=True))
        finally:
            for path in plan.home:
                _write(path, own)

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    assert pids, f"{argv[0]} was not started inside {container}"
    return pids[0]


def _write(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


class IsolatorContract:
    """The suite. Override `make`, or `name` for one that is built in; `limits` where it matters."""

    # What is given to `--isolation`; what else a host needs for it may stand before it.
    name = ""
    # As the isolation of the same agent in other processes sees it.
    agent_id = f"contract-{os.getpid()}"
    root = f"mesosctl-contract-{os.getpid()}"

    def make(self) -> Isolator:
        """A new isolator, not yet opened. For a plug-in."""
        raise NotImplementedError

    def limits(self) -> Limits:
        """What a task asks for that concerns this isolator; it must be possible here once."""
        return Limits(500, 64 * MIB, 64)

    @contextmanager
    def opened(self) -> Iterator[tuple[Callable[[], Isolation], Limits]]:
        """How to open the isolation again and again, and limits with a sandbox. Cleans up."""
        base = tempfile.mkdtemp(prefix="mesosctl-contract-", dir=self.directory())
        sandbox = f"{base}/sandbox"
        os.makedirs(os.path.join(sandbox, "tmp"))
        plugins = {} if self.name else {"contract/plug-in": self.make}
        spec = self.name or "posix,contract/plug-in"

        def open_it() -> Isolation:
            return open_isolation(
                spec,
                root=self.root,
                agent_id=self.agent_id,
                state_dir=f"{base}/state",
                plugins=plugins,
            )

        try:
            first = open_it()
        except LimitUnavailable as error:
            shutil.rmtree(base)
            raise unittest.SkipTest(str(error)) from None
        limits = self.limits()
        fields = {name: getattr(limits, name) for name in Limits.__slots__}
        try:
            yield open_it, Limits(**{**fields, "sandbox": sandbox})
        finally:
            for container in first.recover():
                first.kill(container)
                until(lambda name=container: first.cleanup(name))  # type: ignore[misc]
            first.close_root(remove=True)
            shutil.rmtree(base)

    def directory(self) -> str | None:
        """Where the temporary sandboxes are made; None: where temporary files belong."""
        return None

    # --- the rules --------------------------------------------------------------------------------
    def test_it_says_what_it_is(self) -> None:
        """People choose it by name and read what it does not do, each in one line."""
        with self.opened() as (open_it, _):
            isolation = open_it()
            assert all(re.fullmatch(r"\S+", name) for name in isolation.names)
            for sentence in isolation.not_enforced:
                assert sentence == sentence.strip() and "\n" not in sentence and len(sentence) > 9
            assert isolation.sample_interval_s is None or isolation.sample_interval_s >= 0.01

    def test_a_task_runs_through_its_whole_life(self) -> None:
        """Prepare, isolate, watch, usage, cleanup; a task within its limits violates nothing."""
        with self.opened() as (open_it, limits):
            isolation = open_it()
            plan = isolation.prepare("f/t1", limits)
            for name, value in (plan.env or {}).items():
                assert _ENV_NAME.match(name) and isinstance(value, str) and "\0" not in value
            pid = launch(plan, "f/t1", self.agent_id, _SLEEP)
            isolation.started("f/t1", pid)
            assert pid in isolation.pids("f/t1")
            assert isolation.sample() == []
            _check_usage(isolation.usage("f/t1"))
            assert not isolation.cleanup("f/t1"), "a container with a process was removed"
            _finish(isolation, "f/t1", pid)
            assert isolation.recover() == ()

    def test_a_task_that_asks_for_nothing_is_welcome(self) -> None:
        """Most tasks have nothing to do with most isolators."""
        with self.opened() as (open_it, limits):
            isolation = open_it()
            plan = isolation.prepare("f/t1", Limits(100, None, 64, sandbox=limits.sandbox))
            pid = launch(plan, "f/t1", self.agent_id, _SLEEP)
            isolation.started("f/t1", pid)
            _finish(isolation, "f/t1", pid)

    def test_cleanup_is_harmless_whatever_came_before(self) -> None:
        """The end of a task may be handled twice, or in a process that knows nothing of it."""
        with self.opened() as (open_it, limits):
            isolation = open_it()
            assert isolation.cleanup("f/unknown")
            isolation.prepare("f/t1", limits)
            assert isolation.cleanup("f/t1")
            assert isolation.cleanup("f/t1")
            _check_usage(isolation.usage("f/t1"))
            assert isolation.sample() == []

    def test_what_one_gave_back_another_gets(self) -> None:
        """Nothing is kept for a task that is gone: a hundred in turn fit where one did."""
        with self.opened() as (open_it, limits):
            isolation = open_it()
            for number in range(100):
                container = f"f{number % 3}/t{number}"
                isolation.prepare(container, limits)
                assert isolation.cleanup(container)

    def test_another_process_cleans_up(self) -> None:
        """An executor that was killed leaves its tasks to the agent, which opens its own."""
        with self.opened() as (open_it, limits):
            executor, agent = open_it(), open_it()
            plan = executor.prepare("f/t1", limits)
            pid = launch(plan, "f/t1", self.agent_id, _SLEEP)
            executor.started("f/t1", pid)
            until(lambda: agent.recover() == ("f/t1",))
            _finish(agent, "f/t1", pid)
            assert agent.recover() == ()
            again = open_it()
            again.prepare("f/t2", limits)
            assert again.cleanup("f/t2")

    def test_a_recovery_takes_nothing_from_the_living(self) -> None:
        """An agent that looks around while a task runs must not take away what it holds."""
        with self.opened() as (open_it, limits):
            executor, agent = open_it(), open_it()
            plan = executor.prepare("f/t1", limits)
            pid = launch(plan, "f/t1", self.agent_id, _SLEEP)
            executor.started("f/t1", pid)
            for _ in range(3):
                until(lambda: agent.recover() == ("f/t1",))
            assert executor.sample() == []
            _check_usage(executor.usage("f/t1"))
            _finish(executor, "f/t1", pid)

    def test_limits_can_be_changed(self) -> None:
        """The same limits again, and more of what every task has, are never refused."""
        with self.opened() as (open_it, limits):
            isolation = open_it()
            plan = isolation.prepare("f/t1", limits)
            pid = launch(plan, "f/t1", self.agent_id, _SLEEP)
            isolation.started("f/t1", pid)
            isolation.update("f/t1", limits)
            fields = {name: getattr(limits, name) for name in Limits.__slots__}
            isolation.update("f/t1", Limits(**{**fields, "mem_bytes": 128 * MIB, "pids": 128}))
            isolation.update("f/t1", limits)
            assert isolation.sample() == []
            _finish(isolation, "f/t1", pid)


def _finish(isolation: Isolation, container: str, pid: int) -> None:
    isolation.kill(container)
    _, status = os.waitpid(pid, 0)
    assert status == signal.SIGKILL
    isolation.reaped(container, 0.25, 0.125, MIB, 512, 1024, 7)
    until(lambda: isolation.is_empty(container))
    usage = isolation.usage(container)
    _check_usage(usage)
    assert usage.switches >= 7 and usage.io_write_bytes >= 1024, "figures of wait4 were lost"
    until(lambda: isolation.cleanup(container))


def _check_usage(usage: Usage) -> None:
    assert isinstance(usage, Usage)
    for name in Usage.__slots__:
        value = getattr(usage, name)
        assert value is None or value >= 0, f"{name} is {value}"


def run_contract(suite: type[IsolatorContract]) -> list[str]:
    """Call every test of a suite; the names of those that were skipped, with the reason.

    Raises AssertionError, or what an isolator raises.
    """
    skipped: list[str] = []
    for name in sorted(vars(IsolatorContract)):
        if name.startswith("test_"):
            try:
                getattr(suite(), name)()
            except unittest.SkipTest as reason:
                skipped.append(f"{name}: {reason}")
    return skipped
