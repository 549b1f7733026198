"""Every message kind, one frozen dataclass each, by the conversation it belongs to.

Rules: a kind's name is its word on the wire and is never reused for something else; fields are only
added, with a default. What changes here changes docs/protocol.md in the same commit (a test holds
the two together).
"""

from mesosctl.protocol.messages import agent, batch, framework, query, session, streams
from mesosctl.protocol.messages.base import KINDS, Message

__all__ = ["KINDS", "Message", "agent", "batch", "framework", "query", "session", "streams"]
