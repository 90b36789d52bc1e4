"""Models on the disk, and what serves them, for the tests of serving."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.installed import Installed, InstalledModel
from fedportal_sdk.serving import FileSource, Serving, Source
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.tensors import encode_model

COLUMNS = ["age", "mean radius", "radius"]
TABLE = {"kind": "logistic", "inputs": 3, "classes": 2, "columns": COLUMNS, "labels": ["benign", "malignant"]}
DEEP = {"kind": "mlp", "inputs": 3, "hidden": [5, 4], "classes": 3}
IMAGES = {"kind": "cnn", "inputs": [1, 8, 8], "channels": [2], "hidden": [4], "classes": 10}
ROW = [63.0, 17.9, 2.0]


def weights(spec: Mapping[str, Any], seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random ones, so that a class, a column or a place that were mixed up would show."""
    generator = np.random.default_rng(seed)
    architecture = Architecture.parse(spec)
    arrays: dict[str, NDArray[Any]] = {}
    for one in architecture.manifest().tensors:
        values = generator.normal(size=one.shape).astype(np.float32) / 2
        arrays[one.name] = np.abs(values) + np.float32(0.5) if one.name.endswith((STD, "running_var")) else values
    if architecture.standardise:
        arrays[MEAN] += 3
    return arrays


def content(spec: Mapping[str, Any], seed: int = 0) -> bytes:
    """The file of such a model."""
    return encode_model(Architecture.parse(spec).manifest(), weights(spec, seed))


def written(folder: Path, spec: Mapping[str, Any], seed: int = 0) -> Path:
    """The file in `folder`."""
    path = folder / "radiology-v1.safetensors"
    path.write_bytes(content(spec, seed))
    return path


def install(place: Path, version: str, spec: Mapping[str, Any] | None, seed: int = 0) -> InstalledModel:
    """Have the version installed, as a rollout does it."""
    whole = content(spec or TABLE, seed)
    digest = hashlib.sha256(whole).hexdigest()
    return Installed(place).put("mdl_1", "radiology-v1", version, digest, whole, spec)


class Asking:
    """Asks a server over one connection."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def get(self, path: str) -> Any:
        status, text = self.raw("GET", path)
        assert status == 200, text
        return json.loads(text)

    def post(self, path: str, **body: Any) -> Any:
        status, text = self.raw("POST", path, body)
        assert status == 200, text
        return json.loads(text)

    def refused(self, path: str, **body: Any) -> tuple[int, str, str]:
        """Status, code and message."""
        status, text = self.raw("POST", path, body)
        error = json.loads(text)["error"]
        return status, error["code"], error["message"]


@contextmanager
def served(source: Source, **options: Any) -> Iterator[tuple[Serving, Asking]]:
    """The source, served at any port."""
    with Serving(source, port=0, **options) as serving:
        asking = Asking(serving.url)
        try:
            yield serving, asking
        finally:
            asking.connection.close()


@contextmanager
def served_file(folder: Path, spec: Mapping[str, Any], **options: Any) -> Iterator[Asking]:
    """A model of this kind in a file, served."""
    with served(FileSource(written(folder, spec), spec), **options) as (_, asking):
        yield asking
