"""Strategies that remember something, in real rounds: the state goes from round to round and nothing disturbs it."""

from __future__ import annotations

import numpy as np
import pytest

from fedportal.common import blobs
from fedwire.errors import FedportalError
from fedwire.tensors import parse_header
from tests.training.conftest import Site, Stage, current, rewind, weights_of
from training import part_cards
from training.models import Round, Run, Update
from training.services import outcomes, remembered, rounds


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


def said_by(site: Site, **reports: float) -> str:
    """The code with which an answer with these reports is refused, "" when it is taken."""
    try:
        site.answer(**reports)
    except FedportalError as error:
        return error.code
    return ""


def test_a_device_cannot_make_its_update_count_for_more_by_claiming_fewer_steps(stage: Stage) -> None:
    site = stage.site(stage.cast.acme, "acme-1", samples=100)
    stage.start(strategy="fednova", config={"epochs": 2, "batch_size": 40, "momentum": 0.5})
    assert site.task.content["answer"]["reports"] == ["steps", "normaliser"]
    # 100 rows in batches of 40 are 2 or 3 steps a pass; each counts once to twice with a momentum of ½.
    assert said_by(site) == "field_invalid"
    for steps, normaliser in ((1, 1), (3, 3), (7, 7), (6, 5.9), (6, 12.1), (6, 1e-9)):
        assert said_by(site, steps=steps, normaliser=normaliser) == "field_invalid"
    assert said_by(site, steps=6, normaliser=10) == ""
    assert Update.objects.get().answer["normaliser"] == 10


def test_an_answer_for_several_devices_tells_of_their_mean_steps(stage: Stage) -> None:
    """Four devices of 25 rows take one step a pass, or none more than one: the mean is that of all, 2 passes."""
    site = stage.site(stage.cast.acme, "acme-1", samples=100)
    stage.start(strategy="fednova", config={"epochs": 2, "batch_size": 10})
    assert said_by(site, steps=4, normaliser=4) == "field_invalid"
    assert said_by(site, steps=1, normaliser=1, devices=4) == "field_invalid"
    assert said_by(site, steps=4, normaliser=5.5, devices=4) == "field_invalid"
    assert said_by(site, steps=4, normaliser=4.6, devices=4) == ""
    assert Update.objects.get().answer["devices"] == 4
    (card,) = part_cards.cards(part_cards.parts_of(Update.objects.get().round.assignments.all(), 9), 1)
    assert (card["devices"], card["samples"]) == (4, 100)


@pytest.mark.parametrize(("strategy", "individual"), [("median", True), ("qfedavg", True), ("fedadam", None)])
def test_a_task_says_that_each_device_must_be_seen_by_itself(
    stage: Stage, strategy: str, individual: bool | None
) -> None:
    """So an edge, which has only a mean to give, can decline; one that does not is refused."""
    sites = stage.three()
    stage.start(strategy=strategy, min_participants=3)
    assert sites[0].task.content["answer"].get("individual") is individual
    assert said_by(sites[0], devices=2, base_loss=1.0) == ("field_invalid" if individual else "")


def test_reports_give_the_weights(stage: Stage) -> None:
    *sites, third = stage.three()
    run = stage.start(strategy="fednova", min_participants=2, rounds=1, config={"batch_size": 10})
    vectors = [site.vector(site.task).astype(np.float64) for site in sites]
    base = weights_of(current(run).base_blob)
    third.decline()
    sites[0].answer(steps=1, normaliser=1)  # 10 rows
    sites[1].answer(steps=2, normaliser=2)  # 20 rows
    (closed,) = trained(run)
    expected = base + 5 / 3 * (vectors[0] / 3 + vectors[1] * 2 / 3 / 2)
    np.testing.assert_allclose(weights_of(closed.result_blob), expected, rtol=1e-5, atol=1e-6)


def told(site: Site, name: str) -> object:
    return site.task.content[name]


def test_devices_are_told_which_of_their_answers_counted_and_get_the_mean(stage: Stage) -> None:
    first, second, third = sites = stage.three()
    run = stage.start(strategy="scaffold", min_participants=2, config={"batch_size": 10, "learning_rate": 0.5})
    assert [(told(s, "counted_round"), told(s, "state_digest")) for s in sites] == [(0, "")] * 3
    third.decline()
    moved = [site.vector(site.task).astype(np.float64) for site in (first, second)]
    first.answer(steps=1)
    second.answer(steps=2)
    (closed,) = trained(run)
    # N = 2: the mean of -Δ₁/½ and -Δ₂/(2·½).
    np.testing.assert_allclose(state_of(closed)[0], (-2 * moved[0] - moved[1]) / 2, rtol=1e-5, atol=1e-6)
    assert [told(s, "counted_round") for s in (first, second)] == [1, 1]
    assert told(first, "state_digest") == closed.state_blob
    assert closed.bytes_down == 2 * blobs.size(closed.base_blob)
    # In the second round an attempt fails: the answer in it did not count.
    second.decline()
    first.answer(steps=1)
    rewind(run)
    first.seen()
    second.seen()
    rounds.settle(current(run).pk)
    assert (current(run).number, current(run).attempt) == (2, 2)
    assert told(first, "counted_round") == 1
    assert told(first, "state_digest") == closed.state_blob


def test_feddyn_sends_nothing_beside_the_model(stage: Stage) -> None:
    sites = stage.three()
    stage.start(strategy="feddyn", min_participants=3)
    assert "state_digest" not in sites[0].task.content
    assert told(sites[0], "counted_round") == 0
    assert sites[0].task.content["training"]["alpha"] == 0.1


def test_an_attempt_that_failed_does_not_touch_what_the_server_remembers(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(strategy="fedavgm", min_participants=3, rounds=2)
    play(run, sites, 1)
    kept = remembered.state_before(run, 2)
    sites[0].answer()
    sites[1].answer()
    rewind(run)
    for site in sites:
        site.seen()
    rounds.settle(current(run).pk)
    run.refresh_from_db()
    assert (current(run).number, current(run).attempt) == (2, 2)
    assert remembered.state_before(run, 2) == kept == trained(run)[0].state_blob
    play(run, sites, 2)
    assert trained(run)[1].state_blob not in ("", kept)


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedadagrad", "fedyogi", "feddyn"])
def test_a_round_that_is_computed_again_gives_the_same_model_and_state(stage: Stage, strategy: str) -> None:
    sites = stage.three()
    run = stage.start(strategy=strategy, min_participants=3, rounds=2)
    play(run, sites, 1)
    play(run, sites, 2)
    for closed in trained(run):
        again = outcomes.of(closed, lambda: None)
        assert (again.blob, again.digest, again.state) == (closed.result_blob, closed.digest, closed.state_blob)
