"""Commands for the operator's shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection

from federations.management import migrations
from federations.models import Membership, Organization, Person
from federations.services import audit, keys
from fedportal.common.transactions import unit
from tests.cast import PASSWORD, Cast


def found(**options: str) -> dict[str, str]:
    out = StringIO()
    call_command("found_organization", stdout=out, **options)
    answer: dict[str, str] = json.loads(out.getvalue())
    return answer


def test_the_first_organization_of_a_portal(db: None) -> None:
    answer = found(name="acme", email="Olga@acme.example")
    organization = Organization.objects.get(public_id=answer["org_id"])
    person = Person.objects.get(public_id=answer["person_id"])
    assert person.check_password(answer["password"])
    assert Membership.objects.get(person=person, organization=organization).role == "owner"
    key = keys.find_api_key(answer["api_key"])
    assert (key.person, key.organization, key.scopes) == (person, organization, ["*"])
    assert list(audit.verify_all()) == []


def test_a_given_password_is_not_printed(db: None) -> None:
    assert "password" not in found(name="acme", email="olga@acme.example", password=PASSWORD)


def test_a_person_who_is_known_keeps_their_password(cast: Cast) -> None:
    answer = found(name="labs", email="olga@acme.example")
    assert "password" not in answer
    assert Person.objects.get(pk=cast.olga.pk).check_password(PASSWORD)


@pytest.mark.parametrize(
    ("name", "email", "password"),
    [
        ("acme", "new@x.example", PASSWORD),
        ("fresh", "nonsense", PASSWORD),
        ("fresh", "new@x.example", "short"),
        ("api", "new@x.example", PASSWORD),
    ],
)
def test_what_cannot_be_founded_leaves_nothing(cast: Cast, name: str, email: str, password: str) -> None:
    with pytest.raises(CommandError):
        found(name=name, email=email, password=password)
    assert not Person.objects.filter(email=email).exists()
    assert not Organization.objects.filter(name="fresh").exists()


def test_before_the_first_migration_every_command_says_to_migrate(tmp_path: Path) -> None:
    program = """
import django
django.setup()
from django.core.management import CommandError, call_command
for words in (
    ["found_organization", "--name=acme", "--email=olga@acme.example"],
    ["turn_off_second_factor", "--email=olga@acme.example"],
    ["verify_audit"],
):
    try:
        call_command(*words)
    except CommandError as error:
        print(error)
"""
    own = {"FEDPORTAL_DATA_DIR": str(tmp_path), "FEDPORTAL_DATABASE_URL": "sqlite", "FEDPORTAL_MODE": "embedded"}
    own["DJANGO_SETTINGS_MODULE"] = "fedportal.settings"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | own, capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert len(said) == 3
    for line in said:
        assert re.fullmatch(r"The database lacks \d+ migrations. Run `python manage.py migrate` first.", line)


def test_another_error_of_the_database_is_not_blamed_on_migrations(db: None) -> None:
    with pytest.raises(DatabaseError), migrations.asked_for(), unit(), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")
