"""Volumes at the master: made and removed by agents, kept in the registry, offered to a role."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.driver import OffersRescinded, OperationsDone, StatusArrived
from mesosctl.core.machine import Received, Send
from mesosctl.model.cluster import Demand
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.model.volumes import Volume, VolumeMount
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.framework import Operation
from mesosctl.protocol.messages.maintenance import DeclareGone, Reserve, Unreserve
from mesosctl.protocol.messages.query import Agents
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.volumes import (
    CreateVolume,
    DestroyVolume,
    ListVolumes,
    OrderVolumes,
    VolumeResult,
    Volumes,
    VolumesDone,
)
from tests.core.master.test_master_fitting import fit
from tests.core.master.test_master_maintenance import ask
from tests.core.master.test_master_quotas import cpus, quota
from tests.core.master.test_master_reserving import offers_of, request, total

R = Resources.parse
NOTHING = Resources()
G = 1024 * 1000
DATA = Volume("data1", "eng", G)
OWN = "cpus:4;mem:4096;disk:8192"
IDLE = "cpus:4;mem:4096;disk:4096;disk(eng):4096"
WITH = "cpus:4;mem:4096;disk:4096;disk(eng):3072;volumes(eng):{data1}"


class Command:
    """A command whose answer may come later."""

    def __init__(self, cluster: Any, message: Any) -> None:
        cluster.asked = getattr(cluster, "asked", 0) + 1
        self.name = f"ask{cluster.asked}"
        self.answers: list[Any] = []
        cluster.peers[self.name] = self, "op"
        envelope = Envelope("", 0, f"s-{self.name}", 1, message)
        cluster.to_master(self.name, Send(self.name, envelope))

    def receive(self, event: Received, now: Any) -> list[Any]:
        """What it is told."""
        self.answers.append(event.envelope.message)
        return []


def say(cluster: Any, agent: Any, removed: bool, problem: str = "", volume: Volume = DATA) -> None:
    """The agent has done what it was told last, or cannot."""
    [order] = agent.took(OrderVolumes)
    assert (order.remove if removed else order.make) == (volume,)
    if not problem:
        agent.volumes = [*(one for one in agent.volumes if one != volume)]
        agent.volumes += [] if removed else [volume]
    message = VolumesDone((VolumeResult(volume, removed, problem),))
    cluster.act(agent, agent.session.send(message))


def made(cluster: Any, volume: Volume = DATA) -> Any:
    """An agent with a volume on disk that is reserved to eng."""
    agent = cluster.agent("a1", R(OWN))
    request(cluster, Reserve, "eng", "disk:4096")
    command = Command(cluster, CreateVolume("c1", "a1", volume))
    say(cluster, agent, False, volume=volume)
    assert isinstance(command.answers[0], Volumes)
    del cluster.peers[command.name]
    return agent


def states(cluster: Any) -> list[str]:
    """The volumes as listings show them."""
    answer = ask(cluster, ListVolumes())
    assert isinstance(answer, Volumes)
    return [f"{one.volume.volume_id} {one.state} {one.task}".strip() for one in answer.volumes]


def using(cluster: Any, agent: Any, task_id: str) -> Any:
    """A task that wants data1, in the words of any role."""
    task = cluster.task(agent, task_id, "cpus:1;mem:512;volumes:{data1}")
    return replace(task, volumes=(VolumeMount("data1", "db"),))


def test_a_volume_is_there_when_its_agent_has_made_it_and_gone_when_it_is_removed(
    cluster: Any,
) -> None:
    """Its disk is taken from the first word on until the last; the command waits for the agent."""
    agent = cluster.agent("a1", R(OWN))
    request(cluster, Reserve, "eng", "disk:4096")
    assert total(cluster) == IDLE
    command = Command(cluster, CreateVolume("c1", "a1", DATA))
    assert command.answers == []
    assert states(cluster) == ["data1 making"]
    assert total(cluster) == "cpus:4;mem:4096;disk:4096;disk(eng):3072"
    say(cluster, agent, False)
    [answer] = command.answers
    assert [(one.volume, one.agent_name, one.state) for one in answer.volumes] == [
        (DATA, "a1", "ready")
    ]
    assert total(cluster) == WITH
    command = Command(cluster, DestroyVolume("d1", "a1", "eng", "data1"))
    assert (command.answers, states(cluster)) == ([], ["data1 removing"])
    assert total(cluster) == "cpus:4;mem:4096;disk:4096;disk(eng):3072"
    say(cluster, agent, True)
    assert command.answers[0].volumes == ()
    assert total(cluster) == IDLE


def test_it_is_offered_to_its_role_and_below_and_to_one_task_at_a_time(cluster: Any) -> None:
    """Another role never sees it; in use it is not offered; afterwards it is again."""
    agent = made(cluster)
    other = cluster.framework("other", role="ops")
    [offer] = offers_of(other)
    assert (str(offer.resources), offer.volumes) == ("cpus:4;mem:4096;disk:4096", ())
    other.do(other.driver.decline((offer.offer_id,), 3600.0))
    web = cluster.framework("web", role="eng/web")
    [offer] = offers_of(web)
    assert offer.volumes == (DATA,)
    tasks = using(cluster, agent, "t1"), using(cluster, agent, "t2")
    web.do(web.driver.accept((offer.offer_id,), tasks, 0.0))
    [launch] = agent.took(LaunchTasks)
    assert [str(one.resources) for one in launch.tasks] == ["cpus:1;mem:512;volumes(eng):{data1}"]
    assert web.states() == [("t2", TaskState.ERROR)]
    assert all(not one.volumes for one in offers_of(web))
    assert states(cluster) == ["data1 ready t1"]
    refused = Command(cluster, DestroyVolume("d1", "a1", "eng", "data1")).answers[0]
    assert isinstance(refused, Refusal) and "is used by task t1" in refused.message
    agent.update(web.driver.framework_id, "t1", TaskState.FINISHED)
    assert [one.volumes for one in offers_of(web)][-1] == (DATA,)


def test_an_offer_in_the_way_of_an_operator_is_void(cluster: Any) -> None:
    """Both ways: the disk that a volume is made of, and the volume that is destroyed."""
    agent = cluster.agent("a1", R(OWN))
    request(cluster, Reserve, "eng", "disk:1024")
    eng = cluster.framework("eng", role="eng")
    assert len(offers_of(eng)) == 1
    Command(cluster, CreateVolume("c1", "a1", DATA))
    assert len(eng.took(OffersRescinded)) == 1
    say(cluster, agent, False)
    assert DATA in [one for offer in offers_of(eng) for one in offer.volumes]
    Command(cluster, DestroyVolume("d1", "a1", "eng", "data1"))
    assert len(eng.took(OffersRescinded)) == 1


@pytest.mark.parametrize("role", ["eng", "eng/web"])
def test_what_cannot_be_made_gives_its_disk_back(cluster: Any, role: str) -> None:
    """The agent's own words are the answer."""
    agent = cluster.agent("a1", R(f"cpus:4;disk({role}):4096"))
    volume = replace(DATA, role=role)
    command = Command(cluster, CreateVolume("c1", "a1", volume))
    say(cluster, agent, False, "No space left on device", volume)
    assert command.answers[0].message == "No space left on device"
    assert (states(cluster), total(cluster)) == ([], f"cpus:4;disk({role}):4096")
    # The same request again is another try, and not told as done.
    command = Command(cluster, CreateVolume("c1", "a1", volume))
    assert command.answers == []
    say(cluster, agent, False, volume=volume)
    assert isinstance(command.answers[0], Volumes)
    # What cannot be removed is there as before.
    command = Command(cluster, DestroyVolume("d1", "a1", role, "data1"))
    say(cluster, agent, True, "Input/output error", volume)
    assert "Input/output" in command.answers[0].message
    assert states(cluster) == ["data1 ready"]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (CreateVolume("r1", "a1", replace(DATA, volume_id="a.b")), "is no volume"),
        (CreateVolume("r1", "a1", replace(DATA, volume_id="../x")), "is no volume"),
        (CreateVolume("r1", "a1", replace(DATA, role="*")), "not of *"),
        (CreateVolume("r1", "a1", replace(DATA, disk_milli=0)), "needs some disk"),
        (CreateVolume("r1", "a1", DATA), "has a volume data1 of role eng (ready)"),
        (CreateVolume("r1", "a1", replace(DATA, role="eng/web")), "has a volume data1 of"),
        (CreateVolume("r1", "a1", Volume("x", "ops", G)), "is reserved to ops"),
        (CreateVolume("r1", "a1", Volume("x", "eng", 4 * G)), "of the disk of a1 disk(eng):3072"),
        (CreateVolume("r1", "a9", Volume("x", "eng", G)), "no agent 'a9'"),
        (CreateVolume("", "a1", Volume("x", "eng", G)), "an id of its own"),
        (DestroyVolume("r1", "a1", "ops", "data1"), "a1 has no volume data1 of ops"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(cluster: Any, message: Any, told: str) -> None:
    """Nothing of it is kept, and no agent is told."""
    agent = made(cluster)
    [answer] = Command(cluster, message).answers
    assert isinstance(answer, Refusal)
    assert told in answer.message, answer.message
    assert (total(cluster), agent.took(OrderVolumes)) == (WITH, [])


def test_what_a_volume_sits_on_cannot_be_given_back(cluster: Any) -> None:
    """The rest can; and a volume itself is nothing that can be reserved."""
    made(cluster)
    answer = request(cluster, Unreserve, "eng", "disk:4096")
    assert isinstance(answer, Refusal)
    assert "disk:1024 is in volumes" in answer.message
    assert isinstance(request(cluster, Unreserve, "eng", "disk:3072"), Agents)
    answer = request(cluster, Reserve, "eng/web", "volumes(eng):{data1}")
    assert isinstance(answer, Refusal) and "are not reserved but made" in answer.message


def test_a_limit_counts_what_is_in_volumes(cluster: Any) -> None:
    """Otherwise a role could make volumes, and reserve the same again."""
    made(cluster)
    limit = replace(cpus("eng", 4), limit={"disk": 4 * G})
    assert not isinstance(quota(cluster, limit), Refusal)
    answer = request(cluster, Reserve, "eng", "disk:1024")
    assert isinstance(answer, Refusal)
    assert "the quota of eng is disk:4096, and it holds disk:4096" in answer.message


def test_the_registry_keeps_volumes_and_the_tasks_on_them(cluster: Any) -> None:
    """Another master, another life of the agent: the volume is held by the task it was held by."""
    agent = made(cluster)
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    eng.do(eng.driver.accept((offer.offer_id,), (using(cluster, agent, "t1"),), 0.0))
    agent.update(eng.driver.framework_id, "t1", TaskState.RUNNING)
    cluster.new_master(2)
    for peer in (agent, eng):
        peer.session.lose(cluster.now)
        cluster.connect(peer)
    assert (total(cluster), states(cluster)) == (WITH, ["data1 ready t1"])
    assert all(not one.volumes for one in offers_of(eng))
    assert agent.took(OrderVolumes) == []


@pytest.mark.parametrize("has_done", [True, False])
@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("dies", ["agent", "master"])
def test_what_was_begun_goes_on_when_somebody_died_in_between(
    cluster: Any, dies: str, removed: bool, has_done: bool
) -> None:
    """The agent has done it and nobody heard, or has not: what it tells decides."""
    agent = made(cluster)
    order: Any = CreateVolume("r1", "a1", replace(DATA, volume_id="more"))
    if removed:
        order = DestroyVolume("r1", "a1", "eng", "data1")
    volume = DATA if removed else order.volume
    command = Command(cluster, order)
    assert command.answers == []
    agent.took(OrderVolumes)
    if has_done:
        agent.volumes = [] if removed else [DATA, volume]
    agent.life += 1
    if dies == "agent":
        cluster.cut(agent)
        assert "a1 went away before it had answered" in command.answers[0].message
    else:
        cluster.new_master(2)
        agent.session.lose(cluster.now)
    cluster.connect(agent)
    if not has_done:
        assert states(cluster)[-1].split()[1] == ("removing" if removed else "making")
        again = Command(cluster, order)
        assert again.answers == []
        say(cluster, agent, removed, volume=volume)
    else:
        # The command asks again, and is told that this very request was carried out.
        again = Command(cluster, order)
    assert isinstance(again.answers[0], Volumes)
    assert states(cluster) == ([] if removed else ["data1 ready", "more ready"])
    assert agent.took(OrderVolumes) == []


def test_lost_data_are_told_and_are_nobodys(cluster: Any) -> None:
    """The disk is not given away before the volume is destroyed; data that return are taken."""
    agent = made(cluster)
    cluster.cut(agent)
    agent.life, agent.volumes = 2, []
    cluster.connect(agent)
    assert states(cluster) == ["data1 lost"]
    assert total(cluster) == "cpus:4;mem:4096;disk:4096;disk(eng):3072"
    cluster.cut(agent)
    agent.life, agent.volumes = 3, [DATA]
    cluster.connect(agent)
    assert (states(cluster), total(cluster)) == (["data1 ready"], WITH)
    cluster.cut(agent)
    agent.life, agent.volumes = 4, []
    cluster.connect(agent)
    command = Command(cluster, DestroyVolume("d1", "a1", "eng", "data1"))
    say(cluster, agent, True)
    assert command.answers[0].volumes == ()
    assert total(cluster) == IDLE


def test_an_agent_that_is_away_makes_none_and_one_that_is_gone_has_none(cluster: Any) -> None:
    """Nobody else could say what is on its disk."""
    agent = made(cluster)
    cluster.cut(agent)
    [answer] = Command(cluster, DestroyVolume("d1", "a1", "eng", "data1")).answers
    assert isinstance(answer, Refusal) and "a1 does not answer" in answer.message
    assert states(cluster) == ["data1 ready"]
    ask(cluster, DeclareGone("g1", ("a1",)))
    assert states(cluster) == []


def test_an_agent_that_came_back_smaller_keeps_its_volume_before_others_get_any(
    cluster: Any,
) -> None:
    """4 of 8 GiB were reserved, 1 is a volume; of 2 GiB what is reserved goes first, too."""
    agent = made(cluster)
    cluster.cut(agent)
    agent.life, agent.info = 2, replace(agent.info, total=R("cpus:4;mem:4096;disk:2048"))
    cluster.connect(agent)
    found = cluster.master.state.agents[cluster.agent_id("a1")].info.total
    assert "volumes(eng):{data1}" in str(found)
    assert found.scalar("disk") == 1024 * 1000


def operate(scheduler: Any, offer: Any, *operations: Operation, tasks: Any = ()) -> None:
    """Accept with operations."""
    scheduler.do(scheduler.driver.accept((offer.offer_id,), tasks, 0.0, operations))


def told(scheduler: Any) -> list[tuple[str, str]]:
    """What became of operations since the last look."""
    results = [one for event in scheduler.took(OperationsDone) for one in event.results]
    return [(one.operation_id, one.problem) for one in results]


def test_a_framework_makes_and_removes_volumes_of_what_it_is_offered(cluster: Any) -> None:
    """Reserve and create in one acceptance; the second is answered when the agent has done it."""
    agent = cluster.agent("a1", R(OWN))
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    operate(
        eng,
        offer,
        Operation("o1", "reserve", "eng", R("disk:4096")),
        Operation("o2", "create", "eng", R("disk:1024"), "data1"),
        Operation("o3", "create", "ops", R("disk:1024"), "data1"),
        Operation("o4", "create", "eng", R("disk:1024;cpus:1"), "data2"),
        Operation("o5", "destroy", "eng", NOTHING, "data2"),
        Operation("o6", "create", "eng", R("disk:1024"), "data1"),
    )
    results = told(eng)
    assert [one for one, _ in results] == ["o1", "o3", "o4", "o5", "o6"]
    problems = dict(results)
    assert problems["o1"] == ""
    assert "disk(ops):1024 is more than the offered" in problems["o3"]
    assert "of disk that is reserved to its role, alone" in problems["o4"]
    assert "a1 has no volume data2 of eng" in problems["o5"]
    assert "has a volume data1 of role eng (making)" in problems["o6"]
    [rest] = offers_of(eng)
    assert rest.volumes == ()
    say(cluster, agent, False)
    assert told(eng) == [("o2", "")]
    eng.do(eng.driver.decline((rest.offer_id,), 0.0))
    assert total(cluster) == WITH
    offer = next(one for one in offers_of(eng) if one.volumes == (DATA,))
    operate(eng, offer, Operation("o7", "destroy", "eng", NOTHING, "data1"))
    assert told(eng) == []
    say(cluster, agent, True)
    assert told(eng) == [("o7", "")]
    assert total(cluster) == IDLE


@pytest.mark.parametrize(
    ("mounts", "why"),
    [
        ((), "not those among its resources"),
        ((VolumeMount("data1", "../x"),), "neither . nor .."),
        ((VolumeMount("data1", "/x"),), "does not begin with /"),
        ((VolumeMount("data1", "stdout"),), "is an output"),
        ((VolumeMount("a/b", "x"),), "is no volume"),
        ((VolumeMount("other", "x"),), "not those among its resources"),
    ],
)
def test_a_task_that_names_its_volumes_badly_is_refused(
    cluster: Any, mounts: Any, why: str
) -> None:
    """Before its agent hears of it."""
    agent = made(cluster)
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    task = replace(using(cluster, agent, "t1"), volumes=mounts)
    eng.do(eng.driver.accept((offer.offer_id,), (task,), 0.0))
    [update] = [one for event in eng.took(StatusArrived) for one in event.updates]
    assert update.state is TaskState.ERROR
    assert why in update.message, update.message
    assert agent.took(LaunchTasks) == []


def test_what_keeps_a_task_off_its_volume_is_told(cluster: Any) -> None:
    """No such volume of the role, one that is being made, one in use, and what its agent lacks."""

    def verdicts(framework: Any, need: str) -> list[tuple[str, str, tuple[str, ...]]]:
        found = fit(framework, need)
        return sorted((group.reason, group.text, group.names) for group in found.groups)

    agent = cluster.agent("a1", R(OWN))
    cluster.agent("a2", R("cpus:4;mem:4096"))
    request(cluster, Reserve, "eng", "disk:4096")
    eng = cluster.framework("eng", role="eng/web")
    eng.do(eng.driver.suppress())
    for offer_id in list(eng.driver.offers):
        eng.do(eng.driver.decline([offer_id], 0.0))
    need = "cpus:1;mem:512;volumes:{data1}"
    missing = "no volume data1 of role eng/web"
    assert verdicts(eng, need) == [("NoVolume", missing, ("a1", "a2"))]
    assert fit(eng, need).verdict == "never"
    Command(cluster, CreateVolume("c1", "a1", DATA))
    assert ("NoVolume", "volume data1 of role eng is making", ("a1",)) in verdicts(eng, need)
    say(cluster, agent, False)
    assert verdicts(eng, need) == [("", "", ("a1",)), ("NoVolume", missing, ("a2",))]
    too_much = need.replace("cpus:1", "cpus:9")
    assert verdicts(eng, too_much) == [
        ("NeverFits", "", ("a1",)),
        ("NoVolume", missing, ("a2",)),
    ]
    other = cluster.framework("other", role="ops")
    assert verdicts(other, need) == [
        ("NoVolume", "no volume data1 of role ops", ("a1", "a2")),
    ]
    other.do(other.driver.suppress())
    for offer_id in list(other.driver.offers):
        other.do(other.driver.decline([offer_id], 0.0))
    eng.do(eng.driver.revive())
    offer = next(one for one in offers_of(eng) if one.volumes)
    eng.do(eng.driver.accept((offer.offer_id,), (using(cluster, agent, "t1"),), 0.0))
    eng.do(eng.driver.suppress())
    for offer_id in list(eng.driver.offers):
        eng.do(eng.driver.decline([offer_id], 0.0))
    found = fit(eng, need)
    assert [(group.reason, [lack.text for lack in group.lacks]) for group in found.groups] == [
        ("Resources", ["{data1}"]),
        ("NoVolume", []),
    ]


@pytest.mark.parametrize("in_use", [True, False])
def test_no_space_is_gathered_for_a_task_whose_volume_is_in_use(cluster: Any, in_use: bool) -> None:
    """It would be kept from others for nothing; once the volume is free it is gathered."""
    agent = made(cluster)
    eng = cluster.framework("eng", role="eng")
    [offer] = offers_of(eng)
    user = using(cluster, agent, "t1") if in_use else cluster.task(agent, "t1", "cpus:1;mem:512")
    eng.do(eng.driver.accept((offer.offer_id,), (user,), 3600.0))
    eng.do(eng.driver.suppress())
    small = cluster.framework("small", role="small", demand=Demand(R("cpus:1;mem:64"), 9))
    for offer in offers_of(small):
        task = cluster.task(agent, offer.offer_id, "cpus:3;mem:192")
        small.do(small.driver.accept((offer.offer_id,), (task,), 0.0))
    wanted = Demand(R("cpus:2;mem:64;volumes:{data1}"), 1)
    cluster.framework("web", role="eng/web", demand=wanted)
    cluster.advance(1.0)
    # It is looked for when something else makes an allocation due.
    cluster.master.state.allocation_wanted = True
    cluster.settle()
    assert bool(cluster.master.state.gatherings.by_agent) is not in_use
