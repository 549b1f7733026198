"""Between a command and the batch framework.

A selector is text: `12`, `12.3`, `12.0-9`, `10-14`, `last`, `all`, `name:GLOB`. Every answer
carries `re`, the sequence number of its request.
"""

from __future__ import annotations

from mesosctl.model.explanations import Explanation
from mesosctl.model.jobs import JobSpec, JobView, TaskView
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages.base import Message, message


@message("submit-job")
@dataclass(frozen=True, slots=True)
class SubmitJob(Message):
    """Queue a job. `request_id` is chosen by the client: the same one again is the same job."""

    request_id: str
    job: JobSpec
    dry_run: bool = False


@message("job-accepted")
@dataclass(frozen=True, slots=True)
class JobAccepted(Message):
    """The job is on disk. `note` tells what the user should know at once (may be empty).

    `fits`: an agent that its tasks fit on is known. `explanation`: of a dry run, how they fit.
    """

    re: int
    job_id: str
    tasks: int
    note: str = ""
    fits: bool = True
    explanation: Explanation | None = None


@message("list-jobs")
@dataclass(frozen=True, slots=True)
class ListJobs(Message):
    """Jobs by selector (empty: all of the caller's that are `states`, empty: active).

    `everyone`: also other users' jobs. `ended`: also those that have ended.
    """

    selectors: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    name: str = ""
    everyone: bool = False
    ended: bool = False
    after: str = ""
    limit: int = 5000


@message("jobs")
@dataclass(frozen=True, slots=True)
class Jobs(Message):
    """Answer to ListJobs. `next` continues the list (as `after`); empty when it is whole."""

    re: int
    jobs: tuple[JobView, ...]
    next: str = ""


@message("list-tasks")
@dataclass(frozen=True, slots=True)
class ListTasks(Message):
    """Tasks by selector (empty: all of the caller's active jobs), a page at a time."""

    selectors: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    everyone: bool = False
    ended: bool = True
    after: str = ""
    limit: int = 5000


@message("tasks")
@dataclass(frozen=True, slots=True)
class Tasks(Message):
    """Answer to ListTasks."""

    re: int
    tasks: tuple[TaskView, ...]
    next: str = ""


@message("watch")
@dataclass(frozen=True, slots=True)
class Watch(Message):
    """Be told of changes of these jobs and tasks until all have ended (or the session does).

    `tasks`: also each task that changed, not only the jobs. The first Changed tells the present.
    """

    selectors: tuple[str, ...]
    tasks: bool = False


@message("changed")
@dataclass(frozen=True, slots=True)
class Changed(Message):
    """Pushed for Watch `re`. `done`: nothing selected can change any more; the watch is over.

    `exit_code`: what a command waiting for this selection would end with (largest of the ended).
    """

    re: int
    jobs: tuple[JobView, ...]
    tasks: tuple[TaskView, ...] = ()
    done: bool = False
    exit_code: int = 0


@message("kill-jobs")
@dataclass(frozen=True, slots=True)
class KillJobs(Message):
    """End what is selected. Pending tasks become cancelled, running ones are ended.

    `states` narrows the selection. `signum`: only send this signal to running ones.
    """

    selectors: tuple[str, ...]
    states: tuple[str, ...] = ()
    signum: int | None = None
    grace_s: float | None = None
    reason: str = ""


@message("kills-begun")
@dataclass(frozen=True, slots=True)
class KillsBegun(Message):
    """Answer to KillJobs: how many are being ended, were cancelled, had ended before."""

    re: int
    ending: int
    cancelled: int
    already_ended: int


@message("locate-logs")
@dataclass(frozen=True, slots=True)
class LocateLogs(Message):
    """Where are the streams of these tasks? `attempt` None: the latest one of each."""

    selectors: tuple[str, ...]
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class LogSource:
    """Where one attempt's streams are read. Empty `address`: see `problem`.

    `stdout` and `stderr` tell where each went instead of into the sandbox: a path, none, merge.
    `log_max_bytes` is the job's own limit of each stream; 0: it has none.
    """

    task: TaskView
    framework_id: str = ""
    wire_id: str = ""
    address: str = ""
    public_key: str = ""
    problem: str = ""
    stdout: str = ""
    stderr: str = ""
    log_max_bytes: int = 0


@message("log-sources")
@dataclass(frozen=True, slots=True)
class LogSources(Message):
    """Answer to LocateLogs; the caller's key is admitted there for a minute."""

    re: int
    sources: tuple[LogSource, ...]
