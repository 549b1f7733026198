"""`mesosctl version`: the versions of mesosctl and of what it stands on.

Read from the packages' metadata: nothing is imported only to ask it for its version.
"""

from __future__ import annotations

import platform

from mesosctl import __version__
from mesosctl.cli.group import cli_command
from mesosctl.cli.options import Globals, json_option, pass_globals

_PACKAGES = ("click", "msgpack", "platformdirs", "psutil", "pyzmq", "tabulate")


@cli_command("version")
@json_option
@pass_globals
def command(found: Globals, as_json: bool) -> None:
    """Show the versions of mesosctl and of what it stands on.

    `mesosctl --version` prints the first line alone.
    """
    versions = {"mesosctl": __version__, "python": platform.python_version(), **_libraries()}
    if as_json:
        found.console.json("version", versions)
        return
    for name, version in versions.items():
        found.console.out(f"{name} {version}")


def _libraries() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # A Debian package may come without metadata; the library can be there all the same.
            found[package] = "unknown"
    return found
