"""Signs of life of the portal's own workers, for its health page."""

from __future__ import annotations

from django.db import models

from fedportal.common import clock


class Heartbeat(models.Model):
    """A process that does jobs, when it last did one, and how long that one had waited."""

    name = models.CharField(max_length=200, primary_key=True)  # host and process id
    at = models.DateTimeField(default=clock.now)
    waited_seconds = models.FloatField(default=0)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
