"""What may be concluded of two versions, in numbers and as a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from registry.delivery.conclusions import ARMS, Conclusion, Seen, conclude, sentence


def seen(right: int, judged: int, devices: int = 4) -> list[Seen]:
    """Devices that saw the same each."""
    return [Seen(judged, judged - right, judged, right)] * devices


def told(found: Conclusion, winner: str = "") -> str:
    return sentence(found, "1.0.0", "2.0.0", winner)


def test_nothing_can_be_said_of_a_few() -> None:
    found = conclude("accuracy", {"control": seen(4, 4), "treatment": []}, 1000)
    assert (found.difference, found.better, found.treatment.estimate) == (None, "", None)
    assert told(found) == (
        "Nothing can be said yet: each arm needs 20 predictions whose outcome is known; 1.0.0 has 16 and 2.0.0 0."
    )
    assert "needs 20 predictions;" in told(conclude("error_rate", {}, 1000))


def test_equal_arms_show_no_difference_and_both_have_an_interval() -> None:
    found = conclude("accuracy", {"control": seen(80, 100), "treatment": seen(81, 100)}, 1000)
    assert found.better == ""
    for arm in (found.control, found.treatment):
        assert (arm.devices, arm.count) == (4, 400)
        assert arm.low is not None
        assert arm.high is not None
        assert 0 <= arm.low < arm.estimate < arm.high <= 1
    assert told(found).startswith("No difference yet: the accuracy of 2.0.0 is between ")
    assert "planned" not in told(found)
    enough = conclude("accuracy", {"control": seen(80, 100), "treatment": seen(81, 100)}, 400)
    assert told(enough).endswith("The 400 planned in each arm are reached.")


@pytest.mark.parametrize(("metric", "way"), [("accuracy", "higher"), ("error_rate", "lower")])
@pytest.mark.parametrize(("control", "treatment", "better"), [(60, 90, "treatment"), (90, 60, "control")])
def test_the_better_arm_has_the_higher_accuracy_and_the_lower_rate_of_errors(
    metric: str, way: str, control: int, treatment: int, better: str
) -> None:
    found = conclude(metric, {"control": seen(control, 100), "treatment": seen(treatment, 100)}, 1000)
    assert found.better == better
    ours, other = ("2.0.0", "1.0.0") if better == "treatment" else ("1.0.0", "2.0.0")
    assert told(found).startswith(f"{ours} is better: its ")
    assert f"is 30.0 points {way} than that of {other} (between " in told(found)


@pytest.mark.parametrize("devices", [1, 2])
def test_with_one_or_two_devices_in_an_arm_it_may_be_the_devices_that_differ(devices: int) -> None:
    found = conclude("accuracy", {"control": seen(60, 100), "treatment": seen(90, 100, devices)}, 1000)
    assert (found.better, found.apart) == ("", True)
    assert f"But only {devices} device" in told(found)
    assert told(found).endswith("in one of them: it may be the devices that differ.")


def test_from_three_devices_on_their_own_differences_are_hardly_ever_taken_for_one_of_versions() -> None:
    """Ten looks at arms of three devices with rates of their own, drawn alike."""
    draws = np.random.default_rng(7)
    misled = 0
    for _ in range(300):
        rates = {arm: draws.beta(40, 10, 3) for arm in ARMS}
        right = {arm: np.zeros(3, int) for arm in ARMS}
        better = ""
        for look in range(1, 11):
            for arm in ARMS:
                right[arm] += draws.binomial(50, rates[arm])
            arms = {arm: [Seen(0, 0, 50 * look, int(one)) for one in right[arm]] for arm in ARMS}
            better = better or conclude("accuracy", arms, 1000).better
        misled += bool(better)
    assert misled / 300 <= 0.09  # 5 %, and three standard deviations of the simulation


def test_what_was_found_once_stays_found() -> None:
    found = conclude("accuracy", {"control": seen(80, 100), "treatment": seen(81, 100)}, 1000)
    assert told(found, "treatment").startswith("2.0.0 was found to be better at an earlier look, which stays true.")
