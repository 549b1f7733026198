"""The spawner: the expendable process that starts tasks and is their parent.

The executor starts it with spawner_orders.start_command and talks to it over one stream socket
(spawner_channel.py); when the executor dies it dies too, its tasks do not. It imports only the
standard library and its siblings rawcalls, spawner_channel and spawner_launch, so that it starts
quickly and has little to go wrong.

Rules it keeps, on which the executor relies:
- One of two threads has the loop at a time: one makes the launches that stay root, the other those
  of other users. The loop changes over with the kind of launch, so a row of one kind costs no
  change of threads. Each has a directory and umask of its own; they alone join cgroups and take on
  users' ids, while the leader of the process keeps root's ids and its own cgroups (version 2 can
  only move the whole process).
- The two differ in their capabilities: see give_up_capabilities.
- No order is begun, and no dead child is reaped, before every earlier report is in the socket. So
  after this process was killed the oldest order without a report is the only one that may have
  begun, and the status of every child it had not reported is still to be had by the executor.
- After every launch the thread is again who and where it was, checked by reading back. If that
  fails the process ends at once: it must never serve another task from inside this one.
- The three streams are opened before the task is started, so that an error number belongs to the
  one stage that is named with it.
- An order that is to follow another is held. Its turn comes with the death of that one's process,
  if nothing else is in its cgroups and the order is not due by then: it is begun, and both are
  reported at once, for the executor to wake once. Before it is begun its id and the time, in
  seconds of CLOCK_BOOTTIME, are in the note, a file that the executor reads should we die. Else it
  waits to be told.
"""

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False  # The name that type checkers know, without importing typing at each start.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mesosctl.runtime import rawcalls, spawner_channel, spawner_launch

    Order = dict[str, Any]
elif __package__:
    from mesosctl.runtime import rawcalls, spawner_channel, spawner_launch
else:
    import rawcalls
    import spawner_channel
    import spawner_launch

PENDING_ORDERS_LIMIT = 64
NOFILE_SOFT = 1024
NOFILE_HARD = 524_288
EXIT_BROKEN = 70


class Spawner:
    """The loop: orders, launches, and deaths of children. Whose turn it is has it to itself.

    `turns` has a lock for each kind of thread that serves, True for the one that stays root; the
    loop is with the one that got its lock.
    """

    def __init__(self, stream: socket.socket, note_fd: int, kinds: "tuple[bool, ...]") -> None:
        self._stream = stream
        self._note_fd = note_fd
        self._channel = spawner_channel.Channel(stream)
        self._turns = {kind: threading.Semaphore(0) for kind in kinds}
        self._signals = rawcalls.signalfd(signal.SIGCHLD)
        self._ready = False
        self._deaths_wait = False
        self._unreaped: int | None = None
        # The ids and cgroups of our children by pid.
        self._running: dict[int, tuple[str, list[str]]] = {}
        self._poll = select.poll()
        self._poll.register(self._signals, select.POLLIN)
        self._interest = 0

    def begin(self) -> None:
        """Give one thread the loop."""
        next(iter(self._turns.values())).release()

    def serve(self, kind: bool) -> None:
        """Serve in turns until the executor goes away, which raises EOFError."""
        launcher = Launcher()
        while True:
            self._turns[kind].acquire()
            if not self._ready:
                self._ready = True
                self._channel.report(["ready"])
            self._serve_turn(kind, launcher)
            self._turns[not kind].release()

    def _serve_turn(self, kind: bool, launcher: "Launcher") -> None:
        """Serve until an order comes that is the other thread's."""
        channel = self._channel
        while True:
            room = len(channel.orders) < PENDING_ORDERS_LIMIT
            interest = (select.POLLIN if room else 0) | (0 if channel.clear else select.POLLOUT)
            if interest != self._interest:
                self._poll.register(self._stream, interest)
                self._interest = interest
            busy = channel.clear and bool(channel.orders or self._deaths_wait)
            ready = dict(self._poll.poll(0 if busy else None))
            if self._signals in ready:
                # Emptied before looking, so that a death while we look raises it again.
                os.read(self._signals, 4096)
                self._deaths_wait = True
            if ready.get(self._stream.fileno(), 0) & ~select.POLLOUT:
                channel.receive()
            channel.flush()
            self._report_deaths(kind, launcher)
            if channel.clear and channel.orders:
                if not self._is_ours(channel.orders[0][0], kind):
                    return
                channel.report(self._launch(launcher, *channel.orders.popleft()))

    def _is_ours(self, order: "Order", kind: bool) -> bool:
        """Whether the order is one for this kind of thread."""
        stays_root = not order["uid"] or order["as_helper"]
        return len(self._turns) == 1 or stays_root is kind

    def _launch(self, launcher: "Launcher", order: "Order", stdin_fd: int | None) -> "list[str]":
        report = launcher.launch(order, stdin_fd)
        if report[0] == "spawned":
            self._running[int(report[2])] = order["id"], order["join"]
        return report

    def _report_deaths(self, kind: bool, launcher: "Launcher") -> None:
        """Report children that have died, each reaped only once its report is in the socket.

        What was to follow one, and may, is begun before that.
        """
        while self._channel.clear:
            if self._unreaped is not None:
                os.waitpid(self._unreaped, 0)
                self._unreaped = None
            death = rawcalls.peek_exit() if self._deaths_wait else None
            if death is None:
                self._deaths_wait = False
                return
            self._unreaped = death[0]
            name, join = self._running.pop(death[0], ("", []))
            held = self._channel.follower(name)
            about = list(map(repr, death))
            if held is None or not self._is_ours(held[0], kind) or not spawner_launch.is_left(join):
                self._channel.report(["exited", "", *about])
                continue
            self._channel.let_go(name)
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            os.pwrite(self._note_fd, f"{held[0]['id']}\n{now_s}\n".encode(), 0)
            self._channel.report(["exited", held[0]["id"], *about], self._launch(launcher, *held))


class Launcher:
    """One thread's way into a task's limits, ids and directory, and back. Made on that thread."""

    def __init__(self) -> None:
        rawcalls.unshare(rawcalls.CLONE_FS)
        self._identity = spawner_launch.Identity()
        self._null_fd = os.open(os.devnull, os.O_RDWR)
        # The files of our own cgroups, which every launch comes back to.
        self._homes: dict[str, int] = {}

    def launch(self, order: "Order", stdin_fd: int | None) -> "list[str]":
        """Carry out one order and return its report. Raises OSError when there is no way back."""
        opened = [] if stdin_fd is None else [stdin_fd]
        try:
            pid, fell_back = self._start_as_told(order, stdin_fd, opened)
            return ["spawned", order["id"], str(pid), "1" if fell_back else ""]
        except (spawner_launch.LaunchFailure, ValueError) as failure:
            # A ValueError is a NUL or a lone surrogate in a string: the order's fault, not ours.
            if isinstance(failure, ValueError):
                text = f"cannot start {order['argv'][0]!r}: {failure}"
                failure = spawner_launch.LaunchFailure("exec", errno.EINVAL, text, 126)
            code = "" if failure.exit_code is None else str(failure.exit_code)
            about = (failure.stage, str(failure.number), failure.text, code)
            return ["failed", order["id"], *about]
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _start_as_told(
        self, order: "Order", stdin_fd: int | None, opened: list[int]
    ) -> tuple[int, bool]:
        """Enter the task's limits, ids and directory, start it, and come back whatever happened."""
        switches = order["uid"] is not None
        try:
            spawner_launch.join_cgroups(order)
            os.umask(order["umask"])
            if switches:
                self._identity.become(order["uid"], order["gid"], order["groups"])
            fell_back = spawner_launch.enter_directory(order)
            streams = spawner_launch.open_streams(order, self._null_fd, stdin_fd, opened)
            if switches and order["as_helper"]:
                self._identity.step_back()
            return spawner_launch.execute(order, streams), fell_back
        finally:
            if switches:
                self._identity.step_back()
            os.chdir("/")
            os.umask(0o077)
            if order["join"]:
                self._go_home(order)

    def _go_home(self, order: "Order") -> None:
        """Leave the task's cgroups again. Raises OSError: the process must end."""
        for path in order["home"]:
            descriptor = self._homes.get(path)
            if descriptor is None:
                descriptor = self._homes[path] = os.open(path, os.O_WRONLY)
            os.write(descriptor, spawner_launch.WHO_WRITES)


def prepare(parent_pid: int) -> None:
    """Set once what is the same for every task, before the working thread starts. OSError."""
    rawcalls.prctl(rawcalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise EOFError("the executor died before this process was ready")
    rawcalls.prctl(rawcalls.PR_SET_NO_NEW_PRIVS, 1)
    # The ambient set survives a change of user as long as a saved id is 0, and then execve too.
    rawcalls.prctl(rawcalls.PR_CAP_AMBIENT, rawcalls.PR_CAP_AMBIENT_CLEAR_ALL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = NOFILE_HARD if hard == resource.RLIM_INFINITY else min(hard, NOFILE_HARD)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, NOFILE_SOFT), hard))
    os.chdir("/")
    # Blocked here, so in every thread: deaths are read from a descriptor instead.
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def give_up_capabilities() -> None:
    """Keep of root's capabilities in this thread the two that change ids, and those from tasks.

    no_new_privs lets a program with file capabilities (ping, for one) have those that the thread
    executing it has, and ours has root's permitted set still, to step back with. So it keeps none
    but these two, and programs that ask for them are refused by the bounding set. An empty
    bounding set would do alone, but the kernel refuses every program with capabilities then,
    where this way ping starts without them. In a container without CAP_SETPCAP or without these
    two nothing is left to give away, or no user to become.
    """
    kept = (rawcalls.CAP_SETUID, rawcalls.CAP_SETGID)
    with contextlib.suppress(OSError):
        for capability in kept:
            rawcalls.prctl(rawcalls.PR_CAPBSET_DROP, capability)
    with contextlib.suppress(OSError):
        rawcalls.set_capabilities(kept)


def serve(spawner: Spawner, stays_root: bool) -> None:
    """Take turns with the loop; raises EOFError when the executor is gone."""
    if not stays_root:
        give_up_capabilities()
    spawner.serve(stays_root)


def to_the_end(name: str, function: "Callable[..., None]", *arguments: object) -> None:
    """Run a thread's function; the process ends with it, never half alive."""
    try:
        rawcalls.set_thread_name(name)
        function(*arguments)
    except EOFError:
        os._exit(0)
    except BaseException as error:
        # Whatever it is, this thread may be in a task's cgroup or under its ids.
        os.write(2, f"spawner {os.getpid()} ends: {type(error).__name__}: {error}\n".encode())
    os._exit(EXIT_BROKEN)


def main(arguments: list[str]) -> int:
    """Serve on the inherited socket whose descriptor is the first argument; returns exit status.

    The note is the descriptor after it; the second argument is the executor's pid. Never returns
    once the loop runs.
    """
    stream = socket.socket(fileno=int(arguments[0]))
    note_fd = stream.fileno() + 1
    for descriptor in (stream.fileno(), note_fd):
        os.set_inheritable(descriptor, False)
    os.closerange(note_fd + 1, 1 << 20)
    try:
        prepare(int(arguments[1]))
    except EOFError:
        return 0
    except (OSError, RuntimeError) as error:
        print(f"spawner {os.getpid()} cannot start: {error}", file=sys.stderr)
        return EXIT_BROKEN
    rawcalls.set_thread_name("mesosctl-spawn")
    # An ordinary user has one kind of launches, which keep what it has.
    kinds = (True, False) if os.geteuid() == 0 else (True,)
    spawner = Spawner(stream, note_fd, kinds)
    names = {True: "mesosctl-root", False: "mesosctl-launch"}
    threads = [
        threading.Thread(target=to_the_end, args=(names[kind], serve, spawner, kind), daemon=True)
        for kind in kinds
    ]
    for thread in threads:
        thread.start()
    spawner.begin()
    threads[0].join()
    return EXIT_BROKEN
