"""What may go wrong with a secure sum beyond devices that go: files, processes, cohorts that are too large, lies."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federations.models import DeviceTask, Member
from federations.services import desk, device_tasks
from federations.services import roots as root_lists
from fedportal.common import blobs, clock, sealing
from fedportal.common.transactions import unit
from fedportal.door.hooks import Caller, DoorRequest, Stored
from fedwire.errors import FedportalError
from fedwire.masking import roots, statements
from fedwire.masking.roots import ADD
from fedwire.masking.statements import Advert
from tests.training.conftest import ARCHITECTURE, Stage, current, weights_of
from tests.training.summing import Sitter, expected, play, secure, sitters
from training.models import Assignment, MaskedSum, Round, Run, Seat, Update
from training.services import healing, leftovers, rounds, seats, steps

PARAMETERS = ARCHITECTURE.manifest().parameters


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    """Four devices of each of three organizations."""
    stage.valley_joins()
    return sitters(stage, PARAMETERS)


def first_attempt(run: Run) -> Round:
    return Round.objects.get(run=run, number=1, attempt=1)


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_a_vector_that_is_damaged_on_the_portal_fails_the_attempt_and_is_named(
    stage: Stage, twelve: list[Sitter], how: str
) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "mask")
    for device in twelve[:-1]:
        device.act(device.device.tasks.get(kind="secagg", state="open"))
    hurt = Seat.objects.get(device=twelve[4].device)
    path = blobs.path(hurt.vector)
    content = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(content[:-4] if how == "cut" else bytes(len(content)))
    twelve[-1].act(twelve[-1].device.tasks.get(kind="secagg", state="open"))
    found = first_attempt(run)
    assert found.state == "failed"
    assert twelve[4].device.identifier in found.reason
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed"


def test_a_sum_that_is_lost_fails_the_attempt_and_not_the_run(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "unmask")
    for device in twelve[:-1]:
        device.act(device.device.tasks.get(kind="secagg", state="open"))
    blobs.remove(MaskedSum.objects.get().total_blob)
    with contextlib.suppress(OSError):
        twelve[-1].act(twelve[-1].device.tasks.get(kind="secagg", state="open"))
    found = first_attempt(run)
    for _ in range(rounds.MOST_CLAIMS):
        Round.objects.filter(pk=found.pk).update(lease_until=clock.now())
        with contextlib.suppress(OSError):
            rounds.settle(found.pk)
    found.refresh_from_db()
    assert found.state == "failed"
    assert "cannot be read" in found.reason
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed"


def test_a_vector_that_arrives_when_its_task_is_closed_is_removed(stage: Stage, twelve: list[Sitter]) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "mask")
    device, task = twelve[0].device, twelve[0].task()
    assert task is not None
    caller = Caller(device.pk, device.public_id, device.organization_id, 0)
    ticket = desk.update_ticket(DoorRequest("PUT", "", {}, {"task": task.public_id}, {}, {}, lambda: caller))
    with unit():
        device_tasks.expire([task.pk])
    sha = blobs.put(b"\7" * task.update_bytes)
    with pytest.raises(FedportalError) as late:
        ticket.on_stored(Stored(sha, task.update_bytes, None))
    assert late.value.code == "task_closed"
    assert not blobs.exists(sha)


def test_what_a_dead_process_did_not_remove_is_removed_by_the_sweeper(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve)
    model = current(run).result_blob
    vector = blobs.put(b"what a killed process left")
    MaskedSum.objects.update(leftover=[vector, model])
    healing.sweep()
    assert MaskedSum.objects.get().leftover == []
    assert not blobs.exists(vector)
    assert blobs.exists(model)  # a device may send the bytes of a model as its vector
    leftovers.sweep()


def test_afterwards_no_file_of_the_sum_is_on_disk(stage: Stage, twelve: list[Sitter], settings: Any) -> None:
    run = secure(stage, rounds=1)
    play(twelve)
    length = (PARAMETERS + 1) * 4
    sizes = [path.stat().st_size for path in (settings.FEDPORTAL_DATA_DIR / "blobs").rglob("*") if path.is_file()]
    assert length not in sizes
    assert blobs.exists(current(run).result_blob)
    assert MaskedSum.objects.get().leftover == []


def test_of_more_devices_than_a_session_holds_some_are_drawn(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy={"group": 11, "least_devices": 10})
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    counted = set(Update.objects.filter(counted_in__run=run).values_list("device", flat=True))
    there = [device for device in twelve if device.device.pk in counted]
    assert len(there) == 11
    (left,) = Assignment.objects.filter(round__run=run, state="expired")
    assert left.reason == "the round had enough answers"
    moved = weights_of(current(run).result_blob).astype(np.float64) - weights_of(current(run).base_blob)
    np.testing.assert_allclose(moved, expected(there), atol=1e-5)


def spoiled(one: Sitter, task: DeviceTask, **changes: str) -> dict[str, Any]:
    """The device's advert with changes, signed."""
    said = one._advertise(task, task.content["masking"], {})
    assert one.terms is not None
    wrong = replace(Advert(**said["masking"]["advert"]), **changes)
    return asdict(replace(wrong, signature=statements.sign(one.key, "advert", wrong.fields(one.terms.digest))))


def test_an_advert_that_would_end_the_session_of_all_puts_only_its_device_out(
    stage: Stage, twelve: list[Sitter]
) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "advertise")
    one, *others = twelve
    task, first = one.task(), others[0].task()
    assert task is not None
    assert first is not None
    others[0].act(first)
    known = others[0].live.advert
    for changes in (
        {"mask_key": "00" * 32},
        {"mask_key": "ab"},
        {"seal_key": "no key at all"},
        {"mask_key": "AB" * 32},
        {"commitment": "ab" * 31},
        {"commitment": ("ab" * 32).upper()},
        {"mask_key": known.mask_key},
        {"seal_key": known.seal_key},
        {"commitment": known.commitment},
        {"seal_key": known.mask_key, "mask_key": known.mask_key},
    ):
        with pytest.raises(FedportalError) as refused:
            one.say(task, masking={"advert": spoiled(one, task, **changes)})
        assert refused.value.code == "masking_refused", changes
    device_tasks.decline(one.device.pk, task.public_id, b"")
    play(others)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert current(run).attempt == 1


def test_shares_are_spelled_in_one_way(stage: Stage, twelve: list[Sitter]) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "unmask")
    one = twelve[0]
    task = one.task()
    assert task is not None
    document = json.loads(blobs.path(task.base_blob).read_bytes())
    masking = one._unmask(task, {}, document)["masking"]
    roster = seats.roster_of(MaskedSum.objects.get())
    for wrong in (str.upper, lambda text: text[2:], lambda text: f" {text}"):
        given = {kind: {name: wrong(text) for name, text in kept.items()} for kind, kept in masking["given"].items()}
        fields = statements.unmasking_fields(roster.terms.session, roster.digest, given)
        with pytest.raises(FedportalError) as refused:
            one.say(task, masking={"given": given, "signature": statements.sign(one.key, "unmasking", fields)})
        assert refused.value.code == "masking_refused"
    one.act(task)


def test_a_certificate_that_others_would_refuse_puts_only_its_device_out(stage: Stage, twelve: list[Sitter]) -> None:
    federation, root, stranger = stage.cast.federation, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key = root.public_key().public_bytes_raw().hex()
    consent = roots.consented(root, federation.public_id, ADD, stage.cast.acme.public_id, key)
    entry = asdict(roots.accepted(root, consent, roots.EMPTY))
    entry.pop("federation")
    root_lists.accept(stage.cast.actor("olga"), federation, **entry)
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "advertise")
    one, other, *_ = twelve
    task, now = one.task(), int(clock.now().timestamp())
    assert task is not None

    def certificate(device: Sitter, signer: Ed25519PrivateKey, end: int) -> dict[str, Any]:
        about = (stage.cast.acme.public_id, device.name, device.key.public_key().public_bytes_raw().hex())
        return asdict(roots.certified(signer, about, 0, end))

    for wrong, reason in (
        (certificate(one, root, now - 1), "not good at this time"),
        (certificate(other, root, now + 100), "of another device"),
        (certificate(one, stranger, now + 100), "not signed by its organization"),
    ):
        one.certificate = wrong
        with pytest.raises(FedportalError) as refused:
            one.act(task)
        assert reason in refused.value.message
    device_tasks.decline(one.device.pk, task.public_id, b"")
    play(twelve[1:])
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert current(run).attempt == 1


def test_the_time_for_a_vector_grows_with_its_length(settings: Any) -> None:
    settings.FEDPORTAL_MASKING_SECONDS = 60
    small, large = steps.until(4000), steps.until(100_000_000)
    assert 380 < (large - small).total_seconds() < 410


def test_a_device_that_gives_wrong_shares_is_named_in_the_log(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "unmask")
    liar = min(twelve, key=lambda device: device.name)  # whose shares are tried first
    one, other = [device.name for device in twelve if device is not liar][:2]
    held = liar.live._held
    held[one], held[other] = held[other], held[one]
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    told = run.events.get(kind="masking.liars").data
    assert told["devices"] == [f"{liar.device.identifier} of {liar.device.organization.name}"]
    assert MaskedSum.objects.get().liars == [liar.name]


def test_a_device_of_an_organization_that_left_goes_no_further(stage: Stage, twelve: list[Sitter]) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "share")
    with unit():
        Member.objects.filter(organization=stage.cast.metro).update(state="left")
    mine = next(device for device in twelve if device.device.organization_id == stage.cast.metro.pk)
    task = mine.task()
    assert task is not None
    with pytest.raises(FedportalError) as refused:
        mine.act(task)
    assert refused.value.code == "forbidden"


def test_the_portal_signs_with_one_key_for_each_purpose(settings: Any) -> None:
    first = sealing.signing_key("a").public_key().public_bytes_raw()
    assert first == sealing.signing_key("a").public_key().public_bytes_raw()
    assert first != sealing.signing_key("b").public_key().public_bytes_raw()
    settings.FEDPORTAL_PEPPER = "another pepper"
    assert first != sealing.signing_key("a").public_key().public_bytes_raw()
    assert isinstance(sealing.signing_key("a"), Ed25519PrivateKey)
