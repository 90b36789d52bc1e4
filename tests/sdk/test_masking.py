"""Devices in sessions of secure aggregation, over HTTP: what they give, what they refuse, and what a loss costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk import FederatedClient
from fedportal_sdk._masking import LOST
from tests.sdk.server import serving
from tests.sdk.sums import KEY, NAMES, Summing

DELTAS = {name: np.random.default_rng(number).normal(size=3).astype(np.float32) for number, name in enumerate(NAMES)}
ROWS = {name: 10 + number for number, name in enumerate(NAMES)}
PHASES = ("train", "advertise", "share", "mask", "agree", "unmask")


def trained(name: str) -> Callable[[dict[str, np.ndarray]], tuple[dict[str, np.ndarray], int, None]]:
    """A training function that moves the weights by what DELTAS says, whatever they are."""

    def train(weights: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int, None]:
        moved, start = {}, 0
        for key, value in weights.items():
            moved[key] = value + DELTAS[name][start : start + value.size].reshape(value.shape)
            start += value.size
        return moved, ROWS[name], None

    return train


class Fleet:
    """The devices of NAMES, each a client of its own in a thread of its own."""

    def __init__(self, portal: Summing, url: str, folder: Path) -> None:
        self.portal, self.url, self.folder = portal, url, folder
        self.events: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}

    def client(self, name: str) -> FederatedClient:
        return FederatedClient(KEY, name, self.url, self.folder / name, on_event=self.events[name].append)

    def run(self, rounds: int | None = None) -> None:
        """Until the run is over for all."""
        clients = {name: self.client(name) for name in NAMES}
        threads = [
            threading.Thread(target=clients[name].train_from_remote, args=(None, trained(name), rounds))
            for name in NAMES
        ]
        for thread in threads:
            thread.start()
        with self.portal.changed:
            over = self.portal.changed.wait_for(lambda: self.portal.phase == "over", timeout=120)
        for name, thread in zip(NAMES, threads, strict=True):
            if rounds is None or name in self.portal.gone:
                clients[name].stop()
            thread.join(60)
            assert not thread.is_alive()
            clients[name].close()
        assert over

    def refusals(self, name: str) -> list[str]:
        return [event["reason"] for event in self.events[name] if event["event"] == "refused"]


Begin = Callable[[Summing], Fleet]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    for name in ("URL", "API_KEY", "HOME", "DEVICE", "DEVICE_POLICY"):
        monkeypatch.delenv(f"FEDPORTAL_{name}", raising=False)
    with ExitStack() as servers:

        def start(portal: Summing) -> Fleet:
            return Fleet(portal, servers.enter_context(serving(portal)).url, tmp_path)

        yield start


def expected(names: list[str], most_weight: int = 1) -> np.ndarray:
    weights = [min(ROWS[name], most_weight) for name in names]
    return np.average([DELTAS[name] for name in names], axis=0, weights=weights)


def test_portal_gets_the_mean_and_no_update(begin: Begin) -> None:
    portal = Summing(rounds=2)
    begin(portal).run(rounds=2)
    assert portal.failed == []
    assert [(weights, survivors) for _, weights, survivors in portal.sums] == [(12, NAMES)] * 2
    for mean, _, _ in portal.sums:
        assert np.abs(mean - expected(NAMES)).max() < 1e-6
    for task in portal.seen:
        assert task.answer["samples"] == 1
        if task.body["kind"] == "train":
            assert set(task.answer) == {"samples", "ready", "masking", "seconds"}
            assert task.upload == b""
    sent = [np.frombuffer(task.upload, "<u4") for task in portal.seen if task.upload]
    assert len(sent) == 24
    assert len({vector.tobytes() for vector in sent}) == 24


def test_rows_count_up_to_the_largest_weight(begin: Begin) -> None:
    portal = Summing(most_weight=15)
    begin(portal).run(rounds=1)
    ((mean, weights, _),) = portal.sums
    assert weights == sum(min(rows, 15) for rows in ROWS.values())
    assert np.abs(mean - expected(NAMES, 15)).max() < 1e-5


def test_noise_is_in_the_sum_before_the_portal_has_it(begin: Begin) -> None:
    portal = Summing(noise=0.5)
    begin(portal).run(rounds=1)
    ((mean, weights, _),) = portal.sums
    assert weights == 12
    sigma = 0.5 * 10.0 * np.sqrt(12) / 12
    assert 1e-4 < np.abs(mean - expected(NAMES)).max() < 8 * sigma


@pytest.mark.parametrize("phase", PHASES)
def test_round_goes_on_when_two_devices_die(phase: str, begin: Begin) -> None:
    """Of different organizations, with 12 devices and a threshold of 9."""
    gone = {"acme-1": phase, "valley-3": phase}
    portal = Summing(gone=gone)
    begin(portal).run()
    ((mean, weights, survivors),) = portal.sums
    there = [name for name in NAMES if name not in gone or phase in ("agree", "unmask")]
    assert (weights, survivors) == (len(there), there)
    assert np.abs(mean - expected(there)).max() < 1e-6


@pytest.mark.parametrize("phase", ["advertise", "mask", "unmask"])
def test_round_fails_as_a_whole_when_too_many_die(phase: str, begin: Begin) -> None:
    portal = Summing(gone=dict.fromkeys(NAMES[::3], phase))
    begin(portal).run()
    assert portal.sums == []
    assert len(portal.failed) == 1 or portal.declined


@pytest.mark.parametrize("last", ["next", "model", "update", "answer"])
def test_portal_that_is_away_for_a_moment_costs_nothing(last: str, begin: Begin) -> None:
    portal = Summing()
    portal.replies[last] = 3
    begin(portal).run(rounds=1)
    assert len(portal.sums) == 1
    assert portal.declined == []


@pytest.mark.parametrize("phase", PHASES[1:])
def test_device_that_was_started_again_declines_and_says_why(phase: str, begin: Begin, tmp_path: Path) -> None:
    """Its memory is gone between the task before and this one; a new process takes its place."""
    portal = Summing(gone={"metro-2": phase})
    fleet = begin(portal)
    fleet.run()
    portal.gone, portal.phase = {}, phase
    (task,) = [
        one for one in portal.seen if one.device == "metro-2" and one.body.get("masking", {}).get("phase") == phase
    ]
    task.state, portal.tasks = "open", {task.body["id"]: task}
    with fleet.client("metro-2") as again:
        thread = threading.Thread(target=again.train_from_remote, args=(None, trained("metro-2"), None))
        portal._advance = lambda: None  # type: ignore[method-assign]
        thread.start()
        while task.state == "open":
            thread.join(0.01)
        again.stop()
        thread.join()
    assert portal.declined == [("metro-2", LOST)]


def test_answer_that_got_lost_is_given_again_word_for_word(begin: Begin) -> None:
    """The portal hands out every task of a session twice: what was answered is asked again, and is the same."""
    portal = Summing()
    again: list[tuple[str, bool]] = []
    answered = portal._task

    def twice(name: str, last: str, seen: Any, body: dict[str, Any]) -> Any:
        task = portal.tasks.get(name)
        if last == "answer" and task is not None and task.body["kind"] == "secagg":
            if not task.answer:
                task.answer = body  # heard, but the receipt gets lost
                return answered("nobody", last, seen, body)
            again.append((portal.phase, task.answer == body))
        return answered(name, last, seen, body)

    portal._task = twice  # type: ignore[method-assign]
    begin(portal).run(rounds=1)
    assert len(portal.sums) == 1
    assert len(again) == 12 * 5
    assert all(same for _, same in again)


def policy(fleet: Fleet, name: str, text: str) -> None:
    (fleet.folder / name).mkdir()
    (fleet.folder / name / "policy.toml").write_text(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("least_devices = 11", "fewer than 11 devices could make a sum."),
        ("least_organizations = 4", "fewer than 4 organizations could make a sum."),
        ("most_clip = 9.5", "the clip is not a positive number within this device's policy."),
        ("bits = [64]", "the ring is none that this device takes part in."),
        ("least_noise = 0.1", "there is less noise than this device asks for."),
        ('federations = ["fed_2"]', "the federation is none that this device works for."),
        ("rounds_a_day = 0", "this device masked enough updates of this model today."),
    ],
)
def test_device_s_own_policy_is_stronger_than_the_portal(text: str, reason: str, begin: Begin) -> None:
    """It declines with the reason, tells its owner, and the others go on without it."""
    portal = Summing()
    fleet = begin(portal)
    policy(fleet, "acme-0", text)
    fleet.run()
    ((_, _, survivors),) = portal.sums
    assert survivors == NAMES[1:]
    sentence = f"This session of secure aggregation is refused: {reason}"
    assert portal.declined == [("acme-0", sentence)]
    assert fleet.refusals("acme-0") == [sentence]


def test_device_takes_part_again_after_a_refusal(begin: Begin) -> None:
    portal = Summing(rounds=2)
    portal.spoil = lambda phase, device, asked: (
        asked.update(delivered={}) if (phase, device, portal.round) == ("mask", "acme-0", 1) else None
    )
    fleet = begin(portal)
    fleet.run()
    assert [len(survivors) for _, _, survivors in portal.sums] == [11, 12]
    assert len(fleet.refusals("acme-0")) == 1


def test_device_whose_part_the_portal_refuses_declines_and_takes_part_again(begin: Begin) -> None:
    portal = Summing(rounds=2)
    portal.refuses = lambda phase, device: (
        "its certificate is over." if (phase, device, portal.round) == ("advertise", "acme-0", 1) else ""
    )
    fleet = begin(portal)
    fleet.run()
    assert [len(survivors) for _, _, survivors in portal.sums] == [11, 12]
    (reason,) = fleet.refusals("acme-0")
    assert "its certificate is over" in reason
    assert portal.declined == [("acme-0", reason)]


def test_device_that_was_told_to_train_with_other_settings_is_in_no_sum_with_the_rest(begin: Begin) -> None:
    """As where all but one are told a learning rate of 0, so that the sum is the update of that one."""
    portal = Summing()
    portal.settings = {"acme-0": {"learning_rate": 0.0}, "acme-1": {"seed": 7}}
    fleet = begin(portal)
    fleet.run()
    assert [survivors for _, _, survivors in portal.sums] == [NAMES[1:]]
    assert "other settings than this device was told" in fleet.refusals("acme-0")[0]


def test_device_that_demands_certificates_and_has_none_is_out_before_others_begin_with_it(begin: Begin) -> None:
    portal = Summing()
    fleet = begin(portal)
    policy(fleet, "acme-0", "require_certificates = true")
    fleet.run()
    assert [len(survivors) for _, _, survivors in portal.sums] == [11]
    assert "has none itself" in fleet.refusals("acme-0")[0]


def test_day_s_rounds_of_a_model_are_counted_where_a_restart_does_not_forget(begin: Begin) -> None:
    portal = Summing(rounds=3)
    fleet = begin(portal)
    policy(fleet, "acme-0", "rounds_a_day = 2")
    fleet.run()
    assert [len(survivors) for _, _, survivors in portal.sums] == [12, 12, 11]


def test_portal_with_another_key_than_before_is_refused(begin: Begin) -> None:
    portal = Summing()
    fleet = begin(portal)
    fleet.run()
    portal.key = Ed25519PrivateKey.generate()
    with portal.changed:
        portal.train()
    fleet.run()
    assert len(portal.sums) == 1
    assert len(portal.declined) == 12
    assert all("the portal has another key" in reason for _, reason in portal.declined)


SPOILT: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("advertise", lambda asked: asked.pop("terms"), "not as the protocol has it"),
    ("advertise", lambda asked: asked["terms"].update(more=1), "not as the protocol has it"),
    ("advertise", lambda asked: asked["terms"].update(round=7), "another session or round"),
    ("advertise", lambda asked: asked["terms"].update(base_model="00" * 32), "another model"),
    ("advertise", lambda asked: asked["terms"].update(parameters=4), "another number of parameters"),
    ("advertise", lambda asked: asked["terms"].update(least_devices=1), "not signed"),
    ("advertise", lambda asked: asked.update(server="00" * 32), "not signed"),
    ("advertise", lambda asked: asked.update(phase="confess"), "does not know the phase 'confess'"),
    ("mask", lambda asked: asked.update(delivered={}), "fewer than the 10"),
    ("mask", lambda asked: asked.update(delivered=None), "not as the protocol has it"),
    ("mask", lambda asked: asked.update(session="00" * 16), "does not have what it trained"),
    ("train", lambda asked: asked.update(protocol="fp-sa/2"), "knows fp-sa/1 only"),
]


@pytest.mark.parametrize(("phase", "spoil", "reason"), SPOILT)
def test_what_is_not_of_the_protocol_is_declined(
    phase: str, spoil: Callable[[dict[str, Any]], Any], reason: str, begin: Begin
) -> None:
    portal = Summing()
    portal.spoil = lambda now, device, asked: spoil(asked) if (now, device) == (phase, "metro-1") else None
    begin(portal).run()
    assert [(device, reason in said) for device, said in portal.declined] == [("metro-1", True)]
    assert len(portal.sums) == 1
