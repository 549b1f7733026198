"""The agent's persistent volumes: made and removed as the master says, and kept on record.

Rules:
- A volume is on record before the master hears that it was made, and no longer when it hears that
  it was removed. What was in between when the agent died is ordered again by the master.
- A task's volume is lent to its user; when nobody uses it any more it is closed again.
- One whose directory is not there after a start is not told to the master, and is said so. It stays
  on record: its disk may only not be mounted.
"""

from __future__ import annotations

from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.records import VOLUMES, AgentRecords, put
from mesosctl.core.agent.task import Phase
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.machine import Delete, Effect, Event, Log
from mesosctl.core.session import ClientSession
from mesosctl.model.volumes import Volume, keys_of
from mesosctl.protocol.messages.agent import LaunchTasks
from mesosctl.protocol.messages.volumes import OrderVolumes, VolumeResult, VolumesDone

_Key = tuple[str, str]


class Volumes:
    """All volumes of an agent."""

    def __init__(self, tasks: Tasks, session: ClientSession) -> None:
        self._tasks = tasks
        self._session = session
        self._known: dict[_Key, Volume] = {}
        self._lost: dict[_Key, None] = {}
        # What the disk is at, and whether it removes it; one thing at a time for each volume.
        self._busy: dict[_Key, bool] = {}
        # Those that a task may have been using since they were last closed.
        self._lent: dict[_Key, None] = {}

    def restore(self, records: AgentRecords) -> list[Effect]:
        """Take up what an earlier run left, and close what nobody uses."""
        self._known = {volume.key: volume for volume in records.volumes}
        self._lost = {volume.key: None for volume in records.lost}
        self._lent = {key: None for key in self._known if key not in self._lost}
        text = "is not there any more; unless its disk returns, what was in it is lost"
        told = [Log("warning", f"volume {self._known[key]} {text}") for key in self._lost]
        return [*told, *self._close()]

    def here(self) -> tuple[Volume, ...]:
        """Those whose data are on the disk."""
        return tuple([one for key, one in self._known.items() if key not in self._lost])

    def forget(self) -> list[Effect]:
        """The agent begins anew, and these are nobody's. Their data stay where they are."""
        known, self._known = self._known, {}
        kept = ", ".join(map(str, known.values()))
        told = [Log("warning", f"the data of {kept} are left where they are")] if known else []
        return [*told, *(Delete(VOLUMES, _name(volume)) for volume in known.values())]

    # --- what the master asks for -----------------------------------------------------------------
    def order(self, message: OrderVolumes) -> list[Effect]:
        """Make and remove volumes; of what is done already, say so again."""
        effects: list[Effect] = []
        for volume in message.make:
            known = self._known.get(volume.key)
            if volume.key in self._busy:
                effects += self._wait(volume, False)
            elif known is None or volume.key in self._lost:
                self._busy[volume.key] = False
                effects.append(deeds.MakeVolume(volume))
            else:
                problem = "" if known == volume else f"there is another of {known.disk}"
                effects += self._say(VolumeResult(volume, False, problem))
        for volume in message.remove:
            if volume.key in self._busy:
                effects += self._wait(volume, True)
            elif volume.key in self._in_use():
                effects += self._say(VolumeResult(volume, True, "a task uses it"))
            else:
                self._busy[volume.key] = True
                effects.append(deeds.RemoveVolume(volume))
        return effects

    def _wait(self, volume: Volume, removes: bool) -> list[Effect]:
        """It is at it: that is told when it is done. A second deed could be done after a third."""
        if self._busy[volume.key] is removes:
            return []
        return self._say(VolumeResult(volume, removes, "its disk is at it just now"))

    def take(self, event: Event) -> list[Effect]:
        """What came of it: on disk before it is told."""
        match event:
            case deeds.VolumeMade(volume=volume, problem=problem):
                self._busy.pop(volume.key, None)
                effects: list[Effect] = []
                if not problem:
                    self._known[volume.key] = volume
                    self._lost.pop(volume.key, None)
                    effects = [put(VOLUMES, _name(volume), volume)]
                return effects + self._say(VolumeResult(volume, False, problem))
            case deeds.VolumeRemoved(volume=volume, problem=problem):
                self._busy.pop(volume.key, None)
                effects = []
                if not problem:
                    for table in (self._known, self._lost, self._lent):
                        table.pop(volume.key, None)
                    effects = [Delete(VOLUMES, _name(volume))]
                return effects + self._say(VolumeResult(volume, True, problem))
            case _:
                return []

    def _say(self, result: VolumeResult) -> list[Effect]:
        """Tell the master, if it is there; otherwise the next registration does."""
        if not self._session.confirmed:
            return []
        return self._session.send(VolumesDone((result,)))

    # --- tasks ------------------------------------------------------------------------------------
    def lent(self, message: LaunchTasks) -> None:
        """These tasks come with their volumes."""
        for task in message.tasks:
            if task.volumes:
                self._lent.update(dict.fromkeys(keys_of(task.resources)))

    def ended(self, containers: list[str]) -> list[Effect]:
        """These tasks have ended, and something may not be used any more."""
        return self._close() if containers and self._lent else []

    def _in_use(self) -> dict[_Key, None]:
        found: dict[_Key, None] = {}
        for task in self._tasks.all():
            info = task.entry.info
            if info.volumes and task.phase is not Phase.ENDED:
                found.update(dict.fromkeys(keys_of(info.resources)))
        return found

    def _close(self) -> list[Effect]:
        in_use = self._in_use()
        unused = [key for key in self._lent if key not in in_use]
        for key in unused:
            del self._lent[key]
        closed = tuple([self._known[key] for key in unused if key in self._known])
        return [deeds.CloseVolumes(closed)] if closed else []


def _name(volume: Volume) -> str:
    return f"{volume.role}:{volume.volume_id}"
