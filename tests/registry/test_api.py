"""The registry's JSON, as clients meet it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from safetensors.numpy import save

from registry.models import Model, StagedUpload
from registry.services import models, versions
from tests.registry.conftest import House, pushed, send

API = "/api/v1"
LOGISTIC = {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": True}


@pytest.fixture
def olga(house: House) -> Client:
    return house.cast.client("olga")


@pytest.fixture
def mia(house: House) -> Client:
    return house.cast.client("mia")


def post(client: Client, path: str, status: int = 201, **body: Any) -> Any:
    answer = client.post(API + path, body, content_type="application/json")
    assert answer.status_code == status, answer.content
    return answer.json()


def get(client: Client, path: str, status: int = 200) -> Any:
    answer = client.get(API + path)
    assert answer.status_code == status, answer.content
    return answer.json()


def test_the_whole_way_of_a_described_model(house: House, olga: Client, mia: Client) -> None:
    model = post(olga, "/models", name="radiology-v1", architecture=LOGISTIC, org_id=house.acme.public_id)
    assert model["architecture"] == LOGISTIC
    assert (model["latest_version"], model["owned"], model["org_id"]) == (None, True, house.acme.public_id)
    version = post(olga, "/models/radiology-v1/versions", initial=True, seed=0)
    assert (version["version"], version["parameters"], version["origin"]) == ("1.0.0", 31, "pushed")
    assert version["formats"] == ["safetensors", "state_dict", "onnx", "torchscript"]

    shared = post(olga, f"/federations/{house.federation.name}/models", model_id="radiology-v1")
    assert shared == {"model_id": model["id"], "federation_id": house.federation.public_id}
    (seen,) = get(mia, f"/federations/{house.federation.public_id}/models")
    assert (seen["id"], seen["name"], seen["owned"], seen["latest_version"]) == (
        model["id"],
        "radiology-v1",
        False,
        "1.0.0",
    )
    assert seen["federations"] == [{"id": house.federation.public_id, "name": house.federation.name}]
    assert get(mia, "/models/radiology-v1/versions/latest")["version"] == "1.0.0"

    one = mia.get(f"{API}/federations/{house.federation.public_id}/models?limit=1")
    assert one.headers["X-Total-Count"] == "1"

    gone = olga.delete(f"{API}/federations/{house.federation.name}/models/radiology-v1")
    assert gone.status_code == 204
    assert get(mia, f"/federations/{house.federation.public_id}/models") == []
    get(mia, "/models/radiology-v1", 404)


def test_a_file_is_announced_sent_and_pushed(house: House, olga: Client) -> None:
    post(olga, "/models", name="radiology-v1")
    content = save({"w": np.ones(4, np.float32), "seen": np.array(3)})
    announced = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    upload = post(olga, "/models/radiology-v1/uploads", **announced)
    assert upload["url"] == f"/api/v1/uploads/{upload['id']}"
    assert not upload["complete"]
    assert post(olga, "/models/radiology-v1/versions", 409, upload=upload["id"])["error"] == "upload_incomplete"
    send(house.cast.keys["olga"], StagedUpload.objects.get(public_id=upload["id"]), content)
    version = post(olga, "/models/radiology-v1/versions", upload=upload["id"], version="2.1.0", notes="from the lab")
    assert (version["version"], version["parameters"], version["notes"]) == ("2.1.0", 4, "from the lab")
    assert {row["name"]: row["role"] for row in version["manifest"]} == {"w": "weight", "seen": "buffer"}
    again = post(olga, "/models/radiology-v1/versions", upload=upload["id"], version="2.1.0")
    assert again["id"] == version["id"]


def test_versions_are_listed_newest_first_in_pages(house: House, olga: Client) -> None:
    post(olga, "/models", name="radiology", architecture=LOGISTIC)
    for _ in range(5):
        post(olga, "/models/radiology/versions", initial=True)
    listed = get(olga, "/models/radiology/versions?limit=2&offset=1")
    assert ([row["version"] for row in listed["versions"]], listed["total"]) == (["1.3.0", "1.2.0"], 5)
    assert "manifest" not in listed["versions"][0]
    assert get(olga, "/models/radiology/versions/1.3.0")["lineage"]["sentence"] == "initial weights"
    get(olga, "/models/radiology/versions?limit=zero", 400)


def test_models_are_listed_with_filters(house: House, olga: Client) -> None:
    for name, framework in (("a", "pytorch"), ("b", "sklearn")):
        post(olga, "/models", name=name, framework=framework)
    assert [row["name"] for row in get(olga, "/models")["models"]] == ["a", "b"]
    assert [row["name"] for row in get(olga, "/models?framework=sklearn")["models"]] == ["b"]
    assert [row["name"] for row in get(olga, "/models?name=a&limit=1")["models"]] == ["a"]
    assert get(olga, f"/models?org_id={house.acme.public_id}")["total"] == 2
    assert get(olga, f"/models?org_id={house.metro.public_id}", 403)["error"] == "organization_mismatch"


def test_lists_cost_the_same_number_of_queries_for_one_and_for_ten(house: House, olga: Client) -> None:
    def add(name: str) -> None:
        model = models.create(house.olga, name=name, architecture=LOGISTIC)
        models.share(house.olga, model, house.federation)
        versions.initial(house.olga, model)

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as caught:
            get(olga, path)
        return len(caught)

    add("first")
    paths = ["/models", f"/federations/{house.federation.public_id}/models", "/models/first/versions"]
    get(olga, "/models")  # the first request notes the use of the key
    few = {path: queries(path) for path in paths}
    for number in range(9):
        add(f"more-{number}")
        versions.initial(house.olga, Model.objects.get(name="first"))
    assert {path: queries(path) for path in paths} == few


def test_the_description_can_be_changed_and_nothing_else(house: House, olga: Client, mia: Client) -> None:
    model = post(olga, "/models", name="radiology")
    models.share(house.olga, Model.objects.get(), house.federation)
    changes = {"description": "Chest", "name": "mine", "id": "mdl_x", "org_id": house.metro.public_id}
    changed = olga.patch(f"{API}/models/radiology", changes, content_type="application/json").json()
    assert changed["description"] == "Chest"
    assert {**changed, "description": "", "federations": []} == model
    refused = mia.patch(f"{API}/models/radiology", {"description": "x"}, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/models", {}, "field_invalid"),
        ("/models", {"name": 7}, "field_invalid"),
        ("/models", {"name": "x", "architecture": "logistic"}, "field_invalid"),
        ("/models", {"name": "x", "architecture": {"kind": "mlp"}}, "architecture_invalid"),
        ("/models", {"name": "rounds"}, "reserved_name"),
        ("/models", {"name": "radiology"}, "name_taken"),
        ("/models", {"name": "x", "org_id": "org_00000000000000000000"}, "organization_mismatch"),
        ("/models/radiology/uploads", {"size": "10", "sha256": "0" * 64}, "field_invalid"),
        ("/models/radiology/uploads", {"size": 1000}, "field_invalid"),
        ("/models/radiology/versions", {}, "field_invalid"),
        ("/models/radiology/versions", {"upload": "upl_00000000000000000000"}, "not_found"),
        ("/models/radiology/versions", {"initial": True}, "architecture_invalid"),
        ("/models/radiology/versions", {"initial": "yes"}, "field_invalid"),
        ("/models/missing/versions", {"initial": True}, "not_found"),
        ("/federations/healthcare-consortium/models", {}, "field_invalid"),
        ("/federations/healthcare-consortium/models", {"model_id": "missing"}, "not_found"),
        ("/federations/missing/models", {"model_id": "radiology"}, "not_found"),
    ],
    ids=str,
)
def test_unusable_requests_are_refused_by_the_catalogue(
    house: House, olga: Client, path: str, body: dict[str, Any], code: str
) -> None:
    models.create(house.olga, name="radiology")
    answer = olga.post(API + path, body, content_type="application/json").json()
    assert answer["error"] == code
    assert answer["next_step"]
    assert answer["detail"] == answer["message"]
    assert Model.objects.count() == 1


@pytest.mark.parametrize("path", ["/models/catalog", "/models/missing", "/models/missing/versions/latest"])
def test_what_is_not_there_is_a_404_in_our_own_words(house: House, olga: Client, path: str) -> None:
    assert get(olga, path, 404)["error"] == "not_found"


def test_strangers_cannot_tell_foreign_from_missing(house: House) -> None:
    model = models.create(house.olga, name="radiology", architecture=LOGISTIC)
    versions.initial(house.olga, model)
    rex = house.cast.client("rex")
    for path in ("", "/versions", "/versions/latest", "/versions/1.0.0"):
        foreign = get(rex, f"/models/{model.public_id}{path}", 404)
        assert foreign == get(rex, f"/models/mdl_{'0' * 20}{path}", 404)


def test_without_a_key_there_is_nothing(house: House) -> None:
    for path in ("/models", "/models/x", "/models/x/versions", f"/federations/{house.federation.public_id}/models"):
        assert get(Client(), path, 401)["error"] == "not_authenticated"


def test_a_pushed_version_tells_its_digest_and_file(house: House, olga: Client) -> None:
    model = models.create(house.olga, name="radiology")
    version = pushed(house, model, save({"w": np.ones(4, np.float32)}))
    shown = get(olga, "/models/radiology/versions/latest")
    assert (shown["sha256"], shown["digest"], shown["size"]) == (version.blob, version.digest, version.size)
