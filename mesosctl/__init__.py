"""mesosctl: a small two-level cluster manager (version only; importing it costs nothing)."""

__version__ = "0.1.0"
