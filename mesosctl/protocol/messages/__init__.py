"""Every message kind, one frozen dataclass each, by the conversation it belongs to.

Rules: a kind's name is its word on the wire and is never reused for something else; fields are only
added, with a default. What changes here changes docs/protocol.md in the same commit (a test holds
the two together).
"""

from mesosctl.protocol.messages import base
from mesosctl.protocol.messages.base import Message

__all__ = ["KINDS", "Message"]


def __getattr__(name: str) -> dict[str, type[Message]]:
    """`KINDS`, the table of all kinds; asking for it imports all of them.

    No process needs more than half of them, and making their classes is half of its start.
    """
    if name != "KINDS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mesosctl.protocol.messages import (  # noqa: F401
        agent,
        batch,
        explain,
        framework,
        maintenance,
        query,
        roles,
        session,
        streams,
        volumes,
    )

    return base.KINDS
