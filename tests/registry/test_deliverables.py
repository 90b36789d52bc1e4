"""Files of versions and links to them: made on demand, good for minutes, for one file and for whom they were made."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.test import Client
from safetensors.numpy import save

from federations.models import AuditEntry, Membership, Role
from federations.permissions import Actor
from federations.services import keys, organizations
from fedportal.common import blobs, clock, faults
from fedportal.door.hooks import DownloadTicket
from fedwire.formats import ONNX
from registry import deliverables, door, tasks
from registry.models import Artifact, ModelVersion
from registry.services import artifacts, models, versions
from tests.registry.conftest import Arrays, House, everything_in, pushed, refusal, request

LOGISTIC = {"kind": "logistic", "inputs": 3, "classes": 2, "standardise": True}


@pytest.fixture
def version(house: House) -> ModelVersion:
    """A version of a described architecture."""
    return versions.initial(house.olga, models.create(house.olga, name="radiology", architecture=LOGISTIC))


def opened(link: deliverables.Link, **changed: str) -> DownloadTicket:
    """What the door gives for a link, of which something may have been changed."""
    parts = urlsplit(link.url)
    places = dict(zip(("model", "version"), (parts.path.split("/")[4], parts.path.split("/")[6]), strict=True))
    query = changed.pop("query", parts.query)
    return door.linked(request("GET", "", query, **(places | changed)))


def onnx_of(house: House, version: ModelVersion) -> deliverables.Link:
    """A link to the version as ONNX, which is made first."""
    assert refusal(deliverables.link, house.olga, "radiology", "latest", ONNX).code == "format_pending"
    assert artifacts.make(Artifact.objects.get(format=ONNX).pk)
    return deliverables.link(house.olga, "radiology", "latest", ONNX)


def test_onnx_is_made_once_and_its_link_opens_without_a_key(house: House, version: ModelVersion) -> None:
    link = onnx_of(house, version)
    ticket = opened(link)
    assert (ticket.etag, ticket.size) == (link.sha256, link.size)
    assert ticket.filename == "radiology-1.0.0.onnx"
    assert blobs.verify(link.sha256)
    assert deliverables.link(house.olga, "radiology", "1.0.0", ONNX).sha256 == link.sha256
    assert Artifact.objects.count() == 1


def test_a_file_that_is_gone_is_made_again(house: House, version: ModelVersion) -> None:
    link = onnx_of(house, version)
    blobs.remove(link.sha256)
    assert refusal(opened, link).code == "link_expired"
    assert onnx_of(house, version).sha256 == link.sha256
    assert opened(link).size == link.size


def test_a_link_says_where_until_when_and_what(house: House, version: ModelVersion, settings: Any) -> None:
    client = Client(headers={"Authorization": f"Bearer {house.through_key(house.olga, 'models:read')[1]}"})
    address = f"/api/v1/models/{version.model.public_id}/versions/1.0.0"
    said = client.get(f"{address}/download-url").json()
    assert said["url"].startswith(f"{settings.FEDPORTAL_PUBLIC_URL}{address}/file?link=")
    assert (said["format"], said["version"]) == ("safetensors", "1.0.0")
    assert (said["sha256"], said["size"]) == (version.blob, version.size)
    assert said["expires_at"] > clock.now().isoformat()
    query = dict(parse_qsl(urlsplit(said["url"]).query))
    assert door.linked(request("GET", "", urlsplit(said["url"]).query, **places(version))).etag == version.blob
    assert set(query) == {"link"}
    pending = client.get(f"{address}/download-url?format=onnx")
    assert (pending.status_code, pending.json()["error"]) == (202, "format_pending")
    assert pending.json()["context"]["ask"] == f"{address}/download-url?format=onnx"
    states = {row["format"]: (row["state"], row["sha256"]) for row in client.get(f"{address}/formats").json()}
    assert states == {
        "safetensors": ("ready", version.blob),
        "state_dict": ("unmade", None),
        "onnx": ("pending", None),
        "torchscript": ("unmade", None),
    }


def places(version: ModelVersion) -> dict[str, str]:
    return {"model": version.model.public_id, "version": version.version}


def test_an_expired_link_and_an_altered_one_say_so(house: House, version: ModelVersion) -> None:
    link = deliverables.link(house.olga, "radiology", "latest", "safetensors")
    with clock.shifted(deliverables.LINKS_LAST - timedelta(seconds=2)):
        opened(link)
    with clock.shifted(deliverables.LINKS_LAST):
        assert refusal(opened, link).code == "link_expired"
    other = versions.initial(house.olga, version.model)
    query = urlsplit(link.url).query
    for changed in (
        {"query": query.replace("safetensors", "onnx")},
        {"query": query.replace(version.blob, "0" * 64)},
        {"query": query[:-1] + ("A" if query[-1] != "A" else "B")},
        {"query": query.rpartition("%3A")[0]},
        {"query": ""},
        {"version": other.version},
        {"version": "latest"},
    ):
        assert refusal(opened, link, **changed).code == "link_invalid"


def test_a_link_ends_with_the_rights_of_whom_it_was_made_for(house: House, version: ModelVersion) -> None:
    models.share(house.olga, version.model, house.federation)
    through, _ = house.through_key(house.mia, "models:read")
    link = deliverables.link(through, "radiology", "latest", "safetensors")
    own = deliverables.link(house.mia, "radiology", "latest", "safetensors")
    assert opened(link).etag == opened(own).etag == version.blob
    assert through.key is not None
    keys.revoke(house.mia, through.key)
    assert refusal(opened, link).code == "link_expired"
    opened(own)
    models.unshare(house.olga, version.model, house.federation)
    assert refusal(opened, own).code == "link_expired"
    ours = deliverables.link(house.olga, "radiology", "latest", "safetensors")
    scientist = Actor(house.cast.colleague(house.acme, Role.DATA_SCIENTIST), house.acme)
    theirs = deliverables.link(scientist, "radiology", "latest", "safetensors")
    opened(theirs)
    organizations.remove(house.olga, Membership.objects.get(person=scientist.person))
    assert refusal(opened, theirs).code == "link_expired"
    house.olga.person.is_active = False
    house.olga.person.save()
    assert refusal(opened, ours).code == "link_expired"


def test_who_may_not_pull_gets_no_link_and_orders_nothing(house: House, version: ModelVersion) -> None:
    for actor, code in ((house.otto, "forbidden"), (house.mia, "not_found")):
        assert refusal(deliverables.link, actor, "radiology", "latest", ONNX).code == code
    assert not Artifact.objects.exists()


def test_a_model_the_portal_does_not_know_is_not_converted(house: House, arrays: Arrays) -> None:
    plain = pushed(house, models.create(house.olga, name="plain"), save(arrays))
    for form in ("onnx", "torchscript"):
        error = refusal(deliverables.link, house.olga, "plain", "latest", form)
        assert (error.code, error.status) == ("format_needs_architecture", 409)
        assert error.next_step.endswith("use one of: safetensors, state_dict.")
    assert [file.form for file in deliverables.states(house.olga, "plain", plain.version)] == [
        "safetensors",
        "state_dict",
    ]
    assert not Artifact.objects.exists()


def test_the_log_tells_who_asked_and_what_was_made(house: House, version: ModelVersion) -> None:
    link = onnx_of(house, version)
    deliverables.link(house.olga, "radiology", "latest", ONNX)
    found = AuditEntry.objects.filter(action__startswith="version.form").order_by("sequence")
    assert [(entry.action, entry.actor, entry.subject) for entry in found] == [
        ("version.form_ordered", house.olga.public_id, version.public_id),
        ("version.form_made", "portal", version.public_id),
    ]
    made = found.last()
    assert made is not None
    assert made.details["sha256"] == link.sha256


def test_a_slow_worker_and_its_successor_make_one_file(house: House, version: ModelVersion) -> None:
    refusal(deliverables.link, house.olga, "radiology", "latest", ONNX)
    artifact = Artifact.objects.get()
    honest, done = artifacts._converted, []

    def overtaken(row: Artifact) -> tuple[str, int]:
        if not done:
            done.append(True)
            with clock.shifted(artifacts.CLAIM + timedelta(seconds=1)):
                assert artifacts.make(artifact.pk)
        return honest(row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "_converted", overtaken)
        assert artifacts.make(artifact.pk)
    artifact.refresh_from_db()
    assert artifact.state == "ready"
    assert AuditEntry.objects.filter(action="version.form_made").count() == 1


@pytest.mark.parametrize("point", faults.CONVERSION_POINTS)
def test_a_worker_that_is_killed_leaves_nothing_half_done_and_the_form_is_made_again(
    house: House, version: ModelVersion, store: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal(deliverables.link, house.olga, "radiology", "latest", ONNX)
    artifact = Artifact.objects.get()
    before = everything_in(store)
    assert killed(artifact.pk, point, monkeypatch) == signal.SIGKILL
    Artifact.objects.update(claimed_at=clock.now())  # all that it had written into a row
    left = set(everything_in(store)) - set(before)
    assert len(left) == 1
    with clock.shifted(artifacts.CLAIM + timedelta(seconds=1)):
        tasks.sweep()
        assert artifacts.make(artifact.pk)
    artifact.refresh_from_db()
    assert blobs.verify(artifact.blob)
    blobs.sweep(timedelta(seconds=-1))
    # What the killed one had stored is what the next one stores; what it had only written goes with other scratch.
    assert set(everything_in(store)) - set(before) == {f"blobs/{artifact.blob[:2]}/{artifact.blob}"}


def killed(artifact_pk: int, point: str, patch: pytest.MonkeyPatch) -> int:
    """By which signal a worker ends that makes the form and dies at this point; its rows are a copy of ours."""
    child = os.fork()
    if not child:
        patch.setattr(faults, "_target", point)
        patch.setattr(faults, "_left", 1)
        artifacts.make(artifact_pk)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])
