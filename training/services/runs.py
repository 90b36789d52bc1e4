"""What the owner does with a run: start, pause, resume, stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federations import permissions
from federations.models import Federation, Organization, Person
from federations.permissions import Actor
from federations.services import audit, members, names
from fedportal.common import clock
from fedportal.common.jobs import ring
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import MemberState, RoundState, RunState
from registry.models import Model, ModelVersion, Share
from registry.services import versions
from training import lifecycle, progress, tasks
from training.aggregation import strategies
from training.lifecycle import Lost
from training.models import Run
from training.services import configs, finishing, notices, opening, protections, trust
from training.services.terms import Terms

WHAT = "The run"


def start(
    actor: Actor,
    model: Model,
    *,
    federation: Federation | None = None,
    rounds: int,
    strategy: str = "fedavg",
    group: str | None = "",
    min_participants: int = 1,
    round_seconds: int = configs.DEFAULT_ROUND_SECONDS,
    config: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    version: ModelVersion | None = None,
    name: str = "",
) -> Run:
    """Start training `model` in `federation` (left out: the only one it is shared with) from `version` (the latest).

    `plan` holds fields of `terms.Terms`: whom a round asks and when it closes; without them it asks everybody. The
    first round is open when this returns; with too few devices it waits and says for whom. `name`: what the run is
    called beside its model. Raises `forbidden`, `not_shared`, `ambiguous_name`, `wrong_state`, `strategy_unknown`,
    `strategy_parameter`, `strategy_schedule`, `field_invalid`, `tensor_dtype`, `invalid_name`.
    """
    permissions.require(actor, "model.train", model)
    federation = federation_of(actor, model, federation)
    permissions.require(actor, "federation.train", federation)
    base = version or versions.latest(model)
    if base is None:
        raise without_version(model)
    configs.check_trainable(base)
    organization = actor.organization
    assert organization is not None  # `federation.train` is granted to organizations only
    run = Run(
        name=names.checked_title(name) if name else "",
        organization=organization,
        federation=federation,
        model=model,
        base_version=base,
        strategy=strategy,
        config=configs.checked(strategy, config or {}, base),
        group=configs.group(group),
        total_rounds=configs.whole("rounds", rounds, 1, configs.MOST_ROUNDS),
        min_participants=configs.whole("min_participants", min_participants, 1, configs.MOST_PARTICIPANTS),
        round_seconds=configs.whole(
            "round_seconds", round_seconds, configs.LEAST_ROUND_SECONDS, configs.MOST_ROUND_SECONDS
        ),
        started_by=actor.person,
    )
    configs.check_least(strategy, run.config["parameters"], run.min_participants)
    run.plan = configs.plan_of(strategy, run.config["parameters"], plan or {}, run.min_participants).as_json()
    terms = Terms.of(run.plan)
    protections.check_rounds(strategies.find(strategy), run.config, terms, run.min_participants)
    run.config[trust.FIELD] = trust.settled(strategy, run.config[trust.FIELD], federation, terms)
    _begin(actor, run)
    opening.advance(run.pk)
    run.refresh_from_db()
    return run


def without_version(model: Model) -> FedportalError:
    """Why a model that has no weights yet cannot be trained."""
    hint = "Push one with `fedportal push`."
    return FedportalError("wrong_state", what=f"The model {model.name}", state="without a version", hint=hint)


def federation_of(actor: Actor, model: Model, federation: Federation | None) -> Federation:
    """The federation to train in: a living one with which the model is shared.

    Raises `not_shared`, `ambiguous_name`.
    """
    shares = Share.objects.filter(model=model, federation__dissolved_at__isnull=True)
    if federation is not None:
        if not shares.filter(federation=federation).exists():
            raise FedportalError("not_shared", model=model.name)
        return federation
    shared = Federation.objects.filter(pk__in=shares.values("federation_id")).select_related("organization")
    seen = list(permissions.visible(actor, shared).order_by("pk"))
    able = set(permissions.holding(actor, "federation.train", shared).values_list("pk", flat=True))
    allowed = [found for found in seen if found.pk in able]
    if not seen:
        raise FedportalError("not_shared", model=model.name)
    if len(allowed) > 1:
        choices = ", ".join(f"{found.public_id} ({found.name})" for found in allowed)
        raise FedportalError("ambiguous_name", name=model.name, choices=choices)
    # With none allowed the caller asks for the right to train in the first, and the refusal says who has it.
    return (allowed or seen)[0]


def pause(actor: Actor, run: Run) -> Run:
    """Let the open round finish and open no further one. Raises `forbidden`, `wrong_state`."""
    return _move(actor, run, RunState.PAUSED, "Only a running run can be paused.")


def resume(actor: Actor, run: Run) -> Run:
    """Go on where the run was paused. Raises `forbidden`, `wrong_state`."""
    permissions.require(actor, "run.control", run)
    if run.state == RunState.PENDING:
        raise FedportalError("wrong_state", what=WHAT, state=str(run.state), hint="It is about to start by itself.")
    moved = _move(actor, run, RunState.RUNNING, "Only a paused run can be resumed.")
    if (complete := opening.advance(run.pk)) is not None:
        ring(tasks.settle_round, complete)
    moved.refresh_from_db()
    return moved


def stop(actor: Actor, run: Run) -> Run:
    """End the run now: what is going on is called off, its last model stays among its rounds, no version is published.

    Raises `forbidden`, `wrong_state`.
    """
    permissions.require(actor, "run.control", run)
    # Every member reads the reason; whose hand it was stands in the log of the organization.
    return _stop(run, actor, str(actor.organization))


def stop_by_staff(by: Person, run: Run) -> Run:
    """The same by the portal's operator. Raises `wrong_state`."""
    return _stop(run, by, "the operator of the portal")


def in_federation(federation: Federation) -> list[Run]:
    """Every run in the federation; their grants follow its members."""
    return list(Run.objects.filter(federation=federation).select_related("federation"))


def relation(run: Run, organization: Organization) -> str | None:
    """What the run is to the organization in the words of `federations.roles`; None for a stranger."""
    if organization.pk == run.federation.organization_id:
        return "owner"
    places = run.federation.members.filter(organization=organization)
    if places.values_list("state", flat=True).first() != MemberState.ACTIVE:
        return None
    return "starter" if organization.pk == run.organization_id else "member"


def _begin(actor: Actor, run: Run) -> None:
    with unit():
        members.lock(run.federation)
        # Asked again: who was sent away, and what was taken out, since the first question starts nothing.
        permissions.require(actor, "federation.train", run.federation)
        permissions.require(actor, "model.train", run.model)
        federation_of(actor, run.model, run.federation)
        run.save(force_insert=True)
        active = Organization.objects.filter(
            federation_members__federation=run.federation, federation_members__state=MemberState.ACTIVE
        )
        for organization in active:
            permissions.settle(run, organization, relation(run, organization))
        now = clock.now()
        lifecycle.move_one(Run.objects.filter(pk=run.pk), RunState.RUNNING, started_at=now)
        audit.record(
            run.organization,
            actor,
            "run.started",
            run.public_id,
            model=run.model.public_id,
            federation=run.federation.public_id,
            version=run.base_version.public_id,
            strategy=run.strategy,
            rounds=run.total_rounds,
            min_participants=run.min_participants,
            group=run.group,
            plan=run.plan,
        )
        notices.started(run)
        progress.tell(run, "run.started", {"started_at": now.isoformat()})


def _move(actor: Actor, run: Run, to: RunState, hint: str) -> Run:
    permissions.require(actor, "run.control", run)
    with unit():
        before = _state(run)
        lifecycle.require(WHAT, before, to, hint)
        lifecycle.move_one(Run.objects.filter(pk=run.pk, state=before), to)
        word, by = "paused" if to == RunState.PAUSED else "resumed", actor.organization
        audit.record(run.organization, actor, f"run.{word}", run.public_id)
        progress.tell(run, f"run.{word}", {"by": {"id": by.public_id, "name": by.name}} if by else {})
    run.refresh_from_db()
    return run


def _stop(run: Run, by: Actor | Person, name: str) -> Run:
    def stop() -> None:
        lifecycle.require(WHAT, _state(run), RunState.STOPPED, "There is nothing left to stop.")
        finishing.call_off_rounds(run, "the run was stopped")
        reason, now = _stop_reason(run, name), clock.now()
        lifecycle.move_one(Run.objects.filter(pk=run.pk), RunState.STOPPED, reason=reason, finished_at=now)
        audit.record(run.organization, by, "run.stopped", run.public_id)
        notices.finished(run, RunState.STOPPED, reason=reason)
        progress.tell(run, "run.stopped", {"reason": reason, "finished_at": now.isoformat()})

    try:
        lifecycle.persist(stop)
    except Lost:
        raise FedportalError("conflict") from None
    run.refresh_from_db()
    return run


def _stop_reason(run: Run, name: str) -> str:
    trained = run.rounds.filter(state=RoundState.DONE, number__gte=1, number__lte=run.total_rounds)
    last = trained.order_by("-number").values_list("number", flat=True).first()
    if last is None:
        return f"Stopped by {name} before a round was closed; no version was published."
    return f"Stopped by {name}; the model of round {last} is kept with the run, no version was published."


def _state(run: Run) -> str:
    return Run.objects.values_list("state", flat=True).get(pk=run.pk)
