"""The second factor: on, asked for, recovered from, off; its secrets rest encrypted and guessing is limited."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command

from federations.models import Letter, Person
from federations.services import confirming, people, second_factor
from fedportal.common import clock
from fedportal.common.sealing import Unreadable, seal, unseal
from tests.cast import PASSWORD, Cast
from tests.federations.authenticator import code
from tests.federations.helpers import recorded, refused

IP = "192.0.2.1"


def turned_on(person: Person) -> tuple[str, list[str]]:
    """Secret and recovery codes of a second factor that was turned on with the code of the half minute before."""
    secret = second_factor.new_secret()
    return secret, second_factor.turn_on(person, secret, code(secret, -1), IP)


def test_a_right_code_turns_it_on_and_a_letter_says_so(cast: Cast) -> None:
    assert not second_factor.is_on(cast.olga)
    with recorded("person.second_factor_on", cast.olga.public_id):
        _, codes = turned_on(cast.olga)
    assert second_factor.is_on(cast.olga)
    assert len(set(codes)) == 10
    assert second_factor.codes_left(cast.olga) == 10
    assert Letter.objects.filter(to=cast.olga.email).latest("pk").subject == "Your second factor is on"


def test_a_wrong_code_turns_nothing_on(cast: Cast) -> None:
    secret = second_factor.new_secret()
    for typed in ("", "12345", code(secret, 40), "abcdef", "١٢٣٤٥٦"):
        with refused("code_wrong"):
            second_factor.turn_on(cast.olga, secret, typed, IP)
    assert not second_factor.is_on(cast.olga)


def test_it_is_turned_on_once(cast: Cast) -> None:
    first, _ = turned_on(cast.olga)
    with refused("conflict"):
        turned_on(cast.olga)
    second_factor.check(cast.olga, code(first), IP)


def test_a_code_counts_once_in_all_processes(cast: Cast) -> None:
    secret, _ = turned_on(cast.olga)
    now = code(secret)
    second_factor.check(cast.olga, f"{now[:3]} {now[3:]}", IP)
    with refused("code_wrong"):
        second_factor.check(cast.olga, now, IP)
    second_factor.check(cast.olga, code(secret, 1), IP)


def test_a_recovery_code_opens_once_and_a_letter_counts_them(cast: Cast) -> None:
    _, codes = turned_on(cast.olga)
    with recorded("person.recovery_code_used", cast.olga.public_id):
        second_factor.check(cast.olga, codes[3].replace("-", " "), IP)
    assert "9 are left" in Letter.objects.filter(to=cast.olga.email).latest("pk").text
    with refused("code_wrong"):
        second_factor.check(cast.olga, codes[3], IP)


def test_new_recovery_codes_end_the_old_ones(cast: Cast) -> None:
    _, old = turned_on(cast.olga)
    with recorded("person.recovery_codes_renewed", cast.olga.public_id):
        fresh = second_factor.renew_codes(cast.olga)
    assert not set(old) & set(fresh)
    with refused("code_wrong"):
        second_factor.check(cast.olga, old[0], IP)
    second_factor.check(cast.olga, fresh[0], IP)


def test_there_are_no_recovery_codes_without_it(cast: Cast) -> None:
    with refused("conflict"):
        second_factor.renew_codes(cast.olga)
    assert second_factor.codes_left(cast.olga) == 0


def test_turned_off_nothing_of_it_is_left(cast: Cast) -> None:
    _, codes = turned_on(cast.olga)
    with recorded("person.second_factor_off", cast.olga.public_id):
        second_factor.turn_off(cast.olga)
    assert not Authenticator.objects.exists()
    with refused("code_wrong"):
        second_factor.check(cast.olga, codes[0], IP)
    assert Letter.objects.filter(to=cast.olga.email).latest("pk").subject == "Your second factor is off"
    before = Letter.objects.count()
    second_factor.turn_off(cast.olga)
    assert Letter.objects.count() == before


def test_its_secrets_rest_encrypted_under_the_pepper(cast: Cast, settings: Any) -> None:
    secret, codes = turned_on(cast.olga)
    stored = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert not [word for word in (secret, *codes) if word in stored or word.replace("-", "") in stored]
    settings.FEDPORTAL_PEPPER = "another pepper " * 4
    for typed in (code(secret), codes[0]):
        with refused("code_wrong"):
            second_factor.check(cast.olga, typed, IP)


def test_what_is_sealed_is_read_again_and_shows_a_change() -> None:
    sealed = seal("a secret")
    assert unseal(sealed) == "a secret"
    assert "secret" not in sealed
    for broken in ("", "nonsense", sealed[:-4] + "AAA="):
        with pytest.raises(Unreadable):
            unseal(broken)


def test_guessing_codes_is_limited_like_passwords_and_together_with_them(cast: Cast) -> None:
    secret, codes = turned_on(cast.olga)
    for number in range(5):
        with refused("sign_in_failed"):
            people.sign_in(cast.olga.email, "wrong", f"2001:db8::{number}")
    for number in range(5):
        with refused("code_wrong"):
            second_factor.check(cast.olga, "000000", f"2001:db8::{number}")
    for typed in (code(secret), codes[0]):
        with refused("too_many_tries"):
            second_factor.check(cast.olga, typed, "2001:db8::1")
    with refused("too_many_tries"):
        confirming.confirm(cast.olga, PASSWORD, codes[0], "2001:db8::1")
    with clock.shifted(timedelta(minutes=15, seconds=1)):
        second_factor.check(cast.olga, codes[0], "2001:db8::1")


def test_confirming_asks_for_the_password_and_where_it_is_on_for_a_code(cast: Cast) -> None:
    confirming.confirm(cast.otto, PASSWORD, "", IP)
    secret, _ = turned_on(cast.olga)
    with refused("sign_in_failed"):
        confirming.confirm(cast.olga, "wrong", code(secret), IP)
    with refused("code_wrong"):
        confirming.confirm(cast.olga, PASSWORD, "", IP)
    confirming.confirm(cast.olga, PASSWORD, code(secret), IP)


def test_a_confirmation_holds_for_ten_minutes() -> None:
    session: dict[str, Any] = {}
    assert not confirming.is_confirmed(session)
    confirming.note_confirmed(session)
    assert confirming.is_confirmed(session)
    with clock.shifted(timedelta(seconds=confirming.LASTS)):
        assert not confirming.is_confirmed(session)
    with clock.shifted(timedelta(hours=-1)):
        assert not confirming.is_confirmed(session)


def test_an_owner_can_see_who_has_it_on(cast: Cast) -> None:
    turned_on(cast.otto)
    turned_on(cast.mia)
    assert second_factor.people_with_it([cast.olga.pk, cast.otto.pk]) == {cast.otto.pk}


def test_staff_let_somebody_in_again_who_lost_everything(cast: Cast) -> None:
    turned_on(cast.olga)
    with refused("forbidden"):
        second_factor.turn_off_by_staff(cast.rex, cast.olga)
    staff = Person.objects.create_superuser("staff@portal.example", PASSWORD)
    with recorded("person.second_factor_off", cast.olga.public_id):
        second_factor.turn_off_by_staff(staff, cast.olga)
    assert not second_factor.is_on(cast.olga)
    assert Letter.objects.filter(to=cast.olga.email).latest("pk").subject == "Your second factor is off"


def test_the_last_operator_comes_in_again_from_the_shell(cast: Cast) -> None:
    turned_on(cast.olga)
    with recorded("person.second_factor_off", cast.olga.public_id):
        call_command("turn_off_second_factor", "--email", "OLGA@acme.example", stdout=StringIO())
    for address in ("olga@acme.example", "nobody@acme.example"):
        with pytest.raises(CommandError):
            call_command("turn_off_second_factor", "--email", address)
