"""The pages of people and of the policy: who is here, who may what, and what each limit means."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations import roles
from federations.models import AuditEntry, Membership, Organization, Person, Policy, Role
from federations.services import organizations, people, policies
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import confirmed
from tests.web.test_pages import text_of

LIMITS: dict[str, Any] = {"least_records": "50", "least_devices": "2", "residency": "EU", "rollback_error_rate": "0.05"}


def browser_of(person: Person) -> Client:
    browser = Client()
    browser.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def crowd(cast: Cast, count: int) -> None:
    for number in range(count):
        newcomer = people.prepare(f"p{number:02d}@acme.example", PASSWORD, f"Person {number:02d}")
        with unit():
            organizations.enter(cast.acme, people.admit(newcomer), Role.VIEWER)


def test_people_are_shown_with_role_and_last_sign_in_and_found(cast: Cast) -> None:
    browser = cast.browser("olga")
    page = text_of(browser, "/team")
    assert "olga@acme.example" in page
    assert "never here" in page  # otto
    assert "Second factor" in page
    assert "Otto" in text_of(browser, "/team?text=otto@")
    assert "olga@" not in text_of(browser, "/team?text=otto@")
    assert "Otto" in text_of(browser, "/team?text=Viewer")
    assert "Nobody like this" in text_of(browser, "/team?text=zz")


def test_thirty_people_cost_as_many_queries_as_three(cast: Cast) -> None:
    browser = cast.browser("olga")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            browser.get("/team")
        return len(asked)

    queries()
    few = queries()
    crowd(cast, 30)
    assert queries() == few
    assert "Page 1 of 2" in browser.get("/team").content.decode()


def test_a_viewer_sees_colleagues_and_who_may_change_them(cast: Cast) -> None:
    page = cast.browser("otto").get("/team").content.decode()
    assert "Invite a colleague" not in page
    assert "/role" not in page.partition("<main")[2].replace("/team/roles", "")
    assert "Second factor" not in page
    assert "An owner or an admin of acme may do this." in page
    assert f"/team/{cast.otto.public_id}/remove" in page  # he may leave


def test_an_admin_is_not_offered_what_is_above_an_admin(cast: Cast) -> None:
    page = browser_of(cast.colleague(cast.acme, Role.ADMIN)).get("/team").content.decode()
    assert 'value="owner"' not in page
    assert f"/team/{cast.olga.public_id}/remove" not in page
    assert "Transfer ownership" not in page


def test_an_invitation_explains_every_role(cast: Cast) -> None:
    page = text_of(cast.browser("olga"), "/team")
    for about in roles.ABOUT.values():
        assert about in page
    answer = cast.browser("olga").post("/team", {"email": "new@acme.example", "role": "auditor"}, follow=True)
    assert "Whoever accepts it is auditor here." in answer.content.decode()


def test_a_role_is_changed_on_the_page(cast: Cast) -> None:
    answer = cast.browser("olga").post(f"/team/{cast.otto.public_id}/role", {"role": "privacy_officer"}, follow=True)
    assert "Otto is now privacy officer." in answer.content.decode()
    assert cast.browser("otto").get("/audit").status_code == 200


def test_only_those_tabs_are_shown_that_one_may_open(cast: Cast) -> None:
    def tabs(browser: Client) -> list[str]:
        shown = browser.get("/team").content.decode().partition('aria-label="Organization"')[2].partition("</nav>")[0]
        found = re.findall(r'href="([^"]+)"', shown)
        assert [browser.get(address).status_code for address in found] == [200] * len(found)
        return found

    assert tabs(cast.browser("otto")) == ["/team", "/policy", "/budget", "/keys"]
    assert tabs(cast.browser("olga")) == ["/team", "/policy", "/budget", "/keys", "/webhooks", "/audit"]
    officer = browser_of(cast.colleague(cast.acme, Role.PRIVACY_OFFICER))
    assert tabs(officer) == ["/team", "/policy", "/budget", "/keys", "/audit"]


def test_the_only_owner_is_not_offered_to_leave(cast: Cast) -> None:
    leave = f"/team/{cast.olga.public_id}/remove"
    page = cast.browser("olga").get("/team").content.decode()
    assert leave not in page
    assert "To leave, transfer the ownership first" in page
    cast.colleague(cast.acme, Role.OWNER)
    page = cast.browser("olga").get("/team").content.decode()
    assert leave in page
    assert "To leave" not in page


def test_the_last_owner_cannot_leave_and_is_told_how(cast: Cast) -> None:
    page = text_of(cast.browser("olga"), f"/team/{cast.olga.public_id}/remove", 409)
    assert "at least one owner" in page
    assert "Transfer the ownership" in page


def test_who_may_not_remove_a_colleague_is_not_asked_whether_to(cast: Cast) -> None:
    assert cast.browser("otto").get(f"/team/{cast.olga.public_id}/remove").status_code == 403


@pytest.mark.parametrize("page", ["/team", "/policy"])
def test_a_suspended_organization_reads_nothing_of_its_own(cast: Cast, page: str) -> None:
    browser = cast.browser("olga")
    assert browser.get(page).status_code == 200
    Organization.objects.filter(pk=cast.acme.pk).update(suspended_at=clock.now())
    assert "suspended" in text_of(browser, page, FedportalError("organization_suspended").status)


def test_ownership_is_transferred_after_a_question(cast: Cast) -> None:
    browser, where = cast.browser("olga"), f"/team/{cast.otto.public_id}/transfer"
    assert f'href="{where}"' in browser.get("/team").content.decode()
    answer = browser.post(where)  # first one shows again who one is
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/account/confirm")
    assert Membership.objects.get(organization=cast.acme, role=Role.OWNER).person == cast.olga
    confirmed(browser)
    question = text_of(browser, where)
    assert "Otto becomes owner of acme, and you become admin" in question
    answer = browser.post(where, follow=True)
    assert "Otto is now owner of acme, and you are admin." in answer.content.decode()
    assert browser.get(where).status_code == 403
    leaving = text_of(browser, f"/team/{cast.olga.public_id}/remove")
    assert "Leave acme?" in leaving
    assert "your keys for it end at once" in leaving
    assert Membership.objects.filter(organization=cast.acme, role=Role.OWNER).count() == 1


def test_the_organization_is_renamed_and_a_bad_name_keeps_what_was_typed(cast: Cast) -> None:
    browser = cast.browser("olga")
    taken = browser.post("/team/name", {"name": "metro"})
    assert taken.status_code == 409
    assert 'value="metro"' in taken.content.decode()
    assert "acme hospitals" in browser.post("/team/name", {"name": "acme hospitals"}, follow=True).content.decode()


def test_who_can_do_what_is_the_table_of_roles(cast: Cast) -> None:
    page = cast.browser("otto").get("/team/roles").content.decode()
    first = page.partition("In your organization")[2].partition("</table>")[0]
    for action, allowed in roles.ORGANIZATION.items():
        words = roles.WORDS[action]
        row = first.partition(f">{words[0].upper()}{words[1:].replace(chr(39), '&#x27;')}</th>")[2].partition("</tr>")[
            0
        ]
        assert row.count('class="yes"') == len(allowed), action
    assert "Otto" in page.partition("What it is for")[2]
    why = text_of(cast.browser("otto"), "/team/roles").partition("Why can't I")[2]
    why = why or text_of(cast.browser("otto"), "/team/roles").partition("Why can&#x27;t I")[2]
    assert "change the policy? An owner or a privacy officer may do this." in why


def test_the_policy_is_set_and_its_history_is_told(cast: Cast) -> None:
    browser = cast.browser("mia")
    assert "limit nothing" in text_of(browser, "/policy")
    answer = browser.post("/policy", {**LIMITS, "privacy_epsilon": "4,0", "privacy_delta": "0.00001"}, follow=True)
    assert "The policy is set." in answer.content.decode()
    policy = Policy.objects.get(organization=cast.metro)
    assert (policy.least_records, policy.least_devices, policy.privacy_epsilon) == (50, 2, 4.0)
    assert (policy.allowed_strategies, policy.auto_rollback, policy.device_key_days) == ([], False, None)
    page = text_of(browser, "/policy")
    assert "Mia" in page
    assert "Fewest rows of a device: 50 (before: none)" in page
    assert "Privacy budget δ: 0.00001 (before: none)" in page


def test_a_preview_shows_and_stores_nothing(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    page = cast.browser("mia").post("/policy", {**LIMITS, "act": "preview"}).content.decode()
    assert "What you are about to set" in page
    assert "Fewest rows of a device" in page
    assert 'value="50"' in page
    assert (Policy.objects.count(), AuditEntry.objects.count()) == (0, before)


@pytest.mark.parametrize(
    ("field", "value"),
    [("least_records", "many"), ("privacy_epsilon", "x"), ("privacy_epsilon", "-1"), ("device_key_days", "0")],
)
def test_a_limit_that_is_none_is_said_beside_its_field_and_nothing_is_set(cast: Cast, field: str, value: str) -> None:
    answer = cast.browser("mia").post("/policy", {**LIMITS, field: value})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert f'id="{field}-error"' in page
    assert f'value="{value}"' in page
    assert not Policy.objects.exists()


def test_each_limit_says_what_it_does_today_and_what_not(cast: Cast) -> None:
    page = text_of(cast.browser("mia"), "/policy")
    budget = re.search(r"Privacy budget ε(.*?)Privacy budget δ", page)
    assert budget
    assert "Holds" in budget[1]
    assert "Runs without noise promise nothing and spend nothing" in budget[1]
    assert page.count("Holds") == 8
    assert "returns to what it had before" in page


def test_who_may_not_set_the_policy_reads_it_and_who_may(cast: Cast) -> None:
    policies.change(cast.actor("olga"), cast.acme, least_records=25)
    page = cast.browser("otto").get("/policy").content.decode()
    assert 'value="25"' in page
    assert page.count('<fieldset class="card" disabled>') == 4
    assert "Set the policy" not in page
    assert "An owner or a privacy officer of acme may do this." in page
    assert "(before:" not in page  # the log is not for viewers
    assert cast.browser("otto").post("/policy", LIMITS).status_code == 403


def test_strategies_are_called_as_in_the_form_that_starts_a_run(cast: Cast) -> None:
    page = text_of(cast.browser("mia"), "/policy")
    assert "Federated averaging" in page
    assert "fedavg" not in page
    assert "Your devices take part in every run that is going on in your federations" in page
    policies.change(cast.actor("mia"), cast.metro, allowed_strategies=["fedavg"])
    assert "Allowed strategies: Federated averaging (before: all)" in text_of(cast.browser("mia"), "/policy")
