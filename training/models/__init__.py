"""Runs, their rounds, each device's part in a round, and what happened."""

from training.models.audits import LeakageAudit
from training.models.budgets import Ledger, Spending
from training.models.inference import InferenceConsent, InferencePart, InferencePlan
from training.models.masked import MaskedSum, Seat
from training.models.rounds import Assignment, Round, Update
from training.models.runs import Pulse, Run, RunEvent
from training.models.shards import Shard

__all__ = [
    "Assignment",
    "InferenceConsent",
    "InferencePart",
    "InferencePlan",
    "LeakageAudit",
    "Ledger",
    "MaskedSum",
    "Pulse",
    "Round",
    "Run",
    "RunEvent",
    "Seat",
    "Shard",
    "Spending",
    "Update",
]
