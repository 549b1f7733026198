"""Isolators beside the holder: ports, rlimits and namespaces, as far as they need no kernel."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation import Additions, Limits, Place, open_isolation
from mesosctl.isolation.namespaces import PrivatePids, PrivateTmp, may_unshare
from mesosctl.isolation.ports import NetworkPorts
from mesosctl.isolation.rlimits import Rlimits


def limits(**more: object) -> Limits:
    """Limits with some request."""
    return Limits(1000, None, 10, **more)  # type: ignore[arg-type]


def test_ports_are_handed_to_the_task() -> None:
    """All in one variable, and each in one of its own for those who need one."""
    added = NetworkPorts().prepare("f/t", limits(ports=((31000, 31001), (31005, 31005))))
    assert added == Additions(
        {
            "MESOS_PORTS": "31000,31001,31005",
            "MESOS_PORT0": "31000",
            "MESOS_PORT1": "31001",
            "MESOS_PORT2": "31005",
        }
    )
    assert NetworkPorts().prepare("f/t", limits()) is None
    with pytest.raises(LimitUnavailable, match="30001 ports"):
        NetworkPorts().prepare("f/t", limits(ports=((1000, 31000),)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"files": (1, 1)}, "no rlimit 'files'"),
        ({"nofile": (9, 8)}, "soft limit is above"),
        ({"nofile": (1, 1 << 40)}, "cannot be raised above"),
        ({"core": (1, 1)}, "rlimit core cannot be raised above 0"),
    ],
)
def test_rlimits_that_cannot_be_set_refuse_the_task(
    given: dict[str, tuple[int, int]], why: str
) -> None:
    """A soft limit that its task may raise would be none, and root may not raise hard ones here."""
    with pytest.raises(LimitUnavailable, match=why):
        Rlimits().prepare("f/t", limits(rlimits=given))


def test_rlimits_are_handed_to_the_helper() -> None:
    """No limit is written as the helper needs it."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    given: dict[str, tuple[int | None, int | None]] = {"nofile": (64, 64)}
    if hard == resource.RLIM_INFINITY:
        given["cpu"] = (10, None)
    added = Rlimits().prepare("f/t", limits(rlimits=given))
    assert added is not None and added.helper is not None
    expected = {"nofile": [64, 64]} | ({"cpu": [10, -1]} if "cpu" in given else {})
    assert added.helper["rlimits"] == expected


def test_a_private_tmp_never_hides_the_sandbox(tmp_path: Path) -> None:
    """A task that cannot reach its own files would only seem to work."""
    isolator = PrivateTmp()
    with pytest.raises(LimitUnavailable, match="would hide the sandbox"):
        isolator.prepare("f/t", limits(private=("tmp",), sandbox="/tmp/agent/sandboxes/f/t"))
    added = isolator.prepare("f/t", limits(private=("tmp",), sandbox="/var/lib/mesosctl/f/t"))
    assert added == Additions(helper={"private-tmp": ["/tmp", "/var/tmp"]})
    assert isolator.prepare("f/t", limits(sandbox="/tmp/x")) is None
    assert PrivatePids().prepare("f/t", limits()) is None


def test_namespaces_are_refused_to_whoever_may_not_make_them(tmp_path: Path) -> None:
    """`auto` leaves them out then and says why; a task that asks for one is refused."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nCapEff:\t0000000000000000\n")
    assert not may_unshare(str(tmp_path))
    if os.geteuid() == 0 and may_unshare():
        return
    with pytest.raises(LimitUnavailable, match="needs root"):
        PrivatePids().open(Place("a1", "mesosctl"))


def test_auto_takes_what_there_is(tmp_path: Path) -> None:
    """What no host lacks is always there; names and gaps are told for all of them."""
    isolation = open_isolation(
        "auto", agent_id="a1", mountinfo="", own_cgroup="", state_dir=str(tmp_path)
    )
    assert {"disk/du", "network/ports", "posix/rlimits"} <= set(isolation.names)
    text = " ".join(isolation.not_enforced)
    assert "disk limits are enforced only by sampling" in text
    assert "ports that it was not given" in text and "rlimits hold for each process" in text
    with pytest.raises(LimitUnavailable) as caught:
        isolation.prepare("f/t", limits(cores=1))
    assert "cgroups/cpuset" in caught.value.hint
