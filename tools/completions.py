"""Write completions/ for bash, zsh and fish from the commands.

Run from anywhere: `python tools/completions.py [--check]`. The scripts are static: completing a
command, an option or a choice starts no process. Behind the first word of a task's command line
(submit, run, local) they offer files, since what stands there belongs to the task.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))

import clitree

OUT = clitree.ROOT / "completions"
_NOTE = "Written by tools/completions.py: change the commands instead."
_FILES = "FILE"
_DIRECTORIES = "DIR"


def kind_of(param: click.Parameter) -> str | list[str]:
    """What may stand for a value: a list of choices, files, directories, or "" for anything."""
    if isinstance(param.type, click.Choice):
        return [str(choice) for choice in param.type.choices]
    if isinstance(param.type, click.Path | click.File):
        only_directories = isinstance(param.type, click.Path) and not param.type.file_okay
        return _DIRECTORIES if only_directories else _FILES
    return {"FILE": _FILES, "DIR": _DIRECTORIES}.get(param.metavar or "", "")


def words_of(node: clitree.Node) -> str | list[str]:
    """What the command's own words may be."""
    if node.verbs:
        return [verb.words[-1] for verb in node.verbs]
    if node.words == ("help",):
        from mesosctl.cli.group import COMMANDS
        from mesosctl.cli.topics import TOPICS

        return [*COMMANDS, *TOPICS]
    if getattr(node.command, "ends_at_argument", False):
        return _FILES
    return kind_of(node.arguments[0]) if node.arguments else ""


def all_options(node: clitree.Node | None) -> list[click.Option]:
    """The options of a command (None: of mesosctl itself), the global ones last."""
    return [*(node.options if node is not None else []), *clitree.global_options()]


def every(found: list[clitree.Node]) -> list[clitree.Node]:
    """Commands and verbs in one list."""
    return [inner for node in found for inner in node.walk()]


# --- bash -----------------------------------------------------------------------------------------

_BASH = """\
# bash completion for mesosctl
# {note}

_mesosctl()
{{
    local cur prev path kind words_ok=1 i word
    cur=${{COMP_WORDS[COMP_CWORD]}}
    prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    # bash splits --option=value at the sign; what counts is the option before it.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = && COMP_CWORD -ge 2 ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    COMPREPLY=()
    path=
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $word == -- ]]; then
            words_ok=
            break
        fi
        _mesosctl_kind "$path" "$word"
        if [[ $kind ]]; then
            ((i + 1 < COMP_CWORD)) && [[ ${{COMP_WORDS[i + 1]}} == = ]] && ((i++))
            ((i++))
            continue
        fi
        [[ $word == -* ]] && continue
        case "$path $word" in
{paths}
        esac
        case $path in
{ends}
        esac
    done
    if [[ ! $words_ok ]]; then
        compopt -o default 2>/dev/null
        return
    fi
    _mesosctl_kind "$path" "$prev"
    if [[ ! $kind && $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$(_mesosctl_options "$path")" -- "$cur"))
        return
    fi
    [[ $kind ]] || kind=$(_mesosctl_words "$path")
    case $kind in
        any) ;;
        FILE) compopt -o default 2>/dev/null ;;
        DIR)
            COMPREPLY=($(compgen -d -- "$cur"))
            compopt -o filenames 2>/dev/null
            ;;
        *) COMPREPLY=($(compgen -W "$kind" -- "$cur")) ;;
    esac
}}

# What follows this option (choices, FILE, DIR, any), in $kind; nothing for a flag.
_mesosctl_kind()
{{
    kind=
    case "$1 $2" in
{kinds}
    esac
    case $2 in
{global_kinds}
    esac
}}

_mesosctl_options()
{{
    case $1 in
{options}
    esac
    echo "{global_options}"
}}

_mesosctl_words()
{{
    case $1 in
{words}
    esac
}}

complete -F _mesosctl mesosctl
"""


def _bash_kind(kind: str | list[str]) -> str:
    return " ".join(kind) if isinstance(kind, list) else kind or "any"


def _bash_kinds(options: list[click.Option], prefix: str) -> list[str]:
    rows = []
    for option in options:
        if clitree.takes_value(option):
            names = "|".join(f"{prefix}{name}" for name in clitree.names_of(option))
            rows.append(f'{names}) kind="{_bash_kind(kind_of(option))}" ;;')
    return rows


def bash(found: list[clitree.Node]) -> str:
    """The script for bash."""
    paths, ends, kinds, options, words = [], [], [], [], []
    tops = " ".join(node.words[0] for node in found)
    words.append(f'"") echo "{tops}" ;;')
    for node in every(found):
        path = "-".join(node.words)
        before = "-".join(node.words[:-1])
        paths.append(f'"{before} {node.words[-1]}") path={path} ;;')
        kinds += _bash_kinds(node.options, f"{path}\\ ")
        names = [name for option in node.options for name in clitree.names_of(option)]
        if names:
            options.append(f'{path}) echo "{" ".join(names)}" ;;')
        words.append(f'{path}) echo "{_bash_kind(words_of(node))}" ;;')
        if getattr(node.command, "ends_at_argument", False):
            # The word that was just seen is the command's own name, or already the task's.
            ends.append(f"{path}) [[ $word == {node.words[-1]} ]] || {{ words_ok=; break; }} ;;")
    global_names = [n for option in clitree.global_options() for n in clitree.names_of(option)]
    return _BASH.format(
        note=_NOTE,
        paths=_indented(paths, 12),
        ends=_indented(ends or ["*) ;;"], 12),
        kinds=_indented(kinds, 8),
        global_kinds=_indented(_bash_kinds(clitree.global_options(), ""), 8),
        options=_indented(options, 8),
        global_options=" ".join(global_names),
        words=_indented(words, 8),
    )


def _indented(rows: list[str], width: int) -> str:
    return "\n".join(" " * width + row for row in rows)


# --- zsh ------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """Text within single quotes, as sh, zsh and fish read it."""
    return text.replace("\\", "\\\\").replace("'", "'\\''")


def _zsh_text(text: str) -> str:
    """A description within an _arguments specification."""
    for char in "\\[]:":
        text = text.replace(char, f"\\{char}")
    return text.replace("'", "'\\''").removesuffix(".")


def _zsh_action(kind: str | list[str]) -> str:
    if isinstance(kind, list):
        return f"({' '.join(kind)})"
    return {_FILES: "_files", _DIRECTORIES: "_files -/"}.get(kind, "")


def _zsh_option(option: click.Option, ctx: click.Context) -> str:
    names = clitree.names_of(option)
    text = _zsh_text((option.help or "").strip())
    value = ""
    if clitree.takes_value(option):
        name = _zsh_text(clitree.metavar_of(option, ctx).split("|")[0].lower())
        value = f":{name}:{_zsh_action(kind_of(option))}"
    repeats = option.multiple or option.count
    excluded = "*" if repeats else f"({' '.join(names)})" if len(names) > 1 else ""
    if len(names) == 1:
        return f"'{excluded}{names[0]}{'=' if value else ''}[{text}]{value}'"
    spelled = ",".join(
        f"{name}{'+' if len(name) == 2 else '='}" if value else name for name in names
    )
    return f"'{excluded}'{{{spelled}}}'[{text}]{value}'"


def _zsh_function(node: clitree.Node) -> list[str]:
    name = "_mesosctl_" + "_".join(node.words).replace("-", "_")
    rows = [f"{name}() {{"]
    if node.verbs:
        rows += _zsh_dispatch(list(node.verbs), list(node.options), node.ctx, "_".join(node.words))
    else:
        specs = [_zsh_option(option, node.ctx) for option in all_options(node)]
        action = _zsh_action(words_of(node))
        if getattr(node.command, "ends_at_argument", False):
            specs.append("'*:: :_normal'")
        elif node.arguments:
            label = _zsh_text(clitree.metavar_of(node.arguments[0], node.ctx).lower())
            specs.append(f"'*:{label}:{action}'")
        rows.append("    _arguments -s -S " + " ".join(f"\\\n        {spec}" for spec in specs))
    return [*rows, "}", ""]


def _zsh_dispatch(
    nodes: list[clitree.Node], options: list[click.Option], ctx: click.Context, prefix: str
) -> list[str]:
    specs = [_zsh_option(option, ctx) for option in (*options, *clitree.global_options())]
    rows = [
        "    local curcontext=$curcontext state line",
        "    local -a commands",
        "    commands=(",
    ]
    rows += [f"        '{n.words[-1]}:{_zsh_text(n.summary)}'" for n in nodes]
    rows += [
        "    )",
        "    _arguments -s -S -C " + " ".join(f"\\\n        {s}" for s in specs) + " \\",
    ]
    rows += ["        '1:command:->command' \\", "        '*::argument:->argument'"]
    rows += ["    case $state in", "        command) _describe command commands ;;"]
    rows += ["        argument)", "            case $line[1] in"]
    for node in nodes:
        name = "_mesosctl_" + "_".join(node.words).replace("-", "_")
        rows.append(f"                {node.words[-1]}) {name} ;;")
    return [*rows, "            esac", "            ;;", "    esac"]


def zsh(found: list[clitree.Node]) -> str:
    """The script for zsh."""
    rows = ["#compdef mesosctl", f"# {_NOTE}", "", "_mesosctl() {"]
    ctx = click.Context(click.Command("mesosctl"))
    rows += [*_zsh_dispatch(found, [], ctx, ""), "}", ""]
    for node in every(found):
        rows += _zsh_function(node)
    # Autoloaded by compinit the file is the function's body; sourced it only defines it.
    rows += ['if [ "$funcstack[1]" = "_mesosctl" ]; then', '    _mesosctl "$@"', "else"]
    rows += ["    compdef _mesosctl mesosctl", "fi"]
    return "\n".join(rows) + "\n"


# --- fish -----------------------------------------------------------------------------------------


def _fish_option(option: click.Option, condition: str) -> str:
    names = clitree.names_of(option)
    spelled = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in names)
    text = _quoted((option.help or "").strip().removesuffix("."))
    kind = kind_of(option)
    value = ""
    if clitree.takes_value(option):
        value = " -r" + {_FILES: " -F", _DIRECTORIES: " -a '(__fish_complete_directories)'"}.get(
            kind if isinstance(kind, str) else "", ""
        )
        if isinstance(kind, list):
            value = f" -x -a '{' '.join(kind)}'"
    when = f" -n '{condition}'" if condition else ""
    return f"complete -c mesosctl{when} {spelled}{value} -d '{text}'"


def _fish_condition(node: clitree.Node) -> str:
    return "; and ".join(f"__fish_seen_subcommand_from {word}" for word in node.words)


def fish(found: list[clitree.Node]) -> str:
    """The script for fish."""
    tops = " ".join(node.words[0] for node in found)
    rows = [f"# fish completion for mesosctl\n# {_NOTE}", "", "complete -c mesosctl -f"]
    rows += [_fish_option(option, "") for option in clitree.global_options()]
    for node in every(found):
        seen = "__fish_seen_subcommand_from"
        if len(node.words) == 1:
            where = f"not {seen} {tops}"
        else:
            parent = next(n for n in found if n.words[0] == node.words[0])
            siblings = " ".join(verb.words[-1] for verb in parent.verbs)
            where = f"{seen} {node.words[0]}; and not {seen} {siblings}"
        text = _quoted(node.summary.removesuffix("."))
        rows.append(f"complete -c mesosctl -n '{where}' -a {node.words[-1]} -d '{text}'")
    for node in every(found):
        condition = _fish_condition(node)
        rows += [_fish_option(option, condition) for option in node.options]
        if not node.verbs:
            words = words_of(node)
            if isinstance(words, list):
                given = " ".join(words)
                rows.append(f"complete -c mesosctl -n '{condition}' -a '{given}'")
            elif words:
                rows.append(f"complete -c mesosctl -n '{condition}' -F")
    return "\n".join(rows) + "\n"


# --- all ------------------------------------------------------------------------------------------


def scripts(skip_missing: bool = False) -> dict[Path, str]:
    """Every script by its path."""
    found = clitree.nodes(skip_missing)
    return {
        OUT / "mesosctl.bash": bash(found),
        OUT / "_mesosctl": zsh(found),
        OUT / "mesosctl.fish": fish(found),
    }


def main() -> int:
    """Write or check the scripts; return the exit code."""
    parser = argparse.ArgumentParser(description="Write completions/ from the commands.")
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--skip-missing", action="store_true", help="leave out absent commands")
    given = parser.parse_args()
    return clitree.write_or_check(scripts(given.skip_missing), [], given.check)


if __name__ == "__main__":
    sys.exit(main())
