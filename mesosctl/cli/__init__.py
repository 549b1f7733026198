"""The command line: one file per command, loaded when it is named (see group.py).

Rules: `--help`, `--version` and `help` import neither zmq, psutil, tabulate, msgpack, sqlite3 nor
asyncio; a command imports what it needs inside the function that needs it. Data goes to stdout,
everything else to stderr. An error is one line, `mesosctl: what: why; what to try`.
"""

import gc

# A command makes many objects that stay until it ends, and hardly any garbage: looking through all
# of them again and again is a twentieth of its time. Daemons choose figures of their own.
gc.set_threshold(50_000, 20, 20)
