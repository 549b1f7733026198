"""What `mesosctl help TOPIC` explains besides the commands; the man page has the same words.

A topic is a list of paragraphs; a paragraph that is a tuple of pairs is a table of terms. Rules: no
topic repeats what one option does (its help says that), and none promises what is not there.
"""

from __future__ import annotations

from mesosctl.model.records import dataclass

Terms = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its heading, one line about it, and its paragraphs."""

    title: str
    summary: str
    paragraphs: tuple[str | Terms, ...]


TOPICS: dict[str, Topic] = {
    "values": Topic(
        "VALUES",
        "how durations, sizes, CPUs, indices and addresses are written",
        (
            (
                (
                    "TIME",
                    "90s, 5m, 1h30m, 2d, 1w, 500ms, or [D-]HH:MM:SS. A bare number is refused.",
                ),
                ("SIZE", "512M, 2G, 64MiB: powers of 1024. A bare number is refused."),
                ("CPUS", "A decimal number such as 4 or 0.5, at least 0.01."),
                ("INDICES", "0-99, 0-15:4 (every fourth), 1,3,5-7; 0-99%10: ten at a time."),
                ("ADDR", "tcp://HOST:PORT, HOST:PORT or HOST (port 5050); [::1]:5050 for IPv6."),
                (
                    "NAME",
                    "Letters, digits and . _ - in ASCII, at most 128, not first a dot or a dash.",
                ),
            ),
        ),
    ),
    "reasons": Topic(
        "REASONS",
        "why a task is pending, as jobs, status, tasks and explain call it",
        (
            (
                ("Backoff", "Its last attempts never started; it is tried again in a while."),
                ("Constraint", "No agent fulfils its constraint, or those that do have no room."),
                ("Draining", "An operator withholds the agents that it would fit on."),
                ("Filtered", "It fits where an offer was declined, and none is made for a while."),
                ("Lot", "It is drawn by lot who is offered what becomes free (allocator random)."),
                ("MaxRunning", "As many tasks of its job are under way as --max-running allows."),
                ("NeverFits", "No agent is large enough, or only with what others have reserved."),
                ("NoAgents", "There are no agents."),
                ("NoFramework", "The batch framework is not connected to the master."),
                (
                    "NoVolume",
                    "No agent has the volume that it uses, or not for its role.",
                ),
                ("OfferPending", "It fits now; an offer has been asked for, or is on its way."),
                ("Preempting", "Other tasks are being ended for it; what they free is its."),
                ("Priority", "A role or framework of a higher priority is offered first."),
                ("Quota", "Its role holds as much as its limit allows."),
                ("Resources", "What it needs is in use, or is being offered to others."),
                ("Share", "A role or framework with a lower share is offered first."),
                ("Unreachable", "The agents that it would fit on do not answer."),
            ),
            "There may be several at once: the first is shown by listings, and all of them, with "
            "the numbers and with what would help, by mesosctl explain.",
        ),
    ),
    "states": Topic(
        "STATES",
        "the states of a task and of a job",
        (
            (
                ("pending", "Waits for an offer that fits."),
                ("staging", "Has been sent to an agent; its executor is starting it."),
                ("running", "Runs. Also while its agent does not answer, and while it is ended."),
                ("ok", "Ended by itself with the exit code 0."),
                ("failed", "Ended with another exit code, by a signal, or could not be started."),
                ("oom", "Ended because it used more memory than its limit."),
                ("timeout", "Ended because its time was up."),
                ("killed", "Had started, and was ended on request."),
                ("cancelled", "Was ended before it started."),
                ("lost", "What became of it cannot be known; it was started once at the most."),
            ),
            "A job is partial while some of its tasks have ended and others have not. Afterwards "
            "it is the worst of its tasks, in this order: lost, failed, oom, timeout, killed, "
            "cancelled, ok.",
        ),
    ),
    "exit-codes": Topic(
        "EXIT CODES",
        "what the exit code of a command means",
        (
            (
                ("0", "Done; every selected task is ok."),
                (
                    "1 to 255",
                    "The task's own code, from commands that pass it on (run, submit --wait, wait, "
                    "logs --exit-code, local with a command). Of several tasks the largest.",
                ),
                ("1", "The answer is no; or stdout could not be written."),
                ("2", "The command line or a configuration file cannot be meant."),
                ("3", "Master or framework cannot be reached, or did not answer in time."),
                ("4", "No such job, task, agent, framework or context."),
                ("5", "Refused: authority or the present state forbid it."),
                ("70", "A fault of mesosctl itself, shown with a traceback. Please report it."),
                ("124", "A time limit was reached."),
                (
                    "125",
                    "mesosctl itself failed in a command that passes a task's code; or the task is "
                    "lost or was cancelled.",
                ),
                ("126, 127", "The task's command cannot be executed; was not found on the agent."),
                (
                    "128+N",
                    "The task was ended by signal N (137: out of memory). 130: you pressed Ctrl-C. "
                    "141: the reader of stdout has gone.",
                ),
            ),
        ),
    ),
    "environment": Topic(
        "ENVIRONMENT",
        "variables that mesosctl reads, and those that a task finds",
        (
            (
                ("MESOSCTL_MASTER, MESOSCTL_KEY", "Where the master is; the key file."),
                ("MESOSCTL_CONTEXT", "The context of the configuration to use."),
                ("MESOSCTL_CONFIG", "The configuration file, instead of the usual ones."),
                ("MESOSCTL_OUTPUT", "How listings are printed: json and the like."),
                (
                    "MESOSCTL_<COMMAND>_<OPTION>",
                    "The default of any option of any command: MESOSCTL_SUBMIT_CPUS=2.",
                ),
                ("NO_COLOR, FORCE_COLOR, TERM, COLUMNS", "Colour and width of tables."),
                ("XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR", "Where files are."),
            ),
            "A task finds: MESOS_JOB_ID, MESOS_JOB_NAME, MESOS_TASK_ID, MESOS_ATTEMPT, MESOS_CPUS, "
            "MESOS_MEM, MESOS_AGENT, MESOS_FRAMEWORK_ID, MESOS_ROLE, MESOS_SANDBOX, "
            "MESOS_SUBMIT_DIR; in an array also MESOS_ARRAY_INDEX, MESOS_ARRAY_COUNT, "
            "MESOS_ARRAY_MIN, MESOS_ARRAY_MAX; with --each-line also MESOS_ENTRY.",
        ),
    ),
    "files": Topic(
        "FILES",
        "where configuration, keys and state are",
        (
            (
                ("/etc/mesosctl/config.toml", "The configuration of the system, and root's own."),
                ("$XDG_CONFIG_HOME/mesosctl/config.toml", "A user's configuration; it wins."),
                ("/etc/mesosctl/keys/, $XDG_CONFIG_HOME/mesosctl/keys/", "Key files, mode 0600."),
                (
                    "/var/lib/mesosctl/, $XDG_STATE_HOME/mesosctl/",
                    "What master, agent and framework keep.",
                ),
                (
                    "/run/mesosctl/, $XDG_RUNTIME_DIR/mesosctl/",
                    "Sockets, and local.json: the master that this user has started here. Commands "
                    "find it by themselves.",
                ),
            ),
            "XDG_CONFIG_HOME is ~/.config where it is not set, XDG_STATE_HOME ~/.local/state.",
        ),
    ),
}
