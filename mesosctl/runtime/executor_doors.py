"""The sockets at which a framework's executors reach us: one in the sandbox of each.

Rules: a sandbox belongs to its task's user and is closed to all others, so the socket in it may be
open to whoever gets there; who says to be the executor proves it with a token from its environment.
The name of the sandbox itself stands in a directory that is ours, and no link is followed to the
socket. Paths are relative to our working directory, for the name of a socket is short.
"""

from __future__ import annotations

import os

from mesosctl.core.executor_guest import PREFIX, SOCKET_NAME
from mesosctl.errors import Refused
from mesosctl.protocol.messages.agent import ExecutorLaunch
from mesosctl.runtime.loop import Loop
from mesosctl.runtime.sockets import ServerSpec

# sizeof(sockaddr_un.sun_path), less the final zero.
_PATH_BYTES_MAX = 107


class Doors:
    """The sockets that are open, by container."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._open: dict[str, str] = {}

    def open(self, launch: ExecutorLaunch) -> None:
        """Listen in the sandbox of an executor. Raises Refused."""
        name = PREFIX + launch.task.task_id
        path = os.path.join(launch.sandbox, SOCKET_NAME)
        path = min(path, os.path.relpath(path), key=lambda one: len(os.fsencode(one)))
        if len(os.fsencode(path)) > _PATH_BYTES_MAX:
            raise Refused(
                f"{path} is too long for the name of a socket", "give the executor a shorter id"
            )
        self._loop.bind(name, ServerSpec(f"ipc://{path}", mask=0))
        self._open[launch.container] = name

    def close(self, container: str) -> None:
        """The container is empty: nobody comes any more. Unknown ones are no executors."""
        name = self._open.pop(container, None)
        if name is not None:
            self._loop.unbind(name)
