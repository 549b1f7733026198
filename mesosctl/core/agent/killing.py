"""How a task ends that was to be ended, or is given back, before anybody started it."""

from __future__ import annotations

from mesosctl.model.tasks import ELSEWHERE, Reason, TaskState
from mesosctl.protocol.messages.agent import TaskKill

# That of a task which is given back with its lane (core/agent/lanes.py).
RETURNED = (TaskState.DROPPED, Reason.RETURNED, "never started: given back with its lane")


def unstarted_end(kill: TaskKill) -> tuple[TaskState, Reason, str]:
    """The state, the reason and the words: dropped, where it may well run elsewhere."""
    if kill.reason in ELSEWHERE:
        text = f"not started ({kill.reason})" + (f": {kill.text}" if kill.text else "")
        return TaskState.DROPPED, kill.reason, text
    text = "killed on request before it was started"
    return TaskState.KILLED, Reason.KILL_REQUESTED, text
