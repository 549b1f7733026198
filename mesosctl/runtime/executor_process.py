"""The executor as a process: it wires the machine, the loop, the spawner and the isolation.

    python -m mesosctl.runtime.executor_process --socket PATH --executor-id X --agent-id Y
        --isolation SPEC --cgroup-root NAME [--state-dir DIR] [--work-dir DIR]

Started by the agent in a session of its own, it outlives the agent. Rules: it never enters a task's
container and never changes its ids; it is the parent of every orphan below it. Most modules are
imported late, because the spawner starts up meanwhile and the agent may be waiting for both.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mesosctl.errors import MesosctlError
from mesosctl.runtime.spawner_children import become_subreaper
from mesosctl.runtime.spawner_link import SpawnerLink

_LINK = "agent"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until there is nothing left to do; the exit code."""
    options = _parse(arguments)
    if options.work_dir:
        os.chdir(options.work_dir)
    try:
        become_subreaper()
        deaths_fd = _watch_deaths()
        spawner = SpawnerLink()
        spawner.start()
        return _run(options, spawner, deaths_fd)
    except (OSError, MesosctlError) as error:
        print(f"executor {options.executor_id}: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mesosctl-executor", description="Started by an agent.")
    parser.add_argument("--socket", required=True, help="path of the agent's ipc socket")
    parser.add_argument("--executor-id", required=True)
    parser.add_argument("--agent-id", required=True)
    parser.add_argument("--isolation", default="auto", help="as the agent resolved it")
    parser.add_argument("--cgroup-root", default="mesosctl")
    parser.add_argument("--state-dir", default="", help="what isolators of one agent share")
    parser.add_argument("--work-dir", default="", help="directory to be in")
    parser.add_argument("--idle-s", type=float, default=None, help="end after so long without work")
    parser.add_argument("--log-level", default="info")
    return parser.parse_args(arguments)


def _watch_deaths() -> int:
    """A descriptor readable when a child dies; must exist before the first thread and child."""
    import signal

    from mesosctl.runtime import rawcalls

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    return rawcalls.signalfd(signal.SIGCHLD)


def _run(options: argparse.Namespace, spawner: SpawnerLink, deaths_fd: int) -> int:
    """Import the rest, put the parts together and run the loop."""
    from mesosctl.core.executor import ExecutorMachine
    from mesosctl.limits import EXECUTOR_IDLE_S
    from mesosctl.model.ids import AgentId, ExecutorId
    from mesosctl.plugins.isolators import open_isolation
    from mesosctl.runtime import collector
    from mesosctl.runtime.executor_deeds import Deeds
    from mesosctl.runtime.executor_leases import LeaseDeeds
    from mesosctl.runtime.executor_orders import Orders
    from mesosctl.runtime.ids import new_id
    from mesosctl.runtime.links import LinkSpec
    from mesosctl.runtime.logs import Logger
    from mesosctl.runtime.loop import Loop

    isolation = open_isolation(
        options.isolation,
        root=options.cgroup_root,
        agent_id=options.agent_id,
        state_dir=options.state_dir,
    )
    isolation.spare(spawner.pid)
    machine = ExecutorMachine(
        ExecutorId(options.executor_id),
        AgentId(options.agent_id),
        os.getpid(),
        new_id,
        link=_LINK,
        idle_s=EXECUTOR_IDLE_S if options.idle_s is None else options.idle_s,
        sample_interval_s=isolation.sample_interval_s,
    )
    loop = Loop(machine, log=Logger(f"executor {options.executor_id}", options.log_level))
    loop.link(_LINK, LinkSpec(f"ipc://{options.socket.removeprefix('ipc://')}"))
    Deeds(loop, isolation, spawner, Orders(options.agent_id)).attach(deaths_fd)
    guard = ("--isolation", options.isolation, "--cgroup-root", options.cgroup_root)
    LeaseDeeds(loop, (*guard, "--agent-id", options.agent_id)).attach()
    exit_code = collector.run_calmly(loop)
    if machine.framework_id:
        # Every framework leaves at last: without this its directories would stay for good.
        isolation.retire(machine.framework_id)
    isolation.close_root(False)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
