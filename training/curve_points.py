"""The points of a run's curves: what is shown of the models that its rounds made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What every report may say; further metrics have names of their own.
RATIOS = ("loss", "accuracy", "auc")
# What a point of the curves says of the round that made its model.
TOOK = ("seconds", "bytes_up", "bytes_down", "ratio", "drift", "staleness", "staleness_most")


def of(number: int, metrics: Mapping[str, Any], trained: Mapping[str, Any] | None) -> dict[str, Any]:
    """A point of the curves: how the model of round `number` does, how far it moved, and what that round took.

    `metrics`: as `training.aggregation.metrics.merged` gives them; `trained`: seconds, bytes_up, bytes_down, ratio (how
    many times smaller than float32 its updates were), drift and staleness (the mean and the most of its answers) of the
    round, with the metrics of the model before it; None for the base. `fairness` and `slices` stand in it where there
    are any, `personal` and `devices` where devices have models of their own; of `fairness`, `slices` and `devices` only
    those of the newest point are shown.
    """
    trained = trained or {}
    before = trained.get("metrics") or {}
    earlier, fairness = before.get("organizations", {}), metrics.get("fairness", {})
    return {
        "number": number,
        **_measured(metrics.get("overall", {}), before.get("overall", {})),
        **{name: trained.get(name) for name in TOOK},
        "gaps": {name: spread["gap"] for name, spread in fairness.items()},
        "organizations": {
            key: _measured(ratios, earlier.get(key, {})) for key, ratios in metrics.get("organizations", {}).items()
        },
        **({"fairness": fairness} if fairness else {}),
        **({"slices": sliced(metrics["slices"])} if metrics.get("slices") else {}),
        **({"personal": _own(metrics["personal"])} if metrics.get("personal") else {}),
        **({"devices": metrics["devices"]} if metrics.get("devices") else {}),
    }


def _own(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """How devices' own models do, over all and per organization."""
    return {
        **_measured(metrics["overall"], {}),
        "organizations": {key: _measured(ratios, {}) for key, ratios in metrics["organizations"].items()},
        **({"fairness": metrics["fairness"]} if metrics.get("fairness") else {}),
    }


def _measured(ratios: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The ratios; `loss_change` against those of the model before."""
    now, then = ratios.get("loss"), before.get("loss")
    return {
        **{name: ratios.get(name) for name in (*RATIOS, "samples")},
        "others": ratios.get("others", {}),
        "loss_change": None if now is None or then is None else now - then,
    }


def sliced(slices: Mapping[str, Any]) -> dict[str, Any]:
    """Slices of the data as they are shown: {name: {"parts": {value: ratios}, "fairness": spreads}}."""
    return {
        name: {
            "parts": {
                value: {measure: ratios.get(measure) for measure in (*RATIOS, "samples")}
                for value, ratios in found["parts"].items()
            },
            "fairness": found["fairness"],
        }
        for name, found in slices.items()
    }


def lower_is_better(metric: str) -> bool:
    """Whether less of this metric is better, by its name."""
    return metric == "loss" or "error" in metric or "loss" in metric.split("_")
