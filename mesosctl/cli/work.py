"""What a task is to execute, from the words of `submit` and `run`: a command, a script, a line.

    -- ARGV...        exactly these words, no shell
    SCRIPT ARGS...    a file that is there: its text goes along as it is now
    PROGRAM ARGS...   a word that is no file here but is found in PATH: exactly these words
    -                 the script is read from stdin
    --wrap STRING     a line for the shell; also one single word with a blank in it

Rules: nothing is guessed about a word that is neither a file nor a program: a misspelt script must
not become a job that fails on an agent. Bytes that are no UTF-8 pass through unchanged.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace

from mesosctl.cli.params import shown
from mesosctl.errors import UsageError
from mesosctl.limits import ENV_VALUE_BYTES_MAX, NAME_BYTES_MAX, SCRIPT_BYTES_MAX
from mesosctl.model.patterns import pattern
from mesosctl.model.records import dataclass

ARGUMENTS_MAX = 10_000
# Of a task's arguments together; the environment comes on top and the kernel takes 2 MiB.
ARGUMENTS_BYTES_MAX = 1024 * 1024
SHELL = "/bin/sh"
SCRIPT_NAME = "script"
# Files of these names are in every sandbox already.
_TAKEN = ("stdin", "stdout", "stderr", "tmp")
_ELF = b"\x7fELF"
_NOT_IN_A_NAME = pattern(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Work:
    """What is executed: see model.tasks.Command. `name` is what a job is called by default.

    `from_stdin`: our stdin was the script, so that nothing else can be read from it.
    """

    argv: tuple[str, ...]
    script: bytes | None = None
    script_name: str = SCRIPT_NAME
    name: str = ""
    from_stdin: bool = False


def read_work(words: Sequence[str], after_dash: bool, wrap: str | None) -> Work:
    """The work that these words mean. Raises UsageError.

    `after_dash`: they stood behind `--`. Reads the script, from its file or from stdin.
    """
    words = tuple(words)
    if wrap is not None:
        if words:
            raise UsageError(
                f"--wrap takes one line for the shell, and no {shown(words[0])} beside it",
                "put everything into the line, or write -- COMMAND ARGS",
            )
        return _checked(_wrapped(wrap))
    if not words:
        raise UsageError(
            "there is nothing to execute", "write -- COMMAND ARGS, SCRIPT ARGS or --wrap LINE"
        )
    if after_dash:
        return _checked(_command(words))
    if words[0] == "-":
        return _checked(_script_from_stdin(words[1:]))
    return _checked(_named(words))


def _named(words: tuple[str, ...]) -> Work:
    """A script, a program or a line for the shell, by what the first word is here."""
    first = words[0]
    if not first.strip():
        raise UsageError("the command is empty", "name a command, or a script")
    try:
        found: os.stat_result | None = os.stat(first)
    except (OSError, ValueError):
        found = None
    if found is not None and stat.S_ISREG(found.st_mode):
        return _script(first, words[1:])
    if found is not None and "/" in first:
        raise UsageError(f"{shown(first)} is no regular file", "name a script or a command")
    if len(words) == 1 and any(char.isspace() for char in first):
        return _wrapped(first)
    if "/" in first:
        raise UsageError(
            f"there is no script {shown(first)} here",
            "check the path; for a command of the agents' own write -- before it",
        )
    # Late: it brings the modules of every compressor along.
    from shutil import which

    if which(first) is None:
        raise UsageError(
            f"{shown(first)} is neither a file here nor a command in PATH",
            "check its name; for a command of the agents' own write -- before it",
        )
    return _command(words)


def _command(words: tuple[str, ...]) -> Work:
    if not words[0].strip():
        raise UsageError("the command is empty", "name a command behind --")
    return Work(words, name=_name(words[0]))


def _wrapped(line: str) -> Work:
    if not line.strip():
        raise UsageError("the line for the shell is empty", "write --wrap 'COMMAND ARGS'")
    return Work((SHELL, "-c", line), name=_name(line.split()[0]))


def _script(path: str, arguments: tuple[str, ...]) -> Work:
    try:
        # What was a regular file may have become a FIFO: then it must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            text = file.read(SCRIPT_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"{shown(path)} cannot be read: {error.strerror}", "a script's text is sent along"
        ) from None
    if text.startswith(_ELF):
        # A program is found by its path on the agent; a copy of it is no script.
        path = os.path.abspath(path)
        return Work((path, *arguments), name=_name(path))
    return _of_text(text, path, os.path.basename(path), arguments)


def _script_from_stdin(arguments: tuple[str, ...]) -> Work:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- reads the script from stdin, which is a terminal", "write - < SCRIPT")
    text = sys.stdin.buffer.read(SCRIPT_BYTES_MAX + 1)
    return replace(_of_text(text, "stdin", "stdin", arguments), from_stdin=True)


def _of_text(text: bytes, where: str, name: str, arguments: tuple[str, ...]) -> Work:
    if len(text) > SCRIPT_BYTES_MAX:
        limit = f"{SCRIPT_BYTES_MAX // 1024**2} MiB"
        raise UsageError(
            f"{shown(where)} is larger than {limit}", "name it behind --, and it is not sent along"
        )
    if not text.strip():
        raise UsageError(f"{shown(where)} is empty", "there is nothing to execute")
    if b"\0" in text:
        raise UsageError(f"{shown(where)} is no text", "for a program write -- before its path")
    plain = _name(name)
    return Work(arguments, text, SCRIPT_NAME if plain in _TAKEN else plain, plain)


def _name(word: str) -> str:
    """A name for a job or a script in the sandbox, made of the last part of a path."""
    last = word.rstrip("/").rpartition("/")[2]
    plain = _NOT_IN_A_NAME.sub("_", last).lstrip(".-")[: NAME_BYTES_MAX // 2]
    return plain or SCRIPT_NAME


def _checked(work: Work) -> Work:
    if len(work.argv) > ARGUMENTS_MAX:
        raise UsageError(f"more than {ARGUMENTS_MAX} arguments", "pass them in a file")
    total = 0
    for argument in work.argv:
        size = len(argument.encode("utf-8", "surrogateescape"))
        if "\0" in argument:
            raise UsageError(f"the argument {shown(argument)} holds a NUL character", "remove it")
        if size >= ENV_VALUE_BYTES_MAX:
            limit = f"{ENV_VALUE_BYTES_MAX // 1024} KiB"
            raise UsageError(f"an argument is longer than {limit}", "pass it in a file")
        total += size + 1
    if total > ARGUMENTS_BYTES_MAX:
        limit = f"{ARGUMENTS_BYTES_MAX // 1024**2} MiB"
        raise UsageError(f"the arguments have {total} bytes, at most {limit}", "pass a file")
    return work
