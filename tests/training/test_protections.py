"""What a run may say of its privacy: read, checked, stored, shown, and kept for the next run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fedwire.errors import FedportalError
from tests.training.conftest import Stage
from training import selectors
from training.privacy.protection import OPEN, Protection
from training.services import protections, runs
from training.web import startform

CENTRAL = {"mechanism": "central", "noise": 1, "clip": 0.5}


def test_what_is_not_said_has_the_defaults() -> None:
    assert protections.checked(None) == protections.checked({}) == OPEN
    assert protections.stored(OPEN) is None
    found = protections.checked(CENTRAL)
    assert found == Protection(mechanism="central", noise=1.0, clip=0.5)
    assert type(found.noise) is float
    assert Protection.of({"privacy": protections.stored(found)}) == found


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"sums": "hidden"}, "sums"),
        ({"sums": 1}, "sums"),
        ({"mechanism": "much"}, "mechanism"),
        ({"mechanism": ["central"]}, "mechanism"),
        ({"clipp": 1}, "clipp"),
        ({"clip": 0}, "clip"),
        ({"clip": "1"}, "clip"),
        ({"clip": True}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"clip": float("inf")}, "clip"),
        ({"clip": 10**400}, "clip"),
        ({"mechanism": "central", "noise": -1}, "noise"),
        ({"mechanism": "central", "noise": 1e-3}, "noise"),
        ({**CENTRAL, "delta": 0}, "delta"),
        ({**CENTRAL, "delta": 1}, "delta"),
        ({**CENTRAL, "clipping": "by eye"}, "clipping"),
        ({**CENTRAL, "quantile": 1}, "quantile"),
        ({"sums": "secure", "least_devices": 1}, "least_devices"),
        ({"sums": "secure", "least_devices": 2.0}, "least_devices"),
        ({"sums": "secure", "least_organizations": 0}, "least_organizations"),
        ({"sums": "secure", "bits": 33}, "bits"),
        ({"sums": "secure", "bits": "32"}, "bits"),
        ({"sums": "secure", "group": 1}, "group"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_name_of_its_field(said: dict[str, Any], field: str) -> None:
    with pytest.raises(FedportalError) as refused:
        protections.checked(said)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", f"config.privacy.{field}")
    assert [error.context["field"] for error in protections.complaints(said)] == [f"config.privacy.{field}"]


@pytest.mark.parametrize("said", ["central", 1, [], [["clip", 1]], True])
def test_privacy_is_an_object(said: Any) -> None:
    with pytest.raises(FedportalError) as refused:
        protections.checked(said)
    assert [refused.value.context["field"]] == ["config.privacy"]
    assert [error.context["field"] for error in protections.complaints(said)] == ["config.privacy"]


def test_all_fields_that_are_wrong_are_named() -> None:
    wrong = {"clip": -1, "noise": "much", "mechanism": "central", "bits": 7}
    assert [error.context["field"] for error in protections.complaints(wrong)] == [
        f"config.privacy.{name}" for name in ("clip", "noise", "bits")
    ]


SIMPLE = some.sampled_from([None, True, -1, 0, 1, 7, 32, 0.0, 0.5, 1e300, float("nan"), "", "central", "secure"])


@given(some.dictionaries(some.sampled_from([*protections.SETTINGS, "other"]), SIMPLE))
def test_anything_is_either_refused_at_a_field_or_a_protection(said: dict[str, Any]) -> None:
    if complaints := protections.complaints(said):
        with pytest.raises(FedportalError) as refused:
            protections.checked(said)
        assert refused.value.code == "field_invalid"
        assert refused.value.message in [one.message for one in complaints]
        return
    found = protections.checked(said)
    assert Protection.of({"privacy": found.as_json()}) == found


def test_a_run_keeps_it_and_so_does_the_next(stage: Stage) -> None:
    config = {"privacy": {"sums": "secure", "least_devices": 2, "most_weight": 5}}
    run = runs.start(stage.olga, stage.model, rounds=1, min_participants=2, config=config)
    assert run.config["privacy"] == Protection(sums="secure", least_devices=2, most_weight=5).as_json()
    assert selectors.snapshot(run, stage.olga)["run"]["config"]["privacy"] == run.config["privacy"]
    said = {name: str(value) for name, value in startform.again(run).items()}
    assert {name: said[name] for name in said if name.startswith("privacy.")} == {
        "privacy.sums": "secure", "privacy.least_devices": "2", "privacy.most_weight": "5"
    }  # fmt: skip
    assert startform.wish(stage.olga, {**startform.DEFAULTS, **said})["config"]["privacy"] == config["privacy"]
