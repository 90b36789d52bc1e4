"""Devices and a server that play a whole session of secure aggregation; each step may be spoiled by a test."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedwire.errors import FedportalError
from fedwire.masking import statements
from fedwire.masking.session import Session, vector_digest
from fedwire.masking.statements import Advert
from fedwire.masking.terms import Policy, Terms, least_threshold
from training.privacy import unmasking
from training.privacy.unmasking import Given, Roster

ORGANIZATIONS = ("acme", "metro", "valley")
BASE = "ab" * 32


class Notebook:
    """A journal in memory."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], str] = {}
        self.keys: dict[str, str] = {}
        self.sums: dict[str, list[frozenset[str]]] = {}

    def settle(self, session: str, about: str, said: str) -> bool:
        return self.said.setdefault((session, about), said) == said

    def identities(self) -> Mapping[str, str]:
        return self.keys

    def meet(self, identities: Mapping[str, str]) -> None:
        self.keys = {**identities, **self.keys}

    def join(self, base_model: str, devices: frozenset[str], least: int) -> bool:
        earlier = self.sums.setdefault(base_model, [])
        if any(0 < len(devices ^ one) < least for one in earlier):
            return False
        earlier.append(devices)
        return True


class Conductor:
    """A server and its devices: four of each of three organizations unless said otherwise."""

    def __init__(self, devices: int = 12, parameters: int = 5, seed: int = 0, **terms: object) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw().hex()
        self.names = [f"device-{number:03d}" for number in range(devices)]
        self.of = {name: ORGANIZATIONS[number % 3] for number, name in enumerate(self.names)}
        self.keys = {name: Ed25519PrivateKey.generate() for name in self.names}
        self.journals = {name: Notebook() for name in self.names}
        self.policies = {name: Policy() for name in self.names}
        generator = np.random.default_rng(seed)
        self.updates = {name: generator.normal(size=parameters).astype(np.float32) for name in self.names}
        self.weights = dict.fromkeys(self.names, 1)
        self.terms = self.announce(parameters=parameters, devices=devices, **terms)
        self.encoded = {name: self.terms.ring.encode(self.updates[name], self.weights[name]) for name in self.names}
        self.sessions: dict[str, Session] = {}

    def announce(self, **changes: object) -> Terms:
        """Signed terms of a new session."""
        plain: dict[str, object] = {
            "session": secrets.token_hex(16),
            "federation": "fed_1",
            "run": "run_1",
            "round": 1,
            "task": "cd" * 32,
            "base_model": BASE,
            "parameters": 5,
            "bits": 32,
            "clip": 10.0,
            "most_weight": 1,
            "devices": len(self.names),
            "threshold": least_threshold(list(self.of.values())),
            "least_devices": 10,
            "least_organizations": 3,
        }
        return self.signed(Terms(**{**plain, **changes}))  # type: ignore[arg-type]

    def signed(self, terms: Terms) -> Terms:
        return unmasking.announced(replace(terms, signature=""), self.key)

    def session(self, name: str, terms: Terms | None = None) -> Session:
        """A device that comes to the session."""
        identity = (name, self.of[name], self.keys[name])
        return Session(terms or self.terms, self.public, identity, self.policies[name], self.journals[name])

    # Each step of an honest server, by itself.

    def gather(self, among: Iterable[str] | None = None) -> Roster:
        """D0 and S1: those who come, in a roster."""
        self.sessions = {name: self.session(name) for name in among or self.names}
        adverts = [session.advert for session in self.sessions.values()]
        for advert in adverts:
            unmasking.check_advert(self.terms, advert, self.keys[advert.device].public_key().public_bytes_raw().hex())
        return unmasking.rostered(self.terms, adverts)

    def share(self, roster: Roster, without: Iterable[str] = ()) -> tuple[Roster, dict[str, dict[str, str]]]:
        """D1 and S2: the roster with those who shared, and for each what the others keep with it."""
        signature, sealed = roster.signed(self.key), {}
        for name in self.of_roster(roster, without):
            sealed[name], own = self.sessions[name].share(roster.adverts, signature)
            roster.check_shares(name, sealed[name], own)
        shared = replace(roster, sharers=tuple(sealed))
        return shared, {to: {by: sealed[by][to] for by in sealed if by != to} for to in sealed}

    def mask(
        self, roster: Roster, delivered: Mapping[str, Mapping[str, str]], without: Iterable[str] = ()
    ) -> tuple[np.ndarray, list[str]]:
        """D2 and S3: the sum of the masked vectors, and whose are in it."""
        total, survivors = unmasking.empty(self.terms), []
        for name in [name for name in roster.sharers if name not in set(without)]:
            session = self.sessions[name]
            vector = session.mask(delivered[name], self.encoded[name].copy())
            digest = vector_digest(vector)
            roster.check_vector(name, digest, session.signed_vector(digest))
            total += vector
            survivors.append(name)
        return total, survivors

    def agree(self, roster: Roster, survivors: Sequence[str], without: Iterable[str] = ()) -> dict[str, str]:
        """D3 and S4: the signatures under the list of survivors."""
        signature, agreed = roster.signed_survivors(self.key, survivors), {}
        for name in [name for name in survivors if name not in set(without)]:
            agreed[name] = self.sessions[name].agree(survivors, signature)
            roster.check_agreement(name, survivors, agreed[name])
        return agreed

    def give(
        self, roster: Roster, survivors: Sequence[str], agreed: Mapping[str, str], without: Iterable[str] = ()
    ) -> dict[str, Given]:
        """D4: the shares that the devices give."""
        given: dict[str, Given] = {}
        for name in [name for name in agreed if name not in set(without)]:
            given[name], signature = self.sessions[name].unmask(agreed)
            roster.check_given(name, survivors, given[name], signature)
        return given

    def play(self, *phases: Iterable[str]) -> tuple[np.ndarray, list[str]]:
        """A whole session; `phases`: who is gone from D1, D2, D3 and D4 on. The sum, unmasked, and whose it is."""
        shares, masks, agrees, gives = (*phases, (), (), (), ())[:4]  # who is gone in one step is in none of the next
        roster, delivered = self.share(self.gather(), shares)
        total, survivors = self.mask(roster, delivered, masks)
        agreed = self.agree(roster, survivors, agrees)
        found = unmasking.recovered(roster, survivors, self.give(roster, survivors, agreed, gives))
        unmasking.unmask(total, roster, survivors, found)
        return total, survivors

    def of_roster(self, roster: Roster, without: Iterable[str]) -> list[str]:
        return [advert.device for advert in roster.adverts if advert.device not in set(without)]


def plain_sum(conductor: Conductor, survivors: Iterable[str]) -> np.ndarray:
    """The sum of the vectors that the devices masked, before they did."""
    total = unmasking.empty(conductor.terms)
    for name in survivors:
        total += conductor.encoded[name]
    return total


def resigned(conductor: Conductor, advert: Advert, name: str, **changes: str) -> Advert:
    """The advert with changes, signed by the key of `name`."""
    changed = replace(advert, **changes)
    fields = changed.fields(conductor.terms.digest)
    return replace(changed, signature=statements.sign(conductor.keys[name], "advert", fields))


def reason_of(error: FedportalError) -> str:
    """Why a session was refused."""
    assert error.code == "masking_refused", error.code
    return str(error.context["reason"])
