"""Resources: what an agent has, an offer holds and a task asks for.

Owns the value and its algebra, the text that people write and the form on the wire.

Rules:
- A scalar is an integer count of thousandths (`cpus`, `gpus`, `mem` and `disk` in MiB, any other
  name in its own unit); no float ever takes part in a sum or a comparison. Ranges are closed,
  ascending and coalesced; a set is a frozenset of words.
- A key is `name`, or `name(role)` for what is reserved to a role; `*` is written without brackets.
- What is zero or empty is not there: two bags are equal exactly when they hold the same.
- A value never changes after it was made. Nobody outside this module touches `_values`.
The fixed-point rules are those of Apache Mesos (docs/attributes-resources.md, values.cpp).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mesosctl.errors import UsageError
from mesosctl.model import values as v
from mesosctl.model.values import AMOUNT_MAX, MILLI, Ranges, Value, format_value

MIB = 1024 * 1024


class Resources:
    """An immutable bag of resources of one agent (see the module for its rules).

    Make one with `parse`, `scalars`, `of` or `from_wire`. Sums over several agents are taken with
    `sum_scalars`, because two agents may both have port 31000 or mean different things by a name.
    """

    __slots__ = ("_hash", "_quantities", "_values")
    _values: dict[str, Value]
    # Computed when first asked for: allocations ask often.
    _quantities: dict[str, int] | None
    _hash: int | None

    def __init__(self) -> None:
        self._values = {}
        self._quantities = None
        self._hash = None

    # --- making one -------------------------------------------------------------------------------

    @classmethod
    def _make(cls, values: dict[str, Value]) -> Resources:
        """Take over a dict that holds neither zero nor empty values."""
        bag = cls.__new__(cls)
        bag._values = values
        bag._quantities = None
        bag._hash = None
        return bag

    @classmethod
    def scalars(cls, **amounts: float) -> Resources:
        """A bag of unreserved scalars in plain units: `scalars(cpus=1.5, mem=64)`.

        Raises ValueError for what is negative, not finite or too large.
        """
        return cls._make({name: milli for name, x in amounts.items() if (milli := _milli(name, x))})

    @classmethod
    def of(
        cls,
        cpus_milli: int = 0,
        mem_bytes: int = 0,
        disk_bytes: int = 0,
        gpus: int = 0,
        ports: Iterable[tuple[int, int]] = (),
    ) -> Resources:
        """A bag from exact integers. Bytes round up to a thousandth of a MiB, never below the wish.

        Raises ValueError for what `from_wire` refuses.
        """
        wire: dict[str, object] = {
            "cpus": cpus_milli,
            "gpus": gpus * MILLI,
            "mem": -(-mem_bytes * MILLI // MIB),
            "disk": -(-disk_bytes * MILLI // MIB),
            "ports": [list(part) for part in ports],
        }
        return cls.from_wire(wire)

    @classmethod
    def parse(cls, text: str) -> Resources:
        """Read `cpus:4;mem:4G;cpus(ads):2;ports:[31000-32000];zones:{a,b}`.

        A bare `mem` or `disk` is MiB; K, M, G, T (or KiB and so on) are powers of 1024. Repeated
        names are summed. Raises UsageError.
        """
        values: dict[str, Value] = {}
        for key, value in v.entries(text):
            have = values.get(key)
            if have is not None and not v.same_kind(have, value):
                raise UsageError(
                    f"{key} is given both as {v.kind_of(have)} and as {v.kind_of(value)}"
                )
            values[key] = value if have is None else v.add(have, value)
        if any(isinstance(value, int) and value > AMOUNT_MAX for value in values.values()):
            raise UsageError("the sum of the amounts of one name is too large")
        return cls._make({key: value for key, value in values.items() if value})

    @classmethod
    def of_values(cls, values: Mapping[str, Value]) -> Resources:
        """A bag of values that came out of other bags, under keys that are right."""
        return cls._make({key: value for key, value in values.items() if value})

    @classmethod
    def from_wire(cls, wire: object) -> Resources:
        """Check and read `{"cpus": 4000, "ports": [[31000, 32000]], "zones": ["a", "b"]}`.

        Raises ValueError when anything is not of the right type, range or order.
        """
        if not isinstance(wire, dict):
            raise ValueError("resources are not a map")
        values: dict[str, Value] = {}
        for key, raw in wire.items():
            if not isinstance(key, str) or not v.is_key(key):
                raise ValueError(f"bad resource name {key!r:.80}")
            value = _checked_from_wire(key, raw)
            if value:
                values[key] = value
        return cls._make(values)

    @classmethod
    def sum_scalars(cls, bags: Iterable[Resources]) -> Resources:
        """The scalars of many agents together, reserved ones under their plain names."""
        total: dict[str, Value] = {}
        for bag in bags:
            for name, amount in bag.quantities().items():
                have = total.get(name, 0)
                total[name] = amount + (have if isinstance(have, int) else 0)
        return cls._make(total)

    # --- writing it -------------------------------------------------------------------------------

    def to_wire(self) -> dict[str, int | list[list[int]] | list[str]]:
        """The form that `from_wire` reads, in a fixed order."""
        wire: dict[str, int | list[list[int]] | list[str]] = {}
        for key, value in self.items():
            wire[key] = v.value_to_wire(value)
        return wire

    def format(self) -> str:
        """The text that `parse` reads, in a fixed order. Empty for an empty bag."""
        return ";".join(f"{key}:{format_value(value)}" for key, value in self.items())

    def __str__(self) -> str:
        return self.format() or "nothing"

    def __repr__(self) -> str:
        return f"Resources({self.format()!r})"

    # --- reading it -------------------------------------------------------------------------------

    def items(self) -> Iterator[tuple[str, Value]]:
        """Keys with values: cpus, gpus, mem, disk, ports, then the others by name and role."""
        for key in sorted(self._values, key=v.key_order):
            yield key, self._values[key]

    def names(self) -> tuple[str, ...]:
        """Names without roles, each once, in the order of `items`."""
        return tuple(dict.fromkeys(v.name_of(key) for key, _value in self.items()))

    def scalar(self, name: str) -> int:
        """Thousandths of `name` over all roles; 0 if there is none or it is no scalar."""
        return self.quantities().get(name, 0)

    def quantities(self) -> Mapping[str, int]:
        """Thousandths by name over all roles, scalars only."""
        sums = self._quantities
        if sums is None:
            sums = {}
            for key, value in self._values.items():
                if isinstance(value, int):
                    name = v.name_of(key) if "(" in key else key
                    sums[name] = sums.get(name, 0) + value
            self._quantities = sums
        return sums

    @property
    def cpus_milli(self) -> int:
        """Thousandths of a CPU."""
        return self.scalar("cpus")

    @property
    def mem_bytes(self) -> int:
        """Memory in bytes, rounded down."""
        return self.scalar("mem") * MIB // MILLI

    def ranges(self, name: str) -> Ranges:
        """The closed ranges of `name` over all roles, e.g. of `ports`; () if there are none."""
        found: list[tuple[int, int]] = []
        for key, value in self._values.items():
            if isinstance(value, tuple) and v.name_of(key) == name:
                found.extend(value)
        return v.coalesce(found)

    def without_scalars(self) -> Resources:
        """Ranges and sets alone."""
        return self._make({k: x for k, x in self._values.items() if not isinstance(x, int)})

    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Resources) else NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._values.items()))
        return self._hash

    def _is_scalar(self) -> bool:
        return all(isinstance(value, int) for value in self._values.values())

    def is_plain_scalar(self) -> bool:
        """Whether it holds nothing but scalars that are reserved to no role."""
        return all(isinstance(x, int) and "(" not in k for k, x in self._values.items())

    # --- algebra ----------------------------------------------------------------------------------

    def __add__(self, other: Resources) -> Resources:
        """Both together; ranges and sets unite. Raises ValueError if a name is of two kinds."""
        if not other._values:
            return self
        if not self._values:
            return other
        values = dict(self._values)
        for key, value in other._values.items():
            have = values.get(key)
            values[key] = value if have is None else v.add(have, value)
        return self._make(values)

    def __sub__(self, other: Resources) -> Resources:
        """What is left without `other`. Raises ValueError if `other` is not contained."""
        if not other._values:
            return self
        values = dict(self._values)
        for key, value in other._values.items():
            have = values.get(key)
            if have is None or not v.contains(have, value):
                raise ValueError(f"{self} does not contain {key}:{format_value(value)}")
            left = v.remove(have, value)
            if left:
                values[key] = left
            else:
                del values[key]
        return self._make(values)

    def contains(self, other: Resources) -> bool:
        """Whether `other` is a part of this bag, role by role."""
        for key, value in other._values.items():
            have = self._values.get(key)
            if have is None:
                return False
            if type(have) is int and type(value) is int:
                if have < value:
                    return False
            elif not v.contains(have, value):
                return False
        return True

    def without(self, other: Resources) -> Resources:
        """What is left when as much of `other` as is there has gone; never raises."""
        values = dict(self._values)
        for key, value in other._values.items():
            have = values.get(key)
            if have is None:
                continue
            left = v.remove(have, v.common(have, value)) if v.same_kind(have, value) else have
            if left:
                values[key] = left
            else:
                del values[key]
        return self._make(values)

    def times(self, count: int) -> Resources:
        """`count` such bags together. Raises ValueError if ranges or sets are to be multiplied."""
        if count < 0 or (count > 1 and not self._is_scalar()):
            raise ValueError(f"cannot take {self} {count} times")
        if count == 0:
            return EMPTY
        values: dict[str, Value] = {}
        for key, value in self._values.items():
            values[key] = value * count if isinstance(value, int) else value
        return self._make(values)

    # --- roles ------------------------------------------------------------------------------------

    def is_plain(self) -> bool:
        """Whether nothing of it is reserved to a role."""
        return not any("(" in key for key in self._values)

    def unreserved(self) -> Resources:
        """The part that is reserved to no role."""
        return self._make({k: x for k, x in self._values.items() if "(" not in k})

    def only(self, keys: Iterable[str]) -> Resources:
        """The entries under these keys."""
        wanted = frozenset(keys)
        return self._make({k: x for k, x in self._values.items() if k in wanted})

    def reserved_to(self, role: str) -> Resources:
        """The part that is reserved to `role`, still under its keys."""
        mine = f"({role})"
        return self._make({k: x for k, x in self._values.items() if k.endswith(mine)})

    def allocatable_to(self, role: str) -> Resources:
        """What `role` may use: what is unreserved, or reserved to it or to a role above it."""
        if self.is_plain():
            return self
        values = {
            key: value
            for key, value in self._values.items()
            if "(" not in key or v.is_within(role, v.role_of(key))
        }
        return self if len(values) == len(self._values) else self._make(values)

    def take(self, request: Resources) -> Resources | None:
        """The entries of this bag that serve `request`, or None if it does not fit.

        A plain name of the request is served from reserved entries first, so that what others may
        use as well is kept; all of this bag counts as usable (call `allocatable_to` before). Ranges
        and sets are taken as they are named, a key with a role from that role alone.
        """
        left = dict(self._values)
        taken: dict[str, Value] = {}
        # Keys with a role go first: they have one source, a plain name may have several.
        for wanted in sorted(request._values, key=lambda key: "(" not in key):
            need: Value = request._values[wanted]
            sources = [wanted] if "(" in wanted else self._sources(wanted)
            for key in sources:
                have = left.get(key)
                if have is None or not v.same_kind(have, need):
                    continue
                part = v.common(have, need)
                if part:
                    taken[key] = v.add(taken[key], part) if key in taken else part
                    left[key] = v.remove(have, part)
                    need = v.remove(need, part)
                if not need:
                    break
            if need:
                return None
        return self._make(taken)

    def _sources(self, name: str) -> list[str]:
        """The keys that hold `name`: reserved ones by role, then the unreserved one."""
        reserved = [k for k in self._values if "(" in k and v.name_of(k) == name]
        return [*sorted(reserved), name]

    def count_fitting(self, request: Resources) -> int:
        """How many such requests fit at once, roles aside. An empty request asks for 0 of them.

        A request that names ranges or set members fits once at the most.
        """
        if request._is_scalar():
            have = self.quantities()
            wishes = request.quantities().items()
            return min((have.get(name, 0) // need for name, need in wishes), default=0)
        return 0 if self.take(request) is None else 1


EMPTY = Resources()


def mentioned(text: str) -> tuple[str, ...]:
    """The names that occur in a resource text, also with the value 0. Raises UsageError.

    What is mentioned is not detected on the host: `gpus:0` hides the GPUs.
    """
    return tuple(dict.fromkeys(v.name_of(key) for key, _value in v.entries(text)))


# --- checked values -------------------------------------------------------------------------------


def _milli(name: str, amount: float) -> int:
    """Thousandths of a number of our own code, half away from zero. Raises ValueError."""
    if not v.is_name(name) or not 0 <= amount <= AMOUNT_MAX // MILLI:
        raise ValueError(f"bad amount of {name}: {amount}")
    return amount * MILLI if isinstance(amount, int) else int(amount * MILLI + 0.5)


def _checked_from_wire(key: str, raw: object) -> Value:
    value = v.value_from_wire(key, raw)
    fault = v.fault_of(key, value)
    if fault:
        raise ValueError(f"{key} {fault}")
    return value
