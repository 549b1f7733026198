"""Who the agent is, on disk: its id, cluster, and the shape in which it last ran; if it is gone.

Rules: an id that the master declared gone is remembered as such; the clean-up of its work directory
then forgets everything with it, and the next start joins as a new agent.
"""

from __future__ import annotations

from dataclasses import replace

from mesosctl.core.agent.records import META, MetaRecord, Origin, put
from mesosctl.core.machine import Effect
from mesosctl.core.session import ClientSession
from mesosctl.model.cluster import AgentInfo


class Identity:
    """The record of the agent itself, written when it differs."""

    def __init__(self, meta: MetaRecord, origin: Origin) -> None:
        self.meta = meta
        self._origin = origin
        # On disk before the first word of this life is sent.
        self.life = meta.life + 1

    def remember(self, info: AgentInfo, session: ClientSession) -> list[Effect]:
        """Keep what the agent is now."""
        meta = MetaRecord.of(info, session.cluster, session.epoch, self._origin)
        return self._keep(replace(meta, gone=self.meta.gone, life=self.life))

    def mark_gone(self) -> list[Effect]:
        """Keep that the master takes this id no more."""
        return self._keep(replace(self.meta, gone=True))

    def _keep(self, meta: MetaRecord) -> list[Effect]:
        if meta == self.meta:
            return []
        self.meta = meta
        return [put(META, "agent", meta)]
