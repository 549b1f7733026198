"""The group `mesosctl`, which knows every command by name and imports only the one that is named.

Rules: COMMANDS is the only list of commands; help, completions and man pages follow it. A module of
mesosctl.cli.commands holds one click command named `command`, made by `cli_command`. The global
options of options.py belong to every command and are never declared again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import click

from mesosctl.cli.options import GLOBAL_OPTIONS, Globals
from mesosctl.model.records import dataclass

ENVIRONMENT_PREFIX = "MESOSCTL"
_DOUBLE_DASH = "mesosctl.double_dash"

SECTIONS = {
    "daemons": "Daemons",
    "jobs": "Jobs",
    "cluster": "Cluster",
    "tools": "Tools",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A command as the group knows it without importing it: what it does, and where it stands."""

    help: str
    section: str


COMMANDS: dict[str, Entry] = {
    "master": Entry("Offer the agents' resources to frameworks.", "daemons"),
    "agent": Entry("Run tasks on this host, under limits.", "daemons"),
    "framework": Entry("Run the batch framework: the queue of jobs.", "daemons"),
    "local": Entry("Run a whole cluster on this host, for one command.", "daemons"),
    "submit": Entry("Queue a job: a command, a script or many of them.", "jobs"),
    "run": Entry("Run a command in the foreground, somewhere in the cluster.", "jobs"),
    "jobs": Entry("List jobs.", "jobs"),
    "tasks": Entry("List the tasks of jobs.", "jobs"),
    "status": Entry("Show jobs in detail.", "jobs"),
    "explain": Entry("Tell why jobs and tasks wait, or how they ended.", "jobs"),
    "logs": Entry("Print or follow the output of tasks.", "jobs"),
    "wait": Entry("Wait for jobs to end; exit with their code.", "jobs"),
    "kill": Entry("End jobs and tasks.", "jobs"),
    "agents": Entry("List agents: their resources, use and state.", "cluster"),
    "drain": Entry("Empty agents, for maintenance of their hosts.", "cluster"),
    "undrain": Entry("Offer agents again, after a drain or a deactivation.", "cluster"),
    "deactivate": Entry("Offer nothing of agents; what runs there goes on.", "cluster"),
    "gone": Entry("Declare agents dead, for good.", "cluster"),
    "frameworks": Entry("List frameworks, or tear one down.", "cluster"),
    "offers": Entry("List outstanding offers.", "cluster"),
    "roles": Entry("List roles: weights and shares.", "cluster"),
    "role": Entry("Set weights and priorities of roles.", "cluster"),
    "quota": Entry("Show and set limits and guarantees of roles.", "cluster"),
    "reserve": Entry("Keep resources of agents for a role.", "cluster"),
    "unreserve": Entry("Give back what is reserved to a role.", "cluster"),
    "volume": Entry("Keep data of a role on an agent, beyond its tasks.", "cluster"),
    "config": Entry("Show and change the configuration.", "tools"),
    "keygen": Entry("Make a key file for an agent, framework, user or operator.", "tools"),
    "simulate": Entry("Run a scenario in virtual time: what would happen if.", "tools"),
    "completion": Entry("Print or install the completions of a shell.", "tools"),
    "help": Entry("Explain a command or a topic.", "tools"),
    "version": Entry("Show the versions of mesosctl and of what it stands on.", "tools"),
}

# Commands whose options may have defaults in a table of the configuration that is named like them.
TABLES = ("master", "agent", "framework", "submit")


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` probably means, or ""."""
    # Imported here: difflib costs a millisecond, and only mistakes need it.
    from difflib import get_close_matches

    close = get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return close[0] if close else ""


def no_such(kind: str, word: str, candidates: Iterable[str], otherwise: str) -> str:
    """One line about an unknown word, with the nearest known one or else `otherwise`."""
    guess = nearest(word, candidates)
    return f"no such {kind} {word!r}; {f'did you mean {guess}?' if guess else otherwise}"


class Command(click.Command):
    """A command with the global options.

    `passes_task_code`: its exit code is a task's, so that our own failures end with 125; a function
    of the parameters where it depends on them. `ends_at_argument`: parsing ends at the first word
    that is no option. `config_table`: where its defaults come from in the configuration ("": none).
    """

    def __init__(
        self,
        name: str | None,
        *,
        passes_task_code: bool | Callable[[dict[str, Any]], bool] = False,
        ends_at_argument: bool = False,
        **attributes: Any,
    ) -> None:
        settings = dict(attributes.pop("context_settings", None) or {})
        settings.setdefault("max_content_width", 100)
        if ends_at_argument:
            settings["allow_interspersed_args"] = False
        super().__init__(name, context_settings=settings, add_help_option=False, **attributes)
        self.passes_task_code = passes_task_code
        self.ends_at_argument = ends_at_argument
        self.config_table = name if name in TABLES else ""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own parameters, then the global ones."""
        return [*self.params, *GLOBAL_OPTIONS]

    def make_parser(self, ctx: click.Context) -> Any:
        """click's parser, which looks for what else `-m` could mean before it looks for `-m`.

        It compares it with every long option, and forgets what it found: a millisecond or two for
        each short option, and as long to load what compares.
        """
        parser = super().make_parser(ctx)
        known: Any = getattr(parser, "_long_opt", None)
        match: Any = getattr(parser, "_match_long_opt", None)
        if known is None or match is None:
            # A click that is built otherwise.
            return parser

        def match_long(word: str, value: str | None, state: Any) -> None:
            if word not in known and word[1:2] != "-":
                raise click.NoSuchOption(word, "no long option", ctx=ctx)
            match(word, value, state)

        vars(parser)["_match_long_opt"] = match_long
        return parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and note whether `--` stood before what is left."""
        if self.ends_at_argument:
            opts, rest, _ = self.make_parser(ctx).parse_args(list(args))
            names = [param.name for param in self.params if isinstance(param, click.Argument)]
            taken = [opts.get(name or "") for name in names]
            # The parser has shared the words out; a missing one is neither text nor tuple.
            words = len(rest) + sum(
                len(value) if isinstance(value, tuple) else int(isinstance(value, str))
                for value in taken
            )
            before = len(args) - words - 1
            ctx.meta[_DOUBLE_DASH] = before >= 0 and args[before] == "--"
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, having noted what its exit code will mean."""
        found = ctx.ensure_object(Globals)
        passes = self.passes_task_code
        found.passes_task_code = passes(ctx.params) if callable(passes) else passes
        found.command = ctx.command_path.partition(" ")[2]
        if found.config is not None and not found.command.startswith("config "):
            # A file that was named is read, and refused, whether this command needs it or not;
            # only `config` may be about to write it.
            _ = found.settings
        found.show_warnings()
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones apart."""
        write_options(self, ctx, formatter)


class NoCommand(click.UsageError):
    """Nothing was asked for; the usage is shown with this error."""


def _require_command(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        raise NoCommand("no command given", ctx)


class Verbs(click.Group):
    """A command with sub-verbs (`config`), each of which has the global options too."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        settings = {"max_content_width": 100, **(attributes.pop("context_settings", None) or {})}
        attributes["callback"] = click.pass_context(_require_command)
        super().__init__(
            name,
            add_help_option=False,
            # What is to happen without a command is for _require_command to say.
            invoke_without_command=True,
            subcommand_metavar="COMMAND [ARGS]...",
            context_settings=settings,
            **attributes,
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The group's own parameters, then the global ones."""
        return [*self.params, *GLOBAL_OPTIONS]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options and then the verbs."""
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that args[0] names; raise with a suggestion when there is none."""
        command = self.get_command(ctx, args[0])
        if command is None:
            see = f"see {ctx.command_path} --help"
            ctx.fail(no_such("command", args[0], self.list_commands(ctx), see))
        return args[0], command, args[1:]


class Lazy(Verbs):
    """The group `mesosctl` itself: its commands are imported when they are run, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command. Returns None for a name that COMMANDS does not have."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"mesosctl.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section, without importing them."""
        width = max(map(len, COMMANDS))
        for section, title in SECTIONS.items():
            rows = [
                (name.ljust(width), entry.help)
                for name, entry in COMMANDS.items()
                if entry.section == section
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the option sections of a command's help: its own, then the global ones."""
    own = [param for param in command.params if isinstance(param, click.Option)]
    for title, options in (("Options", own), ("Global options", list(GLOBAL_OPTIONS))):
        rows = [record for option in options if (record := option.get_help_record(ctx))]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def cli_command(
    name: str,
    *,
    passes_task_code: bool | Callable[[dict[str, Any]], bool] = False,
    ends_at_argument: bool = False,
    **attributes: Any,
) -> Callable[[Callable[..., Any]], Command]:
    """Make a function the command `name`; see Command. What it returns is the exit code (None: 0).

    The first line of its help is the entry in COMMANDS; the docstring tells the rest.
    """

    def make(function: Callable[..., Any]) -> Command:
        decorated = click.command(
            name,
            cls=Command,
            passes_task_code=passes_task_code,
            ends_at_argument=ends_at_argument,
            **attributes,
        )(function)
        return decorated

    return make


def after_double_dash(ctx: click.Context) -> bool:
    """Whether `--` stood before the words of a command that ends at its first argument.

    So `submit -- ls` (a command) is told from `submit ls` (a script).
    """
    return bool(ctx.meta.get(_DOUBLE_DASH, False))


def root_group() -> Lazy:
    """The command tree, from its root."""
    return Lazy(
        "mesosctl",
        help="Share the computers of a cluster between frameworks, and run batch jobs on it.",
        epilog="Try it: mesosctl local -- mesosctl submit -W -- echo hello. "
        "More: mesosctl help TOPIC, man mesosctl.",
        context_settings={"auto_envvar_prefix": ENVIRONMENT_PREFIX},
    )
