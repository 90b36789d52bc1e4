"""The parts that all pages share: times, breadcrumbs, fields with their errors, menus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.template import Context, Template

from federations.models import Role
from federations.services import organizations
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from tests.cast import Cast
from training.wording import span

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def rendered(text: str, **values: Any) -> str:
    return Template(text).render(Context(values))


@pytest.mark.parametrize(
    ("shown", "attributes", "words"),
    [
        ("", "", "4 Mar 2026 05:06 UTC"),
        ("ago", ' data-ago tabindex="0"', "4 Mar 2026 05:06 UTC"),
        ("clock", " data-clock", "05:06:07 UTC"),
        ("day", " data-day", "4 Mar 2026"),
    ],
)
def test_a_time_without_javascript_names_its_zone(shown: str, attributes: str, words: str) -> None:
    expected = f'<time datetime="2026-03-04T05:06:07Z"{attributes}>{words}</time>'
    assert rendered("{% time at shown %}", at=MOMENT, shown=shown) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "less than a second"),
        (12, "12 s"),
        (600, "10 min"),
        (7500, "2 h 5 min"),
        (86400, "1 day"),
        (176400, "2 days 1 h"),
    ],
)
def test_a_span_is_said_by_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_time_of_another_zone_and_of_json_is_shown_in_utc() -> None:
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert rendered("{% time at %}", at=elsewhere) == rendered("{% time at %}", at=MOMENT.isoformat())


def test_no_time_says_so_in_the_words_of_the_page() -> None:
    assert rendered("{% time at %}", at=None) == '<span class="soft">never</span>'
    assert rendered('{% time at empty="not yet" %}', at=None) == '<span class="soft">not yet</span>'


def test_breadcrumbs_lead_back_and_escape_names() -> None:
    page = rendered('{% crumbs "Models" "/models" name "/models/mdl_1" %}', name="<b>")
    assert page.index('<a href="/models">Models</a>') < page.index('<a href="/models/mdl_1">&lt;b&gt;</a>')
    assert 'aria-label="Where you are"' in page


FIELD = '{% include "parts/field.html" with name="rounds" label="Rounds" value=value help="1 to 9." %}'


def test_a_field_stands_with_its_label_and_help() -> None:
    page = rendered(FIELD, value="3")
    assert '<label for="rounds">Rounds</label>' in page
    assert 'aria-describedby="rounds-help"' in page
    assert 'aria-invalid="true"' not in page


def test_an_error_stands_beside_the_field_it_names_and_no_other() -> None:
    error = FedportalError("field_invalid", field="rounds", reason="it must be 1 to 9.")
    page = rendered(FIELD, value="<", error=error)
    assert 'value="&lt;"' in page
    assert 'aria-invalid="true" aria-describedby="rounds-error rounds-help"' in page
    assert '<p class="error" id="rounds-error">It must be 1 to 9.</p>' in page
    other = FedportalError("field_invalid", field="epochs", reason="it must be 1 to 9.")
    assert "rounds-error" not in rendered(FIELD, value="3", error=other)


def test_the_account_menu_says_what_one_is_and_where_one_can_act(cast: Cast) -> None:
    page = cast.browser("otto").get("/").content.decode()
    assert "Viewer of acme" in page
    assert "Act for another organization" not in page
    with unit():
        organizations.enter(cast.metro, cast.otto, Role.VIEWER)
    page = cast.browser("otto").get("/").content.decode()
    assert "Act for another organization" in page
    assert f'value="{cast.metro.public_id}">metro' in page
