"""Rounds of secure aggregation: what the portal learns is the sum, whoever drops out when, and nothing else stays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.services import device_tasks
from federations.services import roots as root_lists
from fedportal.common import blobs, clock
from fedwire.errors import FedportalError
from fedwire.masking import roots
from fedwire.masking.roots import ADD
from tests.training.conftest import ARCHITECTURE, Stage, current, weights_of
from tests.training.summing import Sitter, expected, play, secure, sitters, step_of
from training.models import MaskedSum, Round, Run, Update
from training.services import healing, rounds, runs

PARAMETERS = ARCHITECTURE.manifest().parameters


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    """Four devices of each of three organizations."""
    stage.valley_joins()
    return sitters(stage, PARAMETERS)


def moved(found: Round) -> np.ndarray:
    """How far the round's model is from its base."""
    return weights_of(found.result_blob).astype(np.float64) - weights_of(found.base_blob)


def overdue(run: Run) -> None:
    """Let the present step's deadline be past, and look."""
    MaskedSum.objects.filter(round__run=run).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()


def dying(devices: list[Sitter], step: str, names: tuple[str, ...] = ("acme-site-0", "valley-site-3")) -> list[Sitter]:
    """Those that stay, after these die in a step."""
    for device in devices:
        if device.device.identifier in names:
            device.until = step
    return [device for device in devices if not device.until]


def test_the_model_moves_by_the_weighted_mean_of_all(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve)
    run.refresh_from_db()
    found = current(run)
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(found), expected(twelve), atol=1e-5)
    total = found.masked_sums.get()
    assert total.state == "done"
    assert total.weights == sum(device.rows for device in twelve)
    assert len(total.survivors) == 12
    assert len(total.transcript) == 64
    assert not total.liars
    assert found.bytes_up == 12 * 4 * (PARAMETERS + 1)


def test_a_sum_is_named_by_all_of_its_bytes(stage: Stage, twelve: list[Sitter]) -> None:
    """A name that two sums have in common would put one in the place of the other."""
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "agree")
    name = MaskedSum.objects.get().total_blob
    assert hashlib.sha256(blobs.path(name).read_bytes()).hexdigest() == name


def test_three_rounds_follow_one_another_with_fresh_keys(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=3)
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert len({total.session for total in MaskedSum.objects.all()}) == 3
    keys = [
        one["mask_key"] for total in MaskedSum.objects.all() for one in total.seats.values_list("advert", flat=True)
    ]
    assert len(set(keys)) == 36


@pytest.mark.parametrize("step", ["advertise", "share", "mask"])
def test_who_drops_out_before_its_vector_is_in_is_left_out(stage: Stage, twelve: list[Sitter], step: str) -> None:
    run = secure(stage, rounds=1)
    stay = dying(twelve, step)
    play(twelve)
    overdue(run)
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(stay), atol=1e-5)
    assert set(Update.objects.values_list("device__public_id", flat=True)) == {device.name for device in stay}
    gone = current(run).assignments.exclude(reason="").values_list("device__identifier", "reason")
    assert {name for name, _ in gone} == {"acme-site-0", "valley-site-3"}
    assert all(step in reason for _, reason in gone)


@pytest.mark.parametrize("step", ["agree", "unmask"])
def test_who_drops_out_later_is_counted_all_the_same(stage: Stage, twelve: list[Sitter], step: str) -> None:
    run = secure(stage, rounds=1)
    dying(twelve, step)
    play(twelve)
    overdue(run)
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(twelve), atol=1e-5)


@pytest.mark.parametrize("step", ["share", "mask", "agree", "unmask"])
def test_a_whole_organization_that_goes_ends_the_attempt_with_names(
    stage: Stage, twelve: list[Sitter], step: str
) -> None:
    run = secure(stage, rounds=1)
    dying(twelve, step, tuple(f"metro-site-{number}" for number in range(4)))
    play(twelve)
    overdue(run)
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert "metro-site-0" in failed.reason
    assert failed.masked_sums.get().state == "failed"
    assert not any(failed.masked_sums.get().seats.values_list("given", flat=True))
    assert not list(blobs.path("0" * 64).parent.parent.rglob("*masked*"))


def test_the_next_attempt_begins_with_fresh_keys(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    dying(twelve, "mask", tuple(f"metro-site-{number}" for number in range(4)))
    play(twelve)
    overdue(run)
    first = MaskedSum.objects.get()
    for device in twelve:
        device.until = ""
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    second = current(run).masked_sums.get()
    assert second.session != first.session
    assert current(run).attempt == 2
    np.testing.assert_allclose(moved(current(run)), expected(twelve), atol=1e-5)


def test_too_few_organizations_make_no_session(stage: Stage) -> None:
    devices = sitters(stage, PARAMETERS, each=6)  # valley is no member
    run = secure(stage, rounds=1)
    play(devices)
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert "2 organizations are fewer than the 3" in failed.reason
    assert not MaskedSum.objects.exists()


def test_a_decline_counts_as_gone_at_once(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "share")
    refuser = twelve[0]
    task = refuser.task()
    assert task is not None
    assert step_of(task) == "share"
    device_tasks.decline(refuser.device.pk, task.public_id, b'{"reason": "its policy asks for more devices"}')
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(twelve[1:]), atol=1e-5)
    part = current(run).assignments.get(device=refuser.device)
    assert "its policy asks for more devices" in part.reason


def test_a_step_that_is_repeated_gets_the_first_receipt_and_another_answer_none(
    stage: Stage, twelve: list[Sitter]
) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "agree")
    one = twelve[0]
    task = one.task()
    assert task is not None
    first = one.act(task)
    assert one.act(task) == first
    with pytest.raises(FedportalError) as refused:
        one.say(task, masking={"signature": "00" * 64})
    assert refused.value.code == "answer_differs"


@pytest.mark.parametrize(
    ("step", "masking"),
    [
        ("advertise", {"advert": {}}),
        ("advertise", {}),
        ("share", {"sealed": {}, "signature": "00"}),
        ("agree", {"signature": "00" * 64}),
        ("unmask", {"given": {"self": {}, "pair": {}}, "signature": "00" * 64}),
        ("unmask", {"given": [], "signature": 3}),
    ],
)
def test_what_is_not_as_the_protocol_has_it_is_refused_and_nothing_is_kept(
    stage: Stage, twelve: list[Sitter], step: str, masking: dict[str, Any]
) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda now: now == step)
    one = twelve[0]
    task = one.task()
    assert task is not None
    with pytest.raises(FedportalError) as refused:
        one.say(task, masking=masking)
    assert refused.value.code == "masking_refused"
    seat = MaskedSum.objects.get().seats.get(device=one.device)
    assert seat.said != step
    one.act(task)  # the right one is still taken


def test_a_vector_that_comes_after_the_freeze_is_refused_and_deleted(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "mask")
    slow = twelve[0]
    task = slow.task()
    assert task is not None
    for device in twelve[1:]:
        other = device.task()
        assert other is not None
        device.act(other)
    sha = blobs.put(b"\1" * task.update_bytes)
    device_tasks.note_upload(task.pk, sha, None)  # it was uploaded, and nobody signed for it
    overdue(run)
    assert not blobs.exists(sha)
    with pytest.raises(FedportalError) as late:
        slow.act(task)
    assert late.value.code == "task_closed"


def test_stopping_the_run_ends_the_session_and_erases_it(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "unmask")
    runs.stop(stage.olga, run)
    total = MaskedSum.objects.get()
    assert total.state == "failed"
    assert not total.total_blob
    assert not any(device.task() for device in twelve)


def test_bells_that_nobody_hears_are_rung_again_by_the_sweeper(stage: Stage, twelve: list[Sitter], silent: Any) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "advertise")
    silent()
    while (run.state if run.refresh_from_db() is None else "") == "running":
        play(twelve)
        for pk in [*healing.due(), *Round.objects.filter(state="masking").values_list("pk", flat=True)]:
            rounds.settle(pk)
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(twelve), atol=1e-5)


def contents(folder: Path) -> bytes:
    """All that lies on disk below the folder."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def everything() -> str:
    """All rows of all tables of the training and device floors, as text."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            if table.startswith(("training_", "federations_devicetask")):
                cursor.execute(f'SELECT * FROM "{table}"')
                found += [str(row) for row in cursor.fetchall()]
    return "\n".join(found)


def test_neither_database_nor_disk_nor_queries_hold_a_key_or_a_share_in_the_clear(
    stage: Stage, twelve: list[Sitter], tmp_path: Path
) -> None:
    run = secure(stage, rounds=1)
    with CaptureQueriesContext(connection) as told:
        for step in ("advertise", "share", "mask", "agree", "unmask", "over"):
            play(twelve, until=lambda now, step=step: now == step)
            text, disk = everything(), contents(tmp_path)
            for device in twelve:
                for secret in device.secrets:
                    assert secret.hex() not in text
                    assert secret not in disk
                    assert secret.hex().encode() not in disk
                plain = device.update.tobytes()
                assert plain not in disk
                assert plain.hex() not in text
    spoken = "\n".join(query["sql"] for query in told.captured_queries)
    for device in twelve:
        assert device.vector, "it masked a vector"
        assert device.vector not in contents(tmp_path), "no masked vector outlives the sum"
        assert not any(secret.hex() in spoken for secret in device.secrets)
    run.refresh_from_db()
    assert run.state == "completed"
    sealed = [text for device in twelve for text in _sealed_of(device)]
    assert not any(text in everything() for text in sealed), "what was sealed is erased with the sum"


def _sealed_of(device: Sitter) -> list[str]:
    return list(device.live.share(list(device.live._roster.values()), "")[0].values())


def test_the_page_says_which_step_it_is_and_who_is_not_in_the_sum(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    dying(twelve, "mask")
    play(twelve, until=lambda step: step == "share")
    shown = stage.snapshot(run)["round"]
    assert (shown["state"], shown["word"]) == ("masking", "adding up under masks: keys are shared, 0 of 12 devices")
    play(twelve)
    overdue(run)
    play(twelve)
    said = [event.data["word"] for event in run.events.filter(kind="round.masking")]
    assert "adding up under masks: masks are taken off the sum, 10 of 10 devices" in said
    cards = {card["device"]["identifier"]: card["reason"] for card in stage.snapshot(run)["participants"]}
    assert cards["acme-site-0"] == "not in the sum: it did not take the step mask in time"


def test_certificates_and_the_list_of_members_go_to_all_who_share(stage: Stage, twelve: list[Sitter]) -> None:
    federation, root = stage.cast.federation, Ed25519PrivateKey.generate()
    key = root.public_key().public_bytes_raw().hex()
    consent = roots.consented(root, federation.public_id, ADD, stage.cast.acme.public_id, key)
    entry = asdict(roots.accepted(root, consent, roots.EMPTY))
    entry.pop("federation")
    root_lists.accept(stage.cast.actor("olga"), federation, **entry)
    certified = twelve[0]
    about = (stage.cast.acme.public_id, certified.name, certified.key.public_key().public_bytes_raw().hex())
    certified.certificate = asdict(roots.certified(root, about, 0, 4_000_000_000))
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "mask")
    task = next(device.task() for device in twelve)
    assert task is not None
    shared = certified.device.tasks.filter(content__masking__phase="share").get()
    document = json.loads(blobs.path(shared.base_blob).read_bytes())
    members = roots.listed(federation.public_id, [roots.Entry(**one) for one in document["members"]])
    assert members.roots == {stage.cast.acme.public_id: key}
    (found,) = document["certificates"].items()
    assert found == (certified.name, certified.certificate)


def test_what_cannot_be_a_certificate_is_refused(stage: Stage, twelve: list[Sitter]) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "advertise")
    twelve[0].certificate = {"organization": "acme"}
    task = twelve[0].task()
    assert task is not None
    with pytest.raises(FedportalError) as caught:
        twelve[0].act(task)
    assert caught.value.code == "masking_refused"
