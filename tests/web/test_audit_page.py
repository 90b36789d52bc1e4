"""The audit log as auditors use it: found, read, checked, taken away."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations import log_book
from federations.authentication import actor_of_key
from federations.models import AuditChain, AuditEntry, Invitation, Role
from federations.services import audit, federations, invitations, keys, organizations
from fedportal.common import clock
from fedportal.common.transactions import unit
from registry.services import models
from tests.cast import Cast
from tests.federations.helpers import recorded
from tests.running import ROOT
from tests.web.browsers import text_of


def numbers(browser: Client, query: str = "", status: int = 200) -> list[int]:
    """The numbers of the entries on the page."""
    answer = browser.get(f"/audit{query}")
    assert answer.status_code == status
    return [int(found) for found in re.findall(r'data-label="No\." class="number">(\d+)<', answer.content.decode())]


def of(organization: Any, **wanted: Any) -> list[int]:
    """What the database says."""
    rows = AuditEntry.objects.filter(chain=organization.public_id, **wanted).order_by("-sequence")
    return list(rows.values_list("sequence", flat=True))


def record(cast: Cast, number: int, action: str = "test.happened", actor: Any = None, **details: Any) -> None:
    for _ in range(number):
        with unit():
            audit.record(cast.acme, actor or cast.olga, action, cast.federation.public_id, **details)


def exported(browser: Client, form: str, **said: str) -> str:
    answer = browser.post("/audit/export", {"form": form, **said})
    assert answer.status_code == 200
    assert answer["Content-Disposition"].endswith(f'.{form}"')
    return b"".join(answer).decode()


def test_entries_are_read_in_words_with_names_beside_their_ids(cast: Cast) -> None:
    page = cast.browser("olga").get("/audit").content.decode()
    assert "Founded a federation" in page
    assert "federation.founded" in page
    assert cast.olga.public_id in page
    assert "Olga" in page
    assert f'href="/federations/{cast.federation.public_id}"' in page
    assert "healthcare-consortium" in page


def test_names_of_others_are_not_told(cast: Cast) -> None:
    with unit():
        audit.record(cast.acme, cast.rex, "test.happened", cast.rival.public_id)
    named = log_book.names(
        cast.actor("olga"),
        {
            one.public_id
            for one in (cast.olga, cast.rex, cast.acme, cast.metro, cast.rival, cast.federation, cast.device)
        },
    )
    assert set(named.values()) == {"Olga", "acme", "metro", "healthcare-consortium"}
    assert cast.device.public_id in log_book.names(cast.actor("mia"), {cast.device.public_id})


def test_keys_and_devices_are_named(cast: Cast) -> None:
    device = cast.browser("mia").get("/audit").content.decode()
    assert "hospital-001" in device
    key, text = keys.create(cast.actor("olga"), name="laptop", scopes=["*"])
    federations.change(actor_of_key(text), cast.federation, description="By a program.")
    assert "Olga (with the key “laptop”)" in cast.browser("olga").get("/audit").content.decode()
    assert key.public_id


def test_filters_narrow_and_combine(cast: Cast) -> None:
    browser, acme = cast.browser("olga"), cast.acme
    admin = cast.colleague(acme, Role.ADMIN)
    record(cast, 3, actor=admin)
    assert numbers(browser) == of(acme)[:50]
    assert numbers(browser, "?who=admin") == of(acme, actor=admin.public_id)
    assert numbers(browser, f"?who={admin.public_id}") == of(acme, actor=admin.public_id)
    assert numbers(browser, "?who=olga@acme") == of(acme, actor=cast.olga.public_id)
    assert numbers(browser, "?action=federation.founded") == of(acme, action="federation.founded")
    assert numbers(browser, "?subject=healthcare") == of(acme, subject=cast.federation.public_id)
    assert numbers(browser, f"?subject={cast.federation.public_id}&who=admin") == of(acme, actor=admin.public_id)
    assert numbers(browser, "?who=nobody") == []
    assert "No entry like this" in browser.get("/audit?who=nobody").content.decode()


def test_days_are_whole_and_in_utc(cast: Cast) -> None:
    browser = cast.browser("olga")
    with clock.shifted(timedelta(days=3)):
        record(cast, 2)
        day = clock.now().date()
    (first, second) = of(cast.acme, action="test.happened")
    assert numbers(browser, f"?since={day}") == [first, second]
    assert numbers(browser, f"?until={day}")[:2] == [first, second]
    assert first not in numbers(browser, f"?until={day - timedelta(days=1)}")
    assert numbers(browser, f"?since={day + timedelta(days=1)}") == []


@pytest.mark.parametrize("query", ["?since=yesterday", "?until=2026-13-01"])
def test_a_day_that_is_none_is_refused_and_the_log_is_shown(query: str, cast: Cast) -> None:
    assert numbers(cast.browser("olga"), query, 400) == of(cast.acme)[:50]


def test_search_looks_into_details_and_hashes(cast: Cast) -> None:
    record(cast, 1, ward="Ward-Seven-West")
    (row,) = AuditEntry.objects.filter(action="test.happened")
    browser = cast.browser("olga")
    for text in ("seven-west", row.hash[:12], "test.happ"):
        assert numbers(browser, f"?text={text}") == [row.sequence]
    assert numbers(browser, "?text=%25") == []  # no pattern of the database


def test_pages_keep_the_filter(cast: Cast) -> None:
    record(cast, 120)
    browser = cast.browser("olga")
    page = browser.get("/audit?action=test.happened").content.decode()
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following is not None
    assert "Page 1 of 3" in page
    assert numbers(browser, following[1].replace("&amp;", "&")) == of(cast.acme, action="test.happened")[50:100]


def test_the_number_of_queries_does_not_grow_with_the_rows(cast: Cast) -> None:
    browser = cast.browser("olga")
    record(cast, 3)
    browser.get("/audit")  # the first page of a session asks more
    with CaptureQueriesContext(connection) as few:
        browser.get("/audit?action=test.happened")
    record(cast, 30)
    with CaptureQueriesContext(connection) as many:
        browser.get("/audit?action=test.happened")
    assert len(few) == len(many)


def test_who_may_not_read_may_not_take_it_away(cast: Cast) -> None:
    otto = cast.browser("otto")
    assert otto.get("/audit").status_code == 403
    assert otto.post("/audit").status_code == 403
    before = AuditEntry.objects.count()
    assert otto.post("/audit/export", {"form": "csv"}).status_code == 403
    assert AuditEntry.objects.count() == before


def test_the_chain_is_said_to_be_whole_with_its_head(cast: Cast) -> None:
    head = AuditEntry.objects.filter(chain=cast.acme.public_id).latest("sequence")
    page = cast.browser("olga").post("/audit").content.decode()
    assert f"whole up to #{head.sequence}." in page
    assert head.hash in page


def test_a_forged_entry_is_said_with_its_place(cast: Cast) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE federations_auditentry SET action = 'x' WHERE chain = %s AND sequence = 3", [cast.acme.public_id]
        )
    page = cast.browser("olga").post("/audit").content.decode()
    assert "The chain breaks at #3" in page
    assert "whole up to" not in page


def test_an_entry_that_comes_while_the_chain_is_read_breaks_nothing(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, late = audit.hash_of, [True]

    def slow(entry: AuditEntry) -> str:
        if late and entry.sequence == 2:
            late.clear()
            record(cast, 1)
        return genuine(entry)

    monkeypatch.setattr(audit, "hash_of", slow)
    standing = audit.check(cast.actor("olga"), cast.acme)
    assert (standing.broken, late) == (None, [])
    assert standing.sequence >= of(cast.acme)[1]


def test_the_chain_is_read_once_for_a_check_and_not_for_a_look(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, read = audit.hash_of, []
    monkeypatch.setattr(audit, "hash_of", lambda entry: read.append(entry.sequence) or genuine(entry))
    browser = cast.browser("olga")
    browser.get("/audit?check=1")
    assert read == []
    browser.post("/audit?action=federation.founded")
    assert read == of(cast.acme)[::-1]


def test_an_organization_may_not_check_without_end(cast: Cast) -> None:
    browser = cast.browser("olga")
    for _ in range(audit.CHECKS):
        assert "whole up to" in browser.post("/audit").content.decode()
    said = browser.post("/audit", follow=True).content.decode()
    assert "whole up to" not in said
    assert "Too many tries" in said
    assert "whole up to" in cast.browser("mia").post("/audit").content.decode()


@pytest.mark.parametrize("change", ["head", "entry"])
def test_an_entry_beyond_the_head_and_a_head_that_is_missing_are_breaks(change: str, cast: Cast) -> None:
    record(cast, 2)
    head = AuditChain.objects.filter(name=cast.acme.public_id)
    if change == "head":
        head.delete()
    else:
        _, second = AuditEntry.objects.filter(chain=cast.acme.public_id).order_by("-sequence")[:2]
        head.update(sequence=second.sequence, hash=second.hash)
    assert audit.check(cast.actor("olga"), cast.acme).broken is not None


def test_an_export_as_json_lines_can_be_verified_elsewhere(cast: Cast) -> None:
    record(cast, 3, text='ä\u2028 "quoted", and a comma')
    before = of(cast.acme)
    browser = cast.browser("olga")
    with recorded("audit.exported"):
        lines = [json.loads(line) for line in exported(browser, "jsonl").splitlines() if line]
    assert [line["sequence"] for line in lines] == before[::-1]  # oldest first, without the entry about itself
    previous = ""
    for line in lines:
        said = {name: value for name, value in line.items() if name != "hash"}
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(canonical.encode()).hexdigest() == line["hash"]
        assert line["previous_hash"] == previous
        previous = line["hash"]


def test_an_export_as_csv_follows_the_filter_and_holds_no_formula(cast: Cast) -> None:
    record(cast, 2, actor="=HYPERLINK(1)")
    browser = cast.browser("olga")
    with recorded("audit.exported"):
        table = list(csv.DictReader(io.StringIO(exported(browser, "csv", action="test.happened"))))
    assert [row["actor"] for row in table] == ["'=HYPERLINK(1)"] * 2
    assert tuple(table[0]) == log_book.COLUMNS
    entry = AuditEntry.objects.get(action="audit.exported")
    assert entry.details == {"filter": {"action": "test.happened"}, "form": "csv", "up_to": entry.sequence - 1}


def test_a_long_export_comes_in_pieces(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_book, "CHUNK", 7)
    record(cast, 40)
    rows = list(log_book.in_order(log_book.entries(cast.acme, log_book.Filter()), of(cast.acme)[0]))
    assert [row.sequence for row in rows] == of(cast.acme)[::-1]


def test_an_unknown_form_is_refused(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    cast.browser("olga").post("/audit/export", {"form": "exe"})
    assert AuditEntry.objects.count() == before


def test_the_api_filters_too(cast: Cast) -> None:
    client, path = cast.client("olga"), f"/api/v1/orgs/{cast.acme.public_id}/audit"
    found = client.get(path, {"action": "federation.founded"}).json()
    assert [entry["action"] for entry in found["entries"]] == ["federation.founded"]
    assert client.get(path, {"since": "soon"}).json()["error"] == "field_invalid"


def test_words_are_for_actions_that_are_written() -> None:
    code = "".join(
        path.read_text()
        for floor in ("federations", "registry", "training")
        for path in Path(ROOT, floor, "services").glob("*.py")
    )
    # Some are put together: f"federation.{word}".
    strange = [
        action
        for action in log_book.WORDS
        if f'"{action}"' not in code and f'f"{action.partition(".")[0]}.{{' not in code
    ]
    assert strange == []
    assert log_book.words("device.key_rotated") == "Device: key rotated"


def test_runs_models_and_invitations_have_names_for_who_may_know_them(cast: Cast) -> None:
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    invitations.revoke(cast.actor("olga"), Invitation.objects.get(email="gina@guest.example"))
    model = models.create(cast.actor("olga"), name="radiology-v1")
    assert "radiology-v1 " + model.public_id in text_of(cast.browser("olga").get("/audit"))
    assert "gina@guest.example to healthcare-consortium inv_" in text_of(cast.browser("olga").get("/audit"))
    organizations.set_role(cast.actor("olga"), cast.acme.memberships.get(person=cast.otto), Role.AUDITOR)
    shown = text_of(cast.browser("otto").get("/audit"))
    assert "gina@guest.example" not in shown
    assert "Somebody to healthcare-consortium inv_" in shown
