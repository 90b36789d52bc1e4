"""Shamir's sharing: an example by hand, and what holds for every secret."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedwire.masking import sharing

SECRETS = st.binary(min_size=32, max_size=32)


def test_the_field_is_one() -> None:
    """Miller and Rabin, forty bases: 2²⁵⁶ + 297 is prime."""
    odd, twos = sharing.PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in random.Random(0).sample(range(2, 10**9), 40):
        power = pow(base, odd, sharing.PRIME)
        assert power in (1, sharing.PRIME - 1) or any(
            pow(base, odd << shift, sharing.PRIME) == sharing.PRIME - 1 for shift in range(1, twos)
        )


def test_line_by_hand() -> None:
    """f(x) = 7 + 5x: its values 12 at 1 and 22 at 3 give 7, with the coefficients 3/2 and -1/2."""
    half = pow(2, -1, sharing.PRIME)
    assert sharing.coefficients([1, 3]) == [3 * half % sharing.PRIME, -half % sharing.PRIME]
    shares = [value.to_bytes(sharing.SHARE_BYTES, "big") for value in (12, 22)]
    assert sharing.combine(shares, sharing.coefficients([1, 3])) == (7).to_bytes(32, "big")
    assert sharing.value(shares, sharing.coefficients([1, 3], 2)) == 17


@given(SECRETS, st.integers(1, 9), st.integers(0, 6), st.randoms())
def test_any_threshold_of_the_shares_gives_the_secret(
    secret: bytes, threshold: int, more: int, some: random.Random
) -> None:
    shares = sharing.split(secret, threshold, threshold + more)
    assert {len(share) for share in shares} == {sharing.SHARE_BYTES}
    places = some.sample(range(1, len(shares) + 1), threshold)
    assert sharing.combine([shares[place - 1] for place in places], sharing.coefficients(places)) == secret


@given(SECRETS, st.integers(2, 9))
def test_one_share_too_few_gives_something_else(secret: bytes, threshold: int) -> None:
    shares = sharing.split(secret, threshold, threshold)[:-1]
    places = list(range(1, threshold))
    assert sharing.value(shares, sharing.coefficients(places)) != int.from_bytes(secret, "big")


def test_the_same_secret_is_never_shared_alike() -> None:
    assert sharing.split(bytes(32), 2, 3) != sharing.split(bytes(32), 2, 3)


@pytest.mark.parametrize(("secret", "threshold", "count"), [(bytes(31), 2, 3), (bytes(32), 0, 3), (bytes(32), 4, 3)])
def test_what_cannot_be_shared_is_refused(secret: bytes, threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match=r"bytes|threshold"):
        sharing.split(secret, threshold, count)


@pytest.mark.parametrize("places", [[1, 1], [0, 1], [-1, 2]])
def test_places_are_distinct_and_positive(places: list[int]) -> None:
    with pytest.raises(ValueError, match="places"):
        sharing.coefficients(places)


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        sharing.combine([b"x"], [1])
    with pytest.raises(ValueError, match="belong together"):
        sharing.combine([(2**256 + 5).to_bytes(33, "big")], [1])
