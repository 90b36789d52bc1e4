"""When an edge closes a round, goes on waiting, or gives up."""

from __future__ import annotations

import pytest

from fedportal_sdk.edge.terms import Standing, Terms, Verdict, decide, reserve
from fedwire.errors import FedportalError

WAIT, CLOSE, GIVE_UP = Verdict.WAIT, Verdict.CLOSE, Verdict.GIVE_UP


@pytest.mark.parametrize(
    ("terms", "standing", "verdict"),
    [
        (Terms(), Standing(0, 2, 50), WAIT),
        (Terms(), Standing(1, 1, 50), WAIT),
        (Terms(), Standing(2, 0, 50), CLOSE),
        (Terms(), Standing(1, 1, 0), CLOSE),
        (Terms(), Standing(0, 2, -1), GIVE_UP),
        (Terms(least_devices=3), Standing(2, 1, 0), GIVE_UP),
        (Terms(least_devices=3), Standing(3, 4, 0), CLOSE),
        (Terms(least_devices=3), Standing(2, 0, 50, since_idle=9), WAIT),
        (Terms(least_devices=3), Standing(2, 0, 50, since_idle=10), GIVE_UP),
        (Terms(quorum=2), Standing(2, 1, 50, since_quorum=9), WAIT),
        (Terms(quorum=2), Standing(2, 1, 50, since_quorum=10), CLOSE),
        (Terms(quorum=2, grace=0), Standing(2, 1, 50, since_quorum=0), CLOSE),
        (Terms(quorum=2, grace=0), Standing(1, 1, 50), WAIT),
    ],
)
def test_a_round_is_closed_when_nothing_is_worth_waiting_for(
    terms: Terms, standing: Standing, verdict: Verdict
) -> None:
    assert decide(terms, standing) is verdict


@pytest.mark.parametrize("values", [{"least_devices": 0}, {"least_devices": 3, "quorum": 2}, {"grace": -1.0}])
def test_terms_that_cannot_be_meant_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(FedportalError) as caught:
        Terms(**values)  # type: ignore[arg-type]
    assert caught.value.code == "field_invalid"


@pytest.mark.parametrize(("left", "kept"), [(3, 1), (100, 10), (3600, 60)])
def test_an_edge_keeps_time_to_add_up_and_to_send(left: float, kept: float) -> None:
    assert reserve(left) == kept
