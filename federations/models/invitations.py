"""Invitations: letters with a link that is used once, expires and is bound to its address."""

from __future__ import annotations

from enum import StrEnum

from django.db import models

from federations.models.federations import Federation
from federations.models.organizations import ROLE_CHOICES, Organization, Person
from fedportal.common import clock, ids
from fedwire.states import InvitationState


class Invitation(models.Model):
    """To a federation (by address; by organization id a Member row is enough), or a colleague into an organization."""

    class Kind(StrEnum):
        FEDERATION = "federation"
        ORGANIZATION = "organization"

    public_id = models.CharField(max_length=32, unique=True, default=ids.inv_id, editable=False)
    kind = models.CharField(max_length=12, choices=[("federation", "Federation"), ("organization", "Organization")])
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="invitations")  # who invites
    federation = models.ForeignKey(Federation, models.CASCADE, null=True, blank=True, related_name="invitations")
    role = models.CharField(max_length=20, choices=ROLE_CHOICES, blank=True)
    email = models.EmailField()
    token_hash = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256 of the link's token
    state = models.CharField(max_length=12, choices=[(s, s) for s in InvitationState], default=InvitationState.PENDING)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()
    invited_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    accepted_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True, related_name="+")
    accepted_for = models.ForeignKey(Organization, models.SET_NULL, null=True, blank=True, related_name="+")
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["federation", "email"],
                condition=models.Q(state="pending"),
                name="one_open_letter_to_a_federation",
            ),
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(kind="organization", state="pending"),
                name="one_open_letter_to_a_colleague",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} invitation for {self.email} ({self.state})"
