"""The master's machine: registrations, offers, the passing on of launches and updates."""

from mesosctl.core.master.machine import KeysChanged, MasterMachine, RoleSettings

__all__ = ["KeysChanged", "MasterMachine", "RoleSettings"]
