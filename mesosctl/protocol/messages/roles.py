"""An operator sets what roles get, while the master runs.

Rules: a request changes all of its roles or none, and one with the id of a request that was carried
out changes nothing more. The answer is `roles`, with these alone. What is set holds until it is set
anew, whatever is started anew meanwhile, and goes before the options that the master is started
with.
"""

from __future__ import annotations

from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message, message


# --- operator -> master ---------------------------------------------------------------------------
@message("set-roles")
@dataclass(frozen=True, slots=True)
class SetRoles(Message):
    """Give these roles a weight (thousandths), a priority, or both; None leaves what there is."""

    request_id: str
    roles: tuple[str, ...]
    weight_milli: int | None = None
    priority: int | None = None
