"""Who watches a run gets a snapshot, then every message once and in order; who may not, learns nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.sessions.models import Session

from federations.models import ApiKey, Person
from federations.services import federations
from fedportal.common import clock
from tests.live.conftest import Watch, Watcher
from tests.training.conftest import Stage
from training import consumers, progress, selectors, standing
from training.models import RunEvent
from training.services import runs

NOWHERE = "run_00000000000000000000"


async def test_a_snapshot_comes_first_and_then_every_message_in_order(watch: Watch, stage: Stage) -> None:
    sites = await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start, rounds=2)
    watcher = watch(run.public_id, "olga")
    first = await watcher.arrive()
    assert first["kind"] == "snapshot"
    assert first["sequence"] == first["data"]["sequence"]
    assert first["data"]["run"]["id"] == run.public_id

    def train() -> None:
        while sites[0].tasks():
            for site in sites:
                site.answer()

    await asyncio.to_thread(train)
    heard = await watcher.hear_until("run.completed")
    numbers = [message["sequence"] for message in heard]
    assert sorted(numbers) == list(range(first["sequence"] + 1, first["sequence"] + 1 + len(numbers)))
    assert numbers == sorted(numbers)
    kinds = [message["kind"] for message in heard]
    assert kinds.count("round.done") == 3  # two that train, one that measures
    assert heard[-1]["data"]["version"] == "2.0.0"


async def test_what_was_missed_is_told_when_asked(watch: Watch, stage: Stage) -> None:
    await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "mia")
    first = await watcher.arrive()
    await watcher.ask({"ask": "since", "sequence": 0})
    again = [await watcher.hear() for _ in range(first["sequence"])]
    assert [message["sequence"] for message in again] == list(range(1, first["sequence"] + 1))
    stored = await asyncio.to_thread(lambda: progress.since(run.pk, 0))
    assert again == stored


async def test_who_missed_too_much_gets_a_snapshot(watch: Watch, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "olga")
    await watcher.arrive()
    since = progress.since
    monkeypatch.setattr(progress, "since", lambda pk, sequence: since(pk, sequence, most=0))
    await watcher.ask({"ask": "since", "sequence": 0})
    assert (await watcher.hear())["kind"] == "snapshot"


async def test_who_is_waited_for_is_told_when_asked_for_the_clock_has_no_messages(watch: Watch, stage: Stage) -> None:
    sites = await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "olga")
    assert (await watcher.arrive())["data"]["round"]["waiting"] is None
    await asyncio.to_thread(sites[0].answer)
    heard = (await watcher.hear_until("assignment.changed"))[-1]
    with clock.shifted(standing.PATIENCE):
        await watcher.ask({"ask": "snapshot"})
        told = await watcher.hear_until("snapshot")
    assert told[-1]["sequence"] >= heard["sequence"]
    for site in sites[1:]:
        assert site.device.identifier in told[-1]["data"]["round"]["waiting"]["sentence"]


async def test_the_command_line_watches_with_its_key(watch: Watch, stage: Stage) -> None:
    run = await asyncio.to_thread(stage.start)
    assert (await watch(run.public_id, "otto", key=True).arrive())["kind"] == "snapshot"


@pytest.mark.parametrize("name", ["rex", "vera"])
async def test_strangers_cannot_tell_a_foreign_run_from_a_missing_one(name: str, watch: Watch, stage: Stage) -> None:
    run = await asyncio.to_thread(stage.start)
    assert await watch(run.public_id, name).arrive() == await watch(NOWHERE, name).arrive() == {"closed": 4404}


async def test_without_a_session_the_socket_closes(watch: Watch, stage: Stage) -> None:
    run = await asyncio.to_thread(stage.start)
    assert await watch(run.public_id).arrive() == {"closed": 4401}


@pytest.mark.django_db(transaction=True)
async def test_other_addresses_have_no_socket() -> None:
    assert await Watcher("/ws/federations/x", []).arrive() == {"closed": 4404}


NO_QUESTION = [
    "nonsense",
    "[]",
    '{"ask": "all"}',
    '{"ask": "snapshot", "of": "all"}',
    '{"ask": "since", "sequence": -1}',
    "9" * 70_000,
]


@pytest.mark.parametrize("words", NO_QUESTION, ids=range(len(NO_QUESTION)))
async def test_anything_but_a_question_ends_the_connection(words: str, watch: Watch, stage: Stage) -> None:
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "olga")
    await watcher.arrive()
    await watcher.ask(words)
    assert await watcher.hear() == {"closed": 4429}


async def test_too_many_questions_end_the_connection(watch: Watch, stage: Stage) -> None:
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "olga")
    last = (await watcher.arrive())["sequence"]
    for _ in range(consumers.MOST_ASKS + 1):
        await watcher.ask({"ask": "since", "sequence": last})
    assert await watcher.hear() == {"closed": 4429}


async def _put_out_person(stage: Stage) -> None:
    await asyncio.to_thread(lambda: Person.objects.filter(pk=stage.cast.mia.pk).update(is_active=False))


async def _change_password(stage: Stage) -> None:
    await asyncio.to_thread(lambda: Person.objects.filter(pk=stage.cast.mia.pk).update(password="another"))


async def _suspend_member(stage: Stage) -> None:
    await asyncio.to_thread(lambda: federations.suspend(stage.olga, stage.cast.federation, stage.cast.metro))


async def _sign_out_elsewhere(stage: Stage) -> None:
    def act() -> None:
        browser = stage.cast.browser("mia")  # another one; the watching browser is put out
        session = browser.cookies["sessionid"].value
        Session.objects.exclude(session_key=session).delete()

    await asyncio.to_thread(act)


@pytest.mark.parametrize("act", [_put_out_person, _change_password, _suspend_member, _sign_out_elsewhere])
async def test_who_lost_the_right_is_sent_away(
    act: Any, watch: Watch, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "TRUST_SECONDS", 0.05)
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "mia")
    await watcher.arrive()
    await asyncio.sleep(0.2)  # its own first look reads a table that SQLite does not let another thread write meanwhile
    await act(stage)
    await asyncio.sleep(0.1)
    await asyncio.to_thread(lambda: runs.pause(stage.olga, run))
    assert await watcher.hear() == {"closed": 4404}


ENDS: list[dict[str, str]] = [{"revoked_at": "2026-01-01T00:00:00Z"}, {"expires_at": "2026-01-01T00:00:00Z"}]


@pytest.mark.parametrize("change", ENDS, ids=["revoked", "expired"])
async def test_a_key_that_ended_ends_an_idle_connection(
    change: dict[str, str], watch: Watch, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "TRUST_SECONDS", 0.01)
    monkeypatch.setattr(consumers, "IDLE_SECONDS", 0.05)
    run = await asyncio.to_thread(stage.start)
    watcher = watch(run.public_id, "olga", key=True)
    await watcher.arrive()
    lookup = stage.cast.keys["olga"][4:12]
    await asyncio.to_thread(lambda: ApiKey.objects.filter(lookup=lookup).update(**change))
    assert await watcher.hear() == {"closed": 4404}


async def test_one_person_does_not_hold_every_socket(
    watch: Watch, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MOST_SOCKETS", 2)
    run = await asyncio.to_thread(stage.start)
    two = [watch(run.public_id, "olga") for _ in range(2)]
    for watcher in two:
        assert (await watcher.arrive())["kind"] == "snapshot"
    assert await watch(run.public_id, "olga").arrive() == {"closed": 4429}
    await two[0].leave()
    assert (await watch(run.public_id, "olga").arrive())["kind"] == "snapshot"


async def test_a_watcher_that_applies_messages_ends_at_the_next_snapshot(watch: Watch, stage: Stage) -> None:
    sites = await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start, rounds=1)
    watcher = watch(run.public_id, "olga")
    first = await watcher.arrive()
    await asyncio.to_thread(lambda: [site.answer() for site in sites])
    heard = await watcher.hear_until("round.done")
    last = await asyncio.to_thread(lambda: selectors.snapshot(run, stage.olga))
    done = heard[-1]["data"]
    assert done["contributions"] == last["contributions"]
    assert last["sequence"] >= heard[-1]["sequence"] > first["sequence"]
    assert await asyncio.to_thread(RunEvent.objects.filter(run=run).count) == last["sequence"]
