"""Where a model that is served comes from, and how one sees that another version has taken its place.

    InstalledSource   what the device's organization gave it by a rollout, see `fedportal_sdk.installed`, or while
                      there is no such thing what was pulled from the portal before serving began
    FileSource        a safetensors file, with what it is told beside it or by the caller

A source is asked often and answers from the disk alone; only `pulled` asks the portal, once, before anything is served.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedportal_sdk._config import Home
from fedportal_sdk._shelf import SUFFIX, hashed
from fedportal_sdk.installed import Installed, InstalledModel
from fedportal_sdk.portal import Portal
from fedwire.errors import FedportalError
from fedwire.headers import MAX_HEADER, parse_header, parse_metadata

log = logging.getLogger("fedportal")

FOLDER = "served"
PINNED = "pinned"  # a folder for each version that was asked for by its number: nothing takes its place there
# With these errors the portal cannot be asked now; what was pulled before is served then.
AWAY = frozenset({"unreachable", "unavailable", "not_configured", "tls_failed", "unexpected_answer"})


@dataclass(frozen=True)
class Found:
    """A version as it lies on the disk. Two that are equal need not be loaded twice."""

    name: str
    model: str  # the portal's id, "" without one
    version: str  # "" for a file that does not say
    path: Path  # a file, or the folder of a text model
    sha256: str  # "" where nobody said what it must be
    described: str  # the architecture as JSON, "" without one
    stamp: tuple[int, ...] = ()  # of a file that may change in place

    @property
    def architecture(self) -> Any:
        """The description, None without one."""
        return json.loads(self.described) if self.described else None

    @property
    def is_text(self) -> bool:
        """Whether it is the folder of a text model, as `transformers` writes one."""
        return self.path.is_dir()


class Source(Protocol):
    """Gives what is to be served now."""

    def current(self) -> Found:
        """The version in use. Raises not_installed, data_missing, ambiguous_name."""


class InstalledSource:
    """The version in use of `model` in these places, which are asked for each time; it follows rollouts. `pulled`: the
    place to look at where there is none."""

    def __init__(
        self, places: Callable[[], Sequence[Path]], model: str, architecture: Any = None, pulled: Path | None = None
    ) -> None:
        self._places, self._pulled = places, pulled
        self._model = model
        self._architecture = architecture

    def current(self) -> Found:
        """Raises not_installed where the organization gave none, or took it away; ambiguous_name."""
        there = self._in(self._places()) or self._in([self._pulled] if self._pulled else [])
        if not there:
            raise FedportalError("not_installed", model=self._model)
        if len(there) > 1:
            choices = ", ".join(f"{one.model} ({one.name} {one.version})" for one in there)
            raise FedportalError("ambiguous_name", name=self._model, choices=choices)
        found = there[0]
        described = _text(self._architecture or found.architecture or _within(found.path))
        return Found(found.name, found.model, found.version, found.path, found.sha256, described)

    def _in(self, places: Sequence[Path]) -> list[InstalledModel]:
        """The different versions in these places."""
        there: dict[tuple[str, str], InstalledModel] = {}
        for one in (one for place in places for one in Installed(place).all()):
            if self._model in (one.model, one.name):
                there.setdefault((one.model, one.sha256), one)
        return list(there.values())


class FileSource:
    """A safetensors file, or a folder with one, or with a text model; it may be written anew while it is served."""

    def __init__(self, path: Path, architecture: Any = None) -> None:
        self._path = path
        self._architecture = architecture

    def current(self) -> Found:
        """Raises data_missing, and ambiguous_name for a folder with several files."""
        path = self._file()
        try:
            facts = path.stat()
        except OSError as error:
            raise FedportalError("data_missing", path=str(path), reason=error.strerror or str(error)) from error
        about = _beside(path)
        described = self._architecture or about.get("architecture") or _within(path)
        return Found(
            name=str(about.get("model") or path.stem if path.is_file() else path.resolve().name),
            model=str(about.get("model_id", "")),
            version=str(about.get("version", "")),
            path=path,
            sha256="",
            described=_text(described),
            stamp=(facts.st_mtime_ns, facts.st_size, facts.st_ino),
        )

    def _file(self) -> Path:
        if not self._path.is_dir() or (self._path / "config.json").exists():
            return self._path
        files = sorted(self._path.glob(f"*{SUFFIX}"))
        if len(files) > 1:
            choices = ", ".join(file.name for file in files)
            raise FedportalError("ambiguous_name", name=str(self._path), choices=choices)
        return files[0] if files else self._path / f"*{SUFFIX}"


def find(
    model: str,
    home: Home | None = None,
    *,
    device: Path | None = None,
    version: str = "latest",
    architecture: Any = None,
) -> Source:
    """Where `model` is to be served from: a file or folder of this name, else what is installed on this machine, else
    what the portal gives. `device`: the folder of the only device to look at; `version`: of what is pulled.

    Raises data_missing for a path that leads nowhere, ambiguous_name, and what the portal says.
    """
    home = home or Home()
    path = Path(model).expanduser()
    if path.exists() or path.suffix == SUFFIX or len(path.parts) > 1:
        return FileSource(path, architecture)

    def places() -> list[Path]:
        folders = [device] if device else sorted((home.folder / "devices").glob("*"))
        return [folder / "installed" for folder in folders]

    if version != "latest":
        place = home.folder / PINNED / hashed(version)
        return _pulled(model, home, version, InstalledSource(list, model, architecture, place), place)
    installed = InstalledSource(places, model, architecture)
    try:
        installed.current()
        return installed
    except FedportalError as error:
        if error.code != "not_installed":
            raise
    place = home.folder / FOLDER
    return _pulled(model, home, version, InstalledSource(places, model, architecture, place), place)


def _pulled(model: str, home: Home, version: str, source: InstalledSource, place: Path) -> Source:
    """The source, after the portal's version was fetched to `place`, if it was not there; where the portal is away it
    gives what was pulled before."""
    portal = Portal(home=home.folder, patience=0)
    try:
        if not portal.has_key:
            raise FedportalError("not_configured", what="API key", variable="FEDPORTAL_API_KEY")
        _fetch(portal, Installed(place), model, portal.version(model, version))
    except FedportalError as error:
        if error.code not in AWAY:
            raise
        with contextlib.suppress(FedportalError):
            if version != "latest":
                _take_over(Installed(home.folder / FOLDER), Installed(place), model, version)
            there = source.current()
            if version in ("latest", there.version):
                log.warning("%s Version %s was pulled before and is served.", error.message, there.version)
                return source
        raise
    return source


def check(found: Found) -> None:
    """Raises model_damaged where the file is not the one that was installed."""
    if not found.sha256:
        return
    with open(found.path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != found.sha256:
            raise FedportalError("model_damaged", path=str(found.path))


def _fetch(portal: Portal, store: Installed, model: str, said: Mapping[str, Any]) -> None:
    name, architecture = portal.model(model)["name"], said["architecture"]
    with contextlib.suppress(FedportalError):
        there = store.find(said["model_id"])
        if there.sha256 == said["sha256"]:
            store.put(said["model_id"], name, said["version"], said["sha256"], there.path, architecture)
            return
    with tempfile.TemporaryDirectory(prefix="fedportal-") as folder:
        file = portal.pull(model, Path(folder) / f"model{SUFFIX}", version=said["version"])
        store.put(said["model_id"], name, said["version"], said["sha256"], file, architecture)


def _take_over(store: Installed, pinned: Installed, model: str, version: str) -> None:
    """Have the version in its own place also where it was pulled as the latest one. The portal need not be there."""
    for one in store.all():
        if model in (one.model, one.name) and one.version == version:
            pinned.put(one.model, one.name, one.version, one.sha256, one.path, one.architecture)


def _beside(path: Path) -> dict[str, Any]:
    """What the JSON file of the same name says; empty without one."""
    try:
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(said, dict):
        return {}
    return said if "kind" not in said else {"architecture": said}


def _within(path: Path) -> Any:
    """The description that a device's own model carries in its file's header; None in others."""
    try:
        with open(path, "rb") as file:
            head = file.read(MAX_HEADER + 8)
        _, start = parse_header(head, total=path.stat().st_size)
        return json.loads(parse_metadata(head[:start])["architecture"])
    except (OSError, KeyError, ValueError, FedportalError):
        return None


def _text(architecture: Any) -> str:
    return json.dumps(architecture, sort_keys=True) if architecture else ""
