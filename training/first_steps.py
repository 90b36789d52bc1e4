"""What a new owner and a new member do first, in order; what is done is read from the rows.

An organization that founded a federation, or has no place in any, sees the owner's list; one that was invited or joined
sees the member's. A list of which everything is done is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import F

from federations import permissions
from federations.models import Acceptance, Agreement, Device, Federation, Invitation, Member, Policy
from federations.permissions import Actor
from federations.selectors import ALIVE
from fedwire.states import AssignmentState, MemberState
from registry.models import Model, ModelVersion, Share
from training.models import Assignment, Run


@dataclass
class Step:
    """One thing to do: where, whether it is done, and what one must be allowed on what to do it."""

    title: str
    help: str
    address: str
    done: bool
    action: str
    about: Any = None  # None: what it will be done to does not exist yet
    may: bool = False


@dataclass
class Steps:
    """A list with its name, the address part by which it is hidden."""

    name: str
    title: str
    steps: list[Step]

    @property
    def done(self) -> int:
        """How many steps are done."""
        return sum(step.done for step in self.steps)

    @property
    def now(self) -> Step | None:
        """The first step that is not done."""
        return next((step for step in self.steps if not step.done), None)


OWNER, MEMBER = "owner", "member"
# A suspended member can do none of the steps until it is let in again.
HERE = (MemberState.INVITED, MemberState.ACTIVE)
NAMES = (OWNER, MEMBER)


def lists_for(actor: Actor) -> list[Steps]:
    """The lists that still have something to do, for the organization the actor acts for."""
    organization = actor.organization
    if organization is None:
        return []
    own = Federation.objects.filter(organization=organization, dissolved_at=None).order_by("pk").first()
    elsewhere = Member.objects.filter(organization=organization, state__in=HERE, federation__dissolved_at=None)
    elsewhere = elsewhere.exclude(federation__organization=organization).select_related("federation").order_by("pk")
    places = list(elsewhere[:20])
    found = []
    if own is not None or not places:
        found.append(Steps(OWNER, "First steps: train a model together", _owner(organization, own)))
    if places:
        found.append(Steps(MEMBER, "First steps: take part with your data", _member(organization, places)))
    unfinished = [one for one in found if one.now is not None]
    for one in unfinished:
        for step in one.steps:
            step.may = step.about is not None and permissions.can(actor, step.action, step.about)
    return unfinished


def _owner(organization: Any, own: Federation | None) -> list[Step]:
    others = Member.objects.filter(federation__organization=organization).exclude(organization=organization)
    letters = Invitation.objects.filter(federation__organization=organization)
    model = Model.objects.filter(organization=organization).order_by("pk").first()
    has_version = ModelVersion.objects.filter(model__organization=organization).exists()
    runs = Run.objects.filter(organization=organization).order_by("-pk")
    run = runs.exclude(result_version=None).first() or runs.first()
    at = f"/federations/{own.public_id}" if own else "/federations"
    model_at = f"/models/{model.public_id}" if model else "/models"
    return [
        Step(
            "Found a federation",
            "The organizations that train one model together. You decide who is in it.",
            "/federations/new",
            own is not None,
            "organization.found_federation",
            organization,
        ),
        Step(
            "Invite the others",
            "By the id of their organization or by email; each gets a letter with a link.",
            at,
            others.exists() or letters.exists(),
            "federation.invite",
            own,
        ),
        Step(
            "Make a model",
            "Describe it and start with fresh weights, or push your own.",
            model_at if model else "/models/new",
            model is not None and has_version,
            "organization.create_model",
            organization,
        ),
        Step(
            "Share the model with the federation",
            "Before that only your organization sees it.",
            model_at,
            Share.objects.filter(model__organization=organization).exists(),
            "model.share",
            model,
        ),
        Step(
            "Start a run",
            "Round by round the devices of all members train it on their own rows.",
            f"/runs/new?model={model.public_id}" if model else "/runs/new",
            run is not None,
            "model.train",
            model,
        ),
        Step(
            "See the result",
            "A run that ends well becomes a new version of the model, with where it comes from.",
            f"/runs/{run.public_id}" if run else "/runs",
            run is not None and run.result_version_id is not None,
            "run.view",
            run,
        ),
    ]


def _member(organization: Any, places: list[Member]) -> list[Step]:
    joined = [place.federation for place in places if place.state != MemberState.INVITED]
    first = next((place.federation for place in places if place.state == MemberState.INVITED), places[0].federation)
    open_agreements = agreements_to_accept(organization, joined)
    shown = open_agreements[0].federation if open_agreements else first
    part = Assignment.objects.filter(organization=organization, state=AssignmentState.SUBMITTED)
    run = Run.objects.filter(federation__in=joined).order_by("-pk").first() if joined else None
    steps = [
        Step(
            f"Join {first.name}" if not joined else "Join a federation",
            "Data stay where they are; only weight updates travel.",
            f"/federations/{first.public_id}",
            bool(joined),
            "organization.answer_invitation",
            organization,
        ),
        Step(
            "Accept the study agreement",
            "What the members agree on.",
            f"/federations/{shown.public_id}/agreements",
            bool(joined) and not open_agreements,
            "organization.accept_agreement",
            organization,
        )
        if Agreement.objects.filter(federation__in=[place.federation for place in places]).exists()
        else None,
        Step(
            "Set your policy",
            "The limits that bind every run on your devices, whoever starts it.",
            "/policy",
            Policy.objects.filter(organization=organization).exists(),
            "organization.set_policy",
            organization,
        ),
        Step(
            "Register a device",
            "Paste one line on the machine that holds the data.",
            "/devices",
            Device.objects.filter(organization=organization, state__in=ALIVE).exists(),
            "organization.enroll_devices",
            organization,
        ),
        Step(
            "Watch your devices take part",
            "Once a run is started you see each round as it happens.",
            f"/runs/{run.public_id}" if run else "/runs",
            part.exists(),
            "run.view" if run else "organization.view",
            run or organization,
        ),
    ]
    return [step for step in steps if step is not None]


def agreements_to_accept(organization: Any, federations: list[Federation]) -> list[Agreement]:
    """Of each of these federations the agreement that holds, without its text, unless the organization accepted it.

    Two queries.
    """
    newest: dict[int, Agreement] = {}
    rows = Agreement.objects.filter(federation__in=federations).select_related("federation").defer("text")
    for row in rows.order_by(F("version").asc()):
        newest[row.federation_id] = row
    accepted = Acceptance.objects.filter(organization=organization, agreement__in=list(newest.values()))
    done = set(accepted.values_list("agreement_id", flat=True))
    return [row for row in newest.values() if row.pk not in done]
