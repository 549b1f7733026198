"""`mesosctl volume` and --volume: what is asked, what is said, what is refused at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesosctl.cli.main import run
from mesosctl.model.ids import AgentId
from mesosctl.model.volumes import Volume, VolumeMount
from mesosctl.protocol.messages.batch import JobAccepted, SubmitJob
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.volumes import (
    CreateVolume,
    DestroyVolume,
    ListVolumes,
    Volumes,
    VolumeView,
)

pytestmark = pytest.mark.integration
Capture = pytest.CaptureFixture[str]
DATA = Volume("data1", "eng/web", 1_024_000)
VIEW = VolumeView(DATA, AgentId("A1"), "n1", "ready", "batch", "7.0.1")


def test_create_names_one_volume_of_one_agent(fake_cluster: Any, capsys: Capture) -> None:
    """A size as everywhere; the answer is that it is made."""
    fake_cluster.on(CreateVolume, lambda re, _: [Volumes(re, (VIEW,))])
    words = ["volume", "create", "n1", "data1", "disk:1G", "--role", "eng/web"]
    assert run(words) == 0
    [sent] = fake_cluster.heard(CreateVolume)
    assert (sent.agent, sent.volume) == ("n1", DATA)
    assert sent.request_id
    assert capsys.readouterr().err == "volume data1 of role eng/web is made\n"
    assert run([*words, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["volumes"]
    assert (told["id"], told["disk"], told["task"]) == ("data1", 2**30, "7.0.1")


def test_destroy_and_list(fake_cluster: Any, capsys: Capture) -> None:
    """What is gone is said; the list shows who uses what."""
    fake_cluster.on(DestroyVolume, lambda re, _: [Volumes(re, ())])
    fake_cluster.on(ListVolumes, lambda re, _: [Volumes(re, (VIEW,))])
    assert run(["volume", "destroy", "n1", "data1", "-R", "eng/web"]) == 0
    [sent] = fake_cluster.heard(DestroyVolume)
    assert (sent.agent, sent.role, sent.volume_id) == ("n1", "eng/web", "data1")
    assert "and its data are gone" in capsys.readouterr().err
    assert run(["volume", "list", "n1"]) == 0
    assert fake_cluster.heard(ListVolumes)[0].agents == ("n1",)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "ROLE", "AGENT", "DISK", "STATE", "TASK"]
    assert lines[1].split() == ["data1", "eng/web", "n1", "1G", "ready", "7.0.1"]


@pytest.mark.parametrize(
    ("code", "exit_code"), [("conflict", 5), ("not-found", 4), ("not-permitted", 5)]
)
def test_refusals_are_one_line(
    fake_cluster: Any, capsys: Capture, code: str, exit_code: int
) -> None:
    """With the exit codes of reservations."""
    fake_cluster.on(DestroyVolume, lambda re, _: [Refusal(re, code, "so it is", "see it")])
    assert run(["volume", "destroy", "n1", "data1", "-R", "eng"]) == exit_code
    assert capsys.readouterr().err == "mesosctl: so it is; see it\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["create", "n1", "../x", "disk:1G", "-R", "eng"], "is no volume"),
        (["create", "n1", "a.b", "disk:1G", "-R", "eng"], "is no volume"),
        (["create", "n1", "a", "cpus:1", "-R", "eng"], "is no size of a volume"),
        (["create", "n1", "a", "disk:1G;cpus:1", "-R", "eng"], "is no size of a volume"),
        (["create", "n1", "a", "disk:{x}", "-R", "eng"], "disk"),
        (["create", "n1", "a", "disk:1G"], "--role"),
        (["destroy", "n1", "a"], "--role"),
        (["create", "n1", "a", "disk:1G", "-R", "-x"], "is not a role"),
    ],
)
def test_what_cannot_be_meant_is_not_sent(
    fake_cluster: Any, capsys: Capture, words: list[str], told: str
) -> None:
    """One line, and code 2."""
    assert run(["volume", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1


def test_submit_names_volumes_with_their_paths(fake_cluster: Any) -> None:
    """The batch framework adds them to what the job needs."""
    fake_cluster.on(SubmitJob, lambda re, _: [JobAccepted(re, "1", 1)])
    words = ["submit", "--volume", "data1:var/db", "--volume", "data2:log", "--", "true"]
    assert run(words) == 0
    [sent] = fake_cluster.heard(SubmitJob)
    assert sent.job.volumes == (VolumeMount("data1", "var/db"), VolumeMount("data2", "log"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data1"], "no path in the sandbox"),
        (["data1:"], "no empty parts"),
        (["data1:/db"], "does not begin with /"),
        (["data1:a/../b"], "neither . nor .."),
        (["data.1:db"], "is no volume"),
        (["data1:stdout"], "is an output"),
        (["data1:a", "data1:b"], "named twice"),
        (["data1:a", "data2:a/b"], "inside of another"),
    ],
)
def test_what_is_no_volume_is_refused_before_anybody_is_asked(
    fake_cluster: Any, capsys: Capture, words: list[str], told: str
) -> None:
    """One line, and code 2."""
    options = [part for word in words for part in ("--volume", word)]
    assert run(["submit", *options, "--", "true"]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1
    assert fake_cluster.heard(SubmitJob) == []
