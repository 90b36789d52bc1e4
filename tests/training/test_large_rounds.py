"""A round of very many devices: counted by the database, told in few words, shown page by page."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import Device, DeviceKey
from federations.services import device_tasks
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from tests.training.conftest import Stage, current, rewind
from training import progress, tally
from training.models import Assignment
from training.services import opening, rounds, runs

MANY = 230


def crowd(stage: Stage, count: int, name: str = "d") -> None:
    """So many devices of metro that are there, made in one go."""
    metro = stage.cast.metro
    made = Device.objects.bulk_create(
        Device(
            organization=metro,
            identifier=f"{name}-{one:05}",
            public_id=f"dev_{name}{one:021}",
            last_seen_at=clock.now(),
        )
        for one in range(count)
    )
    DeviceKey.objects.bulk_create(
        DeviceKey(organization=metro, device=device, lookup=f"{device.pk:08}", secret_hash="-") for device in made
    )


def test_opening_asks_as_few_questions_of_many_as_of_few(stage: Stage) -> None:
    counts = []
    for name, more in (("a", 20), ("b", MANY)):
        crowd(stage, more, name)
        with CaptureQueriesContext(connection) as asked:
            run = stage.start(plan={"sample": 5, "quota": 1, "cap": 5})
        counts.append(len(asked))
        runs.stop(stage.olga, run)
    assert counts[1] <= counts[0]


def test_what_is_told_of_a_large_round_does_not_grow_with_it(stage: Stage) -> None:
    crowd(stage, MANY)
    run = stage.start()
    opened = run.events.get(kind="round.opened").data
    assert (opened["count"], len(opened["participants"])) == (MANY, opening.MOST_CARDS)
    assert progress.message(run.events.get(kind="round.opened"))["text"] == f"Round 1 began with {MANY} devices."
    rewind(run)
    rounds.settle(current(run).pk)
    closed = run.events.get(kind="assignments.closed")
    assert closed.data == {
        "number": 1,
        "attempt": 1,
        "count": MANY,
        "word": "dropped",
        "reason": "no answer until the deadline",
    }
    assert progress.message(closed)["text"] == f"{MANY} devices: dropped: no answer until the deadline."


def test_snapshot_counts_all_and_carries_some(stage: Stage) -> None:
    crowd(stage, MANY)
    run = stage.start()
    shown = stage.snapshot(run)
    assert len(shown["participants"]) == opening.MOST_CARDS
    assert shown["tally"] == {
        "total": MANY,
        "words": {"waiting": MANY},
        "groups": [{"name": "metro", "devices": MANY, "sent": 0, "working": MANY, "trouble": 0}],
    }


def test_stragglers_of_a_large_round_are_counted(stage: Stage) -> None:
    crowd(stage, MANY)
    run = stage.start()
    with clock.shifted(timedelta(seconds=30)):
        waiting = stage.snapshot(run)["round"]["waiting"]
    assert waiting["sentence"].startswith(
        "Waiting for d-00000 of metro, d-00001 of metro, d-00002 of metro, d-00003 of metro and 226 others until "
    )
    assert (waiting["need"], len(waiting["for"]), len(waiting["missing"])) == (MANY, 20, 20)


def test_pages_of_a_large_round_come_from_the_database_trouble_first(stage: Stage) -> None:
    crowd(stage, MANY)
    run = stage.start()
    last = Assignment.objects.order_by("-pk")[0]
    device_tasks.decline(last.device_id, last.task.public_id, json.dumps({"reason": "no power"}).encode())  # type: ignore[union-attr]
    browser = stage.cast.browser("olga")

    def names(query: str) -> tuple[list[str], dict[str, Any]]:
        answer = browser.get(f"/runs/{run.public_id}{query}")
        panel = answer.context["panel"]
        assert answer.context["live"]["snapshot"]["participants"] == panel["cards"]
        return [card["device"]["identifier"] for card in panel["cards"]], panel

    first, panel = names("")
    assert (first[:2], len(first), panel["last"]) == (["d-00229", "d-00000"], 24, 10)
    assert names("?devices=10")[0][-1] == "d-00228"
    assert names("?show=declined")[0] == ["d-00229"]
    assert panel["counts"] == [("declined", 1), ("waiting", 229)]
    found, panel = names("?find=D-002")
    assert (found[:2], len(found), panel["found"], panel["last"]) == (["d-00229", "d-00200"], 24, 30, 2)
    assert names("?find=d-002&devices=9")[0][-1] == "d-00228"
    assert names("?find=d-002&show=declined")[0] == ["d-00229"]
    assert names("?find=METRO")[1]["found"] == MANY
    answer = browser.get(f"/runs/{run.public_id}?find=nobody&show=waiting").content.decode()
    assert "No device that is waiting has “nobody” in its name." in answer
    assert 'href="?show=waiting&amp;find=nobody#devices"' in answer


def test_devices_of_a_small_round_are_found_by_name_and_organization(stage: Stage) -> None:
    stage.three()
    run = stage.start()

    def found(query: str) -> list[str]:
        panel = stage.cast.browser("olga").get(f"/runs/{run.public_id}?{query}").context["panel"]
        return [card["device"]["identifier"] for card in panel["cards"]]

    assert found("find=-1") == ["acme-1", "metro-1"]
    assert found("find=Acme") == ["acme-1", "acme-2"]
    assert found("find=metro&show=waiting") == ["metro-1"]
    assert found("find=metro&show=sent") == []


def test_every_word_of_a_card_is_the_word_of_the_tally(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=1, plan={"stragglers": "cut"}, rounds=1, config={"evaluate": False})
    refusal = FedportalError("field_invalid", field="samples", reason="there are none.")
    device_tasks.note_refused(sites[1].device.pk, sites[1].task.public_id, refusal)
    sites[2].take()
    shown = stage.snapshot(run)
    assert [card["word"] for card in shown["participants"]] == ["waiting", "refused", "training"]
    assert shown["tally"]["words"] == {"refused": 1, "training": 1, "waiting": 1}
    sites[0].answer()
    shown = stage.snapshot(run)
    assert [card["word"] for card in shown["participants"]] == ["sent", "not needed", "not needed"]
    assert tally.of(current(run).assignments.all()).words() == {"not needed": 2, "sent": 1}
    assert tally.of(current(run).assignments.all(), called_off=True).words() == {"called off": 2, "sent": 1}


def test_thousands_of_events_are_written_in_pieces(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_ROWS", 7)
    run = stage.start()
    before = run.events.count()
    with unit():
        progress.tell_all(run, [("round.failed", {"number": one}) for one in range(20)])
    rows = run.events.filter(kind="round.failed").order_by("sequence")
    assert [row.data["number"] for row in rows] == list(range(20))
    assert run.events.count() == before + 20
