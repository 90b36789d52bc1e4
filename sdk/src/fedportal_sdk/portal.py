"""`Portal`: the owner's and member's side of the API, as Python calls.

Names and ids are taken alike. Every failure is a `FedportalError` that says what to do next.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fedportal_sdk._config import Home
from fedportal_sdk._http import Http
from fedportal_sdk._retry import Patience
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.states import is_final

Json = dict[str, Any]
# (bytes done, bytes in all)
Progress = Callable[[int, int], object]

PAGE = 200
PIECE = 1 << 20
TRANSFER_TIMEOUT = 300.0
PATIENCE = 30.0
CONVERSION_SECONDS = 300.0


def _nobody(done: int, total: int) -> None:
    """Shows progress to nobody."""


class Portal:
    """A portal with an API key: given, from FEDPORTAL_URL and FEDPORTAL_API_KEY, or saved by `fedportal login`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        home: str | Path | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        place = Home(home)
        self.url = place.url(url)
        self._http = Http(self.url, place.api_key(api_key), ca_file=place.ca_file(ca_file))
        self._patience = Patience(threading.Event(), limit=PATIENCE)

    # --- who am I ----------------------------------------------------------------------------------------------------

    def whoami(self) -> Json:
        """The person and the organization for which this key acts."""
        return self._get(routes.WHOAMI)

    # --- federations -------------------------------------------------------------------------------------------------

    def federations(self) -> list[Json]:
        """The federations one sees."""
        return list(self._get(routes.FEDERATIONS))

    def found_federation(self, name: str, description: str = "") -> Json:
        """Found a federation."""
        return self._post(routes.FEDERATIONS, name=name, description=description)

    def invite(self, federation: str, org_ids: list[str] | None = None, emails: list[str] | None = None) -> list[Json]:
        """Invite organizations by id and people by address; whom it went to, with links where they may be shown."""
        path = _path(routes.FEDERATION_INVITE, federation=federation)
        return list(self._post(path, org_ids=org_ids or [], emails=emails or [])["invited"])

    def join(self, federation: str) -> Json:
        """Accept an invitation to one's organization."""
        return self._post(_path(routes.FEDERATION_JOIN, federation=federation))

    def decline(self, federation: str) -> Json:
        """Decline it."""
        return self._post(_path(routes.FEDERATION_DECLINE, federation=federation))

    def leave(self, federation: str) -> Json:
        """Leave a federation."""
        return self._post(_path(routes.FEDERATION_LEAVE, federation=federation))

    def members(self, federation: str) -> list[Json]:
        """The roster."""
        return list(self._get(_path(routes.FEDERATION_MEMBERS, federation=federation)))

    def share(self, model: str, federation: str) -> Json:
        """Show a model to a federation."""
        return self._post(_path(routes.FEDERATION_MODELS, federation=federation), model_id=model)

    def unshare(self, model: str, federation: str) -> None:
        """Take it out again."""
        self._call("DELETE", _path(routes.FEDERATION_MODEL, federation=federation, model=model))

    # --- models ------------------------------------------------------------------------------------------------------

    def models(self) -> list[Json]:
        """The models one sees."""
        return list(self._rows(routes.MODELS, "models"))

    def model(self, model: str) -> Json:
        """One model."""
        return self._get(_path(routes.MODEL, model=model))

    def create_model(self, name: str, description: str = "", architecture: Mapping[str, Any] | None = None) -> Json:
        """Register a model."""
        return self._post(routes.MODELS, name=name, description=description, architecture=architecture)

    def versions(self, model: str) -> list[Json]:
        """Its versions, newest first."""
        return list(self._rows(_path(routes.MODEL_VERSIONS, model=model), "versions"))

    def version(self, model: str, version: str = "latest") -> Json:
        """One version with its lineage."""
        return self._get(_path(routes.MODEL_VERSION, model=model, version=version))

    def push_initial(self, model: str, seed: int = 0, version: str | None = None) -> Json:
        """A version with the first weights of the model's described architecture."""
        return self._post(_path(routes.MODEL_VERSIONS, model=model), initial=True, seed=seed, version=version)

    def push(
        self,
        model: str,
        file: str | Path,
        *,
        version: str | None = None,
        architecture: Mapping[str, Any] | None = None,
        notes: str = "",
        progress: Progress = _nobody,
    ) -> Json:
        """Push a safetensors file as a version. An upload that breaks off continues where it broke.

        Raises `data_missing` when the file cannot be read, and what the portal says of it.
        """
        path = Path(file)
        try:
            size, sha = path.stat().st_size, _sha256(path)
        except OSError as error:
            raise FedportalError("data_missing", path=str(path), reason=error.strerror or str(error)) from error
        upload = self._post(
            _path(routes.MODEL_VERSIONS, model=model).replace("/versions", "/uploads"), size=size, sha256=sha
        )
        if not upload["complete"]:
            self._upload(upload["url"], path, size, sha, progress)
        said = {"upload": upload["id"], "version": version, "architecture": architecture, "notes": notes}
        return self._post(_path(routes.MODEL_VERSIONS, model=model), **said)

    def pull(
        self,
        model: str,
        file: str | Path,
        *,
        version: str = "latest",
        format: str = "safetensors",
        progress: Progress = _nobody,
    ) -> Path:
        """Fetch a version into `file`, whole or not at all. Other forms than safetensors are made on demand."""
        path = _path(routes.MODEL_DOWNLOAD, model=model, version=version) + f"?format={quote(format)}"
        target, give_up = Path(file), time.monotonic() + CONVERSION_SECONDS
        while True:
            response = self._http.send("GET", path, stream=True, timeout=TRANSFER_TIMEOUT)
            if response.status == 202 and time.monotonic() < give_up:
                response.release_conn()
                time.sleep(0.5)
                continue
            break
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with self._http.reading(response), open(draft, "wb") as out:
                total, done = int(response.headers.get("Content-Length", 0)), 0
                while piece := response.read(PIECE):
                    out.write(piece)
                    done += len(piece)
                    progress(done, total)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        return target

    # --- training ----------------------------------------------------------------------------------------------------

    def start(
        self,
        model: str,
        *,
        federation: str | None = None,
        strategy: str = "fedavg",
        rounds: int = 10,
        group: str | None = None,
        min_devices: int = 1,
        round_seconds: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Json:
        """Start a run."""
        said: Json = {
            "model_id": model,
            "strategy": strategy,
            "rounds": rounds,
            "group": group,
            "min_devices": min_devices,
        }
        if federation:
            said["federation_id"] = federation
        if round_seconds:
            said["round_seconds"] = round_seconds
        return self._post(routes.SESSIONS, **said, config=dict(config or {}))

    def runs(self) -> list[Json]:
        """The runs one sees, newest first."""
        return list(self._rows(routes.SESSIONS, "sessions"))

    def run_of(self, model: str) -> str:
        """The id of the model's newest run; an id of a run is its own. Raises `not_found`."""
        if model.startswith("run_"):
            return model
        wanted = self.model(model)["id"]
        for run in self.runs():
            if run["model"]["id"] == wanted:
                return str(run["id"])
        raise FedportalError("not_found", what="run of this model")

    def status(self, run: str) -> Json:
        """The whole snapshot of a run, given by its id or by its model."""
        return self._get(_path(routes.SESSION, run=self.run_of(run)) + "/snapshot")

    def watch(self, run: str, seconds: float = 1.0) -> Iterator[Json]:
        """Snapshot after snapshot until the run ends; the last one is of the ended run."""
        found, last = self.run_of(run), -1
        while True:
            snapshot = self._patience(lambda: self.status(found))
            if snapshot["sequence"] != last:
                last = snapshot["sequence"]
                yield snapshot
            if is_final("run", snapshot["run"]["state"]):
                return
            time.sleep(seconds)

    def pause(self, run: str) -> Json:
        """Let no further round open."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/pause")

    def resume(self, run: str) -> Json:
        """Go on."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/resume")

    def stop(self, run: str) -> Json:
        """End the run for good."""
        return self._post(_path(routes.SESSION, run=self.run_of(run)) + "/stop")

    # --- devices and people ------------------------------------------------------------------------------------------

    def devices(self) -> list[Json]:
        """The organization's devices."""
        return list(self._rows(routes.DEVICES, "devices"))

    def act_on_device(self, device: str, act: str) -> Json:
        """revoke, retire, reset, quarantine or restore a device."""
        return self._post(_path(routes.DEVICE, device=device) + f"/{act}")

    def set_groups(self, device: str, groups: list[str]) -> Json:
        """Put the device into exactly these groups."""
        found: Json = self._call("PUT", _path(routes.DEVICE, device=device) + "/groups", {"groups": groups})
        return found

    def team(self) -> Json:
        """The people of one's organization, and who is invited."""
        return self._get(_path(routes.ORG_MEMBERS, org=self.own_organization()))

    def add_colleague(self, email: str, role: str) -> Json:
        """Invite a colleague."""
        return self._post(_path(routes.ORG_MEMBERS, org=self.own_organization()), email=email, role=role)

    def own_organization(self) -> str:
        """The id of the organization this key acts for."""
        return str(self.whoami()["organization"]["id"])

    # --- inside ------------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._patience(lambda: self._http.json("GET", path))

    def _post(self, path: str, **body: Any) -> Any:
        return self._call("POST", path, {name: value for name, value in body.items() if value is not None})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return self._http.json(method, path, body)

    def _rows(self, path: str, name: str) -> Iterator[Json]:
        offset = 0
        while True:
            page = self._get(f"{path}?{urlencode({'limit': PAGE, 'offset': offset})}")
            yield from page[name]
            offset += len(page[name])
            if not page[name] or offset >= page["total"]:
                return

    def _upload(self, address: str, path: Path, size: int, sha: str, progress: Progress) -> None:
        with open(path, "rb") as file:

            def attempt() -> Any:
                head = self._http.send("HEAD", address)
                stored = int(head.headers.get("Upload-Offset", 0))
                file.seek(stored)
                headers = {
                    "Upload-Offset": str(stored),
                    "Upload-Digest": sha,
                    "Content-Length": str(size - stored),
                    "Content-Type": "application/octet-stream",
                }
                body = _pieces(file, stored, size, progress)
                return self._http.send("PUT", address, body=body, headers=headers, timeout=TRANSFER_TIMEOUT)

            self._patience(attempt)


def _pieces(file: Any, done: int, size: int, progress: Progress) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
        done += len(piece)
        progress(done, size)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path(route: str, **names: str) -> str:
    return route.format(**{name: quote(value, safe="") for name, value in names.items()})
