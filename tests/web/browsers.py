"""Browsers of these tests, and what they show."""

from __future__ import annotations

import re

from django.http import HttpResponse
from django.test import Client

from federations.models import Letter, Person
from federations.services import second_factor
from tests.cast import PASSWORD
from tests.federations.authenticator import code

OLGA, GUEST, IP = "olga@acme.example", "gina@guest.example", "192.0.2.1"


def signed_in(email: str = OLGA, password: str = PASSWORD, **more: str) -> Client:
    """A browser in which the form of the sign-in page was sent."""
    browser = Client(headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"})
    browser.post("/sign-in", {"email": email, "password": password, **more})
    return browser


def text_of(answer: HttpResponse) -> str:
    """What the page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def letter_code(email: str) -> str:
    """The code in the last letter to an address."""
    return Letter.objects.filter(to=email).latest("pk").subject[:9]


def is_in(browser: Client) -> bool:
    """Whether somebody is signed in."""
    return browser.get("/account").status_code == 200


def with_factor(person: Person) -> str:
    """The secret of a second factor that is on."""
    secret = second_factor.new_secret()
    second_factor.turn_on(person, secret, code(secret, -1), IP)
    return secret
