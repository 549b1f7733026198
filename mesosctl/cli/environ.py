"""Which variables of the submitter's environment a task gets, before `--env` adds its own.

Rules: what belongs to a login session (its terminal, its agents, its sockets) means nothing on
another host, and what looks like a secret is not sent anywhere unless it is named: both stay here
unless `--env-base all` is said. What mesosctl sets itself (MESOS_...) is never passed on from the
task that submits to the task that is submitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesosctl.errors import UsageError
from mesosctl.limits import ENV_BYTES_MAX, ENV_ENTRIES_MAX, ENV_VALUE_BYTES_MAX
from mesosctl.model.patterns import pattern

BASES = ("default", "all", "basic", "none")
_BASIC = pattern(r"HOME|USER|LOGNAME|SHELL|PATH|TZ|LANG|LANGUAGE|LC_[A-Z]+")
# Who one is on another host is for that host to say when the task runs as somebody else.
_ACCOUNT = ("HOME", "USER", "LOGNAME", "SHELL", "MAIL")
_OURS = pattern(r"MESOS_.*|MESOSCTL")
_SESSION = pattern(
    r"SSH_.*|DBUS_.*|XDG_RUNTIME_DIR|XDG_SESSION_.*|XDG_SEAT.*|XDG_VTNR|DISPLAY|WAYLAND_.*"
    r"|XAUTHORITY|SESSION_MANAGER|DESKTOP_.*|GPG_.*|KRB5CCNAME|TERM|TERM_.*|TERMCAP|COLORTERM"
    r"|VTE_.*|WINDOWID|COLUMNS|LINES|TMUX.*|STY|WINDOW|SHLVL|PWD|OLDPWD|_|SUDO_.*|MAIL"
    r"|TMPDIR|TMP|TEMP|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_.*|NOTIFY_SOCKET|LISTEN_.*"
    r"|WATCHDOG_.*|MESOSCTL_.*"
)
_SECRET = pattern(
    r".*(TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|API_?KEY|PRIVATE)|.*_(KEY|PASS|PWD|AUTH)(_|$)",
    re.IGNORECASE,
)


def is_session(name: str) -> bool:
    """Whether a variable belongs to the login session."""
    return _SESSION.fullmatch(name) is not None


def is_secret(name: str) -> bool:
    """Whether the name of a variable promises a secret."""
    return _SECRET.match(name) is not None


def task_environment(
    base: str,
    added: tuple[tuple[str, str], ...],
    environ: Mapping[str, str],
    is_other_user: bool = False,
) -> dict[str, str]:
    """The variables of a task: one of BASES from `environ`, then what was `added`.

    `is_other_user`: HOME and the like are left for the agent to set. Raises UsageError for more
    than a task can be given.
    """
    env: dict[str, str] = {}
    for name, value in environ.items():
        if _OURS.fullmatch(name) or not _is_wanted(base, name):
            continue
        if is_other_user and base != "all" and name in _ACCOUNT:
            continue
        env[name] = value
    env.update(added)
    _check(env, base)
    return env


def _is_wanted(base: str, name: str) -> bool:
    match base:
        case "all":
            return True
        case "basic":
            return _BASIC.fullmatch(name) is not None
        case "none":
            return False
        case _:
            return not is_session(name) and not is_secret(name)


def _check(env: Mapping[str, str], base: str) -> None:
    hint = "pass less: --env-base basic" if base in ("all", "default") else "pass it in a file"
    if len(env) > ENV_ENTRIES_MAX:
        raise UsageError(f"the environment has more than {ENV_ENTRIES_MAX} variables", hint)
    total = 0
    for name, value in env.items():
        size = _size(name) + _size(value) + 2
        if size > ENV_VALUE_BYTES_MAX:
            limit = f"{ENV_VALUE_BYTES_MAX // 1024} KiB"
            raise UsageError(f"the variable {name[:40]} is longer than {limit}", hint)
        total += size
    if total > ENV_BYTES_MAX:
        limit = f"{ENV_BYTES_MAX // 1024**2} MiB"
        raise UsageError(f"the environment has {total} bytes, at most {limit} can be passed", hint)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
