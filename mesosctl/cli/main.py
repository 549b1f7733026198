"""Where `mesosctl` begins and ends: streams made fit, the command run, every error one line.

Exit codes are those of `mesosctl help exit-codes`. Only a broken invariant of ours, and an
exception that nobody foresaw, show a traceback; whatever a user or the machine did wrong does not.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn, TextIO

import click

from mesosctl.cli.group import NoCommand, no_such, root_group
from mesosctl.cli.options import Globals
from mesosctl.cli.output import escaped, is_abandoned, silence
from mesosctl.errors import InvariantBroken, MesosctlError

EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_OURS = 125
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
# What a command that passes a task's code must not say in the task's name (`help exit-codes`).
_OURS = (1, 3, 4, 5, EXIT_BUG)


def main() -> NoReturn:
    """Run the command line of this process and end it."""
    _occupy_standard_streams()
    _end(run(sys.argv[1:]))


def _end(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but leave its memory to the kernel.

    Taking hundreds of modules apart one by one is a tenth of what a short command takes. What was
    registered for the end is called; with a thread that still runs, the usual way is gone.
    """
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code & 0xFF)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code. Nothing but SystemExit leaves this."""
    found = Globals()
    try:
        code = _invoke(list(args), found)
        found.console.flush()
    except (Exception, KeyboardInterrupt) as error:
        code = _report(error, found)
        if found.passes_task_code and code in _OURS:
            code = EXIT_OURS
    try:
        found.console.flush()
    except OSError:
        silence(sys.stdout)
    except MesosctlError:
        silence(sys.stdout)
        code = code or 1
    return code


def _invoke(args: list[str], found: Globals) -> int:
    """Parse and run. click's own `main` is not used: it hides broken pipes and Ctrl-C."""
    try:
        with root_group().make_context("mesosctl", args, obj=found) as ctx:
            result = ctx.command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else 0


def _report(error: BaseException, found: Globals) -> int:
    """Say what went wrong, on stderr, and return the exit code it means."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return EXIT_INTERRUPTED
    if isinstance(error, BrokenPipeError) and is_abandoned(sys.stdout, sys.stderr):
        silence(sys.stdout)
        return EXIT_PIPE
    if isinstance(error, InvariantBroken) or not isinstance(
        error, MesosctlError | click.ClickException | OSError
    ):
        return _report_bug(error)
    if found.verbose > 1:
        _traceback(error)
    if isinstance(error, MesosctlError):
        say(str(error))
        return error.exit_code
    if isinstance(error, click.ClickException):
        if isinstance(error, NoCommand) and error.ctx is not None:
            _print(error.ctx.get_usage())
        say(_said_by_click(error))
        return error.exit_code
    say(_said_by_the_system(error))
    return 1


def _report_bug(error: BaseException) -> int:
    _traceback(error)
    what = type(error).__name__
    say(f"internal error: {what}: {error}; please report it with the lines above")
    return EXIT_BUG


def _traceback(error: BaseException) -> None:
    import traceback

    _print("".join(traceback.format_exception(error)).rstrip("\n"))


def say(message: str) -> None:
    """Print one line about an error on stderr. Control characters are escaped."""
    _print(f"mesosctl: {escaped(message)}")


def _print(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # There is nobody left to tell; the exit code still says it.
        silence(sys.stderr)


# --- words ----------------------------------------------------------------------------------------


def _said_by_the_system(error: OSError) -> str:
    why = error.strerror or str(error) or type(error).__name__
    return f"{os.fsdecode(error.filename)}: {why}" if error.filename else why


def _said_by_click(error: click.ClickException) -> str:
    """What click found, in our form: `command: what: why; what to try`."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    path = ctx.command_path if ctx is not None else "mesosctl"
    where = path.partition(" ")[2]
    where = f"{where}: " if where else ""
    see = f"see {path} --help"
    match error:
        case click.NoSuchOption(option_name=name) if ctx is not None:
            known = [
                option
                for param in ctx.command.get_params(ctx)
                if isinstance(param, click.Option)
                for option in (*param.opts, *param.secondary_opts)
            ]
            return where + no_such("option", name, known, see)
        case click.MissingParameter():
            return f"{where}{_name_of(error)} is missing; {see}"
        case click.BadParameter():
            return f"{where}{_name_of(error)}{_source_of(error)}: {_plain(error.message)}"
        case click.FileError():
            return f"{escaped(error.ui_filename)}: {_plain(error.message)}"
        case _:
            pass
    message = _plain(error.format_message())
    return where + (message if ";" in message else f"{message}; {see}")


def _plain(message: str) -> str:
    """A sentence of click's as a part of ours; a name that it begins with stays as it is."""
    message = message.strip().removesuffix(".")
    is_word = message[1:2].islower() or message[1:2] == " "
    return message[:1].lower() + message[1:] if is_word else message


def _name_of(error: click.BadParameter) -> str:
    param = error.param
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    if param is not None:
        return str(param.human_readable_name).upper()
    return str(error.param_hint or "argument")


def _source_of(error: click.BadParameter) -> str:
    """Where a bad value came from, if not from the command line."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return ""
    match error.ctx.get_parameter_source(error.param.name):
        case click.core.ParameterSource.ENVIRONMENT:
            return " (from the environment)"
        case click.core.ParameterSource.DEFAULT_MAP:
            return " (from the configuration)"
        case _:
            return ""


# --- streams --------------------------------------------------------------------------------------


def _occupy_standard_streams() -> None:
    """Give 0, 1 and 2 to somebody, so that no file or socket of ours ever gets their numbers.

    A closed stdout (`>&-`) is opened for reading only: writing to it then fails, as it should. Text
    that the terminal's encoding does not have is written as an escape instead of a traceback.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno == errno.EBADF:
                os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = _text_stream(1)
    if sys.stderr is None:
        sys.stderr = _text_stream(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _text_stream(number: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
    )
