"""Straight code for dataclasses: it says what the schema says, value by value."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesosctl.core.agent.records import ExecutorEntry, FrameworkEntry, MetaRecord, TaskEntry
from mesosctl.model.ids import FrameworkId
from mesosctl.model.tasks import StatusUpdate, TaskState
from mesosctl.protocol import compiled, schema
from mesosctl.protocol.codec import pack, unpack
from mesosctl.protocol.messages import KINDS
from mesosctl.protocol.messages.agent import RunTasks, ShutdownFramework, StatusUpdates
from mesosctl.protocol.messages.framework import Accept
from tests.protocol.test_codec import _strategy

_CLASSES = [*KINDS.values(), MetaRecord, FrameworkEntry, ExecutorEntry, TaskEntry]
# What may stand where something else belongs.
_ODD = st.sampled_from(
    (
        *(None, True, 0, -1, 1.5, float("nan"), float("inf"), 2**63, "", "x", "../x", b"x", [], {}),
        *([1], [None], {"a": 1}, {"a": True}, {1: "x"}, {"cpus": 1.0}, {"cpus": True}, "running"),
    )
)


@pytest.fixture
def by_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled behind the schema's back."""
    monkeypatch.setattr(schema, "_READERS", {})
    monkeypatch.setattr(schema, "_WRITERS", {})
    monkeypatch.setattr(schema, "_HOT_USES", 10**9)


def _places(plain: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a plain one."""
    found = [path] if path else []
    inner: Any = plain.items() if isinstance(plain, dict) else ()
    for key, value in enumerate(plain) if isinstance(plain, list) else inner:
        found += _places(value, (*path, key))
    return found


def _spoilt(plain: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with another value at this place."""
    made = copy.deepcopy(plain)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = odd
    return made


@pytest.mark.usefixtures("by_schema")
@pytest.mark.parametrize("cls", _CLASSES, ids=lambda cls: cls.__name__)
def test_both_ways_agree_also_about_what_does_not_fit(cls: type) -> None:
    """A check that straight code forgot would let a peer in by working hard enough."""
    read, write = compiled.reader(cls), compiled.writer(cls)

    @settings(max_examples=25)
    @given(_strategy(cls), st.data())
    def agree(message: Any, data: st.DataObject) -> None:
        plain = write(message)
        assert plain == schema.to_plain(message)
        assert list(plain) == list(schema.to_plain(message))
        plain = unpack(pack(plain))
        assert read(plain) == message
        assert repr(read(plain)) == repr(schema.from_plain(cls, plain))
        paths = _places(plain)
        if not paths:
            return
        spoilt = _spoilt(plain, data.draw(st.sampled_from(paths)), data.draw(_ODD))
        try:
            expected = repr(schema.from_plain(cls, spoilt))
        except ValueError:
            assert read(spoilt) is None
        else:
            assert repr(read(spoilt)) == expected

    agree()


@pytest.mark.parametrize("plain", [None, [], "x", {}, {"updates": 1}, {"updates": [{}]}])
def test_what_lacks_something_does_not_fit(plain: Any) -> None:
    """The answer is None, never an exception: the schema words the refusal."""
    assert compiled.reader(StatusUpdates)(plain) is None


def test_what_was_read_is_an_instance_like_any_other() -> None:
    """It was filled as an instance of another class, which must not show in anything."""
    made = compiled.reader(StatusUpdate)(
        {"framework_id": "f", "task_id": "t", "agent_id": "a", "state": "running"}
    )
    by_hand = StatusUpdate("f", "t", "a", TaskState.RUNNING)  # type: ignore[arg-type]
    assert type(made) is StatusUpdate
    assert made == by_hand
    assert hash(made) == hash(by_hand)
    assert copy.copy(made) == dataclasses.replace(by_hand)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.message = "other"


def test_maps_are_not_shared_with_what_was_read() -> None:
    """A record that changes later would change under a message that was made of it."""
    launch = {"framework_id": "f", "launches": []}
    message = compiled.reader(RunTasks)(launch)
    assert message == RunTasks("f", ())  # type: ignore[arg-type]
    first, second = (compiled.reader(StatusUpdates)({"updates": []}) for _ in range(2))
    assert first.latest is not second.latest


def test_a_class_in_use_is_compiled_and_refusals_stay_the_same() -> None:
    """The words of a refusal go to peers; they must not depend on how busy we have been."""
    plain = {"offer_ids": ["o"], "tasks": [{"task_id": "../x"}]}
    words = set()
    for _ in range(schema._HOT_USES + 2):
        schema.from_plain(Accept, {"offer_ids": ["o"], "tasks": [], "refuse_s": 1.0})
        with pytest.raises(ValueError, match=r"Accept\.tasks: TaskInfo\.task_id") as caught:
            schema.from_plain(Accept, plain)
        words.add(str(caught.value))
    assert Accept in schema._READERS
    assert len(words) == 1


def test_no_id_fits_however_many_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of known ids is emptied when it is full; the empty id has to fit afterwards too."""
    monkeypatch.setattr(compiled, "_IDENTS_KEPT", 1)
    read = compiled.reader(ShutdownFramework)
    for framework_id in ("a", "b", "c", ""):
        assert read({"framework_id": framework_id}) == ShutdownFramework(FrameworkId(framework_id))
