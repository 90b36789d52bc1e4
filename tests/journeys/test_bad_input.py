"""Bad input at the real portal's doors: its code, its sentence, its next step, nothing stored and nothing half done.

Every refusal is followed by a look at all rows and files: they are what they were before.
"""

from __future__ import annotations

import io
import json
import pickle
import socket
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import torch

from deploy.demo.browser import Browser
from fedwire import routes
from fedwire.errors import CATALOGUE, FedportalError
from fedwire.tensors import Manifest, TensorSpec, encode_update
from tests.journeys.bad_input import Scene, check_refusal, update_path
from tests.journeys.story import FEDERATION, MODEL
from tests.journeys.terminal import PASSWORD, Terminal
from tests.protocol.wire import Reply, exchange, sha256, update
from tests.running import Portal

Make = Callable[[Manifest], bytes]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A run in which nothing has arrived yet; no test here changes that."""
    with Portal() as portal:
        yield Scene(portal, tmp_path_factory.mktemp("scene"))


# --- keys ------------------------------------------------------------------------------------------------------------

LOCKED = [("GET", routes.FEDERATIONS), ("POST", routes.SESSIONS), ("GET", f"{routes.TASK_NEXT}?wait=0")]


@pytest.mark.parametrize(("method", "path"), LOCKED)
def test_a_wrong_or_revoked_key_opens_nothing(scene: Scene, method: str, path: str) -> None:
    made = scene.story.call("metro", "POST", routes.API_KEYS, {"name": "short"})
    scene.story.call("metro", "POST", routes.API_KEY_REVOKE.format(key=made["id"]), {})
    mistyped = made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1")
    before = scene.stored()
    for key, code in (("", "not_authenticated"), ("edg_nonsense", "key_invalid"), (mistyped, "key_invalid")):
        check_refusal(exchange(scene.portal, key, method, path, body=b""), 401, code)
    if not path.startswith(routes.TASKS):  # the devices' door knows devices' keys only
        assert "revoked" in check_refusal(
            exchange(scene.portal, made["key"], method, path, body=b""), 401, "key_revoked"
        )
    assert scene.stored() == before


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_a_foreign_task_looks_like_a_missing_one(scene: Scene) -> None:
    before = scene.stored()
    body = update(scene.manifest)
    for task in (scene.task(scene.metro), "tsk_00000000000000000000"):
        assert "task" in check_refusal(scene.acme.put(task, body), 404, "not_found")
        assert "task" in check_refusal(scene.acme.answer(task, {"samples": 5}), 404, "not_found")
    assert scene.stored() == before


def test_a_closed_task_and_a_repeat_with_other_bytes(tmp_path: Path) -> None:
    """The same bytes again get the first answer, other bytes are refused, and the run goes on undisturbed."""
    with Portal() as portal:
        scene = Scene(portal, tmp_path)
        task, other = scene.task(scene.metro), scene.task(scene.acme)
        content = update(scene.manifest, 1)
        sent = {"sha256": sha256(content)}
        assert scene.metro.put(task, content).status == 200
        before = scene.stored()
        for samples in (0, -1, 10**12, 1.5, True, "many", None):
            said = check_refusal(scene.metro.answer(task, {**sent, "samples": samples}), 400, "samples_invalid")
            assert "is not between 1 and" in said
        wrong = {**sent, "samples": 5, "evaluation": {"samples": 5, "loss_sum": -1}}
        assert "metrics" in check_refusal(scene.metro.answer(task, wrong), 400, "metrics_invalid")
        check_refusal(scene.metro.answer(task, {"samples": 5, "sha256": "0" * 64}), 400, "digest_mismatch")
        assert scene.stored() == before
        first = scene.metro.answer(task, {**sent, "samples": 5})
        assert first.status == 201, first
        before = scene.stored()
        assert scene.metro.answer(task, {**sent, "samples": 5}).body == first.body
        said = check_refusal(scene.metro.answer(task, {**sent, "samples": 6}), 409, "answer_differs")
        assert said == "This task was already answered with other content."
        late = check_refusal(scene.metro.put(task, update(scene.manifest, 2)), 409, "task_closed")
        assert late.startswith("This task is answered")
        assert scene.stored() == before
        scene.story.call("acme", "POST", routes.SESSION.format(run=scene.run) + "/stop", {})
        before = scene.stored()
        check_refusal(scene.acme.put(other, update(scene.manifest)), 409, "task_closed")
        assert scene.stored() == before


# --- lengths ---------------------------------------------------------------------------------------------------------


def test_a_missing_length_is_asked_for(scene: Scene) -> None:
    task, before = scene.task(scene.metro), scene.stored()
    with scene.metro.wire() as wire:
        wire.head("PUT", update_path(task))
        said = check_refusal(wire.reply(), 411, "length_missing")
    assert said == "The request does not say its length."
    assert (scene.stored(), scene.metro.stored(task)) == (before, 0)


@pytest.mark.parametrize("length", [1, 10**14])
def test_another_length_than_the_models_is_refused(scene: Scene, length: int) -> None:
    task, before = scene.task(scene.metro), scene.stored()
    with scene.metro.wire() as wire:
        wire.head("PUT", update_path(task), {"Content-Length": length})
        wire.send(b"x")
        said = check_refusal(wire.reply(), 400, "length_wrong")
    assert said == f"The body must be {scene.manifest.update_bytes} bytes in all and was announced as {length}."
    assert (scene.stored(), scene.metro.stored(task)) == (before, 0)


def test_a_body_that_ends_early_is_no_update(tmp_path: Path) -> None:
    with Portal() as portal:
        scene = Scene(portal, tmp_path)
        task, body = scene.task(scene.metro), update(scene.manifest)
        with scene.metro.wire() as wire:
            wire.head("PUT", update_path(task), {"Content-Length": len(body)})
            wire.send(body[:-4])
            wire.socket.shutdown(socket.SHUT_WR)
        said = check_refusal(scene.metro.answer(task, {"samples": 5}), 409, "upload_incomplete")
        assert f"of {len(body)} bytes" in said
        assert sha256(body) not in blobs(portal)
        assert scene.metro.put(task, body).json()["complete"]
        assert sha256(body) in blobs(portal)


# --- files -----------------------------------------------------------------------------------------------------------


def other_names(shape: Manifest) -> bytes:
    return header_changed(shape, lambda rows: rows | {"patients": rows.pop("layers.0.weight")})


def other_shapes(shape: Manifest) -> bytes:
    weight = {"shape": [6, 1]}
    return header_changed(shape, lambda rows: rows | {"layers.0.weight": rows["layers.0.weight"] | weight})


def other_types(shape: Manifest) -> bytes:
    return header_changed(shape, lambda rows: rows | {"layers.0.weight": rows["layers.0.weight"] | {"dtype": "I32"}})


def other_order(shape: Manifest) -> bytes:
    reversed_ = Manifest(tuple(TensorSpec(s.name, s.dtype, s.shape, s.role) for s in reversed(shape.weights)))
    draw = {spec.name: np.zeros(spec.shape, "<f4") for spec in shape.weights}
    return encode_update(reversed_, draw)


def numbers(value: float) -> Make:
    def make(shape: Manifest) -> bytes:
        return encode_like(shape, value)

    return make


def encode_like(shape: Manifest, value: float) -> bytes:
    """A proper update but for its last number."""
    return update(shape)[:-4] + np.float32(value).tobytes()


def pickled(shape: Manifest) -> bytes:
    return padded(shape, pickle.dumps({"layers.0.weight": [1.0] * 6}))


def torch_file(shape: Manifest) -> bytes:
    buffer = io.BytesIO()
    torch.save({"layers.0.weight": torch.zeros(1, 6)}, buffer)
    return padded(shape, buffer.getvalue())


def table(shape: Manifest) -> bytes:
    return padded(shape, b"age,sex,diagnosis\n44,1,M\n51,0,B\n" * 20)


def header_changed(shape: Manifest, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """A proper update with another header of the same length."""
    whole = update(shape)
    length = len(shape.update_header()) - 8
    text = json.dumps(change(json.loads(whole[8 : 8 + length])), separators=(",", ":")).encode()
    assert len(text) <= length
    return whole[:8] + text.ljust(length) + whole[8 + length :]


def padded(shape: Manifest, content: bytes) -> bytes:
    """So many bytes as the model's update has, so that it is not refused for its length."""
    return content[: shape.update_bytes].ljust(shape.update_bytes, b"\0")


FILES: list[tuple[Make, str, str]] = [
    (other_names, "tensor_names", "patients"),
    (other_shapes, "tensor_shape", "layers.0.weight"),
    (other_types, "tensor_dtype", "I32"),
    (other_order, "tensor_order", "the model's order"),
    (numbers(float("nan")), "not_finite", "NaN or infinity"),
    (numbers(float("inf")), "not_finite", "NaN or infinity"),
    (pickled, "not_safetensors", "not a safetensors file"),
    (torch_file, "not_safetensors", "not a safetensors file"),
    (table, "not_safetensors", "not a safetensors file"),
]


@pytest.mark.parametrize(("make", "code", "words"), FILES, ids=[f"{n}-{row[1]}" for n, row in enumerate(FILES)])
def test_what_is_not_exactly_the_models_tensors_is_refused(scene: Scene, make: Make, code: str, words: str) -> None:
    task, before = scene.task(scene.metro), scene.stored()
    assert words in check_refusal(scene.metro.put(task, make(scene.manifest)), 400, code)
    assert (scene.stored(), scene.metro.stored(task)) == (before, 0)
    check_refusal(scene.metro.answer(task, {"samples": 5}), 409, "upload_incomplete")
    assert scene.stored() == before


@pytest.mark.parametrize("name", ["weights.pt", "patients.csv", "nan.safetensors", "nothing.safetensors"])
def test_a_file_that_is_no_model_registers_none(scene: Scene, tmp_path: Path, name: str) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "patients.csv").write_text("age,diagnosis\n44,M\n")
    (tmp_path / "nan.safetensors").write_bytes(encode_like(scene.manifest, float("nan")))
    (tmp_path / "nothing.safetensors").write_bytes(b"")
    terminal, before = logged_in(scene, tmp_path), scene.stored()
    code = "not_finite" if name == "nan.safetensors" else "not_safetensors"
    assert terminal.code("push", "another", str(tmp_path / name)) == code
    assert terminal.code("push", "another", "--architecture", '{"kind": "oracle"}') == "architecture_invalid"
    described = ("--architecture", '{"kind": "linear", "inputs": 2}')
    assert terminal.code("push", "another", *described, "--version", "one") == "version_invalid"
    assert scene.stored() == before


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--target", "outcome"], "data_no_target", "--target"),
        (["--label", "M"], "architecture_invalid", "classes"),
        (["--label", "M", "--label", "M"], "architecture_invalid", "'M' twice"),
    ],
)
def test_a_header_that_names_no_columns_registers_no_model(
    scene: Scene, tmp_path: Path, more: list[str], code: str, words: str
) -> None:
    (tmp_path / "patients.csv").write_text("age,area,diagnosis\n")
    terminal, before = logged_in(scene, tmp_path), scene.stored()
    push = ["push", "another", "--architecture", '{"kind": "logistic"}']
    named = [*push, "--columns-from", str(tmp_path / "patients.csv"), "--target", "diagnosis", *more]
    assert words in terminal.refused(*named)
    assert terminal.code(*named) == code
    assert scene.stored() == before


# --- data ------------------------------------------------------------------------------------------------------------

GOOD = "a,b,c,d,e,f,diagnosis\n1,2,3,4,5,6,M\n2,3,4,5,6,7,B\n"
DATA = [
    (GOOD.replace("diagnosis", "result"), "data_no_target", "it has a, b, c, d, e, f, result"),
    ("b,diagnosis\n1,M\nthree,B\n", "data_not_numeric", "Column 'b' holds text in row 2: 'three'"),
    ("b,diagnosis\n1,M\n ,B\n", "data_gap", "Column 'b' has no usable number in row 2"),
    ("", "data_empty", "has no rows"),
    ("a,b,c,d,e,f,diagnosis\n", "data_empty", "has no rows"),
    (GOOD.replace("B", "M"), "data_one_class", "one class only"),
    (GOOD.replace(",7,B", ",B"), "data_ragged", "Row 2 has 6 values"),
]


@pytest.mark.parametrize(("text", "code", "words"), DATA, ids=[row[1] for row in DATA])
def test_data_that_cannot_be_used_register_no_device(
    scene: Scene, tmp_path: Path, text: str, code: str, words: str
) -> None:
    file = tmp_path / "patients.csv"
    file.write_text(text)
    terminal, before = logged_in(scene, tmp_path), scene.stored()
    run = ("device", "run", MODEL, "--data", str(file), "--target", "diagnosis", "--identifier", "hospital-009")
    assert words in terminal.refused(*run)
    assert terminal.code(*run) == code
    assert scene.stored() == before


# --- invitations -----------------------------------------------------------------------------------------------------


def test_a_link_that_is_not_good_lets_nobody_in(tmp_path: Path) -> None:
    """Used, taken back, expired, for another address, invented: the page says which, and nothing changes."""
    with Portal() as portal:
        scene = Scene(portal, tmp_path)
        links = {name: invited(scene, f"{name}@guest.example") for name in ("used", "revoked", "expired", "other")}
        accept(scene, links["used"][1], "clinic-of-used")
        scene.story.call("acme", "POST", routes.INVITATION.format(invitation=links["revoked"][0]) + "/revoke", {})
        expire = "from federations.models import Invitation as I; from fedportal.common import clock; "
        expire += f"I.objects.filter(public_id='{links['expired'][0]}').update(expires_at=clock.now())"
        scene.portal.manage("shell", "-c", expire)
        before = scene.stored()
        for name in ("used", "revoked", "expired"):
            code = f"invitation_{name}"
            status, page = accept(scene, links[name][1], "another-clinic")
            assert (status, says(page, code)) == (CATALOGUE[code].status, True), page
        invented = scene.portal.url + "/invitations/" + "x" * 43
        status, page = accept(scene, invented, "another-clinic")
        assert (status, says(page, "invitation_invalid")) == (404, True), page
        assert scene.stored() == before
        # Only who has the address may take it: signed in as somebody else, one is told so.
        stranger = Browser(scene.portal.url)
        founded = {"organization_name": "clinic-of-strange", "answer": "accept", "name": "S", "new_password": PASSWORD}
        stranger.submit(invited(scene, "strange@guest.example")[1], "new_password", **founded)
        before = scene.stored()
        with pytest.raises(HTTPError) as refused:
            stranger.submit(links["other"][1], "answer", answer="accept")
        assert refused.value.code == CATALOGUE["invitation_wrong_address"].status
        page = unescape(refused.value.read().decode())
        assert "This invitation is for another email address" in page
        assert "Sign out and go on as other@guest.example" in page
        assert scene.stored() == before


def invited(scene: Scene, address: str) -> tuple[str, str]:
    """Id and link of a fresh invitation; this portal has no mail server, so it shows the link."""
    path = routes.FEDERATION_INVITE.format(federation=FEDERATION)
    row = scene.story.call("acme", "POST", path, {"emails": [address]})["invited"][0]
    return str(row["invitation_id"]), str(row["link"])


def accept(scene: Scene, link: str, clinic: str) -> tuple[int, str]:
    """Take the link in a fresh browser, founding `clinic`; the status and the page."""
    said = {"name": "Guest", "new_password": PASSWORD, "organization_name": clinic, "answer": "accept"}
    try:
        return 200, Browser(scene.portal.url).submit(link, "new_password", **said)
    except HTTPError as error:
        return error.code, error.read().decode()


def says(page: str, code: str) -> bool:
    """Whether the page says the sentence of this error and its next step."""
    text, error = unescape(page), FedportalError(code, who="acme")
    return error.message in text and error.next_step in text


# --- names, strategies, rounds ---------------------------------------------------------------------------------------


def test_a_name_that_is_taken_and_a_strategy_that_is_none(scene: Scene) -> None:
    before = scene.stored()
    taken = post(scene, routes.MODELS, {"name": MODEL})
    assert check_refusal(taken, 409, "name_taken") == f"Another model is called '{MODEL}' already."
    taken = post(scene, routes.FEDERATIONS, {"name": FEDERATION})
    assert check_refusal(taken, 409, "name_taken") == f"Another federation is called '{FEDERATION}' already."
    unknown = post(scene, routes.SESSIONS, {"model_id": MODEL, "rounds": 3, "strategy": "gossip"})
    assert check_refusal(unknown, 400, "strategy_unknown") == "There is no strategy 'gossip'."
    assert "fedavg" in unknown.json()["next_step"]
    for wish in ({"rounds": 0}, {"rounds": 10**9}, {"rounds": 2, "min_devices": 0}, {"rounds": 2, "round_seconds": 0}):
        check_refusal(post(scene, routes.SESSIONS, {"model_id": MODEL, **wish}), 400, "field_invalid")
    assert scene.stored() == before


def test_a_round_with_too_few_devices_says_whom_it_waits_for_and_until_when(scene: Scene) -> None:
    scene.heartbeat()
    run = scene.story.start(rounds=2, devices=4, round_seconds=600)
    round_ = scene.story.snapshot(run)["round"]
    waiting = round_["waiting"]
    assert (waiting["need"], waiting["for"]) == (4, ["valley"])
    assert waiting["until"] == round_["deadline"]
    assert waiting["sentence"].startswith(f"Waiting for {4 - waiting['have']} more device")
    assert "(valley has none available) until " in waiting["sentence"]
    assert waiting["sentence"].endswith("; then the round is tried again.")
    assert waiting["sentence"] in logged_in(scene, scene.folder / "asking").run("train", "status", run)
    scene.story.call("acme", "POST", routes.SESSION.format(run=run) + "/stop", {})


def blobs(portal: Portal) -> set[str]:
    """The names of everything that is stored for good."""
    return {path.name for path in (portal.data_dir / "var" / "blobs").rglob("*")}


def post(scene: Scene, path: str, body: dict[str, Any]) -> Reply:
    """What acme is told."""
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return exchange(scene.portal, scene.story.keys["acme"], "POST", path, headers=headers, body=content)


def logged_in(scene: Scene, folder: Path) -> Terminal:
    """acme's terminal."""
    return Terminal(folder / "home", FEDPORTAL_URL=scene.portal.url, FEDPORTAL_API_KEY=scene.story.keys["acme"])
