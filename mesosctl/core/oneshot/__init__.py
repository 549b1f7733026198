"""The machine of `mesosctl run`: a framework of one task in the foreground."""

from mesosctl.core.oneshot.events import Connect, Note, Output, StdinRead, WantStdin, Written
from mesosctl.core.oneshot.machine import OneShot

__all__ = ["Connect", "Note", "OneShot", "Output", "StdinRead", "WantStdin", "Written"]
