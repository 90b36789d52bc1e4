"""Sums of devices whose keys their organizations certified: only then the label says so."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federations.services import roots as root_lists
from fedportal.common import clock
from fedwire.masking import roots
from fedwire.masking.roots import ADD
from tests.training.conftest import ARCHITECTURE, Stage
from tests.training.summing import Sitter, play, secure, sitters
from training.models import MaskedSum
from training.services import healing, labelling


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    """Four devices of each of three organizations, whose root keys the federation lists."""
    stage.valley_joins()
    cast, owner, before = stage.cast, Ed25519PrivateKey.generate(), roots.EMPTY
    devices = sitters(stage, ARCHITECTURE.manifest().parameters)
    for organization in (cast.acme, cast.metro, cast.valley):
        root = owner if organization == cast.acme else Ed25519PrivateKey.generate()
        spelled = root.public_key().public_bytes_raw().hex()
        consent = roots.consented(root, cast.federation.public_id, ADD, organization.public_id, spelled)
        entry = roots.accepted(owner, consent, before)
        root_lists.accept(
            cast.actor("olga"),
            cast.federation,
            **{name: value for name, value in asdict(entry).items() if name != "federation"},
        )
        before = roots.listed(cast.federation.public_id, root_lists.entries(cast.federation))
        for device in devices:
            if device.device.organization == organization:
                about = (organization.public_id, device.name, device.key.public_key().public_bytes_raw().hex())
                device.certificate = asdict(roots.certified(root, about, 0, 4_000_000_000))
    return devices


def test_the_label_says_that_every_key_was_certified(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve)
    run.refresh_from_db()
    found = labelling.of(run)["sums"]
    assert (found["sees"], found["certified"]) == ("sums only", True)
    assert "certified by their organizations" in found["sentence"]
    assert MaskedSum.objects.get().certified


def test_one_key_that_nobody_certified_is_enough_for_a_curious_portal_only(stage: Stage, twelve: list[Sitter]) -> None:
    twelve[5].certificate = None
    run = secure(stage, rounds=1)
    play(twelve)
    run.refresh_from_db()
    found = labelling.of(run)["sums"]
    assert (found["sees"], found["certified"]) == ("sums only", False)
    assert "curious and keeps to the protocol" in found["sentence"]


def test_a_device_without_certificate_that_never_shared_a_key_does_not_count(
    stage: Stage, twelve: list[Sitter]
) -> None:
    twelve[5].certificate, twelve[5].until = None, "share"
    run = secure(stage, rounds=1)
    play(twelve)
    assert not labelling.of(run)["sums"]["certified"], "there is no sum yet"
    MaskedSum.objects.update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed"
    assert labelling.of(run)["sums"]["certified"]
