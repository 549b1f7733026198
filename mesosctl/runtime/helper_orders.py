"""Turning an order into one for the helper (task_helper.py), which becomes the task.

Rules: the helper starts under our own ids and becomes the task's user by itself, so it is never
given a variable of the task's under its own name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mesosctl.isolation.base import AGENT_ENV, CONTAINER_ENV
from mesosctl.runtime.spawner_orders import SpawnOrder
from mesosctl.runtime.task_helper import PREFIX

# Where there are no cgroups, processes are found by these.
_KEPT = (CONTAINER_ENV, AGENT_ENV)
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); import task_helper as h; h.main(sys.argv[2:])"


def through_helper(order: SpawnOrder, helper: Mapping[str, object], sandbox: str) -> SpawnOrder:
    """The order that starts the helper, which sets up what `helper` says and becomes the task."""
    settings = {
        **helper,
        "uid": order.uid,
        "gid": order.gid,
        "groups": order.groups,
        "script": order.path_is_script,
        "sandbox": sandbox,
    }
    home = str(Path(__file__).resolve().parent)
    words = [
        *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM),
        *(home, json.dumps(settings), "--"),
    ]
    env = {PREFIX + name: value for name, value in order.env.items()}
    env |= {name: order.env[name] for name in _KEPT if name in order.env}
    return replace(
        order,
        argv=(*words, *order.argv),
        env=env,
        path_is_script=False,
        # Another user may not even be able to read our interpreter.
        as_helper=order.uid is not None,
    )
