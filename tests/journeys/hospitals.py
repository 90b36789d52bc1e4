"""Three hospitals whose patients differ, with devices that take part in whatever comes, at a real portal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk import FederatedClient
from fedwire import routes
from fedwire.tensors import decode_model
from tests.journeys.story import FEDERATION, MEMBERS, Device, Story
from tests.running import Portal

ROUNDS, SEED = 3, 11
ROWS = {"acme": 60, "metro": 100, "valley": 150}


def identifier(number: int) -> str:
    return f"hospital-{number + 1:03d}"


def rows_of(path: Path, number: int, count: int) -> Path:
    """The patients of one hospital: from place to place other columns speak for the disease."""
    random = np.random.default_rng(number)
    features = random.normal(size=(count, 4)) + 0.5 * number
    sick = features @ np.roll([2.0, -1.0, 0.5, 0.0], number) + 0.3 * random.normal(size=count) > 0.4
    lines = (",".join(f"{value:.6f}" for value in row) for row in features)
    text = "\n".join(f"{line},{'M' if is_sick else 'B'}" for line, is_sick in zip(lines, sick, strict=True))
    path.write_text(f"a,b,c,d,diagnosis\n{text}\n")
    return path


def reached(number: int, snapshot: dict[str, Any]) -> bool:
    return bool(snapshot["run"]["current_round"] >= number)


class Federation:
    """The hospitals and the story of their portal, whose first model is `spec`."""

    def __init__(self, portal: Portal, folder: Path, spec: dict[str, Any]) -> None:
        self.story = Story(portal, spec)
        self.folder, self.spec = folder, spec
        self.files = [rows_of(folder / f"{name}.csv", n, ROWS[name]) for n, name in enumerate(MEMBERS)]
        self.devices = [self.device(number) for number in range(len(MEMBERS))]

    def device(self, number: int) -> Device:
        """Start a hospital's device, for the first time or again."""
        name, url = MEMBERS[number], self.story.portal.url
        client = FederatedClient(self.story.keys[name], identifier(number), url, self.folder / name)
        client.register()
        rows = self.files[number]
        act = partial(FederatedClient.train, model=None, data=rows, target_col="diagnosis", forever=True)
        return Device(client, act)

    def start(self, model: str, strategy: str, rounds: int = ROUNDS, spec: Any = None, **config: Any) -> str:
        """Start a run for a fresh model; its id."""
        self.story.shared_model(model, spec or self.spec)
        wish = {"model_id": model, "federation_id": FEDERATION, "strategy": strategy, "rounds": rounds}
        wish |= {"config": {"seed": SEED, **config}, "min_devices": 3, "round_seconds": 60}
        return str(self.story.call("acme", "POST", routes.SESSIONS, wish)["session_id"])

    def result(self, model: str) -> Mapping[str, Any]:
        """The weights of the model's latest version."""
        version = self.story.versions(model)[0]["version"]
        content = self.story.doors["acme"].send("GET", routes.MODEL_DOWNLOAD.format(model=model, version=version)).data
        return decode_model(content)[1]


@contextmanager
def federation_of(spec: dict[str, Any], folder: Path) -> Iterator[Federation]:
    """A federation at a portal of its own; both end with it."""
    with Portal() as portal:
        made = Federation(portal, folder, spec)
        try:
            yield made
        finally:
            for device in made.devices:
                device.client.close()
