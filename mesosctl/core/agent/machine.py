"""The agent's machine: its registration, and the one place where messages and events are sorted.

Owns the link "master", the sessions of executors (peers "x:…") and of data clients (peers "d:…").
Rules:
- It registers only when every executor of an earlier run is back or given up, so that what it tells
  of its tasks is true.
- A message is handled only through the table of its kind of peer. Executors are on a local socket
  that only the agent's user can reach; data clients get only at what they were admitted for.
- Whatever is promised (an update acknowledged, a task handed on) was put into the same pass before.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mesosctl.core.agent import effects as deeds
from mesosctl.core.agent.executors import Executors
from mesosctl.core.agent.handing import Handing
from mesosctl.core.agent.identity import Identity
from mesosctl.core.agent.lanes import Lanes
from mesosctl.core.agent.leases import Leases
from mesosctl.core.agent.options import AgentOptions
from mesosctl.core.agent.reaping import Reaper
from mesosctl.core.agent.records import AgentRecords
from mesosctl.core.agent.recovery import forget
from mesosctl.core.agent.retention import Retention
from mesosctl.core.agent.stdin import StdinRelays
from mesosctl.core.agent.streams import Streams
from mesosctl.core.agent.task import Phase
from mesosctl.core.agent.tasks import Tasks
from mesosctl.core.agent.visitors import Visitors, refuse
from mesosctl.core.agent.volumes import Volumes
from mesosctl.core.machine import (
    Effect,
    Event,
    Log,
    NewId,
    Now,
    PeerLost,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.session import ClientSession, ServerSessions
from mesosctl.limits import KILL_GRACE_S
from mesosctl.model.cluster import AgentInfo
from mesosctl.model.ids import FrameworkId
from mesosctl.model.tasks import Reason
from mesosctl.protocol.messages import agent as messages
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Refusal
from mesosctl.protocol.messages.streams import StdinTaken
from mesosctl.protocol.messages.volumes import OrderVolumes

MASTER = "master"
EXECUTORS_PREFIX = "x:"
DATA_PREFIX = "d:"
SIGHUP = 1


_DEFAULTS = AgentOptions()


class AgentMachine:
    """See the module. `info` as it is to be registered; an id in the records goes before its own.

    An agent that brings a fresh id keeps it when the answer to its registration is lost: without
    one it would be given another, and what was launched under the first would wait for ever.
    """

    def __init__(
        self,
        info: AgentInfo,
        records: AgentRecords,
        new_id: NewId,
        options: AgentOptions = _DEFAULTS,
    ) -> None:
        self.info = replace(info, agent_id=records.meta.agent_id or info.agent_id)
        self._records = records
        self._identity = Identity(records.meta, options.origin)
        # What it stops with once all of it has ended.
        self._last_words = (0, f"every task and executor of {info.name} has ended")
        self._options = options
        self.session = ClientSession(MASTER, self._hello, self._lost, new_id)
        self.session.cluster, self.session.epoch = records.meta.cluster, records.meta.epoch
        self._executor_sessions = ServerSessions("", 0)
        self._data_sessions = ServerSessions("", 0)
        self.tasks = Tasks(new_id)
        self.tasks.agent_id = self.info.agent_id
        self._reaper = Reaper(self.tasks)
        self._stdin = StdinRelays(self.tasks, self._data_sessions, self._to_executor)
        told = self._stdin.send_again
        self.executors = Executors(self.tasks, self._reaper, self._executor_sessions, told)
        self._leases = Leases(self.tasks, self.executors, self._executor_sessions)
        self._lanes = Lanes(self.tasks, self.executors, self._executor_sessions)
        self._handing = Handing(
            self.tasks,
            self.executors,
            self._leases,
            self._lanes,
            self._executor_sessions,
            told,
            new_id,
            info.name,
            options,
        )
        self._streams = Streams(
            self.tasks,
            self._data_sessions,
            self._stdin,
            partial(refuse, self._data_sessions),
            info.name,
            options,
        )
        self._visitors = Visitors(self._data_sessions, self._streams)
        self._retention = Retention(self.tasks, self._streams.is_read, options.log_keep_s)
        self._streams.gone_text = self._retention.text
        self._volumes = Volumes(self.tasks, self.session)
        self._begun = False
        # Whether the containers that exist were asked for, and told.
        self._swept = self._found = False
        self._stopped = False

    @property
    def is_closing(self) -> bool:
        """Whether all tasks and executors are being ended."""
        return self.executors.closing_grace_s is not None

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Received(peer=peer) if peer.startswith(EXECUTORS_PREFIX):
                return self._from_executor(event, now)
            case Received(peer=peer) if peer.startswith(DATA_PREFIX):
                return self._visitors.receive(event, now)
            case Received():
                return self._from_master(event, now)
            case PeerLost(peer=peer, moved=moved):
                return self._peer_lost(peer, moved, now)
            case Tick():
                return self._tick(now)
            case Started():
                return self._start(now)
            case Signalled(signum=signum):
                return self._signalled(signum, now)
            case _:
                return self._from_host(event, now)

    def _from_host(self, event: Event, now: Now) -> list[Effect]:
        match event:
            case deeds.SandboxMade(container=container, path=path):
                self.tasks.sandbox_made(container, path, now)
                return []
            case deeds.SandboxFailed():
                return self._handing.sandbox_failed(event, now)
            case deeds.FileRead():
                return self._streams.file_read(event, now)
            case deeds.DiskMeasured() | deeds.SandboxesListed() | deeds.SandboxesRemoved():
                return self._retention.take(event, now)
            case deeds.VolumeMade() | deeds.VolumeRemoved():
                return self._volumes.take(event)
            case deeds.ExecutorStarted():
                return self.executors.started(event)
            case deeds.ExecutorExited():
                return self.executors.exited(event, now)
            case deeds.ContainersGone():
                return self._reaper.gone(event, now)
            case deeds.ContainersBusy():
                self._reaper.busy(event, now)
                return []
            case deeds.ContainersFound():
                self._found = True
                return self._reaper.found(event)
            case _:
                return []

    def settle(self, now: Now) -> list[Effect]:
        """Hand on, register when that is possible, send what is new, stop when all is over."""
        if self._stopped:
            return []
        effects = self._handing.settle(now)
        effects += self._tell_ends()
        if self.executors.is_settled and not self._swept and self.info.agent_id:
            self._swept = True
            effects += self._reaper.sweep(now)
        if self.executors.is_settled and not self._begun and not self._options.cleanup:
            self._begun = True
            effects += self.session.start(now)
        if self.session.confirmed:
            for message in self.tasks.outgoing(now):
                effects += self.session.send(message)
        over = not len(self.executors) and not self._reaper
        if self.is_closing and over and (self._found or not self.info.agent_id):
            if self._options.anew or (self._options.cleanup and self._identity.meta.gone):
                effects += forget(self.tasks) + self._volumes.forget()
            effects += self._stop(self._last_words[1], self._last_words[0])
        return effects

    def _tell_ends(self) -> list[Effect]:
        effects: list[Effect] = []
        ended, self.tasks.ended = self.tasks.ended, []
        for container in ended:
            effects += self._stdin.task_ended(container)
            effects += self._streams.task_ended(container)
        return effects + self._retention.ended(ended) + self._volumes.ended(ended)

    def deadline(self) -> float | None:
        """The earliest of all timers."""
        if self._stopped:
            return None
        times = (
            self.session.deadline() if self._begun else None,
            self._executor_sessions.deadline(),
            self._data_sessions.deadline(),
            self.tasks.deadline() if self.session.confirmed else None,
            self.executors.deadline(),
            self._handing.deadline(),
            self._reaper.deadline(),
            self._streams.deadline(),
            self._retention.deadline(),
        )
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        self.tasks.check()
        self.executors.check()
        for part in (self._reaper, self._stdin, self._streams, self._retention):
            part.check()

    # --- beginning and end ------------------------------------------------------------------------
    def _start(self, now: Now) -> list[Effect]:
        records, meta = self._records, self._identity.meta
        self._records = AgentRecords()
        effects: list[Effect] = []
        if self.info.agent_id:
            effects.append(deeds.OpenContainers(self.info.agent_id))
            effects += self._identity.remember(self.info, self.session)
        self.tasks.restore(records, now)
        effects += self.executors.restore(records, now, meta.boot_id == self.info.boot_id)
        effects += self._volumes.restore(records)
        if records.tasks or records.executors:
            text = f"found {len(records.tasks)} tasks and {len(records.executors)} executors"
            effects.append(Log("info", f"{text} of an earlier run"))
        effects += self._retention.begin(now)
        if self._options.cleanup:
            effects += self._handing.close_down(KILL_GRACE_S, now)
        return effects

    def _signalled(self, signum: int, now: Now) -> list[Effect]:
        if signum == SIGHUP:
            return []
        if self._options.ends_tasks:
            grace_s = 0.0 if self.is_closing else KILL_GRACE_S
            return self._handing.close_down(grace_s, now)
        alive = len(self.tasks.of(Phase.SENT))
        text = f"agent {self.info.name} stops"
        if alive:
            text += f"; {alive} tasks go on and are taken back when it is started again"
        return self._stop(text)

    def _stop(self, text: str, exit_code: int = 0) -> list[Effect]:
        self._stopped = True
        return [*self.session.end(), Stop(exit_code, text)]

    def _tick(self, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        for peer, _ in self._executor_sessions.expire(now):
            effects += self.executors.peer_lost(peer, now)
        self._visitors.expire(now)
        effects += self.executors.tick(now)
        effects += self._handing.tick(now)
        effects += self._reaper.tick(now)
        effects += self._streams.tick(now) + self._retention.tick(now)
        if self.session.confirmed:
            self.tasks.tick(now)
        return effects + (self.session.tick(now) if self._begun else [])

    def _peer_lost(self, peer: str, moved: bool, now: Now) -> list[Effect]:
        if peer.startswith(EXECUTORS_PREFIX):
            self._executor_sessions.drop(peer)
            return self.executors.peer_lost(peer, now)
        if peer.startswith(DATA_PREFIX):
            self._visitors.drop(peer)
            return []
        return self.session.lose(now, moved)

    # --- the master -------------------------------------------------------------------------------
    def _hello(self) -> Message:
        frameworks = tuple([one.entry.info for one in self.tasks.frameworks.values()])
        life, opening = self._identity.life, self.session.openings
        tasks, volumes = self.tasks.reports(), self._volumes.here()
        return messages.RegisterAgent(self.info, tasks, frameworks, life, opening, volumes)

    def _lost(self, now: Now) -> list[Effect]:
        return [Log("warning", "the master does not answer; tasks go on")]

    def _from_master(self, event: Received, now: Now) -> list[Effect]:
        message, effects = self.session.receive(event.envelope, now)
        if self.session.is_foreign:
            text = "that master leads another cluster than the one this agent belongs to; "
            return self._stop(text + "name the right --master, or an empty --work-dir", 5)
        effects += self._renew_leases(now)
        match message:
            case None:
                return effects
            case messages.AgentRegistered():
                return effects + self._registered(message, now)
            case Refusal():
                return effects + self._refused(message, now)
            case _ if not self.session.confirmed:
                return effects
            case messages.LaunchTasks():
                self._volumes.lent(message)
                return effects + self._handing.launch(message, self.info, now)
            case messages.KillTasks():
                return effects + self._handing.kill_all(message, now)
            case OrderVolumes():
                return effects + self._volumes.order(message)
            case messages.Acknowledge(acks=acks):
                return sum(map(self.tasks.acknowledge, acks), effects)
            case messages.ShutdownFramework(framework_id=framework_id):
                framework = self.tasks.frameworks.get(framework_id)
                return effects + (self._handing.shut_down(framework, now) if framework else [])
            case messages.ReturnLanes():
                return effects + self._lanes.return_all(message, now)
            case messages.AdmitKey():
                effects += self._streams.admit(message, now)
                return effects + self.session.send(messages.KeyAdmitted(message.request))
            case _:
                return [*effects, Log("warning", f"the master sent an unexpected {message.kind}")]

    def _renew_leases(self, now: Now) -> list[Effect]:
        effects = self._leases.renew(self.session.vouched, now)
        if self._leases.are_held:
            self.session.quicken(now)
        return effects

    def _registered(self, message: messages.AgentRegistered, now: Now) -> list[Effect]:
        known = self.info.agent_id
        if not message.agent_id or known not in ("", message.agent_id):
            return self._stop(f"the master calls agent {known} {message.agent_id!r}", 1)
        self.session.heartbeat_s = max(0.1, message.heartbeat_s)
        self.session.confirm(now, message.agents)
        self.info = replace(self.info, agent_id=message.agent_id)
        self.tasks.agent_id = message.agent_id
        effects = self._identity.remember(self.info, self.session)
        # Before it hears from us the master cannot be sure that we are those who registered.
        effects += self.session.ping(now)
        effects += self._renew_leases(now)
        if not known:
            effects.append(deeds.OpenContainers(message.agent_id))
        self.tasks.repeat()
        text = f"registered with the master as {self.info.name} ({message.agent_id})"
        return [*effects, Log("info", f"{text} with {self.info.total}")]

    def _refused(self, message: Refusal, now: Now) -> list[Effect]:
        hint = f"; {message.hint}" if message.hint else ""
        text = f"the master refuses: {message.message}{hint}"
        if message.code == "gone":
            # Its tasks may run elsewhere by now: no grace. While anybody listens it tells of them.
            over = [] if self.session.confirmed else self.session.end()
            self._last_words = (5, text)
            log = Log("warning", f"{message.message}: ending all it has")
            effects = [*self._identity.mark_gone(), log, *over]
            return effects + self._handing.close_down(0.0, now, Reason.AGENT_GONE)
        if message.code == "not-permitted" and not self.session.confirmed:
            return self._stop(text, 5)
        return [Log("warning", text)]

    # --- executors --------------------------------------------------------------------------------
    def _to_executor(self, framework_id: FrameworkId, message: Message) -> list[Effect]:
        peer = self.executors.peer_of(framework_id)
        return self._executor_sessions.send(peer, message) if peer else []

    def _from_executor(self, event: Received, now: Now) -> list[Effect]:
        peer = event.peer
        message, effects = self._executor_sessions.receive(event, now)
        match message:
            case messages.RegisterExecutor():
                effects += self.executors.register(peer, message, now)
                return effects + self._leases.greet(message.executor_id)
            case messages.StatusUpdates():
                return effects + self.executors.updates(peer, message)
            case StdinTaken():
                return effects + self._stdin.taken(message)
            case Bye():
                return effects + self.executors.goodbye(peer, now)
            case None if peer not in self._executor_sessions:
                return effects + self.executors.peer_lost(peer, now)
            case None | Refusal():
                return effects
            case _:
                return [*effects, Log("warning", f"an executor sent a {message.kind}")]


__all__ = ["AgentMachine", "AgentOptions"]
