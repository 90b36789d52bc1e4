"""Found an organization from the shell: the first one of a fresh portal, or one for a test."""

from __future__ import annotations

import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from federations import roles
from federations.management import migrations
from federations.models import Person
from federations.services import audit, keys, organizations, people
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError


class Command(BaseCommand):
    """Prints one line of JSON: org_id, person_id, email, api_key, and password if it was made up here."""

    help = "Found an organization with its owner and print {org_id, person_id, api_key} as JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", required=True, help="the organization's name")
        parser.add_argument("--email", required=True, help="its owner; an existing person keeps their password")
        parser.add_argument("--password", default="", help="of a new person; made up and printed if left out")
        parser.add_argument("--person-name", default="", help="of a new person")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with migrations.asked_for():
                answer = found(options["name"], options["email"], options["password"], options["person_name"])
        except FedportalError as error:
            raise CommandError(f"{error.message} {error.next_step}") from error
        self.stdout.write(json.dumps(answer))


def found(name: str, email: str, password: str, person_name: str) -> dict[str, str]:
    """Found the organization, all or nothing; what the command prints. Raises FedportalError."""
    answer: dict[str, str] = {}
    person = known = Person.objects.filter(email=Person.objects.normalize(email)).first()
    if person is None:
        chosen = password or secrets.token_urlsafe(12)
        if not password:
            answer["password"] = chosen
        person = people.prepare(email, chosen, person_name)
    with unit():
        if known is None:
            people.admit(person)
        organization = organizations.found(name, person)
        key, text = keys.issue(organization, person, name="command line", scopes=[roles.ANY_SCOPE])
        audit.record(organization, audit.PORTAL, "key.created", key.public_id, scopes=key.scopes)
        if known is None:
            people.note_sign_up(person)
    return {
        "org_id": organization.public_id,
        "person_id": person.public_id,
        "email": person.email,
        "api_key": text,
        **answer,
    }
