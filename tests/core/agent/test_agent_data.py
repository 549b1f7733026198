"""Streams at the agent: admission, credit, following, and standard input on its way to a task."""

from __future__ import annotations

from mesosctl.core.agent import effects as deeds
from mesosctl.core.machine import PeerLost
from mesosctl.limits import ADMISSION_S, CHUNK_BYTES, STREAM_WINDOW_BYTES
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.messages.agent import AdmitKey, KeyAdmitted, RunTasks
from mesosctl.protocol.messages.session import Refusal
from mesosctl.protocol.messages.streams import (
    ReadStream,
    StdinTaken,
    StreamChunk,
    StreamCredit,
    WriteStdin,
)
from tests.core.agent.conftest import F1, F2, Bench, FakeClient, FakeExecutor

T1 = TaskId("t1")


def admitted(bench: Bench, task_id: str = "t1", key: str = "K") -> FakeClient:
    """A client whose key the agent was told to let in."""
    bench.tell(AdmitKey("r", F1, TaskId(task_id), key, 60.0))
    assert bench.took(KeyAdmitted) == [KeyAdmitted("r")]
    assert bench.took_deeds(deeds.AllowKey) == [deeds.AllowKey(key)]
    return FakeClient(bench, key)


def running(bench: Bench, **command: str) -> FakeExecutor:
    executor = bench.up()
    bench.launch("t1", **command)
    executor.update("t1", TaskState.RUNNING)
    executor.took(RunTasks)
    return executor


def answer(bench: Bench, data: bytes, *, at_end: bool, **more: object) -> deeds.ReadFile:
    """Answer the one read that is under way."""
    (wanted,) = bench.took_deeds(deeds.ReadFile)
    offset = more.pop("offset", wanted.offset)
    bench.do(deeds.FileRead(wanted.token, offset, data, at_end, **more))  # type: ignore[arg-type]
    return wanted


def test_only_an_admitted_key_reads_and_only_its_task(bench: Bench) -> None:
    """Output is as private as the job it comes from."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F2, T1, "stdout", credit=10))
    client.say(ReadStream(2, F1, TaskId("t2"), "stdout", credit=10))
    stranger = FakeClient(bench, "other")
    stranger.say(ReadStream(1, F1, T1, "stdout", credit=10))
    for refused in (*client.took(Refusal), *stranger.took(Refusal)):
        assert refused.code == "not-permitted"
    assert bench.took_deeds(deeds.ReadFile) == []


def test_an_admission_runs_out_and_what_began_under_it_goes_on(bench: Bench) -> None:
    """A `logs -f` lasts longer than a minute; a key that leaked later is worth nothing."""
    running(bench)
    client = admitted(bench)
    late = FakeClient(bench, "K")
    client.say(ReadStream(1, F1, T1, "stdout", credit=10))
    for _ in range(12):
        bench.advance(ADMISSION_S / 10)
        client.say(StreamCredit(1, 0))
        bench.master._sessions["agent"].heard = bench.time_s
    assert bench.took_deeds(deeds.ForgetKey) == [deeds.ForgetKey("K")]
    client.say(ReadStream(2, F1, T1, "stderr", credit=10))
    assert client.took(Refusal) == []
    late.say(ReadStream(1, F1, T1, "stdout", credit=10))
    assert late.took(Refusal)[0].code == "not-permitted"


def test_never_more_is_under_way_than_was_granted(bench: Bench) -> None:
    """A slow reader must not make the agent grow."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", credit=CHUNK_BYTES + 10))
    assert answer(bench, b"x" * CHUNK_BYTES, at_end=False).bytes_max == CHUNK_BYTES
    assert answer(bench, b"y" * 10, at_end=False).bytes_max == 10
    assert bench.took_deeds(deeds.ReadFile) == []
    assert sum(len(one.data) for one in client.took(StreamChunk)) == CHUNK_BYTES + 10
    client.say(StreamCredit(1, 5))
    wanted = answer(bench, b"z" * 5, at_end=True)
    assert (wanted.offset, wanted.bytes_max) == (CHUNK_BYTES + 10, 5)
    (chunk,) = client.took(StreamChunk)
    assert chunk == StreamChunk(1, CHUNK_BYTES + 10, b"z" * 5, eof=True)


def test_a_boundless_credit_is_bounded(bench: Bench) -> None:
    """The reader's word about its memory is not ours to believe."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", credit=2**40))
    sent = 0
    while wanted := [one for one in bench.deeds if isinstance(one, deeds.ReadFile)]:
        answer(bench, b"x" * wanted[0].bytes_max, at_end=False)
        sent += wanted[0].bytes_max
    assert sent == STREAM_WINDOW_BYTES


def test_following_ends_after_the_end_of_the_task_and_not_before_its_last_byte(
    bench: Bench,
) -> None:
    """The read that found nothing began before the end: the last words came in between."""
    executor = running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", follow=True, credit=1000))
    (early,) = bench.took_deeds(deeds.ReadFile)
    executor.update("t1", TaskState.FINISHED)
    bench.do(deeds.FileRead(early.token, 0, b"", True))
    answer(bench, b"last words", at_end=True)
    (chunk,) = client.took(StreamChunk)
    assert chunk == StreamChunk(1, 0, b"last words", eof=True)
    bench.advance(1.0)
    assert bench.took_deeds(deeds.ReadFile) == []


def test_a_followed_file_is_looked_at_again_soon_and_then_less_often(bench: Bench) -> None:
    """Output should be seen when it is made, and a quiet task should cost nothing."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", follow=True, credit=1000))
    began = bench.time_s
    looks = []
    for _ in range(8):
        answer(bench, b"", at_end=True)
        assert bench.took_deeds(deeds.ReadFile) == []
        while not any(isinstance(one, deeds.ReadFile) for one in bench.deeds):
            bench.advance(0.005)
        looks.append(round(bench.time_s - began, 3))
        began = bench.time_s
    assert looks[0] <= 0.01 and all(0.04 <= gap <= 0.06 for gap in looks[4:])
    answer(bench, b"more", at_end=False)
    assert client.took(StreamChunk) == [StreamChunk(1, 0, b"more")]


def test_a_task_that_has_not_started_yet_can_be_followed(bench: Bench) -> None:
    """There is no file before the start."""
    executor = bench.up()
    bench.launch("t1")
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", follow=True, credit=1000))
    answer(bench, b"", at_end=True, missing=True, problem="no sandbox")
    bench.advance(0.01)
    answer(bench, b"now", at_end=False)
    assert client.took(StreamChunk) == [StreamChunk(1, 0, b"now")]
    assert executor.tasks


def test_the_tail_is_counted_once(bench: Bench) -> None:
    """After the first read the place is a number of bytes."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", tail_lines=2, follow=True, credit=1000))
    first = answer(bench, b"a\nb\n", at_end=False, offset=500)
    second = answer(bench, b"", at_end=True)
    assert (first.tail_lines, second.tail_lines, second.offset) == (2, -1, 504)
    assert client.took(StreamChunk) == [StreamChunk(1, 500, b"a\nb\n")]


def test_output_that_went_elsewhere_is_said_to_be_there(bench: Bench) -> None:
    """-o FILE is not in the sandbox."""
    running(bench, stdout="/data/out", stderr="merge")
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", credit=10))
    client.say(ReadStream(2, F1, T1, "stderr", credit=10))
    one, two = client.took(StreamChunk)
    assert one.eof and one.problem == "stdout of this task went to /data/out on agent host"
    assert two.eof and two.problem == "stderr of this task went into its stdout"


def test_a_task_that_is_forgotten_is_read_from_its_sandbox(bench: Bench) -> None:
    """Its output outlives its record."""
    executor = running(bench)
    bench.acknowledge(executor.update("t1", TaskState.FINISHED))
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", follow=True, credit=100))
    answer(bench, b"kept", at_end=True)
    assert client.took(StreamChunk) == [StreamChunk(1, 0, b"kept", eof=True)]
    client.say(ReadStream(2, F1, T1, "stderr", credit=100))
    answer(bench, b"", at_end=True, missing=True, gone=True)
    (chunk,) = client.took(StreamChunk)
    assert chunk.eof and chunk.removed
    assert chunk.problem.startswith("removed after its retention of 7d")


def test_streams_end_with_their_connection(bench: Bench) -> None:
    """Nobody is left to read."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "stdout", follow=True, credit=1000))
    bench.do(PeerLost(client.peer))
    answer(bench, b"", at_end=True)
    bench.advance(1.0)
    assert bench.took_deeds(deeds.ReadFile) == []


def test_bad_requests_are_refused(bench: Bench) -> None:
    """A name leads nowhere but to the two streams."""
    running(bench)
    client = admitted(bench)
    client.say(ReadStream(1, F1, T1, "../../etc/passwd", credit=10))
    client.say(ReadStream(1, F1, T1, "stdout", offset=-1, credit=10))
    client.say(ReadStream(1, F1, T1, "stdout", credit=10))
    client.say(ReadStream(1, F1, T1, "stdout", credit=10))
    client.say(KeyAdmitted("x"))
    codes = [refused.code for refused in client.took(Refusal)]
    assert codes == ["invalid", "invalid", "invalid", "unknown-kind"]


# --- standard input -------------------------------------------------------------------------------
def write(offset: int, data: bytes, eof: bool = False) -> WriteStdin:
    return WriteStdin(F1, T1, offset, data, eof)


def test_input_waits_for_its_task_to_be_handed_over(bench: Bench) -> None:
    """`run` sends its input as soon as it may."""
    executor = bench.up()
    bench.auto_sandbox = False
    bench.launch("t1", stdin="stream")
    client = admitted(bench)
    client.say(write(0, b"early "))
    client.say(write(6, b"bird", eof=True))
    assert executor.took(WriteStdin) == []
    bench.do(deeds.SandboxMade("F1/t1", "/sandboxes/F1/t1"))
    got = executor.took(WriteStdin)
    assert b"".join(one.data for one in got) == b"early bird" and got[-1].eof
    executor.say(StdinTaken(FrameworkId(F1), T1, 10))
    assert client.took(StdinTaken) == [StdinTaken(F1, T1, 10)]


def test_input_not_taken_is_sent_again_to_an_executor_that_comes_back(bench: Bench) -> None:
    """What was under way when its session ended is not lost."""
    executor = running(bench, stdin="stream")
    client = admitted(bench)
    client.say(write(0, b"x" * CHUNK_BYTES))
    client.say(write(CHUNK_BYTES, b"tail"))
    executor.say(StdinTaken(F1, T1, CHUNK_BYTES))
    executor.took(WriteStdin)
    bench.cut(executor)
    client.say(write(CHUNK_BYTES + 4, b"end", eof=True))
    executor.connect()
    got = executor.took(WriteStdin)
    assert got[0].offset == CHUNK_BYTES
    assert b"".join(one.data for one in got) == b"tailend" and got[-1].eof


def test_gaps_and_excess_are_answered_with_how_far_we_are(bench: Bench) -> None:
    """The client sends again from there."""
    executor = running(bench, stdin="stream")
    client = admitted(bench)
    client.say(write(0, b"ab"))
    client.say(write(5, b"gap"))
    client.say(write(1, b"bc"))
    client.say(write(3, b"x" * STREAM_WINDOW_BYTES))
    assert client.took(StdinTaken) == [StdinTaken(F1, T1, 0)] * 2
    assert [(one.offset, one.data) for one in executor.took(WriteStdin)] == [(0, b"ab"), (2, b"c")]


def test_input_for_a_task_that_reads_none_is_closed(bench: Bench) -> None:
    """The client must not wait for ever."""
    executor = running(bench)
    client = admitted(bench)
    client.say(write(0, b"x"))
    assert client.took(StdinTaken) == [StdinTaken(F1, T1, 0, closed=True)]
    assert executor.took(WriteStdin) == []


def test_the_end_of_a_task_closes_its_input(bench: Bench) -> None:
    """Whoever writes learns that nobody reads."""
    executor = running(bench, stdin="stream")
    client = admitted(bench)
    client.say(write(0, b"x"))
    executor.update("t1", TaskState.FINISHED)
    assert client.took(StdinTaken) == [StdinTaken(F1, T1, 0, closed=True)]
