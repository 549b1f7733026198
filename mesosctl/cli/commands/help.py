"""`mesosctl help [TOPIC]`: the help of a command, or an explanation of a topic."""

from __future__ import annotations

import click

from mesosctl.cli.group import COMMANDS, cli_command, nearest
from mesosctl.cli.options import Globals, pass_globals
from mesosctl.cli.params import shown
from mesosctl.cli.topics import TOPICS, Topic
from mesosctl.errors import NotFound


@cli_command("help")
@click.argument("topic", required=False)
@pass_globals
@click.pass_context
def command(ctx: click.Context, found: Globals, topic: str | None) -> None:
    """Explain a command or a topic.

    Without a topic: the list of commands and of topics.
    """
    console = found.console
    root = ctx.find_root()
    if topic is None:
        console.out(root.get_help())
        console.out("\nTopics:")
        for name, entry in TOPICS.items():
            console.out(f"  {name:<12}{entry.summary}")
    elif topic in TOPICS:
        console.out(topic_text(TOPICS[topic], console.width or 80), end="")
    elif topic in COMMANDS and isinstance(root.command, click.Group):
        named = root.command.get_command(root, topic)
        if named is None:
            raise NotFound(f"no command {shown(topic)}", "see mesosctl help")
        with click.Context(named, info_name=topic, parent=root) as inner:
            inner.max_content_width = 100
            console.out(named.get_help(inner))
    else:
        guess = nearest(topic, [*TOPICS, *COMMANDS])
        hint = f"did you mean {guess}?" if guess else "see mesosctl help"
        raise NotFound(f"no topic {shown(topic)}", hint)


def topic_text(topic: Topic, width: int) -> str:
    """A topic as plain text, wrapped to `width` columns (at most 100)."""
    formatter = click.HelpFormatter(width=min(width, 100))
    formatter.write(f"{topic.title}\n")
    with formatter.indentation():
        for paragraph in topic.paragraphs:
            if isinstance(paragraph, str):
                formatter.write_paragraph()
                formatter.write_text(paragraph)
            else:
                formatter.write_dl(paragraph, col_max=24)
    return formatter.getvalue()
