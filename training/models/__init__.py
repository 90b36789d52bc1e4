"""Runs, their rounds, each device's part in a round, and what happened."""

from training.models.rounds import Assignment, Round, Update
from training.models.runs import Pulse, Run, RunEvent
from training.models.shards import Shard

__all__ = ["Assignment", "Pulse", "Round", "Run", "RunEvent", "Shard", "Update"]
