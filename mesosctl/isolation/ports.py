"""network/ports: tells a task which ports of its host are its own.

MESOS_PORTS are all of them with commas, MESOS_PORT0 the first, MESOS_PORT1 the second and so on.
"""

from __future__ import annotations

from mesosctl.errors import LimitUnavailable
from mesosctl.isolation.base import PORTS, Additions, Isolator, Limits

# More than anybody uses, and an environment that still fits.
PORTS_MAX = 1000


class NetworkPorts(Isolator):
    """See the module."""

    name = "network/ports"
    handles: tuple[str, ...] = (PORTS,)
    not_enforced: tuple[str, ...] = (
        "a task may listen on ports that it was not given (network/ports)",
    )

    def prepare(self, container: str, limits: Limits) -> Additions | None:
        """Write the ports into the environment. Raises LimitUnavailable for too many."""
        if not limits.ports:
            return None
        count = sum(last - first + 1 for first, last in limits.ports)
        if count > PORTS_MAX:
            raise LimitUnavailable(
                f"{count} ports do not fit into an environment", f"ask for {PORTS_MAX} at the most"
            )
        ports = [str(port) for first, last in limits.ports for port in range(first, last + 1)]
        env = {f"MESOS_PORT{number}": port for number, port in enumerate(ports)}
        return Additions({"MESOS_PORTS": ",".join(ports), **env})
