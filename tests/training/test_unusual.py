"""Updates that are unlike the others of their round: kept, told, shown, and nothing is left out for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from federations.models import Device, DeviceTask, News
from federations.services import devices
from fedportal_sdk.cli import standing
from tests.training.conftest import Site, Stage
from tests.training.test_rounds import finish
from training import selectors
from training.models import Run, Update
from training.services import unusual


class Alike(Site):
    """A device whose updates are much like those of its kind; `times` as long."""

    times = 1.0

    def vector(self, task: DeviceTask) -> np.ndarray:
        noise = np.random.default_rng([self.device.pk, task.content["round"]]).normal(0, 0.01, 4)
        return ((np.array([1.0, -2.0, 3.0, 0.5]) + noise) * self.times).astype(np.float32)


def sites(stage: Stage, times: float) -> list[Site]:
    """Four devices of acme and one of metro, whose updates are `times` as long."""
    found: list[Any] = [Alike(stage.site(stage.cast.acme, f"acme-{n}").device, 10, 1.0) for n in range(4)]
    odd = Alike(stage.site(stage.cast.metro, "metro-1").device, 10, 1.0)
    odd.times = times
    return [*found, odd]


def of_acme(stage: Stage) -> Run:
    """A run in which a device of acme, whose run it is, is the one that stands out."""
    there = sites(stage, 1.0)
    there[0].times = 50.0  # type: ignore[attr-defined]
    return finish(stage.start(rounds=1), there)


def play(stage: Stage, times: float = 50.0, rounds: int = 1) -> Run:
    there = sites(stage, times)
    return finish(stage.start(rounds=rounds), there)


def test_update_that_is_far_too_long_is_flagged_with_its_reason(stage: Stage) -> None:
    run = play(stage)
    kept = {row.device.identifier: row.anomaly for row in Update.objects.filter(round__run=run, round__kind="train")}
    assert {name for name, found in kept.items() if found["flagged"]} == {"metro-1"}
    assert "times the median of the round" in kept["metro-1"]["reason"]
    assert kept["metro-1"]["score"] > 1 > kept["acme-0"]["score"]


def test_devices_that_are_alike_are_not_flagged(stage: Stage) -> None:
    run = play(stage, times=1.0)
    assert stage.snapshot(run)["flagged"] == []
    assert not News.objects.filter(kind="update.flagged").exists()


def test_event_snapshot_and_card_say_which_and_why(stage: Stage) -> None:
    run = play(stage)
    (told,) = run.events.get(kind="round.done", data__kind="train").data["flagged"]
    assert (told["device"]["identifier"], told["organization"]["name"], told["number"]) == ("metro-1", "metro", 1)
    shown = stage.snapshot(run)
    where = f"round 1, score {told['score']:.1f}"
    assert shown["flagged"] == [{**told, "count": 1, "rounds": [1], "where": where}]
    run.rounds.filter(kind="evaluate").delete()  # the round it happened in is the latest again
    cards = {card["device"]["identifier"]: card["unusual"] for card in stage.snapshot(run)["participants"]}
    assert cards["metro-1"] == told["reason"]
    assert cards["acme-1"] == ""


def test_a_device_that_is_flagged_again_and_again_is_one_line_with_its_rounds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = play(stage, rounds=4)
    events = run.events.filter(kind="round.done", data__kind="train").order_by("sequence")
    told = [one for event in events for one in event.data["flagged"]]
    highest = max(told, key=lambda one: one["score"])
    score = f"highest score {highest['score']:.1f} in round {highest['number']}"
    (shown,) = stage.snapshot(run)["flagged"]
    assert (shown["count"], shown["rounds"], shown["score"]) == (4, [1, 2, 3, 4], highest["score"])
    assert (shown["where"], shown["reason"]) == (f"4 rounds (1, 2, 3, 4), {score}", highest["reason"])
    page = stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    assert f"metro-1</strong> of metro, 4 rounds (1, 2, 3, 4), {score}: {highest['reason']}." in page
    line = f"  flagged: metro-1 of metro, {shown['where']}: {highest['reason']}."
    assert line in standing.described(stage.snapshot(run)).plain.splitlines()
    monkeypatch.setattr(unusual, "MOST_READ", 2)  # of very many only the newest are looked at, and all are counted
    (shown,) = stage.snapshot(run)["flagged"]
    assert (shown["count"], shown["rounds"]) == (4, [3, 4])
    assert shown["where"].startswith("4 rounds (…, 3, 4), highest score")


def test_its_organization_and_who_started_the_run_hear_of_it_once(stage: Stage) -> None:
    play(stage, rounds=3)
    news = News.objects.filter(kind="update.flagged").order_by("organization__name")
    assert [row.organization.name for row in news] == ["acme", "metro"]
    assert news[0].sentence.startswith("An update of metro-1 of metro stands out in round 1 of the training of")


@pytest.mark.parametrize(("whose", "seers"), [(play, {"olga", "otto", "mia"}), (of_acme, {"olga", "otto"})])
def test_flag_is_for_its_organization_and_for_who_answers_for_the_run(
    whose: Callable[[Stage], Run], seers: set[str], stage: Stage
) -> None:
    run = whose(stage)
    run.rounds.filter(kind="evaluate").delete()  # the round it happened in is the latest again
    for name in ("olga", "otto", "mia"):
        shown = selectors.snapshot(run, stage.cast.actor(name))
        on_cards = [card["unusual"] for card in shown["participants"] if card["unusual"]]
        page = stage.cast.browser(name).get(f"/runs/{run.public_id}").content.decode()
        assert (len(shown["flagged"]), len(on_cards)) == ((1, 1) if name in seers else (0, 0)), name
        assert ("times the median of the round" in page) == (name in seers)
    assert unusual.sight(None, run) == ""


def test_events_tell_flags_to_those_only_who_see_them(stage: Stage) -> None:
    run = of_acme(stage)
    for name, count in (("olga", 1), ("mia", 0)):
        answer = stage.cast.browser(name).get(f"/api/v1/training/sessions/{run.public_id}/events").json()
        assert sum(len(event["data"].get("flagged", ())) for event in answer["events"]) == count


def test_flagged_update_counts_all_the_same(stage: Stage) -> None:
    run = play(stage)
    metro = next(row for row in stage.snapshot(run)["contributions"] if row["organization"]["name"] == "metro")
    assert metro["updates"] == 1


def test_only_who_looks_after_the_device_may_quarantine_it(stage: Stage) -> None:
    run = play(stage)
    for name, manages in (("olga", stage.cast.acme), ("mia", stage.cast.metro), ("otto", None)):
        assert unusual.managed_by(stage.cast.actor(name)) == (manages.public_id if manages else "")
    page = stage.cast.browser("mia").get(f"/runs/{run.public_id}").content.decode()
    assert "Quarantine metro-1" in page
    page = stage.cast.browser("otto").get(f"/runs/{run.public_id}").content.decode()
    assert "metro-1</strong> of metro, round 1" in page
    assert "Quarantine metro-1" not in page


def test_who_looks_after_a_device_sees_that_it_gets_no_more_work(stage: Stage) -> None:
    run = play(stage)
    mia, device = stage.cast.actor("mia"), Device.objects.get(identifier="metro-1")
    assert "idle" not in selectors.snapshot(run, mia)["flagged"][0]
    devices.quarantine(mia, device)
    assert selectors.snapshot(run, mia)["flagged"][0]["idle"] == "quarantined"
    assert "idle" not in stage.snapshot(run)["flagged"][0]  # of another organization
    page = stage.cast.browser("mia").get(f"/runs/{run.public_id}").content.decode()
    assert '<span class="badge warn">quarantined</span>' in page
    assert "Quarantine metro-1" not in page


def test_quarantined_device_is_not_asked_again(stage: Stage) -> None:
    there = sites(stage, 50.0)
    run = stage.start(rounds=2)
    for site in there:
        site.answer()
    devices.quarantine(stage.cast.actor("mia"), there[-1].device)
    finish(run, there[:-1])
    assert [row["number"] for row in stage.snapshot(run)["flagged"]] == [1]


def test_round_whose_comparison_would_take_too_long_is_not_compared(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr(unusual, "MOST_PRODUCTS", 99)  # 5² times 4 parameters is more
    run = play(stage)
    assert not Update.objects.filter(round__run=run, anomaly__isnull=False).exists()
