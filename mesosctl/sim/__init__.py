"""A seeded world around the real machines: clock, wire, disks, processes, and their faults.

`python -m mesosctl.sim --seeds 50` runs clusters of production code through crashes and losses and
judges what came of it. The same seed gives the same trace.
"""
