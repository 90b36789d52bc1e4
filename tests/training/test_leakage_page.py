"""The page of leakage audits: what a reader learns before there is one, of public rows, and of their own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.conftest import Stage
from tests.training.test_audits import GUARD, INVERTED, OWN, REPORT, TOLD, trained
from training.models import Run
from training.services import audits


@pytest.fixture
def run(stage: Stage) -> Run:
    return trained(stage)


def page(stage: Stage, run: Run, who: str) -> str:
    answer = stage.cast.browser(who).get(f"/runs/{run.public_id}/leakage")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_before_there_is_one_the_page_says_how_to_make_it(stage: Stage, run: Run) -> None:
    shown = page(stage, run, "olga")
    assert "Nobody has audited this run yet" in shown
    assert f"fedportal audit leakage {run.public_id}" in shown
    assert "privacy officer" in page(stage, run, "otto"), "who may not is told who may"
    assert (
        f'href="/runs/{run.public_id}/leakage"'
        in stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    )


def test_figures_pictures_and_curves_are_shown(stage: Stage, run: Run) -> None:
    audits.report(stage.olga, run, REPORT)
    shown = page(stage, run, "mia")
    for words in ("9 public handwritten digits", "120.0 dB", "+106.0 dB", "rows come back", "better than chance"):
        assert words in shown
    assert shown.count('aria-label="Without protection, picture 1"') == 1
    assert 'd="M1 0h1v1h-1z" fill="currentColor" fill-opacity="0.9375"' in shown
    assert "<polyline" in shown
    assert "Only your organization sees this part" not in shown


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"attacks": {"ratios": 14.6}}, "rows come back"),
        ({"attacks": {"ratios": 14.4}, "share": 0.1}, "some rows stand out"),
        ({"attacks": {"ratios": 14.4}, "share": 0.0, "told": 15.0}, "some rows stand out"),
        ({"attacks": {"ratios": 14.4}, "share": 0.0, "told": 14.4}, "no more than a guess"),
    ],
)
def test_the_verdict_follows_from_the_figures(
    stage: Stage,
    run: Run,
    change: dict[str, Any],
    word: str,
) -> None:
    audits.report(stage.olga, run, {**REPORT, "inversion": [{**INVERTED, **change}]})
    assert word in page(stage, run, "olga")


def test_attacks_that_find_nothing_anywhere_prove_nothing(stage: Stage, run: Run) -> None:
    audits.report(stage.olga, run, {**REPORT, "inversion": [{**INVERTED, "attacks": {"search": 15.0}}]})
    assert "says nothing" in page(stage, run, "olga")
    audits.report(stage.olga, run, REPORT)
    assert "says nothing" not in page(stage, run, "olga")


def test_every_protection_has_its_words(stage: Stage, run: Run) -> None:
    guards = {
        "a secure sum of 12 devices, noise of 0.5 × clip 2": {"sums": "secure", "mechanism": "distributed"},
        "noise that the portal adds, so what it holds has none": {"mechanism": "central"},
        "written as int8": {"codec": "int8"},
    }
    for words, guard in guards.items():
        said = {**GUARD, "devices": 12, "clip": 2.0, "noise": 0.5, **guard}
        audits.report(stage.olga, run, {**REPORT, "inversion": [INVERTED, {**INVERTED, "case": "run", "guard": said}]})
        assert words in page(stage, run, "olga")


def test_own_rows_are_a_part_of_their_own_and_nobody_elses(stage: Stage, run: Run) -> None:
    stored = {"updates": 3, "rounds": 3, "nearest": 21.24, "nearest_other": 20.5}
    told = [{**TOLD, "case": "run"}]
    audits.report(stage.cast.actor("mia"), run, {**OWN, "stored": stored, "membership": told})
    shown = page(stage, run, "mia")
    assert "Only your organization sees this part" in shown
    assert "Stored updates" in shown
    assert "within 21.2 dB of a row that was trained on" in shown
    assert "Nobody has audited this run yet" in page(stage, run, "olga")


def test_earlier_audits_are_listed_with_what_they_came_to(stage: Stage, run: Run) -> None:
    audits.report(stage.olga, run, REPORT)
    audits.report(stage.cast.actor("mia"), run, {**REPORT, "inversion": [{**INVERTED, "share": 0.0, "floor": 120.0}]})
    shown = page(stage, run, "olga")
    assert "Earlier" in shown
    assert shown.index("no more than a guess") < shown.index("rows come back")
