"""What stands in the way of a run, told at once, from facts alone."""

from __future__ import annotations

import pytest

from fedwire.errors import FedportalError
from training import plan_words
from training.services import preflight
from training.services.preflight import ERROR, WARNING, Facts, Place

ACME = Place("org_a", "acme", "active", known=2, present=2)
METRO = Place("org_m", "metro", "active", known=1, present=1)
AWAY = Place("org_m", "metro", "active", known=1, present=0)
INVITED = Place("org_v", "valley", "invited", known=3, present=3)
BARRED = Place("org_m", "metro", "active", known=1, present=1, barred="metro does not allow the strategy fedavg")


def facts(*places: Place, need: int = 2, **more: object) -> Facts:
    return Facts("radiology-v1", places, need, **more)  # type: ignore[arg-type]


def codes(found: Facts) -> list[tuple[str, str]]:
    return [(problem.level, problem.code) for problem in preflight.problems(found)]


def test_nothing_stands_in_the_way_of_a_run_that_has_all_it_needs() -> None:
    assert codes(facts(ACME, METRO)) == []
    assert preflight.forecast(facts(ACME, METRO)) == (
        "The first round would begin at once with 3 devices of 2 organizations."
    )


def test_everything_is_told_at_once_errors_first() -> None:
    found = facts(
        AWAY,
        BARRED,
        need=5,
        refused=(
            FedportalError("field_invalid", field="rounds", reason="no."),
            FedportalError("strategy_parameter", name="epochs", reason="no."),
        ),
        going_on=("round 1 of 3 in circle",),
        slowest=42.0,
        round_seconds=10.0,
    )
    assert codes(found) == [
        (ERROR, "field_invalid"),
        (ERROR, "strategy_parameter"),
        (WARNING, "going_on"),
        (WARNING, "too_few"),
        (WARNING, "left_out"),
        (WARNING, "hasty"),
    ]
    assert [problem.field for problem in preflight.problems(found)][:2] == ["rounds", "config.epochs"]


def test_a_round_that_would_wait_says_for_how_many_and_for_whom() -> None:
    assert preflight.forecast(facts(ACME, AWAY, need=3)) == (
        "The first round would wait for 1 more device: metro has none that would take part."
    )
    assert preflight.forecast(facts(AWAY, need=1)).startswith("The first round would wait for 1 device:")
    assert preflight.forecast(facts(ACME, standardise=True)).startswith(
        "The first round, which pools the columns' statistics, would begin at once"
    )


@pytest.mark.parametrize(
    ("place", "expected", "reason"),
    [
        (ACME, 2, ""),
        (AWAY, 0, "is not there"),
        (Place("o", "x", "active", known=3, present=1), 1, "is not there with all"),
        (Place("o", "x", "active"), 0, "has registered no device"),
        (Place("o", "x", "active", grouped=True), 0, "has no device in this group"),
        (INVITED, 0, "has not joined yet"),
        (Place("o", "x", "suspended", known=1, present=1), 0, "is suspended"),
        (BARRED, 0, "metro does not allow the strategy fedavg"),
    ],
)
def test_each_organization_has_its_reason(place: Place, expected: int, reason: str) -> None:
    assert (place.expected, place.reason) == (expected, reason)


def test_devices_that_may_not_take_part_are_not_counted_as_possible() -> None:
    (problem, *_) = preflight.problems(facts(ACME, BARRED, INVITED, need=3))
    assert problem.sentence == "Only 2 devices could ever take part, and a round needs 3."
    assert problem.field == "min_participants"


def test_a_group_in_which_nobody_is_is_named() -> None:
    (problem,) = preflight.problems(facts(Place("o", "x", "active", grouped=True), group="gpu"))
    assert (problem.field, problem.sentence) == ("group", "No device in the group gpu could ever take part.")


def test_a_run_of_one_organization_among_several_is_told() -> None:
    assert (WARNING, "alone") in codes(facts(ACME, AWAY))
    assert (WARNING, "alone") not in codes(facts(ACME))


def test_a_deadline_that_the_last_rounds_kept_is_fine() -> None:
    assert codes(facts(ACME, METRO, slowest=9.0, round_seconds=10.0)) == []


def test_a_learning_rate_above_ten_is_advised_against_and_starts() -> None:
    assert codes(facts(ACME, METRO, rate=50.0)) == [(WARNING, "steep")]
    assert codes(facts(ACME, METRO, rate=10.0)) == []


def test_a_group_that_nobody_is_in_may_be_left_empty() -> None:
    nobody = Place("org_a", "acme", "active", grouped=True)
    found = preflight.problems(facts(nobody, group="nowhere"))
    assert found[0].next_step.startswith("Leave the group empty for all devices")


def test_groups_that_are_asked_for_less_work_and_have_no_device_are_named() -> None:
    def told(lessened: dict[str, int], **more: object) -> list[str]:
        found = preflight.problems(facts(ACME, METRO, lessened=lessened, **more))
        assert all((one.level, one.field) == (WARNING, "config.work_shares") for one in found)
        return [one.sentence for one in found]

    assert told({"laptops": 2}) == []
    assert told({"laptops": 2, "phones": 0}) == ["No device is in phones, so none is asked for less work by that."]
    assert told({"old": 0, "phones": 0}, group="ward") == [
        "No device of the group ward is in any of old and phones, so none is asked for less work by that."
    ]


def test_who_is_asked_for_less_work_is_counted_in_words() -> None:
    shares = {"laptops": 0.5, "phones": 0.25, "servers": 1.0, "none": 0.5}
    devices = {"laptops": 2, "phones": 1, "servers": 4}
    told = "Less than all of the local steps: 2 devices in laptops 50% and 1 device in phones 25%."
    assert plan_words.lessened(shares, devices) == told
    assert plan_words.lessened({}, devices) == plan_words.lessened(shares, {}) == ""
