"""Executors of a framework's own: tasks that others are handed to, by a socket in their sandbox.

Owns the sessions with them (peers "guest-<task id>:…") and the tasks that they do themselves. To a
guest we are its agent: it registers with us, is handed its tasks, tells of them, is acknowledged
(docs/decisions/executors.md). What it has started in a container of its own is a task like any
other from then on, and belongs to executor_lives.py.

Rules:
- A guest has the limits of its own task and of those that it was handed and does itself.
- What it cannot be made to do is done to its container: a kill, a time limit, its own end.
- When its container is gone, so are its tasks; those in containers of their own are ended.
- It is believed about its own tasks only; what is out of place is counted, not answered.
"""

from __future__ import annotations

from dataclasses import replace

from mesosctl.core.executor_effects import ResizeFailed
from mesosctl.core.executor_guest import (
    ID_ENV,
    PREFIX,
    TOKEN_ENV,
    Guest,
    Held,
    believed,
    one_line,
    orphaned,
)
from mesosctl.core.executor_guest_tasks import GuestTasks
from mesosctl.core.executor_lives import TaskLives
from mesosctl.core.executor_task import Phase, Step, Task
from mesosctl.core.machine import Effect, Log, NewId, Now, Received
from mesosctl.core.session import ServerSessions
from mesosctl.errors import require
from mesosctl.limits import (
    EXECUTOR_REGISTER_S,
    GUEST_ENDS_MAX,
    GUEST_FAULTS_MAX,
    HEARTBEAT_S,
)
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.tasks import Reason, StatusUpdate, TaskState
from mesosctl.protocol.messages.agent import (
    Ack,
    Acknowledge,
    ExecutorLaunch,
    ExecutorRegistered,
    ExecutorTask,
    KillTasks,
    RegisterExecutor,
    RunTasks,
    StartTask,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.session import Bye, Refusal


class Guests:
    """All guests of an executor. `idle_s`: one without tasks for so long is asked to end."""

    def __init__(self, lives: TaskLives, new_id: NewId, idle_s: float) -> None:
        self._lives = lives
        self._new_id = new_id
        self._idle_s = idle_s
        self._missed: list[StatusUpdate] = []
        self._sessions = ServerSessions("", 0)
        self._tasks = GuestTasks(lives, self._sessions, new_id, idle_s)
        self._guests: dict[str, Guest] = {}

    def __bool__(self) -> bool:
        return bool(self._guests)

    def reports(self) -> tuple[ExecutorTask, ...]:
        """Every held task, as the agent is told of it."""
        held = [one.task for guest in self._guests.values() for one in guest.held.values()]
        return tuple([ExecutorTask(task.launch.task.task_id, task.state) for task in held])

    def _known(self, task_id: str) -> tuple[Guest, Held] | None:
        for guest in self._guests.values():
            if task_id in guest.held:
                return guest, guest.held[task_id]
        return None

    # --- launches ---------------------------------------------------------------------------------
    def run(self, launches: tuple[ExecutorLaunch, ...], now: Now) -> list[Effect]:
        """Start these: the ordinary ones and guests first, then what is for guests."""
        plain = tuple([self._enter(one) for one in launches if not one.task.executor])
        effects = self._lives.run(plain, now)
        for launch in plain:
            if launch.task.is_executor and not self._lives.knows(launch.container):
                self._guests.pop(launch.task.task_id, None)
        for launch in launches:
            if launch.task.executor:
                self._hold(launch, now)
        for guest in self._guests.values():
            effects += self._hand(guest, now)
        return effects

    def _enter(self, launch: ExecutorLaunch) -> ExecutorLaunch:
        name = launch.task.task_id
        if not launch.task.is_executor or self._lives.knows(launch.container):
            return launch
        token = self._new_id() + self._new_id()
        launch = replace(launch, env={**launch.env, ID_ENV: name, TOKEN_ENV: token})
        self._guests[name] = guest = Guest(launch, token)
        guest.limits = guest.wanted_limits()
        return launch

    def _hold(self, launch: ExecutorLaunch, now: Now) -> None:
        lives, info = self._lives, launch.task
        if lives.knows(launch.container) or lives.updates.has_ended(launch.container):
            return
        guest = self._guests.get(info.executor)
        if guest is not None and (info.task_id in guest.held or info.task_id in guest.own):
            return
        problem = ""
        if guest is None:
            problem = f"its executor {info.executor} is not there"
        elif guest.is_ending:
            problem = f"its executor {info.executor} is about to end"
        elif info.command.user != guest.launch.task.command.user:
            problem = f"its executor {info.executor} runs as another user"
        elif launch.container != f"{lives.framework_id}/{info.task_id}":
            problem = "its container has a wrong name"
        if guest is None or problem:
            lives.drop(launch, lives.framework_id, problem, now)
            return
        guest.held[info.task_id] = Held(Task(launch))

    def _hand(self, guest: Guest, now: Now) -> list[Effect]:
        """Give a guest that is here what it was not given yet, and the room for it before."""
        fresh = [one for one in guest.held.values() if not one.handed] if guest.peer else []
        if not fresh:
            return []
        for one in fresh:
            one.handed = True
            if one.task.started_at is None:
                # Not from when it says so, which it need not ever do.
                limit_s = one.task.launch.task.time_limit_s
                one.task.limit_due = None if limit_s is None else now.mono + limit_s
                one.task.started_at = now.wall
        launches = tuple([one.task.launch for one in fresh])
        message = RunTasks(self._lives.framework_id, launches)
        return [*self._tasks.fit(guest), *self._sessions.send(guest.peer, message)]

    def started(self, container: str, now: Now) -> None:
        """A task runs: a guest has so long to register."""
        guest = self._guests.get(container.partition("/")[2])
        if guest is not None and guest.launch.container == container:
            guest.is_running, guest.by = True, now.mono + EXECUTOR_REGISTER_S
            guest.idle_since = now.mono

    # --- what a guest says ------------------------------------------------------------------------
    def receive(self, event: Received, now: Now) -> list[Effect]:
        """Take a message of a guest, or of whoever found its socket."""
        message, effects = self._sessions.receive(event, now)
        peer = event.peer
        guest = self._guests.get(peer.partition(":")[0].removeprefix(PREFIX))
        if guest is None:
            return [*effects, *self._sessions.reset(peer, "unknown-session")]
        if message is None and peer not in self._sessions:
            return effects + self.peer_lost(peer, now)
        match message:
            case None | Refusal():
                return effects
            case RegisterExecutor():
                return effects + self._register(guest, peer, message, now)
            case _ if peer != guest.peer:
                return effects + self._turn_away(guest, peer, f"a {message.kind} came first", now)
            case StatusUpdates():
                return effects + self._updates(guest, message.updates, now)
            case StartTask():
                return effects + self._start(guest, message, now)
            case Acknowledge():
                for ack in message.acks:
                    told = guest.own.get(ack.task_id)
                    if told is not None and told.is_terminal and told.uuid == ack.uuid:
                        del guest.own[ack.task_id]
                return effects
            case Bye():
                guest.is_ending = True
                return effects + self.peer_lost(peer, now)
            case _:
                return effects + self._fault(guest, f"it sent a {message.kind}", now)

    def _turn_away(self, guest: Guest, peer: str, why: str, now: Now) -> list[Effect]:
        text = f"executor {guest.name}: {why}"
        refusal = Refusal(self._sessions.answered(peer), "not-permitted", text)
        effects = self._sessions.send(peer, refusal)
        self._sessions.drop(peer)
        return effects + self._fault(guest, why, now)

    def _fault(self, guest: Guest, what: str, now: Now) -> list[Effect]:
        guest.faults += 1
        if guest.faults == GUEST_FAULTS_MAX:
            text = f"{GUEST_FAULTS_MAX} of its messages were out of place, the last: {what}"
            return self._tasks.force(guest, text, now)
        first = guest.faults == 1
        return [Log("warning", f"executor {guest.name}: {one_line(what)}")] if first else []

    def _register(
        self, guest: Guest, peer: str, message: RegisterExecutor, now: Now
    ) -> list[Effect]:
        # Few processes ever get here, and it brings the whole of OpenSSL along.
        from hmac import compare_digest

        token = message.token.encode("utf-8", "surrogateescape")
        if message.executor_id != guest.name or not compare_digest(token, guest.token.encode()):
            return self._turn_away(guest, peer, "it cannot prove who it is", now)
        if 0 < message.opening <= guest.opening:
            return self._sessions.reset(peer, "replaced")
        if guest.peer and guest.peer != peer:
            self._sessions.drop(guest.peer)
        guest.peer, guest.opening, guest.by = peer, message.opening, None
        effects = self._sessions.send(peer, ExecutorRegistered(HEARTBEAT_S))
        effects += self._updates(guest, message.updates, now)
        has = {task.task_id for task in message.tasks}
        for task_id, one in list(guest.held.items()):
            if one.handed and task_id not in has:
                effects += self._missing(guest, one, now)
        effects += self._hand(guest, now)
        for one in guest.held.values():
            effects += self._tasks.pass_kill(guest, one, now)
        told = tuple([known for known in guest.own.values() if known is not None])
        effects += self._sessions.send(peer, StatusUpdates(told)) if told else []
        for task_id in sorted(has):
            if task_id not in guest.held and task_id not in guest.own:
                kill = KillTasks(self._lives.framework_id, (TaskKill(task_id, grace_s=0.0),))
                effects += self._sessions.send(peer, kill)
        return effects + (self._tasks.say_end(guest) if guest.is_ending else [])

    def _missing(self, guest: Guest, one: Held, now: Now) -> list[Effect]:
        """It was handed a task and does not have it: it is told again, unless it had begun."""
        if one.task.cause or one.task.phase is not Phase.WAITING:
            step = orphaned(one.task, f"its executor {guest.name} does not have it any more")
            return self._tasks.finish(guest, one.task, step, now)
        one.handed = False
        return []

    def _updates(self, guest: Guest, updates: tuple[StatusUpdate, ...], now: Now) -> list[Effect]:
        effects: list[Effect] = []
        acks: list[Ack] = []
        for said in updates:
            acks.append(Ack(said.framework_id, said.task_id, said.agent_id, said.uuid))
            one = guest.held.get(said.task_id)
            ours = said.framework_id == self._lives.framework_id
            if one is None or not one.handed or not ours:
                key = f"{self._lives.framework_id}/{said.task_id}"
                if not (ours and (said.task_id in guest.own or self._lives.updates.has_ended(key))):
                    effects += self._fault(guest, f"it told of task {said.task_id}", now)
            elif said.is_terminal and said.state is not TaskState.GONE:
                effects += self._tasks.finish(guest, one.task, believed(one.task, said), now)
            elif said.state is TaskState.RUNNING:
                self._tasks.begun(one.task, one_line(said.message), now)
            elif said.state is not TaskState.KILLING:
                effects += self._fault(guest, f"it called a task {said.state}", now)
        if not acks or not guest.peer:
            return effects
        return [*self._sessions.send(guest.peer, Acknowledge(tuple(acks))), *effects]

    def _start(self, guest: Guest, message: StartTask, now: Now) -> list[Effect]:
        """Give a held task a container of its own, with all that it was launched with."""
        one = guest.held.get(message.task_id)
        if one is None or not one.handed or one.task.phase is not Phase.WAITING or one.task.cause:
            if one is not None and one.task.cause:
                return []
            return self._fault(guest, f"it cannot start task {message.task_id}", now)
        launch = one.task.launch
        own = launch.task.command
        # Whose it is and how its stdin is fed were decided by others.
        command = replace(message.command or own, user=own.user, stdin=own.stdin)
        if not command.argv and command.script is None:
            step = Step(TaskState.ERROR, Reason.TASK_INVALID, "its executor names no command")
            return self._tasks.finish(guest, one.task, step, now)
        del guest.held[message.task_id]
        guest.own[message.task_id] = None
        info = replace(launch.task, command=command, data=None, executor="")
        return [*self._tasks.fit(guest), *self._lives.run((replace(launch, task=info),), now)]

    # --- ends -------------------------------------------------------------------------------------
    def missed(self, updates: tuple[StatusUpdate, ...]) -> None:
        """These went to the agent outside of a pass's end; some for the second time."""
        self._missed = list(updates) if self._guests else []

    def settle(self, updates: list[StatusUpdate], now: Now) -> list[Effect]:
        """Tell what is on its way to the agent to the guest whose task it is, too.

        With a guest's own end its tasks end.
        """
        effects: list[Effect] = []
        updates, self._missed = self._missed + updates, []
        for told in updates:
            for guest in list(self._guests.values()):
                if told.task_id == guest.name and told.is_terminal:
                    del self._guests[guest.name]
                    self._sessions.drop(guest.peer)
                    effects += self._tasks.gone(guest, told, now)
                elif told.task_id in guest.own and guest.own[told.task_id] != told:
                    guest.own[told.task_id] = told
                    effects += self._sessions.send(guest.peer, StatusUpdates((told,)))
        for guest in self._guests.values():
            if guest.has_tasks or not guest.is_running:
                guest.idle_since = None
            elif guest.idle_since is None:
                guest.idle_since = now.mono
            ends = [name for name, known in guest.own.items() if known and known.is_terminal]
            for name in ends[: max(0, len(ends) - GUEST_ENDS_MAX)]:
                del guest.own[name]
        return effects

    def resize_failed(self, event: ResizeFailed, now: Now) -> list[Effect]:
        """A container keeps its limits."""
        guest = self._guests.get(event.container.partition("/")[2])
        if guest is None or not guest.is_running:
            return []
        return self._tasks.resize_failed(guest, event.text, now)

    # --- killing ----------------------------------------------------------------------------------
    def kill(self, kill: TaskKill, now: Now) -> list[Effect]:
        """End a held task, or a guest; any other is ended as ever."""
        if not self._guests:
            return self._lives.kill(kill, now)
        known = self._known(kill.task_id)
        if known is not None:
            return self._tasks.kill_held(*known, kill, now)
        effects: list[Effect] = []
        guest = self._guests.get(kill.task_id)
        if guest is not None and kill.signum is None:
            guest.is_ending = True
            effects = self._tasks.say_end(guest, kill.grace_s)
        return effects + self._lives.kill(kill, now)

    def kill_all(self, asked: TaskKill, now: Now) -> list[Effect]:
        """End every held task; guests and the others are among the lives."""
        effects: list[Effect] = []
        for guest in self._guests.values():
            guest.is_ending = True
            for task_id, one in list(guest.held.items()):
                kill = replace(asked, task_id=TaskId(task_id))
                effects += self._tasks.kill_held(guest, one, kill, now)
            effects += self._tasks.say_end(guest, asked.grace_s)
        return effects

    # --- time -------------------------------------------------------------------------------------
    def peer_lost(self, peer: str, now: Now) -> list[Effect]:
        """Its connection is gone; it has some time to come back."""
        self._sessions.drop(peer)
        guest = self._guests.get(peer.partition(":")[0].removeprefix(PREFIX))
        if guest is not None and guest.peer == peer:
            guest.peer, guest.by = "", now.mono + EXECUTOR_REGISTER_S
        return []

    def tick(self, now: Now) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = []
        for peer, _ in self._sessions.expire(now) if self._guests else ():
            effects += self.peer_lost(peer, now)
        for guest in list(self._guests.values()):
            effects += self._tasks.due(guest, now)
        return effects

    def deadline(self) -> float | None:
        """When tick() has something to do."""
        times = [self._sessions.deadline()] if self._guests else []
        for guest in self._guests.values():
            times += [guest.by, guest.quit_due, guest.resize_due]
            if guest.idle_since is not None and not guest.is_ending:
                times.append(guest.idle_since + self._idle_s)
            for one in guest.held.values():
                times += [one.task.kill_due, one.task.limit_due]
        return min((time for time in times if time is not None), default=None)

    def check(self) -> None:
        """Recompute every redundant structure; raises InvariantBroken where one is wrong."""
        for name, guest in self._guests.items():
            require(name == guest.name, f"executor {name} is entered as another")
            container = guest.launch.container
            ends = self._lives.updates.has_ended(container)
            require(self._lives.knows(container) or ends, f"executor {name} is gone and kept")
            for task_id in guest.held:
                key = f"{FrameworkId(self._lives.framework_id)}/{task_id}"
                require(not self._lives.knows(key), f"task {task_id} runs and is held")
