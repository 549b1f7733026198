"""Pictures of simulated clusters, drawn by matplotlib, which only this module imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesosctl.errors import MesosctlError, UsageError

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Raise UsageError, before any work is done, for what cannot be drawn."""
    if path.suffix not in SUFFIXES:
        hint = f"name a file that ends in {', '.join(SUFFIXES)}"
        raise UsageError(f"--plot {path}: no such kind of picture", hint)
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        hint = "pip install 'mesosctl[plot]'"
        raise UsageError("--plot needs matplotlib, which is not installed", hint)


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw the roles' shares over time, one upon the other, and what is used of everything."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    course = told["course"]
    times = [part["from"] for part in course]
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6))
    for role in course[0]["shares"] if course else ():
        above.step(times, [part["shares"][role] * 100 for part in course], label=role, where="post")
    for name in course[0]["utilisation"] if course else ():
        used = [part["utilisation"][name] * 100 for part in course]
        below.step(times, used, label=name, where="post")
    above.set(title=told["scenario"], ylabel="dominant share, %", ylim=(0, 105))
    below.set(xlabel="seconds", ylabel="in use, %", ylim=(0, 105))
    for axes in (above, below):
        if course:
            axes.legend(loc="upper right")
    try:
        figure.savefig(path)
    except OSError as error:
        raise MesosctlError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        pyplot.close(figure)
