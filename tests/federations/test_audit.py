"""The audit log: one chain per organization, and no change that the verifier does not see."""

from __future__ import annotations

import random
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from federations.models import AuditChain, AuditEntry, AuditRefused
from federations.services import audit, federations
from fedportal.common.transactions import unit
from tests.cast import Cast


@pytest.fixture
def chain(cast: Cast) -> str:
    """acme's chain with some dozen entries."""
    for number in range(12):
        with unit():
            audit.record(
                cast.acme, cast.olga, "test.happened", cast.federation.public_id, number=number, text="ä\u2028"
            )
    return str(cast.acme.public_id)


def test_every_chain_is_whole_after_a_story(cast: Cast, chain: str) -> None:
    assert list(audit.verify_all()) == []
    assert AuditChain.objects.get(name=chain).sequence == AuditEntry.objects.filter(chain=chain).count()


def test_entries_are_numbered_from_one_and_begin_with_nothing_before(chain: str) -> None:
    entries = AuditEntry.objects.filter(chain=chain).order_by("sequence")
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[0].previous_hash == ""
    assert [entry.previous_hash for entry in entries[1:]] == [entry.hash for entry in list(entries)[:-1]]


def test_organizations_and_the_portal_have_chains_of_their_own(cast: Cast) -> None:
    names = set(AuditEntry.objects.values_list("chain", flat=True))
    assert names == {org.public_id for org in (cast.acme, cast.metro, cast.valley, cast.rival)} | {audit.PORTAL}


def test_no_audit_no_action(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(entry: AuditEntry) -> str:
        raise OSError("the log cannot be written")

    monkeypatch.setattr(audit, "hash_of", broken)
    with pytest.raises(OSError, match="cannot be written"):
        federations.found(cast.actor("olga"), name="fresh")
    assert not cast.acme.owned_federations.filter(name="fresh").exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_outside_a_unit_is_refused() -> None:
    with pytest.raises(RuntimeError):
        audit.record(None, "portal", "test.happened")


def test_django_refuses_to_change_or_delete(chain: str) -> None:
    entry = AuditEntry.objects.filter(chain=chain).first()
    assert entry is not None
    entries = AuditEntry.objects.filter(chain=chain)
    for attempt in (
        entry.save,
        entry.delete,
        entries.delete,
        lambda: entries.update(action="x"),
        lambda: AuditEntry.objects.bulk_update([entry], ["action"]),
    ):
        with pytest.raises(AuditRefused):
            attempt()


def forge(sql: str, *values: Any) -> None:
    """What somebody with the database's password does."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


COLUMNS = {
    "at": "2020-01-01 00:00:00",
    "actor": "usr_someone",
    "action": "nothing.happened",
    "subject": "",
    "details": '{"number": 99}',
    "previous_hash": "0" * 64,
    "hash": "1" * 64,
    "organization_id": None,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_changed_column_is_seen_and_where(chain: str, column: str) -> None:
    forge(f"UPDATE federations_auditentry SET {column} = %s WHERE chain = %s AND sequence = 5", COLUMNS[column], chain)
    found = audit.verify(chain)
    assert found is not None
    assert found.sequence == 5


def test_a_thousand_random_edits_deletes_swaps_and_truncations_are_all_seen(cast: Cast, chain: str) -> None:
    generator = random.Random(5)
    length = AuditChain.objects.get(name=chain).sequence
    seen = 0
    for _ in range(1000):
        from django.db import transaction

        point = transaction.savepoint()
        _tamper(generator, chain, length)
        seen += audit.verify(chain) is not None
        transaction.savepoint_rollback(point)
    assert seen == 1000
    assert audit.verify(chain) is None


def _tamper(generator: random.Random, chain: str, length: int) -> None:
    table = "federations_auditentry"
    first, second = generator.sample(range(1, length + 1), 2)
    match generator.randrange(5):
        case 0:
            column = generator.choice([name for name in COLUMNS if name != "organization_id"])
            forge(f"UPDATE {table} SET {column} = %s WHERE chain = %s AND sequence = %s", COLUMNS[column], chain, first)
        case 1:
            forge(f"DELETE FROM {table} WHERE chain = %s AND sequence = %s", chain, first)
        case 2:
            forge(f"UPDATE {table} SET sequence = 100000 WHERE chain = %s AND sequence = %s", chain, first)
            forge(f"UPDATE {table} SET sequence = %s WHERE chain = %s AND sequence = %s", first, chain, second)
            forge(f"UPDATE {table} SET sequence = %s WHERE chain = %s AND sequence = 100000", second, chain)
        case 3:
            forge(f"DELETE FROM {table} WHERE chain = %s AND sequence >= %s", chain, first)
        case 4:  # an invented entry at the end, well hashed but not in the head
            last = AuditEntry.objects.filter(chain=chain).order_by("-sequence").first()
            assert last is not None
            entry = AuditEntry(chain=chain, organization=last.organization, sequence=length + 1, at=last.at)
            entry.actor, entry.action, entry.previous_hash = "portal", "test.invented", last.hash
            entry.hash = audit.hash_of(entry)
            entry.save()


def test_a_lost_head_and_an_invented_chain_are_seen(cast: Cast, chain: str) -> None:
    AuditChain.objects.filter(name=chain).delete()
    assert [found.chain for found in audit.verify_all()] == [chain]


def test_details_come_back_as_they_were_hashed(cast: Cast) -> None:
    with unit():
        audit.record(cast.acme, cast.olga, "test.happened", "", many={"a": [1, None, True, 2.5, "x\x00y"], 3: {"s"}})
    entry = AuditEntry.objects.get(action="test.happened")
    assert entry.details == {"many": {"a": [1, None, True, "2.5", "xy"], "3": ["s"]}}
    assert audit.hash_of(entry) == entry.hash


def test_a_commitment_hides_and_can_be_checked() -> None:
    assert audit.commitment("olga@acme.example") == audit.commitment("olga@acme.example")
    assert audit.commitment("olga@acme.example") != audit.commitment("otto@acme.example")
    assert "olga" not in audit.commitment("olga@acme.example")


def test_the_command_says_whether_all_is_well(cast: Cast, chain: str) -> None:
    out = StringIO()
    call_command("verify_audit", stdout=out)
    assert out.getvalue() == "5 chains are whole.\n"
    forge("UPDATE federations_auditentry SET action = 'x' WHERE chain = %s AND sequence = 3", chain)
    err = StringIO()
    with pytest.raises(CommandError):
        call_command("verify_audit", stderr=err)
    assert f"{chain} breaks at #3" in err.getvalue()
    call_command("verify_audit", cast.rival.public_id, stdout=out)
