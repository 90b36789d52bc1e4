"""What may be chosen when a run is started, checked, with sane defaults for the rest."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np

from fedportal.common import blobs
from fedwire import codecs, effort
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, decode_model
from registry.models import ModelVersion
from training import checks
from training.aggregation import strategies
from training.aggregation.strategy import ASYNCHRONOUS, Strategy, Values
from training.privacy.conflicts import Setup
from training.privacy.protection import OPEN, Protection
from training.services import best, compression, local, protections, schedules, terms, trust
from training.services.cohorts import SEED_BITS
from training.services.terms import Terms

MOST_ROUNDS = 10_000
MOST_PARTICIPANTS = 100_000
LEAST_ROUND_SECONDS, MOST_ROUND_SECONDS = 1, 7 * 24 * 3600
DEFAULT_ROUND_SECONDS = 600
GROUP_LENGTH = 60
MOST_SHARES = 50
# Names that clients of the common vocabulary use for the same thing.
ALIASES: Mapping[str, str] = {"local_epochs": "epochs", "lr": "learning_rate"}
# What is said of a run beside its configuration and the terms of its rounds.
LIMITS = ("rounds", "min_participants", "round_seconds", "group")
CLOSE = 0.75  # how like another name is that may have been meant, from 0 to 1
_RUN_FIELDS = (
    *("seed", "standardise", "evaluate", "best", "preflight", "work_shares", protections.FIELD),
    *compression.FIELDS,
)


def checked(strategy: str, given: Mapping[str, Any], version: ModelVersion) -> dict[str, Any]:
    """The configuration of a run as stored: seed, standardise, evaluate, best, codec, most_update_bytes, local,
    privacy (None: none), parameters.

    What is not a field of the run is a parameter of the strategy. Raises `strategy_unknown`, `strategy_parameter`,
    `field_invalid`, `codec_too_large`.
    """
    found = strategies.find(strategy)
    values = {ALIASES.get(name, name): value for name, value in given.items() if value is not None}
    parameters = {name: value for name, value in values.items() if name not in run_fields(found)}
    for name in parameters:
        _check_name(found, name)
    compression.check_strategy(values, found)
    local.check_norms(found, version)
    seed = _seed(values.get("seed"))
    stays = local.chosen(found, values.get(local.FIELD), version)
    protection = protections.checked(values.get(protections.FIELD))
    local.check_rows(version, protection)
    settled = {
        "seed": seed,
        "local": stays,
        "trusted": trust.said(found, values.get(trust.FIELD)),
        "codec": compression.plan(values, local.travelling(version, stays), seed, found),
        "most_update_bytes": compression.cap(values),
        "standardise": _standardise(values.get("standardise"), version, protection),
        # What devices measure leaves them as it is: no ε covers it.
        "evaluate": truth("config.evaluate", values.get("evaluate", not protection.spends)),
        "best": best.criterion(values.get("best")),
        "preflight": _preflight(values.get("preflight")),
        "work_shares": work_shares(values.get("work_shares")),
        protections.FIELD: protections.stored(protection),
        "parameters": found.checked(parameters),
    }
    protections.check(protections.setup_of(found, settled, protection))
    return settled


def run_fields(strategy: Strategy) -> tuple[str, ...]:
    """The names that are no parameters of this strategy but settings of a run."""
    return (*_RUN_FIELDS, *own_fields(strategy))


def own_fields(strategy: Strategy) -> tuple[str, ...]:
    """Those of them that this strategy brings along."""
    fields = ((local.FIELD, strategy.staying is not None), (trust.FIELD, strategy.trusts))
    return tuple(name for name, has in fields if has)


def complaints(
    strategy: str, given: Mapping[str, Any], version: ModelVersion | None, plan: Mapping[str, Any]
) -> list[FedportalError]:
    """Everything that `checked`, and the limits of a run, refuse; not only the first.

    `plan` holds `rounds`, `min_participants`, `round_seconds`, `group` and, under `plan`, the terms of its rounds.
    Without a version what depends on it is left out.
    """
    values = {ALIASES.get(name, name): value for name, value in given.items() if value is not None}
    checks: list[Callable[[], Any]] = [
        lambda: whole("rounds", plan["rounds"], 1, MOST_ROUNDS),
        lambda: whole("min_participants", plan["min_participants"], 1, MOST_PARTICIPANTS),
        lambda: whole("round_seconds", plan["round_seconds"], LEAST_ROUND_SECONDS, MOST_ROUND_SECONDS),
        lambda: group(plan["group"]),
        lambda: strategies.find(strategy),
        lambda: _seed(values.get("seed")),
        lambda: truth("config.evaluate", values.get("evaluate", True)),
        lambda: best.criterion(values.get("best")),
        lambda: _preflight(values.get("preflight")),
        lambda: work_shares(values.get("work_shares")),
    ]
    if version is not None:
        known = strategies.STRATEGIES.get(strategy)
        checks.append(lambda: compression.plan(values, _travels(strategy, values, version), 0, known))
        checks += [lambda: check_trainable(version), lambda: _standardise(values.get("standardise"), version)]
    if strategy in strategies.STRATEGIES:
        found = strategies.find(strategy)
        parameters = {name: value for name, value in values.items() if name not in run_fields(found)}
        checks.append(lambda: compression.check_strategy(values, found))
        if version is not None:
            checks.append(lambda: local.chosen(found, values.get(local.FIELD), version))
            checks.append(lambda: local.check_norms(found, version))
            checks.append(lambda: local.check_rows(version, protections.checked(values.get(protections.FIELD))))
        checks += [partial(_check_parameter, found, name, value) for name, value in parameters.items()]
        checks.append(lambda: _check_together(strategy, parameters, plan["min_participants"]))
        checks.append(lambda: _check_schedule(strategy, parameters, plan))
    need = plan["min_participants"] if type(plan["min_participants"]) is int else 1
    refused = [error for check in checks if (error := _refusal(check)) is not None]
    refused += protections.complaints(values.get(protections.FIELD)) or _disputes(strategy, values, plan)
    return [*refused, *terms.complaints(plan.get("plan") or {}, need)]


def _disputes(strategy: str, values: Mapping[str, Any], plan: Mapping[str, Any]) -> list[FedportalError]:
    """What of a wish does not go with its protection; values that are not usable are refused by themselves."""
    known, said = strategies.STRATEGIES.get(strategy), plan.get("plan") or {}
    if known is None:
        return []
    own = {name: value for name, value in values.items() if name not in run_fields(known)}
    try:
        least_updates = known.least_updates(known.checked(own))
    except FedportalError:  # it is refused by itself
        least_updates = 1
    setup = Setup(
        protections.checked(values.get(protections.FIELD)),
        known,
        str(values.get("codec") or codecs.NONE),
        values.get("standardise") is True,
        said.get("schedule") == ASYNCHRONOUS or not known.synchronous,
        plan["min_participants"] if countable(plan["min_participants"]) else None,
        protections.whole_of(said.get("sample")),
        least_updates,
    )
    return protections.disputes(setup)


def _check_parameter(strategy: Strategy, name: str, value: Any) -> None:
    _check_name(strategy, name)
    strategy.checked({name: value})


def _check_name(strategy: Strategy, name: str) -> None:
    """Raises `strategy_parameter` for a name that the strategy has not, with what may have been meant."""
    own = [parameter.name for parameter in strategy.parameters]
    if name in own:
        return
    reason, meant = f"{strategy.name} has no such parameter; it has {', '.join(own)}.", _meant(strategy, name)
    if meant is None:
        raise FedportalError("strategy_parameter", name=name, reason=reason)
    what = "" if meant in own else ", a setting of the run"
    raise FedportalError("strategy_parameter", name=name, reason=f"{reason} Did you mean {meant}{what}?", meant=meant)


def _meant(strategy: Strategy, name: str) -> str | None:
    """The parameter of the strategy, or the setting of a run, whose name is most like this one, as a whole or in one of
    its words; None where none is."""
    own = [parameter.name for parameter in strategy.parameters]
    known = list(dict.fromkeys([*own, *run_fields(strategy), *LIMITS, *terms.FIELDS]))
    close = get_close_matches(name.lower(), known, 1, CLOSE)
    within = [one for one in known if name.lower() in one.split("_")]
    return next(iter([*close, *within]), None)


def _travels(strategy: str, values: Mapping[str, Any], version: ModelVersion) -> Manifest:
    """What travels; everything where what stays cannot be found, which is refused by itself."""
    try:
        stays = local.chosen(strategies.find(strategy), values.get(local.FIELD), version)
    except FedportalError:
        stays = None
    return local.travelling(version, stays)


def whole(field: str, value: Any, low: int, high: int) -> int:
    """`value` as a whole number. Raises `field_invalid`."""
    if type(value) is not int or not low <= value <= high:
        raise FedportalError("field_invalid", field=field, reason=f"it must be a whole number from {low} to {high}.")
    return value


def countable(value: Any) -> bool:
    """Whether `value` is a minimum of devices that a round may have, whatever the strategy says of it."""
    return type(value) is int and 1 <= value <= MOST_PARTICIPANTS


def truth(field: str, value: Any) -> bool:
    """`value` as true or false. Raises `field_invalid`."""
    if not isinstance(value, bool):
        raise FedportalError("field_invalid", field=field, reason="it must be true or false.")
    return value


def group(value: Any, field: str = "group") -> str:
    """The group's name, "" for all devices. Raises `field_invalid`."""
    text = "" if value is None else value
    if not isinstance(text, str) or len(text) > GROUP_LENGTH or not text.isprintable():
        reason = f"it must be text of up to {GROUP_LENGTH} characters."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return text.strip()


def work_shares(value: Any) -> dict[str, float]:
    """Group of devices → the share of the local steps that its devices are asked for. Raises `field_invalid`."""
    field = "config.work_shares"
    if not isinstance(value or {}, Mapping) or len(value or {}) > MOST_SHARES:
        reason = f"it must be an object of at most {MOST_SHARES} groups, each with its share."
        raise FedportalError("field_invalid", field=field, reason=reason)
    shares = {group(name, field): effort.checked(share, field) for name, share in (value or {}).items()}
    if "" in shares:
        raise FedportalError("field_invalid", field=field, reason="a share needs the group that it is for.")
    return shares


def check_least(strategy: str, parameters: Values, min_participants: int) -> None:
    """Raises `field_invalid` unless a round with so few devices is enough for the strategy."""
    found = strategies.find(strategy)
    least = found.least_updates(parameters)
    if min_participants < least:
        reason = f"{found.title} with these settings needs at least {least} updates in every round; ask for so many"
        reason += ", or withstand fewer faulty ones." if parameters.get("faulty") else "."
        raise FedportalError("field_invalid", field="min_participants", reason=reason)


def plan_of(strategy: str, parameters: Values, said: Mapping[str, Any], min_participants: int) -> Terms:
    """The terms of the rounds in what was `said`; of a strategy that is for asynchronous rounds only, those. Raises
    what `terms.checked` and `schedules.settled` do."""
    found = strategies.find(strategy)
    if not found.synchronous and not said.get("schedule"):
        said = {**said, "schedule": ASYNCHRONOUS}
    return schedules.settled(terms.checked(said, min_participants), found, parameters, min_participants)


def _check_together(strategy: str, parameters: Mapping[str, Any], min_participants: Any) -> None:
    """`check_least`, for a wish whose single values are usable; those that are not are refused by themselves."""
    try:
        values = strategies.find(strategy).checked(parameters)
        least = whole("min_participants", min_participants, 1, MOST_PARTICIPANTS)
    except FedportalError:
        return
    check_least(strategy, values, least)


def _check_schedule(strategy: str, parameters: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """`plan_of`, for a wish whose single values are usable; those that are not are refused by themselves."""
    said = plan.get("plan") or {}
    try:
        values = strategies.find(strategy).checked(parameters)
        need = whole("min_participants", plan["min_participants"], 1, MOST_PARTICIPANTS)
        terms.checked(said, need)
    except FedportalError:
        return
    plan_of(strategy, values, said, need)


def check_trainable(version: ModelVersion) -> None:
    """Raises `tensor_dtype` unless all weights are float32."""
    for spec in Manifest.from_json(version.manifest).weights:
        if spec.dtype != "F32":
            raise FedportalError("tensor_dtype", name=spec.name, got=spec.dtype, expected="F32 to be trained")


def _seed(value: Any) -> int:
    if value is None:
        return secrets.randbelow(1 << 31)
    return whole("config.seed", value, 0, (1 << SEED_BITS) - 1)


def _preflight(value: Any) -> str:
    """Whether devices check themselves before round 1, and what follows; with a hyphen for its underscore if one likes.

    Raises `field_invalid`.
    """
    mode = value.replace("-", "_") if isinstance(value, str) else value or checks.OFF
    if not isinstance(mode, str) or mode not in checks.MODES:
        reason = f"it must be one of {', '.join(checks.MODES)}."
        raise FedportalError("field_invalid", field="config.preflight", reason=reason)
    return str(mode)


def _standardise(value: Any, version: ModelVersion, protection: Protection = OPEN) -> bool:
    """Asked for, or by default whenever the model can and has not been yet: later runs keep what was measured. Never
    by default in a run that protects anything, for statistics leave each device as they are."""
    able = bool(version.architecture) and Architecture.parse(version.architecture).standardise
    if value is None:
        return able and not (protection.hides or protection.spends) and not _is_standardised(version)
    if truth("config.standardise", value) and not able:
        reason = "the model's architecture has no standardisation."
        raise FedportalError("field_invalid", field="config.standardise", reason=reason)
    return bool(value)


def _is_standardised(version: ModelVersion) -> bool:
    _, arrays = decode_model(blobs.path(version.blob), Manifest.from_json(version.manifest))
    return bool(np.any(arrays[MEAN] != 0) or np.any(arrays[STD] != 1))


def _refusal(check: Callable[[], Any]) -> FedportalError | None:
    try:
        check()
    except FedportalError as error:
        return error
    return None
