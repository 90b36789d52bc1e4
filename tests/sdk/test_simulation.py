"""What a simulation draws, in which order things happen by its virtual clock, and what its report says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as some

from fedportal_sdk.cli.main import main
from fedportal_sdk.simulation import Attackers, Dropout, Outcome, Settings, Skew, Speeds, page, plots, report
from fedportal_sdk.simulation.characters import characters, durations, falls_out, nonsense, poisoned, turned
from fedportal_sdk.simulation.crews import crew_for
from fedportal_sdk.simulation.device import Point
from fedportal_sdk.simulation.fleet import Log, Place
from fedportal_sdk.simulation.outcome import RoundSeen, Suspect, points_of, rounds_seen, suspects, totals
from fedportal_sdk.simulation.rows import architecture_of, load, parted, spread
from fedportal_sdk.simulation.timeline import EventQueue
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import check_update_header, encode_update

SKEWS = some.sampled_from([Skew(), Skew("dirichlet", 0.1), Skew("dirichlet", 10.0), Skew("classes", 2.0)])
LOGISTIC = Architecture.parse({"kind": "logistic", "inputs": 20, "classes": 10})


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- what people write -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "text", "again"),
    [
        (Skew.parse, "iid", "iid"),
        (Skew.parse, "dirichlet:0.3", "dirichlet:0.3"),
        (Skew.parse, "classes:2", "classes:2"),
        (Speeds.parse, "lognormal:1", "lognormal:1:1"),
        (Speeds.parse, "lognormal:0.5:30", "lognormal:0.5:30"),
        (Speeds.parse, "uniform:1:4", "uniform:1:4"),
        (Speeds.parse, "constant:2", "constant:2"),
        (Dropout.parse, "0.1", "0.1:taken"),
        (Dropout.parse, "0.25:upload", "0.25:upload"),
        (Attackers.parse, "4:sign-flip", "4:sign-flip:-4"),
        (Attackers.parse, "1:sign-flip:-10", "1:sign-flip:-10"),
        (Attackers.parse, "2:label-flip", "2:label-flip"),
    ],
)
def test_what_is_understood_is_said_again_in_full(parse, text, again):
    assert str(parse(text)) == again
    assert parse(again) == parse(text)


@pytest.mark.parametrize(
    ("parse", "text", "field"),
    [
        (Skew.parse, "even", "skew"),
        (Skew.parse, "dirichlet", "skew"),
        (Skew.parse, "dirichlet:0", "skew"),
        (Skew.parse, "classes:1.5", "skew"),
        (Skew.parse, "iid:3", "skew"),
        (Speeds.parse, "lognormal:-1", "speeds"),
        (Speeds.parse, "lognormal:nan", "speeds"),
        (Speeds.parse, "uniform:4", "speeds"),
        (Speeds.parse, "uniform:4:1", "speeds"),
        (Dropout.parse, "1", "dropout"),
        (Dropout.parse, "often", "dropout"),
        (Dropout.parse, "0.1:later", "dropout"),
        (Attackers.parse, "sign-flip", "attackers"),
        (Attackers.parse, "2:spy", "attackers"),
        (Attackers.parse, "2:noise:3", "attackers"),
        (lambda text: Settings(devices=2, attackers=(Attackers.parse(text),)), "2:noise", "attackers"),
        (lambda text: Settings(data=text), "patients", "data"),
        (lambda text: Settings(devices=int(text)), "0", "devices"),
        (lambda text: Settings(seed=int(text)), "-1", "seed"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_field(parse, text, field):
    with pytest.raises(FedportalError) as refused:
        parse(text)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", field)


# --- rows ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SKEWS, some.integers(1, 40), some.integers(0, 5))
def test_every_device_has_rows_and_no_row_two_devices(skew, devices, seed):
    labels = np.arange(400) % 7
    parts = parted(labels, devices, skew, generator(seed))
    together = np.concatenate(parts)
    assert len(parts) == devices
    assert min(map(len, parts)) >= 1
    assert len(set(together.tolist())) == len(together)
    if skew.kind != "classes" or 2 * devices >= 14:
        assert len(together) == len(labels)


@settings(max_examples=20, deadline=None)
@given(some.integers(1, 7), some.integers(7, 30), some.integers(0, 5))
def test_each_device_holds_so_many_classes_and_every_class_has_a_holder(each, devices, seed):
    labels = np.arange(700) % 7
    held = [set(labels[part].tolist()) for part in parted(labels, devices, Skew("classes", each), generator(seed))]
    assert {len(own) for own in held} == {each}
    assert set.union(*held) == set(range(7))


def test_small_alpha_means_few_classes_each():
    labels = np.arange(5000) % 10
    largest = [
        np.mean([np.bincount(labels[part]).max() / len(part) for part in parted(labels, 20, skew, generator())])
        for skew in (Skew("dirichlet", 0.1), Skew("dirichlet", 1.0), Skew("dirichlet", 100.0))
    ]
    assert largest[0] > 0.5 > largest[1] > 0.2 > largest[2]


def test_more_classes_than_there_are_cannot_be_held():
    with pytest.raises(FedportalError, match="there are 3 classes"):
        parted(np.arange(30) % 3, 5, Skew("classes", 4), generator())


@pytest.mark.parametrize("name", ["synthetic", "digits", "breast-cancer"])
def test_data_fit_the_model_that_is_made_for_them_and_all_test_rows_have_a_holder(name):
    wish = Settings(devices=12, data=name, seed=3)
    architecture = Architecture.parse(architecture_of(wish))
    data, again = load(wish, architecture), load(wish, architecture)
    assert data.rows.shape[1] == data.test_rows.shape[1] == architecture.inputs
    assert set(data.labels.tolist()) == set(range(architecture.classes))
    assert np.array_equal(data.rows, again.rows), "the same settings draw the same rows in every process"
    holdings = spread(wish, data)
    tests = np.concatenate([one.test_rows for one in holdings])
    assert sorted(tests.tolist()) == list(range(len(data.test_rows)))


def test_rows_that_the_model_cannot_take_are_refused():
    with pytest.raises(FedportalError) as wrong_width:
        load(Settings(data="digits"), LOGISTIC)
    with pytest.raises(FedportalError) as wrong_classes:
        load(Settings(data="digits"), Architecture.parse({"kind": "logistic", "inputs": 64, "classes": 3}))
    with pytest.raises(FedportalError, match="less than one for each of 5000 devices"):
        load(Settings(data="digits", devices=5000), Architecture.parse(architecture_of(Settings(data="digits"))))
    numbers = Architecture.parse({"kind": "linear", "inputs": 3})
    wish = Settings(skew=Skew("classes", 1))
    with pytest.raises(FedportalError, match="only iid"):
        spread(wish, load(wish, numbers))
    assert (wrong_width.value.code, wrong_classes.value.code) == ("data_shape", "data_classes")


# --- characters ------------------------------------------------------------------------------------------------------


def test_log_normal_speeds_have_the_median_and_the_sigma_that_were_asked_for():
    drawn = np.log(durations(Speeds("lognormal", (1.0, 5.0)), 20_000, generator()))
    assert abs(np.median(drawn) - np.log(5.0)) < 0.03
    assert abs(drawn.std() - 1.0) < 0.03
    assert set(durations(Speeds("constant", (2.0,)), 5, generator())) == {2.0}
    uniform = durations(Speeds("uniform", (1.0, 4.0)), 1000, generator())
    assert 1.0 <= uniform.min() < 1.1 < 3.9 < uniform.max() <= 4.0


def test_so_many_devices_attack_and_the_seed_says_which():
    wish = Settings(devices=30, attackers=(Attackers(4, "sign-flip"), Attackers(2, "noise")), seed=5)
    kinds = [one.kind for one in characters(wish)]
    assert (kinds.count("sign-flip"), kinds.count("noise"), kinds.count("")) == (4, 2, 24)
    assert kinds == [one.kind for one in characters(wish)]
    assert kinds != [one.kind for one in characters(Settings(devices=30, attackers=wish.attackers, seed=6))]


def test_drop_outs_come_at_the_asked_rate_whoever_asks_first():
    drawn = [falls_out(Dropout(0.2, "any"), 1, place, turn) for place in range(50) for turn in range(40)]
    share = sum(end is not None for end in drawn) / len(drawn)
    assert 0.17 < share < 0.23
    assert {end for end in drawn if end} == {"absent", "taken", "upload", "answer"}
    assert drawn[41] == falls_out(Dropout(0.2, "any"), 1, 1, 1)
    assert {falls_out(Dropout(0.0), 1, 0, turn) for turn in range(9)} == {None}


def test_attackers_send_what_they_are_said_to_send():
    base = {"w": np.ones((2, 3), np.float32)}
    honest = {"w": np.ones((2, 3), np.float32) + np.float32(0.5)}
    flipped = poisoned(Attackers(1, "sign-flip", -4.0), base, honest, 0, 0, 1)
    assert np.allclose(flipped["w"] - base["w"], -4 * 0.5)
    noisy = poisoned(Attackers(1, "noise"), base, honest, 0, 0, 1)
    honest_length = np.linalg.norm(honest["w"] - base["w"])
    assert np.linalg.norm(noisy["w"] - base["w"]) == pytest.approx(4 * honest_length, rel=1e-5)
    assert np.array_equal(poisoned(Attackers(1, "label-flip"), base, honest, 0, 0, 1)["w"], honest["w"])
    assert turned(np.array([0, 1, 2]), 3).tolist() == [2, 1, 0]


def test_nonsense_has_the_right_header_and_no_number_in_it():
    manifest = LOGISTIC.manifest()
    honest = encode_update(manifest, LOGISTIC.initial(0))
    sent = bytes(nonsense(memoryview(honest)))
    start = check_update_header(sent, manifest, total=len(sent))
    assert np.isnan(np.frombuffer(sent, "<f4", offset=start)).all()


# --- the virtual clock -----------------------------------------------------------------------------------------------


@given(some.lists(some.integers(0, 5)))
def test_events_happen_in_the_order_of_their_times_and_equal_ones_as_they_were_pushed(times):
    queue: EventQueue[int] = EventQueue()
    for number, at in enumerate(times):
        queue.push(float(at), number)
    popped = [queue.pop() for _ in times]
    assert all(before < after for before, after in pairwise(popped))
    assert len(queue) == 0


def test_a_virtual_clock_runs_in_one_process_only():
    with pytest.raises(FedportalError, match="in one process"):
        crew_for(Place("http://127.0.0.1:9", ""), Settings(virtual=True), architecture_of(Settings()), 2, ray=False)


# --- what was measured -----------------------------------------------------------------------------------------------


def round_row(number: int, state: str = "done", kind: str = "train", attempt: int = 1) -> dict[str, object]:
    at = f"2026-01-05T10:0{number}:0"
    row = {"number": number, "attempt": attempt, "kind": kind, "state": state, "bytes_up": 100 * number}
    return {**row, "opened_at": f"{at}0+00:00", "closed_at": f"{at}2.500000+00:00"}


def outcome(**more: object) -> Outcome:
    rounds = [RoundSeen(n, 1, 2.5, 100 * n, 0.1 * n, 2.0 - 0.1 * n, 10.0 * n) for n in range(1, 10)]
    known = {
        "run": "run_1",
        "model": "simulated-digits",
        "state": "completed",
        "reason": "",
        "strategy": "median",
        "devices": 20,
        "settings": {"skew": "iid", "attackers": "1:sign-flip:-4"},
        "clock": "virtual",
        "rounds": rounds,
        "start_accuracy": 0.05,
        "start_loss": 2.3,
        "seconds": 30.0,
        "clock_seconds": 93.25,
        "counts": {"answered: train": 180, "dropped: taken": 3},
        "suspects": [Suspect("sim-1", "sign-flip", 9, "its norm is 4.0 times <the median>"), Suspect("sim-2", "", 1)],
        "durations": [0.5, 1.0, 2.0],
        "holdings": [{"0": 3, "1": 4}, {"1": 7}],
    }
    return Outcome(**{**known, **more})  # type: ignore[arg-type]


def test_rounds_get_the_measurement_of_the_model_that_they_made():
    logs = [
        Log(points=[Point(0, "a", 0.5, 0.1, 2.3), Point(1, "b", 4.0, 0.6, 1.2)]),
        Log(points=[Point(1, "b", 3.0, 0.6, 1.2)]),
    ]
    rows = [round_row(0, kind="statistics"), round_row(2), round_row(1), round_row(3, "failed")]
    seen = rounds_seen(rows, points_of(logs))
    assert [(one.number, one.seconds, one.accuracy, one.at) for one in seen] == [
        (1, 2.5, 0.6, 3.0),
        (2, 2.5, None, None),
    ]


def test_counts_of_all_processes_are_added():
    logs = [Log({"late": 2, "declined": 1}, {"not_finite": 1}), Log({"late": 3}, {"not_finite": 2})]
    assert totals(logs) == ({"declined": 1, "late": 5}, {"not_finite": 3})


def test_attackers_and_flagged_devices_are_told_by_name():
    flags = [{"device": {"identifier": name}, "reason": f"reason {n}"} for n, name in enumerate(("b", "b", "c"))]
    assert suspects(flags, {"a": "noise", "b": "sign-flip"}) == [
        Suspect("a", "noise", 0, ""),
        Suspect("b", "sign-flip", 2, "reason 1"),
        Suspect("c", "", 1, "reason 2"),
    ]


def test_an_outcome_says_when_an_accuracy_was_reached():
    found = outcome()
    assert (found.accuracy, found.answered) == (pytest.approx(0.9), 180)
    assert (found.reached(0.45), found.reached(0.95)) == (50.0, None)
    assert found.ms_per_device == pytest.approx(30_000 / 180)
    assert found.as_json()["attackers_flagged"] == 1


class Reader(HTMLParser):
    """Reads a page strictly: every tag is closed in order, nothing comes from elsewhere."""

    EMPTY = frozenset({"meta", "circle", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "action")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)


def read(found: Outcome) -> tuple[Reader, str]:
    reader, text = Reader(), page(found)
    reader.feed(text)
    assert reader.open == []
    return reader, text


def test_the_report_is_whole_needs_nothing_else_and_says_what_was_measured():
    reader, text = read(outcome())
    assert reader.addresses == []
    assert "script" not in reader.tags
    assert re.findall(r"url\(|@import|https?://", text) == []
    assert reader.tags.count("svg") == 6
    for said in ("90.00 %", "93.2 s", "180", "simulated seconds", "1 of 1", "its norm is 4.0 times <the median>"):
        assert any(said in piece for piece in reader.texts), said
    assert text.count('aria-label="') == 6


def test_a_run_without_a_single_round_still_has_a_report():
    nothing = outcome(rounds=[], suspects=[], durations=[1.0, 1.0], holdings=[], start_accuracy=None, state="failed")
    reader, _ = read(nothing)
    assert "svg" not in reader.tags
    assert "20 devices, 0 rounds: failed" in reader.texts
    assert dict(report.facts(nothing))["time"] == "30.0 s"


@given(some.lists(some.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_an_axis_holds_all_values_with_few_round_marks(values):
    axis = plots.Axis.over(values)
    rounding = 1e-8 * (axis.high - axis.low)
    assert axis.low <= min(values) + rounding
    assert axis.high >= max(values) - rounding
    assert 2 <= len(axis.marks) <= 13


def test_a_line_goes_through_its_points():
    drawn = plots.line("Accuracy", [(0.0, 0.0), (10.0, 1.0)], "rounds", "accuracy")
    left, bottom, right, top = map(float, re.search(r'points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', drawn).groups())
    assert (left, right) == (plots.LEFT, plots.WIDTH - plots.RIGHT)
    assert (top, bottom) == (plots.TOP, plots.HEIGHT - plots.BOTTOM)


def test_a_simulation_that_does_not_begin_leaves_an_earlier_report_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("of last week")
    nothing = {"FEDPORTAL_HOME": str(tmp_path), "FEDPORTAL_URL": "http://127.0.0.1:1", "FEDPORTAL_API_KEY": ""}
    found = CliRunner().invoke(main, ["simulate", "--report", str(file)], env=nothing)
    assert found.exit_code == 1
    assert file.read_text() == "of last week"
