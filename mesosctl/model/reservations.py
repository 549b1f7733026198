"""Dynamic reservations of one agent: resources that are kept for a role, and where they came from.

A reservation takes resources from under a key, and puts them under the same name for its role:

    cpus:2        for eng             becomes   cpus(eng):2
    cpus(eng):1   for eng/backend     becomes   cpus(eng/backend):1

Rules:
- A role is refined downwards only, and never to `*`. Levels may be left out.
- A key says who may use the resources, not how they came to be under it. That is in the list of
  reservations, of which there is one at the most for each role and role before it; so what is given
  up goes back to where it was, the latest first.
- What an agent itself has reserved (`--resources 'cpus(eng):2'`) can be refined, but not given up.
- An agent that came back smaller keeps what its tasks hold, and of the rest as much as there is.
Why: docs/decisions/reservations.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesosctl.model import values as v
from mesosctl.model.records import dataclass
from mesosctl.model.resources import EMPTY, Resources

Values = dict[str, v.Value]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Resources for a role, under the keys from which they were taken: all of one role, or none."""

    role: str
    resources: Resources

    @property
    def source(self) -> str:
        """The role that they were reserved to before; empty for none."""
        return next((v.role_of(key) for key, _ in self.resources.items()), "")


def problem_of(role: str, resources: Resources) -> str:
    """Why resources, under the keys where they are, cannot be for a role; empty if they can."""
    if not resources:
        return "nothing is to be reserved"
    sources = {v.role_of(key): None for key, _ in resources.items()}
    for source in sources:
        if source and (source == role or not v.is_within(role, source)):
            return f"what is reserved to {source} can be reserved to roles below it, not to {role}"
    return ""


def renamed(resources: Resources, role: str) -> Resources:
    """The same for a role, or for nobody in particular (an empty one)."""
    values: Values = {}
    for key, value in resources.items():
        name = v.name_of(key)
        under = f"{name}({role})" if role else name
        values[under] = v.add(values[under], value) if under in values else value
    return Resources.of_values(values)


def reserved(
    known: Iterable[Reservation], role: str, resources: Resources
) -> tuple[Reservation, ...]:
    """The reservations with one more."""
    kept = list(known)
    for source in dict.fromkeys(v.role_of(key) for key, _ in resources.items()):
        part = resources.only(key for key, _ in resources.items() if v.role_of(key) == source)
        for at, one in enumerate(kept):
            if (one.role, one.source) == (role, source):
                kept[at] = Reservation(role, one.resources + part)
                break
        else:
            kept.append(Reservation(role, part))
    return tuple(kept)


def unreserved(
    known: Iterable[Reservation], role: str, resources: Resources
) -> tuple[tuple[Reservation, ...], Resources] | None:
    """The reservations without `resources` (plain names) of a role, and what these become.

    None if so much was never reserved to it dynamically.
    """
    kept: list[Reservation] = []
    wanted, back = renamed(resources, ""), EMPTY
    for one in reversed(list(known)):
        part = EMPTY
        if one.role == role and wanted:
            part = renamed(_common(renamed(one.resources, ""), wanted), one.source)
            wanted = wanted.without(renamed(part, ""))
            back = back + part
        left = one.resources.without(part)
        if left:
            kept.append(Reservation(one.role, left))
    return None if wanted else (tuple(reversed(kept)), back)


def _common(one: Resources, other: Resources) -> Resources:
    values: Values = {}
    have = dict(other.items())
    for key, value in one.items():
        if key in have:
            values[key] = v.common(value, have[key])
    return Resources.of_values(values)


def applied(own: Resources, known: Sequence[Reservation], held: Resources = EMPTY) -> Resources:
    """What an agent with `own` has with its reservations, while its tasks hold `held`."""
    if not known:
        return own
    steps = sorted(known, key=lambda one: one.source.count("/") + bool(one.source))
    whole = _converted(own, steps)
    if whole.contains(held):
        return whole
    # It has less than was reserved. What runs keeps its keys; the rest is divided anew.
    rest = own
    for key, value in held.items():
        rest = _less(rest, key, value)
    covered = []
    for one in steps:
        mine = renamed(held.reserved_to(one.role), one.source)
        covered.append(Reservation(one.role, one.resources.without(mine)))
    return held + _converted(rest, covered)


def _converted(own: Resources, steps: Iterable[Reservation]) -> Resources:
    total = own
    for one in steps:
        part = _common(one.resources, total)
        total = total.without(part) + renamed(part, one.role)
    return total


def _less(bag: Resources, key: str, value: v.Value) -> Resources:
    """The bag without a value of this name: from its key, then from nobody's, then others'."""
    name = v.name_of(key)
    others = [other for other, _ in bag.items() if v.name_of(other) == name]
    for place in dict.fromkeys((key, name, *others)):
        have = dict(bag.items()).get(place)
        if have is None or not value or not v.same_kind(have, value):
            continue
        part = v.common(have, value)
        value = v.remove(value, part)
        bag = bag.without(Resources.of_values({place: part}))
    return bag
