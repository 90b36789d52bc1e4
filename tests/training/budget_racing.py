"""Rounds that are opened at the same moment for one budget: `python -m tests.training.budget_racing [RUNS LEDGERS]`.

Prints one JSON object; `test_budget_races` starts it in a process of its own, with the database of its choice. With
numbers it is only the race of that many runs for that many ledgers, which `tests.bench.openings` has them run.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from federations.models import Organization, Policy  # noqa: E402
from fedportal.common import clock, ids  # noqa: E402
from fedportal.common.transactions import unit  # noqa: E402
from tests.cast import assemble  # noqa: E402
from tests.training.conftest import Stage  # noqa: E402
from tests.training.moments import at_once  # noqa: E402
from training.lifecycle import Lost  # noqa: E402
from training.models import Assignment, Ledger, Round, Run, Spending  # noqa: E402
from training.privacy import accounting, ledgers  # noqa: E402
from training.privacy.accounting import Mechanism  # noqa: E402
from training.privacy.protection import CENTRAL, DEFAULT_DELTA, Protection  # noqa: E402
from training.services import budgets, finishing, opening, runs  # noqa: E402

NOISE = 4.0
OPENINGS = 64
AFFORDABLE = (0, 1, 5, 63)
# Ledgers in the small race, and how many runs want a round of each; several ledgers are wanted at once, in any order.
RUNS, TOGETHER = 4, 20
LEDGERS = {"sqlite": 1000, "postgresql": 200}


def enough_for(rounds: int) -> float:
    """A budget for so many rounds and not for one more."""
    ends = [accounting.running_epsilon([Mechanism(NOISE, 1.0, count)], DEFAULT_DELTA) for count in (rounds, rounds + 1)]
    return sum(ends) / 2


def limit(organization: Organization, rounds: int) -> None:
    """The organization's budget is enough for so many rounds, and nothing is spent."""
    Policy.objects.update_or_create(organization=organization, defaults={"privacy_epsilon": enough_for(rounds)})
    Spending.objects.filter(organization=organization).delete()
    Ledger.objects.filter(organization=organization).delete()


def counts(organization: Organization) -> dict[str, int]:
    """What is reserved or charged of it."""
    ledger = Ledger.objects.filter(organization=organization).first()
    return dict(ledger.counts) if ledger is not None else {}


def noisy(stage: Stage, count: int) -> list[Run]:
    """Runs with noise that have not opened a round yet."""
    plain = stage.start(config={"evaluate": False})
    runs.stop(stage.olga, Run.objects.get(pk=plain.pk))
    made = []
    for _ in range(count):
        run = Run.objects.get(pk=plain.pk)
        run.pk, run.public_id, run.state, run.sequence, run.finished_at = None, ids.run_id(), "running", 0, None
        run.config["privacy"] = Protection(mechanism=CENTRAL, noise=NOISE).as_json()
        run.save(force_insert=True)
        made.append(run)
    return made


def opened_at_once(stage: Stage) -> list[Any]:
    """Sixty-four runs open their first round at the same moment; how many asked the organization, of how many it could
    pay for. Then all of them are stopped at the same moment: what nobody answered is refunded."""
    found = []
    for affordable in AFFORDABLE:
        limit(stage.cast.metro, affordable)
        wanted = noisy(stage, OPENINGS)
        errors = at_once(*[lambda run=run: opening.advance(run.pk) for run in wanted])  # type: ignore[misc]
        asked = Assignment.objects.filter(round__run__in=wanted, organization=stage.cast.metro).count()
        spent = counts(stage.cast.metro)
        errors += at_once(*[lambda run=run: stop(run) for run in wanted])  # type: ignore[misc]
        states = Spending.objects.filter(organization=stage.cast.metro).values_list("state", flat=True)
        left = counts(stage.cast.metro)
        found.append([errors, affordable, asked, spent, dict(Counter(states)), left])
    return found


def stop(run: Run) -> None:
    """Call off what is open and end the run."""
    for _ in range(10):
        try:
            with unit():
                finishing.fail(run, "over")
            return
        except Lost:
            continue


def many_ledgers(stage: Stage, runs_: int = RUNS, count: int = 0) -> list[Any]:
    """Every run wants a round of every organization, many at once and in an order of its own."""
    count = count or LEDGERS[connection.vendor]
    draw = random.Random(7)
    owners = Organization.objects.bulk_create(Organization(name=f"hospital {number}") for number in range(count))
    affords = {owner.pk: draw.randrange(runs_ + 1) for owner in owners}
    caps = {rounds: enough_for(rounds) for rounds in range(runs_ + 1)}
    Policy.objects.bulk_create(Policy(organization_id=pk, privacy_epsilon=caps[n]) for pk, n in affords.items())
    rounds = [
        Round.objects.create(
            organization=run.organization, run=run, number=1, base_blob="", opened_at=clock.now(), deadline=clock.now()
        )
        for run in noisy(stage, runs_)
    ]

    def reserve(opened: Round) -> None:
        mine = random.Random(opened.pk)
        order = mine.sample(list(affords), count)
        for first in range(0, count, TOGETHER):
            with unit():
                budgets.reserve(opened.run, opened, order[first : first + TOGETHER])

    errors = at_once(*[lambda opened=opened: reserve(opened) for opened in rounds])  # type: ignore[misc]
    got = Counter(Spending.objects.filter(round__in=rounds).values_list("organization_id", flat=True))
    sums = {row.organization_id: sum(row.counts.values()) for row in Ledger.objects.filter(organization__in=owners)}
    beyond = [
        row.organization_id
        for row in Ledger.objects.filter(organization__in=owners)
        if row.counts and ledgers.spent(row.counts, DEFAULT_DELTA) > caps[affords[row.organization_id]]
    ]
    wrong = [pk for pk, rounds_ in affords.items() if not got[pk] == sums.get(pk, 0) == rounds_]
    return [errors, count, wrong, beyond]


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    stage = Stage(assemble())
    stage.site(stage.cast.metro, "metro-1")
    if numbers := [int(word) for word in sys.argv[1:]]:
        json.dump(many_ledgers(stage, *numbers), sys.stdout)
        return
    json.dump({act.__name__: act(stage) for act in (opened_at_once, many_ledgers)}, sys.stdout)


if __name__ == "__main__":
    main()
