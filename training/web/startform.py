"""The fields of the form that starts a run, made of what the strategy declares, and what was typed into them.

The strategy's parameters are called `p.<name>`, so that none of them can be taken for a field of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from federations import permissions
from federations import selectors as places
from federations.models import DeviceGroup, Federation
from federations.permissions import Actor
from fedwire import codecs
from fedwire.errors import FedportalError
from registry.models import Model, Share
from registry.selectors import find_model, find_version, models_for, versions_of
from training import checks, curve_points, selectors
from training.aggregation.staying import Staying
from training.aggregation.strategies import STRATEGIES
from training.aggregation.strategy import ASYNCHRONOUS, SYNCHRONOUS, Parameter
from training.models import Run
from training.services import best, compression, configs, local, terms, trust
from training.services.preflight import Problem
from training.services.terms import FIELDS, Terms
from training.web import protecting, shares
from training.web.field import Field
from training.web.labels import LABELS, label

PREFIX = "p."
DEFAULTS = {
    "strategy": "fedavg",
    "rounds": "20",
    "min_participants": "2",
    "round_seconds": str(configs.DEFAULT_ROUND_SECONDS),
}
MODES = ((terms.CROSS_SILO, "everybody who is there"), (terms.CROSS_DEVICE, "a sample of them"))
RULES = (
    (terms.WAIT, "wait for all until the deadline"),
    (terms.CUT, "close at once"),
    (terms.GRACE, "give the others a while"),
)
CHECKS = tuple(checks.MODES.items())
SCHEDULES = ((SYNCHRONOUS, "are waited for: synchronous rounds"), (ASYNCHRONOUS, "answer later: asynchronous rounds"))
CHOICES = {"": None, "yes": True, "no": False}
MOST_VERSIONS = 50


@dataclass(frozen=True)
class Choice:
    """A model one may train, with the federations in which one may."""

    model: Model
    federations: Sequence[Federation]


def choices(actor: Actor) -> list[Choice]:
    """What one may train: models shared with a federation in which one may start runs, and one's own. Four queries."""
    models = list(permissions.holding(actor, "model.train", models_for(actor)))
    trainable = permissions.holding(actor, "federation.train", Federation.objects.filter(dissolved_at=None))
    shares = Share.objects.filter(model__in=models, federation__in=trainable).select_related("federation")
    shared: dict[int, list[Federation]] = {}
    for share in shares.order_by("federation__name", "pk"):
        shared.setdefault(share.model_id, []).append(share.federation)
    own = actor.organization.pk if actor.organization else None
    return [
        Choice(model, shared.get(model.pk, []))
        for model in models
        if model.pk in shared or model.organization_id == own
    ]


def seen_share(actor: Actor) -> Share | None:
    """A model that the actor sees in a federation, for who may train none: the page says who may."""
    seen = Share.objects.filter(model__in=models_for(actor), federation__in=places.federations(actor))
    return seen.select_related("model__organization", "federation__organization").order_by("pk").first()


def said_in(form: QueryDict, offered: Sequence[Choice], *, sent: bool) -> dict[str, str]:
    """What the form shows: what was typed, or sane defaults; before it is `sent` also a model, if there is any."""
    first = next((choice for choice in offered if choice.federations), offered[0] if offered else None)
    said = {**DEFAULTS, **({"model": first.model.public_id} if first and not sent else {})}
    for name in form:
        text = form.get(name, "")
        if text or name not in ("model", "strategy"):
            said[name] = text
    # A name, as a link may have it, becomes the id that the choice has.
    named = next(
        (choice for choice in offered if said.get("model") in (choice.model.name, choice.model.public_id)), None
    )
    if named is None:
        return said
    said["model"] = named.model.public_id
    return said if sent else _fitting(said, named)


def _fitting(said: dict[str, str], chosen: Choice) -> dict[str, str]:
    """Without a federation or version that belongs to the model chosen before: nobody meant it for this one."""
    offered = {text for federation in chosen.federations for text in (federation.public_id, federation.name)}
    dropped = {"federation"} if said.get("federation") not in offered else set()
    if said.get("version"):
        try:
            find_version(chosen.model, said["version"])
        except FedportalError:
            dropped.add("version")
    return {name: text for name, text in said.items() if name not in dropped}


def wish(actor: Actor, said: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `runs.start`; numbers that are none stay text, which is refused with a sentence.

    Raises `not_found`, `ambiguous_name`, `version_invalid`, and `field_invalid` without a model.
    """
    if not said.get("model"):
        raise FedportalError("field_invalid", field="model", reason="choose one.")
    model = find_model(actor, said["model"])
    federation, version = said.get("federation", ""), said.get("version", "")
    config: dict[str, Any] = {
        name.removeprefix(PREFIX): number(text)
        for name, text in said.items()
        if name.startswith(PREFIX) and text.strip()
    }
    known = STRATEGIES.get(said["strategy"])
    if known is not None:  # what was typed for another strategy is not meant for this one
        names = {parameter.name for parameter in known.parameters} | set(configs.own_fields(known))
        config = {name: value for name, value in config.items() if name in names}
    if said.get("seed", "").strip():
        config["seed"] = number(said["seed"])
    if metric := said.get("best", "").strip():
        config["best"] = {"metric": metric, "greater": CHOICES.get(said.get("best_greater", ""))}
    config |= compressed(said)
    for name in ("standardise", "evaluate"):
        if (value := CHOICES.get(said.get(name, ""))) is not None:
            config[name] = value
    if said.get("preflight", "") not in ("", checks.OFF):
        config["preflight"] = said["preflight"]
    config |= shares.wish(said, number)
    config |= protecting.wish(said, number)
    return {
        "plan": {name: number(text) for name in FIELDS if (text := said.get(name, "").strip())},
        "model": model,
        "federation": places.find_federation(actor, federation) if federation else None,
        "version": find_version(model, version) if version else None,
        "strategy": said["strategy"],
        "group": said.get("group", "").strip(),
        "config": config,
        **{name: number(said.get(name, "")) for name in ("rounds", "min_participants", "round_seconds")},
    }


def compressed(said: Mapping[str, str]) -> dict[str, Any]:
    """The fields that say how updates are written. What was typed for another codec is not meant for this one."""
    codec = said.get("codec", "") or codecs.NONE
    found: dict[str, Any] = {"codec": codec} if codec != codecs.NONE else {}
    for name in ("codec_fraction", "codec_rows", "codec_columns", "most_update_bytes"):
        if said.get(name, "").strip() and codec in compression.FIELDS[name]:
            found[name] = number(said[name])
    feedback = CHOICES.get(said.get("error_feedback", ""))
    if feedback is not None and codec in compression.FIELDS["error_feedback"]:
        found["error_feedback"] = feedback
    return found


def number(text: str) -> Any:
    """What was typed as a number; the text itself if it is none."""
    text = text.strip()
    for kind in (int, float):
        try:
            return kind(text) if text.isascii() else text
        except ValueError:
            continue
    return text


def plan_fields(said: Mapping[str, str], wrong: Mapping[str, str]) -> list[Field]:
    """The fields of the round plan."""
    rows = (
        (
            "rounds",
            "Rounds",
            "How often the model goes out and comes back. Each takes as long as its slowest device.",
            1,
            configs.MOST_ROUNDS,
        ),
        (
            "min_participants",
            LABELS["min_participants"],
            "With fewer a round waits; below it at the deadline it is tried again.",
            1,
            configs.MOST_PARTICIPANTS,
        ),
        (
            "round_seconds",
            LABELS["round_seconds"],
            "Who has not answered by then is late, and the round goes on without it.",
            configs.LEAST_ROUND_SECONDS,
            configs.MOST_ROUND_SECONDS,
        ),
    )
    return [
        Field(name, title, told, said.get(name, ""), str(low), str(high), wrong=wrong.get(name, ""))
        for name, title, told, low, high in rows
    ]


def sampling_fields(said: Mapping[str, str], wrong: Mapping[str, str]) -> list[Field]:
    """The fields of whom a round asks; left empty, they follow from the rest."""
    most = str(terms.MOST_DEVICES)
    rows = (
        ("sample", "A number, or with a point a part of those that are there: 0.1 is a tenth.", "0", most, "any"),
        (
            "over_selection",
            "1.3 asks 13 devices where 10 answers are needed.",
            "1",
            f"{terms.MOST_OVER_SELECTION:g}",
            "any",
        ),
        ("quota", "At least so many devices of each take part, or the round waits.", "0", most, "1"),
        ("cap", "At most so many devices of each are asked.", "0", most, "1"),
        ("grace_seconds", "For those that are slower than enough others.", "1", str(terms.MOST_GRACE_SECONDS), "1"),
    )
    return [
        Field(name, LABELS[name], told, said.get(name, ""), low, high, step, wrong.get(name, ""))
        for name, told, low, high, step in rows
    ]


def asynchronous_fields(said: Mapping[str, str], wrong: Mapping[str, str]) -> list[Field]:
    """The fields of asynchronous rounds; left empty, they follow from the rest."""
    rows = (
        ("buffer", "Whoever answers first; left empty, the least devices a round.", "1", str(terms.MOST_DEVICES), "1"),
        (
            "most_staleness",
            f"Who began from an older one is asked anew; {terms.DEFAULT_MOST_STALENESS} unless you say otherwise.",
            "0",
            str(terms.MOST_MODELS),
            "1",
        ),
        (
            "staleness_exponent",
            f"One τ models old counts (1 + τ) to minus this; {terms.DEFAULT_EXPONENT:g} unless you say otherwise.",
            "0",
            f"{terms.MOST_EXPONENT:g}",
            "any",
        ),
    )
    return [
        Field(name, LABELS[name], told, said.get(name, ""), low, high, step, wrong.get(name, ""))
        for name, told, low, high, step in rows
    ]


def strategy_fields(strategy: str, said: Mapping[str, str], wrong: Mapping[str, str]) -> list[Field]:
    """A field for each parameter that the strategy declares, and for what stays on the devices."""
    found = STRATEGIES.get(strategy)
    if found is None:
        return []
    fields = [_field(parameter, said, wrong) for parameter in found.parameters]
    if found.trusts:
        return [_trusted(said, wrong), *fields]
    return [_staying(found.staying, said, wrong), *fields] if found.staying is not None else fields


def _trusted(said: Mapping[str, str], wrong: Mapping[str, str]) -> Field:
    name, told = PREFIX + trust.FIELD, "A member whose updates all others are compared with: its name or id."
    refused = wrong.get(f"config.{trust.FIELD}", "")
    return Field(name, LABELS[trust.FIELD], told, said.get(name, ""), wrong=refused, text=True)


def _staying(staying: Staying, said: Mapping[str, str], wrong: Mapping[str, str]) -> Field:
    name, refused = PREFIX + local.FIELD, wrong.get(f"config.{local.FIELD}", "")
    told = f"{staying.about} Left empty: {staying.default}."
    return Field(name, LABELS[local.FIELD], told, said.get(name, ""), wrong=refused, text=True)


def _field(parameter: Parameter, said: Mapping[str, str], wrong: Mapping[str, str]) -> Field:
    name = PREFIX + parameter.name
    return Field(
        name,
        label(parameter.name),
        f"{parameter.about} {parameter.allowed.capitalize()}; {parameter.default:g} unless you say otherwise.",
        said.get(name, f"{parameter.default:g}"),
        f"{parameter.low:.15g}",
        f"{parameter.high:.15g}",
        "1" if parameter.whole else "any",
        wrong.get(f"config.{parameter.name}", ""),
    )


def wrong_fields(problems: Iterable[Problem]) -> dict[str, str]:
    """Field → what is not right about it, of the errors."""
    return {problem.field: problem.sentence for problem in problems if problem.field and problem.level == "error"}


def numbers_of(model: Model | None) -> list[str]:
    """The model's versions, newest first."""
    return list(versions_of(model).values_list("version", flat=True)[:MOST_VERSIONS]) if model else []


def measured(model: Model | None) -> list[str]:
    """What devices are known to measure of the model, for whoever chooses by what the best round is found."""
    if model is None:
        return list(curve_points.RATIOS)
    kept = versions_of(model).values_list("metrics", flat=True)[:MOST_VERSIONS]
    return [*curve_points.RATIOS, *sorted({name for metrics in kept for name in metrics.get("others") or {}})]


def groups(actor: Actor) -> list[str]:
    """Labels one may know: one's own organization's, and those of runs one sees."""
    own = permissions.visible(actor, DeviceGroup.objects.all()).values_list("name", flat=True)
    used = selectors.runs_for(actor).exclude(group="").order_by().values_list("group", flat=True)
    return sorted({*own.distinct()[:100], *used.distinct()[:100]})


def _best_of(chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of a criterion; nothing for what the form says by itself."""
    if not chosen or chosen == best.DEFAULT:
        return {}
    by_name = best.criterion(chosen["metric"])["greater"]
    words = {True: "yes", False: "no"}
    return {"best": chosen["metric"], "best_greater": "" if chosen["greater"] == by_name else words[chosen["greater"]]}


def again(run: Run) -> dict[str, Any]:
    """The fields of the form as they were for this run."""
    config = run.config
    words: Mapping[Any, str] = {True: "yes", False: "no"}
    codec = config.get("codec") or {}
    fields = {
        "model": run.model.public_id,
        "federation": run.federation.public_id,
        "version": run.base_version.version,
        "strategy": run.strategy,
        "rounds": run.total_rounds,
        "min_participants": run.min_participants,
        "round_seconds": run.round_seconds,
        "group": run.group,
        **{name: value for name, value in run.plan.items() if value != getattr(Terms, name)},
        "seed": config.get("seed"),
        **_best_of(config.get("best")),
        "standardise": words.get(config.get("standardise")),
        "evaluate": words.get(config.get("evaluate")) if protecting.measures_unusually(config) else None,
        "preflight": mode if (mode := config.get("preflight")) != checks.OFF else None,
        "codec": codec.get("name"),
        "codec_fraction": codec.get("fraction"),
        "codec_rows": codec.get("rows"),
        "codec_columns": codec.get("columns"),
        "error_feedback": words.get(codec.get("feedback")),
        "most_update_bytes": config.get("most_update_bytes"),
        **shares.again(config.get("work_shares")),
        **protecting.again(config),
        PREFIX + trust.FIELD: config.get(trust.FIELD),
        PREFIX + local.FIELD: (config.get(local.FIELD) or {}).get("pattern"),
        **{PREFIX + name: value for name, value in config.get("parameters", {}).items()},
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}
