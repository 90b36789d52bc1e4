"""Shamir's sharing of a secret of 32 bytes: any `threshold` of the shares give it back, fewer say nothing of it.

Shamir, "How to share a secret", Communications of the ACM 22(11), 1979, over the prime field of 2²⁵⁶ + 297, in which
every string of 32 bytes is a number. A share is the value of a random polynomial of degree threshold - 1 at a place
1, 2, …, n; the secret is its value at 0. What only one party can compute about a share's place is nobody's business
here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Shares of the secret for the places 1 … count, each of SHARE_BYTES. Randomness is the operating system's.

    Raises ValueError for a secret of another length, and unless 1 ≤ threshold ≤ count.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 1 <= threshold <= count:
        raise ValueError(f"no threshold {threshold} of {count}")
    # From the highest power to the lowest, which is the secret.
    powers = [*(secrets.randbelow(PRIME) for _ in range(threshold - 1)), int.from_bytes(secret, "big")]
    shares = []
    for place in range(1, count + 1):
        value = 0
        for coefficient in powers:  # Horner
            value = (value * place + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "big"))
    return shares


def coefficients(places: Sequence[int], at: int = 0) -> list[int]:
    """Lagrange's coefficients for these places: what each share is multiplied with so that all add up to the
    polynomial's value at the place `at`, by default at 0, the secret.

    They depend on the places only, so they are computed once for all secrets whose shares the same holders give. Raises
    ValueError for places that are not distinct and positive.
    """
    if len(set(places)) != len(places) or any(not 0 < place < PRIME for place in places):
        raise ValueError("the places of shares are distinct positive numbers")
    found = []
    for mine in places:
        above, below = 1, 1
        for other in places:
            if other != mine:
                above = above * (at - other) % PRIME
                below = below * (mine - other) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return found


def combine(shares: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """The secret of these shares, `weights` being the `coefficients` of their places in the same order.

    Shares that do not belong together give something else, or ValueError when that is no string of 32 bytes; whoever
    combines must know something about the secret to compare.
    """
    total = value(shares, weights)
    if total >> (8 * SECRET_BYTES):
        raise ValueError("these shares do not belong together")
    return total.to_bytes(SECRET_BYTES, "big")


def value(shares: Sequence[bytes], weights: Sequence[int]) -> int:
    """The value of the shares' polynomial at the place that `weights` are the `coefficients` for.

    Raises ValueError for what is no share.
    """
    if any(len(share) != SHARE_BYTES for share in shares):
        raise ValueError(f"a share has {SHARE_BYTES} bytes")
    return sum(int.from_bytes(share, "big") * weight for share, weight in zip(shares, weights, strict=True)) % PRIME
