"""The shells around the machines: sockets, timers, signals and processes. Deeds, no decisions."""
