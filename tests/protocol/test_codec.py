"""The codec: every message comes back as it went, and no bytes bring it down."""

from __future__ import annotations

import dataclasses
import typing

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.errors import PeerError
from mesosctl.limits import FRAME_BYTES_MAX
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, TaskInfo
from mesosctl.protocol.codec import decode, encode, pack
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages import KINDS
from mesosctl.protocol.messages.agent import ExecutorLaunch, RunTasks
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.framework import Accept
from mesosctl.protocol.messages.session import Ping, Refusal
from mesosctl.protocol.messages.streams import StreamChunk
from mesosctl.protocol.schema import from_plain, to_plain

_IDENT = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


def _resources() -> st.SearchStrategy[Resources]:
    amounts = st.integers(1, 10**9)
    return st.fixed_dictionaries({"cpus": amounts, "mem": amounts}).map(Resources.from_wire)


st.register_type_strategy(Resources, _resources())


def _strategy(hint: object) -> st.SearchStrategy[object]:
    """Values of a type hint as messages use them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(hint, "__supertype__"):
        return _IDENT
    if hint is str:
        return st.text(max_size=10)
    if hint is int:
        return st.integers(0, 2**40)
    if hint is float:
        return st.floats(0, 1e9, allow_nan=False)
    if hint is bytes:
        return st.binary(max_size=20)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(_strategy(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*[_strategy(argument) for argument in arguments])
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), _strategy(arguments[1]), max_size=2)
    if arguments and type(None) in arguments:
        return st.none() | _strategy(next(a for a in arguments if a is not type(None)))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = {field.name: _strategy(hints[field.name]) for field in dataclasses.fields(hint)}
        return st.builds(hint, **fields)
    return st.from_type(hint)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_message_comes_back_as_it_went(kind: str) -> None:
    """A field that the schema cannot carry would be lost in silence on the wire."""
    strategy = _strategy(KINDS[kind])

    @given(strategy)
    def comes_back(message: object) -> None:
        envelope = Envelope("c", 3, "s", 7, message)  # type: ignore[arg-type]
        assert decode(encode(envelope), bytes_max=2**23) == envelope

    comes_back()


def is_envelope_or_refusal(frame: bytes) -> bool:
    """Whether decoding ends in one of the two ways it may; any other error passes through."""
    try:
        return isinstance(decode(frame), Envelope)
    except PeerError as error:
        return bool(error.code)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_a_refusal(junk: bytes) -> None:
    """A peer may send anything; nothing but PeerError may come of it."""
    assert is_envelope_or_refusal(junk)


@given(st.data())
def test_a_flipped_byte_is_an_envelope_or_a_refusal(data: st.DataObject) -> None:
    """Damage inside a valid frame reaches deeper into the decoder than plain junk does."""
    frame = bytearray(encode(Envelope("c", 1, "s", 1, Refusal(3, "invalid", "what", "try"))))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] = data.draw(st.integers(0, 255))
    assert is_envelope_or_refusal(bytes(frame))


def test_a_truncated_frame_is_refused_at_every_byte() -> None:
    """No prefix of a message is a message."""
    frame = encode(Envelope("c", 1, "s", 1, Refusal(3, "invalid", "what", "try")))
    for length in range(len(frame)):
        with pytest.raises(PeerError):
            decode(frame[:length])


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        ("text", "malformed"),
        ([], "malformed"),
        (["other", 1, "c", 1, "s", 1, "ping", {}], "malformed"),
        (["mesosctl", 2, "c", 1, "s", 1, "ping", {}], "wrong-version"),
        (["mesosctl", True, "c", 1, "s", 1, "ping", {}], "wrong-version"),
        (["mesosctl", 1, "c", -1, "s", 1, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "", 1, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "s" * 65, 1, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "s", 0, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "s", True, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "s", 2**63, "ping", {}], "malformed"),
        (["mesosctl", 1, "c", 1, "s", 1, "__init__", {}], "unknown-kind"),
        (["mesosctl", 1, "c", 1, "s", 1, "ping", []], "invalid"),
        (["mesosctl", 1, "c", 1, "s", 1, "refusal", {"re": True}], "invalid"),
        (["mesosctl", 1, "c", 1, "s", 1, "refusal", {"re": 1.0}], "invalid"),
        (["mesosctl", 1, "c", 1, "s", 1, "refusal", {"re": 1}], "invalid"),
        (["mesosctl", 1, "c", 1, "s", 1, "agent-registered", {"agent_id": "../x"}], "invalid"),
        (
            [
                "mesosctl",
                1,
                "c",
                1,
                "s",
                1,
                "accept",
                {"offer_ids": [], "tasks": [], "refuse_s": 9e999},
            ],
            "invalid",
        ),
    ],
)
def test_what_is_refused_says_which_rule_it_broke(plain: object, code: str) -> None:
    """The word goes back to the peer, so it has to be the right one."""
    with pytest.raises(PeerError) as caught:
        decode(pack(plain))
    assert caught.value.code == code


def test_bombs_are_refused_before_they_are_built() -> None:
    """One megabyte of empty lists would otherwise cost seventy megabytes of memory."""
    with pytest.raises(PeerError) as caught:
        decode(b"\x90" * (FRAME_BYTES_MAX + 1))
    assert caught.value.code == "too-large"
    for bomb in (b"\x91" * 2000, b"\xdd\xff\xff\xff\xff", b"\xc1", b"\xc7\x0c\xff" + b"\xff" * 12):
        with pytest.raises(PeerError) as caught:
            decode(bomb)
        assert caught.value.code == "malformed"


def test_a_key_that_occurs_twice_is_refused() -> None:
    """Two readers could otherwise see two different messages in the same bytes."""
    body = b"\x82\xa2re\x01\xa2re\x02"
    frame = b"\x98" + b"".join(
        [*(msgpack.packb(x) for x in ("mesosctl", 1, "c", 1, "s", 1, "refusal")), body]
    )
    with pytest.raises(PeerError) as caught:
        decode(frame)
    assert caught.value.code == "malformed"


def test_unknown_fields_are_ignored_and_defaults_left_out() -> None:
    """Fields can be added later without a new protocol version."""
    chunk = StreamChunk(1, 2, b"x")
    plain = to_plain(chunk)
    assert plain == {"stream": 1, "offset": 2, "data": b"x"}
    assert from_plain(StreamChunk, {**plain, "added_later": 1}) == chunk
    assert to_plain(Ping()) == {}


def _launches(commands: list[Command], cls: type[Message] = Accept) -> Message:
    """A message with one task for each of these commands."""
    tasks = tuple(
        TaskInfo(TaskId(f"T{at}"), "n", AgentId("S1"), Resources(), command, env={"I": str(at)})
        for at, command in enumerate(commands)
    )
    if cls is Accept:
        return Accept((OfferId("O1"),), tasks, 0.0)
    launches = tuple(ExecutorLaunch(task, "/s", task.task_id) for task in tasks)
    return RunTasks(FrameworkId("F1"), launches, shared=cls is RunTasks)


@pytest.mark.parametrize("cls", [Accept, RunTasks], ids=lambda cls: cls.__name__)
def test_a_command_in_common_is_sent_once(cls: type[Message]) -> None:
    """Hundreds of tasks of an array differ by a few variables, and not by their environment."""
    one, other = (Command(("true",), env={"BULK": word * 500}) for word in "ab")
    several = Envelope("c", 1, "s", 1, _launches([one, one, other, other, one], cls))
    frame = encode(several)
    assert frame.count(b"a" * 500) == 2 and frame.count(b"b" * 500) == 1
    for _ in range(80):
        # Often enough for straight code to take over.
        again = decode(frame)
        assert again == several
    assert encode(again) == frame, "whoever passes it on writes it out"


def test_a_command_is_written_out_for_those_who_do_not_know_better() -> None:
    """Executors outlive an upgrade of their agent."""
    command = Command(("true",), env={"BULK": "a" * 500})
    frame = encode(Envelope("c", 1, "s", 1, _launches([command, command], ExecutorLaunch)))
    assert frame.count(b"a" * 500) == 2


def test_the_first_task_cannot_leave_its_command_out() -> None:
    """There is none before it."""
    body = to_plain(_launches([Command(("true",))]))
    del body["tasks"][0]["command"]
    with pytest.raises(PeerError, match="command is missing"):
        decode(pack(["mesosctl", 1, "c", 1, "s", 1, "accept", body]))


def test_few_bytes_do_not_stand_for_many() -> None:
    """A script that a thousand tasks share must not become gigabytes on an agent's disk."""
    command = Command((), script=b"x" * 1_000_000)
    few, many = (_launches([command] * number) for number in (30, 40))
    assert decode(encode(Envelope("c", 1, "s", 1, few)), bytes_max=2**23).message == few
    with pytest.raises(PeerError, match="command is missing"):
        decode(encode(Envelope("c", 1, "s", 1, many)), bytes_max=2**23)


@pytest.mark.parametrize("kind", ["accept", "launch-tasks", "run-tasks"])
@pytest.mark.parametrize("odd", [None, 1, [], {}, [1], [{}], [{"command": 1}, {}], [{"task": 1}]])
def test_odd_lists_of_tasks_are_refused(kind: str, odd: object) -> None:
    """What puts commands back looks at what no schema has looked at yet."""
    body = {"tasks": odd, "launches": odd, "offer_ids": ["O1"], "framework_id": "F1", "refuse_s": 1}
    framework = {"framework": {"framework_id": "F1", "name": "n", "user": "u"}}
    if odd == []:
        assert decode(pack(["mesosctl", 1, "c", 1, "s", 1, kind, {**body, **framework}]))
        return
    with pytest.raises(PeerError):
        decode(pack(["mesosctl", 1, "c", 1, "s", 1, kind, {**body, **framework}]))
