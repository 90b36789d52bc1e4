"""Devices that draw their groups: what they show when, and what a portal cannot make them take part in."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk._journal import FileJournal
from fedportal_sdk._masking import LOST, Masking
from fedportal_sdk._policy import DevicePolicy
from fedportal_sdk.local import Refusal
from fedwire.masking import groups, statements
from fedwire.masking.groups import Drawing, Lot
from fedwire.masking.statements import Advert
from fedwire.masking.terms import Terms, least_threshold, told
from training.privacy import unmasking

NAMES = [f"{organization}-{number}" for organization in ("acme", "metro", "valley") for number in range(8)]
BASE = "ab" * 32
SIZE = 12
PORTAL = Ed25519PrivateKey.generate()
Answers = dict[str, dict[str, Any]]


class Cohort:
    """Twenty-four devices that have trained, and an honest portal that asks them; tests forge what it says."""

    def __init__(self, folder: Path) -> None:
        self.devices = {name: self._device(name, folder) for name in NAMES}
        self.lots = tuple(
            Lot(name, name.partition("-")[0], self._keep(name)["masking"]["commitment"]) for name in NAMES
        )
        self.session = secrets.token_hex(16)

    def _device(self, name: str, folder: Path) -> Masking:
        key = Ed25519PrivateKey.generate()
        journal = FileJournal(folder / name)
        return Masking(lambda: (name, name.partition("-")[0], key), DevicePolicy, journal, lambda *_, **__: None)

    def _keep(self, name: str) -> Any:
        return self.devices[name].keep(self.task(""), np.ones(3, np.float32), 7)  # type: ignore[arg-type]

    def task(self, phase: str, session: str = "", **asked: Any) -> dict[str, Any]:
        about: dict[str, Any] = {"id": secrets.token_hex(4), "run": "run_1", "round": 1, "attempt": 1, "model": "mdl_1"}
        return {
            **about,
            "training": {"epochs": 1},
            "base_digest": BASE,
            "masking": {"phase": phase, "session": session, **asked},
        }

    def drawing(self, draw: int = 0, lots: tuple[Lot, ...] = ()) -> Drawing:
        return Drawing(self.session, "run_1", 1, 1, BASE, SIZE, draw, lots or self.lots)

    def reveal(self, name: str, drawing: Drawing, key: Ed25519PrivateKey = PORTAL) -> str:
        fields = drawing.fields()
        document = {"drawing": fields, "signature": statements.sign(key, "drawing", fields)}
        task = self.task("reveal", drawing.session, server=public(key))
        said, _ = self.devices[name].step(task, document)  # type: ignore[arg-type]
        return str(said["masking"]["number"])

    def numbers(self, drawing: Drawing) -> list[str]:
        return [self.reveal(lot.device, drawing) for lot in drawing.lots]

    def terms(self, devices: list[str], beacon: str) -> Terms:
        plain = Terms(
            session=secrets.token_hex(16),
            federation="fed_1",
            run="run_1",
            round=1,
            task=told(self.task("")),
            base_model=BASE,
            parameters=3,
            bits=32,
            clip=1.0,
            most_weight=1,
            devices=len(devices),
            threshold=least_threshold([name.partition("-")[0] for name in devices]),
            least_devices=10,
            least_organizations=3,
            beacon=beacon,
        )
        return unmasking.announced(plain, PORTAL)

    def advertise(self, name: str, terms: Terms, document: dict[str, Any]) -> Advert:
        task = self.task("advertise", terms.session, terms=asdict(terms), server=public(PORTAL))
        said, _ = self.devices[name].step(task, document)  # type: ignore[arg-type]
        return Advert(**said["masking"]["advert"])

    def share(self, name: str, terms: Terms, adverts: list[Advert]) -> set[str]:
        roster = unmasking.rostered(terms, adverts)
        document = {"adverts": [asdict(one) for one in roster.adverts], "signature": roster.signed(PORTAL)}
        said, _ = self.devices[name].step(self.task("share", terms.session), document)  # type: ignore[arg-type]
        return set(said["masking"]["sealed"])


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return str(caught.value)


def test_each_device_shares_its_keys_with_the_group_that_it_drew(cohort: Cohort) -> None:
    drawing = cohort.drawing()
    numbers = cohort.numbers(drawing)
    assert cohort.numbers(drawing) == numbers, "asked again, they say the same"
    drawn = groups.seed(drawing, numbers)
    found = [[lot.device for lot in group] for group in groups.divided(drawing, drawn)]
    assert [len(group) for group in found] == [12, 12]
    for group in found:
        terms = cohort.terms(group, drawn)
        adverts = [cohort.advertise(name, terms, {"numbers": numbers}) for name in group]
        for name in group:
            assert cohort.share(name, terms, adverts) == set(group) - {name}


def test_those_who_are_left_draw_again_with_other_numbers(cohort: Cohort) -> None:
    first = cohort.drawing()
    numbers = cohort.numbers(first)
    again = cohort.drawing(1, cohort.lots[1:])
    fresh = cohort.numbers(again)
    assert not set(fresh) & set(numbers)
    drawn = groups.seed(again, fresh)
    name = again.lots[0].device
    _, mates = groups.group_of(again, fresh, name)
    cohort.advertise(name, cohort.terms(list(mates), drawn), {"numbers": fresh})
    former = groups.seed(first, numbers)
    other = again.lots[1].device
    _, mates = groups.group_of(first, numbers, other)
    assert "not the one" in refusal(
        lambda: cohort.advertise(other, cohort.terms(list(mates), former), {"numbers": numbers[1:]})
    )


def test_no_device_shows_a_number_for_another_list_of_the_same_draw(cohort: Cohort) -> None:
    cohort.reveal("acme-0", cohort.drawing())
    other = cohort.drawing(0, cohort.lots[:-1])
    assert "as often as the portal says" in refusal(lambda: cohort.reveal("acme-0", other))
    assert "not those who are left" in refusal(lambda: cohort.reveal("acme-0", replace(cohort.drawing(), draw=1)))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        ({"run": "run_2"}, "of another round or model"),
        ({"round": 2}, "of another round or model"),
        ({"attempt": 2}, "of another round or model"),
        ({"base_model": "cd" * 32}, "of another round or model"),
        ({"size": 1000}, "groups are of 2 to 128"),
        ({"draw": 2}, "as often as the portal says"),
    ],
)
def test_a_list_of_something_else_is_refused(cohort: Cohort, forge: dict[str, Any], reason: str) -> None:
    assert reason in refusal(lambda: cohort.reveal("acme-0", replace(cohort.drawing(), **forge)))


def test_a_list_in_which_the_device_is_another_is_refused(cohort: Cohort) -> None:
    for forged in (
        replace(cohort.lots[0], commitment="00" * 32),
        replace(cohort.lots[0], organization="metro"),
    ):
        drawing = cohort.drawing(0, (forged, *cohort.lots[1:]))
        assert "not in the list" in refusal(lambda drawing=drawing: cohort.reveal("acme-0", drawing))


def test_a_list_that_the_portal_did_not_sign_is_refused(cohort: Cohort) -> None:
    fields = cohort.drawing().fields()
    document = {"drawing": fields, "signature": statements.sign(Ed25519PrivateKey.generate(), "drawing", fields)}
    task = cohort.task("reveal", server=public(PORTAL))
    assert "not signed by the portal's key" in refusal(lambda: cohort.devices["acme-0"].step(task, document))  # type: ignore[arg-type]
    cohort.reveal("acme-0", cohort.drawing())
    again = cohort.drawing(1, cohort.lots[:-1])
    assert "the portal has another key" in refusal(lambda: cohort.reveal("acme-0", again, Ed25519PrivateKey.generate()))


def test_a_group_that_was_not_drawn_is_refused(cohort: Cohort) -> None:
    drawing = cohort.drawing()
    numbers = cohort.numbers(drawing)
    drawn = groups.seed(drawing, numbers)
    name = "acme-0"
    _, mates = groups.group_of(drawing, numbers, name)
    said = {"numbers": numbers}
    for terms, document, reason in (
        (cohort.terms(list(mates), ""), said, "another group than this device drew"),
        (cohort.terms(list(mates), "00" * 32), said, "another group than this device drew"),
        (cohort.terms(list(mates), drawn), {"numbers": numbers[::-1]}, "is not the one that it committed itself to"),
        (cohort.terms(list(mates), drawn), {}, "not as the protocol has it"),
    ):
        assert reason in refusal(lambda terms=terms, document=document: cohort.advertise(name, terms, document))
    strangers = [other for other in NAMES if other not in mates]
    chosen = [*list(mates)[:-1], strangers[0]] if list(mates)[-1] != name else [*list(mates)[1:], strangers[0]]
    terms = cohort.terms(chosen, drawn)
    adverts = [cohort.advertise(one, terms, said) for one in chosen]
    assert f"{strangers[0]} is not in the group" in refusal(lambda: cohort.share(name, terms, adverts))


def test_a_device_that_drew_nothing_is_in_no_group(cohort: Cohort) -> None:
    terms = cohort.terms(NAMES[:12], "00" * 32)
    assert "did not draw" in refusal(lambda: cohort.advertise("acme-0", terms, {"numbers": []}))


def test_a_device_that_was_started_again_shows_no_number(cohort: Cohort) -> None:
    cohort.devices["acme-0"].forget()
    assert refusal(lambda: cohort.reveal("acme-0", cohort.drawing())) == LOST
