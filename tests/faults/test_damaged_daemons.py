"""Damaged state directories of real daemons: one line and an exit code, or nothing missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mesosctl.core.agent.records import FORM, TABLES
from mesosctl.errors import Refused
from mesosctl.runtime import framework_process, master_process
from mesosctl.storage.store import SqliteStore
from tests.faults.conftest import FaultEnv
from tests.integration.conftest import Part, until
from tests.storage.damage import FILES, MAIN, State, Tables, copy, spoil

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
SEED = 7
EACH = 7
REFUSED = 5
ROLES = {
    "master": (master_process.STATE_VERSION, ("meta", "agents")),
    "framework": (framework_process.STATE_VERSION, ("jobs", "cancels", "tasks", "meta")),
    "agent": (FORM, TABLES),
}
UP = {
    "master": "listens on",
    "framework": "commands are served",
    "agent": "connecting to",
}


def held(directory: Path, role: str) -> Tables | None:
    """What the store itself makes of a directory; None for a refusal."""
    version, tables = ROLES[role]
    try:
        store = SqliteStore.open(directory, role, version)
    except Refused:
        return None
    found = {table: store.load(table) for table in tables}
    store.close()
    return found


def put_in(state: Path, directory: Path) -> None:
    """Have a daemon find these files, and nothing else that is a state."""
    for name in (*FILES, f"{MAIN}-shm"):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    for path in state.iterdir():
        if path.is_dir() and not path.is_symlink():
            (directory / path.name).mkdir()
        else:
            shutil.copyfile(path, directory / path.name, follow_symlinks=False)


def meet(env: FaultEnv, part: Part, role: str, directory: Path, state: State, number: int) -> int:
    """Start `part` with one damage; 1 if it refused it."""
    spoiled = env.base / "spoiled"
    case = spoil(state, spoiled, SEED, number)
    put_in(spoiled, directory)
    trial = env.base / "trial"
    trial.mkdir(mode=0o700)
    put_in(spoiled, trial)
    found = held(trial, role)
    shutil.rmtree(trial)
    shutil.rmtree(spoiled)
    assert found is None or found == state.acknowledged, case
    before = len(part.text())
    part.restart()
    if found is None:
        code = part.process.wait(30)
        lines = part.text()[before:].strip().splitlines()
        assert code == REFUSED and len(lines) == 1, (case, code, lines)
        assert str(directory / "state.") in lines[0] and ";" in lines[0], (case, lines)
        return 1
    until(lambda: UP[role] in part.text()[before:], f"{role} is up with {case}")
    part.stop()
    return 0


def test_daemons_refuse_damage_or_go_on_whole(env: FaultEnv, tmp_path: Path) -> None:
    """Each daemon, found by an operator after a bad night: no traceback, no half of a queue."""
    master = env.master("--no-framework")
    framework = env.framework()
    agent = env.agent()
    env.wait_for_framework()
    for number in range(3):
        env.ok("submit", "-W", "-c", "0.1", "-m", "16M", "--", "true", str(number))
    parts = {
        "framework": (framework, env.base / "framework"),
        "agent": (agent, env.base / agent.name / "state"),
        "master": (master, env.base / "master"),
    }
    # Each alone: a master that goes back in time would be refused by those who saw its future.
    for part, _ in parts.values():
        part.kill_nine()
    print(f"seed {SEED}")
    refused = 0
    for role, (part, directory) in parts.items():
        whole = copy(directory, tmp_path / role)
        tables = held(copy(whole, tmp_path / f"{role}-look"), role)
        assert tables is not None
        earlier = tmp_path / f"{role}-earlier"
        SqliteStore.open(earlier, role, ROLES[role][0]).close()
        (earlier / f"{MAIN}-wal").touch()
        state = State(whole, tables, earlier)
        for number in range(EACH):
            refused += meet(env, part, role, directory, state, number)
        put_in(whole, directory)
    assert EACH <= refused < EACH * len(parts)
    for role in ("master", "framework", "agent"):
        parts[role][0].restart()
    env.wait_for_agents(1)
    env.wait_for_framework()
    assert [job["state"] for job in env.json("jobs", "--all")["jobs"]] == ["ok"] * 3
