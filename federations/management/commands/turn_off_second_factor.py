"""Let somebody in again who lost authenticator and recovery codes, from the shell."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from federations.management import migrations
from federations.models import Person
from federations.services import audit, second_factor


class Command(BaseCommand):
    """A letter tells the person, and the act stands in the portal's log."""

    help = "Turn off the second factor of a person who lost it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        with migrations.asked_for():
            person = Person.objects.filter(email=Person.objects.normalize(options["email"])).first()
            if person is None:
                raise CommandError("There is no account with this address.")
            if not second_factor.turn_off(person, audit.PORTAL):
                raise CommandError("This person has no second factor.")
        self.stdout.write(f"{person.email} signs in with the password alone.")
