"""What an executor keeps of its updates until the agent has them."""

from __future__ import annotations

from mesosctl.core.executor_updates import Updates
from mesosctl.model.ids import AgentId, FrameworkId, TaskId
from mesosctl.model.tasks import StatusUpdate, TaskState


def _update(task_id: str, state: TaskState) -> StatusUpdate:
    uuid = f"{task_id}-{state}"
    return StatusUpdate(FrameworkId("F"), TaskId(task_id), AgentId("A"), state, uuid=uuid, at=1.0)


def test_an_introduction_tells_what_was_not_due_as_well() -> None:
    """Whoever misses a task in it, and its end too, believes that the task never began."""
    updates = Updates()
    ended, runs = _update("t1", TaskState.FINISHED), _update("t2", TaskState.RUNNING)
    updates.put("F/t1", ended, 5.0)
    updates.put("F/t2", runs, 5.0)
    assert updates.take_all() == (ended, runs)
    assert updates.take(100.0) == []
    assert updates.take_all() == (ended, runs) and updates.has_ended("F/t1")
    updates.check()
