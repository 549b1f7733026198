"""What the commands about roles share: how a weight is written, and roles as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesosctl.cli.output import Column
from mesosctl.cli.params import Parsed
from mesosctl.errors import UsageError
from mesosctl.limits import WEIGHT_MILLI_MAX
from mesosctl.model.values import parse_scalar

if TYPE_CHECKING:
    from mesosctl.protocol.messages.query import RoleView

COLUMNS = (
    Column("role", "role"),
    Column("weight", "weight", kind="number"),
    Column("priority", "priority", kind="number"),
    Column("frameworks", "frameworks", kind="number"),
    Column("share", "share", kind="number"),
    Column("used", "used"),
)


def role_row(view: RoleView) -> dict[str, Any]:
    """A role as a row of COLUMNS."""
    return {
        "role": view.role,
        "weight": view.weight_milli / 1000,
        "priority": view.priority,
        "frameworks": view.frameworks,
        "share": view.share_milli / 1000,
        "used": str(view.used),
    }


def parse_weight(text: str) -> int:
    """Thousandths of a weight. Raises UsageError for what is no positive number."""
    milli = parse_scalar("weight", text)
    if not 1 <= milli <= WEIGHT_MILLI_MAX:
        raise UsageError(
            f"{text[:40]} is not a weight", f"write 0.001 to {WEIGHT_MILLI_MAX // 1000}"
        )
    return milli


WEIGHT = Parsed("W", parse_weight)
