"""What secure aggregation costs: `python -m tests.bench.secagg` prints a line of JSON for each share of absent devices.

Mode "portal": a round of the real portal, in a process of its own, with the SDK's devices over HTTP, each in a thread
of this process. `device_s` is the processor time of a device's steps, `server_s` the time from the last device's shares
to the new model, and the memory that of the portal's process from the first masked vector on.

Mode "protocol": the two halves speak to each other in this process: everything that a device and the server compute is
computed, nothing travels. `device_s`: all that one device does, from its keys to the shares that it gives (of three
devices the median). `upload_bytes`: all that it sends, spelled as JSON but for the vector. `server_s`: from the shares
to the sum without masks. `server_rss_growth_mb`: by how much that, and the adding of vectors, makes the process grow.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import time
from dataclasses import asdict, replace

import numpy as np

from fedwire.masking.session import Session, vector_digest
from fedwire.masking.terms import least_threshold
from tests.bench import masked_fleet
from tests.masking.conductor import Conductor
from training.privacy import unmasking
from training.privacy.unmasking import Roster

WATCHED = 3  # devices of which the time is taken
MEGABYTE = 1 << 20


class Clock:
    """How long each watched device has worked, and how much it has sent."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.sent: dict[str, int] = {}

    def of(self, name: str) -> Clock:
        self._name, self._began = name, time.perf_counter()
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        took = time.perf_counter() - self._began
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + took

    def sends(self, name: str, message: object) -> None:
        self.sent[name] = self.sent.get(name, 0) + len(json.dumps(message))


def grown(before: int) -> float:
    """By how many MB the most memory of this process has grown since."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def measure(devices: int, parameters: int, drop: float) -> dict[str, object]:
    """One line: a session in which a share of the devices goes away after it shared its keys."""
    conductor = Conductor(devices=devices)
    threshold = max(least_threshold(list(conductor.of.values())), 2 * devices // 3)
    conductor.terms = conductor.announce(parameters=parameters, threshold=threshold)
    update = np.random.default_rng(1).normal(size=parameters).astype(np.float32)
    names, clock = conductor.names, Clock()
    gone = names[:: round(1 / drop)][: round(devices * drop)] if drop else []
    watched = [name for name in names if name not in gone][:WATCHED]

    sessions, roster, sealed = _joined(conductor, clock)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total, survivors = unmasking.empty(conductor.terms), [name for name in names if name not in gone]
    encoded = conductor.terms.ring.encode(update, 1)
    for name in survivors:
        delivered = {by: sealed[by][name] for by in names if by != name}
        with clock.of(name):
            vector = conductor.terms.ring.encode(update, 1) if name in watched else encoded.copy()
            masked = sessions[name].mask(delivered, vector)
            sent = sessions[name].signed_vector(vector_digest(masked))
        clock.sends(name, sent)
        clock.sent[name] += masked.nbytes
        total += masked
    signature = roster.signed_survivors(conductor.key, survivors)
    agreed, given = {}, {}
    for name in survivors:
        with clock.of(name):
            agreed[name] = sessions[name].agree(survivors, signature)
    for name in survivors[: threshold + 1]:
        with clock.of(name):
            given[name], own = sessions[name].unmask(agreed)
        clock.sends(name, [agreed[name], given[name], own])
    began = time.perf_counter()
    found = unmasking.recovered(roster, survivors, given)
    unmasking.unmask(total, roster, survivors, found)
    server = time.perf_counter() - began
    mean, weights = conductor.terms.ring.decode(total)
    if weights != len(survivors) or np.abs(mean - update * min(1, 10 / np.linalg.norm(update))).max() > 1e-5:
        raise AssertionError("this is not the mean of what was masked")
    return {
        "name": "secagg",
        "mode": "protocol",
        "n": devices,
        "params": parameters,
        "drop": drop,
        "threshold": threshold,
        "device_s": round(statistics.median(clock.seconds[name] for name in watched), 3),
        "upload_bytes": max(clock.sent[name] for name in watched),
        "server_s": round(server, 3),
        "server_rss_growth_mb": round(grown(before), 1),
    }


def _joined(conductor: Conductor, clock: Clock) -> tuple[dict[str, Session], Roster, dict[str, dict[str, str]]]:
    """All devices come and share their keys: their sessions, the roster, and what each keeps with others, sealed."""
    sessions: dict[str, Session] = {}
    for name in conductor.names:
        with clock.of(name):
            sessions[name] = conductor.session(name)
        clock.sends(name, asdict(sessions[name].advert))
    roster = unmasking.rostered(conductor.terms, [session.advert for session in sessions.values()])
    signature, sealed = roster.signed(conductor.key), {}
    for name in conductor.names:
        with clock.of(name):
            sealed[name], own = sessions[name].share(roster.adverts, signature)
        clock.sends(name, [sealed[name], own])
    return sessions, replace(roster, sharers=tuple(conductor.names)), sealed


def main(arguments: list[str] | None = None) -> None:
    """Print one line per share of devices that are gone."""
    parser = argparse.ArgumentParser(prog="secagg", description=__doc__)
    parser.add_argument("--devices", "--n", type=int, default=100)
    parser.add_argument("--params", type=int, default=1_000_000)
    parser.add_argument("--drop", type=float, action="append", help="only this share of absent devices")
    parser.add_argument("--mode", choices=("protocol", "portal"), help="only this one")
    options = parser.parse_args(arguments)
    for mode, measured in (("protocol", measure), ("portal", masked_fleet.measure)):
        if options.mode in (None, mode):
            for drop in options.drop or (0.0, 0.1, 0.3):
                print(json.dumps(measured(options.devices, options.params, drop)), flush=True)


if __name__ == "__main__":
    main()
