"""What noise is worth, against a formula, an accountant that was written for this alone, and published figures."""

from __future__ import annotations

import itertools
import math

import pytest
from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from tests.privacy import prv, reference
from training.privacy import accounting
from training.privacy.accounting import Mechanism

WHOLE = list(itertools.product((0.6, 1.0, 2.0, 4.0), (1, 100, 10_000), (1e-5, 1e-6)))
DELTAS = (1e-5, 1e-6)
# With both δ, and with rounds of everybody: 96 settings.
NOISES, ROUNDS = (0.6, 1.0, 2.0, 4.0), (1, 100, 10_000)
SAMPLED = list(itertools.product(NOISES, (0.001, 0.01, 0.1), ROUNDS))


def by_formula(noise: float, rounds: int, delta: float) -> float:
    """ε of the Gaussian mechanism by the formula of Balle and Wang, solved another way."""
    mu = math.sqrt(rounds) / noise

    def beyond(found: float) -> float:
        first, second = norm.logcdf(mu / 2 - found / mu), norm.logcdf(-mu / 2 - found / mu)
        return float(first + math.log1p(-math.exp(min(found + second - first, -1e-15))) - math.log(delta))

    return float(brentq(beyond, 1e-9, mu * mu + 100 * mu + 100, xtol=1e-12, rtol=1e-13))


@pytest.mark.parametrize(("noise", "rounds", "delta"), [*WHOLE, (1e4, 1, 1e-5), (0.02, 3, 1e-10), (50.0, 5000, 0.1)])
def test_rounds_of_everybody_as_one_goes_are_worth_what_the_library_says(
    noise: float, rounds: int, delta: float
) -> None:
    accountant = RdpAccountant(accounting.ORDERS)
    accountant.compose(dp_event.GaussianDpEvent(noise), rounds)
    found = accounting.running_epsilon([Mechanism(noise, 1.0, rounds)], delta)
    assert found == pytest.approx(accountant.get_epsilon(delta), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("noise", "rounds", "delta"), WHOLE)
def test_rounds_of_everybody_are_worth_what_the_formula_says(noise: float, rounds: int, delta: float) -> None:
    found = accounting.epsilon([Mechanism(noise, 1.0, rounds)], delta)
    expected = by_formula(noise, rounds, delta)
    assert expected * (1 - 1e-9) <= found <= expected * 1.001


@pytest.mark.parametrize(("noise", "rate", "rounds"), SAMPLED)
def test_sampled_rounds_are_worth_what_another_accountant_says(noise: float, rate: float, rounds: int) -> None:
    """Within one per cent either way, and never more than what is said of rounds that are chosen as one goes."""
    mechanism = Mechanism(noise, rate, rounds)
    found = [accounting.epsilon([mechanism], delta) for delta in DELTAS]
    expected = reference.epsilons(noise, rate, rounds, DELTAS, found[-1])
    assert found == pytest.approx(expected, rel=0.01)
    for delta, epsilon in zip(DELTAS, found, strict=True):
        assert epsilon <= accounting.running_epsilon([mechanism], delta) * 1.01


@pytest.mark.parametrize(
    ("mechanism", "planned", "running"),
    [
        (Mechanism(1.0, 0.01, 1000), 1.83, 2.10),
        (Mechanism(1.0, 0.1, 100), 7.05, 7.90),
        (Mechanism(1.0), 4.377, 4.73),
        (Mechanism(4.0, 1.0, 50), 8.60, 9.24),
    ],
)
def test_figures_that_others_published(mechanism: Mechanism, planned: float, running: float) -> None:
    """Of dp-accounting's own comparison of its accountants, δ = 1e-5."""
    assert accounting.epsilon([mechanism], 1e-5) == pytest.approx(planned, rel=0.002)
    assert accounting.running_epsilon([mechanism], 1e-5) == pytest.approx(running, rel=0.002)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("rounds", [1, 100])
def test_a_target_that_is_an_epsilon_leads_back_to_its_noise(noise: float, rounds: int) -> None:
    target = accounting.epsilon([Mechanism(noise, 1.0, rounds)], 1e-5)
    assert accounting.noise_for(target, 1e-5, 1.0, rounds) == pytest.approx(noise, rel=0.001)


@pytest.mark.parametrize(("noise", "rate", "rounds"), [(0.6, 0.1, 10_000), (4.0, 0.1, 10_000)])
def test_a_target_of_sampled_rounds_leads_back_to_its_noise(noise: float, rate: float, rounds: int) -> None:
    target = accounting.epsilon([Mechanism(noise, rate, rounds)], 1e-5)
    found = accounting.noise_for(target, 1e-5, rate, rounds)
    assert found == pytest.approx(noise, rel=0.001)
    assert accounting.epsilon([Mechanism(found, rate, rounds)], 1e-5) <= target


@pytest.mark.parametrize("figure", prv.figures(), ids=str)
def test_sampled_rounds_are_worth_what_opacus_says(figure: prv.Figure) -> None:
    """Between its bounds, and within one per cent of its estimate or the precision with which that was made."""
    found = accounting.epsilon([Mechanism(figure.noise, figure.rate, figure.rounds)], figure.delta)
    assert figure.lower <= found <= figure.upper
    assert found == pytest.approx(figure.estimate, rel=0.01, abs=prv.LEAST_ERROR)


@pytest.mark.parametrize(("rate", "rounds"), [(1.0, 1), (1.0, 50)])
@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
def test_noise_for_a_target_is_the_least_that_keeps_it(target: float, rate: float, rounds: int) -> None:
    noise = accounting.noise_for(target, 1e-5, rate, rounds)
    assert accounting.epsilon([Mechanism(noise, rate, rounds)], 1e-5) <= target
    assert accounting.epsilon([Mechanism(noise * 0.999, rate, rounds)], 1e-5) > target


def test_runs_add_up_in_any_order_and_to_less_than_their_sum() -> None:
    runs = [Mechanism(1.0, 1.0, 3), Mechanism(2.0, 1.0, 10), Mechanism(1.5, 0.1, 20)]
    together = accounting.epsilon(runs, 1e-5)
    assert together == pytest.approx(accounting.epsilon(runs[::-1], 1e-5))
    alone = [accounting.epsilon([run], 1e-5) for run in runs]
    assert max(alone) < together < sum(alone)
    assert together < accounting.running_epsilon(runs, 1e-5)


def test_nothing_done_is_worth_nothing() -> None:
    assert accounting.epsilon([], 1e-5) == 0
    assert accounting.running_epsilon([Mechanism(1.0, 1.0, 0)], 1e-5) == 0


def test_hardly_any_noise_protects_nothing() -> None:
    assert accounting.epsilon([Mechanism(1e-3, 1.0, 1000)], 1e-5) == math.inf


@pytest.mark.parametrize("past", [0, 3, 7])
def test_forecast_is_the_last_round_that_the_budget_affords(past: int) -> None:
    before, each, budget = [Mechanism(4.0, 1.0, past)], Mechanism(4.0), 5.0
    left = accounting.rounds_left(before, each, budget, 1e-5)
    assert left == accounting.rounds_left([], each, budget, 1e-5) - past

    def spent(further: int) -> float:
        return accounting.running_epsilon([*before, Mechanism(4.0, 1.0, further)], 1e-5)

    assert spent(left) <= budget < spent(left + 1)


def test_exhausted_budget_affords_no_round() -> None:
    assert accounting.rounds_left([Mechanism(1.0, 1.0, 5)], Mechanism(1.0), 2.0, 1e-5) == 0


@pytest.mark.parametrize("values", [(0.0,), (-1.0,), (math.nan,), (1.0, 0.0), (1.0, 1.1), (1.0, 1.0, -1)])
def test_what_is_no_mechanism_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="no such mechanism"):
        Mechanism(*values)  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0])
def test_delta_lies_between_zero_and_one(delta: float) -> None:
    for account in (accounting.epsilon, accounting.running_epsilon):
        with pytest.raises(ValueError, match="δ"):
            account([Mechanism(1.0)], delta)


def test_no_noise_is_enough_for_a_target_of_nothing() -> None:
    with pytest.raises(ValueError, match="positive"):
        accounting.noise_for(0.0, 1e-5)
