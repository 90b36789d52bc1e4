"""The operators' site: every table, safe actions, no secrets."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from federations.admin import Looking
from federations.models import ApiKey, AuditEntry, Device, Letter, Organization, Person
from federations.services import confirming, federations, webhooks
from fedportal.common import clock
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import confirmed, recorded

TABLES = sorted(model._meta.model_name for model in apps.get_app_config("federations").get_models())


@pytest.fixture
def staff(cast: Cast) -> Client:
    """A browser of portal staff."""
    client = Client()
    person = Person.objects.create_superuser("staff@portal.example", PASSWORD)
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return confirmed(client)


def ask(staff: Client, table: str, action: str, *pks: int) -> str:
    """Choose an action for rows; the page that asks back."""
    address = reverse(f"admin:{table if '_' in table else f'federations_{table}'}_changelist")
    return staff.post(address, {"action": action, "_selected_action": pks}).content.decode()


def act(staff: Client, table: str, action: str, *pks: int) -> str:
    """Run an admin action on rows by its page that asks back; the page afterwards."""
    asking = ask(staff, table, action, *pks)
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asking.partition("<ul>")[2])
    said: dict[str, list[str]] = {}
    for name, value in fields:
        said.setdefault(name, []).append(value)
    address = reverse(f"admin:{table if '_' in table else f'federations_{table}'}_changelist")
    return staff.post(address, said, follow=True).content.decode()


def test_every_table_of_this_floor_is_there() -> None:
    assert set(apps.get_app_config("federations").get_models()) <= set(admin.site._registry)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_can_be_listed_and_searched(staff: Client, cast: Cast, table: str) -> None:
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    address = reverse(f"admin:federations_{table}_changelist")
    assert staff.get(address).status_code == 200
    assert staff.get(address, {"q": "acme"}).status_code == 200
    filters = admin.site._registry[apps.get_model("federations", table)].list_filter
    assert isinstance(filters, tuple)


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_shown_without_secrets_and_cannot_be_edited(staff: Client, cast: Cast, table: str) -> None:
    link = federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"]).letters[0].link
    model = apps.get_model("federations", table)
    row = model._default_manager.first()
    if row is None:
        pytest.skip("this story has no such row")
    address = reverse(f"admin:federations_{table}_change", args=[row.pk])
    page = staff.get(address).content.decode()
    secrets = [link.rpartition("/")[2], *ApiKey.objects.values_list("secret_hash", flat=True), cast.rex.password]
    secrets += [key.secret_hash for key in cast.device.keys.all()] + [str(PASSWORD)]
    assert [secret for secret in secrets if secret in page] == []
    names = {field.name: getattr(row, field.attname) for field in model._meta.fields}
    staff.post(address, dict.fromkeys(names, "changed"))
    again = model._default_manager.get(pk=row.pk)
    assert {field.name: getattr(again, field.attname) for field in model._meta.fields} == names


@pytest.mark.parametrize("table", TABLES)
def test_nothing_is_added_or_deleted_by_hand(staff: Client, cast: Cast, table: str) -> None:
    assert staff.get(reverse(f"admin:federations_{table}_add")).status_code == 403
    row = apps.get_model("federations", table)._default_manager.first()
    if row is not None:
        assert (
            staff.post(reverse(f"admin:federations_{table}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
        )


def test_suspending_and_reinstating_an_organization(staff: Client, cast: Cast) -> None:
    with recorded("organization.suspended", cast.acme.public_id):
        page = act(staff, "organization", "suspend", cast.acme.pk)
    assert "1 suspended." in page
    assert Organization.objects.get(pk=cast.acme.pk).suspended_at is not None
    with recorded("organization.reinstated", cast.acme.public_id):
        act(staff, "organization", "reinstate", cast.acme.pk)


def test_revoking_a_device_and_saying_what_cannot_be(staff: Client, cast: Cast) -> None:
    with recorded("device.revoked", cast.device.public_id):
        assert "1 revoked." in act(staff, "device", "revoke", cast.device.pk)
    assert "hospital-001 is revoked" in act(staff, "device", "revoke", cast.device.pk)
    assert Device.objects.get(pk=cast.device.pk).state == "revoked"


def test_revoking_a_key_and_locking_a_person_out(staff: Client, cast: Cast) -> None:
    with recorded("key.revoked"):
        act(staff, "apikey", "revoke", ApiKey.objects.get(person=cast.rex).pk)
    with recorded("person.deactivated", cast.rex.public_id):
        act(staff, "person", "deactivate", cast.rex.pk)
    with recorded("person.activated", cast.rex.public_id):
        act(staff, "person", "activate", cast.rex.pk)


def test_letters_and_deliveries_are_sent_again(staff: Client, cast: Cast) -> None:
    letter = Letter.objects.filter(sent_at=None).latest("pk")
    with recorded("letter.resent"):
        assert "1 due now." in act(staff, "letter", "send_now", letter.pk)
    hook = webhooks.add(cast.actor("olga"), cast.acme, "https://hooks.example/x", [])
    delivery = webhooks.test(cast.actor("olga"), hook)
    with recorded("webhook.redelivered", delivery.public_id):
        assert "1 on their way again." in act(staff, "delivery", "redeliver", delivery.pk)


ACTIONS = [(table, name) for table in admin.site._registry.values() for name in (table.actions or ())]


@pytest.mark.parametrize(
    ("table", "action"),
    ACTIONS,
    ids=lambda one: one.__class__.__name__ if not isinstance(one, str) else one,
)
def test_every_action_says_what_will_happen_and_does_nothing_before_a_yes(
    table: admin.ModelAdmin, action: str, staff: Client, cast: Cast
) -> None:
    row = table.model._default_manager.first()
    if row is None:
        pytest.skip("this story has no such row")
    before, rows = AuditEntry.objects.count(), list(table.model._default_manager.values())
    page = ask(staff, table.opts.label_lower.replace(".", "_"), action, row.pk)
    assert "Yes, do it" in page
    assert str(row) in html.unescape(page)
    assert AuditEntry.objects.count() == before
    assert list(table.model._default_manager.values()) == rows


def test_no_table_lets_anything_be_added_deleted_or_edited_and_all_are_searched_and_filtered() -> None:
    tables = admin.site._registry
    assert [table for table in tables.values() if not isinstance(table, Looking)] == []
    assert [table for table in tables.values() if not table.search_fields or not table.list_display] == []
    assert {action for table in tables.values() for action in (table.actions or ())} == {
        *("suspend", "reinstate", "deactivate", "activate", "revoke", "send_now", "redeliver"),
        *("cancel", "go_on", "requeue", "turn_second_factor_off"),
    }


def test_too_many_rows_at_once_are_refused(staff: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federations.admin.looking.MOST_ROWS", 1)
    address = reverse("admin:federations_organization_changelist")
    said = {"action": "suspend", "_selected_action": [cast.acme.pk, cast.metro.pk], "confirmed": "yes"}
    assert "at most 1 rows" in staff.post(address, said, follow=True).content.decode()
    assert not Organization.objects.exclude(suspended_at=None).exists()


def test_staff_without_the_right_to_a_table_do_not_see_it(cast: Cast) -> None:
    client = Client()
    person = Person.objects.create_user("helper@portal.example", PASSWORD, is_staff=True)
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get(reverse("admin:federations_device_changelist")).status_code == 403
    before = AuditEntry.objects.count()
    act(client, "device", "revoke", cast.device.pk)
    assert AuditEntry.objects.count() == before


def test_no_way_of_djangos_own_site_is_open_but_those_known() -> None:
    """Whatever a new Django adds is looked at before it is served: its own pages know no throttle and no audit log."""
    tables = {f"{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry}
    routes = {str(entry.pattern) for entry in admin.site.get_urls()} - tables
    assert {route for route in routes if not route.startswith("^")} == {
        "",
        "login/",  # answered by the portal's own sign-in
        "logout/",
        "password_change/",  # these two by the portal's own page
        "password_change/done/",
        "autocomplete/",
        "jsi18n/",
        "r/<path:content_type_id>/<path:object_id>/",
        "(?P<url>.*)$",
    }


@pytest.mark.parametrize("page", ["password_change", "password_change_done"])
def test_operators_change_their_password_where_everybody_does(staff: Client, cast: Cast, page: str) -> None:
    said = {"old_password": PASSWORD, "new_password1": "a new long password", "new_password2": "a new long password"}
    for answer in (staff.get(reverse(f"admin:{page}")), staff.post(reverse(f"admin:{page}"), said)):
        assert (answer.status_code, answer["Location"]) == (302, "/account/password")
    assert Person.objects.get(email="staff@portal.example").check_password(PASSWORD)


@pytest.mark.parametrize(
    ("table", "filter"),
    [
        ("federations_person", "password__startswith=argon"),
        ("federations_letter", "text__contains=http"),
        ("federations_apikey", "secret_hash__startswith=a"),
        ("federations_apikey", "person__password__startswith=argon"),
        ("usersessions_usersession", "session_key__startswith=a"),
        ("mfa_authenticator", "user__password__regex=."),
    ],
)
def test_what_is_hidden_cannot_be_asked_about_either(staff: Client, cast: Cast, table: str, filter: str) -> None:
    assert staff.get(f"{reverse(f'admin:{table}_changelist')}?{filter}").status_code == 400


def test_tables_are_still_filtered_by_what_they_show(staff: Client, cast: Cast) -> None:
    address = reverse("admin:federations_person_changelist")
    assert staff.get(f"{address}?is_active__exact=1").status_code == 200


def test_an_action_asks_again_who_one_is(staff: Client, cast: Cast) -> None:
    address = reverse("admin:federations_organization_changelist")
    said = {"action": "suspend", "_selected_action": [cast.acme.pk], "confirmed": "yes"}
    with clock.shifted(timedelta(seconds=confirming.LASTS)):
        answer = staff.post(address, said)
    assert answer.status_code == 302
    assert answer["Location"] == "/account/confirm?next=%2Fadmin%2Ffederations%2Forganization%2F"
    assert Organization.objects.get(pk=cast.acme.pk).suspended_at is None


def test_rows_are_viewed_and_not_changed(staff: Client, cast: Cast) -> None:
    shown = staff.get(reverse("admin:federations_organization_change", args=[cast.acme.pk])).content.decode()
    assert "View organization" in shown
    assert 'name="_save"' not in shown
    address = reverse("admin:federations_organization_change", args=[cast.acme.pk])
    assert staff.post(address, {"name": "other"}).status_code == 403
    start = staff.get("/admin/").content.decode()
    assert "changelink" not in start
    assert "viewlink" in start
    assert "Select run to view" in staff.get(reverse("admin:training_run_changelist")).content.decode()


def test_letters_come_newest_first(staff: Client) -> None:
    for to in ("first@x.example", "second@x.example"):
        Letter.objects.create(to=to, subject="x")
    shown = staff.get(reverse("admin:federations_letter_changelist")).content.decode()
    assert shown.index("second@x.example") < shown.index("first@x.example")


def test_the_state_of_a_run_stands_beside_its_id() -> None:
    shown = admin.site._registry[apps.get_model("training", "Run")].list_display
    assert shown[:2] == ("public_id", "state")


def test_operators_find_their_site_and_the_second_factor_by_links(cast: Cast) -> None:
    person = Person.objects.create_superuser("alone@portal.example", PASSWORD)
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    assert 'href="/admin/"' in client.get("/").content.decode()
    assert 'href="/admin/"' not in cast.browser("olga").get("/").content.decode()
    assert '<a href="/account/second-factor">Turn a second factor on</a>' in client.get("/admin/").content.decode()
