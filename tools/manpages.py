"""Write man/man1 and man/man5 from the commands and from tools/man/*.md.

Run from anywhere: `python tools/manpages.py [--check]`. Options and descriptions come from the
commands themselves; examples and whatever else a page should say stand in tools/man/<command>.md,
pages about files in tools/man/<page>.5.md. Exit 1 with --check when a page is not as it should be.

That source is a small part of Markdown: `## HEADING`, paragraphs, blocks indented by four spaces
(as they are), `- ` items, and terms as a line followed by lines that begin with `:   `.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import clitree

from mesosctl import __version__
from mesosctl.cli.group import COMMANDS, SECTIONS
from mesosctl.cli.topics import TOPICS, Topic

SOURCE = clitree.ROOT / "tools" / "man"
MAN = clitree.ROOT / "man"
FILE_PAGES = ("mesosctl-config(5)", "mesosctl-key(5)", "mesosctl-scenario(5)")
_CODE = re.compile(r"`([^`]+)`")


# --- roff -----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text as roff takes it literally."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    for char, name in (("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(char, name)
    for char, name in (("…", "..."), ("—", "\\(em"), ("–", "\\(en")):
        text = text.replace(char, name)
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)


def line(text: str) -> str:
    """One line of running text: `code` is bold, and nothing is taken for a request."""
    pieces = [
        f"\\fB{plain(piece)}\\fR" if place % 2 else plain(piece)
        for place, piece in enumerate(_CODE.split(text))
    ]
    joined = "".join(pieces)
    return f"\\&{joined}" if joined.startswith((".", "\\(aq")) else joined


def verbatim(rows: list[str]) -> list[str]:
    """Lines as they are, in a fixed font, indented."""
    shown = [f"\\&{plain(row)}" if row.startswith((".", "'")) else plain(row) for row in rows]
    return [".PP", ".in +4n", ".nf", *shown, ".fi", ".in"]


def term(name: str, text: str) -> list[str]:
    """A term, already in roff, and its explanation."""
    return [".TP", name, line(text)]


def heading(name: str, summary: str, section: int) -> list[str]:
    """The head of a page."""
    return [
        '.\\" Written by tools/manpages.py: change the command or tools/man/ instead.',
        f'.TH "{plain(name.upper())}" "{section}" "" "mesosctl {__version__}" "mesosctl"',
        # Lines are not stretched and words not cut: options have to be found by searching.
        ".ad l",
        ".nh",
        ".SH NAME",
        f"{plain(name)} \\- {line(summary.removesuffix('.'))}",
    ]


# --- the hand-written part ------------------------------------------------------------------------


def from_markdown(text: str) -> list[str]:
    """The small Markdown of the module's docstring in roff. Raises ValueError for the rest."""
    rows: list[str] = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n")):
        lines = block.splitlines()
        if not block.strip():
            continue
        if lines[0].startswith("## "):
            rows.append(f".SH {line(lines[0][3:])}")
            lines = lines[1:]
            if not lines:
                continue
        if all(each.startswith("    ") for each in lines):
            rows += verbatim([each[4:] for each in lines])
        elif lines[0].startswith("- "):
            for item in re.split(r"^- ", "\n".join(lines), flags=re.MULTILINE)[1:]:
                rows += [".IP \\(bu 2", line(" ".join(item.split()))]
        elif len(lines) > 1 and lines[1].startswith(":   "):
            words = " ".join(each.strip().removeprefix(":   ") for each in lines[1:])
            rows += [".TP", line(lines[0]), line(" ".join(words.split()))]
        elif any(each.startswith((" ", "#", ":")) for each in lines):
            raise ValueError(f"what is this? {lines[0]!r}")
        else:
            rows += [".PP", line(" ".join(block.split()))]
    return rows


def extra(name: str) -> list[str]:
    """The hand-written part of a page, if there is one."""
    path = SOURCE / f"{name}.md"
    return from_markdown(path.read_text(encoding="utf-8")) if path.is_file() else []


def topic_rows(topic: Topic) -> list[str]:
    """A topic of `mesosctl help` as a section."""
    rows = [f".SH {plain(topic.title)}"]
    for paragraph in topic.paragraphs:
        if isinstance(paragraph, str):
            rows += [".PP", line(paragraph)]
        else:
            for name, text in paragraph:
                rows += term(f"\\fB{plain(name)}\\fR", text)
    return rows


# --- pages of commands ----------------------------------------------------------------------------


def option_rows(option: click.Option, ctx: click.Context) -> list[str]:
    """An option with its value and its help."""
    names = ", ".join(f"\\fB{plain(name)}\\fR" for name in clitree.names_of(option))
    if clitree.takes_value(option):
        names += f" \\fI{plain(clitree.metavar_of(option, ctx))}\\fR"
    text = (option.help or "").strip()
    if option.show_default and isinstance(option.default, str | int) and option.default != "":
        text += f" Default: {option.default}."
    if option.multiple:
        text += " May be given several times."
    return term(names, text)


def synopsis(node: clitree.Node) -> str:
    """How the command is written, in one line."""
    words = [f"\\fBmesosctl {plain(' '.join(node.words))}\\fR"]
    if node.options:
        words.append("[\\fIOPTIONS\\fR]")
    if node.verbs:
        words.append("\\fICOMMAND\\fR [\\fIARGUMENTS\\fR]")
    for argument in node.arguments:
        name = f"\\fI{plain(clitree.metavar_of(argument, node.ctx))}\\fR"
        if argument.metavar:
            # Whoever spells out a metavar has put the brackets in already.
            words.append(name)
            continue
        name = name if argument.required else f"[{name}]"
        words.append(f"{name}..." if argument.nargs != 1 else name)
    return " ".join(words)


def help_rows(command: click.Command) -> list[str]:
    """The docstring of a command without its first line (which is under NAME already)."""
    _, _, text = inspect.cleandoc(command.help or "").partition("\n\n")
    rows: list[str] = []
    for block in text.split("\n\n"):
        if block.startswith("\b"):
            rows += verbatim(block.removeprefix("\b").strip("\n").splitlines())
        elif block.strip():
            rows += [".PP", line(" ".join(block.split()))]
    return rows


def command_page(node: clitree.Node) -> str:
    """The page of one command, with its verbs."""
    rows = heading(node.name, node.summary, 1)
    rows.append(".SH SYNOPSIS")
    for each in node.verbs or (node,):
        rows += [synopsis(each), ".br"]
    rows = [*rows[:-1], ".SH DESCRIPTION", line(node.summary), *help_rows(node.command)]
    if node.verbs:
        rows.append(".SH COMMANDS")
    for verb in node.verbs:
        rows += [f".SS {synopsis(verb)}", line(verb.summary), *help_rows(verb.command)]
        for option in verb.options:
            rows += option_rows(option, verb.ctx)
    if node.options:
        rows.append(".SH OPTIONS")
        for option in node.options:
            rows += option_rows(option, node.ctx)
    rows += [".SH GLOBAL OPTIONS", ".PP", "These may also stand before the command."]
    for option in clitree.global_options():
        rows += option_rows(option, node.ctx)
    rows += extra(node.words[0])
    rows += see_also("mesosctl(1)", "mesosctl-config(5)", "mesosctl-key(5)")
    return "\n".join(rows) + "\n"


def main_page(found: list[clitree.Node]) -> str:
    """The page of mesosctl itself: its commands, the global options, every topic."""
    rows = heading("mesosctl", "a small two-level cluster manager", 1)
    rows += [
        ".SH SYNOPSIS",
        "\\fBmesosctl\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
    ]
    rows += extra("mesosctl")
    for section, title in SECTIONS.items():
        rows.append(f".SH {plain(title.upper())}")
        for node in found:
            if COMMANDS[node.words[0]].section == section:
                rows += term(f"\\fB{plain(node.name)}\\fR(1)", node.summary)
    rows.append(".SH GLOBAL OPTIONS")
    if found:
        for option in clitree.global_options():
            rows += option_rows(option, found[0].ctx)
    for topic in TOPICS.values():
        rows += topic_rows(topic)
    rows += see_also(*FILE_PAGES)
    return "\n".join(rows) + "\n"


def see_also(*pages: str) -> list[str]:
    """The last section."""
    shown = ", ".join(f"\\fB{plain(page[:-3])}\\fR{page[-3:]}" for page in pages)
    return [".SH SEE ALSO", shown]


def file_page(path: Path) -> str:
    """A page of section 5; the first line of its source is `# name: what it is`."""
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    name, _, summary = first.removeprefix("# ").partition(": ")
    others = [page for page in FILE_PAGES if name not in page]
    rows = [*heading(name, summary, 5), *from_markdown(rest), *see_also("mesosctl(1)", *others)]
    return "\n".join(rows) + "\n"


def pages(skip_missing: bool = False) -> dict[Path, str]:
    """Every page by its path."""
    found = clitree.nodes(skip_missing)
    made = {MAN / "man1" / "mesosctl.1": main_page(found)}
    for node in found:
        made[MAN / "man1" / f"{node.name}.1"] = command_page(node)
    for path in sorted(SOURCE.glob("*.5.md")):
        made[MAN / "man5" / path.name.removesuffix(".md")] = file_page(path)
    return made


def stale(made: dict[Path, str]) -> list[Path]:
    """Pages that are there and should not be."""
    there = sorted(MAN.glob("man[0-9]/*"))
    return [path for path in there if path not in made]


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Write man/ from the commands.")
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--skip-missing", action="store_true", help="leave out absent commands")
    given = parser.parse_args()
    made = pages(given.skip_missing)
    return clitree.write_or_check(made, stale(made), given.check)


if __name__ == "__main__":
    sys.exit(main())
