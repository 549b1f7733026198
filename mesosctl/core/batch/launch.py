"""A task's command, paths and environment, made from its job when it is launched.

Rules: what the tasks of a job have in common on one agent is one and the same object, so that it
is made once and sent once (protocol/sharing.py); what differs is the task's own environment. `{}`
stands for the entry in the arguments of a job with entries, nowhere else. In the paths of the three
streams %j and %A are the job, %a the index, %t the task's place in its job from 0, %x the job's
name, %u the user, %N the agent, %% a percent sign; anything else stays as it is. A name never
brings a slash into a path. A relative path is meant from where the job was submitted.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from mesosctl.core.batch.records import Job, Task
from mesosctl.model.tasks import Command, TaskInfo

_HOLE = re.compile(r"%([jAaxutN%])")


def task_info(job: Job, task: Task, framework_id: str, master: str) -> TaskInfo:
    """What is launched for the present attempt of a task. `master` is an address for its use."""
    spec = job.spec
    command = _common(job, task, framework_id, master)
    changes: dict[str, Any] = {}
    if spec.entries:
        entry = spec.entries[task.position]
        argv = tuple([argument.replace("{}", entry) for argument in spec.argv])
        if argv != spec.argv:
            changes["argv"] = argv
    for name, path in (("stdin", spec.stdin), ("stdout", spec.stdout), ("stderr", spec.stderr)):
        if "%" in path:
            changes[name] = stream_path(path, job, task)
    if changes:
        command = replace(command, **changes)
    return TaskInfo(
        job.wire_id(task.position, task.attempt),
        spec.name,
        task.agent_id,
        job.resources,
        command,
        grace_s=spec.grace_s,
        time_limit_s=spec.time_limit_s,
        lease_s=spec.lost_after_s,
        lane=task.lane,
        whole_cores=spec.whole_cores,
        rlimits=spec.rlimits,
        private=spec.private,
        preemptible=spec.preemptible,
        priority=spec.priority if spec.preemptible else 0,
        volumes=spec.volumes,
        env=own_environment(job, task),
    )


def _common(job: Job, task: Task, framework_id: str, master: str) -> Command:
    """The command of a task as far as others of its job on its agent have the same."""
    about = (framework_id, master, task.agent_id, task.agent)
    if job.common is not None and job.common[0] == about:
        return job.common[1]
    spec = job.spec
    command = Command(
        spec.argv,
        script=spec.script,
        script_name=spec.script_name,
        env={**spec.env, **environment(job, task.agent, framework_id, master)},
        cwd=spec.cwd,
        cwd_may_fall_back=spec.cwd_may_fall_back,
        user=spec.user,
        stdin=stream_path(spec.stdin, job, task),
        stdout=stream_path(spec.stdout, job, task),
        stderr=stream_path(spec.stderr, job, task),
        append=spec.append,
        umask=spec.umask,
        log_max_bytes=spec.log_max_bytes,
    )
    job.common = (about, command)
    return command


def stream_path(path: str, job: Job, task: Task) -> str:
    """A stream's path with its placeholders filled in, absolute; keywords and "" stay."""
    if path in ("", "none", "merge"):
        return path
    values = {
        "j": job.id,
        "A": job.id,
        "a": str(job.spans.index(task.position)),
        "t": str(task.position),
        "x": job.spec.name.replace("/", "_"),
        "u": job.spec.user.replace("/", "_"),
        "N": task.agent.replace("/", "_"),
        "%": "%",
    }
    filled = _HOLE.sub(lambda match: values[match[1]], path)
    return filled if filled.startswith("/") else f"{job.spec.submit_dir.rstrip('/')}/{filled}"


def environment(job: Job, agent: str, framework_id: str, master: str) -> dict[str, str]:
    """The variables that all tasks of a job have on an agent. MESOS_MEM is in MiB, rounded down."""
    spec = job.spec
    env = {
        "MESOS_JOB_ID": job.id,
        "MESOS_JOB_NAME": spec.name,
        "MESOS_CPUS": _decimal(spec.cpus_milli),
        "MESOS_MEM": str(spec.mem_bytes >> 20),
        "MESOS_AGENT": agent,
        "MESOS_FRAMEWORK_ID": framework_id,
        "MESOS_ROLE": spec.role,
    }
    if spec.submit_dir:
        env["MESOS_SUBMIT_DIR"] = spec.submit_dir
    if master:
        env["MESOS_MASTER"] = master
    if spec.is_array or spec.entries:
        env["MESOS_ARRAY_COUNT"] = str(job.count)
        env["MESOS_ARRAY_MIN"] = str(job.spans.first)
        env["MESOS_ARRAY_MAX"] = str(job.spans.last)
    return env


def own_environment(job: Job, task: Task) -> dict[str, str]:
    """The variables that a task alone has: which of its job it is."""
    index = str(job.spans.index(task.position))
    env = {"MESOS_TASK_ID": f"{job.id}.{index}", "MESOS_ATTEMPT": str(task.attempt)}
    if job.spec.is_array or job.spec.entries:
        env["MESOS_ARRAY_INDEX"] = index
    if job.spec.entries:
        env["MESOS_ENTRY"] = job.spec.entries[task.position]
    return env


def _decimal(milli: int) -> str:
    whole, rest = divmod(milli, 1000)
    return f"{whole}.{rest:03}".rstrip("0").rstrip(".")
