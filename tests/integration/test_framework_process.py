"""The batch framework as a process: with a real master, real sockets and its own disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesosctl.errors import MesosctlError, Refused
from mesosctl.model.jobs import JobSpec
from mesosctl.protocol.messages.batch import (
    Changed,
    JobAccepted,
    Jobs,
    KillJobs,
    ListJobs,
    SubmitJob,
    Watch,
)
from mesosctl.protocol.messages.query import FindFramework, FrameworkFound
from mesosctl.runtime.client import Client, Hub
from mesosctl.storage.keys import KeyFile, load_key, make_keypair
from mesosctl.storage.lock import holder

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 20.0


@contextmanager
def process(program: str, *arguments: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`mesosctl` with these arguments, ended at the latest when the test is."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "MESOSCTL_CONFIG": os.devnull,
    }
    log = (home / "daemons.log").open("ab")
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    log.close()
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


MASTER = """
import sys
from pathlib import Path
from mesosctl.runtime.master_process import MasterOptions, run_master
sys.exit(run_master(MasterOptions(listen=sys.argv[2], work_dir=Path(sys.argv[1]),
                                  with_framework=False, announce=False)))
"""
FRAMEWORK = """
import sys
from pathlib import Path
from mesosctl.runtime.framework_process import FrameworkOptions, run_framework
sys.exit(run_framework(FrameworkOptions(key=Path(sys.argv[1]), work_dir=Path(sys.argv[2]))))
"""


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> KeyFile:
    """The key file that the master writes once it listens."""
    for _ in range(int(TIMEOUT_S * 50)):
        if path.exists():
            return load_key(path)
        assert child.poll() is None, "the master ended"
        time.sleep(0.02)
    raise AssertionError("the master wrote no key")


def framework_client(hub: Hub, key: KeyFile) -> tuple[Client, FrameworkFound]:
    """A client of the batch framework, found through the master as commands do."""
    master = hub.connect(key.master, key.pair, key.server_key, connect_timeout_s=TIMEOUT_S)
    for _ in range(int(TIMEOUT_S * 20)):
        try:
            found = master.request(FindFramework("batch"))
        except MesosctlError:
            time.sleep(0.05)
            continue
        assert isinstance(found, FrameworkFound)
        master.close()
        client = hub.connect(
            found.address, key.pair, found.public_key, name="the framework", timeout_s=TIMEOUT_S
        )
        return client, found
    raise AssertionError("the framework did not subscribe")


def test_a_job_survives_the_framework(tmp_path: Path) -> None:
    """Accepted is on disk: killed and started again, the queue is there, and so is the request."""
    keys, state = tmp_path / "master" / "default.key", tmp_path / "framework"
    with process(MASTER, str(tmp_path / "master"), "tcp://127.0.0.1:0", home=tmp_path) as master:
        key = wait_for(keys, master)
        with process(FRAMEWORK, str(keys), str(state), home=tmp_path) as framework, Hub() as hub:
            client, _ = framework_client(hub, key)
            job = JobSpec("wait", ("true",), indices=((0, 9, 1),), is_array=True)
            accepted = client.request(SubmitJob("r1", job))
            assert isinstance(accepted, JobAccepted) and accepted.job_id == "1"
            assert holder(state) == framework.pid
            framework.send_signal(signal.SIGKILL)
            framework.wait()
        with process(FRAMEWORK, str(keys), str(state), home=tmp_path) as framework, Hub() as hub:
            client, _ = framework_client(hub, key)
            again = client.request(SubmitJob("r1", job))
            assert isinstance(again, JobAccepted) and again.job_id == "1"
            watch = client.pushes(Watch(("1",)))
            first = next(watch)
            assert isinstance(first, Changed) and first.jobs[0].counts == {"pending": 10}
            assert first.jobs[0].reason
            client.request(KillJobs(("1",)))
            last = [change for change in watch if isinstance(change, Changed)][-1]
            assert last.done and last.exit_code == 125
            framework.terminate()
            assert framework.wait(TIMEOUT_S) == 0


def test_a_stranger_is_not_let_in(tmp_path: Path) -> None:
    """A key that the master does not know gets no answer from the framework either."""
    keys, state = tmp_path / "master" / "default.key", tmp_path / "framework"
    with process(MASTER, str(tmp_path / "master"), "tcp://127.0.0.1:0", home=tmp_path) as master:
        key = wait_for(keys, master)
        with process(FRAMEWORK, str(keys), str(state), home=tmp_path), Hub() as hub:
            known, found = framework_client(hub, key)
            answer = known.request(ListJobs())
            assert isinstance(answer, Jobs) and answer.jobs == ()
            stranger = hub.connect(
                found.address, make_keypair(), found.public_key, timeout_s=TIMEOUT_S
            )
            with pytest.raises(Refused):
                stranger.request(ListJobs())
            assert isinstance(known.request(ListJobs()), Jobs)
