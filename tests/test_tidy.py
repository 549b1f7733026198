"""The house style, as far as a program can check it: sizes, docstrings, banned words and calls.

What ruff, mypy and import-linter check is not repeated here. Every rule collects all offences, so
that one run shows them all; each offence is "file:line: what".
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES_MAX = 400
TEST_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
SLEEP_S_LIMIT = 1.0

# Spelled in two parts, so that this file does not offend against itself.
BANNED_WORDS = {
    "TODO": "finish it, or file an issue",
    "FIXME": "finish it, or file an issue",
    "(?i:slave)": "the word is agent",
    r"pragma:\s*no\s*co" "ver": "test it, or remove it",
    r"#\s*noqa(?!:)": "name the rule: noqa: RULE",
    r"yaml\.lo" "ad": "it makes objects of any class",
    r"(?<![\w.}\])~$])/(?:wo" r"rk|ro" r"ot|home/\w+)/": "a path of one machine",
}
BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
BANNED_CALLS = {"eval", "exec"}
# Source that is made of the names of our own fields, as dataclasses does it.
ALLOWED_CALLS = {("compiled.py", "exec"), ("records.py", "exec")}
# Calls by these names check something, whoever defines them.
CHECKING = re.compile(r"(^|_)(assert|check|expect|verify|raises|warns|fail|falsify)", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below `folders`, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of `path`."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def at(path: Path, line: int, what: str) -> str:
    """Return one offence in the form that editors understand."""
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method below `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def collected(path: Path) -> Iterator[Function]:
    """Yield the functions of `path` that pytest would collect."""
    tree = parsed(path)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for body in (tree.body, *(node.body for node in classes if node.name.startswith("Test"))):
        for node in body:
            if isinstance(node, Function) and node.name.startswith("test"):
                yield node


def callee(call: ast.Call) -> str:
    """Return the last part of the name that is called: `b` for `a.b()`."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def is_set(node: ast.expr) -> bool:
    """Tell whether `node` is plainly a set: a literal, a comprehension, `set()` of something."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"set", "frozenset"}
    return isinstance(node, ast.Set | ast.SetComp)


def long_modules() -> Iterator[str]:
    """Small modules can be read whole."""
    for path in python_files("mesosctl", "tools", "bench", "tests"):
        most = TEST_LINES_MAX if path.is_relative_to(ROOT / "tests") else MODULE_LINES_MAX
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > most:
            yield at(path, most, f"{lines} lines, at most {most}")


def long_functions() -> Iterator[str]:
    """Small functions can be held in one's head."""
    for path in python_files("mesosctl", "tools", "bench"):
        for node in functions(parsed(path)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield at(path, node.lineno, f"{node.name}: {lines} lines, at most 70")


def silent_modules() -> Iterator[str]:
    """A module opens with what it owns and its rules; a test file with what it is about."""
    for path in python_files("mesosctl", "tools", "bench", "tests"):
        if not (ast.get_docstring(parsed(path)) or "").strip():
            yield at(path, 1, "no docstring")


def banned_words() -> Iterator[str]:
    """Some words never are in the project: work left over, one machine's paths."""
    folders = ("mesosctl", "tests", "tools", "bench", "examples", "docs", "man", "completions")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
    for path in sorted(files):
        if path.suffix in {".pyc", ".db", ".bin", ".journal", ".png"} or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        for pattern, why in BANNED_WORDS.items():
            for found in re.finditer(pattern, text):
                line = text.count("\n", 0, found.start()) + 1
                yield at(path, line, f"{found[0].strip()!r}: {why}")


def banned_calls() -> Iterator[str]:
    """Nothing that comes in is ever executed or unpickled; no shell but the one asked for."""
    for path in python_files("mesosctl", "tests", "tools", "bench", "examples"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(func=ast.Name(id=name)) if (
                    name in BANNED_CALLS and (path.name, name) not in ALLOWED_CALLS
                ):
                    yield at(path, node.lineno, f"{name}()")
                case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                    yield at(path, node.lineno, "a shell where a list of arguments would do")
                case ast.Import(names=names) if BANNED_MODULES & {name.name for name in names}:
                    yield at(path, node.lineno, "a module that runs what it reads")
                case ast.ImportFrom(module=str(module)) if module in BANNED_MODULES:
                    yield at(path, node.lineno, "a module that runs what it reads")


def long_sleeps() -> Iterator[str]:
    """A test waits for a condition; a fixed sleep is either too short or too long."""
    for path in python_files("tests"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Call(args=[ast.Constant(value=int() | float() as seconds)]) if (
                    callee(node) == "sleep" and seconds >= SLEEP_S_LIMIT
                ):
                    yield at(path, node.lineno, f"sleep({seconds}): wait for a condition")


def checks(node: ast.AST, seen: frozenset[str], bodies: dict[str, Function]) -> bool:
    """Tell whether `node`, or a function of the same file that it calls, checks something."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert | ast.Raise):
            return True
        if isinstance(part, ast.Call) and (name := callee(part)):
            if CHECKING.search(name) or name == "run_state_machine_as_test":
                return True
            inner = bodies.get(name) if name not in seen else None
            if inner is not None and checks(inner, seen | {name}, bodies):
                return True
    return False


def idle_tests() -> Iterator[str]:
    """A test that checks nothing passes whatever happens."""
    for path in python_files("tests"):
        bodies = {node.name: node for node in functions(parsed(path))}
        for test in collected(path):
            if not checks(test, frozenset({test.name}), bodies):
                yield at(path, test.lineno, f"{test.name}: checks nothing")


def unexplained_tests() -> Iterator[str]:
    """Each test says in a sentence why it is there."""
    for path in python_files("tests"):
        for test in collected(path):
            if not ast.get_docstring(test):
                yield at(path, test.lineno, f"{test.name}: no sentence that says why")


def twin_tests() -> Iterator[str]:
    """Test files have unique names and no packages: pytest imports them by path."""
    seen: dict[str, Path] = {}
    for path in python_files("tests"):
        if path.name == "__init__.py":
            yield at(path, 1, "tests are no package")
        elif path.name != "conftest.py" and path.name in seen:
            yield at(path, 1, f"another file is called that: {seen[path.name].relative_to(ROOT)}")
        seen[path.name] = path


def asserted_input() -> Iterator[str]:
    """What a peer or a user sends is refused with a typed error; assert is for our own faults."""
    for path in python_files("mesosctl/protocol", "mesosctl/cli"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Assert):
                yield at(path, node.lineno, "assert where input is read: raise a typed error")


def iterated_sets() -> Iterator[str]:
    """The order of a set follows the hash seed, and two runs would decide differently."""
    for path in python_files("mesosctl"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension) and is_set(node.iter):
                yield at(path, node.iter.lineno, "iterates over a set: sort it, or use a dict")


def mutable_values() -> Iterator[str]:
    """Values that cross a boundary never change: frozen, and slotted against misspelt names."""
    for path in python_files("mesosctl/model", "mesosctl/protocol/messages"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            for mark in node.decorator_list:
                name = mark.func if isinstance(mark, ast.Call) else mark
                if ast.unparse(name).rpartition(".")[2] != "dataclass":
                    continue
                given = mark.keywords if isinstance(mark, ast.Call) else []
                on = {option.arg for option in given if ast.unparse(option.value) == "True"}
                if not {"frozen", "slots"} <= on:
                    yield at(path, node.lineno, f"{node.name}: not frozen=True, slots=True")


RULES = [
    long_modules,
    long_functions,
    silent_modules,
    banned_words,
    banned_calls,
    long_sleeps,
    idle_tests,
    unexplained_tests,
    twin_tests,
    asserted_input,
    iterated_sets,
    mutable_values,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_style(rule: Callable[[], Iterator[str]]) -> None:
    """A rule that nobody checks is a wish; the docstring of each says what it is for."""
    offences = list(rule())
    assert not offences, f"{rule.__doc__}\n" + "\n".join(offences)


def test_development_tools_are_listed_once_for_each_kind_of_pip() -> None:
    """An old pip reads the extra, a new one the group; both have to get the same tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["dev"]
    assert extra == project["dependency-groups"]["dev"]
