"""Federations and the organizations in them."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import Organization, Person
from fedportal.common import clock, ids
from fedwire.states import MemberState


class Federation(models.Model):
    """A group of organizations that train together. `organization` founded it and owns it."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.fed_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="owned_federations")
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    members_may_start_runs = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    dissolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(dissolved_at=None),
                name="federation_name_per_owner",
            )
        ]
        # What `federations.permissions` grants beside Django's own `view_federation`.
        permissions = [
            ("view_roster_federation", "Can see who is in the federation"),
            ("manage_federation", "Can change the federation and its members"),
            ("invite_federation", "Can invite to the federation"),
            ("share_federation", "Can share models with the federation"),
            ("train_federation", "Can start runs in the federation"),
        ]

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    """An organization in a federation. The owner is a member too, active from the first moment."""

    federation = models.ForeignKey(Federation, models.CASCADE, related_name="members")
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="federation_members")
    state = models.CharField(max_length=12, choices=[(s, s) for s in MemberState], default=MemberState.INVITED)
    invited_at = models.DateTimeField(default=clock.now)
    joined_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["federation_id", "id"]
        constraints = [models.UniqueConstraint(fields=["federation", "organization"], name="one_member_each")]

    def __str__(self) -> str:
        return f"{self.organization} in {self.federation} ({self.state})"
