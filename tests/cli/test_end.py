"""The end of the process, which leaves its memory to the kernel."""

from __future__ import annotations

import subprocess
import sys

START = "import sys; sys.argv = ['mesosctl', *sys.argv[1:]]; from mesosctl.cli.main import main; "


def ended(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What a Python does that runs a command line of ours."""
    command = [sys.executable, "-c", START + program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_everything_that_was_printed_is_there_and_what_was_registered_is_called() -> None:
    """An end without the usual cleaning up must not lose output or the duties of others."""
    done = ended("import atexit; atexit.register(print, 'at the end'); main()", "--version")
    assert done.stdout.splitlines()[-1] == "at the end"
    assert done.stdout.startswith("mesosctl ")
    assert done.returncode == 0


def test_the_exit_code_is_the_command_s() -> None:
    """Scripts look at nothing else."""
    done = ended("main()", "no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


def test_a_thread_that_still_runs_is_waited_for() -> None:
    """Whoever left it running counts on Python's own end."""
    thread = "threading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()"
    done = ended(f"import threading, time; {thread}; main()", "--version")
    assert done.stdout.splitlines()[-1] == "done"
