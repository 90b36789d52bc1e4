"""The device's own doors at the portal: the next task, its model, the update, the answer.

Every call is patient: it survives restarts and cuts, and continues transfers where they broke off.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk._fitting import fitted
from fedportal_sdk._http import BLOCK, Http
from fedportal_sdk._retry import Patience
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Receipt, Task
from fedwire.personal import travelling
from fedwire.tensors import Float32, Manifest, decode_model
from fedwire.vectors import decode_vector, vectors_bytes

# Models up to this size are kept in memory and never touch the disk.
SMALL = 1 << 20
KEPT_MODELS = 3
# A model, and perhaps the vector that belongs to it.
KEPT_SMALL = 2
TRIES_AFTER_MISMATCH = 3
# Too slow for the portal's taste, or overtaken by a second connection: the next PUT continues.
BROKEN_OFF = frozenset({"body_short", "conflict"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Base:
    """The model a task starts from. The arrays are read-only."""

    manifest: Manifest
    arrays: Mapping[str, NDArray[Any]]


class File(NamedTuple):
    """A file to download: its address, the digest and the length that it must have."""

    path: str
    digest: str
    size: int


class DeviceDoor:
    """What one registered device asks of the portal. `folder` keeps models; `tag` names this device's parts in it."""

    def __init__(self, http: Http, patience: Patience, folder: Path, tag: str) -> None:
        self._http = http
        self._patience = patience
        self._folder = folder
        self._tag = tag
        self._manifest: tuple[Any, Manifest] | None = None
        self._travels: tuple[Manifest, frozenset[str], Manifest] | None = None
        self._small: dict[str, bytes] = {}  # by digest, the latest last
        self._verified: set[str] = set()

    def next_task(self, wait: float) -> Task | None:
        """The next task, None when none came within `wait` seconds."""
        path = f"{routes.TASK_NEXT}?wait={wait:g}"
        task: Task | None = self._patience(lambda: self._http.json("GET", path, timeout=wait + 15))
        if task is not None and (content := task.pop("base_content", None)):
            self._remember(task["base_digest"], content)
        return task

    def model(self, task: Task, progress: Progress) -> Base:
        """The model the task starts from: from memory or disk if it is there, otherwise downloaded and checked."""
        manifest = self.manifest(task)
        wanted = File(routes.TASK_MODEL.format(task=task["id"]), task["base_digest"], manifest.model_bytes)
        return self._read_in(wanted, lambda content: Base(*decode_model(content, manifest)), progress)

    def file(self, task: Task, size: int, progress: Progress) -> bytes | Path:
        """The file of this length that belongs to a task without a manifest. Raises as `model` does."""
        _check_digest(task["base_digest"])
        wanted = File(routes.TASK_MODEL.format(task=task["id"]), task["base_digest"], size)
        return self._read_in(wanted, lambda content: content, progress)

    def model_file(self, task: Task, progress: Progress) -> bytes | Path:
        """The same as the file that it is: its content, or its path when it is large. Raises as `model` does."""
        wanted = File(routes.TASK_MODEL.format(task=task["id"]), task["base_digest"], self.manifest(task).model_bytes)
        return self._read_in(wanted, lambda content: content, progress)

    def state(self, task: Task, progress: Progress) -> Float32:
        """The vector [P] that belongs to the model; zeros before the strategy has one. Raises as `model` does."""
        parameters, digest = self.manifest(task).parameters, task.get("state_digest", "")
        if not digest:
            return np.zeros(parameters, np.float32)
        _check_digest(digest)
        wanted = File(routes.TASK_STATE.format(task=task["id"]), digest, vectors_bytes(parameters, 1))
        return self._read_in(wanted, lambda content: decode_vector(content, parameters), progress)

    def document(self, task: Task) -> dict[str, Any]:
        """The JSON file that belongs to a phase of secure aggregation, at most 1 MiB; empty where none does.

        Raises as `model` does, and `bad_request` for what is none.
        """
        if not task["base_digest"]:
            return {}
        _check_digest(task["base_digest"])
        content = self._small_file(File(routes.TASK_MODEL.format(task=task["id"]), task["base_digest"], SMALL))
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise FedportalError("bad_request", reason="The portal's document is no JSON object.")
        return value

    def manifest(self, task: Task) -> Manifest:
        """The task's manifest; parsed once while it stays the same. Raises `bad_request` for a digest that is none."""
        if task["base_digest"]:
            _check_digest(task["base_digest"])
        rows = task["manifest"]
        if self._manifest is None or self._manifest[0] != rows:
            self._manifest = (rows, Manifest.from_json(rows))
        return self._manifest[1]

    def travelling(self, task: Task, stays: frozenset[str]) -> Manifest:
        """The manifest of the task's update: without the tensors that stay on the device."""
        manifest = self.manifest(task)
        if not stays:
            return manifest
        if self._travels is None or self._travels[:2] != (manifest, stays):
            self._travels = (manifest, stays, travelling(manifest, stays))
        return self._travels[2]

    def upload(self, task_id: str, content: memoryview, digest: str, progress: Progress) -> None:
        """Bring `content`, whose SHA-256 is `digest`, to the portal. Continues at the stored byte after a cut."""
        path = routes.TASK_UPDATE.format(task=task_id)
        tries = 0

        def attempt() -> None:
            nonlocal tries
            tries += 1
            self._send_from(path, content, digest, self._stored(path) if tries > 1 else 0, progress)

        for remaining in range(TRIES_AFTER_MISMATCH, 0, -1):
            try:
                return self._patience(attempt, also=BROKEN_OFF)
            except FedportalError as error:
                # What the portal holds is of an earlier, different attempt: begin again.
                if error.code != "digest_mismatch" or remaining == 1:
                    raise
                tries = 0
        return None

    def answer(self, task_id: str, answer: Answer, content: memoryview | None = None) -> Receipt:
        """Answer the task, and bring a short update with it. The same answer again gets the same receipt."""
        path, said = routes.TASK_ANSWER.format(task=task_id), fitted(answer)
        if content is not None:
            said = {**said, "content": base64.b64encode(content).decode()}
        receipt: Receipt = self._patience(lambda: self._http.json("POST", path, said))
        return receipt

    def decline(self, task_id: str, reason: str) -> None:
        """Tell the portal that this device will not do the task, and why."""
        path = routes.TASK_DECLINE.format(task=task_id)
        self._patience(lambda: self._http.json("POST", path, {"reason": reason}))

    def run_state(self, run_id: str) -> dict[str, Any]:
        """How the run stands: state, result_version, …; empty when the portal does not say."""
        try:
            answer = self._patience(lambda: self._http.json("GET", routes.DEVICE_RUN.format(run=run_id)))
        except FedportalError as error:
            if error.status != 404:
                raise
            return {}
        return answer if isinstance(answer, dict) else {}

    def _read_in(self, wanted: File, decoded: Callable[[bytes | Path], T], progress: Progress) -> T:
        """What `decoded` makes of the file's content, or of its path when it is large."""
        if wanted.size <= SMALL:
            return decoded(self._small_file(wanted))
        for _ in range(TRIES_AFTER_MISMATCH):
            path = self._large_file(wanted, progress)
            # Another device on this machine may have tidied up between the look and the opening.
            with contextlib.suppress(FileNotFoundError):
                return decoded(path)
        raise FedportalError("data_missing", path=str(self._folder), reason="models vanish from it")

    def _remember(self, digest: str, text: str) -> None:
        """Keep a file that came with its task. One that is damaged is downloaded as if it had not come."""
        with contextlib.suppress(binascii.Error, ValueError):
            content = base64.b64decode(text, validate=True)
            if hashlib.sha256(content).hexdigest() == digest:
                self._keep(digest, content)

    def _keep(self, digest: str, content: bytes) -> None:
        self._small = dict([*self._small.items(), (digest, content)][-KEPT_SMALL:])

    def _small_file(self, wanted: File) -> bytes:
        if wanted.digest in self._small:
            return self._small[wanted.digest]
        for _ in range(TRIES_AFTER_MISMATCH):
            content = self._patience(lambda: self._read(wanted.path, wanted.size))
            if hashlib.sha256(content).hexdigest() == wanted.digest:
                self._keep(wanted.digest, content)
                return content
        raise FedportalError("digest_mismatch")

    def _read(self, path: str, size: int) -> bytes:
        """A small model of at most `size` bytes."""
        response = self._http.send("GET", path, stream=True)
        with self._http.reading(response):
            return b"".join(_at_most(response.stream(BLOCK), size))

    def _large_file(self, wanted: File, progress: Progress) -> Path:
        digest = wanted.digest
        path = self._folder / f"{digest}.safetensors"
        if digest in self._verified and path.exists():
            return path
        part = path.with_suffix(f".{self._tag}.part")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (path.exists() and _sha256_of(path) == digest):
            self._tidy(keep=part)
            for remaining in range(TRIES_AFTER_MISMATCH, 0, -1):
                if self._patience(lambda: self._fetch(wanted, part, progress)) == digest:
                    break
                part.unlink()
                if remaining == 1:
                    raise FedportalError("digest_mismatch")
            part.replace(path)
        self._verified.add(digest)
        return path

    def _fetch(self, wanted: File, part: Path, progress: Progress) -> str:
        """Complete the file `part`, beginning where it ends, and give its SHA-256."""
        sha, size = hashlib.sha256(), wanted.size
        have = part.stat().st_size if part.exists() else 0
        if 0 < have < size:
            _update_from(sha, part)
        elif have:
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        response = self._http.send("GET", wanted.path, headers=headers, stream=True)
        if response.status != 206:
            have, sha = 0, hashlib.sha256()
        with self._http.reading(response), open(part, "ab" if have else "wb") as file:
            for block in _at_most(response.stream(BLOCK), size - have):
                sha.update(block)
                file.write(block)
                have += len(block)
                progress(have, size)
        return sha.hexdigest()

    def _tidy(self, keep: Path) -> None:
        """Leave room for one more: delete all but the newest models and this device's part."""
        files = [p for p in self._folder.iterdir() if p != keep and p.suffix in (".safetensors", ".part")]
        for path in sorted(files, key=_age)[KEPT_MODELS - 1 :]:
            path.unlink(missing_ok=True)

    def _stored(self, path: str) -> int:
        """How many bytes of the upload the portal holds. 0 when it will not say; the upload's own answer will."""
        try:
            return int(self._http.send("HEAD", path).headers.get("Upload-Offset", "0"))
        except FedportalError as error:
            if error.code in ("unreachable", "unavailable"):
                raise
            return 0

    def _send_from(self, path: str, content: memoryview, digest: str, offset: int, progress: Progress) -> None:
        """One PUT, or several where the portal names another offset than it was thought to have."""
        tried: set[int] = set()
        while True:
            rest = content[offset:]
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(rest)),
                "Upload-Offset": str(offset),
                "Upload-Digest": digest,
            }
            tried.add(offset)
            body = bytes(rest) if len(rest) <= SMALL else _Window(rest, offset, len(content), progress)
            try:
                self._http.send("PUT", path, body=body, headers=headers)
                return
            except FedportalError as error:
                stored = error.context.get("stored")
                if error.code != "offset_mismatch" or not isinstance(stored, int) or stored in tried:
                    raise
                offset = min(stored, len(content))


class _Window:
    """A file-like view of `content` that is read in blocks without copying, and tells how far it came."""

    def __init__(self, content: memoryview, offset: int, total: int, progress: Progress) -> None:
        self._content = content
        self._offset = offset
        self._total = total
        self._progress = progress
        self._position = 0

    def read(self, size: int = -1) -> memoryview:
        """The next block, empty at the end."""
        stop = len(self._content) if size < 0 else self._position + size
        block = self._content[self._position : stop]
        if self._position:
            self._progress(self._offset + self._position, self._total)
        self._position += len(block)
        return block


def update_of(manifest: Manifest, base: Mapping[str, NDArray[Any]], trained: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The update file of `trained` against `base`, in one piece of memory: header, then trained - base as float32.

    Raises tensor_names, tensor_shape and not_finite.
    """
    header = manifest.update_header()
    content = np.empty(manifest.update_bytes, np.uint8)
    content[: len(header)] = np.frombuffer(header, np.uint8)
    delta = content[len(header) :].view("<f4")
    unexpected = sorted(trained.keys() - {spec.name for spec in manifest.tensors})
    if unexpected:
        raise FedportalError("tensor_names", reason=f"unexpected {', '.join(map(repr, unexpected[:5]))}")
    position = 0
    for spec in manifest.weights:
        if spec.name not in trained:
            raise FedportalError("tensor_names", reason=f"missing {spec.name!r}")
        values = np.asarray(trained[spec.name])
        if tuple(values.shape) != spec.shape:
            raise FedportalError("tensor_shape", name=spec.name, got=list(values.shape), expected=list(spec.shape))
        place = delta[position : position + spec.size].reshape(spec.shape)
        np.subtract(values, base[spec.name], out=place, casting="unsafe")
        position += spec.size
    # Finite float32 numbers cannot overflow a float64 sum, and one that is not finite makes the sum so.
    if not np.isfinite(np.add.reduce(delta, dtype=np.float64)):
        raise FedportalError("not_finite")
    return content


def _check_digest(text: str) -> None:
    """Raises `bad_request` for a digest that is none: it becomes the name of a file."""
    if not _SHA256.fullmatch(text):
        raise FedportalError("bad_request", reason="The portal's task names no digest.")


def _sha256_of(path: Path) -> str:
    sha = hashlib.sha256()
    _update_from(sha, path)
    return sha.hexdigest()


def _update_from(sha: Any, path: Path) -> None:
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)


def _age(path: Path) -> float:
    """Small for a file that was written lately."""
    try:
        return -os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _at_most(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The blocks. Raises `digest_mismatch` before they are more than the `count` bytes that were promised."""
    for block in blocks:
        count -= len(block)
        if count < 0:
            raise FedportalError("digest_mismatch")
        yield block
