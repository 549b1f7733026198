"""Check that the documents speak of what is there: links, files, modules, the version.

Run from anywhere: `python tools/docs_check.py`. Prints one line for each fault and exits with 1 if
there is one. Checked are links between Markdown files (with their #headings), files and modules
named in backticks in README.md, ARCHITECTURE.md, CONTRIBUTING.md and docs/, and that the newest
version in CHANGELOG.md is the package's. Links to other hosts are not followed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_FILE = re.compile(r"^[\w.*-]+(?:/[\w.*-]+)*/?$")
_MODULE = re.compile(r"^mesosctl(?:\.[A-Za-z_]\w*)+$")
_VERSION = re.compile(r"^## \[?(\d+\.\d+\.\d+[^\]\s]*)", re.MULTILINE)
_REQUIRED = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/protocol.md")


def documents(root: Path) -> list[Path]:
    """Return the Markdown files of the project, below `root`, in a stable order."""
    found = list(root.glob("*.md"))
    for folder in ("docs", "bench", "examples", "newsfragments"):
        found.extend((root / folder).rglob("*.md"))
    return sorted(found)


def slugs(text: str) -> set[str]:
    """Return the #anchors of the headings in `text`, made the way the usual renderers do."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = _LINK.sub(lambda link: link[0].split("]")[0].lstrip("!["), heading)
        slug = re.sub(r"[^\w\- ]", "", plain.replace("`", "").lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def broken_links(root: Path, document: Path) -> list[str]:
    """Return a line for each link in `document` to a file or heading that is not there."""
    text = _FENCE.sub("", document.read_text(encoding="utf-8"))
    faults = []
    for target in _LINK.findall(_CODE.sub("", text)) + _REFERENCE.findall(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        where = document.relative_to(root)
        if not file.exists():
            faults.append(f"{where}: link to {target}, and there is no such file")
        elif not file.is_relative_to(root):
            faults.append(f"{where}: link to {target} leads out of the project")
        elif anchor and file.suffix == ".md" and anchor not in slugs(file.read_text("utf-8")):
            faults.append(f"{where}: link to {target}, and there is no such heading")
    return faults


def _module_exists(root: Path, dotted: str) -> bool:
    """Tell whether `dotted` is a module, a name in one, or a name in an entry-point group."""
    path = root.joinpath(*dotted.split("."))
    holders = (path, path.parent) if path.parent != root / "mesosctl" else (path,)
    if any(holder.is_dir() or holder.with_suffix(".py").is_file() for holder in holders):
        return True
    return f'"{dotted}"' in (root / "pyproject.toml").read_text("utf-8")


def missing_names(root: Path, document: Path) -> list[str]:
    """Return a line for each file or module in backticks in `document` that is not there.

    Only names whose first part is a folder of ours are taken for files: `mesosctl/core/master.py`,
    `core/master.py`, `tests/sim/`. What a user's own file might be called is left alone.
    """
    ours = {
        path.name for path in (*root.iterdir(), *(root / "mesosctl").iterdir()) if path.is_dir()
    }
    faults = []
    for name in _CODE.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        where = document.relative_to(root)
        if _MODULE.match(name):
            if not _module_exists(root, name):
                faults.append(f"{where}: `{name}`, and there is no such module")
        elif "/" in name and _FILE.match(name) and name.split("/")[0] in ours:
            pattern = name.rstrip("/")
            bases = (root, root / "mesosctl", document.parent)
            if not any(any(base.glob(pattern)) for base in bases):
                faults.append(f"{where}: `{name}`, and there is no such file")
    return faults


def version_faults(root: Path) -> list[str]:
    """Return a line if the newest version in CHANGELOG.md is not the package's."""
    source = (root / "mesosctl" / "__init__.py").read_text(encoding="utf-8")
    package = re.search(r'^__version__(?:: \w+)? = "([^"]+)"', source, re.MULTILINE)
    newest = _VERSION.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    if package is None:
        return ['mesosctl/__init__.py: no line of the form __version__ = "1.2.3"']
    if newest is None:
        return ["CHANGELOG.md: no heading of the form ## 1.2.3"]
    if newest[1] != package[1]:
        return [f"CHANGELOG.md: newest is {newest[1]}, and the package is {package[1]}"]
    return []


def faults(root: Path) -> list[str]:
    """Return every fault in the documents below `root`, one line each; an empty list is good."""
    found = [f"{name}: is not there" for name in _REQUIRED if not (root / name).is_file()]
    for document in documents(root):
        found += broken_links(root, document)
        if document.name != "CHANGELOG.md":
            found += missing_names(root, document)
    return found + version_faults(root)


def main() -> int:
    """Print the faults; return the exit code."""
    found = faults(ROOT)
    for fault in found:
        print(fault)
    if not found:
        print(f"documents: {len(documents(ROOT))} files, no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
