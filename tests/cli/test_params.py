"""Values as people type them: what is accepted, to what, and what is refused in which words."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesosctl.cli import params
from mesosctl.cli.params import (
    parse_address,
    parse_array,
    parse_cpus,
    parse_duration,
    parse_env,
    parse_masters,
    parse_name,
    parse_size,
    parse_words,
)
from mesosctl.cli.values import cpus_text, duration_text, size_text
from mesosctl.errors import UsageError

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("0.35s", 0.35),
        ("500ms", 0.5),
        ("01:30:00", 5400.0),
        ("100:00:00", 360_000.0),
        ("2-03:04:05", 2 * 86_400.0 + 3 * 3600 + 4 * 60 + 5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Both ways of writing a duration come out as seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0s",
        "-5s",
        "5",
        "5 parsecs",
        "30m1h",
        "1h1h",
        "1:30",
        "1:60:00",
        "1-24:00:00",
        "nan",
        "inf",
        "1e3s",
        "99999d",
        "5m ",
        " 5m",
        "5m\n",
        "٣s",
        "0-00:00:00",
        "1h-5m",
    ],
)
def test_durations_that_cannot_be_meant(text: str) -> None:
    """Zero, negative, unknown and endless times are refused, and the message says what is right."""
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_a_duration_without_a_unit_is_answered_with_a_guess() -> None:
    """People type numbers; they are told what they may have meant."""
    with pytest.raises(UsageError, match="has no unit; did you mean 90s or 90m"):
        parse_duration("90")


def test_zero_is_a_duration_where_it_makes_sense() -> None:
    """A grace of zero means at once, and only the option knows that."""
    assert parse_duration("0s", zero=True) == 0.0


@given(st.floats(min_value=0.01, max_value=1e7))
def test_durations_shown_can_be_typed_in_again(seconds: float) -> None:
    """What a table shows is accepted by an option, within the precision that was shown."""
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, rel=0.06, abs=0.006)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 * 1024**2),
        ("2G", 2 * GIB),
        ("64MiB", 64 * 1024**2),
        ("1.5g", 3 * GIB // 2),
        ("1 T", 1024 * GIB),
        ("4096B", 4096),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are powers of 1024, with or without iB."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12XB",
        "0M",
        "-1G",
        "999999999999999999T",
        "9999999999999999999999999G",
        "nan",
        "1e9G",
        "512MB",
        "M",
        "1..5G",
        "0.0000001K",
        "5\n",
        "५M",
    ],
)
def test_sizes_that_cannot_be_meant(text: str) -> None:
    """A size that overflows, is nothing, or has a foreign unit is refused in one line."""
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_a_size_without_a_unit_is_answered_with_a_guess() -> None:
    """512 bytes and 512 MiB are too far apart to guess silently."""
    with pytest.raises(UsageError, match=r"did you mean 512M\?"):
        parse_size("512")


def test_memory_has_a_floor() -> None:
    """Below 4 MiB no process starts, so such a limit is a slip."""
    with pytest.raises(UsageError, match="write at least 4M"):
        parse_size("4K", floor_bytes=4 * 1024**2)
    assert parse_size("4M", floor_bytes=4 * 1024**2) == 4 * 1024**2


@given(st.integers(min_value=1, max_value=2**52))
def test_sizes_shown_can_be_typed_in_again(size: int) -> None:
    """What a table shows is accepted by an option."""
    assert parse_size(size_text(size)) == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(
    ("text", "milli"),
    [
        ("1", 1000),
        ("0.5", 500),
        ("0.01", 10),
        (".25", 250),
        ("4.", 4000),
        ("1e6", 10**9),
        ("0.0125", 13),
        ("1.0004", 1000),
        ("1.0005", 1001),
    ],
)
def test_cpus(text: str, milli: int) -> None:
    """CPUs are decimal numbers, kept in thousandths and rounded half up."""
    assert parse_cpus(text) == milli


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0.0",
        "-1",
        "nan",
        "inf",
        "1e309",
        "0.0000001",
        "0.009",
        "1e-2",
        "x",
        "1,5",
        ".",
        "1e",
        "e5",
        "0x10",
        "99999999999999e9",
        "1 ",
        "1_000",
        "½",
        "१",
    ],
)
def test_cpus_that_cannot_be_meant(text: str) -> None:
    """Zero, what rounds to zero, and what is not a number at all are refused."""
    with pytest.raises(UsageError) as caught:
        parse_cpus(text)
    assert caught.value.hint == params._CPUS_HINT


@given(st.integers(min_value=10, max_value=10**9))
def test_cpus_shown_can_be_typed_in_again(milli: int) -> None:
    """Thousandths survive being shown and typed."""
    assert parse_cpus(cpus_text(milli)) == milli


@pytest.mark.parametrize("text", ["a", "align-3.x_y", "_", "0", "a" * 128])
def test_names(text: str) -> None:
    """A name is a short ASCII word."""
    assert parse_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a/b",
        "-a",
        ".a",
        "a b",
        "a\n",
        "a\x00",
        "\x1b[31m",
        "a" * 129,
        "é",
        "e\u0301",
        "\u202eabc",
        "a\udcff",
        "Ａ",
    ],
)
def test_names_that_cannot_be_meant(text: str) -> None:
    """A name becomes part of paths and listings, so nothing else gets through, nor is shown raw."""
    with pytest.raises(UsageError) as caught:
        parse_name(text)
    assert str(caught.value).isascii() and str(caught.value).isprintable()


def test_environment_assignments(monkeypatch: pytest.MonkeyPatch) -> None:
    """K=V is taken as it is, K alone from here; bytes that are no UTF-8 survive."""
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    assert parse_env("A=1=2") == ("A", "1=2")
    assert parse_env("A=") == ("A", "")
    assert parse_env("HERE") == ("HERE", "yes")
    assert parse_env("A=\udcff") == ("A", "\udcff")
    with pytest.raises(UsageError, match="NOT_HERE is not in this environment"):
        parse_env("NOT_HERE")


@pytest.mark.parametrize(
    "text", ["=x", "A B=1", "A=\0", "1A=x", "A-B=1", "", "A=" + "x" * 200_000, "MESOS_JOB_ID=7"]
)
def test_environment_assignments_that_cannot_be_meant(text: str) -> None:
    """What execve would refuse or cut, and what mesosctl sets itself, is refused before sending."""
    with pytest.raises(UsageError) as caught:
        parse_env(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "indices", "cap"),
    [
        ("0-3", [0, 1, 2, 3], None),
        ("0-15:4", [0, 4, 8, 12], None),
        ("1,3,5-7", [1, 3, 5, 6, 7], None),
        ("0-99%10", list(range(100)), 10),
        ("7", [7], None),
    ],
)
def test_arrays(text: str, indices: list[int], cap: int | None) -> None:
    """Indices in Slurm's form, with the cap behind the percent sign."""
    spec = parse_array(text)
    assert list(spec) == indices
    assert len(spec) == len(indices)
    assert spec.max_running == cap


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "5-1",
        "0-9:0",
        "0-9%0",
        "0-9%",
        "1,,2",
        "-3",
        "1-",
        "0-1000000",
        "1,1",
        "0-4,2-6",
        "0-8:2,4",
        "%5",
        "0-9%10%5",
        "0-99999999999",
        "1 ,2",
        "٣",
    ],
)
def test_arrays_that_cannot_be_meant(text: str) -> None:
    """Backwards, endless, too many and twice are refused; a million tasks are the limit."""
    with pytest.raises(UsageError) as caught:
        parse_array(text)
    assert caught.value.hint


def test_the_largest_array() -> None:
    """The limit itself is allowed, and told in ranges rather than in a million numbers."""
    spec = parse_array("0-999999")
    assert len(spec) == 1_000_000
    assert spec.ranges == ((0, 999_999, 1),)


def test_interleaved_ranges_are_no_duplicates() -> None:
    """Ranges that overlap as intervals may still share no index."""
    assert sorted(parse_array("0-8:2,1-9:2")) == list(range(10))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://10.0.0.1:5050", "tcp://10.0.0.1:5050"),
        ("node1", "tcp://node1:5050"),
        ("node1:80", "tcp://node1:80"),
        ("[::1]:5051", "tcp://[::1]:5051"),
        ("tcp://[fe80::1]", "tcp://[fe80::1]:5050"),
        ("node1:0080", "tcp://node1:80"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    """An address is completed by scheme and port."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://",
        ":5050",
        "h:",
        "h:0",
        "h:65536",
        "h:x",
        "h:-1",
        "tcp://*:5050",
        "http://h",
        "::1",
        "[::1",
        "[::1]x",
        "[nonsense]:1",
        "h h",
        "h\n",
        "h/path",
        "zk://h",
        "hé",
        "h:٣",
    ],
)
def test_addresses_that_cannot_be_meant(text: str) -> None:
    """What could only hang or fail later in a socket is refused now."""
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.hint.startswith("write ")


def test_addresses_to_listen_on() -> None:
    """Whoever listens may take any port, and every interface."""
    assert parse_address("tcp://127.0.0.1:0", listen=True) == "tcp://127.0.0.1:0"
    assert parse_address("*:5050", listen=True) == "tcp://0.0.0.0:5050"


def test_several_masters_and_words() -> None:
    """Lists are separated by commas, and blanks around them do not count."""
    assert parse_masters("a, b:1") == "tcp://a:5050,tcp://b:1"
    assert parse_words(" a, b ,,") == ("a", "b")
    with pytest.raises(UsageError):
        parse_masters("a,,b")


def is_parsed_or_refused(parse: Callable[[str], object], text: str) -> bool:
    """Whether a parser gives a value or a UsageError (anything else is raised)."""
    try:
        parse(text)
    except UsageError as error:
        return str(error).isprintable() and bool(error.hint)
    return True


@given(st.text(max_size=40))
def test_no_text_at_all_makes_a_parser_fall_over(text: str) -> None:
    """Whatever is typed is a value or a UsageError, never another exception."""
    parsers = (parse_duration, parse_size, parse_cpus, parse_name, parse_env, parse_array)
    for parse in (*parsers, parse_address, parse_masters, parse_words):
        assert is_parsed_or_refused(parse, text)


def test_the_click_types_take_numbers_from_a_configuration() -> None:
    """`cpus = 2` in TOML is a number, and means what the text 2 means."""
    assert params.CPUS.convert(2, None, None) == 2000
    assert params.CPUS.convert(0.5, None, None) == 500
    with pytest.raises(click.BadParameter, match="has no unit"):
        params.MEMORY.convert(512, None, None)
    with pytest.raises(click.BadParameter, match="not a finite number"):
        params.CPUS.convert(float("inf"), None, None)
