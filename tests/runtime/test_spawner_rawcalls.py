"""rawcalls: one thread changes, the others do not, and no number is guessed."""

from __future__ import annotations

import os
import threading

import pytest

from mesosctl.runtime import rawcalls


@pytest.mark.parametrize(("machine", "pointer_bytes"), [("riscv64", 8), ("x86_64", 4), ("", 8)])
def test_other_machines_are_refused_by_name(machine: str, pointer_bytes: int) -> None:
    """A wrong number is some other system call, so an unknown machine is an error."""
    with pytest.raises(rawcalls.UnsupportedMachine, match=f"on {machine} .*aarch64 and x86_64"):
        rawcalls.numbers_for(machine, pointer_bytes)


def test_both_machines_have_the_same_calls() -> None:
    """A call missing from one table would fail only on the machine nobody tests on."""
    tables = [rawcalls.numbers_for(machine, 8) for machine in ("x86_64", "aarch64")]
    assert sorted(tables[0]) == sorted(tables[1])
    assert all(len(set(table.values())) == len(table) for table in tables)


def test_directory_and_umask_become_the_threads_own() -> None:
    """A launch changes its directory; the rest of the process must not move with it."""
    before = os.getcwd()
    seen: list[str] = []

    def leave() -> None:
        rawcalls.unshare(rawcalls.CLONE_FS)
        os.chdir("/")
        seen.append(os.getcwd())

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert (seen, os.getcwd()) == (["/"], before)


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 2**32])
def test_ids_that_mean_no_change_are_refused(value: int) -> None:
    """The kernel takes 2**32 - 1 for 'leave it as it is', which for root is root."""
    with pytest.raises(ValueError, match="not a user or group id"):
        rawcalls.setresuid(value, value, value)
    with pytest.raises(ValueError, match="not a user or group id"):
        rawcalls.setgroups([value])


def test_errors_carry_the_call_and_the_number() -> None:
    """A refusal that does not say which call it was cannot be acted on."""
    with pytest.raises(OSError, match="prctl: Invalid argument"):
        rawcalls.prctl(-1)


@pytest.mark.root
def test_ids_change_in_one_thread_only() -> None:
    """The library's calls would change every thread of the spawner."""
    seen: list[tuple[object, ...]] = []

    def become() -> None:
        rawcalls.setgroups([7, 8])
        rawcalls.setresgid(65534, 65534, 0)
        rawcalls.setresuid(65534, 65534, 0)
        seen.append((os.getresuid(), os.getresgid(), os.getgroups()))

    before = (os.getresuid(), os.getresgid(), os.getgroups())
    thread = threading.Thread(target=become)
    thread.start()
    thread.join()
    assert seen == [((65534, 65534, 0), (65534, 65534, 0), [7, 8])]
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
