"""What other people's programs import: write a framework, ask a cluster. Small and kept stable.

    from mesosctl.api import Driver, Scheduler

docs/protocol.md describes the wire underneath for frameworks in other languages.
"""

from mesosctl.api.driver import Driver, Scheduler
from mesosctl.model.cluster import Demand, Offer, Waiting
from mesosctl.model.constraints import Where
from mesosctl.model.ids import AgentId, FrameworkId, OfferId, TaskId
from mesosctl.model.resources import Resources
from mesosctl.model.tasks import Command, StatusUpdate, TaskInfo, TaskState
from mesosctl.model.volumes import Volume, VolumeMount
from mesosctl.protocol.messages.agent import TaskKill
from mesosctl.protocol.messages.framework import Operation, OperationResult
from mesosctl.protocol.messages.maintenance import InverseOffer

__all__ = [
    "AgentId",
    "Command",
    "Demand",
    "Driver",
    "FrameworkId",
    "InverseOffer",
    "Offer",
    "OfferId",
    "Operation",
    "OperationResult",
    "Resources",
    "Scheduler",
    "StatusUpdate",
    "TaskId",
    "TaskInfo",
    "TaskKill",
    "TaskState",
    "Volume",
    "VolumeMount",
    "Waiting",
    "Where",
]
