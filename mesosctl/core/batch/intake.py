"""What a submission must be to be taken. The client checked it, and is not trusted.

Rules: everything that later steps rely on is checked here, once: sizes, text that can be an
argument of a program, a user and a role that the caller may use. What comes out is complete: the
user is named, the indices are in order.
"""

from __future__ import annotations

from dataclasses import replace

from mesosctl.core.batch.records import launch_bytes
from mesosctl.core.batch.spans import INDEX_MAX, normal
from mesosctl.errors import PeerError, UsageError
from mesosctl.limits import (
    ARRAY_TASKS_MAX,
    CPUS_MILLI_MIN,
    ENV_BYTES_MAX,
    ENV_ENTRIES_MAX,
    ENV_VALUE_BYTES_MAX,
    FRAME_BYTES_MAX_BULK,
    KILL_GRACE_MAX_S,
    LEASE_MAX_S,
    LEASE_MIN_S,
    LOG_MAX_BYTES_MIN,
    MEM_BYTES_MIN,
    NAME_BYTES_MAX,
    SCRIPT_BYTES_MAX,
)
from mesosctl.model.cluster import Principal
from mesosctl.model.constraints import parse_constraint
from mesosctl.model.ids import is_ident, is_role
from mesosctl.model.jobs import JobSpec
from mesosctl.model.volumes import mounts_problem, wanted

ARGUMENTS_MAX = 10_000
RANGES_MAX = 10_000
PATH_BYTES_MAX = 4096
AMOUNT_MAX = 2**40
PRIORITY_MAX = 1_000_000
# More than any kernel has.
RLIMITS_MAX = 32
TIME_LIMIT_MAX_S = 10 * 365 * 86_400.0
ENTRIES_BYTES_MAX = FRAME_BYTES_MAX_BULK


def admitted(spec: JobSpec, principal: Principal, framework_role: str) -> JobSpec:
    """The submission made complete.

    Raises PeerError with the code `invalid` or `not-permitted` and one line that says why.
    """
    spec = replace(
        spec,
        name=spec.name or _default_name(spec),
        user=spec.user or _first_user(principal),
        role=framework_role if spec.role == "*" else spec.role,
        more=spec.more + wanted(spec.volumes) if spec.volumes else spec.more,
    )
    _check_identity(spec, principal, framework_role)
    _check_amounts(spec)
    _check_command(spec)
    _check_paths(spec)
    _check_many(spec)
    _need(
        launch_bytes(replace(spec, script=None)) <= FRAME_BYTES_MAX_BULK // 4,
        "a task's arguments and environment are too long together",
    )
    return replace(spec, indices=normal(spec.indices), is_array=spec.is_array or bool(spec.indices))


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise PeerError("invalid", message)


def _permit(condition: bool, message: str) -> None:
    if not condition:
        raise PeerError("not-permitted", message)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _default_name(spec: JobSpec) -> str:
    source = spec.script_name if spec.script is not None or not spec.argv else spec.argv[0]
    name = source.rpartition("/")[2][: NAME_BYTES_MAX // 4]
    return "".join(char if char.isprintable() else "?" for char in name) or "job"


def _first_user(principal: Principal) -> str:
    for user in principal.users:
        if user != "*":
            return user
    raise PeerError("invalid", "no user is named for the job, and the key names none")


def _check_identity(spec: JobSpec, principal: Principal, framework_role: str) -> None:
    _need(_size(spec.name) <= NAME_BYTES_MAX, f"the name is over {NAME_BYTES_MAX} bytes")
    _need(spec.name.isprintable(), "the name holds characters that cannot be printed")
    _need(spec.user.isprintable() and _size(spec.user) <= NAME_BYTES_MAX, "that is no user's name")
    _permit(principal.may_run_as(spec.user), f"the key {principal.name} may not run as {spec.user}")
    _need(is_role(spec.role), "that is no role's name")
    _permit(
        principal.may_use_role(spec.role),
        f"the key {principal.name} may not use the role {spec.role}",
    )
    _need(
        spec.role == framework_role,
        f"this batch framework takes resources as role {framework_role}, not {spec.role}",
    )
    _need(not (spec.once and spec.restartable), "a job is either once or restartable")
    _need(not (spec.once and spec.preemptible), "a job is either once or preemptible")
    if spec.constraint:
        try:
            parse_constraint(spec.constraint)
        except UsageError as error:
            raise PeerError("invalid", f"constraint {error.message}") from None


def _check_amounts(spec: JobSpec) -> None:
    _need(
        CPUS_MILLI_MIN <= spec.cpus_milli <= AMOUNT_MAX,
        f"a task needs at least {CPUS_MILLI_MIN / 1000} cpus",
    )
    _need(
        MEM_BYTES_MIN <= spec.mem_bytes <= AMOUNT_MAX * 1024,
        f"a task needs at least {MEM_BYTES_MIN >> 20}M of memory",
    )
    names = spec.more.names()
    _need("cpus" not in names and "mem" not in names, "cpus and memory are named twice")
    _need(all("(" not in key for key, _ in spec.more.items()), "resources of a role")
    problem = mounts_problem(spec.volumes, spec.more)
    _need(not problem, problem)
    _need(not spec.whole_cores or spec.cpus_milli % 1000 == 0, "whole cores need whole cpus")
    _need(len(spec.rlimits) <= RLIMITS_MAX, f"more than {RLIMITS_MAX} rlimits")
    _need(set(spec.private) <= {"tmp", "pids"}, "only tmp and pids can be private")
    _need(abs(spec.priority) <= PRIORITY_MAX, f"the priority is beyond {PRIORITY_MAX}")
    _need(spec.max_running is None or spec.max_running >= 1, "max-running is below 1")
    _need(0 <= spec.grace_s <= KILL_GRACE_MAX_S, f"the grace is over {KILL_GRACE_MAX_S:.0f}s")
    limit_s = spec.time_limit_s
    _need(limit_s is None or 0 < limit_s <= TIME_LIMIT_MAX_S, "the time limit is out of range")
    least = LOG_MAX_BYTES_MIN
    _need(
        spec.log_max_bytes == 0 or least <= spec.log_max_bytes <= AMOUNT_MAX * 1024,
        f"log-max is below {least >> 10}K",
    )
    lease_s = spec.lost_after_s
    _need(
        lease_s is None or LEASE_MIN_S <= lease_s <= LEASE_MAX_S,
        f"lost-after must be {LEASE_MIN_S:g}s at the least, and a year at the most",
    )
    _need(0 <= spec.umask <= 0o777, "the umask is out of range")


def _check_command(spec: JobSpec) -> None:
    _need(bool(spec.argv) or spec.script is not None, "there is no command")
    _need(spec.script is not None or bool(spec.argv[0]), "the command is empty")
    _need(len(spec.argv) <= ARGUMENTS_MAX, f"more than {ARGUMENTS_MAX} arguments")
    for argument in spec.argv:
        _need("\0" not in argument, "an argument holds a NUL character")
        _need(_size(argument) < ENV_VALUE_BYTES_MAX, "an argument is over 128K")
    if spec.script is not None:
        _need(len(spec.script) <= SCRIPT_BYTES_MAX, f"the script is over {SCRIPT_BYTES_MAX >> 20}M")
        _need(is_ident(spec.script_name), "the script's name is no plain file name")
    _need(len(spec.env) <= ENV_ENTRIES_MAX, f"more than {ENV_ENTRIES_MAX} variables")
    total = 0
    for name, value in spec.env.items():
        _need(bool(name) and "=" not in name, "a variable has no name, or one with '='")
        _need("\0" not in name and "\0" not in value, "a variable holds a NUL character")
        size = _size(name) + _size(value) + 2
        _need(size <= ENV_VALUE_BYTES_MAX, f"the variable {name[:40]} is over 128K")
        total += size
    _need(total <= ENV_BYTES_MAX, f"the environment is over {ENV_BYTES_MAX >> 20}M")


def _check_paths(spec: JobSpec) -> None:
    for what, path in (
        ("stdin", spec.stdin),
        ("stdout", spec.stdout),
        ("stderr", spec.stderr),
        ("working directory", spec.cwd),
        ("submit directory", spec.submit_dir),
    ):
        _need("\0" not in path and _size(path) <= PATH_BYTES_MAX, f"the {what} is no path")
    _need(spec.cwd[:1] in ("", "/"), "the working directory is not absolute")
    _need(spec.submit_dir[:1] in ("", "/"), "the submit directory is not absolute")
    for path in (spec.stdin, spec.stdout, spec.stderr):
        known = path[:1] in ("", "/") or path in ("none", "merge")
        _need(known or bool(spec.submit_dir), "a relative path needs a submit directory")


def _check_many(spec: JobSpec) -> None:
    _need(not (spec.indices and spec.entries), "an array cannot have entries, too")
    _need(len(spec.indices) <= RANGES_MAX, f"more than {RANGES_MAX} ranges of indices")
    for first, last, step in spec.indices:
        _need(0 <= first <= last <= INDEX_MAX and step >= 1, "a range of indices is malformed")
    _need(not spec.is_array or bool(spec.indices) or bool(spec.entries), "the array has no tasks")
    _need(spec.count() <= ARRAY_TASKS_MAX, f"more than {ARRAY_TASKS_MAX} tasks")
    if spec.entries:
        joined = "\0".join(spec.entries)
        _need(joined.count("\0") == len(spec.entries) - 1, "an entry holds a NUL character")
        _need(_size(joined) <= ENTRIES_BYTES_MAX, "the entries are too long together")
        longest = max(spec.entries, key=len)
        _need(4 * len(longest) < ENV_VALUE_BYTES_MAX, "an entry is over 32K characters")
