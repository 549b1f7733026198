"""Resources: the text people write, the form on the wire, and an algebra without floats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.errors import UsageError
from mesosctl.model.resources import EMPTY, MIB, Resources, mentioned
from mesosctl.model.values import AMOUNT_MAX, coalesce

amounts = st.integers(min_value=0, max_value=10**7)
small_ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 6)).map(lambda t: (t[0], t[0] + t[1])), max_size=4
).map(lambda parts: [list(part) for part in coalesce(parts)])
members = st.lists(st.sampled_from(["a", "b", "rack-1", "x.y"]), unique=True)
bags = st.fixed_dictionaries(
    {},
    optional={
        "cpus": amounts,
        "cpus(ads)": amounts,
        "gpus": st.integers(0, 8).map(lambda count: count * 1000),
        "mem": amounts,
        "mem(ads/night)": amounts,
        "ports": small_ranges,
        "ports(ads)": small_ranges,
        "zones": members,
        "licences": amounts,
    },
).map(Resources.from_wire)
scalar_bags = st.fixed_dictionaries({}, optional={"cpus": amounts, "mem": amounts}).map(
    Resources.from_wire
)


# --- text -----------------------------------------------------------------------------------------


def test_parse_reads_every_kind_of_value() -> None:
    """One text holds all that an operator can say of an agent."""
    bag = Resources.parse(
        " cpus : 4 ; mem:4096;disk:10G;ports:[31000-32000, 80];cpus(ads):2;zones:{b, a};"
    )
    assert bag.to_wire() == {
        "cpus": 4000,
        "cpus(ads)": 2000,
        "mem": 4_096_000,
        "disk": 10_240_000,
        "ports": [[80, 80], [31000, 32000]],
        "zones": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("text", "milli_mib"),
    [
        ("64", 64_000),
        ("64M", 64_000),
        ("64 MiB", 64_000),
        ("0.5g", 512_000),
        ("1T", 1_048_576_000),
        # 1 KiB is 1/1024 MiB, 0.97… thousandths, rounded to one.
        ("1K", 1),
    ],
)
def test_sizes_are_powers_of_1024(text: str, milli_mib: int) -> None:
    """A bare number is MiB as in Mesos, a suffix is exact."""
    assert Resources.parse(f"mem:{text}").to_wire() == {"mem": milli_mib}


@pytest.mark.parametrize(
    ("text", "milli"),
    # Half away from zero, as Mesos rounds: 1.5015 -> 1.502, 1.5011 -> 1.501, 0.0005 -> 0.001.
    [("1.5015", 1502), ("1.5011", 1501), ("0.0005", 1), (".25", 250), ("2.", 2000)],
)
def test_scalars_round_to_thousandths(text: str, milli: int) -> None:
    """Three decimals are the precision, and 0.1 + 0.2 is 0.3."""
    assert Resources.parse(f"cpus:{text}").cpus_milli == milli
    three = Resources.parse("cpus:0.1;cpus:0.2")
    assert three == Resources.parse("cpus:0.3")


@pytest.mark.parametrize("text", ["cpus:0", "cpus:0.0004", "ports:[]", "zones:{}", "cpus:-0"])
def test_nothing_is_not_there(text: str) -> None:
    """Zero and empty values vanish, so that equality needs no special case."""
    assert Resources.parse(text) == EMPTY
    assert str(Resources.parse(text)) == "nothing"


def test_ranges_coalesce() -> None:
    """Overlap and adjacency merge, on parsing and on adding."""
    one = Resources.parse("ports:[1-4,9-10,20-22,26-30]")
    assert one + Resources.parse("ports:[5-8,23-25]") == Resources.parse("ports:[1-10,20-30]")
    assert (Resources.parse("ports:[3-8]") - Resources.parse("ports:[5-6]")).ranges("ports") == (
        (3, 4),
        (7, 8),
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "blank"),
        ("cpus:1;;mem:1", "blank"),
        ("cpus", "no value"),
        ("cpus:", "no value"),
        (":4", "not a resource name"),
        ("cpus:-1", "negative"),
        ("cpus:nan", "not a number"),
        ("cpus:inf", "not a number"),
        ("cpus:1e3", "not a number"),
        ("cpus:٣", "not a number"),
        ("cpus:9007199254741", "too large"),
        ("mem:9007199254740;mem:9007199254740", "too large"),
        ("cpus:" + "1" * 5000, "too many digits"),
        ("cpus:4G", "only mem and disk"),
        ("mem:4GB", "unknown unit"),
        ("mem:4x", "unknown unit"),
        ("gpus:0.5", "whole devices"),
        ("cpus:[1-2]", "is an amount"),
        ("ports:31000", "written as ranges"),
        ("ports:[1-70000]", "65535"),
        ("ports:[1-2", "unbalanced"),
        ("ports:1-2]", "unbalanced"),
        ("ports:[2-1]", "ends before"),
        ("ports:[a-b]", "not a list of ranges"),
        ("ports:[1,,2]", "not a list of ranges"),
        ("x:[0-99999999999999999]", "not a list of ranges"),
        ("x:[0-9999999999999999]", "too large"),
        ("zones:{a", "unbalanced"),
        ("zones:{a,,b}", "not a set"),
        ("cpus(ads:1", "not a resource name"),
        ("cpus(.):1", "not a resource name"),
        ("cpus():1", "not a resource name"),
        ("x:1;x:{a}", "both as"),
    ],
)
def test_parse_refuses_what_cannot_be_meant(text: str, part: str) -> None:
    """A typing error must never become a cluster of another size."""
    with pytest.raises(UsageError) as caught:
        Resources.parse(text)
    assert part in caught.value.message
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@given(st.text(st.sampled_from("cpusmem:;()[]{}*,.-0123456789KGi /\n\x00é"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever is typed, the answer is a bag or one line; never another exception."""
    try:
        bag = Resources.parse(text)
    except UsageError:
        return
    assert Resources.from_wire(bag.to_wire()) == bag


@given(bags)
def test_text_and_wire_round_trip(bag: Resources) -> None:
    """What is written is what is read, in both forms, in one order."""
    assert Resources.from_wire(bag.to_wire()) == bag
    assert bag.is_empty() or Resources.parse(bag.format()) == bag
    assert list(bag.to_wire()) == [key for key, _value in bag.items()]


def test_mentioned_names_include_zeroes() -> None:
    """A name that is written is not detected on the host, even if it is set to nothing."""
    assert mentioned("gpus:0;cpus(ads):1;cpus:2") == ("gpus", "cpus")


def test_the_role_star_is_written_without_brackets() -> None:
    """One meaning has one key, or equality would fail."""
    assert Resources.parse("cpus(*):1;cpus( ads ):2").to_wire() == {"cpus": 1000, "cpus(ads)": 2000}


# --- wire -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        {1: 1},
        {"": 1},
        {"cpus(*)": 1},
        {"cpus(a": 1},
        {"cpus(a)b": 1},
        {"cpus": True},
        {"cpus": 1.0},
        {"cpus": "1"},
        {"cpus": -1},
        {"cpus": AMOUNT_MAX + 1},
        {"cpus": None},
        {"cpus": [[1, 2]]},
        {"gpus": 500},
        {"ports": 5},
        {"ports": ["a"]},
        {"ports": [[1, 70000]]},
        {"ports": [[2, 1]]},
        {"ports": [[1, 2, 3]]},
        {"ports": [[True, 2]]},
        {"ports": [[5, 6], [6, 7]]},
        {"ports": [[5, 6], [1, 2]]},
        {"ports": [5]},
        {"ports": [[-1, 2]]},
        {"zones": ["a", "a"]},
        {"zones": ["a", 1]},
        {"zones": ["a;b"]},
        {"zones": ["\ud800"]},
    ],
)
def test_from_wire_refuses_what_is_not_canonical(wire: object) -> None:
    """A peer's value is checked in type, range and order before anybody counts with it."""
    with pytest.raises(ValueError):
        Resources.from_wire(wire)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["cpus", "ports", "x", "x(r)", "("]), inner),
                    max_leaves=8))  # fmt: skip
def test_any_wire_value_is_read_or_refused(wire: object) -> None:
    """The codec turns ValueError into a refusal; anything else would stop a daemon."""
    try:
        bag = Resources.from_wire(wire)
    except ValueError:
        return
    assert Resources.from_wire(bag.to_wire()) == bag


# --- constructors ---------------------------------------------------------------------------------


def test_of_takes_exact_integers_and_never_less_than_asked() -> None:
    """A task that asks for 4 GiB and a byte must not get 4 GiB."""
    bag = Resources.of(cpus_milli=1500, mem_bytes=64 * MIB + 1, gpus=1, ports=[(5, 6)])
    assert bag == Resources.parse("cpus:1.5;mem:64.001;gpus:1;ports:[5-6]")
    assert bag.mem_bytes >= 64 * MIB + 1
    assert Resources.of(mem_bytes=64 * MIB).mem_bytes == 64 * MIB


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), 1e20])
def test_scalars_refuses_what_is_no_amount(amount: float) -> None:
    """Also our own code may be wrong about a number."""
    with pytest.raises(ValueError):
        Resources.scalars(cpus=amount)
    assert Resources.scalars(cpus=1.5015) == Resources.parse("cpus:1.502")


# --- algebra --------------------------------------------------------------------------------------


@given(bags, bags, bags)
def test_addition_commutes_and_associates(a: Resources, b: Resources, c: Resources) -> None:
    """The order in which tasks are counted must not matter."""
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert (a + b) + c == a + (b + c)
    assert a + EMPTY == a == EMPTY + a


@given(scalar_bags, scalar_bags)
def test_subtraction_undoes_addition(a: Resources, b: Resources) -> None:
    """What is charged and released leaves no trace."""
    assert (a + b) - b == a
    assert (a + b).contains(a)
    assert (a + b).without(b) == a


@given(bags, bags)
def test_containment_and_subtraction_agree(a: Resources, b: Resources) -> None:
    """`contains` is the question whose yes makes `-` safe."""
    if a.contains(b):
        left = a - b
        assert left + b == a
        assert left == a.without(b)
    else:
        with pytest.raises(ValueError):
            a - b
    assert a.contains(a.without(b))


@given(bags)
def test_ranges_behave_like_sets_of_numbers(bag: Resources) -> None:
    """The walk over ranges is checked against plain sets."""
    cut = Resources.parse("ports:[3-7,20-25,50-51]")
    plain = {n for first, last in bag.unreserved().ranges("ports") for n in range(first, last + 1)}
    gone = {*range(3, 8), *range(20, 26), 50, 51}
    left = bag.unreserved().without(cut).ranges("ports")
    assert {n for first, last in left for n in range(first, last + 1)} == plain - gone
    assert bag.unreserved().contains(cut) is (gone <= plain)


def test_a_thousandth_added_often_is_exact() -> None:
    """Floats would have drifted by now (Mesos: 1.001 added and taken 100,000 times)."""
    step, bag = Resources.parse("cpus:1.001"), Resources.parse("cpus:1.001")
    for _ in range(2000):
        bag = bag + step
    assert bag.cpus_milli == 2001 * 1001
    assert bag == step.times(2001)


def test_kinds_do_not_mix() -> None:
    """Two agents may mean different things by one name; one bag may not."""
    amount, words = Resources.parse("x:1"), Resources.parse("x:{a}")
    with pytest.raises(ValueError):
        amount + words
    assert not amount.contains(words)
    assert amount.without(words) == amount
    assert amount.take(words) is None
    both = [Resources.parse("x:1;cpus(ads):1"), Resources.parse("x:{a};cpus:2")]
    assert Resources.sum_scalars(both) == Resources.parse("x:1;cpus:3")


def test_times_refuses_to_multiply_ports() -> None:
    """A port exists once."""
    ports = Resources.parse("ports:[5-6]")
    assert ports.times(1) == ports and ports.times(0) == EMPTY
    with pytest.raises(ValueError):
        ports.times(2)
    with pytest.raises(ValueError):
        ports.times(-1)


# --- roles ----------------------------------------------------------------------------------------


def test_views_by_role() -> None:
    """What is reserved is usable by its role alone."""
    bag = Resources.parse("cpus:4;cpus(ads):2;mem:100;mem(eng/web):50;ports(ads):[1-3]")
    assert bag.unreserved() == Resources.parse("cpus:4;mem:100")
    assert bag.reserved_to("ads") == Resources.parse("cpus(ads):2;ports(ads):[1-3]")
    assert bag.allocatable_to("ads") == Resources.parse(
        "cpus:4;mem:100;cpus(ads):2;ports(ads):[1-3]"
    )
    assert bag.allocatable_to("*") == bag.unreserved()
    assert bag.quantities() == {"cpus": 6000, "mem": 150_000}
    assert bag.names() == ("cpus", "mem", "ports")
    assert bag.ranges("ports") == ((1, 3),)
    assert bag.without_scalars() == Resources.parse("ports(ads):[1-3]")


def test_take_uses_reserved_entries_first() -> None:
    """What only this role may use is used before what others want too."""
    bag = Resources.parse("cpus:4;cpus(ads):2;mem:100;ports:[1-10];ports(ads):[11-20]")
    # 3 cpus: the 2 reserved ones and 1 more; ports 11-12 exist only as reserved ones.
    taken = bag.take(Resources.parse("cpus:3;mem:40;ports:[9-12]"))
    assert taken == Resources.parse("cpus(ads):2;cpus:1;mem:40;ports:[9-10];ports(ads):[11-12]")
    assert bag.take(Resources.parse("cpus:7")) is None
    assert bag.take(Resources.parse("gpus:1")) is None
    assert bag.take(Resources.parse("cpus(ads):1;cpus:4")) == Resources.parse("cpus(ads):2;cpus:3")
    assert bag.take(Resources.parse("cpus(ads):3")) is None


@given(bags, scalar_bags)
def test_take_gives_exactly_what_was_asked(bag: Resources, request: Resources) -> None:
    """A part of the bag, of the size of the request; or nothing exactly if none fits."""
    taken = bag.take(request)
    fits = all(bag.scalar(name) >= need for name, need in request.quantities().items())
    assert (taken is not None) is fits
    if taken is not None:
        assert bag.contains(taken) and taken.quantities() == request.quantities()


@given(bags, scalar_bags)
def test_count_fitting_is_the_largest_number_that_fits(bag: Resources, request: Resources) -> None:
    """Division must agree with taking one after the other."""
    count = bag.count_fitting(request)
    if request:
        assert bag.take(request.times(count)) is not None
        assert bag.take(request.times(count + 1)) is None
    else:
        assert count == 0


def test_count_fitting_with_ports_is_once_at_most() -> None:
    """A request that names port 5 cannot be served twice."""
    bag = Resources.parse("cpus:8;ports:[1-10]")
    assert bag.count_fitting(Resources.parse("cpus:1;ports:[5-5]")) == 1
    assert bag.count_fitting(Resources.parse("cpus:1;ports:[11-11]")) == 0
    assert bag.count_fitting(Resources.parse("cpus:3")) == 2


def test_repr_and_comparison_with_other_things() -> None:
    """A failed test must say what it saw."""
    assert repr(Resources.parse("mem:1;cpus:2")) == "Resources('cpus:2;mem:1')"
    assert Resources.parse("cpus:1") != 1
    assert bool(EMPTY) is False and bool(Resources.parse("cpus:1"))
