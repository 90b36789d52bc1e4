"""The server's half: who lies is named, and nothing comes of shares that contradict each other."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
import pytest

from fedwire.errors import FedportalError
from fedwire.masking.session import PAIR, SELF
from fedwire.masking.terms import least_threshold
from tests.masking.conductor import Conductor, plain_sum, reason_of
from training.privacy import unmasking
from training.privacy.unmasking import Given, Roster


def played(conductor: Conductor) -> tuple[Roster, list[str], dict[str, Given], np.ndarray]:
    """A session up to the shares; one device is gone after it shared its keys."""
    roster, delivered = conductor.share(conductor.gather())
    total, survivors = conductor.mask(roster, delivered, ["device-004"])
    agreed = conductor.agree(roster, survivors)
    return roster, survivors, conductor.give(roster, survivors, agreed), total


def spoiled(given: dict[str, Given], liars: list[str], wrong: Callable[[str], str]) -> dict[str, Given]:
    return {
        holder: {kind: {device: wrong(share) for device, share in shares.items()} for kind, shares in of.items()}
        if holder in liars
        else of
        for holder, of in given.items()
    }


@pytest.mark.parametrize("liars", [["device-000"], ["device-011"], ["device-003", "device-008"]])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda share: secrets.token_bytes(32).hex().zfill(66),
        lambda share: "00" * 33,
        lambda share: "ff" * 33,
        lambda share: share[:-2],
    ],
)
def test_liars_are_named_and_the_sum_is_whole(liars: list[str], wrong: Callable[[str], str]) -> None:
    conductor = Conductor()
    roster, survivors, given, total = played(conductor)
    found = unmasking.recovered(roster, survivors, spoiled(given, liars, wrong))
    assert found.liars <= set(liars)
    assert found.liars or liars == ["device-011"]  # the last holder is not needed, so nobody looks at its shares
    unmasking.unmask(total, roster, survivors, found)
    assert (total == plain_sum(conductor, survivors)).all()


def test_too_many_liars_end_the_session() -> None:
    conductor = Conductor()
    roster, survivors, given, _ = played(conductor)
    with pytest.raises(FedportalError) as refused:
        unmasking.recovered(roster, survivors, spoiled(given, conductor.names[:3], lambda share: "00" * 33))
    assert reason_of(refused.value) == "the shares that were given of device-000 contradict each other."


def test_device_that_lied_about_its_own_secret_is_found_out() -> None:
    """It shared another secret than it committed itself to: its shares fit each other and not its word."""
    conductor = Conductor()
    conductor.gather()
    liar = conductor.sessions["device-001"]
    liar._own = secrets.token_bytes(32)
    roster = unmasking.rostered(conductor.terms, [session.advert for session in conductor.sessions.values()])
    shared, delivered = conductor.share(roster)
    _, survivors = conductor.mask(shared, delivered)
    given = conductor.give(shared, survivors, conductor.agree(shared, survivors))
    with pytest.raises(FedportalError) as refused:
        unmasking.recovered(shared, survivors, given)
    assert "device-001" in reason_of(refused.value)


@pytest.mark.parametrize("spoil", ["more", "fewer", "both", "foreign", "signature"])
def test_shares_that_were_not_asked_for_are_not_taken(spoil: str) -> None:
    conductor = Conductor()
    roster, delivered = conductor.share(conductor.gather())
    _, survivors = conductor.mask(roster, delivered, ["device-004"])
    agreed = conductor.agree(roster, survivors)
    given, signature = conductor.sessions["device-000"].unmask(agreed)
    own, pair = dict(given[SELF]), dict(given[PAIR])
    if spoil == "more":
        pair["device-001"] = own["device-001"]
    elif spoil == "fewer":
        del own["device-001"]
    elif spoil == "both":
        own["device-004"] = pair["device-004"]
    elif spoil == "foreign":
        own["device-099"] = own["device-001"]
    else:
        signature = "00" * 64
    with pytest.raises(FedportalError) as refused:
        roster.check_given("device-000", survivors, {SELF: own, PAIR: pair}, signature)
    assert "asks for" in reason_of(refused.value) or "not signed" in reason_of(refused.value)


def test_cohorts_without_enough_devices_or_organizations_are_not_formed() -> None:
    conductor = Conductor()
    adverts = [conductor.session(name).advert for name in conductor.names]
    with pytest.raises(FedportalError) as refused:
        unmasking.rostered(conductor.terms, adverts[:9])
    assert reason_of(refused.value) == "9 devices are fewer than the 10 of the terms."
    two = Conductor(least_organizations=3)
    two.of = {name: ("acme", "metro")[number % 2] for number, name in enumerate(two.names)}
    with pytest.raises(FedportalError) as refused:
        unmasking.rostered(two.terms, [two.session(name).advert for name in two.names])
    assert reason_of(refused.value) == "2 organizations are fewer than the 3 of the terms."


@pytest.mark.parametrize(
    ("organizations", "threshold"), [(["a"] * 3, 4), (list("abc"), 3), (list("aabbcc"), 5), (list("aaabc"), 5)]
)
def test_threshold_is_more_than_half_of_all_and_the_largest_organization(
    organizations: list[str], threshold: int
) -> None:
    assert least_threshold(organizations) == threshold
