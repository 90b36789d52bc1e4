"""Where the devices run: in this process, in several, or as actors of Ray. All of them do the same four things."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from fedportal_sdk._retry import Flag, Stop, Stopped
from fedportal_sdk.simulation.fleet import Fleet, Job, Log, Place
from fedportal_sdk.simulation.realtime import RealTime
from fedportal_sdk.simulation.timeline import Timeline
from fedportal_sdk.simulation.wishes import Settings
from fedwire.errors import FedportalError

Enrolled = tuple[int, str, str]  # a device's place, id and identifier


class Crew(Protocol):
    """All devices of a simulation, wherever they run."""

    def enrol(self, name: str, group: str) -> list[Enrolled]:
        """Register all devices."""

    def greet(self) -> None:
        """Let the portal know that they are there."""

    def take_part(self, job: Job) -> list[Log]:
        """Take part until the run is over or `stop` was called; a log for each process."""

    def stop(self) -> None:
        """End `enrol`, `greet` or `take_part`, from any thread."""

    def close(self) -> None:
        """Leave no process, connection or file behind."""


def take_part(fleet: Fleet, job: Job, *, virtual: bool) -> Log:
    """Take part by the real or the virtual clock; what happened. Devices of a fleet take part once."""
    pool = fleet.pool()
    driver: RealTime | Timeline = Timeline(fleet, job) if virtual else RealTime(fleet, job)
    try:
        with contextlib.suppress(Stopped):
            driver.work(pool)
    finally:
        fleet.end()
        pool.shutdown(cancel_futures=True)
    return fleet.log(driver.now)


class Here:
    """All devices in this process."""

    def __init__(self, place: Place, settings: Settings, spec: dict[str, Any]) -> None:
        self._flag, self._virtual = Stop(), settings.virtual
        self._fleet = Fleet(place, settings, spec, range(settings.devices), self._flag)
        self.enrol, self.greet = self._fleet.enrol, self._fleet.greet

    def take_part(self, job: Job) -> list[Log]:
        """See `Crew`."""
        return [take_part(self._fleet, job, virtual=self._virtual)]

    def stop(self) -> None:
        """See `Crew`."""
        self._flag.set()
        self._fleet.end()

    def close(self) -> None:
        """See `Crew`."""
        self._fleet.close()


class Spread:
    """The devices in several places: `_all` has each of them do something, and says what came of it."""

    def enrol(self, name: str, group: str) -> list[Enrolled]:
        """See `Crew`."""
        return [one for some in self._all("enrol", name, group) for one in some]

    def greet(self) -> None:
        """See `Crew`."""
        self._all("greet")

    def take_part(self, job: Job) -> list[Log]:
        """See `Crew`."""
        return self._all("take_part", job)

    def _all(self, what: str, *arguments: Any) -> list[Any]:
        raise NotImplementedError


class Processes(Spread):
    """The devices in so many processes. Raises what went wrong in one of them."""

    def __init__(self, place: Place, settings: Settings, spec: dict[str, Any], processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._flag = context.Event()
        self._ends: list[Connection] = []
        self._processes = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            places = range(number, settings.devices, processes)
            process = context.Process(
                target=_serve, args=(theirs, place, settings, spec, places, self._flag), daemon=True
            )
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def stop(self) -> None:
        """See `Crew`."""
        self._flag.set()

    def close(self) -> None:
        """See `Crew`."""
        self._flag.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.send(("close",))
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()

    def _all(self, what: str, *arguments: Any) -> list[Any]:
        for end in self._ends:
            end.send((what, *arguments))
        return [_received(end) for end in self._ends]


class Actors(Spread):
    """The devices as actors of Ray, wherever its cluster has room. Raises `package_missing` without Ray."""

    def __init__(self, place: Place, settings: Settings, spec: dict[str, Any], actors: int) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise FedportalError("package_missing", what="Simulating on Ray", package="ray") from error
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._ray.init(log_to_driver=False, logging_level="ERROR")
        # Two calls at once: `stop` is heard while the devices take part.
        remote = self._ray.remote(max_concurrency=2)(Actor)
        self._actors = [
            remote.remote(place, settings, spec, range(number, settings.devices, actors)) for number in range(actors)
        ]

    def stop(self) -> None:
        """See `Crew`."""
        for actor in self._actors:
            actor.stop.remote()

    def close(self) -> None:
        """See `Crew`."""
        self._all("close")
        for actor in self._actors:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()

    def _all(self, what: str, *arguments: Any) -> list[Any]:
        found = self._ray.get([getattr(actor, what).remote(*arguments) for actor in self._actors])
        for one in found:
            if isinstance(one, dict) and "error" in one:
                raise FedportalError.from_body(one, one["status_code"])
        return list(found)


class Actor:
    """A part of the devices as Ray runs it. An error comes as its JSON, for exceptions do not travel well."""

    def __init__(self, place: Place, settings: Settings, spec: dict[str, Any], places: Sequence[int]) -> None:
        self._flag, self._virtual = Stop(), settings.virtual
        self._made: Callable[[], Fleet] = lambda: Fleet(place, settings, spec, places, self._flag)
        self._fleet: Fleet | None = None

    def enrol(self, name: str, group: str) -> Any:
        """See `Crew`."""
        return self._said(lambda fleet: fleet.enrol(name, group))

    def greet(self) -> Any:
        """See `Crew`."""
        return self._said(lambda fleet: fleet.greet())

    def take_part(self, job: Job) -> Any:
        """See `Crew`."""
        return self._said(lambda fleet: take_part(fleet, job, virtual=self._virtual))

    def stop(self) -> None:
        """See `Crew`."""
        self._flag.set()

    def close(self) -> None:
        """See `Crew`."""
        if self._fleet is not None:
            self._fleet.close()

    def _said(self, act: Callable[[Fleet], Any]) -> Any:
        try:
            if self._fleet is None:
                self._fleet = self._made()
            return act(self._fleet)
        except Stopped:
            return None
        except FedportalError as error:
            return error.body()


def available(package: str) -> bool:
    """Whether this package is installed."""
    return importlib.util.find_spec(package) is not None


def crew_for(place: Place, settings: Settings, spec: dict[str, Any], processes: int, *, ray: bool) -> Crew:
    """Whoever runs the devices. Raises `package_missing`, and `field_invalid` for a virtual clock in several places."""
    if settings.virtual and processes > 1:
        reason = "a virtual clock runs in one process: its events have one order."
        raise FedportalError("field_invalid", field="processes", reason=reason)
    if ray:
        return Actors(place, settings, spec, processes)
    return Processes(place, settings, spec, processes) if processes > 1 else Here(place, settings, spec)


def _serve(end: Connection, place: Place, settings: Settings, spec: dict[str, Any], places: Any, flag: Flag) -> None:
    """A process: do what comes through the pipe until it says close, or until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes itself
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    threading.Thread(target=_die_with_parent, daemon=True).start()
    fleet: Fleet | None = None
    acts: dict[str, Callable[..., Any]] = {
        "enrol": lambda *said: fleet.enrol(*said) if fleet else None,
        "greet": lambda: fleet.greet() if fleet else None,
        "take_part": lambda job: take_part(fleet, job, virtual=settings.virtual) if fleet else None,
    }
    while True:
        what, *said = end.recv()
        if what == "close":
            break
        try:
            fleet = fleet or Fleet(place, settings, spec, places, flag)
            end.send((True, acts[what](*said)))
        except Stopped:
            end.send((True, [] if what == "enrol" else None))
        except FedportalError as error:
            end.send((False, error.body()))
    if fleet is not None:
        fleet.close()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _received(end: Connection) -> Any:
    try:
        good, value = end.recv()
    except EOFError as error:
        raise FedportalError("internal", reference="a process of the simulation ended") from error
    if not good:
        raise FedportalError.from_body(value, value["status_code"])
    return value
