"""What commands print: data to stdout, everything else to stderr, listings in six formats.

Rules: nothing but data is ever on stdout. On a terminal a table is fitted to its width and may have
colour; in a pipe it is whole and has neither colour nor escape bytes. Control characters of other
people's text are escaped in every format. JSON is one object with `"schema": 1` and the list under
the command's name; fields are only ever added. A write that fails is one line and exit code 1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

from mesosctl.cli import values
from mesosctl.errors import MesosctlError, UsageError
from mesosctl.model.records import dataclass

SCHEMA = 1
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "dim": 2}
# A column is not made narrower than this: a line that wraps is still better than one that is empty.
_WIDTH_MIN = 5
_GAP = 2

Row = Mapping[str, Any]


class WriteFailed(MesosctlError):
    """stdout does not take what it was given."""

    def __init__(self, why: str) -> None:
        super().__init__(f"write error: {why}", "check where stdout leads")


def escaped(text: str) -> str:
    """`text` in one line that a terminal takes literally: what is not printable is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def silence(stream: TextIO | None) -> None:
    """Let the rest of what `stream` holds go nowhere, so that the end of Python says nothing."""
    try:
        number = stream.fileno() if stream is not None else -1
        if number in (1, 2):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
    except (OSError, ValueError):
        # Not a real file (a test's), or closed: there is nothing to be written at the end.
        return


def is_abandoned(*streams: TextIO | None) -> bool:
    """Whether the reader of one of these streams is gone, as in `mesosctl jobs | head`."""
    import select

    for stream in streams:
        try:
            poll = select.poll()
            poll.register(stream.fileno() if stream is not None else -1, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                return True
        except (OSError, ValueError):
            continue
    return False


# --- the console ----------------------------------------------------------------------------------


class Console:
    """Where one invocation writes. `color` is auto, always or never; `quiet` silences notes."""

    def __init__(self, color: str = "auto", quiet: bool = False, utc: bool = False) -> None:
        self.color = color
        self.quiet = quiet
        self.utc = utc

    @property
    def is_tty(self) -> bool:
        """Whether a person reads stdout."""
        return sys.stdout is not None and sys.stdout.isatty()

    @property
    def has_colour(self) -> bool:
        """Whether stdout may carry colour: the option, then NO_COLOR, FORCE_COLOR, the terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
            return True
        return self.is_tty and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def width(self) -> int:
        """Columns of the terminal, or 0 where nothing is to be fitted (a pipe, a file)."""
        if not self.is_tty:
            return 0
        columns = os.environ.get("COLUMNS", "")
        if columns.isascii() and columns.isdigit() and int(columns) > 0:
            return int(columns)
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def out(self, text: str, end: str = "\n") -> None:
        """Print data on stdout. Raises WriteFailed; BrokenPipeError when the reader has gone."""
        try:
            sys.stdout.write(text + end)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def raw(self, data: bytes) -> None:
        """Write bytes (a task's output) to stdout as they are, and flush. Raises as `out` does."""
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def flush(self) -> None:
        """Write out what is buffered. Raises as `out` does."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> WriteFailed:
        silence(sys.stdout)
        return WriteFailed(error.strerror or str(error))

    def json(self, command: str, content: Any) -> None:
        """Print the one JSON object of a command: `content` under the command's name."""
        self.out(json_text({"schema": SCHEMA, command: content}, indent=self.is_tty))

    def note(self, text: str) -> None:
        """Tell the person something on stderr, unless -q was given."""
        if not self.quiet:
            self.error_line(text)

    def warn(self, text: str) -> None:
        """Warn on stderr, unless -q was given."""
        self.note(f"mesosctl: warning: {text}")

    def error_line(self, text: str) -> None:
        """One line on stderr whatever was asked for; a stderr that is closed is no error."""
        try:
            print(escaped(text), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            silence(sys.stderr)

    def styled(self, text: str, colour: str) -> str:
        """`text` in that colour where stdout may carry colour, otherwise as it is."""
        if not colour or not self.has_colour:
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    def time(self, seconds: float | None) -> str:
        """A moment for people: local with its zone, or UTC with --utc; "-" for None."""
        return values.time_text(seconds, self.utc)


# --- listings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a listing.

    `kind` says what a row holds under `key` and how it is shown:

        kind      in the row            JSON, jsonl, csv       table
        text      str                   as it is               escaped
        number    int or float          as it is               right-aligned
        cpus      int, thousandths      number of CPUs         0.5
        size      int, bytes            as it is               512M
        duration  float, seconds        as it is               1h30m
        time      float, Unix seconds   ISO-8601 in UTC        local with zone, or UTC
        bool      bool                  as it is               yes, no
        words     sequence of str       list (csv: ;)          a,b

    None is null, empty in csv, and "-" in a table. `wide`: only in `-o wide`; `hidden`: in no table
    unless --fields names it. `render` makes the table's text of the value, `style` its colour.
    """

    key: str
    title: str
    kind: str = "text"
    wide: bool = False
    hidden: bool = False
    render: Callable[[Any], str] | None = None
    style: Callable[[Any], str] | None = None

    def data(self, row: Row) -> Any:
        """The value as programs get it."""
        return values.as_data(self.kind, row.get(self.key))

    def text(self, row: Row, utc: bool) -> str:
        """The value as people get it."""
        value = row.get(self.key)
        if self.render is not None and value is not None:
            return escaped(self.render(value))
        return escaped(values.as_text(self.kind, value, utc))


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of things: `command` names it in JSON, `id_key` (first column: "") is its name."""

    command: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    id_key: str = ""

    def print(self, console: Console, output: Any) -> None:
        """Print it as `output` (an options.Output) says. Raises UsageError for unknown fields."""
        columns = self._chosen(output.fields)
        match output.format:
            case "json":
                console.json(self.command, self.items(columns))
            case "jsonl":
                for item in self.items(columns):
                    console.out(json_text(item))
            case "csv":
                self._print_csv(console, columns)
            case "name":
                key = self.id_key or self.columns[0].key
                for row in self.rows:
                    console.out(escaped(str(row[key])))
            case _:
                if not output.fields:
                    wide = output.format == "wide"
                    columns = [c for c in columns if not c.hidden and (wide or not c.wide)]
                print_table(console, columns, self.rows)

    def items(self, columns: Sequence[Column] | None = None) -> list[dict[str, Any]]:
        """The rows as programs get them."""
        chosen = self.columns if columns is None else columns
        return [{column.key: column.data(row) for column in chosen} for row in self.rows]

    def _chosen(self, fields: Sequence[str]) -> list[Column]:
        known = {column.key: column for column in self.columns}
        for field in fields:
            if field not in known:
                raise UsageError(
                    f"--fields: no field {escaped(field)!r}", f"there are {', '.join(known)}"
                )
        return [known[field] for field in fields] if fields else list(self.columns)

    def _print_csv(self, console: Console, columns: Sequence[Column]) -> None:
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.key for column in columns])
        for row in self.rows:
            writer.writerow([_csv_cell(column.data(row)) for column in columns])
        console.out(text.getvalue(), end="")


def print_table(console: Console, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Print rows under titles, fitted to the terminal if there is one."""
    rows = list(rows)
    titles = [column.title.upper() for column in columns]
    cells = [[column.text(row, console.utc) for column in columns] for row in rows]
    if console.width:
        _fit(titles, cells, console.width)
    if console.has_colour:
        for line, row in zip(cells, rows, strict=True):
            for place, column in enumerate(columns):
                if column.style is not None and row.get(column.key) is not None:
                    line[place] = console.styled(line[place], column.style(row[column.key]))
    # tabulate is slow to import, and only tables need it.
    from tabulate import tabulate

    right = ("number", "cpus", "size")
    # As a row like any other, because headers are padded beyond the width they need.
    text = tabulate(
        [titles, *cells],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["right" if column.kind in right else "left" for column in columns],
    )
    console.out("\n".join(line.rstrip() for line in text.splitlines()))


def _fit(titles: list[str], cells: list[list[str]], width: int) -> None:
    """Shorten cells in place until a line fits `width`: always the widest column, last first."""
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    while over > 0:
        widest = max(range(len(widths)), key=lambda place: (widths[place], place))
        if widths[widest] <= _WIDTH_MIN:
            break
        widths[widest] -= 1
        over -= 1
    for line in (titles, *cells):
        for place, limit in enumerate(widths):
            if len(line[place]) > limit:
                line[place] = line[place][: limit - 1] + "…"


# --- text -----------------------------------------------------------------------------------------

_NOT_PRINTABLE = re.compile(r"[^ -~\n]")


def json_text(content: Any, indent: bool = False) -> str:
    """JSON in which every character that a terminal would obey is escaped."""
    import json

    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2 if indent else None)
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    is_unicode = encoding.replace("-", "") == "utf8"

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if is_unicode and char.isprintable():
            return char
        return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"

    return _NOT_PRINTABLE.sub(escape, text)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = ";".join(map(str, value))
    return escaped(value) if isinstance(value, str) else value
