"""The agent's volumes: on record before they are told, lent to tasks, closed again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.records import VOLUMES, AgentRecords
from mesosctl.core.machine import Started
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.model.volumes import Volume, VolumeMount, VolumePlace
from mesosctl.protocol.codec import pack, unpack
from mesosctl.protocol.messages.agent import LaunchTasks, RegisterAgent
from mesosctl.protocol.messages.volumes import OrderVolumes, VolumeResult, VolumesDone
from tests.core.agent.conftest import Bench, FakeExecutor, framework, task

DATA = Volume("data1", "eng/web", 1_024_000)


def results(bench: Bench) -> list[VolumeResult]:
    """What the master was told of volumes since the last look."""
    return [one for message in bench.took(VolumesDone) for one in message.results]


def made(bench: Bench) -> FakeExecutor:
    """An agent that is up and has made a volume."""
    executor = bench.up()
    bench.tell(OrderVolumes(make=(DATA,)))
    assert bench.took_deeds(deeds.MakeVolume) == [deeds.MakeVolume(DATA)]
    assert (results(bench), bench.tables[VOLUMES]) == ([], {})
    bench.do(deeds.VolumeMade(DATA))
    assert results(bench) == [VolumeResult(DATA, False)]
    return executor


def launch(bench: Bench, task_id: str) -> None:
    """A task that uses the volume."""
    given = Resources.parse("cpus:1;volumes(eng/web):{data1}")
    info = replace(task(task_id), resources=given, volumes=(VolumeMount("data1", "db"),))
    bench.tell(LaunchTasks(framework(), (info,)))


def test_a_volume_is_on_record_when_it_is_told_and_told_at_each_registration(bench: Bench) -> None:
    """Another life begins with what the disk has; what is done is told again when it is asked."""
    made(bench)
    assert len(bench.tables[VOLUMES]) == 1
    bench.tell(OrderVolumes(make=(DATA,)))
    assert (results(bench), bench.deeds) == ([VolumeResult(DATA, False)], [])
    bench.restart()
    bench.advance(20.0)
    [hello] = bench.took(RegisterAgent)
    assert hello.volumes == (DATA,)


def test_one_that_cannot_be_made_leaves_nothing(bench: Bench) -> None:
    """And the master hears why."""
    bench.up()
    bench.tell(OrderVolumes(make=(DATA,)))
    bench.took_deeds(deeds.MakeVolume)
    bench.do(deeds.VolumeMade(DATA, "No space left on device"))
    assert results(bench) == [VolumeResult(DATA, False, "No space left on device")]
    assert bench.tables[VOLUMES] == {}


def test_a_deed_is_not_begun_again_while_it_is_done(bench: Bench) -> None:
    """A second answer that comes late would bring back the record of what is removed meanwhile."""
    bench.up()
    bench.tell(OrderVolumes(make=(DATA,)))
    bench.tell(OrderVolumes(make=(DATA,)))
    assert bench.took_deeds(deeds.MakeVolume) == [deeds.MakeVolume(DATA)]
    bench.do(deeds.VolumeMade(DATA))
    assert results(bench) == [VolumeResult(DATA, False)]
    bench.tell(OrderVolumes(remove=(DATA,)))
    bench.tell(OrderVolumes(remove=(DATA,)))
    assert bench.took_deeds(deeds.RemoveVolume) == [deeds.RemoveVolume(DATA)]
    bench.tell(OrderVolumes(make=(DATA,)))
    [result] = results(bench)
    assert result.problem and bench.took_deeds(deeds.MakeVolume) == []
    bench.do(deeds.VolumeRemoved(DATA))
    assert results(bench) == [VolumeResult(DATA, True)]


def test_a_removed_volume_is_told_when_its_record_is_gone(bench: Bench) -> None:
    """Also one that nobody knows: it was removed before, and the answer was lost."""
    made(bench)
    for _ in range(2):
        bench.tell(OrderVolumes(remove=(DATA,)))
        assert bench.took_deeds(deeds.RemoveVolume) == [deeds.RemoveVolume(DATA)]
        bench.do(deeds.VolumeRemoved(DATA))
        assert results(bench) == [VolumeResult(DATA, True)]
        assert bench.tables[VOLUMES] == {}


def test_one_that_cannot_be_removed_stays(bench: Bench) -> None:
    """Neither while a task uses it, nor when the disk says no."""
    executor = made(bench)
    bench.tell(OrderVolumes(remove=(DATA,)))
    bench.took_deeds(deeds.RemoveVolume)
    bench.do(deeds.VolumeRemoved(DATA, "Input/output error"))
    assert results(bench) == [VolumeResult(DATA, True, "Input/output error")]
    launch(bench, "t1")
    executor.update("t1", TaskState.RUNNING)
    bench.tell(OrderVolumes(remove=(DATA,)))
    assert results(bench) == [VolumeResult(DATA, True, "a task uses it")]
    assert bench.took_deeds(deeds.RemoveVolume) == []
    assert len(bench.tables[VOLUMES]) == 1


def test_what_is_heard_without_a_master_is_told_by_the_next_registration(bench: Bench) -> None:
    """The connection went while the disk worked."""
    bench.up()
    bench.tell(OrderVolumes(make=(DATA,)))
    bench.took_deeds(deeds.MakeVolume)
    bench.cut_master()
    bench.took(RegisterAgent)
    bench.do(deeds.VolumeMade(DATA))
    assert results(bench) == []
    bench.restart()
    bench.advance(20.0)
    [hello] = bench.took(RegisterAgent)
    assert hello.volumes == (DATA,)


def test_a_volume_is_lent_to_its_task_and_closed_after_it(bench: Bench) -> None:
    """The sandbox is made with it; nobody else's way leads into it when its task has ended."""
    executor = made(bench)
    launch(bench, "t1")
    [sandbox] = bench.took_deeds(deeds.MakeSandbox)
    assert sandbox.volumes == (VolumePlace("eng/web", "data1", "db"),)
    executor.update("t1", TaskState.RUNNING)
    assert bench.took_deeds(deeds.CloseVolumes) == []
    executor.update("t1", TaskState.FINISHED)
    assert bench.took_deeds(deeds.CloseVolumes) == [deeds.CloseVolumes((DATA,))]
    # Of the next task's end as well, though the first is still known.
    launch(bench, "t2")
    executor.update("t2", TaskState.FAILED)
    assert bench.took_deeds(deeds.CloseVolumes) == [deeds.CloseVolumes((DATA,))]


def test_after_a_restart_what_nobody_uses_is_closed_and_what_is_used_is_not(bench: Bench) -> None:
    """The agent may have died between the end of a task and that."""
    executor = made(bench)
    bench.restart()
    assert bench.took_deeds(deeds.CloseVolumes) == [deeds.CloseVolumes((DATA,))]
    executor.connect()
    bench.register()
    launch(bench, "t1")
    bench.restart()
    assert bench.took_deeds(deeds.CloseVolumes) == []


def test_lost_data_are_said_and_not_told_as_here(bench: Bench) -> None:
    """The record stays: the disk may come back. Made anew or removed, it is like any other."""
    made(bench)
    bench.restart()
    records = AgentRecords.load({name: unpack(pack(rows)) for name, rows in bench.tables.items()})
    lost = replace(records, lost=(DATA,))
    bench.make()
    bench.machine._records = lost
    bench.messages.clear()
    bench.do(Started())
    assert any("what was in it is lost" in log.text for log in bench.logs)
    bench.advance(20.0)
    hello = bench.register()
    assert hello.volumes == ()
    assert len(bench.tables[VOLUMES]) == 1
    bench.tell(OrderVolumes(remove=(DATA,)))
    assert bench.took_deeds(deeds.RemoveVolume) == [deeds.RemoveVolume(DATA)]
    bench.do(deeds.VolumeRemoved(DATA))
    assert (results(bench), bench.tables[VOLUMES]) == ([VolumeResult(DATA, True)], {})


@pytest.mark.parametrize("is_known", [True, False])
def test_another_volume_of_that_name_is_not_taken_for_it(bench: Bench, is_known: bool) -> None:
    """Only of the same size is it the one that was made."""
    made(bench)
    wanted = DATA if is_known else replace(DATA, disk_milli=1)
    bench.tell(OrderVolumes(make=(wanted,)))
    [result] = results(bench)
    assert bool(result.problem) is not is_known
