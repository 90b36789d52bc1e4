"""Many threads at the same moment, against a real database file or server: `python -m tests.federations.racing`.

Prints one JSON object; `test_races` starts it in a process of its own, with the database of its choice.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import django
import numpy as np

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from safetensors.numpy import save  # noqa: E402

from federations.models import ApiKey, AuditEntry, Device, Invitation, Letter, Member, Membership, News, Role  # noqa: E402
from federations.permissions import Actor  # noqa: E402
from federations.services import (  # noqa: E402
    audit,
    federations,
    invitations,
    notifications,
    organizations,
    people,
    spreading,
    throttle,
)
from fedportal.common import blobs  # noqa: E402
from fedportal.common.transactions import unit  # noqa: E402
from fedwire.errors import FedportalError  # noqa: E402
from registry.models import ModelVersion, StagedUpload  # noqa: E402
from registry.services import models, versions  # noqa: E402
from tests.cast import PASSWORD, Cast, assemble, register  # noqa: E402
from tests.federations.overtaking import OVERTAKINGS  # noqa: E402

RACERS = 50


def race(act: Callable[[int], object], racers: int = RACERS) -> dict[str, int]:
    """How often `act(number)` went well ("ok") or ended with which code, all started at once."""
    outcomes: Counter[str] = Counter()
    start = threading.Barrier(racers)

    def run(number: int) -> None:
        start.wait()
        try:
            act(number)
            outcome = "ok"
        except FedportalError as error:
            outcome = error.code
        except Exception as error:  # what nobody foresaw is what this test is for
            outcome = f"{type(error).__name__}: {error}"[:200]
        finally:
            connection.close()
        outcomes[outcome] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(outcomes)


def accept(cast: Cast) -> dict[str, Any]:
    """One letter, fifty accepts, each founding an organization of its own."""
    gina = people.sign_up("gina@guest.example", PASSWORD)
    token = federations.invite(cast.actor("olga"), cast.federation, emails=[gina.email]).letters[0].link.split("/")[-1]
    outcomes = race(lambda number: invitations.accept(token, person=gina, new_organization_name=f"guest {number}"))
    members = Member.objects.filter(federation=cast.federation, organization__name__startswith="guest").count()
    return {"outcomes": outcomes, "members": members, "memberships": Membership.objects.filter(person=gina).count()}


def invite(cast: Cast) -> dict[str, Any]:
    """Twenty windows invite one address to a federation, and twenty into the organization."""
    olga, address = cast.actor("olga"), "wanted@guest.example"
    letters = Invitation.objects.filter(email=address, state="pending")
    return {
        "federation": race(lambda number: federations.invite(olga, cast.federation, emails=[address]), racers=20),
        "organization": race(
            lambda number: invitations.invite_colleague(olga, cast.acme, email=address, role=Role.VIEWER), racers=20
        ),
        "letters": sorted(letters.values_list("kind", flat=True)),
    }


def join(cast: Cast) -> dict[str, Any]:
    """An invited organization joins from fifty windows, while its owner is not asked again."""
    vera = cast.actor("vera")
    outcomes = race(lambda number: federations.join(vera, cast.federation))
    entries = AuditEntry.objects.filter(action="federation.joined", organization=cast.valley).count()
    return {"outcomes": outcomes, "entries": entries}


def same_device(cast: Cast) -> dict[str, Any]:
    """One new device registers from fifty connections with its own key pair."""
    private = Ed25519PrivateKey.generate()
    outcomes = race(lambda number: register(cast.keys["olga"], "scanner", private))
    return {"outcomes": outcomes, "devices": Device.objects.filter(identifier="scanner").count()}


def taken_device(cast: Cast) -> dict[str, Any]:
    """Fifty key pairs want one identifier."""
    outcomes = race(lambda number: register(cast.keys["olga"], "wanted"))
    return {"outcomes": outcomes, "devices": Device.objects.filter(identifier="wanted").count()}


def limited_key(cast: Cast) -> dict[str, Any]:
    """A key for five devices meets fifty."""
    token = cast.key_for(cast.olga, cast.acme, ["devices:enroll"], device_limit=5)
    outcomes = race(lambda number: register(token, f"limited-{number}"))
    return {"outcomes": outcomes, "devices": Device.objects.filter(identifier__startswith="limited-").count()}


def last_owner(cast: Cast) -> dict[str, Any]:
    """Two owners go at the same moment."""
    second = people.sign_up("second@rival.example", PASSWORD)
    with unit():
        organizations.enter(cast.rival, second, Role.OWNER)
    memberships = list(Membership.objects.filter(organization=cast.rival).select_related("organization", "person"))
    actors = [cast.actor("rex"), type(cast.actor("rex"))(second, cast.rival)]
    outcomes = race(lambda number: organizations.remove(actors[number], memberships[number]), racers=2)
    return {"outcomes": outcomes, "owners": Membership.objects.filter(organization=cast.rival, role="owner").count()}


def passwords(cast: Cast) -> dict[str, Any]:
    """Twenty people with keys in the same two organizations, made in either order, change their passwords."""
    actors = []
    for number in range(20):
        person = people.sign_up(f"changing-{number}@acme.example", PASSWORD)
        for organization in [cast.acme, cast.metro][:: 1 if number % 2 else -1]:
            cast.key_for(person, organization, ["*"])
        actors.append(Actor(person, cast.acme))
    fresh = "an even longer password"
    outcomes = race(
        lambda number: people.change_password(actors[number], PASSWORD, fresh, f"192.0.2.{number}"), racers=20
    )
    ended = ApiKey.objects.filter(person__email__startswith="changing-").exclude(revoked_at=None).count()
    return {"outcomes": outcomes, "ended": ended}


def tries(cast: Cast) -> dict[str, Any]:
    """Fifty guesses in the same second from one address."""
    return {"outcomes": race(lambda number: throttle.count("race", "192.0.2.1", 20, 60))}


def appending(cast: Cast) -> dict[str, Any]:
    """Fifty acts in one organization's log."""

    def act(number: int) -> None:
        with unit():
            audit.record(cast.acme, cast.olga, "test.raced", "", number=number)

    outcomes = race(act)
    return {"outcomes": outcomes, "breaks": [str(found) for found in audit.verify_all()]}


def spread(cast: Cast) -> dict[str, Any]:
    """Ten workers at once spread forty news of one organization."""
    Letter.objects.all().delete()
    News.objects.all().delete()
    for number in range(40):
        with unit():
            notifications.tell(cast.acme, "run.finished", sentence=f"Run {number} ended.", address="/")
    outcomes = race(lambda number: spreading.spread_due(), racers=10)
    told = Letter.objects.filter(to=cast.olga.email).values_list("news", flat=True)
    waiting = News.objects.filter(spread_at=None).count()
    return {"outcomes": outcomes, "told": [news["count"] for news in told], "waiting": waiting}


def push(cast: Cast) -> dict[str, Any]:
    """One upload is pushed from ten windows, each of which read it before any pushed it."""
    olga = cast.actor("olga")
    model = models.create(olga, name="pushed at once")
    content = save({"w": np.ones(3, np.float32)})
    upload = versions.begin_upload(olga, model, len(content), hashlib.sha256(content).hexdigest())
    blobs.staging(upload.public_id).write_bytes(content)
    StagedUpload.objects.filter(pk=upload.pk).update(complete=True)
    read = [StagedUpload.objects.get(pk=upload.pk) for _ in range(10)]
    given: list[str] = []
    outcomes = race(lambda number: given.append(versions.push(olga, model, read[number]).version), racers=len(read))
    there = list(ModelVersion.objects.filter(model=model).values_list("version", flat=True))
    return {"outcomes": outcomes, "given": sorted(set(given)), "there": there}


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    cast = assemble()
    found: dict[str, Any] = {act.__name__: act(cast) for act in RACES}
    found.update({act.__name__: act(cast) for act in OVERTAKINGS})
    found["pending"] = Invitation.objects.filter(state="pending").count()
    json.dump(found, sys.stdout)


RACES = (
    accept,
    invite,
    join,
    same_device,
    taken_device,
    limited_key,
    last_owner,
    passwords,
    tries,
    appending,
    spread,
    push,
)

if __name__ == "__main__":
    main()
