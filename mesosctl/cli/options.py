"""Options that several commands share, and what the global ones came to.

The global options are accepted before and after the command. A later value wins over an earlier
one, the command line over the environment (MESOSCTL_MASTER), the environment over a command's
table in the configuration. What is left open here (where the master is) settings.py decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mesosctl.cli.params import DURATION, LISTEN, MASTERS, WORDS
from mesosctl.limits import REQUEST_TIMEOUT_S
from mesosctl.model.records import dataclass

if TYPE_CHECKING:
    from mesosctl.cli.output import Console
    from mesosctl.cli.settings import Endpoint, Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)

FORMATS = ("table", "wide", "json", "jsonl", "csv", "name")

_RANK = {
    ParameterSource.COMMANDLINE: 3,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.DEFAULT_MAP: 1,
}


@dataclass
class Globals:
    """What the global options of one invocation say, and what is made from them on demand.

    `master` and `key` are as given, or None: `locate()` finds out where the master is.
    """

    context: str | None = None
    key: str | None = None
    master: str | None = None
    config: str | None = None
    color: str = "auto"
    verbose: int = 0
    quiet: bool = False
    request_timeout: float = REQUEST_TIMEOUT_S
    utc: bool = False
    # Set by the command that runs: whether its exit code is a task's, and what it is called.
    passes_task_code: bool = False
    command: str = ""
    warnings: list[str] = field(default_factory=list)
    _ranks: dict[str, int] = field(default_factory=dict)
    _settings: Settings | None = None

    def take(self, name: str, value: Any, source: ParameterSource | None) -> None:
        """Keep the value of a global option unless a stronger source has named one already."""
        rank = _RANK.get(source, 0) if source is not None else 0
        if not rank or rank < self._ranks.get(name, 0):
            return
        if name == "verbose" and rank == self._ranks.get(name, 0):
            value += self.verbose
        self._ranks[name] = rank
        setattr(self, name, value)

    def named(self, name: str) -> str:
        """The `master` or `key` that was given; "" where a context was named more strongly."""
        if self._ranks.get("context", 0) > self._ranks.get(name, 0):
            return ""
        value = self.master if name == "master" else self.key
        return value or ""

    @property
    def console(self) -> Console:
        """Where this invocation writes: data to stdout, notes to stderr."""
        from mesosctl.cli.output import Console

        return Console(color=self.color, quiet=self.quiet, utc=self.utc)

    @property
    def settings(self) -> Settings:
        """The configuration files, read once. Raises UsageError when they cannot be meant."""
        if self._settings is None:
            from mesosctl.cli.settings import load

            self._settings = load(self.config)
            self.warnings.extend(self._settings.warnings)
        return self._settings

    def locate(self) -> Endpoint:
        """Where the master is and which key opens it. Raises Unreachable when nobody knows."""
        from mesosctl.cli.settings import locate

        endpoint = locate(self)
        self.show_warnings()
        return endpoint

    def show_warnings(self) -> None:
        """Print, once, what the configuration files hold that nobody understands."""
        warnings, self.warnings = self.warnings, []
        for warning in warnings:
            self.console.warn(warning)


# Typed loosely: what click makes of a function with named parameters has no simple type.
pass_globals: Callable[[Callable[..., Any]], Callable[..., Any]] = click.make_pass_decorator(
    Globals, ensure=True
)


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    name = param.name or ""
    ctx.ensure_object(Globals).take(name, value, ctx.get_parameter_source(name))


def _store_config(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Read the command's own table as soon as the file is known: its defaults come from there."""
    _store(ctx, param, value)
    table = getattr(ctx.command, "config_table", "")
    if table and ctx.parent is not None and not ctx.resilient_parsing:
        from mesosctl.cli.settings import defaults_for

        found = ctx.ensure_object(Globals)
        ctx.default_map = defaults_for(ctx.command, found.settings, found.warnings)


def _show_help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.ensure_object(Globals).console.out(ctx.get_help())
        ctx.exit()


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from mesosctl import __version__

        ctx.ensure_object(Globals).console.out(f"mesosctl {__version__}")
        ctx.exit()


def _global(*names: str, **attributes: Any) -> click.Option:
    attributes.setdefault("callback", _store)
    return click.Option(names, expose_value=False, **attributes)


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    _global("-C", "--context", metavar="NAME", help="Use this context of the configuration."),
    _global("--key", metavar="FILE", help="The key file that admits you to the master."),
    _global(
        "--master",
        type=MASTERS,
        metavar="ADDR",
        help="Where the master is: HOST[:PORT], several with commas, or zk://HOST,HOST/PATH.",
    ),
    _global(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=_store_config,
        help="Read this configuration file, and no other.",
    ),
    _global(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        help="Colour on a terminal (auto), always or never.",
    ),
    _global("-v", "--verbose", count=True, help="Say more; twice: say everything."),
    _global("-q", "--quiet", is_flag=True, help="Say nothing but data and errors."),
    _global(
        "--request-timeout",
        type=DURATION,
        metavar="TIME",
        help="How long to wait for an answer (10s).",
    ),
    _global("--utc", is_flag=True, help="Show times in UTC instead of local time."),
    _global(
        "-h",
        "--help",
        is_flag=True,
        is_eager=True,
        callback=_show_help,
        allow_from_autoenv=False,
        help="Show this help and exit.",
    ),
    _global(
        "-V",
        "--version",
        is_flag=True,
        is_eager=True,
        callback=_show_version,
        allow_from_autoenv=False,
        help="Show the version and exit.",
    ),
)


@dataclass(frozen=True, slots=True)
class Output:
    """How a listing is to be printed: one of FORMATS, and the fields if not all of them."""

    format: str = "table"
    fields: tuple[str, ...] = ()

    @property
    def is_machine(self) -> bool:
        """Whether a program reads this: then nothing but data may be on stdout."""
        return self.format in ("json", "jsonl", "csv")


def _decorate(function: Decorated, option: Callable[[Any], Any]) -> Decorated:
    decorated: Decorated = option(function)
    return decorated


def json_option(function: Decorated) -> Decorated:
    """Add `--json`, as the parameter `as_json: bool`, to a command that is no listing."""
    option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    return _decorate(function, option)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-o/--output`, `--json` and `--fields` to a listing, which receives `output: Output`."""

    @functools.wraps(function)
    def with_output(
        *args: Any, output_format: str | None, as_json: bool, fields: tuple[str, ...], **rest: Any
    ) -> Any:
        chosen = Output("json" if as_json else output_format or "table", fields)
        return function(*args, output=chosen, **rest)

    options = (
        click.option(
            "-o",
            "--output",
            "output_format",
            type=click.Choice(FORMATS),
            envvar="MESOSCTL_OUTPUT",
            help="How to print: table, wide (more columns), json, jsonl, csv or name (ids only).",
        ),
        click.option("--json", "as_json", is_flag=True, help="The same as -o json."),
        click.option(
            "--fields",
            type=WORDS,
            metavar="A,B",
            default="",
            help="Print only these fields, in this order.",
        ),
    )
    for option in reversed(options):
        with_output = option(with_output)
    return with_output


def _end_with_parent(ctx: click.Context, _param: click.Parameter, value: int | None) -> None:
    """Have the kernel send us TERM when the process that started us is gone."""
    if value is None or ctx.resilient_parsing:
        return
    import os
    import signal

    from mesosctl.runtime.rawcalls import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != value:
        # It was gone before we asked.
        ctx.exit(0)


# Of every daemon that listens.
advertise_option = click.option(
    "--advertise",
    type=LISTEN,
    metavar="ADDRESS",
    help="The address to tell others, where it differs from --listen.",
)

parent_option = click.option(
    "--parent",
    type=int,
    hidden=True,
    expose_value=False,
    callback=_end_with_parent,
    metavar="PID",
    help="End when this process, which started it, ends.",
)
