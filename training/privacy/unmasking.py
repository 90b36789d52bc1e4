"""The server's half of secure aggregation (`fedwire.masking`): it checks what devices say, adds what they send, and
takes the masks off the sum when enough of them give their shares.

Nothing here looks at one device's vector: vectors are added as they come and are masked until the sum is whole. Work
for n devices of which d are gone after they shared their keys: n shares are put together, and n - d + d·(n - d) streams
of numbers are taken off the sum.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedwire.masking import sharing, statements, streams
from fedwire.masking.session import PAIR, SEALED_BYTES, SELF, own_mask, pair_mask
from fedwire.masking.sharing import SHARE_BYTES
from fedwire.masking.statements import Advert, refused
from fedwire.masking.terms import OWN, Terms, check_cohort

# So many sets of holders are tried before a secret is given up whose shares contradict each other.
MOST_TRIES = 500
Given = Mapping[str, Mapping[str, str]]  # what a device gives: kind → device → its share, hexadecimal


def announced(terms: Terms, key: Ed25519PrivateKey) -> Terms:
    """The terms, signed."""
    return replace(terms, signature=statements.sign(key, "terms", terms.fields()))


@dataclass(frozen=True)
class Roster:
    """Who takes part, in the order that decides the places of shares. `sharers`: those who shared their keys."""

    terms: Terms
    adverts: tuple[Advert, ...]
    sharers: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        return statements.roster_digest(self.terms.digest, self.adverts)

    @cached_property
    def by_device(self) -> dict[str, Advert]:
        return {advert.device: advert for advert in self.adverts}

    @cached_property
    def places(self) -> dict[str, int]:
        """Device → the place of its shares."""
        return {advert.device: place for place, advert in enumerate(self.adverts, 1)}

    def signed(self, key: Ed25519PrivateKey) -> str:
        """The server's signature under the roster."""
        return statements.sign(key, "roster", {"session": self.terms.session, "roster": self.digest})

    def signed_survivors(self, key: Ed25519PrivateKey, survivors: Sequence[str]) -> str:
        """The server's signature under a list of survivors; there must never be two for a session."""
        fields = statements.survivors_fields(self.terms.session, self.digest, survivors)
        return statements.sign(key, "survivors", fields)

    def check_shares(self, device: str, sealed: Mapping[str, str], signature: str) -> None:
        """Raises `masking_refused` for a delivery of sealed shares that is not whole or not signed."""
        if sealed.keys() != self.by_device.keys() - {device}:
            raise refused("sealed shares are for all others of the roster.")
        if not all(statements.is_hex(text, SEALED_BYTES) for text in sealed.values()):
            raise refused("a sealed share is not spelled as the protocol has it.")
        fields = statements.shares_fields(self.terms.session, self.digest, sealed)
        self._check_signed(device, "shares", fields, signature)

    def check_vector(self, device: str, digest: str, signature: str) -> None:
        """Raises `masking_refused` for a vector that its device did not sign, or did not mask with the sharers."""
        fields = statements.masked_fields(self.terms.session, self.digest, self.sharers, digest)
        self._check_signed(device, "masked", fields, signature)

    def check_agreement(self, device: str, survivors: Sequence[str], signature: str) -> None:
        """Raises `masking_refused` for a signature that is not the device's under this list of survivors."""
        fields = statements.survivors_fields(self.terms.session, self.digest, survivors)
        self._check_signed(device, "survivors", fields, signature)

    def check_given(self, device: str, survivors: Sequence[str], given: Given, signature: str) -> None:
        """Raises `masking_refused` unless the device gives exactly what the list of survivors asks it for."""
        gone = set(self.sharers) - set(survivors)
        asked = {SELF: set(survivors), PAIR: gone}
        if {kind: set(shares) for kind, shares in given.items()} != asked:
            raise refused("the shares are not those that the list of survivors asks for.")
        if not all(statements.is_hex(text, SHARE_BYTES) for shares in given.values() for text in shares.values()):
            raise refused("a share is not spelled as the protocol has it.")
        fields = statements.unmasking_fields(self.terms.session, self.digest, given)
        self._check_signed(device, "unmasking", fields, signature)

    def _check_signed(self, device: str, kind: str, fields: Mapping[str, Any], signature: str) -> None:
        advert = self.by_device.get(device)
        if advert is None:
            raise refused(f"{device} is not in the roster.")
        if not statements.is_signed(advert.identity, kind, fields, signature):
            raise refused(f"this is not signed by the key of {device} for this session.")


def rostered(terms: Terms, adverts: Iterable[Advert]) -> Roster:
    """The roster of these devices, by their ids. Raises `masking_refused` when they are too few for the terms."""
    ordered = tuple(sorted(adverts, key=lambda advert: advert.device))
    check_cohort(terms, [advert.organization for advert in ordered])
    return Roster(terms, ordered)


def check_advert(terms: Terms, advert: Advert, identity: str, others: Sequence[Advert] = ()) -> None:
    """Raises `masking_refused` for an advert that would end the session for the others, too: one that is not spelled as
    all are, that is not signed by the device's own key for these terms, or that has a key of one of the `others`."""
    if not advert.is_spelled():
        raise refused(f"the advert of {advert.device} is not spelled as the protocol has it.")
    for name in OWN:
        if getattr(advert, name) in {getattr(other, name) for other in others}:
            raise refused(f"another device has the same {name.replace('_', ' ')} as {advert.device}.")
    if advert.identity != identity or not advert.is_signed(terms.digest):
        raise refused(f"the advert of {advert.device} is not signed by its own key for these terms.")


def empty(terms: Terms) -> NDArray[Any]:
    """The sum [P + 1] before anybody's vector is added to it."""
    return np.zeros(terms.parameters + 1, terms.ring.word)


@dataclass(frozen=True)
class Secrets:
    """What the holders' shares give: the secret of each survivor's own mask, and the mask key of each that is gone.
    `liars`: devices that gave shares which contradict the others."""

    own: Mapping[str, bytes]
    pair: Mapping[str, bytes]
    liars: frozenset[str]


def recovered(roster: Roster, survivors: Sequence[str], given: Mapping[str, Given]) -> Secrets:
    """What follows from the shares of these holders, which passed `check_given`.

    Each secret is compared with what its device said of it at the beginning. Raises `masking_refused` when there are
    fewer holders than the threshold, or when the shares of a secret contradict each other too much.
    """
    if len(given) < roster.terms.threshold:
        raise refused(f"{len(given)} devices gave shares where {roster.terms.threshold} are needed.")
    adverts, holders = roster.by_device, _Holders(roster, given)
    own = {
        device: holders.secret(SELF, device, partial(_is_own, roster.terms, adverts[device])) for device in survivors
    }
    gone = [device for device in roster.sharers if device not in own]
    pair = {device: holders.secret(PAIR, device, partial(_is_key, adverts[device])) for device in gone}
    return Secrets(own, pair, frozenset(holders.liars))


def unmask(total: NDArray[Any], roster: Roster, survivors: Sequence[str], found: Secrets) -> None:
    """Take all masks off the sum of the survivors' vectors, in place; what is left is the sum of what they hide.

    Raises `masking_refused` for a device whose keys lead nowhere.
    """
    adverts, terms, digest = roster.by_device, roster.terms, roster.digest
    for device in survivors:
        streams.subtract(total, own_mask(found.own[device], terms.session))
    for gone, private in found.pair.items():
        key = X25519PrivateKey.from_private_bytes(private)
        for device in survivors:
            try:
                secret = streams.agree(key, bytes.fromhex(adverts[device].mask_key))
            except ValueError as error:
                raise refused(f"the mask key of {device} is none.") from error
            # The survivor added the stream if it comes first, and subtracted it if not.
            take_off = streams.subtract if device < gone else streams.add
            take_off(total, pair_mask(secret, terms, digest, device, gone))


class _Holders:
    """Those who gave shares, and who of them was caught lying."""

    def __init__(self, roster: Roster, given: Mapping[str, Given]) -> None:
        self.liars: set[str] = set()
        self._places, self._threshold = roster.places, roster.terms.threshold
        self._given = {holder: given[holder] for holder in sorted(given, key=self._places.__getitem__)}
        self._weights: dict[tuple[str, ...], list[int]] = {}

    def secret(self, kind: str, device: str, fits: Callable[[bytes], bool]) -> bytes:
        """The secret that fits what its device said of it. Who gave a wrong share is a liar from then on."""
        shares = {holder: bytes.fromhex(given[kind][device]) for holder, given in self._given.items()}
        for tries, some in enumerate(self._choices()):
            found = self._combined([shares[holder] for holder in some], some)
            if found is not None and fits(found):
                if tries:
                    self._catch(some, shares)
                return found
        raise refused(f"the shares that were given of {device} contradict each other.")

    def _choices(self) -> Iterable[tuple[str, ...]]:
        """Sets of holders to try: first those whom nobody has caught, then neighbours all around, so that one liar is
        left out soon, then any."""
        ordered = sorted(self._given, key=lambda holder: holder in self.liars)
        for start in range(len(ordered)):
            turned = [*ordered[start:], *ordered[:start]]
            yield tuple(sorted(turned[: self._threshold], key=self._places.__getitem__))
        for _ in range(MOST_TRIES):
            yield tuple(sorted(secrets.SystemRandom().sample(ordered, self._threshold), key=self._places.__getitem__))

    def _combined(self, shares: Sequence[bytes], some: tuple[str, ...]) -> bytes | None:
        if some not in self._weights:
            self._weights[some] = sharing.coefficients([self._places[holder] for holder in some])
        try:
            return sharing.combine(shares, self._weights[some])
        except ValueError:
            return None

    def _catch(self, some: tuple[str, ...], shares: Mapping[str, bytes]) -> None:
        """Whose shares do not lie on the polynomial of these is a liar."""
        places = [self._places[holder] for holder in some]
        for holder in shares.keys() - set(some) - self.liars:
            weights = sharing.coefficients(places, self._places[holder])
            expected = sharing.value([shares[one] for one in some], weights)
            if shares[holder] != expected.to_bytes(SHARE_BYTES, "big"):
                self.liars.add(holder)


def _is_own(terms: Terms, advert: Advert, secret: bytes) -> bool:
    return statements.committed(terms.session, advert.device, secret) == advert.commitment


def _is_key(advert: Advert, secret: bytes) -> bool:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex() == advert.mask_key
