"""Whatever happens in whatever order, ledgers say what a plain count over rounds and answers says.

The reference knows nothing of reservations: it looks at rounds, parts and updates, and adds up every round by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from federations.models import Organization, Policy
from tests.training.conftest import Stage, rewind
from tests.training.test_budgets import NOISE, enough_for, limit, noisy
from training.lifecycle import ALIVE_ROUNDS
from training.models import Assignment, Ledger, Round, Run, Spending, Update
from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA
from training.services import healing, opening, runs

STEPS = 40


class Reference:
    """What each organization should have reserved and paid, from the rounds themselves."""

    def __init__(self, stage: Stage) -> None:
        self.owners = [stage.cast.acme, stage.cast.metro]
        self.rounds = 0

    def state(self, found: Round, owner: Organization) -> str | None:
        """How the round should stand with the organization; None where it was not asked."""
        parts = Assignment.objects.filter(round=found, organization=owner)
        if not parts.exists():
            return None
        if found.state in ALIVE_ROUNDS:
            return "reserved"
        return "charged" if Update.objects.filter(round=found, organization=owner).exists() else "refunded"

    def check(self) -> None:
        """Every row and every sum is as it should be, and no sum is beyond a cap that never fell."""
        noisy_rounds = [one for one in Round.objects.select_related("run") if one.run.config.get("privacy")]
        for owner in self.owners:
            expected = {one.pk: state for one in noisy_rounds if (state := self.state(one, owner))}
            rows = Spending.objects.filter(organization=owner)
            assert dict(rows.values_list("round_id", "state")) == expected
            kept = [Mechanism(NOISE) for state in expected.values() if state != "refunded"]
            ledger = Ledger.objects.filter(organization=owner).first()
            counts = ledger.counts if ledger is not None else {}
            naive = accounting.running_epsilon(kept, DEFAULT_DELTA)
            assert ledgers.spent(counts, DEFAULT_DELTA) == pytest.approx(naive)
            cap = Policy.objects.filter(organization=owner).values_list("privacy_epsilon", flat=True).first()
            assert cap is None or naive <= cap
        self.rounds = max(self.rounds, len(noisy_rounds))


class Course:
    """What may happen, each time to somebody who is drawn."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.draw, self.sites = stage, random.Random(seed), stage.three()
        for owner in (stage.cast.acme, stage.cast.metro):
            limit(owner, enough_for(self.draw.randrange(1, 6)))
        self.runs = [noisy(stage, rounds=4)]

    def step(self) -> None:
        """One of them happens."""
        self.draw.choice(ACTS)(self)

    def answer(self) -> None:
        site = self.draw.choice(self.sites)
        site.seen()
        for task in site.tasks()[:1]:
            site.answer(task)

    def everybody(self) -> None:
        for site in self.sites:
            site.seen()
            for task in site.tasks():
                site.answer(task)

    def decline(self) -> None:
        site = self.draw.choice(self.sites)
        if len(site.tasks()) == 1:
            site.decline()

    def vanish(self) -> None:
        self.draw.choice(self.sites).vanish()

    def arrive(self) -> None:
        self.draw.choice(self.sites).arrive()

    def deadline(self) -> None:
        rewind(self.draw.choice(self.runs))
        healing.sweep()

    def raised(self) -> None:
        owner = self.draw.choice([self.stage.cast.acme, self.stage.cast.metro])
        now = Policy.objects.get(organization=owner).privacy_epsilon or 0
        limit(owner, now + enough_for(self.draw.randrange(1, 3)))

    def stop(self) -> None:
        run = Run.objects.get(pk=self.draw.choice(self.runs).pk)
        if run.state == "running":
            runs.stop(self.stage.olga, run)

    def begin(self) -> None:
        if Run.objects.filter(state="running").count() < 3:
            rounds, least = self.draw.randrange(1, 6), self.draw.randrange(1, 3)
            self.runs.append(noisy(self.stage, rounds=rounds, min_participants=least))

    def look(self) -> None:
        opening.advance(self.draw.choice(self.runs).pk)


ACTS: list[Callable[[Course], None]] = [
    *(Course.answer, Course.answer, Course.everybody, Course.everybody, Course.decline, Course.vanish),
    *(Course.arrive, Course.arrive, Course.deadline, Course.raised, Course.stop, Course.begin, Course.look),
]


@pytest.mark.parametrize("seed", range(5))
def test_ledgers_say_what_rounds_and_answers_say(stage: Stage, seed: int) -> None:
    course, reference = Course(stage, seed), Reference(stage)
    for _ in range(STEPS):
        course.step()
        reference.check()
    assert reference.rounds > 1
    for run in Run.objects.filter(state="running"):
        runs.stop(stage.olga, run)
    reference.check()
    assert not Spending.objects.filter(state="reserved").exists()
