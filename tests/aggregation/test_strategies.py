"""What strategies accept, say of themselves and tell devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedwire.errors import FedportalError
from training.aggregation import strategies, transforms
from training.aggregation.strategies import FEDAVG
from training.aggregation.transforms import Update


def update(samples: int, sha256: str = "0" * 64) -> Update:
    return Update(Path("unread"), sha256, samples)


def test_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(FedportalError) as refused:
        strategies.find("fedmagic")
    assert refused.value.code == "strategy_unknown"
    assert "fedavg" in refused.value.next_step


def test_parameters_left_out_have_their_defaults() -> None:
    assert FEDAVG.checked({"epochs": 3}) == {
        "epochs": 3,
        "learning_rate": 0.1,
        "batch_size": 32,
        "momentum": 0.0,
        "weight_decay": 0.0,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", "3"),
        ("epochs", None),
        ("epochs", 10**9),
        pytest.param("learning_rate", 10**400, id="beyond-float"),
        ("learning_rate", 0),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("batch_size", 0),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", 2),
        ("mu", 0.1),
    ],
)
def test_unusable_parameter_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(FedportalError) as refused:
        FEDAVG.checked({name: value})
    assert refused.value.code == "strategy_parameter"
    assert refused.value.context["name"] == name


def test_whole_number_written_as_a_float_is_a_whole_number() -> None:
    checked = FEDAVG.checked({"epochs": 2.0})["epochs"]
    assert checked == 2
    assert isinstance(checked, int)


def test_device_half_names_what_a_device_needs() -> None:
    half = FEDAVG.device_half(FEDAVG.checked({"momentum": 0.9}))
    assert half == {"epochs": 1, "learning_rate": 0.1, "batch_size": 32, "momentum": 0.9, "weight_decay": 0.0}


def test_every_strategy_says_what_it_is() -> None:
    for name, strategy in strategies.STRATEGIES.items():
        schema = strategy.schema()
        assert schema["name"] == name
        assert schema["title"]
        assert schema["formula"]
        assert "arXiv" in schema["paper"] or "doi" in schema["paper"]
        assert strategy.checked({parameter.name: parameter.default for parameter in strategy.parameters})


def test_weights_are_shares_of_the_rows() -> None:
    assert list(FEDAVG.weights([update(10), update(30)], FEDAVG.checked({}))) == [0.25, 0.75]


def test_weights_that_add_up_to_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        transforms.normalised([update(1)], [0.0])


def test_updates_are_folded_in_the_order_of_their_digests() -> None:
    first, second, third = update(5, "aa"), update(9, "ab"), update(1, "ab")
    assert transforms.in_order([second, first, third]) == [first, third, second]


def test_too_few_updates_for_a_strategy_are_refused_with_both_numbers() -> None:
    cautious = replace(FEDAVG, least_updates=lambda values: 2 * int(values["epochs"]) + 1)
    cautious.check_updates({"epochs": 2}, 5)
    with pytest.raises(FedportalError, match="at least 5 updates in a round, and there are 4") as refused:
        cautious.check_updates({"epochs": 2}, 4)
    assert refused.value.code == "updates_too_few"
