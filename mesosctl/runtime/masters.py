"""The link of an agent or a framework to whichever master leads.

Rule: a list of masters is the link's own business; a place in ZooKeeper is watched by a thread that
only ever hands an address to the loop, which leads the link there at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesosctl.core.machine import Event
from mesosctl.model.masters import is_zk, parse_zk
from mesosctl.runtime.links import LinkSpec
from mesosctl.runtime.loop import Loop
from mesosctl.storage.keys import KeyFile


def link_to_master(loop: Loop, name: str, masters: str, key: KeyFile) -> None:
    """Make the link `name` lead to `masters`, for as long as the process lives.

    Raises UsageError for what names none, Refused where zk:// is named and kazoo is missing.
    """
    if not is_zk(masters):
        loop.link(name, LinkSpec(masters, key.pair, key.server_key))
        return
    # Imported here: most clusters have one master, and daemons start faster without.
    from mesosctl.runtime.zk_watch import LeaderWatch
    from mesosctl.runtime.zookeeper import require_kazoo

    require_kazoo()
    place = parse_zk(masters)
    loop.link(name, LinkSpec("", key.pair, key.server_key))

    def tell(address: str) -> None:
        def move() -> Iterable[Event]:
            loop.move(name, address)
            return ()

        loop.call(move)

    LeaderWatch(place, tell, loop.log).start()
