"""Other forms of a version: ordered by whoever asks first, made once by a worker, and tried again after a failure."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from fedportal.common import blobs, clock
from fedportal.door.hooks import DownloadTicket
from registry import door, formats, tasks
from registry.converting import ConversionFailed
from registry.models import Artifact, ModelVersion
from registry.services import artifacts, models
from tests.registry.conftest import Arrays, House, everything_in, pushed, refusal, request


@pytest.fixture
def version(house: House, arrays: Arrays) -> ModelVersion:
    return pushed(house, models.create(house.olga, name="radiology"), save(arrays))


@pytest.fixture
def key(house: House) -> str:
    return house.through_key(house.olga, "models:read")[1]


def get(key: str, form: str = "", version: str = "latest", model: str = "radiology") -> DownloadTicket:
    return door.download(request("GET", key, f"format={form}" if form else "", model=model, version=version))


def test_safetensors_is_the_stored_file_itself(version: ModelVersion, key: str) -> None:
    for ticket in (get(key), get(key, "safetensors")):
        assert (ticket.path, ticket.size, ticket.etag) == (blobs.path(version.blob), version.size, version.blob)
        assert ticket.filename == "radiology-1.0.0.safetensors"
        assert ticket.headers == {"x-version": "1.0.0", "x-digest": version.digest}


def test_a_state_dict_is_made_on_demand_once(version: ModelVersion, key: str, arrays: Arrays) -> None:
    torch = pytest.importorskip("torch")
    assert refusal(get, key, "state_dict").code == "format_pending"
    assert refusal(get, key, "pytorch").status == 202
    artifact = Artifact.objects.get()
    assert artifacts.unfinished() == [artifact.pk]
    assert artifacts.make(artifact.pk)
    assert not artifacts.make(artifact.pk)
    assert artifacts.unfinished() == []
    ticket = get(key, "pytorch")
    assert ticket.filename == "radiology-1.0.0.pt"
    assert ticket.size == ticket.path.stat().st_size
    assert blobs.verify(ticket.etag)
    state = torch.load(ticket.path, weights_only=True)
    assert {name: tensor.numpy().tobytes() for name, tensor in state.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def test_an_order_lives_through_a_killed_worker(version: ModelVersion, key: str) -> None:
    refusal(get, key, "state_dict")
    artifact = Artifact.objects.get()
    Artifact.objects.update(claimed_at=clock.now())  # a worker took it and was killed
    assert artifacts.unfinished() == []
    assert not artifacts.make(artifact.pk)
    with clock.shifted(artifacts.CLAIM + timedelta(seconds=1)):
        assert artifacts.unfinished() == [artifact.pk]
        tasks.sweep()
        assert artifacts.make(artifact.pk)
    artifact.refresh_from_db()
    assert artifact.state == "ready"


def test_a_conversion_that_fails_says_why_and_is_tried_again_later(
    version: ModelVersion, key: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise ConversionFailed("torch is not installed where the portal's jobs run")

    refusal(get, key, "state_dict")
    artifact = Artifact.objects.get()
    with monkeypatch.context() as patch:
        patch.setattr(formats, "write_state_dict", broken)
        artifacts.make(artifact.pk)
    error = refusal(get, key, "state_dict")
    assert error.code == "format_failed"
    assert "torch is not installed" in error.message
    assert error.next_step.endswith("use one of: safetensors.")
    assert not [name for name in everything_in(store) if name.startswith("scratch")]
    with clock.shifted(timedelta(minutes=2)):
        assert refusal(get, key, "state_dict").code == "format_pending"
        artifacts.make(artifact.pk)
    assert get(key, "state_dict").path.exists()


def test_whatever_goes_wrong_ends_a_conversion_and_is_not_tried_for_ever(
    version: ModelVersion, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, target: Path) -> None:
        raise TypeError("a secret path")

    refusal(get, key, "state_dict")
    monkeypatch.setattr(formats, "write_state_dict", broken)
    assert artifacts.make(Artifact.objects.get().pk)
    error = refusal(get, key, "state_dict")
    assert (error.code, artifacts.unfinished()) == ("format_failed", [])
    assert "the portal's log says more (TypeError)" in error.message
    assert "secret" not in error.message


def test_a_missing_blob_fails_the_conversion_and_not_the_worker(version: ModelVersion, key: str) -> None:
    refusal(get, key, "state_dict")
    blobs.path(version.blob).unlink()
    assert artifacts.make(Artifact.objects.get().pk)
    assert Artifact.objects.get().state == "failed"


@pytest.mark.parametrize("form", ["tflite", "exe"])
def test_forms_that_do_not_exist_are_named_as_such(version: ModelVersion, key: str, form: str) -> None:
    error = refusal(get, key, form)
    assert (error.code, error.status) == ("format_unavailable", 409)
    assert not Artifact.objects.exists()


def test_an_unknown_artifact_is_nobodys_work(db: None) -> None:
    assert not artifacts.make(987654)


def test_two_versions_have_an_artifact_each(house: House, version: ModelVersion, key: str) -> None:
    other = pushed(house, version.model, save({"w": np.ones(2, np.float32)}))
    for name in ("1.0.0", other.version):
        refusal(get, key, "state_dict", name)
    assert Artifact.objects.count() == 2


# --- who may fetch ---------------------------------------------------------------------------------------------------


def test_members_fetch_a_shared_model_by_name_and_id(house: House, version: ModelVersion) -> None:
    _, key = house.through_key(house.mia, "*")
    assert refusal(get, key).code == "not_found"
    models.share(house.olga, version.model, house.federation)
    assert get(key).etag == get(key, model=version.model.public_id, version="1.0.0").etag == version.blob


@pytest.mark.parametrize("who", ["vera", "rex"])
def test_others_cannot_tell_a_foreign_model_from_a_missing_one(house: House, version: ModelVersion, who: str) -> None:
    models.share(house.olga, version.model, house.federation)
    _, key = house.through_key(getattr(house, who), "*")
    foreign, missing = refusal(get, key, model=version.model.public_id), refusal(get, key, model="mdl_" + "0" * 20)
    assert foreign.body() == missing.body()
    assert foreign.code == "not_found"


def test_a_viewer_sees_the_model_and_may_not_fetch_it(house: House, version: ModelVersion) -> None:
    _, key = house.through_key(house.otto, "*")
    assert refusal(get, key).code == "forbidden"


@pytest.mark.parametrize(("token", "code"), [("", "not_authenticated"), ("edg_nonsense", "key_invalid")])
def test_nobody_fetches_nothing(version: ModelVersion, token: str, code: str) -> None:
    assert refusal(get, token).code == code


def test_a_device_key_does_not_open_the_registry(house: House, version: ModelVersion) -> None:
    assert refusal(get, house.cast.device_key).code == "forbidden"


def test_a_browser_fetches_with_its_session(house: House, version: ModelVersion) -> None:
    cookies = {name: morsel.value for name, morsel in house.cast.browser("olga").cookies.items()}
    asked: Any = request("GET", "", model="radiology", version="latest")
    assert door.download(asked.__class__(**{**vars(asked), "cookies": cookies})).etag == version.blob


def test_a_session_sends_files_only_from_our_own_pages(house: House, version: ModelVersion) -> None:
    cookies = {name: morsel.value for name, morsel in house.cast.browser("olga").cookies.items()}
    asked: Any = request("PUT", "", upload="upl_x")

    def put(cookies: dict[str, str], headers: dict[str, str]) -> str:
        return refusal(door.upload, asked.__class__(**{**vars(asked), "cookies": cookies, "headers": headers})).code

    assert put(cookies, {"host": "testserver"}) == "forbidden"
    token = "a" * 32
    ours = {**cookies, "csrftoken": token}
    assert put(ours, {"host": "testserver", "x-csrftoken": "b" * 32}) == "forbidden"
    assert put(ours, {"host": "testserver", "x-csrftoken": token, "origin": "http://evil.example"}) == "forbidden"
    assert put(ours, {"host": "testserver", "x-csrftoken": token}) == "not_found"  # past the check: no such upload


@pytest.mark.parametrize(
    ("name", "file"),
    [("radiology v2", "radiology-v2"), ("Röntgen", "R-ntgen"), ("...", "model"), ("a.b_c-d", "a.b_c-d")],
)
def test_a_file_name_is_plain(name: str, file: str) -> None:
    assert door._file_name(name) == file
