"""Strategies that remember something, in real rounds: the state goes from round to round and nothing disturbs it."""

from __future__ import annotations

import numpy as np
import pytest

from fedportal.common import blobs
from fedwire.tensors import parse_header
from tests.training.conftest import Site, Stage, current, rewind, weights_of
from training.models import Round, Run
from training.services import outcomes, rounds


def state_of(closed: Round) -> np.ndarray:
    """The vectors [k, P] that the round left."""
    content = blobs.path(closed.state_blob).read_bytes()
    found, start = parse_header(content, total=len(content))
    return np.frombuffer(content, "<f4", offset=start).reshape(len(found.tensors), -1).astype(np.float64)


def play(run: Run, sites: list[Site], number: int) -> None:
    for site in sites:
        site.answer()
    run.refresh_from_db()
    assert run.current_round == number


def trained(run: Run) -> list[Round]:
    return list(run.rounds.filter(kind="train", state="done").order_by("number"))


def test_adam_remembers_its_moments_from_round_to_round(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(strategy="fedadam", config={"server_learning_rate": 0.5}, min_participants=3)
    first = weights_of(current(run).base_blob)
    for number in (1, 2, 3):
        play(run, sites, number)
    m, v, weights = 0.0, 1e-6, first.astype(np.float64)
    for closed in trained(run):
        updates = {update.device_id: update for update in closed.updates.all()}
        total = sum(update.samples for update in updates.values())
        moved = [(blobs.path(u.blob).read_bytes(), u.samples) for u in updates.values()]
        delta = sum(np.frombuffer(c[-4 * len(first) :], "<f4").astype(np.float64) * n / total for c, n in moved)
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        weights = weights + 0.5 * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(state_of(closed), [m, v], rtol=1e-5)
        np.testing.assert_allclose(weights_of(closed.result_blob), weights, rtol=1e-5)


def test_a_strategy_without_memory_leaves_no_state(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=3, rounds=1)
    play(run, sites, 1)
    assert [closed.state_blob for closed in trained(run)] == [""]


def test_an_attempt_that_failed_does_not_touch_what_the_server_remembers(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(strategy="fedavgm", min_participants=3, rounds=2)
    play(run, sites, 1)
    kept = outcomes.state_before(run, 2)
    sites[0].answer()
    sites[1].answer()
    rewind(run)
    for site in sites:
        site.seen()
    rounds.settle(current(run).pk)
    run.refresh_from_db()
    assert (current(run).number, current(run).attempt) == (2, 2)
    assert outcomes.state_before(run, 2) == kept == trained(run)[0].state_blob
    play(run, sites, 2)
    assert trained(run)[1].state_blob not in ("", kept)


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedadagrad", "fedyogi"])
def test_a_round_that_is_computed_again_gives_the_same_model_and_state(stage: Stage, strategy: str) -> None:
    sites = stage.three()
    run = stage.start(strategy=strategy, min_participants=3, rounds=2)
    play(run, sites, 1)
    play(run, sites, 2)
    for closed in trained(run):
        again = outcomes.of(closed, lambda: None)
        assert (again.blob, again.digest, again.state) == (closed.result_blob, closed.digest, closed.state_blob)
