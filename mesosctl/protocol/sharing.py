"""What the tasks of one message have in common is written once: their command.

The tasks of an array differ by a few variables, and their command with the environment of whoever
submitted them is most of what a launch takes on its way, three times encoded and decoded.

Rules: in a list of tasks a `command` that is the same object as the one before is left out; in what
comes, one that is not there is the one before. Both work on plain values: what is read of the same
plain value is one object again (compiled.py), so that the next one can leave it out in turn. The
list of a run-tasks is only shortened if it says so, for executors may be older than their agent.
Written out, the commands of a message may not take more than SHARED_BYTES_MAX: whoever keeps or
passes on what few bytes stand for must not be drowned by them.
"""

from __future__ import annotations

from typing import Any

from mesosctl.limits import SHARED_BYTES_MAX

# By the kind of a message: which list, and which field of its items is the task.
_LISTS = {"accept": ("tasks", ""), "launch-tasks": ("tasks", ""), "run-tasks": ("launches", "task")}


def leave_out(kind: str, body: dict[str, Any]) -> None:
    """Remove, from a body that is to be sent, the commands that repeat the one before."""
    if kind not in _LISTS or (kind == "run-tasks" and not body.get("shared")):
        return
    name, inner = _LISTS[kind]
    last = None
    for item in body[name]:
        task = item[inner] if inner else item
        if task["command"] is last:
            del task["command"]
        else:
            last = task["command"]


def fill_in(kind: str, body: Any) -> None:
    """Put them back into a body that was received; what does not fit is left to the schema."""
    if kind not in _LISTS or type(body) is not dict:
        return
    name, inner = _LISTS[kind]
    items = body.get(name)
    last = None
    size = left = 0
    for item in items if type(items) is list else ():
        task = item.get(inner) if inner and type(item) is dict else item
        if type(task) is not dict:
            return
        if "command" in task:
            last = task["command"]
            size = 0
        elif last is not None:
            size = size or _bytes(last)
            left += size
            if left > SHARED_BYTES_MAX:
                return
            task["command"] = last


def _bytes(command: Any) -> int:
    """About how many bytes a plain command takes; at least one."""
    size = 1
    for value in command.values() if type(command) is dict else ():
        parts = (value,)
        if type(value) is dict:
            parts = (*value, *value.values())
        elif type(value) is list:
            parts = tuple(value)
        size += sum([len(part) for part in parts if type(part) in (str, bytes)])
    return size
