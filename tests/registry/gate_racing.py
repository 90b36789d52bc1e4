"""Limits that change while versions go out: `python -m tests.registry.gate_racing`.

Prints one JSON object; `test_gate_races` starts it in a process of its own, with the database of its choice.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

from federations.models import AuditEntry, DeviceTask  # noqa: E402
from registry import tasks  # noqa: E402
from registry.models import GateOverride, Rollout  # noqa: E402
from registry.services import gatekeeping, gates, models, rollouts  # noqa: E402
from tests.cast import Cast, assemble  # noqa: E402
from tests.federations.racing import race  # noqa: E402
from tests.registry.test_rollouts import more_devices, version  # noqa: E402

TIMES = 4
# What may come of a begun rollout: it was first, or the gate was, or one of its organization is as far already.
EXPECTED = {"ok", "gate_unjudged", "gate_failed", "field_invalid"}


def closing(cast: Cast) -> dict[str, Any]:
    """Two organizations begin and widen rollouts of a version at the moment in which its gate closes, again and again:
    whoever was first, no device is asked to install the version afterwards."""
    olga, mia = cast.actor("olga"), cast.actor("mia")
    model = models.create(olga, name="closing")
    models.share(olga, model, cast.federation)
    sent = version(model, 1)
    for organization in (cast.acme, cast.metro):
        more_devices(organization, 20)
    unforeseen: Counter[str] = Counter()
    left = closed = 0
    for turn in range(TIMES):
        gates.set_policy(olga, model)

        def act(number: int, turn: int = turn) -> None:
            if number == 0:
                gates.set_policy(olga, model, size=1 + turn)
            else:
                rollouts.deploy((olga, mia)[number % 2], sent, share=1_000 * number)

        unforeseen.update({code: count for code, count in race(act, racers=7).items() if code not in EXPECTED})
        closed += not gatekeeping.standing(sent).open
        left += DeviceTask.objects.filter(kind="install", state__in=("open", "taken"), base_blob=sent.blob).count()
        for rollout in Rollout.objects.filter(model=model, state="active"):
            rollouts.roll_back((olga, mia)[rollout.organization_id != cast.acme.pk], rollout)
    return {"unforeseen": dict(unforeseen), "closed": closed, "left": left}


def letting_through(cast: Cast) -> dict[str, Any]:
    """Ten windows judge a version at once, and ten let it through: there is one report and one override."""
    olga = cast.actor("olga")
    model = models.create(olga, name="let through")
    sent = version(model, 1)
    gates.set_policy(olga, model, size=1)
    judged = race(lambda number: tasks.check_gate(olga, sent), racers=10)
    while tasks.check_gate(olga, sent).state == "pending":
        pass
    through = race(lambda number: gates.override(olga, sent, f"window {number}"), racers=10)
    entries = AuditEntry.objects.filter(organization=cast.acme, subject=sent.public_id)
    return {
        "judged": judged,
        "through": through,
        "overrides": GateOverride.objects.filter(version=sent).count(),
        "told": sorted(entries.values_list("action", flat=True)),
    }


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    cast = assemble()
    json.dump({act.__name__: act(cast) for act in (closing, letting_through)}, sys.stdout)


if __name__ == "__main__":
    main()
