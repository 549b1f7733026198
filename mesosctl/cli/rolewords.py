"""What the commands about roles share: how weights and amounts are written, and roles as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from mesosctl.cli.options import Decorated
from mesosctl.cli.output import Column
from mesosctl.cli.params import Parsed
from mesosctl.errors import UsageError
from mesosctl.limits import WEIGHT_MILLI_MAX
from mesosctl.model.resources import Resources
from mesosctl.model.values import entries, format_value, key_order, parse_scalar

if TYPE_CHECKING:
    from mesosctl.protocol.messages.query import RoleView

COLUMNS = (
    Column("role", "role"),
    Column("weight", "weight", kind="number"),
    Column("priority", "priority", kind="number"),
    Column("frameworks", "frameworks", kind="number"),
    Column("share", "share", kind="number"),
    Column("used", "used"),
    Column("limit", "limit", wide=True),
    Column("guarantee", "guarantee", wide=True),
    Column("consumed", "consumed", wide=True),
)
QUOTA_COLUMNS = (
    Column("role", "role"),
    Column("limit", "limit"),
    Column("guarantee", "guarantee"),
    Column("consumed", "consumed"),
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
        "limit": amounts_text(view.limit),
        "guarantee": amounts_text(view.guarantee),
        "consumed": amounts_text(view.consumed),
    }


def amounts_text(amounts: Mapping[str, int]) -> str:
    """Thousandths by name as they are written in resources, also those that are 0."""
    keys = sorted(amounts, key=key_order)
    return ";".join(f"{name}:{format_value(amounts[name])}" for name in keys)


def parse_weight(text: str) -> int:
    """Thousandths of a weight. Raises UsageError for what is no positive number."""
    milli = parse_scalar("weight", text)
    if not 1 <= milli <= WEIGHT_MILLI_MAX:
        raise UsageError(
            f"{text[:40]} is not a weight", f"write 0.001 to {WEIGHT_MILLI_MAX // 1000}"
        )
    return milli


WEIGHT = Parsed("W", parse_weight)


def parse_amounts(text: str) -> dict[str, int]:
    """Amounts of a quota, in thousandths by name: `cpus:10;mem:64G`, or `none`. 0 stays.

    Raises UsageError for reservations, ranges, sets, and names that come twice.
    """
    amounts: dict[str, int] = {}
    for name, value in () if text.strip() == "none" else entries(text):
        if not isinstance(value, int) or "(" in name:
            raise UsageError(
                f"{name} cannot be bounded", "quota is for amounts, as cpus:10;mem:64G"
            )
        if name in amounts:
            raise UsageError(f"{name} is given twice", "write it once")
        amounts[name] = value
    return amounts


AMOUNTS = Parsed("RESOURCES", parse_amounts)
RESOURCES = Parsed("RESOURCES", Resources.parse)
_RESERVED = (
    click.argument("agents", nargs=-1, required=True, metavar="AGENT..."),
    click.argument("resources", type=RESOURCES, metavar="RESOURCES"),
    click.option("-R", "--role", required=True, metavar="ROLE", help="The role that it is for."),
)


def reserved_arguments(function: Decorated) -> Decorated:
    """Add `agents`, `resources` and `role`, which say what of which agents is kept for whom."""
    for decorate in reversed(_RESERVED):
        function = decorate(function)
    return function
