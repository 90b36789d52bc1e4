"""Whole sessions: whoever is gone whenever, the sum is the plain sum bit for bit, or the session ends without one."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fedwire.errors import FedportalError
from fedwire.masking.terms import Policy
from tests.masking.conductor import Conductor, plain_sum, reason_of

DRAWN = 1000
BLOCKS = 4  # tests among which the patterns are divided
NAMES = tuple(f"device-{number:03d}" for number in range(6))
Pattern = tuple[tuple[str, ...], ...]  # who is gone from each phase on


def drawn(number: int) -> Pattern:
    """A random pattern over all phases."""
    draw = random.Random(number)
    rate = draw.choice((0.02, 0.1, 0.2))
    return tuple(tuple(name for name in NAMES if draw.random() < rate) for _ in range(4))


# In many of them nobody is gone, or one device: each is played once.
PATTERNS = list(dict.fromkeys(drawn(number) for number in range(DRAWN)))


def test_mean_is_that_of_the_updates() -> None:
    conductor = Conductor()
    total, survivors = conductor.play()
    mean, weights = conductor.terms.ring.decode(total)
    assert survivors == conductor.names
    assert weights == 12
    assert np.abs(mean - np.mean(list(conductor.updates.values()), axis=0)).max() < 1e-5


def test_vectors_are_noise_by_themselves() -> None:
    """Nothing of a masked vector is what it hides, and the same vector is never masked alike."""
    seen = []
    for _ in range(2):
        conductor = Conductor(parameters=1000)
        delivered = conductor.share(conductor.gather())[1]
        name = conductor.names[0]
        masked = conductor.sessions[name].mask(delivered[name], conductor.encoded[name].copy())
        assert (masked != conductor.encoded[name]).mean() > 0.99
        assert masked.max() > 0.95 * 2**32
        seen.append(masked)
    assert (seen[0] != seen[1]).mean() > 0.99


@pytest.mark.parametrize("bits", [32, 64])
def test_weighted_vectors_add_up(bits: int) -> None:
    conductor = Conductor(bits=bits, most_weight=100, parameters=50)
    conductor.weights = {name: 1 + number for number, name in enumerate(conductor.names)}
    ring = conductor.terms.ring
    conductor.encoded = {
        name: ring.encode(conductor.updates[name], conductor.weights[name]) for name in conductor.names
    }
    total, survivors = conductor.play((), ["device-005"])
    assert (total == plain_sum(conductor, survivors)).all()
    mean, weights = ring.decode(total)
    assert weights == sum(range(1, 13)) - 6
    rows = [conductor.updates[name].astype(float) for name in survivors]
    expected = np.average(rows, axis=0, weights=[conductor.weights[name] for name in survivors])
    assert np.abs(mean - expected).max() < (0.05 if bits == 32 else 1e-6)


def small(seed: int) -> Conductor:
    """Six devices of six organizations, any four of which take off the masks: small, to play hundreds of sessions."""
    conductor = Conductor(devices=len(NAMES), seed=seed, least_devices=4)
    conductor.of = {name: f"organization-{name}" for name in conductor.names}
    conductor.policies = dict.fromkeys(conductor.names, Policy(least_devices=4))
    conductor.terms = conductor.announce(least_devices=4, threshold=4)
    return conductor


def outcome(conductor: Conductor, phases: Pattern) -> tuple[np.ndarray, list[str]] | str:
    """The sum and whose it is, or why there is none."""
    try:
        return conductor.play(*phases)
    except FedportalError as error:
        return reason_of(error)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_sum_is_whole_whoever_is_gone_whenever(block: int) -> None:
    """Each of a thousand random patterns: the plain sum of the survivors, or a refusal that names the lack."""
    played = list(enumerate(PATTERNS))[block::BLOCKS]
    whole = 0
    for number, phases in played:
        conductor = small(number)
        found = outcome(conductor, phases)
        if isinstance(found, str):
            assert len({name for phase in phases for name in phase}) > 2, found
            assert "fewer" in found or "too few" in found or "needed" in found
        else:
            whole += 1
            assert (found[0] == plain_sum(conductor, found[1])).all()
            assert set(found[1]) == set(conductor.names) - {*phases[0], *phases[1]}
    assert whole >= len(played) // 4


@pytest.mark.parametrize("phase", range(4))
def test_whole_organization_may_be_gone(phase: int) -> None:
    """The devices of one of four organizations go offline together, whichever the phase."""
    conductor = Conductor(devices=20)
    conductor.of = {name: f"organization-{number % 5}" for number, name in enumerate(conductor.names)}
    conductor.terms = conductor.announce(threshold=13)
    gone = [name for name in conductor.names if conductor.of[name] == "organization-2"]
    total, survivors = conductor.play(*([()] * phase), gone)
    assert (total == plain_sum(conductor, survivors)).all()
    assert len(survivors) == (16 if phase < 2 else 20)


def test_order_in_which_vectors_come_does_not_matter() -> None:
    conductor = Conductor()
    roster, delivered = conductor.share(conductor.gather())
    vectors = [
        conductor.sessions[name].mask(delivered[name], conductor.encoded[name].copy()) for name in roster.sharers
    ]
    assert (sum(vectors) == sum(reversed(vectors))).all()


def test_thresholds_that_cannot_be_met_end_the_session() -> None:
    conductor = Conductor()
    with pytest.raises(FedportalError) as refused:
        conductor.play((), (), (), conductor.names[:4])
    assert reason_of(refused.value) == "8 devices gave shares where 9 are needed."


def test_new_session_follows_one_that_ended_without_a_sum() -> None:
    conductor = Conductor()
    with pytest.raises(FedportalError):
        conductor.play((), (), (), conductor.names[:4])
    conductor.terms = conductor.announce()
    total, survivors = conductor.play()
    assert (total == plain_sum(conductor, survivors)).all()
