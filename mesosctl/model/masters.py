"""How the masters of a cluster are named: a list of addresses, or a place in ZooKeeper.

    tcp://h1:5050,tcp://h2:5050         each is tried in turn
    zk://h1:2181,h2:2181/path           the leader is looked up there

Rules: such a text is one value everywhere (key files, contexts, local.json, --master); only this
module takes it apart. Commas belong to the hosts of a zk:// text, not to a list.
"""

from __future__ import annotations

from mesosctl.errors import UsageError
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass
from mesosctl.model.values import PORT_MAX

ZK = "zk://"
ZK_PORT = 2181
_HOST = pattern(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_STEP = pattern(r"[A-Za-z0-9_.-]+")
_HINT = "write zk://HOST:2181,HOST:2181/PATH"


@dataclass(frozen=True, slots=True)
class ZkPlace:
    """A path in ZooKeeper and the servers that hold it, each as HOST:PORT."""

    hosts: tuple[str, ...]
    path: str

    def __str__(self) -> str:
        return f"{ZK}{','.join(self.hosts)}{self.path}"


def is_zk(text: str) -> bool:
    """Whether this names a place in ZooKeeper."""
    return text.startswith(ZK)


def parse_zk(text: str) -> ZkPlace:
    """The place that `zk://h1:2181,h2/path` names; the port may be left out. Raises UsageError."""
    servers, slash, path = text.removeprefix(ZK).partition("/")
    steps = path.rstrip("/").split("/")
    if not is_zk(text) or not slash or not all(_is_step(step) for step in steps):
        raise UsageError(f"{text[:80]!a} names no path in ZooKeeper", _HINT)
    hosts: dict[str, None] = {}
    for server in servers.split(","):
        match = _HOST.fullmatch(server.strip())
        port = int(match[2] or ZK_PORT) if match else 0
        if match is None or not 1 <= port <= PORT_MAX:
            raise UsageError(f"{server[:80]!a} is no server of ZooKeeper", _HINT)
        hosts[f"{match[1]}:{port}"] = None
    return ZkPlace(tuple(hosts), "/" + "/".join(steps))


def _is_step(step: str) -> bool:
    return _STEP.fullmatch(step) is not None and step not in (".", "..", "zookeeper")


def split_masters(text: str) -> tuple[str, ...]:
    """The places that `text` names, in order: addresses, or a single zk:// text."""
    if is_zk(text):
        return (text,)
    return tuple(part.strip() for part in text.split(",") if part.strip())
