"""Parts that other packages bring: found by name, checked, and refused with a reason.

Rules: nothing is loaded that was not named by whoever starts the process. One file for each kind:
allocators (of the master) and isolators (of agents). What a name stands for is an entry point of
another package, or MODULE:CLASS.
"""
