"""The command line: one file per command, loaded when it is named (see group.py).

Rules: `--help`, `--version` and `help` import neither zmq, psutil, tabulate, msgpack, sqlite3 nor
asyncio; a command imports what it needs inside the function that needs it. Data goes to stdout,
everything else to stderr. An error is one line, `mesosctl: what: why; what to try`.
"""
