"""What a lying server, or a lying device with its help, may try; each is tried in many variants and refused.

A device's last word is its shares: the server learns nothing of one vector unless it gets the share of a device's own
mask and that of its key from a threshold of devices. So each test ends where a device refuses, before it gives any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedwire.errors import FedportalError
from fedwire.masking import statements
from fedwire.masking.session import PAIR, SELF
from fedwire.masking.terms import Policy, Terms
from tests.masking.conductor import Conductor, plain_sum, reason_of, resigned
from training.privacy import unmasking
from training.privacy.unmasking import Roster

VICTIM = "device-000"
PEERS = [f"device-{number:03d}" for number in range(1, 12)]


def refusal(act: Callable[[], object]) -> str:
    """The reason for which this is refused; it must be."""
    with pytest.raises(FedportalError) as refused:
        act()
    return reason_of(refused.value)


# Terms


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"least_devices": number}, "fewer than 10 devices could make a sum.") for number in range(10)]
    + [({"least_organizations": number}, "fewer than 3 organizations could make a sum.") for number in range(3)]
    + [({"devices": number}, "a session has 1 to 128 devices.") for number in (0, -1, 129, 10_000)]
    + [({"clip": clip}, "the clip is not a positive number within this device's policy.") for clip in (0.0, -1.0, 1e9)]
    + [({"bits": bits}, "the ring is none that this device takes part in.") for bits in (0, 8, 16, 31, 128)]
    + [({"noise": noise}, "the noise is no number from 0 to 1024.") for noise in (-0.1, 2000.0)]
    + [({"noise": 0.3, "most_weight": 2}, "a weight multiplies what noise is to hide.")]
    + [({"noise": noise, "bits": 32}, "the ring is too coarse for the noise.") for noise in (1e-12, 1e-8)]
    + [
        ({"most_weight": weight}, "the largest weight is not within this device's policy.")
        for weight in (0, -5, 1 << 30)
    ]
    + [({"most_weight": 1 << 20}, "the ring has no room for so many devices and weights.")]
    + [({"parameters": number}, "there are no parameters.") for number in (0, -3)]
    + [({"session": name}, "the session has no name of 16 bytes.") for name in ("", "ab", "zz" * 16, "AB" * 16)]
    + [({"base_model": name}, "the model has no SHA-256.") for name in ("", "ab" * 31, "x" * 64)],
)
def test_terms_beyond_the_device_s_own_policy_are_refused(changes: dict[str, object], reason: str) -> None:
    conductor = Conductor()
    assert refusal(lambda: conductor.session(VICTIM, conductor.announce(**changes))) == reason


def test_devices_work_only_for_the_federations_of_their_policy() -> None:
    conductor = Conductor()
    conductor.policies[VICTIM] = Policy(federations=frozenset({"fed_2"}))
    assert refusal(lambda: conductor.session(VICTIM)) == "the federation is none that this device works for."


CHANGED_TERMS: list[dict[str, object]] = [
    {"session": "00" * 16},
    {"federation": "fed_9"},
    {"run": "run_9"},
    {"round": 9},
    {"task": "00" * 32},
    {"base_model": "00" * 32},
    {"parameters": 6},
    {"bits": 64},
    {"clip": 9.0},
    {"most_weight": 2},
    {"devices": 13},
    {"threshold": 10},
    {"least_devices": 11},
    {"least_organizations": 4},
    {"signature": "00" * 64},
    {"signature": ""},
    {"signature": "no signature"},
]


@pytest.mark.parametrize(("noise", "enough"), [(0.0, False), (0.3, False), (0.32, True), (1.0, True)])
def test_device_asks_for_noise_in_the_smallest_sum(noise: float, enough: bool) -> None:
    """Ten shares of 0.316 clips each add up to one clip."""
    conductor = Conductor(noise=noise)
    conductor.policies[VICTIM] = Policy(least_noise=1.0)
    if enough:
        conductor.session(VICTIM)
        return
    with pytest.raises(FedportalError) as caught:
        conductor.session(VICTIM)
    assert reason_of(caught.value) == "there is less noise than this device asks for."


@pytest.mark.parametrize("changes", CHANGED_TERMS)
def test_terms_that_the_portal_did_not_sign_are_refused(changes: dict[str, object]) -> None:
    conductor = Conductor()
    changed = replace(conductor.terms, **changes)  # type: ignore[arg-type]
    assert refusal(lambda: conductor.session(VICTIM, changed)) == "the terms are not signed by the portal's key."


# The roster


def joined(conductor: Conductor, adverts: list[statements.Advert], terms: Terms | None = None) -> Callable[[], object]:
    """The victim is shown these adverts as the roster, signed by the server."""
    roster = Roster(terms or conductor.terms, tuple(adverts))
    return lambda: conductor.sessions[VICTIM].share(roster.adverts, roster.signed(conductor.key))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("field", ["seal_key", "mask_key", "identity", "commitment", "organization", "device"])
def test_keys_that_the_server_put_in_place_of_a_device_s_are_refused(peer: str, field: str) -> None:
    """The server has no device's identity key, so what it changes is not signed."""
    conductor = Conductor()
    adverts = list(conductor.gather().adverts)
    fake = X25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    place = PEERS.index(peer) + 1
    adverts[place] = replace(adverts[place], **{field: fake})
    reason = refusal(joined(conductor, adverts))
    assert "is not signed by its key for these terms" in reason


@pytest.mark.parametrize("field", ["seal_key", "mask_key", "commitment", "organization", "signature"])
def test_device_whose_own_entry_was_changed_refuses(field: str) -> None:
    conductor = Conductor()
    adverts = list(conductor.gather().adverts)
    adverts[0] = replace(adverts[0], **{field: "ab" * 32})
    assert refusal(joined(conductor, adverts)) == "this device is not in the roster with the keys that it sent."


@pytest.mark.parametrize(("one", "other"), list(combinations(PEERS[:6], 2)))
@pytest.mark.parametrize("field", ["device", "seal_key", "mask_key", "commitment"])
def test_same_keys_or_names_twice_are_refused(one: str, other: str, field: str) -> None:
    """A device that helps the server repeats another's entry, properly signed with its own key."""
    conductor = Conductor()
    adverts = list(conductor.gather().adverts)
    copied = getattr(adverts[PEERS.index(one) + 1], field)
    place = PEERS.index(other) + 1
    adverts[place] = resigned(conductor, adverts[place], other, **{field: copied})
    assert refusal(joined(conductor, adverts)).startswith("two devices of the roster have the same")


@pytest.mark.parametrize("peer", PEERS[:4])
@pytest.mark.parametrize(
    "low", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"], ids=["0", "1", "p-1"]
)
@pytest.mark.parametrize("field", ["seal_key", "mask_key"])
def test_keys_of_low_order_are_refused(peer: str, low: bytes, field: str) -> None:
    conductor = Conductor()
    adverts = list(conductor.gather().adverts)
    place = PEERS.index(peer) + 1
    adverts[place] = resigned(conductor, adverts[place], peer, **{field: low.hex()})
    conductor.sessions[peer].advert = adverts[place]  # the peer helps the server
    roster = Roster(conductor.terms, tuple(adverts))
    victim = conductor.sessions[VICTIM]
    if field == "seal_key":
        reason = refusal(lambda: victim.share(roster.adverts, roster.signed(conductor.key)))
        assert reason == f"the seal key of {peer} is none."
    else:
        delivered = conductor.share(roster)[1][VICTIM]
        reason = refusal(lambda: victim.mask(delivered, conductor.encoded[VICTIM].copy()))
        assert reason == f"the mask key of {peer} is none."


def test_roster_of_an_earlier_session_is_refused() -> None:
    conductor = Conductor()
    earlier = conductor.gather()
    conductor.terms = conductor.announce()
    conductor.gather()
    reason = refusal(joined(conductor, [conductor.sessions[VICTIM].advert, *earlier.adverts[1:]]))
    assert "is not signed by its key for these terms" in reason


@pytest.mark.parametrize("signature", ["", "00" * 64, "no signature"])
def test_roster_that_the_portal_did_not_sign_is_refused(signature: str) -> None:
    conductor = Conductor()
    roster = conductor.gather()
    reason = refusal(lambda: conductor.sessions[VICTIM].share(roster.adverts, signature))
    assert reason == "the roster is not signed by the portal's key."


def test_second_roster_is_refused_and_the_same_gets_the_same_shares() -> None:
    conductor = Conductor()
    roster = conductor.gather()
    victim, signature = conductor.sessions[VICTIM], roster.signed(conductor.key)
    assert victim.share(roster.adverts, signature) == victim.share(roster.adverts, signature)
    other = Roster(conductor.terms, roster.adverts[:11])
    assert (
        refusal(lambda: victim.share(other.adverts, other.signed(conductor.key))) == "there was another roster before."
    )


@pytest.mark.parametrize("count", range(1, 10))
def test_roster_of_too_few_devices_is_refused(count: int) -> None:
    conductor = Conductor()
    adverts = list(conductor.gather().adverts)[:count]
    assert refusal(joined(conductor, adverts)) == f"{count} devices are fewer than the 10 of the terms."


@pytest.mark.parametrize("others", [("acme",), ("acme", "metro")])
def test_roster_of_too_few_organizations_is_refused(others: tuple[str, ...]) -> None:
    conductor = Conductor()
    conductor.of = {name: others[number % len(others)] for number, name in enumerate(conductor.names)}
    adverts = list(
        {name: conductor.sessions.setdefault(name, conductor.session(name)) for name in conductor.names}.values()
    )
    reason = refusal(joined(conductor, [session.advert for session in adverts]))
    assert reason == f"{len(others)} organizations are fewer than the 3 of the terms."


@pytest.mark.parametrize("threshold", range(-1, 9))
def test_threshold_that_two_halves_could_meet_is_refused(threshold: int) -> None:
    conductor = Conductor(threshold=threshold)
    adverts = list(conductor.gather().adverts)
    reason = "the threshold is too low for so many devices of one organization."
    assert refusal(joined(conductor, adverts)) == reason


@pytest.mark.parametrize("count", [6, 7, 8, 9, 10])
def test_organization_with_too_large_a_part_of_the_roster_is_refused(count: int) -> None:
    """The threshold was right for four of each; now one organization brings many."""
    conductor = Conductor()
    rest = ["metro", "valley"] * 6
    conductor.of = {name: "acme" if number < count else rest[number] for number, name in enumerate(conductor.names)}
    adverts = list(conductor.gather().adverts)
    reason = "the threshold is too low for so many devices of one organization."
    assert refusal(joined(conductor, adverts)) == reason


def test_threshold_beyond_the_roster_is_refused() -> None:
    conductor = Conductor(threshold=13)
    assert refusal(joined(conductor, list(conductor.gather().adverts))) == "the threshold is larger than the roster."


def test_longer_roster_than_the_terms_say_is_refused() -> None:
    conductor = Conductor(devices=13)
    conductor.terms = conductor.announce(devices=12, threshold=10)
    assert refusal(joined(conductor, list(conductor.gather().adverts))) == "the roster is longer than the terms say."


@pytest.mark.parametrize("peer", PEERS)
def test_device_that_appears_with_another_identity_than_before_is_refused(peer: str) -> None:
    conductor = Conductor()
    conductor.play()
    conductor.terms = conductor.announce()
    conductor.keys[peer] = Ed25519PrivateKey.generate()
    assert refusal(joined(conductor, list(conductor.gather().adverts))) == f"{peer} has another key than before."


def test_device_that_lost_its_session_does_not_take_part_in_it_again() -> None:
    """A restart, or a copy of the machine from before: keys are gone, and the journal knows that there was a roster."""
    conductor = Conductor()
    conductor.share(conductor.gather())
    again = conductor.gather()
    reason = refusal(lambda: conductor.sessions[VICTIM].share(again.adverts, again.signed(conductor.key)))
    assert reason == "this device took part in this session before; it needs a new one."


# Shares and vectors


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("spoil", ["another's", "cut", "bits", "empty", "no hex"])
def test_delivered_shares_that_were_spoiled_are_refused(peer: str, spoil: str) -> None:
    conductor = Conductor()
    _, delivered = conductor.share(conductor.gather())
    mine = dict(delivered[VICTIM])
    other = PEERS[PEERS.index(peer) - 1]
    whole = bytes.fromhex(mine[peer])
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    mine[peer] = {
        "another's": mine[other],
        "cut": mine[peer][:-2],
        "bits": flipped.hex(),
        "empty": "",
        "no hex": "zz",
    }[spoil]
    vector = conductor.encoded[VICTIM].copy()
    reason = refusal(lambda: conductor.sessions[VICTIM].mask(mine, vector))
    assert reason == f"what {peer} shared with this device does not open."
    assert (vector == conductor.encoded[VICTIM]).all()  # nothing was masked, and nothing can be sent


@pytest.mark.parametrize("count", range(11))
def test_too_few_sharers_are_refused(count: int) -> None:
    """With two partners only, two of the server's friends could take the masks off."""
    conductor = Conductor(least_devices=10)
    _, delivered = conductor.share(conductor.gather())
    mine = dict(list(delivered[VICTIM].items())[:count])
    if count >= 9:
        assert conductor.sessions[VICTIM].mask(mine, conductor.encoded[VICTIM].copy()) is not None
        return
    reason = refusal(lambda: conductor.sessions[VICTIM].mask(mine, conductor.encoded[VICTIM].copy()))
    assert reason == f"{count + 1} devices are fewer than the 10 of the terms."


@pytest.mark.parametrize("stranger", ["device-099", VICTIM])
def test_shares_of_a_stranger_are_refused(stranger: str) -> None:
    conductor = Conductor()
    _, delivered = conductor.share(conductor.gather())
    mine = {**delivered[VICTIM], stranger: delivered[VICTIM][PEERS[0]]}
    reason = refusal(lambda: conductor.sessions[VICTIM].mask(mine, conductor.encoded[VICTIM].copy()))
    assert reason == "shares were delivered of a device that is not in the roster."


def test_second_vector_is_refused() -> None:
    """The difference of two vectors under the same masks is the difference of what they hide."""
    conductor = Conductor()
    _, delivered = conductor.share(conductor.gather())
    victim = conductor.sessions[VICTIM]
    victim.mask(delivered[VICTIM], conductor.encoded[VICTIM].copy())
    again = conductor.encoded[VICTIM].copy()
    assert refusal(lambda: victim.mask(delivered[VICTIM], again)) == "a vector was masked in this session before."


@pytest.mark.parametrize("vector", [np.zeros(5, "<u4"), np.zeros(7, "<u4"), np.zeros(6, "<u8"), np.zeros(6, "<f4")])
def test_vector_of_another_shape_is_refused(vector: np.ndarray) -> None:
    conductor = Conductor()
    _, delivered = conductor.share(conductor.gather())
    reason = refusal(lambda: conductor.sessions[VICTIM].mask(delivered[VICTIM], vector))
    assert reason == "the vector is none of the terms' ring and length."


def test_devices_with_different_models_do_not_add_up() -> None:
    """A server that gives its victim another model to start from gets a sum of noise: their masks do not cancel."""
    conductor = Conductor()
    other = conductor.signed(replace(conductor.terms, base_model="ef" * 32))
    adverts = [conductor.session(name, other if name == VICTIM else None).advert for name in conductor.names]
    reason = refusal(lambda: unmasking.check_advert(conductor.terms, adverts[0], adverts[0].identity))
    assert "is not signed by its own key for these terms" in reason


# The list of survivors


def masked(conductor: Conductor, gone: tuple[str, ...] = ()) -> tuple[Roster, list[str], np.ndarray]:
    roster, delivered = conductor.share(conductor.gather())
    total, survivors = conductor.mask(roster, delivered, gone)
    return roster, survivors, total


@pytest.mark.parametrize("gone", list(combinations(PEERS[:5], 2)))
def test_two_lists_of_survivors_for_one_device_are_refused(gone: tuple[str, str]) -> None:
    """The first says that all are there, the second that two are gone: both kinds of shares of those two would do."""
    conductor = Conductor()
    roster, survivors, _ = masked(conductor)
    victim = conductor.sessions[VICTIM]
    victim.agree(survivors, roster.signed_survivors(conductor.key, survivors))
    other = [name for name in survivors if name not in gone]
    signature = roster.signed_survivors(conductor.key, other)
    assert refusal(lambda: victim.agree(other, signature)) == "there was another list of survivors before."


@pytest.mark.parametrize("cut", range(1, 11))
def test_two_lists_for_two_halves_never_find_a_threshold_each(cut: int) -> None:
    """The server shows one list to some devices and another to the others; four devices of one organization lie for it.

    Whatever the cut, at most one of the lists is signed by a threshold, so no device gives shares for both.
    """
    conductor = Conductor()
    roster, survivors, _ = masked(conductor)
    other = survivors[2:]
    liars = [name for name in survivors if conductor.of[name] == "valley"]
    honest = [name for name in survivors if name not in liars]
    first, second = honest[: cut if cut < len(honest) else -1], honest[cut if cut < len(honest) else -1 :]
    signed = {}
    for shown, some in ((survivors, first), (other, [name for name in second if name in other])):
        signature = roster.signed_survivors(conductor.key, shown)
        agreed = {name: conductor.sessions[name].agree(shown, signature) for name in some}
        fields = statements.survivors_fields(conductor.terms.session, roster.digest, shown)
        agreed |= {name: statements.sign(conductor.keys[name], "survivors", fields) for name in liars if name in shown}
        signed[len(shown)] = len(agreed) >= conductor.terms.threshold
        for name in some:
            if not signed[len(shown)]:
                reason = refusal(lambda name=name, agreed=agreed: conductor.sessions[name].unmask(agreed))  # type: ignore[misc]
                assert reason == "fewer survivors than the threshold have signed the list of survivors."
    assert not all(signed.values())


@pytest.mark.parametrize("signature", ["", "00" * 64])
def test_list_that_the_portal_did_not_sign_is_refused(signature: str) -> None:
    conductor = Conductor()
    _, survivors, _ = masked(conductor)
    reason = refusal(lambda: conductor.sessions[VICTIM].agree(survivors, signature))
    assert reason == "the list of survivors is not signed by the portal's key."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda names: names[1:], "this device is said to be gone."),
        (lambda names: [*names, names[1]], "the list of survivors names a device twice, or one that did not share."),
        (
            lambda names: [*names, "device-099"],
            "the list of survivors names a device twice, or one that did not share.",
        ),
        (lambda names: names[:9], "9 devices are fewer than the 10 of the terms."),
        (lambda names: names[:1], "1 devices are fewer than the 10 of the terms."),
    ],
)
def test_lists_that_say_what_cannot_be_are_refused(change: Callable[[list[str]], list[str]], reason: str) -> None:
    conductor = Conductor()
    roster, survivors, _ = masked(conductor)
    wrong = change(survivors)
    signature = roster.signed_survivors(conductor.key, wrong)
    assert refusal(lambda: conductor.sessions[VICTIM].agree(wrong, signature)) == reason


@pytest.mark.parametrize("forged", range(4, 12))
def test_signatures_that_others_did_not_give_do_not_count(forged: int) -> None:
    """So many of the signatures are the victim's own, in the names of others."""
    conductor = Conductor()
    roster, survivors, _ = masked(conductor)
    agreed = conductor.agree(roster, survivors)
    for name in survivors[1 : forged + 1]:
        agreed[name] = agreed[VICTIM]
    reason = refusal(lambda: conductor.sessions[VICTIM].unmask(agreed))
    assert reason == "fewer survivors than the threshold have signed the list of survivors."


def test_shares_before_their_time_are_refused() -> None:
    conductor = Conductor()
    roster = conductor.gather()
    victim = conductor.sessions[VICTIM]
    assert refusal(lambda: victim.mask({}, conductor.encoded[VICTIM].copy())) == "there is no roster yet."
    assert refusal(lambda: victim.agree(conductor.names, "")) == "no vector was masked yet."
    assert refusal(lambda: victim.unmask({})) == "no list of survivors was signed yet."
    assert roster.adverts


@pytest.mark.parametrize("gone", [(), *[(peer,) for peer in PEERS], *list(combinations(PEERS[:4], 2))])
def test_devices_never_give_both_shares_of_anybody_nor_one_of_a_stranger(gone: tuple[str, ...]) -> None:
    conductor = Conductor()
    roster, survivors, _ = masked(conductor, gone)
    agreed = conductor.agree(roster, survivors)
    for name in survivors:
        given, _ = conductor.sessions[name].unmask(agreed)
        assert set(given[SELF]) == set(survivors)
        assert set(given[PAIR]) == set(gone)
        assert given == conductor.sessions[name].unmask(agreed)[0]


@pytest.mark.parametrize("missing", range(1, 3))
def test_two_sums_of_one_model_by_almost_the_same_devices_are_refused(missing: int) -> None:
    """Their difference would be what the few did that are in one of them only."""
    conductor = Conductor()
    conductor.play()
    conductor.terms = conductor.announce()
    reason = refusal(lambda: conductor.play((), conductor.names[-missing:]))
    assert reason == "the devices of this sum are almost those of an earlier one of the same model."
    conductor.terms = conductor.announce(base_model="ef" * 32)
    total, survivors = conductor.play((), conductor.names[-missing:])
    assert (total == plain_sum(conductor, survivors)).all()
