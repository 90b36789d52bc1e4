"""What a simulation asks of the portal as an organization: a model, the run, its rounds, and that no device is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from fedportal_sdk._paths import path_of
from fedportal_sdk.portal import Json, Portal
from fedportal_sdk.simulation.rows import architecture_of
from fedportal_sdk.simulation.wishes import Settings
from fedwire import routes
from fedwire.errors import FedportalError

FEDERATION = "simulation"
FIRST_VERSION = "1.0.0"
# More events than this are not read through to find the flagged updates; the newest of them stand in the snapshot.
MOST_EVENTS = 50_000
RETIRING = 8


@dataclass(frozen=True)
class Wish:
    """The run to start, or with `run` the one to join. Without a model one that fits the data is made and shared."""

    model: str | None = None
    federation: str | None = None
    run: str | None = None
    strategy: str = "fedavg"
    rounds: int = 5
    min_devices: int | None = None
    round_seconds: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What is trained: the model's name, its architecture, the version that runs start from (None: the latest), and the
    federation (None: the only one)."""

    model: str
    architecture: dict[str, Any]
    version: str | None = None
    federation: str | None = None


class Owner(Portal):
    """The portal with an organization's key."""

    def subject(self, wish: Wish, settings: Settings) -> Subject:
        """The wish's model, or one that is made for the settings' data and shared with a federation of its own.

        Raises `architecture_invalid` for a model that is not described.
        """
        if wish.run:
            session = self.session(wish.run)
            return self._described(session["model_id"], session["base_version"])
        if wish.model:
            return replace(self._described(wish.model, None), federation=wish.federation)
        name = f"simulated-{settings.data}"
        federation = self._own_federation()
        if not any(row["name"] == name and row["owned"] for row in self.models()):
            self.create_model(name, "Made for simulations.", architecture_of(settings))
            self.push_initial(name, version=FIRST_VERSION)
        self.share(name, federation)
        return replace(self._described(name, FIRST_VERSION), federation=federation)

    def begin(self, subject: Subject, wish: Wish, settings: Settings, group: str) -> Json:
        """Start the run for the devices in `group`."""
        least = wish.min_devices or max(1, int(settings.devices * (1 - 2 * settings.dropout.rate)))
        said: Json = {
            "model_id": subject.model,
            "version": subject.version,
            "federation_id": subject.federation,
            "strategy": wish.strategy,
            "rounds": wish.rounds,
            "group": group,
            "min_devices": least,
            "round_seconds": wish.round_seconds,
            **wish.plan,
            "config": {"seed": settings.seed, **wish.config},
        }
        return self._post(routes.SESSIONS, **said)

    def session(self, run: str) -> Json:
        """The run by itself."""
        found: Json = self._get(path_of(routes.SESSION, run=run))
        return found

    def rounds(self, run: str) -> list[Json]:
        """Every attempt of every round."""
        return list(self._rows(path_of(routes.SESSION_ROUNDS, run=run), "rounds"))

    def flagged(self, run: str) -> list[Json]:
        """The updates that the portal found unlike the others, each with its round, device, score and reason; of a run
        of very many events instead of each the one of its device with the highest score."""
        snapshot = self.status(run)
        if snapshot["sequence"] > MOST_EVENTS:
            return [one for one in snapshot["flagged"] for _ in range(one["count"])]
        return [
            {"number": event["data"]["number"], **one}
            for event in self._events(run)
            if event["kind"] == "round.done"
            for one in event["data"].get("flagged", ())
        ]

    def retire_group(self, group: str, prefix: str, told: Callable[[int], None]) -> int:
        """Take the devices of the group whose names begin with `prefix` out of service for good; how many.

        `told` hears beforehand how many they are.
        """
        active = self._rows(routes.DEVICES, "devices", group=group, status="active,quarantined")
        devices = [row["id"] for row in active if row["device_identifier"].startswith(prefix)]
        told(len(devices))
        with ThreadPoolExecutor(RETIRING) as pool:
            list(pool.map(lambda device: self.act_on_device(device, "retire"), devices))
        return len(devices)

    def _events(self, run: str) -> Iterator[Json]:
        after, more = 0, True
        while more:
            page = self._get(path_of(routes.SESSION_EVENTS, run=run) + f"?after={after}")
            yield from page["events"]
            after, more = page["events"][-1]["sequence"] if page["events"] else after, page["more"]

    def _described(self, model: str, version: str | None) -> Subject:
        found = self.version(model, version or "latest")
        if not found["architecture"]:
            reason = "the model is not described, so nobody knows which rows to make for it."
            raise FedportalError("architecture_invalid", reason=reason)
        return Subject(model, found["architecture"], version)

    def _own_federation(self) -> str:
        """The id of one's own federation for simulations."""
        own = self.own_organization()
        mine = (row for row in self.federations() if row["name"] == FEDERATION and row["org_id"] == own)
        found = next(mine, None) or self.found_federation(FEDERATION, "Made for simulations.")
        return str(found["id"])
