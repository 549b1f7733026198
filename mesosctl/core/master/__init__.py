"""The master's machine: registrations, offers, the passing on of launches and updates."""

from mesosctl.core.master.machine import KeysChanged, MasterMachine, RoleSettings, StopRequested

__all__ = ["KeysChanged", "MasterMachine", "RoleSettings", "StopRequested"]
