"""More of everything in acme's world: `grow` it to so many rows of each kind, by the services that make them in life.

The pages of an owner are then asked with few and with many rows (`tests/web/test_queries.py`), and measured with a
great many (`tests/bench/pages.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from allauth.usersessions.models import UserSession
from django.apps import apps
from django.db import models as rows

from federations.models import (
    Agreement,
    Choice,
    Delivery,
    Device,
    Federation,
    Invitation,
    Member,
    Membership,
    Organization,
    RootEntry,
    Webhook,
)
from federations.permissions import Actor
from federations.services import agreements, devices, federations, keys, organizations, people
from federations.services.agreements import Draft
from federations.services.notifications import KINDS
from fedportal.common import clock
from fedportal.common.transactions import unit
from registry import selectors
from registry.delivery.placement import WHOLE
from registry.models import Experiment, HealthReport, Model, ModelVersion, Participant, Rollout, Share
from registry.services import artifacts, experiments, health, models, portions, rollouts, versions
from tests.cast import PASSWORD
from tests.permissions import addresses
from tests.permissions.stage import LOGISTIC, Stage
from tests.permissions.table import PAGES
from tests.training.conftest import Site
from tests.training.test_audits import REPORT
from training.models import (
    InferenceConsent,
    InferencePart,
    InferencePlan,
    LeakageAudit,
    MaskedSum,
    Round,
    Run,
    Seat,
    Shard,
    Spending,
)
from training.services import rounds, runs

Grower = Callable[[Stage, int], None]
GROWERS: list[Grower] = []
# Tables of which no list grows, and why.
SINGLE = {
    "Policy": "one for an organization",
    "AuditChain": "one for an organization",
    "Pulse": "one row",
    "Ledger": "one for an organization",
    "Heartbeat": "one for a kind of process; only the operators see it",
    "Tries": "counts, which no page shows",
    "StagedUpload": "goes as soon as it is a version; no page shows it",
    "GatePolicy": "one for a model",
    "GateReport": "one for a version and a revision of its limits; a page shows one",
    "GateOverride": "by hand and with a reason; a page shows those of one version",
}
APPS = ("federations", "registry", "training", "usersessions")
# Devices that take part in the rounds of the great run; what is asked of the others is one round.
AT_WORK = 3


def grow(stage: Stage, count: int, **more: int) -> None:
    """Let there be `count` of everything that grows; `more` names growers that make another number.

    Raises AssertionError for a table that nothing here fills.
    """
    for grower in GROWERS:
        grower(stage, more.get(grower.__name__, count))
    least = min([count, *more.values()])
    bare = [table for table, there in sizes().items() if there < least and table not in SINGLE]
    assert bare == [], f"pages were not asked with many rows of {bare}: teach tests/growing.py to make some"


def pages(stage: Stage) -> dict[str, str]:
    """Route → address of every page that olga may open, those with a choice also with it made."""
    found = {
        row.route: addresses.filled(row.route, stage.own, dict(row.places)) + row.query
        for row in PAGES
        if row.method == "GET" and row.olga == 200
    }
    for route in ("runs/new", "runs/new/fragment"):
        found[f"{route}?model="] = f"/{route}?model={stage.own['model']}"
    return found


def sizes() -> dict[str, int]:
    """How many rows each table of ours has."""
    tables = [table for table in apps.get_models() if table._meta.app_label in APPS]
    return {table.__name__: table._default_manager.count() for table in tables}


def grows(grower: Grower) -> Grower:
    """`grower(stage, count)` sees to it that there are `count` of something."""
    GROWERS.append(grower)
    return grower


def olga_of(stage: Stage) -> Actor:
    return stage.cast.actor("olga")


def federation_of(stage: Stage) -> Federation:
    return Federation.objects.get(public_id=stage.own["federation"])


def model_of(stage: Stage) -> Model:
    return Model.objects.get(public_id=stage.own["model"])


def missing(there: rows.QuerySet[Any], count: int) -> Iterable[int]:
    """The numbers of those that have to be made."""
    return range(there.count(), count)


@grows
def colleagues(stage: Stage, count: int) -> None:
    for number in missing(Membership.objects.filter(organization=stage.cast.acme), count):
        newcomer = people.prepare(f"colleague-{number}@acme.example", PASSWORD, f"Colleague {number}")
        with unit():
            organizations.enter(stage.cast.acme, people.admit(newcomer), "viewer")


@grows
def api_keys(stage: Stage, count: int) -> None:
    for number in missing(stage.cast.acme.api_keys.all(), count):
        keys.issue(stage.cast.acme, stage.cast.olga, name=f"laptop {number}", scopes=["*"])


@grows
def registered_devices(stage: Stage, count: int) -> None:
    """Devices as registering makes them, each in a group of its own and heard of just now."""
    acme, olga = stage.cast.acme, olga_of(stage)
    with unit():
        fresh = [
            Device(organization=acme, identifier=f"scanner-{number:05d}", public_key="", platform="python")
            for number in missing(Device.objects.filter(organization=acme), count)
        ]
        for device in Device.objects.bulk_create(fresh):
            keys.issue_device_key(device)
    for device in Device.objects.filter(organization=acme, groups__isnull=True).order_by("pk")[:50]:
        devices.set_groups(olga, device, [f"ward-{device.identifier}"])
    Device.objects.filter(organization=acme).update(last_seen_at=clock.now())


@grows
def further_federations(stage: Stage, count: int) -> None:
    """Twice as many, so that with so many the great model is shared and with so many it is not."""
    for number in missing(Federation.objects.filter(organization=stage.cast.acme), 2 * count):
        federations.found(olga_of(stage), name=f"circle {number}")


@grows
def agreement_versions(stage: Stage, count: int) -> None:
    for number in missing(Agreement.objects.filter(federation=federation_of(stage)), count):
        agreements.publish(olga_of(stage), federation_of(stage), Draft("Study agreement", f"Version {number}."))


@grows
def members(stage: Stage, count: int) -> None:
    """Every second one has joined, the others are invited."""
    federation = federation_of(stage)
    agreement = agreements.current(federation)
    assert agreement is not None
    for number in missing(Member.objects.filter(federation=federation), count):
        name = f"hospital {number}"
        person = people.sign_up(f"owner-{number}@hospital.example", PASSWORD, name.title(), name)
        actor = Actor(person, Organization.objects.get(name=name))
        assert actor.organization is not None
        federations.invite(olga_of(stage), federation, org_ids=[actor.organization.public_id])
        if number % 2:
            federations.join(actor, federation, accept_agreement=agreement.public_id)


@grows
def invitations(stage: Stage, count: int) -> None:
    federation = federation_of(stage)
    for number in missing(Invitation.objects.filter(federation=federation), count):
        federations.invite(olga_of(stage), federation, emails=[f"guest-{number}@elsewhere.example"])


@grows
def further_models(stage: Stage, count: int) -> None:
    for number in missing(Model.objects.filter(organization=stage.cast.acme), count):
        made = models.create(olga_of(stage), name=f"model {number}", architecture=LOGISTIC)
        versions.initial(olga_of(stage), made, seed=number)
        models.share(olga_of(stage), made, federation_of(stage))


@grows
def shares(stage: Stage, count: int) -> None:
    """The great model is shared with some federations of acme."""
    model = model_of(stage)
    others = Federation.objects.filter(organization=stage.cast.acme).exclude(shares__model=model).order_by("pk")
    for federation in others[: max(0, count - Share.objects.filter(model=model).count())]:
        models.share(olga_of(stage), model, federation)


@grows
def model_versions(stage: Stage, count: int) -> None:
    """Versions of the great model, each converted once."""
    model = model_of(stage)
    for number in missing(ModelVersion.objects.filter(model=model), count):
        versions.initial(olga_of(stage), model, seed=number)
    for version in ModelVersion.objects.filter(model=model, artifacts__isnull=True):
        artifacts.wanted(olga_of(stage), version, "state_dict")
    latest = versions.latest(model)
    assert latest is not None
    stage.own["version"] = latest.version


@grows
def great_run(stage: Stage, count: int) -> None:
    """A run that has closed `count` rounds and has asked `count` devices in the one that is open."""
    olga, model, federation = olga_of(stage), model_of(stage), federation_of(stage)
    great = Run.objects.filter(model=model, total_rounds__gt=1).first()
    only_some_are_there(stage, AT_WORK)
    if great is None:
        great = runs.start(olga, model, federation=federation, rounds=10_000, config={"seed": 1})
    for _ in missing(great.rounds.filter(state="done"), count):
        play_round(stage, great)
    Device.objects.filter(organization=stage.cast.acme).update(last_seen_at=clock.now())
    play_round(stage, great)
    stage.own["run"] = great.public_id


@grows
def shards(stage: Stage, count: int) -> None:
    """The model of the great run's open round is made in `count` parts."""
    asked = Run.objects.get(public_id=stage.own["run"]).rounds.order_by("-number", "-attempt")[0]
    for number in missing(asked.shards.all(), count):
        Shard.objects.create(organization=stage.cast.acme, round=asked, first=False, start=number, stop=number + 1)


@grows
def further_runs(stage: Stage, count: int) -> None:
    """Runs of one round: the first is completed; of three others one is stopped, one completed, and one waits."""
    first = Run.objects.filter(organization=stage.cast.acme).order_by("pk")[0]
    while first.state == "running":
        play_round(stage, first)
        first.refresh_from_db()
    only_some_are_there(stage, AT_WORK)
    for number in missing(Run.objects.filter(organization=stage.cast.acme), count):
        config = {"seed": number, "evaluate": False}
        run = runs.start(olga_of(stage), model_of(stage), federation=federation_of(stage), rounds=1, config=config)
        if number % 3 == 0:
            runs.stop(olga_of(stage), run)
        elif number % 3 == 2:
            play_round(stage, run)
    Device.objects.filter(organization=stage.cast.acme).update(last_seen_at=clock.now())


@grows
def privacy(stage: Stage, count: int) -> None:
    """Of rounds that are closed: what each cost, a sum under masks, with `count` seats in one; audits of the great run;
    and a long list of keys."""
    acme, federation, key = stage.cast.acme, federation_of(stage), "0" * 63
    closed = list(Round.objects.filter(run__organization=acme, state="done").order_by("pk")[:count])
    for number, one in enumerate(closed):
        cost = {"state": "charged", "unit": "device", "noise": 1.0, "delta": 1e-5}
        Spending.objects.get_or_create(organization=acme, round=one, run=one.run, defaults=cost)
        session = {"session": f"{number:032x}", "state": "done", "deadline": clock.now(), "terms": {}}
        MaskedSum.objects.get_or_create(organization=acme, round=one, defaults=session)
    total = MaskedSum.objects.order_by("pk")[0]
    for device in Device.objects.filter(organization=acme)[:count]:
        Seat.objects.get_or_create(organization=acme, total=total, device=device)
    great = Run.objects.get(public_id=stage.own["run"])
    for _ in missing(LeakageAudit.objects.filter(run=great), count):
        LeakageAudit.objects.create(organization=acme, run=great, by=stage.cast.olga, own=False, report=REPORT)
    for number in missing(RootEntry.objects.filter(federation=federation), count):
        place = {"seq": number + 1, "op": "rotate", "key": f"{key}{number % 10}"}
        RootEntry.objects.create(federation=federation, organization=acme, **place)


@grows
def inference(stage: Stage, count: int) -> None:
    """Plans of one federation, who consented to them, and the parts of one that is done."""
    acme, federation, model = stage.cast.acme, federation_of(stage), model_of(stage)
    first = InferencePlan.objects.filter(federation=federation).order_by("pk")[0]
    result = {"rows": 90, "cells": [40, 50], "hidden": 0, "deviation": 0.0, "devices": 3, "organizations": 3}
    over = {"state": "done", "result": result, "started_at": clock.now(), "ended_at": clock.now()}
    InferencePlan.objects.filter(pk=first.pk).update(**over)
    bounds = {"least_devices": 3, "least_organizations": 3, "seconds": 600, "delta": 1e-5, **over}
    for _ in missing(InferencePlan.objects.filter(federation=federation), count):
        of = {"organization": acme, "federation": federation, "model": model, "version": first.version}
        InferencePlan.objects.create(**of, asked=first.asked, **bounds)
    for device in Device.objects.filter(organization=acme)[:count]:
        InferencePart.objects.get_or_create(organization=acme, plan=first, device=device)
    for owner in Organization.objects.order_by("pk")[:count]:
        InferenceConsent.objects.get_or_create(federation=federation, organization=owner)


@grows
def told(stage: Stage, count: int) -> None:
    """Who wants to hear what; webhooks; what was delivered to the first."""
    acme, kind = stage.cast.acme, next(iter(KINDS))
    with unit():
        for member in Membership.objects.filter(organization=acme)[:count]:
            Choice.objects.get_or_create(organization=acme, person=member.person, kind=kind, defaults={"email": False})
        for number in missing(Webhook.objects.filter(organization=acme), count):
            Webhook.objects.create(organization=acme, url=f"https://hook-{number}.example/", kinds=[kind])
        hook = Webhook.objects.filter(organization=acme).order_by("pk")[0]
        for number in missing(Delivery.objects.filter(webhook=hook), count):
            Delivery.objects.create(organization=acme, webhook=hook, kind=kind, payload={"number": number})


@grows
def rollouts_to_all(stage: Stage, count: int) -> None:
    """Every model goes to a device, the great one to all of them; a device reports how it fares."""
    olga, acme = olga_of(stage), stage.cast.acme
    great = Rollout.objects.get(public_id=stage.own["rollout"])
    if great.share < WHOLE:
        rollouts.set_share(olga, great, WHOLE)
    portions.finish(great)
    waiting = Model.objects.filter(organization=acme, rollouts__isnull=True, versions__isnull=False).distinct()
    for model in waiting.order_by("pk")[: len(missing(Rollout.objects.filter(organization=acme), count))]:
        rollouts.deploy(olga, selectors.find_version(model, "latest"), share=1)
    great.installations.filter(state="pending").update(state="installed", installed=great.version)
    device = great.installations.filter(state="installed").order_by("pk")[0].device
    for number in missing(HealthReport.objects.filter(rollout=great), count):
        said = {"batch": str(number), "model": great.model.public_id, "version": great.version.version, "count": 100}
        health.take(device, [said])


@grows
def trials(stage: Stage, count: int) -> None:
    """Plans with the private model, of which the first one runs on all devices."""
    olga, acme = olga_of(stage), stage.cast.acme
    first = Experiment.objects.get(public_id=stage.own["experiment"])
    if first.state == "draft":
        for rollout in Rollout.objects.filter(model=first.model, state="active"):
            rollouts.complete(olga, rollout)
        experiments.start(olga, first)
    experiments.sweep()
    for device in Device.objects.filter(organization=acme)[:count]:
        Participant.objects.get_or_create(
            organization=acme, experiment=first, device=device, defaults={"arm": "control"}
        )
    for number in missing(Experiment.objects.filter(organization=acme), count):
        experiments.create(olga, first.treatment, control=first.control, name=f"trial {number}")


@grows
def sessions(stage: Stage, count: int) -> None:
    for number in missing(UserSession.objects.filter(user=stage.cast.olga), count):
        key = f"{number:032d}"
        UserSession.objects.create(user=stage.cast.olga, ip="192.0.2.1", session_key=key, user_agent="Firefox")


def only_some_are_there(stage: Stage, count: int) -> None:
    """Of acme's devices only the first `count` have been heard of lately."""
    acme = Device.objects.filter(organization=stage.cast.acme)
    acme.update(last_seen_at=None)
    some = acme.filter(state="active", keys__revoked_at__isnull=True).order_by("-pk").values_list("pk", flat=True)
    Device.objects.filter(pk__in=list(some[:count])).update(last_seen_at=clock.now())


def play_round(stage: Stage, run: Run) -> None:
    """Let everybody who was asked answer, and the round be settled."""
    found = run.rounds.order_by("-number", "-attempt")[0]
    for part in found.assignments.select_related("device", "task").order_by("pk"):
        assert part.task is not None
        Site(part.device, 10 + part.device_id % 7, 0.5).answer(part.task)
    rounds.settle(found.pk)
