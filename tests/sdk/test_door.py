"""Transfers: what was stored or downloaded before a cut is not sent again, and every digest is checked."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk._door import KEPT_MODELS, SMALL, DeviceDoor, update_of
from fedportal_sdk._http import Http
from fedportal_sdk._retry import Patience, Stop, Stopped
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, decode_update, encode_model
from fedwire.vectors import encode_vector
from tests.sdk.server import Cut, Reply, Seen, Server, found, refusal, serving

SMALL_MODEL = Architecture.parse({"kind": "logistic", "inputs": 30})
LARGE_MODEL = Architecture.parse({"kind": "mlp", "inputs": 1000, "hidden": [700]})  # 2.8 MB


def model_file(architecture: Architecture, seed: int = 0) -> bytes:
    return encode_model(architecture.manifest(), architecture.initial(seed))


def task_for(architecture: Architecture, content: bytes) -> Any:
    digest = hashlib.sha256(content).hexdigest()
    return {"id": "tsk_1", "base_digest": digest, "manifest": architecture.manifest().to_json()}


def door_of(server: Server, folder: Path, stop: Stop | None = None) -> DeviceDoor:
    return DeviceDoor(Http(server.url, "edg_key", timeout=5), Patience(stop or Stop()), folder, "tag")


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


# -- downloads


def test_a_small_model_is_fetched_once_and_never_written_down(tmp_path: Path) -> None:
    content = model_file(SMALL_MODEL)
    with serving(lambda n, seen: Reply(200, content)) as server:
        door = door_of(server, tmp_path)
        for _ in range(3):
            base = door.model(task_for(SMALL_MODEL, content), no_progress)
    assert len(server.seen) == 1
    assert base.manifest == SMALL_MODEL.manifest()
    assert base.arrays["layers.0.weight"].shape == (1, 30)
    assert list(tmp_path.iterdir()) == []


def test_a_large_model_is_fetched_once_even_across_starts(tmp_path: Path) -> None:
    content, told = model_file(LARGE_MODEL, 1), []
    with serving(lambda n, seen: Reply(200, content)) as server:
        for _ in range(2):
            door = door_of(server, tmp_path)
            for _ in range(2):
                base = door.model(task_for(LARGE_MODEL, content), lambda *at: told.append(at))
    assert len(server.seen) == 1
    assert (base.arrays["layers.0.weight"] == LARGE_MODEL.initial(1)["layers.0.weight"]).all()
    assert told[-1] == (len(content), len(content))
    assert not base.arrays["layers.0.weight"].flags.writeable


def test_a_download_continues_where_it_was_cut(tmp_path: Path) -> None:
    content, cut = model_file(LARGE_MODEL), 1_500_000

    def answer(n: int, seen: Seen) -> Reply:
        if n == 1:
            return Reply(200, content, cut_after=cut)
        start = int(seen.headers["range"].removeprefix("bytes=").rstrip("-"))
        return Reply(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})

    with serving(answer) as server:
        door_of(server, tmp_path).model(task_for(LARGE_MODEL, content), no_progress)
    start = int(server.seen[1].headers["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= cut
    assert sum(path.suffix == ".part" for path in tmp_path.iterdir()) == 0


def test_a_portal_without_ranges_sends_all_again(tmp_path: Path) -> None:
    content = model_file(LARGE_MODEL)
    with serving(lambda n, seen: Reply(200, content, cut_after=1_500_000 if n == 1 else None)) as server:
        base = door_of(server, tmp_path).model(task_for(LARGE_MODEL, content), no_progress)
    assert base.manifest == LARGE_MODEL.manifest()


@pytest.mark.parametrize("architecture", [SMALL_MODEL, LARGE_MODEL])
def test_other_bytes_than_announced_are_not_believed(tmp_path: Path, architecture: Architecture) -> None:
    right, wrong = model_file(architecture), bytearray(model_file(architecture))
    wrong[-1] ^= 1
    with serving(lambda n, seen: Reply(200, bytes(wrong) if n <= 2 else right)) as server:
        base = door_of(server, tmp_path).model(task_for(architecture, right), no_progress)
    assert base.manifest == architecture.manifest()
    with serving(lambda n, seen: Reply(200, bytes(wrong))) as server, pytest.raises(FedportalError) as caught:
        door_of(server, tmp_path / "other").model(task_for(architecture, right), no_progress)
    assert caught.value.code == "digest_mismatch"


@pytest.mark.parametrize("architecture", [SMALL_MODEL, LARGE_MODEL])
def test_the_vector_of_a_model_is_fetched_beside_it(tmp_path: Path, architecture: Architecture) -> None:
    content = model_file(architecture)
    wanted = np.arange(architecture.manifest().parameters, dtype=np.float32)
    state = encode_vector(wanted)
    with serving(lambda n, seen: Reply(200, state if seen.path.endswith("/state") else content)) as server:
        door = door_of(server, tmp_path)
        task = {**task_for(architecture, content), "state_digest": hashlib.sha256(state).hexdigest()}
        for _ in range(2):
            door.model(task, no_progress)
            assert (door.state(task, no_progress) == wanted).all()
        assert len(server.seen) == 2
        assert not door.state({**task, "state_digest": ""}, no_progress).any()
        with pytest.raises(FedportalError) as caught:
            door.state({**task, "state_digest": "../../elsewhere"}, no_progress)
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("digest", ["../../elsewhere", "A" * 64, "a" * 63, "a" * 65])
def test_a_digest_that_is_none_names_no_file(tmp_path: Path, digest: str) -> None:
    content = model_file(LARGE_MODEL)
    folder = tmp_path / "home" / "models"
    with serving(lambda n, seen: Reply(200, content)) as server, pytest.raises(FedportalError) as caught:
        door_of(server, folder).model({**task_for(LARGE_MODEL, content), "base_digest": digest}, no_progress)
    assert caught.value.code == "bad_request"
    assert server.seen == []
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("architecture", [SMALL_MODEL, LARGE_MODEL])
def test_a_longer_file_than_promised_is_given_up(tmp_path: Path, architecture: Architecture) -> None:
    content = model_file(architecture)
    endless = content + bytes(20 * len(content))
    with serving(lambda n, seen: Reply(200, endless)) as server, pytest.raises(FedportalError) as caught:
        door_of(server, tmp_path).model(task_for(architecture, content), no_progress)
    assert caught.value.code == "digest_mismatch"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(content)


def test_a_kept_file_that_rotted_is_fetched_again(tmp_path: Path) -> None:
    content = model_file(LARGE_MODEL)
    with serving(lambda n, seen: Reply(200, content)) as server:
        door_of(server, tmp_path).model(task_for(LARGE_MODEL, content), no_progress)
        kept = next(tmp_path.glob("*.safetensors"))
        kept.write_bytes(content[:-1] + b"\xff")
        door_of(server, tmp_path).model(task_for(LARGE_MODEL, content), no_progress)
    assert len(server.seen) == 2


def test_only_the_last_models_are_kept(tmp_path: Path) -> None:
    contents = [model_file(LARGE_MODEL, seed) for seed in range(KEPT_MODELS + 2)]
    with serving(lambda n, seen: Reply(200, contents[n - 1])) as server:
        door = door_of(server, tmp_path)
        for content in contents:
            door.model(task_for(LARGE_MODEL, content), no_progress)
    assert len(list(tmp_path.iterdir())) == KEPT_MODELS


# -- uploads


class Upload:
    """The portal's side of an upload, as docs/protocol.md describes it; `cuts`: bytes after which it hangs up."""

    def __init__(self, cuts: list[int], refuse: list[Reply] | None = None) -> None:
        self.stored = b""
        self.cuts = cuts
        self.refuse = refuse or []
        self.digest = ""
        self.server: Server | None = None
        self.total = 0

    def __call__(self, number: int, seen: Seen) -> Reply:
        assert self.server is not None
        if seen.method == "HEAD":
            self._arm()
            return Reply(200, headers={"Upload-Offset": str(len(self.stored))})
        if self.refuse:
            return self.refuse.pop(0)
        offset = int(seen.headers["upload-offset"])
        if offset not in (0, len(self.stored)):
            return refusal("offset_mismatch", stored=len(self.stored), offset=offset)
        self.stored = self.stored[:offset] + seen.body
        self.digest = seen.headers["upload-digest"]
        if len(seen.body) < int(seen.headers["content-length"]):
            self.cuts.pop(0)
            raise Cut
        return found({"stored": len(self.stored), "complete": True})

    def _arm(self) -> None:
        assert self.server is not None
        self.server.read_at_most = self.cuts[0] if self.cuts else None

    def run(self, content: bytes, folder: Path) -> list[Seen]:
        with serving(self) as server:
            self.server = server
            self._arm()
            digest = hashlib.sha256(content).hexdigest()
            door_of(server, folder).upload("tsk_1", memoryview(content), digest, no_progress)
        assert self.digest == digest
        return server.seen


CONTENT = np.random.default_rng(0).bytes(3 * SMALL)


@pytest.mark.parametrize("content", [b"abc", CONTENT])
def test_an_undisturbed_upload_is_one_request(tmp_path: Path, content: bytes) -> None:
    upload = Upload([])
    seen = upload.run(content, tmp_path)
    assert upload.stored == content
    assert [s.method for s in seen] == ["PUT"]


def test_an_upload_continues_where_it_was_cut(tmp_path: Path) -> None:
    upload = Upload([SMALL + 1, 100, 5])
    seen = upload.run(CONTENT, tmp_path)
    assert upload.stored == CONTENT
    puts = [int(s.headers["upload-offset"]) for s in seen if s.method == "PUT"]
    assert puts == [0, SMALL + 1, SMALL + 101, SMALL + 106]


def test_an_upload_that_is_complete_but_unconfirmed_is_confirmed_without_its_bytes(tmp_path: Path) -> None:
    upload = Upload([], [Reply(503)])
    upload.stored = CONTENT
    seen = upload.run(CONTENT, tmp_path)
    assert (seen[-1].headers["upload-offset"], len(seen[-1].body)) == (str(len(CONTENT)), 0)


def test_the_portal_says_where_to_continue(tmp_path: Path) -> None:
    upload = Upload([], [refusal("offset_mismatch", stored=10, offset=0)])
    upload.stored = CONTENT[:10]
    seen = upload.run(CONTENT, tmp_path)
    assert [s.headers["upload-offset"] for s in seen] == ["0", "10"]


def test_leftovers_of_another_update_are_replaced(tmp_path: Path) -> None:
    upload = Upload([], [Reply(503), refusal("digest_mismatch")])
    upload.stored = b"leftovers"
    upload.run(CONTENT, tmp_path)
    assert upload.stored == CONTENT


@pytest.mark.parametrize("code", ["task_closed", "not_finite", "tensor_names", "key_revoked"])
def test_a_refused_upload_is_not_repeated(tmp_path: Path, code: str) -> None:
    upload = Upload([], [refusal(code)])
    with pytest.raises(FedportalError) as caught:
        upload.run(CONTENT, tmp_path)
    assert caught.value.code == code
    assert upload.stored == b""


def test_a_portal_that_contradicts_itself_does_not_keep_the_device_for_ever(tmp_path: Path) -> None:
    upload = Upload([], [refusal("offset_mismatch", stored=n % 2, offset=0) for n in range(100)])
    with pytest.raises(FedportalError) as caught:
        upload.run(CONTENT, tmp_path)
    assert caught.value.code == "offset_mismatch"


def test_stop_ends_an_upload_that_cannot_get_through(tmp_path: Path) -> None:
    stop = Stop()
    with serving(lambda n, seen: Reply(503)) as server:
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(Stopped):
            door_of(server, tmp_path, stop).upload("tsk_1", memoryview(b"abc"), "0" * 64, no_progress)


# -- the update itself

MANIFEST: Manifest = SMALL_MODEL.manifest()


def test_an_update_is_the_difference_as_float32() -> None:
    base = SMALL_MODEL.initial()
    trained = {name: array.astype(np.float64) + 0.25 for name, array in base.items()}
    content = update_of(MANIFEST, base, trained)
    assert content.nbytes == MANIFEST.update_bytes
    assert (decode_update(content.tobytes(), MANIFEST) == np.float32(0.25)).all()


def test_the_update_of_the_smallest_model_has_these_bytes() -> None:
    """Golden: the bytes in docs/protocol.md."""
    manifest = Architecture.parse({"kind": "logistic", "inputs": 2}).manifest()
    base = {"layers.0.weight": np.zeros((1, 2), np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    trained = {"layers.0.weight": np.array([[1, -2]], np.float32), "layers.0.bias": np.array([0.5], np.float32)}
    content = update_of(manifest, base, trained).tobytes()
    assert hashlib.sha256(content).hexdigest() == GOLDEN_UPDATE
    assert content[-12:] == bytes.fromhex("0000003f0000803f000000c0")


GOLDEN_UPDATE = "69ca87c3b7ec4a87639ccf6170c9c94494927a92d17af3d7e79f844180b753c9"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"layers.0.bias": np.full(1, np.nan, np.float32)}, "not_finite"),
        ({"layers.0.bias": np.full(1, np.inf, np.float32)}, "not_finite"),
        ({"layers.0.bias": np.full(1, 1e300)}, "not_finite"),
        ({"layers.0.bias": np.zeros(2, np.float32)}, "tensor_shape"),
        ({"layers.0.weight": np.zeros(30, np.float32)}, "tensor_shape"),
        ({"layers.0.bias": None}, "tensor_names"),
        ({"head.weight": np.zeros(1)}, "tensor_names"),
    ],
)
def test_what_is_no_update_of_the_model_does_not_leave_the_device(change: dict[str, Any], code: str) -> None:
    base = SMALL_MODEL.initial()
    trained = {name: value for name, value in {**base, **change}.items() if value is not None}
    with pytest.raises(FedportalError) as caught, np.errstate(over="ignore"):
        update_of(MANIFEST, base, trained)
    assert caught.value.code == code
