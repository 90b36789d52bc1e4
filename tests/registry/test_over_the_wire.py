"""The registry through the real portal: announce, send in two pieces, push, fetch in both forms, install the SDK."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from safetensors.numpy import load, save

from tests.running import Portal
from tests.wire.hostile import ARCHITECTURE, Hostile, corpus

CORPUS = [h for h in corpus() if len(h.content) >= 10]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as running:
        yield running


@pytest.fixture(scope="module")
def acme(portal: Portal) -> Owner:
    return Owner(portal.url, portal.found("acme", "olga@acme.example")["api_key"])


class Owner:
    """Somebody with a key, on the wire."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> urllib3.BaseHTTPResponse:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        more = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
        where = path if path.startswith("/api") else f"/api/v1{path}"
        return self._pool.request(method, self._url + where, body=content, headers={**self._headers, **more, **headers})

    def announce(self, model: str, content: bytes) -> str:
        said = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        answer = self.ask("POST", f"/models/{model}/uploads", said)
        assert answer.status == 201, answer.data
        url: str = answer.json()["url"]
        return url

    def push(self, model: str, content: bytes) -> urllib3.BaseHTTPResponse:
        """What refuses the file on its way, or the answer to the push."""
        url = self.announce(model, content)
        sent = self.ask("PUT", url, content)
        if sent.status != 200:
            return sent
        return self.ask("POST", f"/models/{model}/versions", {"upload": url.rpartition("/")[2]})

    def fetch(self, path: str, seconds: float = 60) -> bytes:
        """The file, as soon as it is made."""
        give_up = time.monotonic() + seconds
        while True:
            answer = self.ask("GET", path)
            if answer.status != 202 or time.monotonic() > give_up:
                assert answer.status == 200, answer.data
                return answer.data
            time.sleep(0.1)


def test_a_model_goes_in_and_comes_out(portal: Portal, acme: Owner) -> None:
    arrays = {"w": np.random.default_rng(1).normal(size=(300, 1000)).astype(np.float32), "seen": np.array(7)}
    content = save(arrays)
    assert acme.ask("POST", "/models", {"name": "radiology-v1"}).status == 201
    url = acme.announce("radiology-v1", content)
    half = len(content) // 2
    first = acme.ask("PUT", url, content[:half], **{"Upload-Complete": "?0"})
    assert first.json() == {"stored": half, "complete": False}
    assert acme.ask("HEAD", url).headers["Upload-Offset"] == str(half)
    portal.restart()
    second = acme.ask("PUT", url, content[half:], **{"Upload-Offset": str(half)})
    assert second.json() == {"stored": len(content), "complete": True}
    assert acme.ask("HEAD", url).headers["Upload-Offset"] == str(len(content))
    version = acme.ask("POST", "/models/radiology-v1/versions", {"upload": url.rpartition("/")[2]}).json()
    assert version["version"] == "1.0.0"

    fetched = acme.fetch("/models/radiology-v1/versions/latest/download")
    assert hashlib.sha256(fetched).hexdigest() == version["sha256"]
    assert {name: array.tobytes() for name, array in load(fetched).items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert acme.ask("GET", "/models/radiology-v1/versions/1.0.0/download", Range="bytes=8-15").data == fetched[8:16]


def test_a_state_dict_is_made_while_one_waits(portal: Portal, acme: Owner, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    acme.ask("POST", "/models", {"name": "mlp", "architecture": {"kind": "mlp", "inputs": 4, "hidden": [5]}})
    acme.ask("POST", "/models/mlp/versions", {"initial": True, "seed": 3})
    answer = acme.ask("GET", "/models/mlp/versions/1.0.0/download?format=pytorch")
    assert (answer.status, answer.json()["error"]) == (202, "format_pending")
    (tmp_path / "model.pt").write_bytes(acme.fetch("/models/mlp/versions/1.0.0/download?format=pytorch"))
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "layers.0.weight": (5, 4),
        "layers.0.bias": (5,),
        "layers.2.weight": (1, 5),
        "layers.2.bias": (1,),
    }
    tflite = acme.ask("GET", "/models/mlp/versions/1.0.0/download?format=tflite")
    assert (tflite.status, tflite.json()["error"]) == (409, "format_unavailable")


def test_every_hostile_file_is_refused_and_nothing_of_it_stays(portal: Portal, acme: Owner) -> None:
    acme.ask("POST", "/models", {"name": "target", "architecture": ARCHITECTURE.spec()})
    before = stored(portal)

    def refused(hostile: Hostile) -> bool:
        answer = acme.push("target", hostile.content)
        return (answer.status, answer.json()["error"]) == (400, hostile.code)

    # A file in another order or spelling is a model all the same; it is only no update.
    hostile_files = [h for h in CORPUS if h.as_model or h.code not in ("tensor_order", "not_safetensors")]
    assert len(hostile_files) >= 60
    assert [hostile.name for hostile in hostile_files if not refused(hostile)] == []
    assert stored(portal) == before
    assert acme.ask("GET", "/models/target/versions").json()["total"] == 0


def stored(portal: Portal) -> list[str]:
    """Everything in the folders of files."""
    root = portal.data_dir / "var"
    folders = [root / name for name in ("blobs", "uploads", "scratch")]
    return sorted(file.name for folder in folders if folder.exists() for file in folder.rglob("*") if file.is_file())


def test_versions_pushed_at_the_same_moment_get_numbers_of_their_own(portal: Portal, acme: Owner) -> None:
    acme.ask("POST", "/models", {"name": "busy", "architecture": ARCHITECTURE.spec()})

    def push(body: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        return acme.ask("POST", "/models/busy/versions", {"initial": True, **body})

    with ThreadPoolExecutor(8) as pool:
        free = list(pool.map(push, [{}] * 8))
        same = list(pool.map(push, [{"version": "9.0.0"}] * 8))
    assert sorted(answer.json()["version"] for answer in free) == [f"1.{minor}.0" for minor in range(8)]
    assert sorted(answer.status for answer in same) == [201] + [409] * 7
    assert {answer.json()["error"] for answer in same if answer.status == 409} == {"version_taken"}


def test_a_large_model_is_pushed_and_fetched_without_being_in_memory(portal: Portal, acme: Owner) -> None:
    acme.ask("POST", "/models", {"name": "large"})
    content = save({f"w{n}": np.full((1 << 20,), n, np.float32) for n in range(48)}, {"order": "foreign"})
    url = acme.announce("large", content)
    assert acme.ask("PUT", url, content).status == 200
    portal.forget_peak()
    before = portal.rss_kib()
    assert acme.ask("POST", "/models/large/versions", {"upload": url.rpartition("/")[2]}).status == 201
    assert portal.peak_rss_kib() - before < 40 * 1024
    assert len(acme.fetch("/models/large/versions/latest/download")) > 48 << 22
    assert portal.peak_rss_kib() - before < 60 * 1024
