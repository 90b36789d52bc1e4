"""Plans of inference to which things happen at the same moment: `python -m tests.training.inference_racing`.

Prints one JSON object; `test_inference_races` starts it in a process of its own, with the database of its choice.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

from federations.services import device_tasks  # noqa: E402
from fedportal.common import clock  # noqa: E402
from fedwire.errors import FedportalError  # noqa: E402
from fedwire.states import AskedState  # noqa: E402
from tests.cast import assemble  # noqa: E402
from tests.training.conftest import Stage  # noqa: E402
from tests.training.moments import at_once  # noqa: E402
from training.models import InferencePart, InferencePlan, Ledger, Spending  # noqa: E402
from training.services import answering, consents, inference  # noqa: E402

NOISE = 2.0
CLOSED = ("task_closed", "wrong_state", "inference_invalid")
PLANS, MANY = 6, 1000
BOUNDS: dict[str, Any] = {"least_devices": 2, "least_organizations": 2}
WHO = ("olga", "mia", "vera")


class World:
    """Three hospitals that consented, with one device each."""

    def __init__(self) -> None:
        self.stage = Stage(assemble())
        cast = self.stage.cast
        self.stage.valley_joins()
        cast.device.delete()
        self.sites = [self.stage.site(org, f"{org.name}-1") for org in (cast.acme, cast.metro, cast.valley)]
        for who in WHO:
            consents.give(cast.actor(who), cast.federation, plans_a_month=MANY)

    def plan(self, **more: Any) -> InferencePlan:
        said = {"summary": "counts", "noise": NOISE}
        return inference.plan(
            self.stage.olga, self.stage.cast.federation, self.stage.model, said=said, **BOUNDS, **more
        )

    def answers(self, plan: InferencePlan, cells: tuple[int, int] = (20, 20)) -> list[Any]:
        """For each device, its answer to the plan as something to be done; one that comes too late is no error."""
        body = json.dumps({"samples": 0, "inference": cells}).encode()
        parts = InferencePart.objects.filter(plan=plan).select_related("task").order_by("pk")
        pairs = [(part.device_id, part.task.public_id) for part in parts if part.task is not None]
        return [lambda pair=pair: passing(lambda: device_tasks.answer(*pair, body)) for pair in pairs]

    def end(self, plan: InferencePlan) -> list[Any]:
        """State, how many were added up, parts that still hold cells, what became of the costs, and what is counted."""
        answering.settle(plan.pk)
        found = InferencePlan.objects.get(pk=plan.pk)
        held = InferencePart.objects.filter(plan=plan).exclude(cells=None).count()
        states = sorted(Spending.objects.filter(plan=plan).values_list("state", flat=True))
        paid = [sum(ledger.counts.values()) for ledger in Ledger.objects.order_by("pk")]
        Spending.objects.all().delete()
        Ledger.objects.all().delete()
        return [found.state, (found.result or {}).get("rows"), held, states, sum(paid)]


def passing(act: Any) -> None:
    try:
        act()
    except FedportalError as error:
        if error.code not in CLOSED:
            raise


def answered_at_once(world: World) -> list[Any]:
    """All answer at the same moment, each of them twice, while the sweeper looks."""
    plan = world.plan()
    answers = world.answers(plan)
    errors = at_once(*answers, *answers, lambda: answering.settle(plan.pk), lambda: answering.settle(plan.pk))
    return [errors, world.end(plan)]


def cancelled_meanwhile(world: World) -> list[Any]:
    """All answer while the plan is cancelled, over and over."""
    found = []
    for _ in range(PLANS):
        plan = world.plan()
        cancel = [lambda plan=plan: passing(lambda: inference.cancel(world.stage.olga, plan))]
        errors = at_once(*world.answers(plan), *cancel)
        found.append([errors, world.end(plan)])
    return found


def refused_meanwhile(world: World) -> list[Any]:
    """What no device can have counted comes while the plan is cancelled: whoever's was seen pays, however it fell."""
    found = []
    for _ in range(PLANS):
        plan = world.plan()
        cancel = [lambda plan=plan: passing(lambda: inference.cancel(world.stage.olga, plan))]
        errors = at_once(*world.answers(plan, (-900, 900)), *cancel)
        seen = InferencePart.objects.filter(plan=plan, seen=True).count()
        found.append([errors, seen, world.end(plan)])
    return found


def withdrawn_meanwhile(world: World) -> list[Any]:
    """All answer, and the time is over, while an organization takes its consent back."""
    found = []
    vera = world.stage.cast.actor("vera")
    for _ in range(PLANS):
        consents.give(vera, world.stage.cast.federation, plans_a_month=MANY)
        plan = world.plan()
        answers = world.answers(plan)
        InferencePlan.objects.filter(pk=plan.pk).update(deadline=clock.now())
        errors = at_once(
            *answers,
            lambda: inference.withdraw_consent(vera, world.stage.cast.federation),
            lambda plan=plan: answering.settle(plan.pk),  # type: ignore[misc]
        )
        found.append([errors, world.end(plan)])
    consents.give(vera, world.stage.cast.federation, plans_a_month=MANY)
    return found


def ended_at_once(world: World) -> list[Any]:
    """Two plans without noise, whose devices differ by two where three would have to, are over at the same moment."""
    found, cast = [], world.stage.cast
    extra = world.stage.site(cast.acme, "acme-2")
    bounds = {"least_devices": 3, "least_organizations": 2}
    for _ in range(PLANS):
        pair = [
            inference.plan(world.stage.olga, cast.federation, world.stage.model, said={"summary": "counts"}, **bounds)
            for _ in range(2)
        ]
        for plan, silent in zip(pair, (extra, world.sites[0]), strict=True):
            parts = InferencePart.objects.filter(plan=plan)
            parts.exclude(device=silent.device).update(state=AskedState.ANSWERED, cells=[20, 20], seen=True)
        pks = [plan.pk for plan in pair]
        InferencePlan.objects.filter(pk__in=pks).update(deadline=clock.now())
        errors = at_once(*(lambda pk=pk: answering.settle(pk) for pk in pks))  # type: ignore[misc]
        states = InferencePlan.objects.filter(pk__in=pks).order_by("state").values_list("state", flat=True)
        found.append([errors, *states])
        InferencePlan.objects.filter(pk__in=pks).delete()  # the next two are compared with each other only
    return found


def started_at_once(world: World) -> list[Any]:
    """One plan is started by eight at the same moment; it asks each device once."""
    plan = world.plan(begin=False)
    starts = [lambda: passing(lambda: inference.start(world.stage.olga, InferencePlan.objects.get(pk=plan.pk)))] * 8
    errors = at_once(*starts)
    return [errors, InferencePart.objects.filter(plan=plan).count(), Spending.objects.filter(plan=plan).count()]


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    world = World()
    acts = (
        answered_at_once,
        cancelled_meanwhile,
        refused_meanwhile,
        withdrawn_meanwhile,
        started_at_once,
        ended_at_once,
    )
    json.dump({act.__name__: act(world) for act in acts}, sys.stdout)


if __name__ == "__main__":
    main()
