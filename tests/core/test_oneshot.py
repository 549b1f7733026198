"""`mesosctl run`: one task, its streams passed on with back-pressure, its end passed on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from mesosctl.core.machine import (
    Effect,
    Event,
    Now,
    Open,
    PeerLost,
    Received,
    Send,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.oneshot import Connect, Note, OneShot, Output, StdinRead, WantStdin, Written
from mesosctl.limits import STREAM_WINDOW_BYTES
from mesosctl.model.cluster import FrameworkInfo, Offer
from mesosctl.model.fit import AgentGroup, Fit, Lack
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, Reason, StatusUpdate, TaskInfo, TaskState
from mesosctl.protocol.codec import decode, encode
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import Acknowledge, KillTasks, StatusUpdates
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.explain import Fits, HowFits
from mesosctl.protocol.messages.framework import (
    Accept,
    Admit,
    Admitted,
    AgentChanged,
    Decline,
    Offers,
    Subscribe,
    Subscribed,
    Suppress,
    Teardown,
)
from mesosctl.protocol.messages.session import Ping, Pong
from mesosctl.protocol.messages.streams import (
    ReadStream,
    StdinTaken,
    StreamChunk,
    StreamCredit,
    WriteStdin,
)

NEED = Resources.parse("cpus:1;mem:64")


class Shell:
    """Plays the master and the agent, records what the machine wants done."""

    def __init__(self, **command: Any) -> None:
        numbers = itertools.count(1)
        task = TaskInfo(TaskId("run"), "run", AgentId(""), NEED, Command(("work",), **command))
        info = FrameworkInfo(FrameworkId(""), "run", "me")
        self.machine = OneShot(info, task, "own-key", lambda: f"{next(numbers):016x}")
        self.time_s = 0.0
        self.said: list[tuple[str, Message]] = []
        self.deeds: list[Effect] = []
        self.sessions: dict[str, str] = {}
        self.sent = {"master": 0, "agent": 0}
        self.feed(Started())

    def feed(self, event: Event) -> None:
        now = Now(self.time_s, 1e9 + self.time_s)
        self.note([*self.machine.handle(event, now), *self.machine.settle(now)])
        self.machine.check()

    def note(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Open):
                self.sent[effect.link] = 0
            elif isinstance(effect, Send):
                envelope = decode(encode(effect.envelope))
                self.sessions[effect.peer] = envelope.session
                self.said.append((effect.peer, envelope.message))
            else:
                self.deeds.append(effect)

    def tell(self, link: str, message: Message) -> None:
        """A message from the master or the agent, in the present session."""
        self.sent[link] += 1
        envelope = Envelope("c", 1, self.sessions[link], self.sent[link], message)
        self.feed(Received(link, "", decode(encode(envelope))))

    def heard(self, kind: type[Any]) -> list[Any]:
        """What was said of this kind, drained."""
        found = [message for _, message in self.said if isinstance(message, kind)]
        self.said = [pair for pair in self.said if not isinstance(pair[1], kind)]
        return found

    def did(self, kind: type[Any]) -> list[Any]:
        """The deeds of this kind, drained."""
        found = [deed for deed in self.deeds if isinstance(deed, kind)]
        self.deeds = [deed for deed in self.deeds if not isinstance(deed, kind)]
        return found

    def advance(self, seconds: float) -> None:
        """Let time pass, a timer at a time."""
        end = self.time_s + seconds
        while (due := self.machine.deadline()) is not None and due <= end:
            self.time_s = max(self.time_s, due)
            self.feed(Tick())
        self.time_s = end

    # --- the usual course ---
    def launch(self) -> str:
        """Subscribe, be offered, accept, be let in to the streams; the task's id."""
        [subscribe] = self.heard(Subscribe)
        assert subscribe.framework.failover_timeout_s == 0
        self.tell("master", Subscribed(FrameworkId("F1"), 5.0))
        self.offer("O1", "cpus:4;mem:4096")
        [accept] = self.heard(Accept)
        [admit] = self.heard(Admit)
        assert self.heard(Suppress)
        assert admit.key == "own-key"
        self.tell("master", Admitted(admit.request, "tcp://a:1", "agent-key"))
        assert self.did(Connect) == [Connect("tcp://a:1", "agent-key")]
        name: str = accept.tasks[0].task_id
        return name

    def offer(self, name: str, resources: str) -> None:
        offer = Offer(
            OfferId(name),
            FrameworkId("F1"),
            AgentId("A1"),
            "a1",
            "*",
            Resources.parse(resources),
        )
        self.tell("master", Offers((offer,)))

    def end(self, task: str, state: TaskState, **more: Any) -> None:
        """The task's last update."""
        more = {"started_at": 1.0, "uuid": "u1"} | more
        update = StatusUpdate(FrameworkId("F1"), TaskId(task), AgentId("A1"), state, **more)
        self.tell("master", StatusUpdates((update,)))

    def exit_code(self) -> int:
        """The code of the one Stop."""
        [stop] = self.did(Stop)
        code: int = stop.exit_code
        return code


def test_output_arrives_whole_before_the_end_is_told() -> None:
    """The end may be known before the last bytes: they still have to be shown first."""
    shell = Shell()
    task = shell.launch()
    assert [read.name for read in shell.heard(ReadStream)] == ["stdout", "stderr"]
    shell.tell("agent", StreamChunk(1, 0, b"out"))
    shell.end(task, TaskState.FAILED, exit_code=7, reason=Reason.EXITED, message="exit code 7")
    assert shell.did(Stop) == []
    shell.tell("agent", StreamChunk(1, 3, b"put", eof=True))
    shell.tell("agent", StreamChunk(2, 0, b"err", eof=True))
    assert [(o.name, o.data) for o in shell.did(Output)] == [
        ("stdout", b"out"),
        ("stdout", b"put"),
        ("stderr", b"err"),
    ]
    assert shell.did(Stop) == []
    for name, count in (("stdout", 6), ("stderr", 3)):
        shell.feed(Written(name, count))
    assert shell.exit_code() == 7
    assert shell.did(Note) == []
    assert shell.heard(Teardown)
    assert shell.heard(Acknowledge)


def test_credit_is_given_back_only_for_what_was_written() -> None:
    """A slow reader has to hold the task back, not fill our memory."""
    shell = Shell()
    shell.launch()
    assert [read.credit for read in shell.heard(ReadStream)] == [STREAM_WINDOW_BYTES] * 2
    shell.tell("agent", StreamChunk(1, 0, b"x" * 1000))
    assert shell.heard(StreamCredit) == []
    shell.feed(Written("stdout", 400))
    assert [credit.taken for credit in shell.heard(StreamCredit)] == [400]


def test_streams_go_on_where_they_were_after_a_loss() -> None:
    """A reconnect must neither lose nor repeat a byte; the agent may have moved."""
    shell = Shell()
    shell.launch()
    shell.heard(ReadStream)
    shell.tell("agent", StreamChunk(1, 0, b"abc"))
    shell.feed(PeerLost("agent"))
    [admit] = shell.heard(Admit)
    shell.tell("master", Admitted(admit.request, "tcp://a:2", "agent-key"))
    assert shell.did(Connect) == [Connect("tcp://a:2", "agent-key")]
    reads = {read.name: read for read in shell.heard(ReadStream)}
    assert (reads["stdout"].offset, reads["stdout"].credit) == (3, STREAM_WINDOW_BYTES - 3)
    shell.tell("agent", StreamChunk(1, 0, b"abcdef"))
    assert [output.data for output in shell.did(Output)] == [b"abc", b"def"]


def test_stdin_is_sent_within_the_window_and_again_after_a_loss() -> None:
    """What the task has not taken is kept; more is not read than fits."""
    shell = Shell(stdin="stream")
    shell.launch()
    assert shell.did(WantStdin) == [WantStdin(True)]
    shell.feed(StdinRead(b"y" * STREAM_WINDOW_BYTES))
    assert shell.did(WantStdin) == [WantStdin(False)]
    written = shell.heard(WriteStdin)
    assert sum(len(message.data) for message in written) == STREAM_WINDOW_BYTES
    shell.tell("agent", StdinTaken(FrameworkId("F1"), TaskId("run.1"), 1000))
    assert shell.did(WantStdin) == [WantStdin(True)]
    shell.feed(StdinRead(b""))
    assert shell.heard(WriteStdin)[-1].eof
    shell.feed(PeerLost("agent"))
    [admit] = shell.heard(Admit)
    shell.tell("master", Admitted(admit.request, "tcp://a:1", "agent-key"))
    again = shell.heard(WriteStdin)
    assert again[0].offset == 1000
    assert sum(len(message.data) for message in again) == STREAM_WINDOW_BYTES - 1000
    assert again[-1].eof


def test_an_offer_that_is_too_small_is_declined_and_waited_out() -> None:
    """The user learns what is waited for instead of staring at nothing."""
    shell = Shell()
    shell.heard(Subscribe)
    shell.tell("master", Subscribed(FrameworkId("F1"), 5.0))
    shell.offer("O1", "cpus:0.5;mem:4096")
    assert shell.heard(Decline)
    assert shell.heard(Accept) == []
    shell.advance(3)
    [question] = shell.heard(HowFits)
    lack = Lack("cpus", 1000, 500, "a1")
    fit = Fit(1, (AgentGroup("NeverFits", 1, ("a1",), (lack,)),))
    shell.tell("master", Fits(1, question.request, (fit,)))
    [note] = shell.did(Note)
    assert "cpus:1;mem:64" in note.text and "most there is 0.5 on a1" in note.text
    assert "-c 0.5 fits a1" in note.text


def test_a_master_that_never_answers_is_given_up() -> None:
    """An address with a typo must not hang a script."""
    shell = Shell()
    shell.advance(11)
    assert "does not answer" in shell.did(Note)[-1].text
    assert shell.exit_code() == 125


def test_a_task_that_never_started_is_placed_again() -> None:
    """DROPPED is proof that it did not run: another try is no second run."""
    shell = Shell()
    task = shell.launch()
    shell.end(task, TaskState.DROPPED, started_at=None, uuid="")
    shell.offer("O2", "cpus:4;mem:4096")
    [accept] = shell.heard(Accept)
    assert accept.tasks[0].task_id != task


@pytest.mark.parametrize(
    ("state", "more", "code"),
    [
        (TaskState.FINISHED, {}, 0),
        (TaskState.FAILED, {"reason": Reason.MEMORY_LIMIT, "signal": 9}, 137),
        (TaskState.FAILED, {"reason": Reason.TIME_LIMIT, "signal": 15}, 124),
        (TaskState.FAILED, {"reason": Reason.SIGNALED, "signal": 11}, 139),
        (TaskState.FAILED, {"reason": Reason.LAUNCH_FAILED, "exit_code": 127}, 127),
        (TaskState.FAILED, {"reason": Reason.LAUNCH_FAILED}, 125),
        (TaskState.KILLED, {"signal": 15}, 143),
        (TaskState.ERROR, {}, 125),
        (TaskState.GONE, {}, 125),
    ],
)
def test_every_end_has_its_exit_code_and_says_why(
    state: TaskState, more: dict[str, Any], code: int
) -> None:
    """0 only for a task that finished; what a code alone does not tell is told in words."""
    shell = Shell(stdout="none", stderr="none")
    task = shell.launch()
    shell.end(task, state, message="the reason", **more)
    assert shell.exit_code() == code
    assert [note.text for note in shell.did(Note)] == ([] if code == 0 else ["the reason"])


def test_interrupts_are_passed_on_and_the_second_one_kills() -> None:
    """Ctrl-C is for the task first; twice within two seconds is for us."""
    shell = Shell()
    shell.launch()
    shell.feed(Signalled(2))
    [kill] = shell.heard(KillTasks)
    assert kill.kills[0].signum == 2
    shell.time_s += 1
    shell.feed(Signalled(2))
    [kill] = shell.heard(KillTasks)
    assert (kill.kills[0].signum, kill.kills[0].grace_s) == (None, 0.0)


def test_a_reader_that_leaves_ends_the_task_without_a_word() -> None:
    """`run -- yes | head -1` ends as any pipe does."""
    shell = Shell()
    task = shell.launch()
    shell.tell("agent", StreamChunk(1, 0, b"y\n" * 100))
    shell.feed(Written("stdout", 0, closed=True))
    assert shell.heard(KillTasks)
    shell.end(task, TaskState.KILLED, signal=15, message="killed on request")
    assert shell.exit_code() == 141
    assert shell.did(Note) == []


def test_streams_that_are_lost_for_good_do_not_hold_the_end_back_for_ever() -> None:
    """The agent died after the task ended: its code is known, its output is not."""
    shell = Shell()
    task = shell.launch()
    shell.feed(PeerLost("agent"))
    shell.end(task, TaskState.FAILED, exit_code=3, reason=Reason.EXITED)
    shell.advance(29)
    assert shell.did(Stop) == []
    shell.advance(5)
    assert shell.exit_code() == 3
    assert any("rest of the output" in note.text for note in shell.did(Note))


def test_a_lease_that_ran_out_is_the_end_of_run() -> None:
    """What it printed cannot be taken back, so nothing is started anew: it is lost, in time."""
    shell = Shell()
    shell.machine._task = replace(shell.machine._task, lease_s=30.0)
    task = shell.launch()
    shell.tell("master", AgentChanged(AgentId("A1"), "a1", "unreachable"))
    assert "lost in 40 s" in shell.did(Note)[0].text
    while shell.time_s < 60.0:
        shell.advance(1.0)
        for _ in shell.heard(Ping):
            if shell.sent["master"]:
                shell.tell("master", Pong())
        if stops := shell.did(Stop):
            assert [stop.exit_code for stop in stops] == [125]
            break
    assert 40.0 <= shell.time_s <= 48.0
    assert any("--lost-after" in note.text for note in shell.did(Note))
    assert task == "run.1"
