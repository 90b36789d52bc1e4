"""The JSON doors: shapes as clients read them, strict bodies, pages, errors with a next step."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from federations.models import Device, Federation, Person
from federations.services import federations, organizations
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire import routes
from tests.cast import FEDERATION, PASSWORD, Cast, registration
from tests.federations.helpers import recorded, token_for

JSON = "application/json"


def send(client: Client, method: str, address: str, body: Any = None) -> Any:
    """Status and JSON."""
    response = client.generic(method, address, json.dumps(body) if body is not None else "", content_type=JSON)
    return response.status_code, response.json() if response.content else None


def get(client: Client, address: str) -> Any:
    status, answer = send(client, "GET", address)
    assert status == 200, answer
    return answer


def test_the_story_of_a_federation_over_http(cast: Cast) -> None:
    rex, olga = cast.client("rex"), cast.client("olga")
    status, circle = send(rex, "POST", routes.FEDERATIONS, {"name": "circle", "org_id": cast.rival.public_id})
    assert (status, circle["org_id"], circle["status"], circle["role"]) == (
        201,
        cast.rival.public_id,
        "active",
        "owner",
    )
    invite = routes.FEDERATION_INVITE.format(federation="circle")
    wanted = {"org_ids": [cast.acme.public_id], "emails": ["Gina@guest.example"]}
    status, done = send(rex, "POST", invite, wanted)
    assert (status, [(item["name"], item["status"]) for item in done["invited"]]) == (
        201,
        [("acme", "invited"), ("gina@guest.example", "pending")],
    )
    assert done["invited"][1]["link"].endswith(token_for("gina@guest.example"))
    assert [item["name"] for item in get(olga, routes.FEDERATIONS + "?name=circle")] == ["circle"]
    status, joined = send(
        olga, "POST", routes.FEDERATION_JOIN.format(federation="circle"), {"org_id": cast.acme.public_id}
    )
    assert (status, joined["status"], joined["joined_at"] is not None) == (200, "active", True)
    roster = get(rex, routes.FEDERATION_MEMBERS.format(federation=circle["id"]))
    assert [(line["name"], line["role"], line["status"]) for line in roster] == [
        ("rival", "owner", "active"),
        ("acme", "member", "active"),
        ("gina@guest.example", "invited", "pending"),
    ]
    # A member sees who is in, not which addresses were invited.
    assert [line["name"] for line in get(olga, routes.FEDERATION_MEMBERS.format(federation="circle"))] == [
        "rival",
        "acme",
    ]
    assert send(olga, "POST", routes.FEDERATION_LEAVE.format(federation="circle"), {})[1]["status"] == "left"


def test_lists_of_federations_are_bare_and_say_their_length(cast: Cast) -> None:
    response = cast.client("mia").get(routes.FEDERATIONS)
    assert response.headers["X-Total-Count"] == "1"
    (one,) = response.json()
    assert set(one) >= {"id", "name", "description", "org_id", "created_at", "status"}
    assert (one["role"], one["status"], one["members"]) == ("member", "active", 2)


def test_a_key_speaks_for_its_own_organization_only(cast: Cast) -> None:
    for method, address, body in (
        ("GET", f"{routes.FEDERATIONS}?org_id={cast.acme.public_id}", None),
        ("POST", routes.FEDERATIONS, {"name": "x", "org_id": cast.acme.public_id}),
        ("POST", routes.FEDERATION_JOIN.format(federation=FEDERATION), {"org_id": cast.acme.public_id}),
        ("POST", routes.DEVICE_REGISTER, {**registration(cast.keys["mia"], "x"), "org_id": cast.acme.public_id}),
    ):
        status, answer = send(cast.client("mia"), method, address, body)
        assert (status, answer["error"]) == (403, "organization_mismatch")


def test_ambiguous_names_come_with_the_ids_to_choose_from(cast: Cast) -> None:
    for owner in ("rex", "vera"):
        other = federations.found(cast.actor(owner), name="twice")
        federations.invite(cast.actor(owner), other, org_ids=[cast.metro.public_id])
    status, answer = send(cast.client("mia"), "GET", routes.FEDERATION.format(federation="twice"))
    assert (status, answer["error"]) == (409, "ambiguous_name")
    for federation in Federation.objects.filter(name="twice"):
        assert federation.public_id in answer["message"]


def test_names_with_spaces_work_in_addresses(cast: Cast) -> None:
    federations.found(cast.actor("olga"), name="Röntgen im Süden 2.0")
    assert get(cast.client("olga"), "/api/v1/federations/R%C3%B6ntgen%20im%20S%C3%BCden%202.0")["name"].startswith("R")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": True}, "name"),
        ({"name": None}, "name"),
        ({"name": ["x"]}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x", "description": {}}, "description"),
        ({"name": "x", "members_may_start_runs": "true"}, "members_may_start_runs"),
        ({"name": "x", "members_may_start_runs": 1}, "members_may_start_runs"),
        ({"name": "x", "description": "y" * 5001}, "description"),
    ],
)
def test_a_wrong_field_is_named(cast: Cast, body: Any, field: str) -> None:
    status, answer = send(cast.client("olga"), "POST", routes.FEDERATIONS, body)
    assert (status, answer["error"], answer["context"]["field"]) == (400, "field_invalid", field)
    assert answer["next_step"]


@pytest.mark.parametrize("raw", ["[]", '"x"', "{", "NaN", "\xff", "7", "null"])
def test_a_body_that_is_no_object_is_refused(cast: Cast, raw: str) -> None:
    response = cast.client("olga").generic("POST", routes.FEDERATIONS, raw.encode("latin-1"), content_type=JSON)
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


def test_unknown_fields_are_ignored_and_only_the_listed_ones_are_written(cast: Cast) -> None:
    """Mass assignment: whatever else is posted, it changes nothing."""
    every = {field.name: "x" for field in Federation._meta.fields} | {"pk": 1, "organization_id": 1, "is_staff": True}
    body = {**every, "name": "fresh", "description": "d", "members_may_start_runs": False}
    body.pop("org_id", None)
    status, answer = send(cast.client("olga"), "POST", routes.FEDERATIONS, body)
    assert (status, answer["org_id"], answer["dissolved_at"]) == (201, cast.acme.public_id, None)
    address = routes.FEDERATION.format(federation="fresh")
    status, changed = send(
        cast.client("olga"), "PATCH", address, {**every, "name": "fresh", "members_may_start_runs": True}
    )
    assert (status, changed["id"], changed["org_id"]) == (200, answer["id"], cast.acme.public_id)


@pytest.mark.parametrize("text", ["abc", "-1", "0", "1.5", "١", "99999999999"])
def test_a_page_needs_whole_numbers(cast: Cast, text: str) -> None:
    status, answer = send(cast.client("olga"), "GET", f"{routes.DEVICES}?limit={text}")
    assert (status, answer["context"]["field"]) == (400, "limit")


def test_pages_have_at_most_two_hundred_rows_and_no_query_per_row(
    cast: Cast, django_assert_max_num_queries: Any
) -> None:
    Device.objects.bulk_create(
        Device(organization=cast.metro, identifier=f"d{number:04}", public_key="ab" * 32) for number in range(300)
    )
    client = cast.client("mia")
    with django_assert_max_num_queries(12):
        page = get(client, f"{routes.DEVICES}?limit=1000")
    assert (len(page["devices"]), page["total"]) == (200, 301)
    assert len(get(client, f"{routes.DEVICES}?limit=200&offset=200")["devices"]) == 101
    assert len(get(client, routes.DEVICES)["devices"]) == 50


def test_no_list_asks_once_per_row(cast: Cast) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    addresses = [
        routes.FEDERATIONS,
        routes.FEDERATION_MEMBERS.format(federation=FEDERATION),
        routes.FEDERATION_INVITATIONS.format(federation=FEDERATION),
        routes.ORG_MEMBERS.format(org=cast.acme.public_id),
        routes.ORG_AUDIT.format(org=cast.acme.public_id),
        routes.API_KEYS,
        routes.DEVICES,
    ]

    def counts() -> list[int]:
        found = []
        for address in addresses:
            with CaptureQueriesContext(connection) as queries:
                get(cast.client("olga"), address)
            found.append(len(queries))
        return found

    Device.objects.create(organization=cast.acme, identifier="first", public_key="")
    counts()
    before = counts()
    for number in range(5):
        federation = federations.found(cast.actor("olga"), name=f"more {number}")
        organization = organizations.found(f"more {number}", cast.rex)
        federations.invite(cast.actor("olga"), cast.federation, org_ids=[organization.public_id])
        federations.invite(cast.actor("olga"), cast.federation, emails=[f"p{number}@x.example"])
        with unit():
            person = Person.objects.create_user(f"c{number}@acme.example", PASSWORD)
            organizations.enter(cast.acme, person, "viewer")  # type: ignore[arg-type]
        cast.key_for(person, cast.acme, ["*"])
        Device.objects.create(organization=cast.acme, identifier=f"d{number}", public_key="")
        assert federation.members.count() == 1
    assert counts() == before


def test_whoami_names_person_organization_role_and_key(cast: Cast) -> None:
    answer = get(cast.client("otto"), routes.WHOAMI)
    assert answer["person"] == {"id": cast.otto.public_id, "email": "otto@acme.example", "name": "Otto"}
    assert answer["organization"] == {"id": cast.acme.public_id, "name": "acme", "role": "viewer"}
    assert answer["key"]["scopes"] == ["*"]
    assert get(cast.browser("otto"), routes.WHOAMI)["key"] is None


def test_a_person_in_two_organizations_chooses_in_the_browser(cast: Cast) -> None:
    labs = organizations.found("labs", cast.olga)
    browser = cast.browser("olga")
    assert get(browser, routes.WHOAMI)["organization"]["name"] == "acme"
    session = browser.session
    session["organization"] = labs.public_id
    session.save()
    assert get(browser, routes.WHOAMI)["organization"]["name"] == "labs"
    assert get(browser, routes.FEDERATIONS) == []
    session["organization"] = cast.rival.public_id  # not hers
    session.save()
    assert get(browser, routes.WHOAMI)["organization"]["name"] == "acme"


def test_the_team_over_http(cast: Cast) -> None:
    address = routes.ORG_MEMBERS.format(org="acme")
    status, invited = send(
        cast.client("olga"), "POST", address, {"email": "nia@acme.example", "role": "data_scientist"}
    )
    assert (status, invited["role"], invited["status"]) == (201, "data_scientist", "pending")
    team = get(cast.client("olga"), address)
    assert [(one["email"], one["role"]) for one in team["members"]] == [
        ("olga@acme.example", "owner"),
        ("otto@acme.example", "viewer"),
    ]
    assert [one["email"] for one in team["invitations"]] == ["nia@acme.example"]
    assert get(cast.client("otto"), address)["invitations"] == []
    status, changed = send(cast.client("olga"), "PATCH", f"{address}/{cast.otto.public_id}", {"role": "auditor"})
    assert (status, changed["role"]) == (200, "auditor")
    assert send(cast.client("olga"), "PATCH", f"{address}/{cast.otto.public_id}", {"role": "king"})[0] == 400
    assert send(cast.client("olga"), "DELETE", f"{address}/{cast.otto.public_id}") == (204, None)


def test_links_are_shown_only_where_no_mail_server_is_set_up(cast: Cast, settings: Any) -> None:
    settings.FEDPORTAL_EMAIL_URL = "smtp://mail.example"
    address = routes.ORG_MEMBERS.format(org="acme")
    assert send(cast.client("olga"), "POST", address, {"email": "nia@acme.example"})[1]["link"] is None
    invite = routes.FEDERATION_INVITE.format(federation=FEDERATION)
    assert send(cast.client("olga"), "POST", invite, {"emails": ["a@x.example"]})[1]["invited"][0]["link"] is None


def test_a_key_is_shown_once(cast: Cast) -> None:
    later = (clock.now() + timedelta(days=30)).isoformat()
    body = {"name": "enrolment", "scopes": ["devices:enroll"], "device_limit": 3, "expires_at": later}
    with recorded("key.created"):
        status, made = send(cast.client("olga"), "POST", routes.API_KEYS, body)
    assert (status, made["scopes"], made["device_limit"]) == (201, ["devices:enroll"], 3)
    secret = made["key"].split("_")[2]
    assert secret not in json.dumps(get(cast.client("olga"), routes.API_KEYS))
    assert send(cast.client("olga"), "POST", routes.API_KEY_REVOKE.format(key=made["id"]))[1]["revoked_at"]
    from tests.cast import client_with

    status, answer = send(client_with(made["key"]), "GET", routes.WHOAMI)
    assert (status, answer["error"]) == (401, "key_revoked")


def test_everybody_sees_their_own_keys_and_admins_all(cast: Cast) -> None:
    assert get(cast.client("olga"), routes.API_KEYS)["total"] == 2
    assert get(cast.client("otto"), routes.API_KEYS)["total"] == 1


def test_a_device_over_http(cast: Cast) -> None:
    said = registration(cast.keys["olga"], "scanner-7", capabilities={"cpus": 4}, groups=["production"])
    status, made = send(cast.client("olga"), "POST", routes.DEVICE_REGISTER, said)
    assert (status, set(made)) == (
        201,
        {*("id", "device_identifier", "org_id", "device_key", "key_expires_at", "server_time")},
    )
    from tests.cast import client_with

    device = client_with(made["device_key"])
    beat = routes.DEVICE_HEARTBEAT.format(device=made["id"])
    assert send(device, "POST", beat, {"os_version": "6.1"})[1]["status"] == "active"
    shown = get(cast.client("otto"), routes.DEVICE.format(device="scanner-7"))
    assert (shown["present"], shown["groups"], shown["os_version"]) == (True, ["production"], "6.1")
    assert get(cast.client("olga"), f"{routes.DEVICES}?group=production&status=active")["total"] == 1
    assert get(cast.client("olga"), f"{routes.DEVICES}?group=pilot")["total"] == 0
    assert (
        send(cast.client("olga"), "POST", routes.DEVICE.format(device=made["id"]) + "/revoke")[1]["status"] == "revoked"
    )
    status, answer = send(device, "POST", beat, {})
    assert (status, answer["error"]) == (403, "device_inactive")


def test_a_devices_key_opens_its_own_doors_only(cast: Cast) -> None:
    status, answer = send(cast.client("device"), "GET", routes.FEDERATIONS)
    assert (status, answer["error"]) == (403, "forbidden")
    assert "API key" in answer["next_step"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic abc", "key_invalid"),
        ("Bearer", "key_invalid"),
        ("Bearer ", "key_invalid"),
        ("Bearer nonsense", "key_invalid"),
        ("Bearer " + "x" * 5000, "key_invalid"),
        ("", "not_authenticated"),
    ],
)
def test_credentials_that_are_none(cast: Cast, header: str, code: str) -> None:
    response = Client(headers={"Authorization": header} if header else {}).get(routes.WHOAMI)
    assert (response.status_code, response.json()["error"]) == (401, code)
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_every_error_has_all_its_parts(cast: Cast) -> None:
    status, answer = send(cast.client("otto"), "POST", routes.FEDERATION_INVITE.format(federation=FEDERATION), {})
    assert status == 403
    assert answer == {
        "error": "forbidden",
        "message": "You may not invite to this federation here.",
        "detail": "You may not invite to this federation here.",
        "next_step": "An owner or an admin of acme may do this.",
        "status_code": 403,
        "context": {"action": "invite to this federation", "who": "An owner or an admin of acme may do this."},
    }


def test_a_method_that_is_not_answered(cast: Cast) -> None:
    status, answer = send(cast.client("olga"), "PUT", routes.FEDERATIONS, {})
    assert (status, answer["error"], answer["message"]) == (
        405,
        "method_not_allowed",
        "This address does not answer PUT.",
    )


def test_what_nobody_foresaw_has_a_reference_and_no_details(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr("federations.selectors.memberships_of", broken)
    status, answer = send(cast.client("olga"), "GET", routes.WHOAMI)
    assert (status, answer["error"]) == (500, "internal")
    assert "hunter2" not in json.dumps(answer)
    assert len(answer["context"]["reference"]) == 12


def test_the_audit_log_is_read_newest_first_by_who_may(cast: Cast) -> None:
    log = get(cast.client("olga"), routes.ORG_AUDIT.format(org="acme"))
    assert log["entries"][0]["action"] == "federation.invited"
    assert log["entries"][-1]["action"] == "organization.founded"
    assert log["total"] == len(log["entries"])
    assert log["entries"][0]["previous_hash"] == log["entries"][1]["hash"]


def test_answers_keep_the_shape_that_the_schema_promises(cast: Cast) -> None:
    import yaml
    from django.core.management import call_command

    schema = yaml.safe_load(Client().get("/api/schema").content)
    shapes = schema["components"]["schemas"]
    for address, shape, pick in (
        (routes.FEDERATIONS, "Federation", lambda answer: answer[0]),
        (routes.FEDERATION_MEMBERS.format(federation=FEDERATION), "Place", lambda answer: answer[0]),
        (routes.DEVICES, "Device", lambda answer: answer["devices"][0]),
        (routes.API_KEYS, "Key", lambda answer: answer["keys"][0]),
        (routes.ORG_MEMBERS.format(org="metro"), "Colleague", lambda answer: answer["members"][0]),
        (routes.ORG_AUDIT.format(org="metro"), "Audit", lambda answer: answer["entries"][0]),
        (routes.WHOAMI, "Whoami", lambda answer: answer),
    ):
        promised = next(shapes[name] for name in (shape, f"{shape}Shape") if name in shapes)
        assert set(pick(get(cast.client("mia"), address))) == set(promised["properties"]), shape
    call_command("spectacular", validate=True, file="/dev/null")
