"""What the registry's tests share: a store of their own, and files that people push."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from numpy.typing import NDArray

from federations.permissions import Actor
from federations.services import keys
from fedportal.door import parts
from fedportal.door.hooks import Caller, DoorRequest
from fedwire.errors import FedportalError
from registry import door, files
from registry.models import Model, ModelVersion, StagedUpload
from registry.services import versions
from tests.cast import Cast

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """An empty data folder; what it holds afterwards can be looked at."""
    settings.FEDPORTAL_DATA_DIR = tmp_path / "data"
    files.manifest_of.cache_clear()
    yield tmp_path / "data"
    files.manifest_of.cache_clear()


def everything_in(folder: Path) -> list[str]:
    """The files below `folder`, by relative path."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def arrays() -> Arrays:
    """A small model as a person has it: weights of several shapes, and a counter."""
    generator = np.random.default_rng(3)
    return {
        "net.weight": generator.normal(size=(4, 3)).astype(np.float32),
        "net.bias": generator.normal(size=4).astype(np.float32),
        "scale": np.array(0.5, np.float32),
        "norm.num_batches_tracked": np.array(12, np.int64),
    }


class House:
    """The cast as actors, with an empty store: acme founds and owns, metro is active, valley invited, rival strange."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.acme, self.metro, self.federation = cast.acme, cast.metro, cast.federation
        self.olga, self.otto, self.mia = cast.actor("olga"), cast.actor("otto"), cast.actor("mia")
        self.vera, self.rex = cast.actor("vera"), cast.actor("rex")

    def through_key(self, actor: Actor, *scopes: str) -> tuple[Actor, str]:
        """The actor through a fresh key, and the key."""
        assert actor.organization is not None
        key, text = keys.issue(actor.organization, actor.person, name="test", scopes=list(scopes))
        return Actor(actor.person, actor.organization, key), text


@pytest.fixture
def house(store: Path, cast: Cast) -> House:
    """The beginning of every story at the registry."""
    return House(cast)


def refusal(call: Callable[..., object], *args: Any, **kwargs: Any) -> FedportalError:
    """The error with which `call` refuses."""
    with pytest.raises(FedportalError) as refused:
        call(*args, **kwargs)
    return refused.value


def request(method: str = "GET", token: str = "", query: str = "", **params: str) -> DoorRequest:
    """A request as the door hands it to a resolver."""

    def nobody() -> Caller:
        raise FedportalError("key_invalid")

    return DoorRequest(method, token, {}, params, {}, dict(parse_qsl(query)), nobody)


def send(token: str, upload: StagedUpload, content: bytes) -> None:
    """Send the file of an upload through the door's own parts."""
    ticket = door.upload(request("PUT", token, upload=upload.public_id))
    part = parts.begin(ticket, 0)
    keep = False
    try:
        part.feed([content])
        if part.stored == ticket.expected_bytes:
            ticket.on_stored(part.seal(None))
        keep = True
    finally:
        part.close() if keep else part.discard()


def delivered(house: House, actor: Actor, model: Model, content: bytes) -> StagedUpload:
    """An upload of `content` whose file has arrived."""
    upload = versions.begin_upload(actor, model, len(content), hashlib.sha256(content).hexdigest())
    send(house.through_key(actor, "*")[1], upload, content)
    upload.refresh_from_db()
    return upload


def pushed(house: House, model: Model, content: bytes, version: str | None = None) -> ModelVersion:
    """A version that olga pushed."""
    return versions.push(house.olga, model, delivered(house, house.olga, model, content), version)
