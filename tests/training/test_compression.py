"""A run's codec: chosen with its settings, kept under a cap, told to the devices, measured when updates came."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from federations.services import device_tasks
from fedportal.common import blobs
from fedwire import codecs
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, TensorSpec, encode_update, unflatten
from tests.training.conftest import LOGISTIC, Site, Stage, current, weights_of
from training import selectors
from training.aggregation import strategies
from training.aggregation.strategies import STRATEGIES
from training.models import Run
from training.services import compression, previews
from training.web.charts import charts

LARGE = Manifest.of([TensorSpec("w", "F32", (100_000,))])
WIDE = {"kind": "linear", "inputs": 4999}


def refusal(values: dict[str, Any], manifest: Manifest = LARGE) -> FedportalError:
    with pytest.raises(FedportalError) as refused:
        compression.plan(values, manifest, 7)
    return refused.value


def test_what_is_chosen_becomes_whole_numbers_with_sane_defaults() -> None:
    assert compression.plan({}, LARGE, 7) is None
    assert compression.plan({"codec": "none"}, LARGE, 7) is None
    assert compression.plan({"codec": "int8", "epochs": 3}, LARGE, 7) == {"name": "int8"}
    topk = {"name": "topk", "fraction": 0.01, "kept": 1000, "feedback": True}
    assert compression.plan({"codec": "topk"}, LARGE, 7) == topk
    sketch = compression.plan({"codec": "sketch", "codec_fraction": 0.002, "error_feedback": False}, LARGE, 7)
    assert sketch == {
        "name": "sketch", "fraction": 0.002, "kept": 200, "feedback": False, "rows": 5, "columns": 2000, "seed": 7
    }  # fmt: skip


@given(some.floats(1e-9, 1), some.integers(1, 3000))
def test_every_share_of_every_model_makes_a_codec(fraction: float, numbers: int) -> None:
    manifest = Manifest.of([TensorSpec("w", "F32", (numbers,))])
    for name in ("topk", "sketch"):
        plan = compression.plan({"codec": name, "codec_fraction": fraction}, manifest, 1)
        assert codecs.of(plan, manifest).nbytes > 0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"codec": "zip"}, "codec"),
        ({"codec": 7}, "codec"),
        ({"codec": "int8", "codec_fraction": 0.1}, "codec_fraction"),
        ({"error_feedback": True}, "error_feedback"),
        ({"codec": "topk", "codec_fraction": 0}, "codec_fraction"),
        ({"codec": "topk", "codec_fraction": 1.5}, "codec_fraction"),
        ({"codec": "topk", "codec_fraction": "much"}, "codec_fraction"),
        ({"codec": "topk", "codec_fraction": True}, "codec_fraction"),
        ({"codec": "topk", "codec_rows": 3}, "codec_rows"),
        ({"codec": "topk", "error_feedback": "no"}, "error_feedback"),
        ({"codec": "sketch", "codec_rows": 4}, "codec_rows"),
        ({"codec": "sketch", "codec_rows": 17}, "codec_rows"),
        ({"codec": "sketch", "codec_columns": 0}, "codec_columns"),
        ({"most_update_bytes": 0}, "most_update_bytes"),
        ({"most_update_bytes": 1.5}, "most_update_bytes"),
    ],
)
def test_what_cannot_be_chosen_is_refused_at_its_field(values: dict[str, Any], field: str) -> None:
    error = refusal(values)
    assert (error.code, error.context["field"]) == ("field_invalid", f"config.{field}")


def test_a_codec_above_the_cap_is_refused_and_one_that_fits_is_named() -> None:
    error = refusal({"codec": "float16", "most_update_bytes": 110_000})
    assert error.code == "codec_too_large"
    assert error.message.startswith("With the codec float16 an update takes 200,")
    assert error.next_step.startswith("Choose the codec int8, which takes 100,")
    assert "topk with codec_fraction 0.01" in refusal({"most_update_bytes": 5000}).next_step
    none = refusal({"codec": "topk", "most_update_bytes": 10})
    assert "even the codec topk with codec_fraction 0.001 takes" in none.next_step
    fitting = {"codec": "int8", "most_update_bytes": codecs.of({"name": "int8"}, LARGE).nbytes}
    assert compression.plan(fitting, LARGE, 7) == {"name": "int8"}


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_codec_that_the_strategy_refuses_is_not_what_would_fit(name: str) -> None:
    strategy = strategies.find(name)
    with pytest.raises(FedportalError) as refused:
        compression.plan({"codec": "float16", "most_update_bytes": 5000}, LARGE, 7, strategy)
    least = codecs.of({"name": "int8"}, LARGE).nbytes
    assert refused.value.next_step == f"Allow more: even the codec int8 takes {least:,} bytes."
    with pytest.raises(FedportalError) as refused:
        compression.plan({"most_update_bytes": least}, LARGE, 7, strategy)
    assert refused.value.next_step.startswith("Choose the codec int8, which takes")


@pytest.mark.parametrize(
    ("codec", "inputs", "saves"),
    [
        *(("topk", 30, "nothing"), ("sketch", 3, "nothing")),
        *(("int8", 30, "almost nothing"), ("int8", 3, "almost nothing")),
        *(("float16", 30, ""), ("sketch", 30, ""), ("topk", 300, ""), ("none", 3, "")),
    ],
)
def test_a_codec_that_saves_nothing_is_warned_of_with_the_bytes(
    codec: str, inputs: int, saves: str, stage: Stage
) -> None:
    model = stage.shared("small", {**LOGISTIC, "inputs": inputs})
    preview = previews.of(
        stage.olga, model, federation=stage.cast.federation, rounds=1, config={"codec": codec, "seed": 7}
    )
    found = [one for one in preview.problems if one.code == "codec_saves_nothing"]
    assert preview.ok
    if not saves:
        assert found == []
        return
    (problem,) = found
    manifest = Manifest.from_json(model.versions.get().manifest)
    values = np.ones(manifest.parameters, np.float32)
    encoded = codecs.of(compression.plan({"codec": codec}, manifest, 7), manifest).encode(values, codecs.draws(1, 1))
    plain = encode_update(manifest, unflatten(manifest, values))
    told = f"With the codec {codec} an update of this model takes {len(encoded)} bytes, and {len(plain)} plain."
    assert (problem.level, problem.field, problem.sentence) == ("warning", "config.codec", told)
    assert problem.next_step.startswith(f"Leave the codec out: it saves {saves} here")
    wish = {"model": model.public_id, "federation": stage.cast.federation.public_id, "rounds": "1", "codec": codec}
    form = stage.cast.browser("olga").get(
        "/runs/new", {**wish, "min_participants": "1", "strategy": "fedavg", "seed": "7"}
    )
    assert told in form.content.decode()


@pytest.mark.parametrize("name", [name for name, found in STRATEGIES.items() if found.needs_device_state])
def test_a_strategy_whose_devices_remember_takes_codecs_that_leave_nothing_out(stage: Stage, name: str) -> None:
    (site, *_) = stage.three()
    for codec in ("topk", "sketch"):
        with pytest.raises(FedportalError, match="takes one of none, float16, int8, because") as refused:
            stage.start(strategy=name, config={"codec": codec})
        assert refused.value.context["field"] == "config.codec"
    run = stage.start(strategy=name, config={"codec": "int8"})
    assert site.task.content["training"]["requires"] == [name, "codec.int8", "codec.read_back"]
    assert (run.config["codec"], stage.start(strategy=name).config["codec"]) == ({"name": "int8"}, None)


def send(site: Site, seed: int) -> np.ndarray:
    """Encode as the task says, upload and answer; what the portal reads of it."""
    task = site.take()
    manifest, training = Manifest.from_json(task.content["manifest"]), task.content["training"]
    codec = codecs.of(training["codec"], manifest)
    assert (bytes(task.update_header), task.update_bytes) == (codec.header, codec.nbytes)
    values = np.random.default_rng(seed).standard_normal(manifest.parameters).astype(np.float32)
    content = codec.encode(values, codecs.draws(training["seed"], task.content["round"]))
    sha = blobs.put(content.tobytes())
    device_tasks.note_upload(task.pk, sha, 1.0)
    said = {"sha256": sha, "samples": site.samples}
    device_tasks.answer(site.device.pk, task.public_id, json.dumps(said).encode())
    return codec.decode(content)


def test_a_round_of_encoded_updates_is_their_weighted_mean_and_its_ratio_is_measured(stage: Stage) -> None:
    sites = stage.three()
    model = stage.shared("wide", WIDE)
    config = {"codec": "topk", "codec_fraction": 0.02, "evaluate": False, "standardise": False}
    run = stage.start(model=model, rounds=1, min_participants=3, config=config)
    assert sites[0].task.content["training"]["requires"] == ["codec.topk"]
    assert sites[0].task.content["training"]["codec"] == {"name": "topk", "kept": 100, "feedback": True}
    base = weights_of(current(run).base_blob)
    sent = [(send(site, seed), site.samples) for seed, site in enumerate(sites)]
    run.refresh_from_db()
    trained = run.rounds.get(number=1, kind="train")
    expected = base + sum(values * samples for values, samples in sent) / 60
    assert weights_of(trained.result_blob) == pytest.approx(expected, abs=1e-5)
    plain, nbytes = 3 * Manifest.from_json(run.base_version.manifest).update_bytes, trained.bytes_up
    assert (trained.bytes_plain, nbytes) == (plain, 3 * codecs.of(run.config["codec"], manifest_of(run)).nbytes)
    done = run.events.get(kind="round.done", data__kind="train").data
    assert (done["bytes_plain"], done["ratio"]) == (plain, round(plain / nbytes, 3))


def manifest_of(run: Run) -> Manifest:
    return Manifest.from_json(run.base_version.manifest)


def test_a_plain_run_tells_its_devices_nothing_new(stage: Stage) -> None:
    (site, *_) = stage.three()
    run = stage.start()
    assert not {"codec", "requires"} & site.task.content["training"].keys()
    assert (run.config["codec"], run.config["most_update_bytes"]) == (None, None)


def test_the_preview_refuses_what_the_start_would(stage: Stage) -> None:
    config = {"codec": "int8", "most_update_bytes": 10}
    preview = previews.of(stage.olga, stage.model, federation=stage.cast.federation, rounds=1, config=config)
    (problem,) = [problem for problem in preview.problems if problem.level == "error"]
    assert (problem.code, problem.field) == ("codec_too_large", "config.most_update_bytes")
    with pytest.raises(FedportalError) as refused:
        stage.start(config=config)
    assert refused.value.code == "codec_too_large"


def test_the_ratio_stands_with_the_bytes_of_its_round() -> None:
    row = {"bytes_up": 1000, "bytes_plain": 45_200}
    assert compression.measured(row) == {"ratio": 45.2}
    assert compression.measured({"bytes_up": 0, "bytes_plain": 0}) == {"ratio": None}
    costs = {"seconds": 1.0, "bytes_up": 1000, "bytes_down": 0, "loss": 0.5, "accuracy": None, "auc": None}
    point = {"number": 3, **costs, "others": {}, "organizations": {}}
    (drawn,) = [chart for chart in charts([{**point, "ratio": 45.2}], {}) if chart.name == "bytes"]
    assert drawn.summary == "1.0 KB at round 3, updates 45.2 times smaller than float32"
    (plain,) = [chart for chart in charts([{**point, "ratio": 1.0}], {}) if chart.name == "bytes"]
    assert plain.summary == "1.0 KB at round 3"


def test_the_settings_of_a_run_say_how_its_updates_are_written(stage: Stage) -> None:
    stage.three()
    run = stage.start(config={"codec": "topk", "codec_fraction": 0.5, "most_update_bytes": 900})
    shown = selectors.overview(selectors.find_run(stage.olga, run.public_id))["config"]
    assert shown["codec"]["kept"] == 2
    assert shown["most_update_bytes"] == 900
    assert compression.shown(run.config["codec"]) == "topk, 50 % of the numbers, with error feedback"
    assert compression.shown(None) == "plain float32"
