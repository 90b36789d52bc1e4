"""Versions: pushed once, numbered by semantic versions, never changed, published by a run exactly once."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from federations.models import AuditEntry, Role
from federations.permissions import Actor
from fedportal.common import blobs, clock
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, decode_model, encode_model
from registry import files, selectors, tasks
from registry.models import Model, ModelVersion, StagedUpload
from registry.services import models, versions
from tests.registry.conftest import Arrays, House, delivered, everything_in, pushed, refusal, send

LOGISTIC = {"kind": "logistic", "inputs": 3, "standardise": True}


def content_of(value: float = 1.0) -> bytes:
    return save({"w": np.full(3, value, np.float32)})


@pytest.fixture
def model(house: House) -> Model:
    return models.create(house.olga, name="radiology")


@pytest.fixture
def described(house: House) -> Model:
    return models.create(house.olga, name="described", architecture=LOGISTIC)


def announce(actor: Actor, model: Model, content: bytes) -> StagedUpload:
    return versions.begin_upload(actor, model, len(content), hashlib.sha256(content).hexdigest())


# --- pushing ---------------------------------------------------------------------------------------------------------


def test_the_first_version_is_1_0_0_and_the_next_a_minor_one(house: House, model: Model) -> None:
    assert [pushed(house, model, content_of(n)).version for n in range(3)] == ["1.0.0", "1.1.0", "1.2.0"]
    latest = versions.latest(model)
    assert latest is not None
    assert latest.version == "1.2.0"
    assert [version.version for version in selectors.versions_of(model)] == ["1.2.0", "1.1.0", "1.0.0"]


def test_a_version_knows_its_file(house: House, model: Model, arrays: Arrays) -> None:
    version = pushed(house, model, save(arrays), "0.3.1")
    manifest = Manifest.from_json(version.manifest)
    content = blobs.path(version.blob).read_bytes()
    assert content == encode_model(manifest, arrays)
    assert (version.size, version.blob) == (len(content), hashlib.sha256(content).hexdigest())
    assert version.digest == hashlib.sha256(content[len(manifest.model_header()) :]).hexdigest()
    assert (version.major, version.minor, version.patch, version.origin) == (0, 3, 1, "pushed")
    assert version.created_by == house.olga.person


def test_nothing_stays_in_staging_after_a_push(house: House, model: Model, store: Any) -> None:
    version = pushed(house, model, content_of())
    assert everything_in(store) == [f"blobs/{version.blob[:2]}/{version.blob}"]


def test_a_version_that_exists_is_not_pushed_again(house: House, model: Model) -> None:
    pushed(house, model, content_of(1), "1.0.0")
    upload = delivered(house, house.olga, model, content_of(2))
    assert refusal(versions.push, house.olga, model, upload, "1.0.0").code == "version_taken"
    # The file is still there for another number.
    assert versions.push(house.olga, model, upload, "1.0.1").version == "1.0.1"


def test_a_repeated_push_gives_the_same_version(house: House, model: Model) -> None:
    upload = delivered(house, house.olga, model, content_of())
    first = versions.push(house.olga, model, upload)
    upload.refresh_from_db()
    assert versions.push(house.olga, model, upload) == first
    assert ModelVersion.objects.count() == 1
    assert AuditEntry.objects.filter(action="version.pushed").count() == 1


def test_two_versions_of_the_same_bytes_share_their_blob(house: House, model: Model) -> None:
    first = pushed(house, model, content_of())
    second = pushed(house, model, content_of())
    assert (first.blob, second.version) == (second.blob, "1.1.0")


@pytest.mark.parametrize("version", ["1", "v1.0.0", "latest", "1.0.0; drop", "1.0.0-rc1"])
def test_a_version_has_three_numbers(house: House, model: Model, version: str) -> None:
    upload = delivered(house, house.olga, model, content_of())
    assert refusal(versions.push, house.olga, model, upload, version).code == "version_invalid"


def test_a_push_waits_for_the_whole_file(house: House, model: Model) -> None:
    content = content_of()
    upload = announce(house.olga, model, content)
    error = refusal(versions.push, house.olga, model, upload)
    assert (error.code, error.context) == ("upload_incomplete", {"stored": 0, "expected": len(content)})


def test_the_same_file_announced_again_continues(house: House, model: Model) -> None:
    assert announce(house.olga, model, content_of()) == announce(house.olga, model, content_of())
    assert announce(house.olga, model, content_of(2)) != announce(house.olga, model, content_of())


@pytest.mark.parametrize(
    ("size", "sha256", "code"),
    [
        (0, "0" * 64, "field_invalid"),
        (-1, "0" * 64, "field_invalid"),
        (9, "0" * 64, "field_invalid"),
        (True, "0" * 64, "field_invalid"),
        (100.0, "0" * 64, "field_invalid"),
        (1 << 60, "0" * 64, "body_too_large"),
        (100, "0" * 63, "field_invalid"),
        (100, "../" * 21 + "x", "field_invalid"),
        (100, None, "field_invalid"),
    ],
    ids=str,
)
def test_an_announcement_that_cannot_be_is_refused(
    house: House, model: Model, size: Any, sha256: Any, code: str
) -> None:
    assert refusal(versions.begin_upload, house.olga, model, size, sha256).code == code
    assert not StagedUpload.objects.exists()


def test_a_file_that_is_no_model_is_refused_as_soon_as_it_is_there(house: House, model: Model, store: Any) -> None:
    rows = b"age,weight,diagnosis\n" + b"63,81.5,1\n" * 50
    upload = announce(house.olga, model, rows)
    _, key = house.through_key(house.olga, "*")
    assert refusal(send, key, upload, rows).code == "not_safetensors"
    assert everything_in(store) == []
    upload.refresh_from_db()
    assert not upload.complete


def test_a_file_that_is_another_one_than_announced_is_refused(house: House, model: Model, store: Any) -> None:
    upload = announce(house.olga, model, content_of(1))
    _, key = house.through_key(house.olga, "*")
    assert refusal(send, key, upload, content_of(2)).code == "digest_mismatch"
    assert everything_in(store) == []


def test_numbers_that_are_none_are_refused_and_leave_nothing(house: House, model: Model, store: Any) -> None:
    upload = delivered(house, house.olga, model, content_of(float("nan")))
    assert refusal(versions.push, house.olga, model, upload).code == "not_finite"
    assert everything_in(store) == []
    assert not StagedUpload.objects.exists()
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize(("who", "code"), [("otto", "forbidden"), ("mia", "forbidden"), ("rex", "not_found")])
def test_only_the_owners_people_with_the_role_push(house: House, model: Model, who: str, code: str) -> None:
    models.share(house.olga, model, house.federation)
    upload = delivered(house, house.olga, model, content_of())
    actor = getattr(house, who)
    assert refusal(versions.push, actor, model, upload).code == code
    assert refusal(announce, actor, model, content_of()).code == code


def test_only_who_announced_an_upload_sends_its_file(house: House, model: Model) -> None:
    upload = announce(house.olga, model, content_of())
    colleague = Actor(house.cast.colleague(house.acme, Role.DATA_SCIENTIST), house.acme)
    for actor in (colleague, house.mia, house.rex):
        _, key = house.through_key(actor, "*")
        assert refusal(send, key, upload, content_of()).code == "not_found"
    _, reading = house.through_key(house.olga, "models:read")
    assert refusal(send, reading, upload, content_of()).code == "scope_missing"


# --- described models ------------------------------------------------------------------------------------------------


def test_a_described_model_begins_with_initial_weights(house: House, described: Model) -> None:
    version = versions.initial(house.olga, described)
    manifest, arrays = decode_model(blobs.path(version.blob))
    assert manifest == Architecture.parse(LOGISTIC).manifest() == Manifest.from_json(version.manifest)
    assert not arrays["layers.0.weight"].any()
    assert arrays["standardise.std"].tolist() == [1, 1, 1]
    assert (version.version, version.architecture) == ("1.0.0", described.architecture)
    assert selectors.sentence(version) == "initial weights"


def test_the_seed_decides_the_initial_weights(house: House) -> None:
    mlp = models.create(house.olga, name="mlp", architecture={"kind": "mlp", "inputs": 4, "hidden": [5]})
    digests = [versions.initial(house.olga, mlp, seed).digest for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("seed", [-1, 1 << 63, 1.0, True, "1"])
def test_a_seed_is_a_natural_number(house: House, described: Model, seed: Any) -> None:
    assert refusal(versions.initial, house.olga, described, seed).code == "field_invalid"


def test_an_undescribed_model_has_no_initial_weights(house: House, model: Model) -> None:
    assert refusal(versions.initial, house.olga, model).code == "architecture_invalid"


def test_a_push_must_be_of_the_described_architecture(house: House, described: Model, store: Any) -> None:
    upload = delivered(house, house.olga, described, content_of())
    assert refusal(versions.push, house.olga, described, upload).code == "tensor_names"
    assert everything_in(store) == []
    arrays = Architecture.parse(LOGISTIC).initial()
    assert pushed(house, described, save(dict(arrays))).architecture == described.architecture


def test_a_push_may_bring_an_architecture(house: House, model: Model) -> None:
    content = save(dict(Architecture.parse(LOGISTIC).initial()))
    version = versions.push(house.olga, model, delivered(house, house.olga, model, content), architecture=LOGISTIC)
    assert [row["name"] for row in version.manifest if row["role"] == "buffer"] == [
        "standardise.mean",
        "standardise.std",
    ]
    model.refresh_from_db()
    assert model.architecture == version.architecture == Architecture.parse(LOGISTIC).spec()


# --- publishing ------------------------------------------------------------------------------------------------------


def trained(house: House, parent: ModelVersion, value: float = 2.0, source: str = "run_1/last", **more: Any) -> Any:
    arrays = {"w": np.full(3, value, np.float32)}
    blob = blobs.put(encode_model(Manifest.from_json(parent.manifest), arrays))
    return versions.publish(parent.model, blob=blob, parent=parent, source=source, **more)


def test_a_run_publishes_a_major_version_with_its_lineage(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    organizations = [{"id": house.acme.public_id, "updates": 12}, {"id": house.metro.public_id, "updates": 12}]
    lineage = {"run": "run_1", "rounds": 50, "strategy": "fedavg", "organizations": organizations}
    version = trained(house, parent, lineage=lineage, metrics={"auc": 0.99})
    assert (version.version, version.parent, version.origin) == ("2.0.0", parent, "trained")
    assert selectors.sentence(version) == "aggregated from 50 rounds, 2 organizations"
    assert selectors.lineage(version)["parents"] == ["1.0.0"]
    assert selectors.lineage(version)["strategy"] == "fedavg"
    assert version.metrics == {"auc": 0.99}
    assert AuditEntry.objects.get(action="version.published").actor == "portal"


def test_publishing_again_changes_nothing(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    first = trained(house, parent)
    assert trained(house, parent, value=3.0) == first
    assert ModelVersion.objects.count() == 2


def test_best_and_last_of_a_run_are_both_kept(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    last = trained(house, parent, 2.0, "run_1/last")
    best = trained(house, parent, 3.0, "run_1/best", bump="minor")
    assert (last.version, best.version) == ("2.0.0", "2.1.0")


def test_a_push_during_a_run_does_not_collide_with_its_version(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    pushed(house, model, content_of(5), "2.0.0")
    assert trained(house, parent).version == "3.0.0"


def test_parents_are_followed_to_the_first(house: House, model: Model) -> None:
    version = pushed(house, model, content_of())
    for number in range(3):
        version = trained(house, version, number, f"run_{number}/last")
    assert selectors.lineage(version)["parents"] == ["3.0.0", "2.0.0", "1.0.0"]


def test_another_models_file_is_not_published(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    blob = files.store_arrays(Architecture.parse(LOGISTIC).manifest(), Architecture.parse(LOGISTIC).initial()).blob
    error = refusal(versions.publish, model, blob=blob, parent=parent, source="run_2/last")
    assert error.code == "tensor_names"
    assert ModelVersion.objects.count() == 1


def test_a_run_without_a_file_publishes_nothing(house: House, model: Model) -> None:
    parent = pushed(house, model, content_of())
    with pytest.raises(FileNotFoundError):
        versions.publish(model, blob="0" * 64, parent=parent, source="run_2/last")


# --- finding and sweeping --------------------------------------------------------------------------------------------


def test_versions_are_found_by_number_word_and_id(house: House, model: Model) -> None:
    first, second = pushed(house, model, content_of(1)), pushed(house, model, content_of(2))
    assert selectors.find_version(model, "latest") == second
    assert selectors.find_version(model, "1.0.0") == first
    assert selectors.find_version(model, first.public_id) == first
    assert refusal(selectors.find_version, model, "9.9.9").code == "not_found"
    assert refusal(selectors.find_version, model, "newest").code == "version_invalid"
    assert refusal(selectors.find_version, models.create(house.olga, name="empty"), "latest").code == "not_found"


def test_an_upload_after_a_crash_is_pushed_from_its_blob(house: House, model: Model, arrays: Arrays) -> None:
    first = pushed(house, model, save(arrays))
    content = blobs.path(first.blob).read_bytes()  # canonical, so a push moves the file into the store
    upload = delivered(house, house.olga, model, content)
    blobs.staging(upload.public_id).unlink()  # the process died between moving the file and writing the row
    assert versions.push(house.olga, model, upload).blob == first.blob


def test_a_lost_file_is_asked_for_again(house: House, model: Model) -> None:
    upload = delivered(house, house.olga, model, content_of())
    blobs.staging(upload.public_id).unlink()
    assert refusal(versions.push, house.olga, model, upload).code == "upload_incomplete"
    _, key = house.through_key(house.olga, "*")
    send(key, upload, content_of())
    upload.refresh_from_db()
    assert versions.push(house.olga, model, upload).version == "1.0.0"


def test_old_uploads_are_forgotten_with_their_files(house: House, model: Model, store: Any) -> None:
    delivered(house, house.olga, model, content_of())
    tasks.sweep()
    assert StagedUpload.objects.count() == 1
    with clock.shifted(timedelta(hours=25)):
        tasks.sweep()
    assert not StagedUpload.objects.exists()
    assert everything_in(store) == []


def test_a_refusal_in_the_store_is_no_lost_version_number(house: House, model: Model) -> None:
    upload = delivered(house, house.olga, model, content_of(float("inf")))
    with pytest.raises(FedportalError):
        versions.push(house.olga, model, upload)
    assert pushed(house, model, content_of()).version == "1.0.0"
