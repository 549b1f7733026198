"""I6, nothing is left over: when all is quiet, no part of the cluster holds what has no owner.

Rules: master, agents, executors, batch frameworks and kernels are looked into and compared. What is
on its way out is granted a moment: the world goes on for a while before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesosctl.allocation.ledger import Ledger
from mesosctl.core.agent import AgentMachine
from mesosctl.core.batch.machine import BatchMachine
from mesosctl.core.executor import ExecutorMachine
from mesosctl.core.master import MasterMachine
from mesosctl.errors import require
from mesosctl.sim.cluster import Cluster
from mesosctl.sim.hosts import Host
from mesosctl.sim.strangers import Stranger
from mesosctl.sim.volumes import require_none


def require_no_leaks(cluster: Cluster) -> None:
    """Raises InvariantBroken where something is left over."""
    _master(cluster)
    for node in cluster.batches:
        if isinstance(node.machine, BatchMachine):
            queue = node.machine.queue
            _none(node.name, "tasks under way", queue.live)
            _none(node.name, "kills", queue.killing)
            _none(node.name, "earlier attempts", queue.stale)
            _none(node.name, "questions", node.machine.updates.unanswered)
            _none(node.name, "void offers", _void(cluster, node.machine.driver.offers))
    for node in cluster.strangers:
        if isinstance(node.machine, Stranger) and not node.machine.is_over:
            _none(node.name, "void offers", _void(cluster, node.machine.offers))
    for host in cluster.hosts:
        _host(host)


def _void(cluster: Cluster, offers: Iterable[str]) -> list[str]:
    machine = cluster.master.machine
    out = machine.state.offers if isinstance(machine, MasterMachine) else {}
    return [offer_id for offer_id in offers if offer_id not in out]


def _none(who: str, what: str, held: Any) -> None:
    require(not held, f"I6: {who} still has {what}: {held}")


def _master(cluster: Cluster) -> None:
    machine = cluster.master.machine
    if not isinstance(machine, MasterMachine):
        return
    state = machine.state
    _none("master", "admissions", state.admissions)
    _none("master", "requests for volumes", state.volume_waits)
    for framework_id, framework in state.frameworks.items():
        _none("master", f"tasks of {framework_id}", framework.tasks)
        gone = framework_id in state.removed
        require(not gone, f"I6: the master keeps {framework_id}, which was removed")
        if framework.peer:
            known = state.framework_of_peer.get(framework.peer) == framework_id
            require(known, f"I6: {framework_id} is reached at {framework.peer}, which is another's")
    _none("master", "agents' tasks", [a for a in state.agents.values() if a.tasks])
    for offer_id, one in state.offers.items():
        framework = state.frameworks[one.offer.framework_id]
        waits_s = cluster.world.now.mono - one.made_at
        require(bool(framework.peer), f"I6: offer {offer_id} is of a framework that is away")
        # A tick is never late in this world, but for a pause.
        require(waits_s <= state.offer_timeout_s + 1, f"I6: offer {offer_id} waits {waits_s:g} s")
    for peer, agent_id in state.agent_of_peer.items():
        require(state.agents[agent_id].peer == peer, f"I6: {peer} is the peer of no agent")
        require(peer in state.sessions, f"I6: agent {agent_id} has no session")
    for peer, framework_id in state.framework_of_peer.items():
        owner = state.frameworks.get(framework_id)
        require(owner is not None and owner.peer == peer, f"I6: {peer} is the peer of nobody")
        require(peer in state.sessions, f"I6: framework {framework_id} has no session")
    if isinstance(state.allocator, Ledger):
        strays = [name for name in state.allocator.active if name not in state.frameworks]
        _none("the allocator", "frameworks that are gone", strays)
    now_s = cluster.world.now.mono
    gone_filters = [f for f in state.filters.listing(now_s) if f.framework not in state.frameworks]
    _none("master", "filters of frameworks that are gone", gone_filters)


def _host(host: Host) -> None:
    agent = host.agent.machine
    _none(host.name, "containers", host.containers)
    require_none(host.name, host.volumes, host.agent.disk.rows("volumes"))
    if not isinstance(agent, AgentMachine):
        return
    require(not len(agent.tasks), f"I6: {host.name} still has tasks")
    for framework_id, framework in agent.tasks.frameworks.items():
        owned = bool(framework.tasks or framework.executor_id)
        require(owned, f"I6: {host.name} keeps {framework_id} without a task or an executor")
    kept = set(host.agent.disk.rows("executors"))
    running = {name for name, node in host.executors.items() if node.machine is not None}
    _none(host.name, "executors that nobody knows", sorted(running - kept))
    _none(host.name, "records of executors that are gone", sorted(kept - running))
    for node in host.running():
        if isinstance(node.machine, ExecutorMachine):
            require(node.machine.is_idle, f"I6: {node.name} still has tasks or updates")
