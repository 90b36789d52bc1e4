"""The stage of the permission matrix: two worlds that look alike, acme's and rival's, and everybody who may knock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from allauth.usersessions.models import UserSession
from django.test import Client

from federations.models import Device, Federation, Organization, Person
from federations.permissions import Actor
from federations.services import agreements, device_tasks, devices, organizations, people, webhooks
from federations.services import federations as federation_services
from federations.services.agreements import Draft
from fedportal.common import blobs, clock
from fedportal.common.transactions import unit
from registry.services import experiments, models, rollouts, versions
from tests.cast import PASSWORD, Cast, assemble, client_with, register
from training.models import Assignment, Round
from training.services import inference, runs

# World → name of a part of an address → the id that stands there. "missing" ids look right and belong to nothing.
World = dict[str, str]
LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2}
# What is no id and yet is missing.
MISSING = {"version": "9.9.9", "member_act": "suspend", "device_act": "revoke", "verb": "stop", "form": "papyrus"}
MISSING["rollout_act"], MISSING["experiment_act"] = "pause", "stop"
PREPARERS: list[Callable[[Stage], None]] = []
PEOPLE = ("olga", "otto", "mia", "vera", "rex")


@dataclass
class Stage:
    """Everybody and everything; upper floors add their objects with `prepares`."""

    cast: Cast
    own: World = field(default_factory=dict)
    foreign: World = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)  # what an upper floor's rows need for their bodies

    @property
    def missing(self) -> World:
        """For every part of an address an id of the right form that belongs to nothing."""
        return {name: MISSING.get(name) or _missing_like(value) for name, value in self.own.items()}

    def world(self, name: str) -> World:
        """own, foreign or missing; mixed: the first part of the address is acme's, the others are rival's."""
        return {"own": self.own, "foreign": self.foreign, "missing": self.missing}[name]


def prepares(preparer: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Let `preparer(stage)` add a floor's objects to both worlds."""
    PREPARERS.append(preparer)
    return preparer


def build() -> Stage:
    """A stage with the cast and everything that was registered."""
    stage = Stage(assemble())
    for preparer in PREPARERS:
        preparer(stage)
    _clients(stage)
    return stage


@prepares
def _federations(stage: Stage) -> None:
    """acme's world is the cast's; rival's is made like it."""
    cast = stage.cast
    harbor, north, quay = (_organization(name) for name in ("harbor", "north", "quay"))
    rex, olga = cast.actor("rex"), cast.actor("olga")
    federation_services.invite(olga, cast.federation, org_ids=[harbor.organization.public_id])
    federation_services.join(harbor, cast.federation)
    federation_services.suspend(olga, cast.federation, harbor.organization)
    theirs = federation_services.found(rex, name="rival-circle")
    federation_services.invite(rex, theirs, org_ids=[north.organization.public_id, quay.organization.public_id])
    for one in (north, quay):
        federation_services.join(one, theirs)
    federation_services.suspend(rex, theirs, quay.organization)
    stage.own |= _world(cast, "olga", cast.federation, member=cast.metro, suspended=harbor.organization)
    stage.foreign |= _world(cast, "rex", theirs, member=north.organization, suspended=quay.organization)


@prepares
def _tasks(stage: Stage) -> None:
    """A task for a device of each world."""
    base = blobs.put(b"a model")
    for world in (stage.own, stage.foreign):
        device = Device.objects.get(public_id=world["device"])
        deadline = clock.now() + timedelta(hours=1)
        work = device_tasks.NewTask(
            device, "install", "none", deadline, {"state_digest": base}, base, update_header=b"{}", update_bytes=2
        )
        with unit():
            world["task"] = device_tasks.offer([work])[0].public_id


MISSING["hook_act"] = "renew"


@prepares
def _webhooks(stage: Stage) -> None:
    """A webhook with a delivery in each world."""
    for name, world in (("olga", stage.own), ("rex", stage.foreign)):
        actor = stage.cast.actor(name)
        webhook = webhooks.add(actor, stage.cast.organization_of(name), "https://hooks.example/fedportal", [])
        world |= {
            "webhook": webhook.public_id,
            "hook_act": "renew",
            "delivery": webhooks.test(actor, webhook).public_id,
        }


@prepares
def _registry(stage: Stage) -> None:
    """A model with a version that is shared and in training, one that is not, and an upload, in each world."""
    for name, world in (("olga", stage.own), ("rex", stage.foreign)):
        device = Device.objects.get(public_id=world["device"])
        devices.heartbeat(device, {})  # so it takes part in the run
        actor = stage.cast.actor(name)
        shared, kept = (models.create(actor, name=word, architecture=LOGISTIC) for word in ("shared", "kept"))
        rollout = rollouts.deploy(actor, versions.initial(actor, shared), share=1_000)
        first, second = (versions.initial(actor, kept, seed=seed) for seed in (1, 2))
        experiment = experiments.create(actor, second, control=first)
        federation = Federation.objects.get(public_id=world["federation"])
        models.share(actor, shared, federation)
        plan = inference.plan(actor, federation, shared, said={"summary": "counts"}, begin=False)
        upload = versions.begin_upload(actor, kept, 1000, "0" * 64)
        run = runs.start(actor, shared, rounds=1)
        digest = blobs.put(f"a model of {name}'s".encode())
        then = clock.now() - timedelta(minutes=1)
        closed = {"state": "done", "opened_at": then, "deadline": clock.now(), "closed_at": clock.now()}
        earlier = {**closed, "kind": "train", "attempt": 0, "base_blob": digest}
        over = Round.objects.create(organization=run.organization, run=run, number=1, **earlier)
        parts = [device] if name == "rex" else [device, _another_of_metro(stage.cast)]  # members may audit too
        for part in parts:
            Assignment.objects.create(organization=part.organization, round=over, device=part, state="submitted")
        world |= {
            "digest": digest,
            "run": run.public_id,
            "member_act": "suspend",
            "device_act": "revoke",
            "run_verb": "pause",
            "rollout_act": "pause",
            "experiment_act": "stop",
            "verb": "stop",
            "model": shared.public_id,
            "kept": kept.public_id,
            "rollout": rollout.public_id,
            "experiment": experiment.public_id,
            "treated": second.version,
            "plan": plan.public_id,
            "version": "1.0.0",
            "form": "state_dict",
            "upload": upload.public_id,
        }


def _another_of_metro(cast: Cast) -> Device:
    return Device.objects.get(public_id=register(cast.keys["mia"], "metro-003")["id"])


def _organization(name: str) -> Actor:
    person = people.sign_up(f"owner@{name}.example", PASSWORD, name.title(), name)
    return Actor(person, Organization.objects.get(name=name))


def _world(cast: Cast, owner: str, federation: Federation, *, member: Organization, suspended: Organization) -> World:
    actor = cast.actor(owner)
    organization = actor.organization
    letter = federation_services.invite(actor, federation, emails=["guest@elsewhere.example"]).letters[0]
    colleague = people.sign_up(f"colleague@{organization.name}.example", PASSWORD, "Colleague")
    organizations.enter(organization, colleague, "viewer")
    spare = register(cast.keys[owner], f"{organization.name}-001")
    quiet = Device.objects.get(public_id=register(cast.keys[owner], f"{organization.name}-002")["id"])
    devices.quarantine(actor, quiet)
    key = cast.key_for(actor.person, organization, ["*"])
    agreement = agreements.publish(actor, federation, Draft("Study agreement", "Data stay where they are."))
    return {
        "org": organization.public_id,
        "federation": federation.public_id,
        "agreement": agreement.public_id,
        "member": member.public_id,
        "suspended": suspended.public_id,
        "invitation": letter.invitation.public_id,
        "token": letter.link.rpartition("/")[2],
        "person": colleague.public_id,
        "key": organization.api_keys.get(lookup=key[4:12]).public_id,
        "device": spare["id"],
        "device_token": spare["device_key"],
        "quarantined": quiet.public_id,
    }


def _clients(stage: Stage) -> None:
    """One client for every way to knock."""
    cast = stage.cast
    stage.tokens |= {name: cast.keys[name] for name in PEOPLE}
    stage.tokens["device"] = stage.own["device_token"]
    stage.tokens["other_device"] = cast.device_key
    gone = register(cast.keys["olga"], "acme-gone")
    devices.revoke(cast.actor("olga"), Device.objects.get(public_id=gone["id"]))
    stage.tokens["revoked_device"] = gone["device_key"]
    stage.clients["anonymous"] = Client()
    for name, token in stage.tokens.items():
        stage.clients[name] = client_with(token)
    for name in PEOPLE:
        stage.clients[f"{name}_session"] = cast.browser(name)
    stage.clients["staff"] = Client()
    staff = Person.objects.create_user("staff@portal.example", PASSWORD, is_staff=True, is_superuser=True)
    stage.clients["staff"].force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    for name, client in stage.clients.items():
        if client.cookies:
            stage.sessions[name] = client.cookies["sessionid"].value
    # Their numbers are made long, so that they can be told from other digits on a page.
    for name, world, number in (("olga", stage.own, 7_100_000_001), ("rex", stage.foreign, 7_200_000_002)):
        stage.clients[f"{name}_session"].get("/account/sessions")  # notes where it comes from
        UserSession.objects.filter(session_key=stage.sessions[f"{name}_session"]).update(id=number)
        world["session"] = str(number)


def _missing_like(value: str) -> str:
    prefix, underscore, _ = value.partition("_")
    return f"{prefix}_{'0' * 20}" if underscore and len(prefix) == 3 else "0" * len(value)


__all__ = ["Stage", "build", "prepares"]
