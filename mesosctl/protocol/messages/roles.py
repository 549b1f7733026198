"""An operator sets what roles get, while the master runs.

Rules: a request changes all of its roles or none, and one with the id of a request that was carried
out changes nothing more. The answer is `roles`, with these alone. What is set holds until it is set
anew, whatever is started anew meanwhile, and goes before the options that the master is started
with.
"""

from __future__ import annotations

from dataclasses import field

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


@dataclass(frozen=True, slots=True)
class Quota:
    """What a role of the top and all below it may hold, and what is kept for it; by name.

    Amounts are thousandths, as in resources on the wire; 0 of a limit means none at all, a name
    that is missing is without bound.
    """

    role: str
    limit: dict[str, int] = field(default_factory=dict)
    guarantee: dict[str, int] = field(default_factory=dict)


@message("set-quotas")
@dataclass(frozen=True, slots=True)
class SetQuotas(Message):
    """Put these quotas in the place of those that the roles had; an empty one ends it.

    `force`: also where a role holds more than its limit, or more is guaranteed than there is.
    """

    request_id: str
    quotas: tuple[Quota, ...]
    force: bool = False
