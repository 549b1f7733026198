"""The agent's machine: registration, tasks and their updates, executors, streams, recovery."""

from mesosctl.core.agent.machine import AgentMachine
from mesosctl.core.agent.options import AgentOptions
from mesosctl.core.agent.records import AgentRecords

__all__ = ["AgentMachine", "AgentOptions", "AgentRecords"]
