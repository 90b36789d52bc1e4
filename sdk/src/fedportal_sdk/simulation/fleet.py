"""A part of the devices in one process: a few threads speak for all of them, each with connections that stay open."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk._config import key_id_of
from fedportal_sdk._retry import Flag, Patience, Stopped
from fedportal_sdk.simulation import rows
from fedportal_sdk.simulation.characters import Character, characters
from fedportal_sdk.simulation.device import Device, Gauge, Point, Post, Rows, Tally
from fedportal_sdk.simulation.wishes import Settings
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.messages import Registration, Task, registration_message
from fedwire.states import is_final
from fedwire.version import VERSION

# So many devices with nothing to do hold the long poll, each in a thread beside those that work.
SENTINELS = 4


@dataclass(frozen=True)
class Place:
    """Where the portal is, and the key with which devices register."""

    url: str
    api_key: str
    ca_file: str | None = None


@dataclass(frozen=True)
class Job:
    """The run that devices are to take part in.

    `sampled`: whether a round asks a part of them. `round_seconds`: its deadline. `enough`: the answers with which it
    closes though others are missing; 0: it waits for all. `asynchronous`: those who are missing answer a later round.
    """

    run: str
    sampled: bool = False
    round_seconds: float = 600.0
    enough: int = 0
    asynchronous: bool = False


@dataclass
class Log:
    """What a part of the devices did."""

    counts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    seconds: float = 0.0


class Fleet:
    """The devices at `places`, of all that `settings` draw. `stop` ends whatever goes on."""

    def __init__(
        self, place: Place, settings: Settings, spec: dict[str, Any], places: Sequence[int], stop: Flag
    ) -> None:
        self._place, self._settings, self.stop = place, settings, stop
        architecture = Architecture.parse(spec)
        data = rows.load(settings, architecture)
        holdings, drawn = rows.spread(settings, data), characters(settings)
        self.gauge, self.tally = Gauge(data, architecture), Tally()

        def made(at: int) -> Device:
            character: Character = drawn[at]
            work = Rows(at, data, holdings[at], character, self.gauge, settings.seed)
            return Device(at, character, work, settings)

        self.devices = [made(at) for at in places]
        self._witness: Device | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="fedportal-simulation-"))
        self._over = _Either(stop)
        self._threads = threading.local()
        self._posts: list[Post] = []
        self._lock = threading.Lock()

    def enrol(self, name: str, group: str) -> list[tuple[int, str, str]]:
        """Register every device, called after `name` and its place; (place, id, identifier) of each."""

        def register(device: Device) -> tuple[int, str, str]:
            device.identifier = f"{name}-{device.place + 1:05d}"
            body = registration(self._place.api_key, device.identifier, group)
            post = self._post()
            found = Patience(self._over)(
                lambda: post.http.json("POST", routes.DEVICE_REGISTER, body, token=self._place.api_key)
            )
            device.id, device.key = found["id"], found["device_key"]
            return device.place, device.id, device.identifier

        with self.pool() as pool:
            return list(pool.map(register, self.devices))

    def greet(self) -> None:
        """Let every device ask once, so that the portal knows that it is there."""
        with self.pool() as pool:
            list(pool.map(lambda device: self._post().next_task(device, 0), self.devices))

    def end(self) -> None:
        """Let nobody wait or begin anything any more."""
        self._over.set()
        with self._lock:
            for post in self._posts:
                post.http.interrupt()

    def log(self, seconds: float) -> Log:
        """What happened so far."""
        return Log(dict(self.tally.counts), dict(self.tally.errors), list(self.gauge.points), seconds)

    def do(self, device: Device, task: Task, taken: float) -> bool:
        """Let the device do the task that it took at this time; whether it was answered. Raises `Stopped`."""
        self._witness = device
        device.heard = time.monotonic()
        return device.do(task, self._post(), self.tally, self._over, self.folder, taken)

    def ask(self, device: Device, seconds: float) -> Task | None:
        """The device's next task, None when none came within `seconds`. Raises `Stopped`."""
        device.heard = time.monotonic()
        return self._post().next_task(device, seconds)

    def drop(self, device: Device, job: Job) -> None:
        """The device does not come to the round that is open."""
        self.tally.count("dropped: absent")
        device.leave(job.round_seconds)

    def rest(self, seconds: float) -> None:
        """Wait. Raises `Stopped`."""
        if self._over.wait(seconds):
            raise Stopped

    def over(self, job: Job) -> bool:
        """Whether the run has ended, as far as a device that worked for it hears. Raises `Stopped`."""
        if self._over.is_set():
            raise Stopped
        state = self._post().run_state(self._witness, job.run) if self._witness else ""
        return bool(state) and is_final("run", state)

    def close(self) -> None:
        """Close the connections and remove what was kept."""
        for post in self._posts:
            post.http.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pool(self) -> ThreadPoolExecutor:
        """Threads for the devices that speak at once, and for the sentinels."""
        return ThreadPoolExecutor(self._settings.threads + SENTINELS, "fedportal-simulation")

    def _post(self) -> Post:
        """This thread's post."""
        found: Post | None = getattr(self._threads, "post", None)
        if found is None:
            with self._lock:
                tag = str(len(self._posts))
                found = Post(self._place.url, self._place.ca_file, self._over, self.folder / "models", tag)
                self._posts.append(found)
            self._threads.post = found
        return found


class _Either:
    """Set when it was set itself, or the flag that it was made from."""

    def __init__(self, other: Flag) -> None:
        self._other = other
        self._own = threading.Event()

    def set(self) -> None:
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or self._other.is_set()

    def wait(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            self._own.wait(min(left, 0.1))
        return self.is_set()


def registration(api_key: str, identifier: str, group: str) -> Registration:
    """A signed registration of a device with a fresh key pair, which nobody keeps: it registers once."""
    private, nonce, key_id = Ed25519PrivateKey.generate(), secrets.token_hex(16), key_id_of(api_key)
    public = private.public_key().public_bytes_raw().hex()
    message = registration_message(key_id=key_id, device_identifier=identifier, public_key=public, nonce=nonce)
    return {
        "device_identifier": identifier,
        "public_key": public,
        "nonce": nonce,
        "signature": private.sign(message).hex(),
        "platform": "simulated",
        "sdk_version": VERSION,
        "groups": [group] if group else [],
    }
