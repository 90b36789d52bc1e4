"""The one thing a device waits for."""

from __future__ import annotations

from django.db import models

from federations.models.devices import Device
from federations.models.organizations import Organization
from fedportal.common import clock, ids
from fedwire.states import TaskKind, TaskState


class DeviceTask(models.Model):
    """A piece of work for one device, with the manifest of what its answer must look like.

    Upper floors create tasks and register what happens when one is answered (`federations.services.device_tasks`), so
    waiting, uploads, receipts and idempotency exist once. `subject` is the upper floor's own id for it.
    """

    public_id = models.CharField(max_length=32, unique=True, default=ids.tsk_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, models.CASCADE, related_name="tasks")
    kind = models.CharField(max_length=12, choices=[(k, k) for k in TaskKind])
    state = models.CharField(max_length=12, choices=[(s, s) for s in TaskState], default=TaskState.OPEN)
    subject = models.CharField(max_length=64)
    content = models.JSONField(default=dict)  # the fedwire.messages.Task fields the upper floor decides
    base_blob = models.CharField(max_length=64, blank=True)  # sha256 of the file that GET …/model delivers
    update_header = models.BinaryField(default=bytes, blank=True)  # the exact first bytes of the upload
    update_bytes = models.BigIntegerField(default=0)  # the exact length of the upload; 0: none
    deadline = models.DateTimeField()
    created_at = models.DateTimeField(default=clock.now, editable=False)
    taken_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    upload_sha256 = models.CharField(max_length=64, blank=True)  # of the stored upload, once complete
    upload_norm = models.FloatField(null=True, blank=True)  # L2 norm of its numbers, measured at the door
    answer_digest = models.CharField(max_length=64, blank=True)  # SHA-256 of the canonical answer
    receipt = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["device", "state", "id"], name="next_task_of_device"),
            models.Index(fields=["state", "deadline"], name="overdue_tasks"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} task {self.public_id} ({self.state})"
