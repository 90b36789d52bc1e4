"""The device's half of a session, from its keys to the shares that it gives.

A session goes forward only: each step is taken once, and a step that is asked for again gets the first answer if all
that is asked is the same, and a refusal if not. Keys are made for the session and live in this object alone, so a
device that lost it begins anew in another session. What may be said only once in a device's life is written down
before it is said: see `Journal`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedwire.masking import sharing, statements, streams
from fedwire.masking.statements import Advert, refused
from fedwire.masking.terms import Policy, Terms, check_cohort, pinned

SEALED_BYTES = 2 * sharing.SHARE_BYTES + streams.TAG_BYTES  # what one device keeps for another
SELF, PAIR = "self", "pair"  # the two kinds of shares: of a device's own mask, and of its key with all others


class Journal(Protocol):
    """What a device remembers over its own restarts and restored copies."""

    def settle(self, session: str, about: str, said: str) -> bool:
        """Write down for good, before returning, what is said about this in a session; False if something else was."""

    def identities(self) -> Mapping[str, str]:
        """Device → the key by which it is known."""

    def meet(self, identities: Mapping[str, str]) -> None:
        """Remember the keys of devices that were not known."""

    def join(self, base_model: str, devices: frozenset[str], least: int) -> bool:
        """Write down for good, before returning, that this device helps to unmask a sum of these devices' updates of
        the model; False if it helped with one of others, of which fewer than `least` are in only one of the two."""


class Session:
    """One device in one session."""

    def __init__(
        self, terms: Terms, server: str, identity: tuple[str, str, Ed25519PrivateKey], policy: Policy, journal: Journal
    ) -> None:
        """`server`: the server's Ed25519 key. `identity`: the device's id, its organization's and its own key.

        Raises `masking_refused` for terms that the server did not sign or that the policy does not allow.
        """
        if not statements.is_signed(server, "terms", terms.fields(), terms.signature):
            raise refused("the terms are not signed by the portal's key.")
        policy.check(terms)
        self._terms, self._server, self._policy, self._journal = terms, server, policy, journal
        self._device, organization, self._key = identity
        self._seal_key, self._mask_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._own = secrets.token_bytes(sharing.SECRET_BYTES)
        unsigned = Advert(
            self._device,
            organization,
            self._key.public_key().public_bytes_raw().hex(),
            self._seal_key.public_key().public_bytes_raw().hex(),
            self._mask_key.public_key().public_bytes_raw().hex(),
            statements.committed(terms.session, self._device, self._own),
        )
        self.advert = replace(unsigned, signature=statements.sign(self._key, "advert", unsigned.fields(terms.digest)))
        self._roster: dict[str, Advert] = {}
        self._digest = ""  # R
        self._shared: dict[str, str] | None = None
        self._sharers: list[str] = []
        self._held: dict[str, dict[str, bytes]] = {}
        self._survivors: list[str] | None = None

    def share(self, roster: Sequence[Advert], signature: str) -> tuple[dict[str, str], str]:
        """D1: what each other device of the roster is to keep for this one, sealed, and the signature of it all."""
        found = statements.roster_digest(self._terms.digest, roster)
        if self._shared is None:
            self._accept(roster, found, signature)
            self._shared = self._sealed()
        elif found != self._digest:
            raise refused("there was another roster before.")
        fields = statements.shares_fields(self._terms.session, self._digest, self._shared)
        return dict(self._shared), statements.sign(self._key, "shares", fields)

    def _accept(self, roster: Sequence[Advert], found: str, signature: str) -> None:
        fields = {"session": self._terms.session, "roster": found}
        if not statements.is_signed(self._server, "roster", fields, signature):
            raise refused("the roster is not signed by the portal's key.")
        self._policy.check_roster(self._terms, roster, self.advert)
        pinned(self._journal.identities(), roster)
        if not self._journal.settle(self._terms.session, "roster", found):
            raise refused("this device took part in this session before; it needs a new one.")
        self._journal.meet({advert.device: advert.identity for advert in roster})
        self._roster, self._digest = {advert.device: advert for advert in roster}, found

    def _sealed(self) -> dict[str, str]:
        count, threshold = len(self._roster), self._terms.threshold
        own = sharing.split(self._own, threshold, count)
        pair = sharing.split(self._mask_key.private_bytes_raw(), threshold, count)
        sealed = {}
        for place, peer in enumerate(self._roster):
            if peer == self._device:
                self._held[peer] = {SELF: own[place], PAIR: pair[place]}
            else:
                sealed[peer] = self._seal(self._device, peer, own[place] + pair[place]).hex()
        return sealed

    def mask(self, delivered: Mapping[str, str], vector: NDArray[Any]) -> NDArray[Any]:
        """D2: the vector [P + 1] of `Ring.encode`, masked in place and given back. `delivered`: what the devices that
        shared keep with this one, sealed.

        A delivery that does not open, or of a device that is not in the roster, is refused: its sender or the server
        lies, and the session ends for this device.
        """
        if self._shared is None:
            raise refused("there is no roster yet.")
        if self._sharers:
            raise refused("a vector was masked in this session before.")
        if len(vector) != self._terms.parameters + 1 or vector.dtype != self._terms.ring.word:
            raise refused("the vector is none of the terms' ring and length.")
        self._keep(delivered)
        streams.add(vector, own_mask(self._own, self._terms.session))
        for peer in self._sharers:
            if peer != self._device:
                key = self._pair_mask(peer)
                (streams.add if self._device < peer else streams.subtract)(vector, key)
        return vector

    def signed_vector(self, vector_digest: str) -> str:
        """The signature that goes with the masked vector, by its SHA-256."""
        fields = statements.masked_fields(self._terms.session, self._digest, self._sharers, vector_digest)
        return statements.sign(self._key, "masked", fields)

    def _keep(self, delivered: Mapping[str, str]) -> None:
        known = {self._device, *delivered}
        if self._device in delivered or not known <= self._roster.keys():
            raise refused("shares were delivered of a device that is not in the roster.")
        sharers = [peer for peer in self._roster if peer in known]
        check_cohort(self._terms, [self._roster[peer].organization for peer in sharers])
        if len(sharers) < self._terms.threshold:
            raise refused("too few devices have shared their keys to take masks off again.")
        held = dict(self._held)
        for peer, sealed in delivered.items():
            try:
                message = self._unseal(peer, self._device, bytes.fromhex(sealed))
            except ValueError as error:
                raise refused(f"what {peer} shared with this device does not open.") from error
            if len(message) != 2 * sharing.SHARE_BYTES:
                raise refused(f"what {peer} shared with this device is no pair of shares.")
            held[peer] = {SELF: message[: sharing.SHARE_BYTES], PAIR: message[sharing.SHARE_BYTES :]}
        self._held, self._sharers = held, sharers

    def agree(self, survivors: Sequence[str], signature: str) -> str:
        """D3: the signature under the list of those whose vectors are in the sum; one list in a device's life."""
        if not self._sharers:
            raise refused("no vector was masked yet.")
        fields = statements.survivors_fields(self._terms.session, self._digest, survivors)
        if not statements.is_signed(self._server, "survivors", fields, signature):
            raise refused("the list of survivors is not signed by the portal's key.")
        there = set(survivors)
        if len(there) != len(survivors) or not there <= set(self._sharers):
            raise refused("the list of survivors names a device twice, or one that did not share.")
        if self._device not in there:
            raise refused("this device is said to be gone.")
        check_cohort(self._terms, [self._roster[peer].organization for peer in survivors])
        if len(there) < self._terms.threshold:
            raise refused("fewer devices than the threshold have sent a vector.")
        if self._survivors is not None and list(survivors) != self._survivors:
            raise refused("there was another list of survivors before.")
        if not self._journal.settle(self._terms.session, "survivors", statements.digest(fields)):
            raise refused("another list of survivors was signed in this session before.")
        self._survivors = list(survivors)
        return statements.sign(self._key, "survivors", fields)

    def unmask(self, agreed: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], str]:
        """D4: for each survivor the share of its own mask, for each sharer that is gone the share of its key; never
        both, for what is given follows from the one list of survivors. `agreed`: signatures under that list, by device.
        """
        if self._survivors is None:
            raise refused("no list of survivors was signed yet.")
        fields = statements.survivors_fields(self._terms.session, self._digest, self._survivors)
        there = set(self._survivors)
        good = {
            peer
            for peer, signature in agreed.items()
            if peer in there and statements.is_signed(self._roster[peer].identity, "survivors", fields, signature)
        }
        if len(good) < self._terms.threshold:
            raise refused("fewer survivors than the threshold have signed the list of survivors.")
        self._compare(frozenset(there))
        given = {
            SELF: {peer: self._held[peer][SELF].hex() for peer in self._survivors},
            PAIR: {peer: self._held[peer][PAIR].hex() for peer in self._sharers if peer not in there},
        }
        signed = statements.unmasking_fields(self._terms.session, self._digest, given)
        return given, statements.sign(self._key, "unmasking", signed)

    def _compare(self, there: frozenset[str]) -> None:
        """Two sums of updates of one model by almost the same devices tell what the few did that are in one of them."""
        if not self._journal.join(self._terms.base_model, there, self._policy.least_difference):
            raise refused("the devices of this sum are almost those of an earlier one of the same model.")

    def _pair_mask(self, peer: str) -> bytes:
        try:
            secret = streams.agree(self._mask_key, bytes.fromhex(self._roster[peer].mask_key))
        except ValueError as error:
            raise refused(f"the mask key of {peer} is none.") from error
        return pair_mask(secret, self._terms, self._digest, self._device, peer)

    def _seal(self, sender: str, receiver: str, message: bytes) -> bytes:
        return streams.seal(self._between(receiver, sender, receiver), message, self._known(sender, receiver))

    def _unseal(self, sender: str, receiver: str, sealed: bytes) -> bytes:
        return streams.unseal(self._between(sender, sender, receiver), sealed, self._known(sender, receiver))

    def _between(self, peer: str, sender: str, receiver: str) -> bytes:
        try:
            secret = streams.agree(self._seal_key, bytes.fromhex(self._roster[peer].seal_key))
        except ValueError as error:
            raise refused(f"the seal key of {peer} is none.") from error
        purpose = statements.spelled(["share", sender, receiver, self._digest])
        return streams.derived(secret, bytes.fromhex(self._terms.session), purpose, streams.SEAL_BYTES)

    def _known(self, sender: str, receiver: str) -> bytes:
        return statements.spelled([self._terms.session, self._digest, sender, receiver])


def own_mask(secret: bytes, session: str) -> bytes:
    """The key of a device's own mask."""
    return streams.derived(secret, bytes.fromhex(session), statements.spelled(["own"]), streams.KEY_BYTES)


def pair_mask(secret: bytes, terms: Terms, roster: str, one: str, other: str) -> bytes:
    """The key of the mask that two devices have in common; it follows also from the model that they train."""
    purpose = statements.spelled(["mask", *sorted((one, other)), roster, terms.base_model])
    return streams.derived(secret, bytes.fromhex(terms.session), purpose, streams.KEY_BYTES)


def vector_digest(vector: NDArray[Any]) -> str:
    """SHA-256 of a vector's bytes, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(vector).data).hexdigest()
