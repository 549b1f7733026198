"""Tasks at the master: updates passed on, ends forgotten when acknowledged, absences survived."""

from __future__ import annotations

from typing import Any

import pytest

from mesosctl.core.driver import (
    AgentMoved,
    OffersArrived,
    Registered,
    StatusArrived,
    SubscriptionFailed,
)
from mesosctl.core.machine import Received, Send
from mesosctl.model.cluster import FrameworkInfo, Principal
from mesosctl.model.ids import FrameworkId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import TaskState
from mesosctl.protocol.envelope import Envelope
from mesosctl.protocol.messages.agent import (
    Acknowledge,
    KillTasks,
    LaunchTasks,
    RegisterAgent,
    ShutdownFramework,
    StatusUpdates,
    TaskKill,
)
from mesosctl.protocol.messages.framework import FrameworkError, Subscribe, Subscribed
from mesosctl.protocol.messages.query import (
    Agents,
    ListAgents,
    ListFrameworks,
    ListOffers,
    ListRoles,
    TeardownFramework,
)
from mesosctl.protocol.messages.session import Reset


def launch(cluster: Any, agent: Any, scheduler: Any, *names: str) -> None:
    """Use the one outstanding offer for tasks of one CPU each."""
    [event] = scheduler.took(OffersArrived)
    tasks = [cluster.task(agent, name, "cpus:1;mem:64") for name in names]
    scheduler.do(scheduler.driver.accept([event.offers[0].offer_id], tasks))
    agent.took(LaunchTasks)


def acknowledge_all(scheduler: Any) -> list[tuple[str, TaskState]]:
    """Acknowledge everything told so far; what it was."""
    updates = [update for event in scheduler.took(StatusArrived) for update in event.updates]
    scheduler.do(scheduler.driver.acknowledge(updates))
    return [(update.task_id, update.state) for update in updates]


def test_a_task_is_forgotten_when_its_end_is_acknowledged(cluster: Any) -> None:
    """Until then the master remembers it; afterwards nobody holds anything for it."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    agent.update(one.driver.framework_id, "t1", TaskState.RUNNING)
    agent.update(one.driver.framework_id, "t1", TaskState.FAILED, exit_code=3)
    record = cluster.master.state.agents[agent.info.agent_id]
    assert len(record.tasks) == 1
    assert acknowledge_all(one) == [("t1", TaskState.RUNNING), ("t1", TaskState.FAILED)]
    assert record.tasks == {}
    assert sum(len(message.acks) for message in agent.took(Acknowledge)) == 2


def test_resources_are_free_before_the_end_is_acknowledged(cluster: Any) -> None:
    """A slow framework must not keep the cluster idle."""
    agent = cluster.agent("a1", Resources.parse("cpus:4;mem:256"))
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2", "t3", "t4")
    two = cluster.framework("two")
    assert two.took(OffersArrived) == []
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED)
    [event] = two.took(OffersArrived)
    assert str(event.offers[0].resources).startswith("cpus:1")


def test_an_unacknowledged_end_is_told_to_the_framework_that_comes_back(cluster: Any) -> None:
    """It is told with its exit code, at once, not when the agent tries again."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    cluster.cut(one)
    agent.update(one.driver.framework_id, "t1", TaskState.FAILED, exit_code=7)
    one.told.clear()
    cluster.connect(one)
    [event] = one.took(StatusArrived)
    assert event.updates[0].exit_code == 7


def test_a_framework_comes_back_under_its_id_and_keeps_its_tasks(cluster: Any) -> None:
    """Within the failover timeout nothing is touched."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    name = one.driver.framework_id
    cluster.cut(one)
    cluster.advance(99)
    assert agent.took(ShutdownFramework) == []
    cluster.connect(one)
    assert one.driver.framework_id == name
    assert one.took(Registered)[-1] == Registered(name, False)


def test_a_framework_that_stays_away_is_removed_with_its_tasks(cluster: Any) -> None:
    """After the failover timeout its tasks are ended and its id is spent."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    name = one.driver.framework_id
    cluster.cut(one)
    cluster.advance(101)
    assert agent.took(ShutdownFramework) == [ShutdownFramework(name)]
    agent.update(name, "t1", TaskState.KILLED)
    assert agent.took(Acknowledge)
    assert cluster.master.state.frameworks == {}
    cluster.connect(one)
    [failed] = one.took(SubscriptionFailed)
    assert failed.code == "removed"


def test_teardown_and_a_zero_failover_timeout_end_tasks_at_once(cluster: Any) -> None:
    """A `run` that is killed takes its task with it."""
    agent = cluster.agent("a1")
    brief = cluster.framework("brief", failover_timeout_s=0.0)
    launch(cluster, agent, brief, "t1")
    name = brief.driver.framework_id
    cluster.cut(brief)
    assert agent.took(ShutdownFramework) == [ShutdownFramework(name)]


def test_a_second_process_with_the_same_id_takes_over(cluster: Any) -> None:
    """Two incarnations of one scheduler never act at the same time."""
    cluster.agent("a1")
    old = cluster.framework("one")
    new = cluster.framework("one")
    from dataclasses import replace

    new.driver.info = replace(new.driver.info, framework_id=old.driver.framework_id)
    cluster.cut(new)
    cluster.connect(new)
    [failed] = old.took(SubscriptionFailed)
    assert failed.code == "failed-over"


def test_a_restarted_master_learns_everything_from_the_others(cluster: Any) -> None:
    """Its soft state is what agents and frameworks tell; nothing that ran is touched."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2")
    agent.update(one.driver.framework_id, "t1", TaskState.RUNNING)
    cluster.new_master(2)
    one.session.lose(cluster.now)
    agent.session.lose(cluster.now)
    cluster.connect(agent)
    assert cluster.master.state.frameworks[one.driver.framework_id].state == "recovered"
    cluster.connect(one)
    refs = [(TaskId("t1"), agent.info.agent_id), (TaskId("t9"), agent.info.agent_id)]
    one.told.clear()
    one.do(one.driver.reconcile(refs))
    assert one.states() == [("t1", TaskState.RUNNING), ("t9", TaskState.DROPPED)]
    assert agent.took(ShutdownFramework) == []


def test_nothing_is_said_of_tasks_whose_agent_is_not_back_yet(cluster: Any) -> None:
    """ "Not known yet" must never be taken for "lost"."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    cluster.new_master(2)
    one.session.lose(cluster.now)
    agent.session.lose(cluster.now)
    cluster.connect(one)
    one.told.clear()
    one.do(one.driver.reconcile([(TaskId("t1"), agent.info.agent_id)]))
    assert one.states() == []
    one.do(one.driver.reconcile([(TaskId("t1"), "Anever")]))
    assert one.states() == [("t1", TaskState.UNKNOWN)]


def test_an_agent_that_comes_back_without_a_task_proves_that_it_is_not_there(cluster: Any) -> None:
    """A launch that was lost on the way is dropped; one that had run is gone."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2")
    agent.update(one.driver.framework_id, "t2", TaskState.RUNNING)
    one.told.clear()
    cluster.cut(agent)
    agent.tasks.clear()
    cluster.connect(agent)
    assert sorted(one.states()) == [("t1", TaskState.DROPPED), ("t2", TaskState.GONE)]
    [event] = one.took(OffersArrived)
    assert str(event.offers[0].resources) == "cpus:4;mem:4096"


def test_an_absent_agent_is_unreachable_and_keeps_its_tasks(cluster: Any) -> None:
    """Unreachable is not lost: its resources stay in use, and its return is told."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    one.told.clear()
    cluster.cut(agent)
    cluster.advance(20)
    assert [event.state for event in one.took(AgentMoved)] == ["unreachable"]
    one.do(one.driver.reconcile([(TaskId("t1"), agent.info.agent_id)]))
    assert one.states() == [("t1", TaskState.UNREACHABLE)]
    cluster.connect(agent)
    assert [event.state for event in one.took(AgentMoved)] == ["registered"]


def test_a_silent_agent_is_noticed_without_any_hint_of_its_connection(cluster: Any) -> None:
    """A half-open connection tells nothing: only the missing heartbeats do."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    name = cluster.name_of.pop(id(agent))
    del cluster.peers[name]
    cluster.advance(40)
    assert [event.state for event in one.took(AgentMoved)] == ["unreachable"]


def test_kills_reach_the_agent_and_unknown_tasks_are_answered(cluster: Any) -> None:
    """A kill that can do nothing says what is known instead."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    kills = [TaskKill(TaskId("t1")), TaskKill(TaskId("t9"), agent.info.agent_id)]
    one.do(one.driver.kill(kills))
    [message] = agent.took(KillTasks)
    assert [kill.task_id for kill in message.kills] == ["t1"]
    assert one.states() == [("t9", TaskState.DROPPED)]


@pytest.mark.parametrize("life", [1, 2])
def test_an_introduction_that_was_overtaken_changes_nothing(cluster: Any, life: int) -> None:
    """Connections are read in turns: a list of tasks may come after the one that followed it."""
    agent = cluster.agent("a1")
    late = agent.hello()
    cluster.cut(agent)
    agent.life = life
    cluster.connect(agent)
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1")
    agent.update(one.driver.framework_id, "t1", TaskState.RUNNING)
    before = one.states()
    [answer] = _answer(cluster, "op", late)
    assert answer == Reset("replaced")
    assert one.states() == [] and before
    agent.update(one.driver.framework_id, "t1", TaskState.FINISHED)
    assert one.states() == [("t1", TaskState.FINISHED)]


def test_an_agent_speaks_only_for_itself(cluster: Any) -> None:
    """A stolen agent key must not end another agent's tasks."""
    agent, thief = cluster.agent("a1"), cluster.agent("a2", key="agent-key")
    one = cluster.framework("one")
    events = one.took(OffersArrived)
    mine = [o for e in events for o in e.offers if o.agent_id == agent.info.agent_id]
    one.do(one.driver.accept([mine[0].offer_id], [cluster.task(agent, "t1", "cpus:1")]))
    from mesosctl.model.tasks import StatusUpdate

    lie = StatusUpdate(
        one.driver.framework_id, TaskId("t1"), agent.info.agent_id, TaskState.FINISHED, uuid="x"
    )
    cluster.act(thief, thief.session.send(StatusUpdates((lie,))))
    assert one.states() == []
    record = cluster.master.state.agents[agent.info.agent_id]
    assert [task.state for task in record.tasks.values()] == [TaskState.STAGING]


def test_an_agent_id_belongs_to_the_key_it_was_admitted_with(cluster: Any) -> None:
    """Nobody takes another agent's identity, not even after it left."""
    agent = cluster.agent("a1")
    cluster.cut(agent)
    cluster.connect(agent, key="agent-key")
    assert cluster.master.state.agents[agent.info.agent_id].peer == ""


def _answer(cluster: Any, key: str, message: Any) -> Any:
    """What a peer that only sends this one message is answered."""
    effects = cluster.master.handle(
        Received("stranger", key, Envelope("", 0, "s", 1, message)), cluster.now
    )
    return [effect.envelope.message for effect in effects if isinstance(effect, Send)]


def test_messages_are_taken_only_from_those_who_may_send_them(cluster: Any) -> None:
    """The table of kinds decides, and the key behind the connection; no field does."""
    agent = cluster.agent("a1")
    refused = [
        ("user-key", RegisterAgent(agent.info)),
        ("op", StatusUpdates(())),
        ("op", KillTasks(FrameworkId("F"), ())),
        ("op", Acknowledge(())),
        ("nobody", ListAgents()),
        ("op", LaunchTasks(FrameworkInfo(FrameworkId("F"), "x", "me"), ())),
        ("op", ShutdownFramework(FrameworkId("F"))),
    ]
    for key, message in refused:
        [answer] = _answer(cluster, key, message)
        assert answer.kind == "refusal", message
        cluster.master.state.sessions.drop("stranger")
    [answer] = _answer(cluster, "user-key", ListAgents())
    assert isinstance(answer, Agents)


def test_a_framework_gets_only_the_users_and_roles_of_its_key(cluster: Any) -> None:
    """Authority comes from the list, default deny."""
    cases = [
        ("user-key", {"user": "root", "role": "web"}),
        ("user-key", {"user": "me", "role": "db"}),
        ("agent-key", {"user": "me", "role": "web"}),
    ]
    for key, fields in cases:
        scheduler = cluster.framework("x", key=key, **fields)
        [failed] = scheduler.took(SubscriptionFailed)
        assert failed.code == "not-permitted"
    assert cluster.framework("x", key="user-key", user="me", role="web").took(Registered)


def test_one_session_is_one_framework(cluster: Any) -> None:
    """Offers and updates go to a connection: two frameworks on one could not be told apart."""
    first = cluster.framework("one")
    second = cluster.framework("two")
    before = second.driver.framework_id
    second.do(second.driver.ask(Subscribe(first.driver.info)))
    [failed] = second.took(SubscriptionFailed)
    assert failed.code == "invalid" and before in failed.message
    assert cluster.master.state.frameworks[first.driver.framework_id].peer


def test_a_restarted_master_gives_an_id_to_nobody_but_its_owner(cluster: Any) -> None:
    """Before its framework is back nobody but the id itself can tell whose the tasks are."""
    cluster.keys["thief"] = Principal("thief", "thief", ("framework",), ("me",))
    cluster.keys["later"] = Principal("me", "later", ("framework",), ("me",), ("web",))
    owner = cluster.framework("one", key="user-key", role="web")
    info = owner.driver.info
    assert info.framework_id
    cluster.new_master(2)
    [problem] = _answer(cluster, "thief", Subscribe(info))
    assert isinstance(problem, FrameworkError)
    assert problem.code == "not-permitted" and "belongs to another key" in problem.message
    assert not cluster.master.state.frameworks
    # Somebody's next key is still somebody's.
    cluster.master.state.sessions.drop("stranger")
    [answer, *_] = _answer(cluster, "later", Subscribe(info))
    assert isinstance(answer, Subscribed) and answer.framework_id == info.framework_id


def test_only_its_owner_or_an_operator_tears_a_framework_down(cluster: Any) -> None:
    """Ending other people's work is not everybody's right."""
    one = cluster.framework("one")
    name = one.driver.framework_id
    [answer] = _answer(cluster, "user-key", TeardownFramework(name))
    assert answer.code == "not-permitted"
    cluster.master.state.sessions.drop("stranger")
    [*_, answer] = _answer(cluster, "op", TeardownFramework(name))
    assert answer.kind == "done"
    assert name in cluster.master.state.removed


def test_listings_tell_what_is_held(cluster: Any) -> None:
    """Used and offered add up to what agents, frameworks and roles are shown with."""
    agent = cluster.agent("a1")
    one = cluster.framework("one")
    launch(cluster, agent, one, "t1", "t2")
    cluster.framework("two")
    views = {}
    for message in (ListAgents(), ListFrameworks(), ListOffers(), ListRoles()):
        [views[message.kind]] = _answer(cluster, "op", message)
        cluster.master.state.sessions.drop("stranger")
    [view] = views["list-agents"].agents
    assert (str(view.used), view.tasks, view.state) == ("cpus:2;mem:128", 2, "registered")
    frameworks = {view.framework.name: view for view in views["list-frameworks"].frameworks}
    assert frameworks["one"].share_milli == 500
    assert frameworks["two"].share_milli > 500
    assert [view.framework_name for view in views["list-offers"].offers] == ["two"]
    [role] = views["list-roles"].roles
    assert (role.role, role.frameworks, role.share_milli) == ("*", 2, 1000)


def _signal(cluster: Any) -> list[Any]:
    from mesosctl.core.machine import Signalled

    return cluster.master.handle(Signalled(15), cluster.now)


def test_a_master_stops_after_its_child_has_said_goodbye(cluster: Any) -> None:
    """The last word to a child goes down with the connection, so somebody has to wait for it."""
    from mesosctl.core.driver import StopAsked
    from mesosctl.core.machine import Stop

    child = cluster.framework("batch")
    cluster.master._child = "batch"
    effects = _signal(cluster)
    assert not any(isinstance(effect, Stop) for effect in effects)
    cluster._done(effects)
    assert child.took(StopAsked)
    bye = [e for e in child.driver.end() if isinstance(e, Send)]
    name = cluster.name_of[id(child)]
    answers = cluster.master.handle(Received(name, "op", bye[0].envelope), cluster.now)
    assert [e.exit_code for e in answers if isinstance(e, Stop)] == [0]


def test_a_master_does_not_wait_for_ever_for_its_child(cluster: Any) -> None:
    """A child that hangs, or an operator who asks twice, ends the wait."""
    from mesosctl.core.machine import Stop, Tick

    cluster.framework("batch")
    cluster.master._child = "batch"
    _signal(cluster)
    assert any(isinstance(effect, Stop) for effect in _signal(cluster))
    cluster.time_s += 60
    assert any(isinstance(e, Stop) for e in cluster.master.handle(Tick(), cluster.now))


def test_a_master_without_a_child_stops_at_once(cluster: Any) -> None:
    """Nothing is there to wait for."""
    from mesosctl.core.machine import Stop

    cluster.framework("other")
    assert [type(effect) for effect in _signal(cluster)] == [Stop]


def test_a_framework_may_ask_for_everything_that_the_master_knows(cluster: Any) -> None:
    """What it has forgotten it cannot name."""
    agent = cluster.agent("a1")
    one, two = cluster.framework("one"), cluster.framework("two")
    launch(cluster, agent, one, "t1", "t2")
    agent.update(one.driver.framework_id, "t1", TaskState.RUNNING)
    one.told.clear()
    one.do(one.driver.reconcile_all())
    assert sorted(one.states()) == [("t1", TaskState.RUNNING), ("t2", TaskState.STAGING)]
    two.do(two.driver.reconcile_all())
    assert two.states() == []
