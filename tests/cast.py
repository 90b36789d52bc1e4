"""The cast of all tests: acme founds and owns, metro is an active member, valley is invited, rival is a stranger.

Every row is made by the services that make it in life; see `assemble`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.test import Client

from federations.models import Device, Federation, Organization, Person, Role
from federations.permissions import Actor
from federations.services import devices, keys, organizations, people
from federations.services import federations as federation_services
from fedportal.celery import app as celery_app
from fedportal.common.transactions import unit
from fedwire.messages import registration_message
from tests.snapshot import Made, Scene

PASSWORD = "a long and quiet password"
FEDERATION = "healthcare-consortium"
DEVICE = "hospital-001"


@dataclass
class Cast:
    """The people, organizations and things of the story; `keys` are API keys with every scope, by first name."""

    acme: Organization
    metro: Organization
    valley: Organization
    rival: Organization
    olga: Person
    otto: Person
    mia: Person
    vera: Person
    rex: Person
    keys: dict[str, str] = field(default_factory=dict)
    federation: Federation = None  # type: ignore[assignment]
    device: Device = None  # type: ignore[assignment]
    device_key: str = ""
    device_private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def organization_of(self, name: str) -> Organization:
        """Where somebody works: olga and otto at acme, mia at metro, vera at valley, rex at rival."""
        return {"olga": self.acme, "otto": self.acme, "mia": self.metro, "vera": self.valley, "rex": self.rival}[name]

    def actor(self, name: str) -> Actor:
        """Somebody signed in with a browser, acting for their organization."""
        organization = Organization.objects.get(pk=self.organization_of(name).pk)
        return Actor(Person.objects.get(pk=getattr(self, name).pk), organization)

    def client(self, name: str) -> Client:
        """An HTTP client with somebody's API key; "" sends none, "device" sends the device's key."""
        token = self.device_key if name == "device" else self.keys.get(name, "")
        return client_with(token)

    def browser(self, name: str) -> Client:
        """A browser in which somebody is signed in."""
        browser = Client()
        browser.force_login(getattr(self, name), backend="django.contrib.auth.backends.ModelBackend")
        return browser

    def colleague(self, organization: Organization, role: Role | str) -> Person:
        """A further person in the organization; their name is their role."""
        address = f"{role}@{organization.name}.example"
        newcomer = people.prepare(address, PASSWORD, str(role).replace("_", " "))
        with unit():
            person = people.admit(newcomer)
            organizations.enter(organization, person, Role(role))
        return person

    def key_for(self, person: Person, organization: Organization, scopes: list[str], **limits: Any) -> str:
        """The text of a further API key."""
        return keys.issue(organization, person, name="test", scopes=scopes, **limits)[1]


def assemble() -> Cast:
    """The whole cast, as it stands at the beginning of every story."""
    olga = people.sign_up("olga@acme.example", PASSWORD, "Olga", "acme")
    mia = people.sign_up("mia@metro.example", PASSWORD, "Mia", "metro")
    vera = people.sign_up("vera@valley.example", PASSWORD, "Vera", "valley")
    rex = people.sign_up("rex@rival.example", PASSWORD, "Rex", "rival")
    acme, metro, valley, rival = (Organization.objects.get(name=name) for name in ("acme", "metro", "valley", "rival"))
    otto = people.sign_up("otto@acme.example", PASSWORD, "Otto")
    with unit():
        organizations.enter(acme, otto, Role.VIEWER)
    cast = Cast(acme, metro, valley, rival, olga, otto, mia, vera, rex)
    for name in ("olga", "otto", "mia", "vera", "rex"):
        cast.keys[name] = cast.key_for(getattr(cast, name), cast.organization_of(name), ["*"])
    cast.federation = federation_services.found(cast.actor("olga"), name=FEDERATION, description="Three hospitals.")
    federation_services.invite(
        cast.actor("olga"), cast.federation, org_ids=[cast.metro.public_id, cast.valley.public_id]
    )
    federation_services.join(cast.actor("mia"), cast.federation)
    registered = register(cast.keys["mia"], DEVICE, cast.device_private)
    cast.device = Device.objects.get(public_id=registered["id"])
    cast.device_key = registered["device_key"]
    return cast


def registration(token: str, identifier: str, private: Ed25519PrivateKey | None = None, **more: Any) -> dict[str, Any]:
    """What a device sends to register: signed by its own key under the enrolment key `token`."""
    private = private or Ed25519PrivateKey.generate()
    public, nonce = private.public_key().public_bytes_raw().hex(), secrets.token_hex(16)
    message = registration_message(key_id=token[:12], device_identifier=identifier, public_key=public, nonce=nonce)
    return {
        "device_identifier": identifier,
        "public_key": public,
        "nonce": nonce,
        "signature": private.sign(message).hex(),
        "platform": "python",
        "sdk_version": "0.1.0",
        **more,
    }


def register(token: str, identifier: str, private: Ed25519PrivateKey | None = None, **more: Any) -> dict[str, Any]:
    """Register a device through the service; the answer the device gets."""
    return dict(devices.register(keys.find_api_key(token), registration(token, identifier, private, **more)))


def client_with(token: str) -> Client:
    """An HTTP client that sends this key."""
    return Client(headers={"Authorization": f"Bearer {token}"} if token else {})


def scene(of: Callable[[], Made]) -> Scene[Made]:
    """The scene that `of()` makes, for tests in which the same follows from what is committed as in this one."""
    # What is committed has consequences: letters are written and leave, if bells are answered.
    consequences = not connection.in_atomic_block, celery_app.conf.task_always_eager
    return _scenes.setdefault((of, *consequences), Scene(of))


_scenes: dict[Any, Scene[Any]] = {}


@pytest.fixture
def cheap(settings: Any) -> None:
    """Passwords are cheap to hash."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def cast(db: None, cheap: None) -> Cast:
    """The cast in a fresh database, with passwords that are cheap to hash."""
    return scene(assemble).enter()
