"""The master's machine: who may say what, and the order of a pass.

Rules:
- A message is handled only through DISPATCH, and only if its sender is what the table asks for: the
  key behind the connection decides, never a field of the message.
- Handlers only mark that an allocation is wanted; settle() allocates once for all of them.
- The epoch is written before anything is sent under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mesosctl.allocation.base import Allocator
from mesosctl.core.machine import (
    Effect,
    Event,
    NewId,
    Now,
    PeerLost,
    Put,
    Received,
    Signalled,
    Started,
    Stop,
    Tick,
)
from mesosctl.core.master import (
    agents,
    draining,
    fitting,
    frameworks,
    launching,
    maintenance,
    offering,
    preemption,
    queries,
    quotas,
    reserving,
    roles,
    unreachable,
    volume_steps,
    volumes,
)
from mesosctl.core.master import registry as registries
from mesosctl.core.master.state import MasterState, RoleSettings
from mesosctl.core.session import ServerSessions
from mesosctl.limits import AGENT_TIMEOUT_S, ALLOCATION_INTERVAL_S, OFFER_TIMEOUT_S
from mesosctl.model.cluster import Principal
from mesosctl.model.records import dataclass
from mesosctl.protocol.messages import agent as agent_messages
from mesosctl.protocol.messages import explain, query
from mesosctl.protocol.messages import framework as framework_messages
from mesosctl.protocol.messages import maintenance as maintenance_messages
from mesosctl.protocol.messages import roles as role_messages
from mesosctl.protocol.messages import volumes as volume_messages
from mesosctl.protocol.messages.base import Message
from mesosctl.protocol.messages.session import Bye, Refusal

SIGHUP = 1
CHILD_STOP_S = 2.0

Handler = Callable[[MasterState, str, Any, Now], list[Effect]]

# Message -> what its sender has to be, and who handles it. `agent` and `framework` mean a session
# that was opened as such; `may-…` mean a key that may become one; `any` is every admitted key.
DISPATCH: dict[type[Message], tuple[str, Handler]] = {
    agent_messages.RegisterAgent: ("may-agent", agents.on_register),
    agent_messages.StatusUpdates: ("agent", agents.on_updates),
    agent_messages.KeyAdmitted: ("agent", agents.on_key_admitted),
    volume_messages.VolumesDone: ("agent", volume_steps.on_done),
    framework_messages.Subscribe: ("any", frameworks.on_subscribe),
    framework_messages.Accept: ("framework", launching.on_accept),
    framework_messages.Decline: ("framework", launching.on_decline),
    framework_messages.Revive: ("framework", frameworks.on_revive),
    framework_messages.Suppress: ("framework", frameworks.on_suppress),
    framework_messages.StateWaiting: ("framework", preemption.on_state_waiting),
    framework_messages.Reconcile: ("framework", frameworks.on_reconcile),
    framework_messages.Teardown: ("framework", frameworks.on_teardown),
    framework_messages.Admit: ("framework", frameworks.on_admit),
    agent_messages.KillTasks: ("framework", frameworks.on_kill),
    agent_messages.Acknowledge: ("framework", frameworks.on_acknowledge),
    query.WhoIs: ("framework", queries.on_who_is),
    explain.HowFits: ("framework", fitting.on_how_fits),
    query.ListAgents: ("any", queries.on_list_agents),
    query.ListFrameworks: ("any", queries.on_list_frameworks),
    query.ListOffers: ("any", queries.on_list_offers),
    query.ListRoles: ("any", roles.on_list_roles),
    query.FindFramework: ("any", queries.on_find_framework),
    query.TeardownFramework: ("any", queries.on_teardown_framework),
    query.DescribeMaster: ("any", queries.on_describe),
    maintenance_messages.AnswerInverseOffers: ("framework", draining.on_answer),
    maintenance_messages.DrainAgents: ("operator", maintenance.on_drain),
    maintenance_messages.DeactivateAgents: ("operator", maintenance.on_deactivate),
    maintenance_messages.UndrainAgents: ("operator", maintenance.on_undrain),
    maintenance_messages.DeclareGone: ("operator", maintenance.on_gone),
    maintenance_messages.Reserve: ("operator", reserving.on_reserve),
    maintenance_messages.Unreserve: ("operator", reserving.on_unreserve),
    volume_messages.CreateVolume: ("operator", volumes.on_create),
    volume_messages.DestroyVolume: ("operator", volumes.on_destroy),
    volume_messages.ListVolumes: ("any", volumes.on_list),
    role_messages.SetRoles: ("operator", roles.on_set_roles),
    role_messages.SetQuotas: ("operator", quotas.on_set_quotas),
}


@dataclass(frozen=True, slots=True)
class KeysChanged(Event):
    """The list of keys was read again; `principals` maps a public key to who it is."""

    principals: Mapping[str, Principal]


class MasterMachine:
    """Soft state of the cluster behind handle(); see core/master/state.py."""

    def __init__(
        self,
        *,
        cluster: str,
        epoch: int,
        cluster_name: str,
        version: str,
        allocator: Allocator,
        allocator_name: str,
        new_id: NewId,
        principals: Mapping[str, Principal],
        role_options: Mapping[str, RoleSettings],
        tables: Mapping[str, registries.Rows],
        offer_timeout_s: float = OFFER_TIMEOUT_S,
        agent_timeout_s: float = AGENT_TIMEOUT_S,
        allocation_interval_s: float = ALLOCATION_INTERVAL_S,
        child: str = "",
        preemption: bool = False,
    ) -> None:
        # The name of the framework that this master started and takes along when it stops.
        self._child = child
        self.state = MasterState(
            sessions=ServerSessions(cluster, epoch),
            allocator=allocator,
            new_id=new_id,
            cluster_name=cluster_name,
            version=version,
            allocator_name=allocator_name,
            principals=principals,
            roles=role_options,
            role_entries=registries.load_roles(tables.get(registries.ROLES, {})),
            registry=registries.load(tables.get(registries.AGENTS, {})),
            offer_timeout_s=offer_timeout_s,
            agent_timeout_s=agent_timeout_s,
            allocation_interval_s=allocation_interval_s,
        )
        self.state.clearings.is_on = preemption
        roles.show_all(self.state)
        self._round_at = 0.0
        # When we stop although the child has not said goodbye.
        self._stop_at: float | None = None

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Take one event."""
        match event:
            case Received():
                return self._received(event, now)
            case PeerLost(peer=peer):
                self.state.sessions.drop(peer)
                return self._session_over(peer, now, now.mono)
            case Tick():
                return self._tick(now)
            case Started():
                sessions = self.state.sessions
                value = {"cluster": sessions.cluster, "epoch": sessions.epoch}
                self._round_at = now.mono + self.state.allocation_interval_s
                unreachable.expect_all(self.state, now)
                quotas.begin_wait(self.state, now)
                draining.recover(self.state, now)
                return [Put("meta", "cluster", value)]
            case KeysChanged(principals=principals):
                self.state.principals = principals
                return []
            case Signalled(signum=signum) if signum != SIGHUP:
                return self._stop(now)
            case _:
                return []

    def _stop(self, now: Now) -> list[Effect]:
        """Stop, together with the child: by a message, for it has a session of its own.

        We stay until it has said goodbye, for a connection that ends takes the last message that
        went along it with it. Whoever asks twice does not want to wait.
        """
        farewell = queries.stop_framework(self.state, self._child) if self._child else []
        if not farewell or self._stop_at is not None:
            return [*farewell, Stop(0, "asked to stop")]
        self._stop_at = now.mono + CHILD_STOP_S
        return farewell

    def _stop_if_alone(self, now: Now) -> list[Effect]:
        if self._stop_at is None:
            return []
        here = (f.info.name == self._child and f.peer for f in self.state.frameworks.values())
        if now.mono < self._stop_at and any(here):
            return []
        return [Stop(0, "asked to stop")]

    def _received(self, event: Received, now: Now) -> list[Effect]:
        state = self.state
        message, effects = state.sessions.receive(event, now)
        if event.peer not in state.sessions:
            effects += self._session_over(event.peer, now, now.mono)
        agent_id = state.agent_of_peer.get(event.peer)
        if agent_id is not None and event.envelope.epoch == state.sessions.epoch:
            state.agents[agent_id].is_present = True
        if message is None or isinstance(message, Bye):
            return effects
        entry = DISPATCH.get(type(message))
        problem = self._may_not(event.peer, entry)
        if entry is None or problem:
            re = state.sessions.answered(event.peer)
            code = "not-permitted" if entry else "unknown-kind"
            text = problem or f"the master takes no {message.kind}"
            return [*effects, *state.send(event.peer, Refusal(re, code, text))]
        return effects + entry[1](state, event.peer, message, now)

    def _may_not(self, peer: str, entry: tuple[str, Handler] | None) -> str:
        """Why this peer may not send this; empty when it may."""
        if entry is None:
            return ""
        principal = self.state.principal(peer)
        if principal is None:
            return "this key is not on the list"
        match entry[0]:
            case "agent" if peer not in self.state.agent_of_peer:
                return "this session is not an agent's"
            case "framework" if peer not in self.state.framework_of_peer:
                return "this session is not a framework's"
            case "operator" if "operator" not in principal.kinds:
                return f"key {principal.name} is not an operator's"
            case "may-agent" if not principal.may_be("agent"):
                return f"key {principal.name} may not act as an agent"
            case _:
                return ""

    def _session_over(self, peer: str, now: Now, heard: float) -> list[Effect]:
        agent_id = self.state.agent_of_peer.get(peer)
        if agent_id is not None:
            return agents.on_agent_away(self.state, agent_id, heard, now)
        framework_id = self.state.framework_of_peer.get(peer)
        if framework_id is not None:
            away = frameworks.on_framework_away(self.state, framework_id, now)
            return [*away, *self._stop_if_alone(now)]
        return []

    def _tick(self, now: Now) -> list[Effect]:
        state = self.state
        effects: list[Effect] = []
        for peer, heard in state.sessions.expire(now):
            effects += self._session_over(peer, now, heard)
        effects += offering.time_out(state, now)
        effects += unreachable.tell_unreachable(state, now)
        effects += frameworks.expire_frameworks(state, now)
        effects += draining.expire(state, now)
        state.gatherings.prepare(state, now)
        if now.mono >= self._round_at:
            # Filters that ran out make room without any message having come.
            self._round_at = now.mono + state.allocation_interval_s
            offering.expire_filters(state, now)
        return [*effects, *self._stop_if_alone(now)]

    def settle(self, now: Now) -> list[Effect]:
        """Allocate once for everything that this pass changed."""
        state = self.state
        quotas.end_wait(state, now)
        effects = offering.make_offers(state, now) if state.allocation_wanted else []
        if state.clearings.is_on:
            effects += preemption.look(state, now)
        if state.allocation_wanted:
            # A gathering ended with that, and others are to have what it held back.
            effects += offering.make_offers(state, now)
        return effects

    def deadline(self) -> float | None:
        """The earliest of all timers."""
        state = self.state
        candidates = [
            state.sessions.deadline(),
            offering.deadline(state),
            unreachable.deadline(state),
            frameworks.deadline(state),
            draining.deadline(state),
            state.limits_wait_until,
            state.gatherings.deadline(),
            state.clearings.deadline(),
            self._stop_at,
        ]
        filters = state.filters.deadline()
        if filters is not None:
            candidates.append(max(filters, self._round_at))
        return min((at for at in candidates if at is not None), default=None)

    def check(self) -> None:
        """Recount every redundant structure."""
        self.state.check()


__all__ = ["DISPATCH", "KeysChanged", "MasterMachine", "RoleSettings"]
